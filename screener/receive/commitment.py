"""N-EVENT-REPORT of a storage commitment to a report that the ledger understands.

PS3.4 J.3.3. Only associations of known peers get here; the transaction UID, which nobody can
guess, says which delivery is meant.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog

from screener.domain import CommitmentReport
from screener.errors import DatabaseUnavailable
from screener.receive.contexts import IMPLICIT_VR_LITTLE_ENDIAN
from screener.receive.elements import ElementReader, MalformedDataSet

if TYPE_CHECKING:
    from collections.abc import Callable
    from io import BytesIO

    from pynetdicom.events import Event

    from screener.receive.elements import Element

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

_TRANSACTION_UID = 0x00081195
_FAILED = 0x00081198  #: Failed SOP Sequence
_COMMITTED = 0x00081199  #: Referenced SOP Sequence
_REFERENCED_INSTANCE = 0x00081155
_FAILURE_REASON = 0x00081197
_US_BYTES = 2
#: What looking costs: an element has eight bytes or more and is seen twice, within an item and
#: before it. A report of megabytes is read, one that is read again and again is not.
_COST_OF_A_BYTE = 32
_LEAST_BUDGET_BYTES = 4096
#: PS3.5 9.1; ours are such, and nothing else may come near the database.
_LONGEST_UID = 64
_UID = re.compile(r"[0-9.]{1,64}")


@dataclass(frozen=True, slots=True)
class CommitmentHandlers:
    """The event handlers of storage commitment.

    ``settle`` takes a report and says whether anybody asked for it; it raises
    `DatabaseUnavailable` where it cannot write.
    """

    settle: Callable[[CommitmentReport], bool]

    def on_event_report(self, event: Event) -> tuple[int, None]:
        """Take a result on an association of ours and answer a status."""
        # The library's type of a request is that of any service.
        encoded: BytesIO | None = getattr(event.request, "EventInformation", None)
        content = b"" if encoded is None else encoded.getvalue()
        return self.take(event.event_type, content, str(event.context.transfer_syntax)), None

    def take(self, event_type: int | None, encoded: bytes, transfer_syntax_uid: str) -> int:
        """Take a result in either encoding and answer a status."""
        if event_type not in {_ALL_COMMITTED, _SOME_FAILED}:
            return _NO_SUCH_EVENT_TYPE
        try:
            report = read_report(encoded, transfer_syntax_uid)
            if not _UID.fullmatch(report.transaction_uid):
                return _INVALID_ARGUMENT_VALUE
            is_known = self.settle(report)
        except DatabaseUnavailable:  # a node that hears of a failure reports again
            structlog.get_logger().error("commitment_postponed")
            return _PROCESSING_FAILURE
        except MalformedDataSet as error:
            structlog.get_logger().warning("commitment_unreadable", error=type(error).__name__)
            return _PROCESSING_FAILURE
        return _SUCCESS if is_known else _INVALID_ARGUMENT_VALUE


def read_report(encoded: bytes, transfer_syntax_uid: str) -> CommitmentReport:
    """Read the event information (PS3.4 Table J.3-2).

    Raises
    ------
    MalformedDataSet
        The bytes are no data set, or an object has no name.
    """
    reader = ElementReader(
        lambda offset, n_bytes: encoded[offset : offset + n_bytes],
        len(encoded),
        is_explicit=transfer_syntax_uid != IMPLICIT_VR_LITTLE_ENDIAN,
        budget_bytes=_COST_OF_A_BYTE * len(encoded) + _LEAST_BUDGET_BYTES,
    )
    transaction_uid = ""
    items: dict[int, list[tuple[str, int]]] = {}
    for element in reader.elements():
        if element.tag == _TRANSACTION_UID:
            transaction_uid = _text(reader, element)
        elif element.tag in {_FAILED, _COMMITTED}:
            items[element.tag] = [_reference(item) for item in reader.items(element)]
    return CommitmentReport(
        transaction_uid=transaction_uid,
        committed=frozenset(uid for uid, _ in items.get(_COMMITTED, ())),
        failures=tuple(items.get(_FAILED, ())),
    )


def _reference(item: ElementReader) -> tuple[str, int]:
    """Read SOP Instance UID and Failure Reason of one object."""
    # The reason is Type 1; without it "processing failure" says as little.
    uid, reason = "", _PROCESSING_FAILURE
    for element in item.elements():
        if element.tag == _REFERENCED_INSTANCE:
            uid = _text(item, element)
        elif element.tag == _FAILURE_REASON and element.length:
            reason = int.from_bytes(item.value(element, _US_BYTES), "little")
    if not uid:
        raise MalformedDataSet("an object of the report has no name")
    return uid, reason


def _text(reader: ElementReader, element: Element) -> str:
    return reader.value(element, _LONGEST_UID).decode("latin-1").rstrip("\x00 ")
