"""What an N-EVENT-REPORT of a storage commitment becomes; the network part is in `integration`."""

from __future__ import annotations

import subprocess
import sys
from io import BytesIO
from types import SimpleNamespace
from typing import Any

import pytest
from pydicom.dataset import Dataset

from screener.domain import CommitmentReport
from screener.errors import DatabaseUnavailable
from screener.receive.commitment import CommitmentHandlers, read_report
from screener.receive.contexts import IMPLICIT_VR_LITTLE_ENDIAN
from screener.receive.messages import MAX_OTHER_DATA_SET_BYTES
from tests.receive_factories import EXPLICIT, encode, report_dataset, report_item


def event(event_type: int = 2) -> Any:
    """Give what the library gives for a result on an association of ours."""
    request = SimpleNamespace(EventInformation=BytesIO(encode(report_dataset())))
    context = SimpleNamespace(transfer_syntax=EXPLICIT)
    return SimpleNamespace(event_type=event_type, request=request, context=context)


REPORT = CommitmentReport("2.25.17", frozenset({"1.2.1"}), (("1.2.2", 0x0112), ("1.2.3", 0x0110)))


@pytest.mark.parametrize("is_undefined", [False, True])
@pytest.mark.parametrize("syntax", [EXPLICIT, IMPLICIT_VR_LITTLE_ENDIAN])
def test_report_names_what_is_committed_and_what_failed(syntax: str, is_undefined: bool) -> None:
    """In every encoding. A failure without its reason is still one: "processing failure"."""
    report = report_dataset(is_undefined=is_undefined)
    encoded = encode(report, syntax)
    assert encoded.count(b"\xff\xff\xff\xff") == (8 if is_undefined else 0)
    assert read_report(encoded, syntax) == REPORT


@pytest.mark.parametrize("encoded", [b"", encode(Dataset())])
def test_report_without_anything_commits_to_nothing(encoded: bytes) -> None:
    """An empty data set names no transaction and no object."""
    assert read_report(encoded, EXPLICIT) == CommitmentReport("", frozenset(), ())


def test_report_of_the_longest_message_is_read() -> None:
    """A storage commitment of thousands: each object once, however long it is."""
    report = report_dataset()
    report.ReferencedSOPSequence = [report_item(f"1.2.840.1.{number}") for number in range(20_000)]
    encoded = encode(report)
    assert len(encoded) > MAX_OTHER_DATA_SET_BYTES / 2
    assert len(read_report(encoded, EXPLICIT).committed) == 20_000


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


def nested(n_levels: int) -> Dataset:
    report = report_dataset()
    for _ in range(n_levels):
        outer = Dataset()
        outer.ReferencedSOPSequence = [report]
        for one in (outer, report):
            one.is_undefined_length_sequence_item = True
        outer["ReferencedSOPSequence"].is_undefined_length = True
        report = outer
    return report


def without_a_name() -> Dataset:
    report = report_dataset()
    report.ReferencedSOPSequence = [Dataset()]
    return report


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
    assert CommitmentHandlers(fail).take(1, encoded, EXPLICIT) == 0x0115


@pytest.mark.parametrize(
    "encoded",
    [
        b"\x08",
        b"\x08\x00\x95\x11UI\x40\x002.25.17\x00",
        bytes(99),
        b"\x08\x00\x99\x11SQ\x00\x00\x08\x00\x00\x00\x08\x00\x55\x11UI\x00\x00",
        b"\x08\x00\x99\x11SQ\x00\x00\xff\xff\xff\xff\xfe\xff\x00\xe0\xff\xff\xff\xff",
        encode(nested(40)),
        encode(without_a_name()),
    ],
    ids=["cut", "long", "group-0000", "no-item", "no-end", "too-deep", "no-name"],
)
def test_report_that_is_no_report_is_refused(encoded: bytes) -> None:
    """Cut off, beyond its end, of group 0000, nested beyond anything honest, without a name."""
    assert CommitmentHandlers(fail).take(1, encoded, EXPLICIT) == 0x0110


def test_report_does_not_load_a_dicom_library() -> None:
    """An archive that reports cannot make the listener a third larger."""
    code = f"""
import sys
from screener.receive.commitment import CommitmentHandlers
seen = []
status = CommitmentHandlers(lambda one: not seen.append(one)).take(
    2, {encode(report_dataset())!r}, "{EXPLICIT}"
)
print(hex(status), len(seen), "pydicom" in sys.modules)
"""
    ended = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120
    )
    assert ended.stdout.split() == ["0x0", "1", "False"]
