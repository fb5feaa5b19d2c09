"""Ask a node to answer for what it stored: Storage Commitment Push Model, as SCU (PS3.4 Annex J).

The result may come on this association, within a moment, or on one that the node opens to our
listener, minutes later.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pydicom.config
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pynetdicom import evt
from pynetdicom.pdu import P_DATA_TF
from pynetdicom.presentation import build_context

from screener.deliver.association import (
    EXPLICIT_VR_LITTLE_ENDIAN,
    IMPLICIT_VR_LITTLE_ENDIAN,
    associated,
    describe,
)
from screener.errors import DestinationRefused, DestinationUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pynetdicom.events import Event, EventHandlerType

    from screener.deliver.scu import DeliverableObject
    from screener.domain import DimseNode

#: SOP Class and its well-known instance (PS3.4 J.3.1, J.3.5).
STORAGE_COMMITMENT_PUSH = "1.2.840.10008.1.20.1"
_WELL_KNOWN_INSTANCE = "1.2.840.10008.1.20.1.1"
#: Action Type ID: request storage commitment (PS3.4 Table J.3-1).
_REQUEST = 1

_SUCCESS = 0x0000
#: Processing failure and resource limitation pass (PS3.7 C.5).
_TRANSIENT = frozenset({0x0110, 0x0213})

#: How long the association stays open for a result on it, in seconds. Most nodes open their own.
SAME_ASSOCIATION_S = 1.0

_REFERENCED_SOP_SEQUENCE = 0x00081199
_REFERENCED_SOP_CLASS_UID = 0x00081150
_REFERENCED_SOP_INSTANCE_UID = 0x00081155
_TRANSACTION_UID = 0x00081195


def request_commitment(
    node: DimseNode,
    transaction_uid: str,
    objects: Sequence[DeliverableObject],
    on_event_report: Callable[[Event], tuple[int, None]],
) -> None:
    """Ask `node` to commit to `objects`; the answer to the question is not yet the result.

    Parameters
    ----------
    transaction_uid
        Names the request in the result.
    on_event_report
        Takes the result where it comes on this association.

    Raises
    ------
    DestinationUnavailable
        The node cannot be asked now.
    DestinationRefused
        The node knows no storage commitment, or refuses this request.
    """
    has_come, is_taken, is_answered = threading.Event(), threading.Event(), threading.Event()

    def on_report(event: Event) -> tuple[int, None]:
        has_come.set()
        try:
            return on_event_report(event)
        finally:
            is_taken.set()

    def on_sent(event: Event) -> None:
        if is_taken.is_set() and isinstance(event.pdu, P_DATA_TF):
            is_answered.set()

    context = build_context(
        STORAGE_COMMITMENT_PUSH, [EXPLICIT_VR_LITTLE_ENDIAN, IMPLICIT_VR_LITTLE_ENDIAN]
    )
    handlers: list[EventHandlerType] = [
        (evt.EVT_N_EVENT_REPORT, on_report),
        (evt.EVT_PDU_SENT, on_sent),
    ]
    with associated(node, [context], handlers=handlers) as assoc:
        if not assoc.accepted_contexts:
            raise DestinationRefused(node.name, f"{describe(node)} knows no storage commitment")
        if not assoc.is_established:
            raise DestinationUnavailable(f"{node.name}: {describe(node)} ended the association")
        answer, _ = assoc.send_n_action(
            _request(transaction_uid, objects),
            _REQUEST,
            STORAGE_COMMITMENT_PUSH,
            _WELL_KNOWN_INSTANCE,
        )
        _judge(node, answer)
        if has_come.wait(SAME_ASSOCIATION_S):
            # A release that overtakes our answer would abort the association.
            is_answered.wait(node.timeout_s)


def _judge(node: DimseNode, answer: Dataset) -> None:
    if "Status" not in answer:
        raise DestinationUnavailable(
            f"{node.name}: {describe(node)} did not answer within {node.timeout_s:g} s whether it "
            "will commit"
        )
    status = int(answer.Status)
    if status in _TRANSIENT:
        raise DestinationUnavailable(
            f"{node.name}: {describe(node)} cannot commit now (0x{status:04X})"
        )
    if status != _SUCCESS:
        raise DestinationRefused(
            node.name, f"{describe(node)} refused to commit (0x{status:04X})", status
        )


def _request(transaction_uid: str, objects: Sequence[DeliverableObject]) -> Dataset:
    """Build the action information (PS3.4 Table J.3-1)."""
    request = Dataset()
    request[_TRANSACTION_UID] = _uid(_TRANSACTION_UID, transaction_uid)
    request.add_new(_REFERENCED_SOP_SEQUENCE, "SQ", [_reference(one) for one in objects])
    return request


def _reference(one: DeliverableObject) -> Dataset:
    item = Dataset()
    item[_REFERENCED_SOP_CLASS_UID] = _uid(_REFERENCED_SOP_CLASS_UID, one.sop_class_uid)
    item[_REFERENCED_SOP_INSTANCE_UID] = _uid(_REFERENCED_SOP_INSTANCE_UID, one.sop_instance_uid)
    return item


def _uid(tag: int, value: str) -> DataElement:
    return DataElement(tag, "UI", value, validation_mode=pydicom.config.IGNORE)
