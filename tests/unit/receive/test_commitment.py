"""What an N-EVENT-REPORT of a storage commitment becomes; the network part is in `integration`."""

from __future__ import annotations

import subprocess
import sys
from types import SimpleNamespace
from typing import Any

import pytest
from pydicom.dataset import Dataset

from screener.domain import CommitmentReport
from screener.errors import DatabaseUnavailable
from screener.receive.commitment import CommitmentHandlers, read_report
from screener.receive.contexts import IMPLICIT_VR_LITTLE_ENDIAN
from tests.receive_factories import EXPLICIT, encode


def item(uid: str, **values: Any) -> Dataset:
    reference = Dataset()
    reference.ReferencedSOPInstanceUID = uid
    for keyword, value in values.items():
        setattr(reference, keyword, value)
    return reference


def information() -> Dataset:
    report = Dataset()
    report.TransactionUID = "2.25.17"
    report.ReferencedSOPSequence = [item("1.2.1")]
    report.FailedSOPSequence = [item("1.2.2", FailureReason=0x0112), item("1.2.3")]
    return report


def event(event_type: int = 2) -> Any:
    return SimpleNamespace(event_type=event_type, event_information=information())


def test_report_names_what_is_committed_and_what_failed() -> None:
    """A failure without its reason is still a failure: "processing failure"."""
    assert read_report(information()) == CommitmentReport(
        "2.25.17", frozenset({"1.2.1"}), (("1.2.2", 0x0112), ("1.2.3", 0x0110))
    )


def test_report_without_anything_commits_to_nothing() -> None:
    """An empty data set names no transaction and no object."""
    assert read_report(Dataset()) == CommitmentReport("", frozenset(), ())


@pytest.mark.parametrize(("is_known", "status"), [(True, 0x0000), (False, 0x0115)])
def test_status_says_whether_anybody_asked(is_known: bool, status: int) -> None:
    """A node learns that its report was taken, or that the transaction is not ours."""
    seen: list[CommitmentReport] = []

    def settle(report: CommitmentReport) -> bool:
        seen.append(report)
        return is_known

    assert CommitmentHandlers(settle).on_event_report(event()) == (status, None)
    assert [one.transaction_uid for one in seen] == ["2.25.17"]


def test_database_that_is_away_makes_the_node_report_again() -> None:
    """Success is answered only after the report is written down."""

    def settle(_: CommitmentReport) -> bool:
        raise DatabaseUnavailable("away")

    assert CommitmentHandlers(settle).on_event_report(event()) == (0x0110, None)


def test_unknown_event_type_is_not_read() -> None:
    """Only the two event types of the service are known."""

    def settle(_: CommitmentReport) -> bool:
        raise AssertionError

    assert CommitmentHandlers(settle).on_event_report(event(7)) == (0x0113, None)


# ── on an association of the other node ──────────────────────────────────────────────────────


def fail(_: object) -> bool:
    raise AssertionError


@pytest.mark.parametrize("syntax", [EXPLICIT, IMPLICIT_VR_LITTLE_ENDIAN])
def test_report_that_was_asked_for_is_read(syntax: str) -> None:
    """In either encoding, and whatever stands before its transaction."""
    report, seen = information(), []
    report.SpecificCharacterSet = "ISO_IR 192"

    def settle(one: CommitmentReport) -> bool:
        seen.append(one)
        return True

    handlers = CommitmentHandlers(settle, lambda uid: uid == "2.25.17")
    assert handlers.take(2, encode(report, syntax), syntax) == 0x0000
    assert seen == [read_report(report)]


def test_report_that_nobody_asked_for_is_not_read() -> None:
    """It is refused by its transaction."""
    asked: list[str] = []
    handlers = CommitmentHandlers(fail, lambda uid: bool(asked.append(uid)))
    assert handlers.take(2, encode(information()), EXPLICIT) == 0x0115
    assert asked == ["2.25.17"]


@pytest.mark.parametrize(
    "encoded",
    [
        b"",
        encode(Dataset()),
        b"\x08\x00\x95\x11UI\x04\x002.\x00\x31",
        b"\x08\x00\x98\x11SQ" + bytes(6),
    ],
)
def test_report_without_a_transaction_asks_nobody(encoded: bytes) -> None:
    """Neither does one whose transaction is no UID: a database takes no NUL."""
    assert CommitmentHandlers(fail, fail).take(1, encoded, EXPLICIT) == 0x0115


@pytest.mark.parametrize("encoded", [b"\x08", b"\x08\x00\x95\x11UI\x40\x002.25.17\x00", bytes(99)])
def test_report_that_is_no_data_set_is_refused(encoded: bytes) -> None:
    """Cut off, beyond its end, or of group 0000."""
    assert CommitmentHandlers(fail, fail).take(1, encoded, EXPLICIT) == 0x0110


def test_asking_a_database_that_is_away_makes_the_node_report_again() -> None:
    """Whether anybody asked is not known: the same answer as where it cannot be written."""

    def away(_: str) -> bool:
        raise DatabaseUnavailable("away")

    assert CommitmentHandlers(fail, away).take(2, encode(information()), EXPLICIT) == 0x0110


def test_unasked_report_does_not_load_a_dicom_library() -> None:
    """A peer of the list cannot make the listener a third larger."""
    code = f"""
import sys
from screener.receive.commitment import CommitmentHandlers
status = CommitmentHandlers(print, lambda _: False).take(2, {encode(information())!r}, "{EXPLICIT}")
print(hex(status), "pydicom" in sys.modules)
"""
    ended = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120
    )
    assert ended.stdout.split() == ["0x115", "False"]
