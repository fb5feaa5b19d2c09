"""What an N-EVENT-REPORT of a storage commitment becomes; the network part is in `integration`."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from pydicom.dataset import Dataset

from screener.domain import CommitmentReport
from screener.errors import DatabaseUnavailable
from screener.receive.commitment import CommitmentHandlers, read_report


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
