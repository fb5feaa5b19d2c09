"""Get series back from a node: C-GET on our association, or C-MOVE to our listener.

Study Root model (PS3.4 C.6.2). A retrieval is complete or an error: a node that could not send one
instance of a series has not given the series.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from pynetdicom import build_role, evt
from pynetdicom.presentation import build_context

from screener.deliver.association import (
    EXPLICIT_VR_LITTLE_ENDIAN,
    IMPLICIT_VR_LITTLE_ENDIAN,
    associated,
    describe,
)
from screener.deliver.query import TRANSIENT, identifier_of
from screener.errors import DestinationRefused, DestinationUnavailable

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pydicom.dataset import Dataset
    from pynetdicom.association import Association
    from pynetdicom.events import Event, EventHandlerType
    from pynetdicom.presentation import PresentationContext

    from screener.domain import DimseNode

#: Study Root Query/Retrieve Information Model, MOVE and GET (PS3.4 Table C.6.2.3-1).
STUDY_ROOT_MOVE = "1.2.840.10008.5.1.4.1.2.2.2"
STUDY_ROOT_GET = "1.2.840.10008.5.1.4.1.2.2.3"

_SUCCESS = 0x0000
_PENDING = 0xFF00
#: One or more sub-operations failed (PS3.4 Tables C.4-2 and C.4-3).
_SOME_FAILED = 0xB000
_MOVE_DESTINATION_UNKNOWN = 0xA801


class StoreReceiver(Protocol):
    """Takes what a node sends back."""

    def on_connected(self, event: Event) -> None:
        """Prepare the association."""

    def on_store(self, event: Event) -> Dataset:
        """Keep one instance and answer a status."""


def get_series(
    node: DimseNode,
    study_instance_uid: str,
    series_instance_uids: Sequence[str],
    contexts: Sequence[tuple[str, str]],
    receiver: StoreReceiver,
) -> int:
    """Get series by C-GET; gives the number of instances that came.

    Parameters
    ----------
    contexts
        SOP class and transfer syntax of what may come.
    receiver
        Takes the instances.

    Raises
    ------
    DestinationUnavailable
        The node cannot be asked now, or stopped answering.
    DestinationRefused
        The node does not serve C-GET, or did not give everything.
    """
    proposed = [_context(STUDY_ROOT_GET), *(build_context(*pair) for pair in contexts)]
    roles = [build_role(sop_class_uid, scp_role=True) for sop_class_uid in dict(contexts)]
    handlers: list[EventHandlerType] = [
        (evt.EVT_CONN_OPEN, receiver.on_connected),
        (evt.EVT_C_STORE, receiver.on_store),
    ]
    n_instances = 0
    with associated(node, proposed, handlers=handlers, roles=roles) as assoc:
        for uid in series_instance_uids:
            _check(node, assoc, STUDY_ROOT_GET, "C-GET")
            identifier = _series(study_instance_uid, uid)
            n_instances += _follow(node, assoc.send_c_get(identifier, STUDY_ROOT_GET))
    return n_instances


def move_series(
    node: DimseNode,
    study_instance_uid: str,
    series_instance_uids: Sequence[str],
    move_ae_title: str,
) -> int:
    """Let `node` send series to `move_ae_title`; gives the number of instances it sent.

    Raises
    ------
    DestinationUnavailable, DestinationRefused
        As `get_series`; also where the node does not know that AE title.
    """
    n_instances = 0
    with associated(node, [_context(STUDY_ROOT_MOVE)]) as assoc:
        for uid in series_instance_uids:
            _check(node, assoc, STUDY_ROOT_MOVE, "C-MOVE")
            identifier = _series(study_instance_uid, uid)
            answers = assoc.send_c_move(identifier, move_ae_title, STUDY_ROOT_MOVE)
            n_instances += _follow(node, answers, move_ae_title)
    return n_instances


def _context(model: str) -> PresentationContext:
    return build_context(model, [EXPLICIT_VR_LITTLE_ENDIAN, IMPLICIT_VR_LITTLE_ENDIAN])


def _check(node: DimseNode, assoc: Association, model: str, service: str) -> None:
    if not assoc.is_established and assoc.accepted_contexts:
        raise DestinationUnavailable(f"{node.name}: {describe(node)} ended the association")
    if model not in {context.abstract_syntax for context in assoc.accepted_contexts}:
        raise DestinationRefused(node.name, f"{describe(node)} answers no study-root {service}")


def _series(study_instance_uid: str, series_instance_uid: str) -> Dataset:
    return identifier_of(
        {
            "QueryRetrieveLevel": "SERIES",
            "StudyInstanceUID": study_instance_uid,
            "SeriesInstanceUID": series_instance_uid,
        }
    )


def _follow(
    node: DimseNode, answers: Iterable[tuple[Dataset, Dataset | None]], move_ae_title: str = ""
) -> int:
    """Read answers to the last; gives the number of instances that were sent."""
    for answer, _ in answers:
        if "Status" not in answer:
            break
        status = int(answer.Status)
        if status == _PENDING:
            continue
        if status == _SUCCESS and not answer.get("NumberOfFailedSuboperations"):
            return int(answer.get("NumberOfCompletedSuboperations") or 0)
        raise _failure(node, answer, move_ae_title)
    raise DestinationUnavailable(
        f"{node.name}: {describe(node)} broke off or did not answer within {node.timeout_s:g} s; "
        f"check that it lets '{node.calling_ae_title}' retrieve"
    )


def _failure(
    node: DimseNode, answer: Dataset, move_ae_title: str
) -> DestinationUnavailable | DestinationRefused:
    status = int(answer.Status)
    where = describe(node)
    if status == _MOVE_DESTINATION_UNKNOWN:
        text = f"{where} does not know the AE title '{move_ae_title}'; register it there"
        return DestinationRefused(node.name, text, status)
    if status in {_SUCCESS, _SOME_FAILED}:
        n_failed = int(answer.get("NumberOfFailedSuboperations") or 0)
        text = f"{where} could not send {n_failed} instances (0x{status:04X}); look at its log"
        return DestinationRefused(node.name, text, status)
    if status in TRANSIENT:
        return DestinationUnavailable(
            f"{node.name}: {where} cannot send the study now (0x{status:04X}); where it is to send "
            "it to our listener, check that it can reach it"
        )
    return DestinationRefused(node.name, f"{where} refused to send (0x{status:04X})", status)
