"""N-EVENT-REPORT of a storage commitment to a report that the ledger understands.

PS3.4 J.3.3. Only associations of known peers get here; the transaction UID, which nobody can
guess, says which delivery is meant.
"""

from __future__ import annotations

import io
import re
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog

from screener.domain import CommitmentReport
from screener.errors import DatabaseUnavailable
from screener.receive.contexts import IMPLICIT_VR_LITTLE_ENDIAN
from screener.receive.elements import ElementReader, MalformedDataSet

if TYPE_CHECKING:
    from collections.abc import Callable

    from pydicom.dataset import Dataset
    from pynetdicom.events import Event

#: Storage Commitment Push Model SOP Class (PS3.4 J.3.1).
STORAGE_COMMITMENT_SOP_CLASS_UID = "1.2.840.10008.1.20.1"

#: Event Type IDs (PS3.4 Table J.3-2): all is committed; some is not.
_ALL_COMMITTED = 1
_SOME_FAILED = 2

#: Statuses (PS3.7 Annex C).
_SUCCESS = 0x0000
_PROCESSING_FAILURE = 0x0110
_NO_SUCH_EVENT_TYPE = 0x0113
_INVALID_ARGUMENT_VALUE = 0x0115

#: Transaction UID (0008,1195); of a report only a character set comes before it.
_TRANSACTION_UID = 0x00081195
#: Most bytes of a report that are looked at to find it.
_LOOKED_AT_BYTES = 4096
#: PS3.5 9.1; ours are such, and nothing else may come near the database.
_LONGEST_UID = 64
_UID = re.compile(r"[0-9.]{1,64}")

#: What pydicom raises for bytes that are no such report; a nesting of the sender's choice recurses.
UNREADABLE = (
    ValueError,
    TypeError,
    KeyError,
    AttributeError,
    NotImplementedError,
    EOFError,
    struct.error,
    RecursionError,
)


@dataclass(frozen=True, slots=True)
class CommitmentHandlers:
    """The event handlers of storage commitment.

    ``settle`` takes a report and says whether anybody asked for it; it raises
    `DatabaseUnavailable` where it cannot write. ``is_asked`` says whether a transaction was asked
    for at all; on an association of ours it was.
    """

    settle: Callable[[CommitmentReport], bool]
    is_asked: Callable[[str], bool] = lambda _: True

    def on_event_report(self, event: Event) -> tuple[int, None]:
        """Take a result on an association of ours and answer a status."""
        if event.event_type not in {_ALL_COMMITTED, _SOME_FAILED}:
            return _NO_SUCH_EVENT_TYPE, None
        # What cannot be parsed raises, and the library answers 0x0110 for us.
        return self._settle(read_report(event.event_information)), None

    def take(self, event_type: int | None, encoded: bytes, transfer_syntax_uid: str) -> int:
        """Take a result on an association of the other node and answer a status."""
        if event_type not in {_ALL_COMMITTED, _SOME_FAILED}:
            return _NO_SUCH_EVENT_TYPE
        is_implicit = transfer_syntax_uid == IMPLICIT_VR_LITTLE_ENDIAN
        # Whoever may speak could send one; only who was asked makes the listener a third larger.
        try:
            transaction_uid = _transaction_uid(encoded, is_implicit=is_implicit)
            if not _UID.fullmatch(transaction_uid) or not self.is_asked(transaction_uid):
                return _INVALID_ARGUMENT_VALUE
        except DatabaseUnavailable:
            structlog.get_logger().error("commitment_postponed")
            return _PROCESSING_FAILURE
        except MalformedDataSet as error:
            structlog.get_logger().warning("commitment_unreadable", error=type(error).__name__)
            return _PROCESSING_FAILURE
        from pydicom.filereader import read_dataset  # noqa: PLC0415

        try:
            report = read_report(
                read_dataset(io.BytesIO(encoded), is_implicit, is_little_endian=True)
            )
        except UNREADABLE as error:
            structlog.get_logger().warning("commitment_unreadable", error=type(error).__name__)
            return _PROCESSING_FAILURE
        return self._settle(report)

    def _settle(self, report: CommitmentReport) -> int:
        """Hand a report on; a node that hears of a failure reports again."""
        try:
            is_known = self.settle(report)
        except DatabaseUnavailable:
            structlog.get_logger().error("commitment_postponed")
            return _PROCESSING_FAILURE
        return _SUCCESS if is_known else _INVALID_ARGUMENT_VALUE


def _transaction_uid(encoded: bytes, *, is_implicit: bool) -> str:
    """Find the Transaction UID without reading the rest; empty where there is none.

    Raises
    ------
    MalformedDataSet
        The bytes before it are no data set.
    """
    reader = ElementReader(
        lambda offset, n_bytes: encoded[offset : offset + n_bytes],
        len(encoded),
        is_explicit=not is_implicit,
        budget_bytes=_LOOKED_AT_BYTES,
    )
    for element in reader.elements():
        if element.tag == _TRANSACTION_UID:
            value = reader.value(element, _LONGEST_UID)
            return value.decode("latin-1").rstrip("\x00 ")
        if element.tag > _TRANSACTION_UID:
            break
    return ""


def read_report(information: Dataset) -> CommitmentReport:
    """Read the event information (PS3.4 Table J.3-2)."""
    committed = information.get("ReferencedSOPSequence") or ()
    failed = information.get("FailedSOPSequence") or ()
    return CommitmentReport(
        transaction_uid=str(information.get("TransactionUID") or ""),
        committed=frozenset(str(item.ReferencedSOPInstanceUID) for item in committed),
        failures=tuple(
            # Failure Reason is Type 1; without it "processing failure" says as little.
            (str(item.ReferencedSOPInstanceUID), int(item.get("FailureReason", 0x0110)))
            for item in failed
        ),
    )
