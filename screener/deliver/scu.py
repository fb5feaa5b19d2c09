"""Send results: propose exactly what is needed, read every status, say what became of each.

The stored file goes out byte for byte, so that a retry sends the same instance. Only where a node
accepts a class in Implicit VR alone, which every node must, the same elements are written in it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError
from pydicom.uid import UID
from pynetdicom.presentation import PresentationContext, build_context

from screener.deliver.association import (
    EXPLICIT_VR_LITTLE_ENDIAN,
    IMPLICIT_VR_LITTLE_ENDIAN,
    associated,
)
from screener.domain import Outcome

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from pynetdicom.association import Association

    from screener.domain import DimseNode, ResultKind

#: Stored, with a remark (PS3.4 Table B.2-1): coercion, elements discarded, data set does not
#: match. 0x0111 is "duplicate SOP Instance" (PS3.7 C.5.7): it holds the instance already.
_WARNINGS = {
    0xB000: "coerced elements",
    0xB006: "discarded elements",
    0xB007: "says the data set does not match its SOP class",
    0x0111: "holds it already",
}
_SUCCESS = 0x0000
_OUT_OF_RESOURCES = range(0xA700, 0xA800)
#: SOP class not supported, although its context was accepted (PS3.4 Table B.2-1).
_CLASS_NOT_SUPPORTED = 0x0122
#: Refusals that have passed when the node is well again: processing failure (0x0110),
#: not authorized (0x0124, mended at the node) and duplicate invocation or resource limits.
_WORTH_RETRYING = frozenset({0x0110, 0x0124, 0x0210, 0x0213})


_NO_ANSWER = "No answer: the connection was lost, aborted or too slow."
_ENDED_BEFORE = "The association ended before it."


@dataclass(frozen=True, slots=True)
class DeliverableObject:
    """One encoded result on disk."""

    kind: ResultKind
    sop_class_uid: str
    sop_instance_uid: str
    path: Path  #: a DICOM Part 10 file


@dataclass(frozen=True, slots=True)
class InstanceStatus:
    """What a destination answered for one instance."""

    sop_instance_uid: str
    status: int | None  #: DIMSE status; None where there was no answer
    outcome: Outcome
    comment: str  #: one sentence, for people


def store_objects(
    node: DimseNode, objects: Sequence[DeliverableObject]
) -> tuple[InstanceStatus, ...]:
    """Send `objects` in their order over one association.

    A connection that breaks leaves the rest as `RETRY`; what was acknowledged before stays so.

    Returns
    -------
    :
        One entry per object, in the same order.

    Raises
    ------
    DestinationUnavailable
        There was no association; nothing was sent.
    DestinationRefused
        The node speaks another protocol.
    """
    if not any(transfer_syntax_of(one.path) for one in objects):
        return tuple(unreadable(one) for one in objects)
    with associated(node, _contexts_for(objects)) as assoc:
        return _store_in_order(assoc, objects)


def _store_in_order(
    assoc: Association, objects: Sequence[DeliverableObject]
) -> tuple[InstanceStatus, ...]:
    statuses: list[InstanceStatus] = []
    for one in objects:
        last = statuses[-1] if statuses else None
        if last and last.outcome is Outcome.RETRY and last.status is None:
            # Asking again over a dead association would only wait for its time limit.
            statuses.append(_unsent(one))
        else:
            statuses.append(_store(assoc, one))
    return tuple(statuses)


def _unsent(one: DeliverableObject) -> InstanceStatus:
    return InstanceStatus(one.sop_instance_uid, None, Outcome.RETRY, _ENDED_BEFORE)


def _contexts_for(objects: Sequence[DeliverableObject]) -> list[PresentationContext]:
    """Propose each class once as it is encoded, and once in what every node must accept."""
    pairs = {
        (one.sop_class_uid, syntax): None
        for one in objects
        if (syntax := transfer_syntax_of(one.path))
    }
    pairs |= {
        (sop_class_uid, IMPLICIT_VR_LITTLE_ENDIAN): None
        for sop_class_uid, transfer_syntax_uid in tuple(pairs)
        if transfer_syntax_uid == EXPLICIT_VR_LITTLE_ENDIAN
    }
    return [build_context(sop_class, syntax) for sop_class, syntax in pairs]


def transfer_syntax_of(path: Path) -> str:
    """Read how a stored file is encoded; empty where there is no such file any more."""
    try:
        meta = dcmread(path, specific_tags=[], stop_before_pixels=True).file_meta
    except (OSError, InvalidDicomError):
        return ""
    # The command is made of the file meta; without it there is nothing to send.
    is_complete = meta.get("MediaStorageSOPClassUID") and meta.get("MediaStorageSOPInstanceUID")
    return str(meta.get("TransferSyntaxUID", "")) if is_complete else ""


def unreadable(one: DeliverableObject) -> InstanceStatus:
    """Say that a file of ours is gone; sending it again cannot help."""
    return InstanceStatus(
        one.sop_instance_uid, None, Outcome.REFUSED, "Our own file is missing or unreadable."
    )


def _store(assoc: Association, one: DeliverableObject) -> InstanceStatus:
    transfer_syntax_uid = transfer_syntax_of(one.path)
    if not transfer_syntax_uid:
        return unreadable(one)
    accepted = {
        str(context.transfer_syntax[0])
        for context in assoc.accepted_contexts
        if context.abstract_syntax == one.sop_class_uid and context.transfer_syntax
    }
    if not accepted:
        return without_context(one)
    is_as_stored = transfer_syntax_uid in accepted
    dataset = one.path if is_as_stored else _in_implicit_vr(one.path)
    try:
        return _read_status(one, assoc.send_c_store(dataset))
    except RuntimeError:
        # The library's word for an association that is over, whoever noticed first.
        return _unsent(one)


def _in_implicit_vr(path: Path) -> Dataset:
    source = dcmread(path)
    # A fresh data set of decoded elements: nothing keeps the encoding it was read in.
    for _ in source.iterall():
        pass
    converted = Dataset()
    converted.update({element.tag: element for element in source})
    converted.file_meta = source.file_meta
    converted.file_meta.TransferSyntaxUID = UID(IMPLICIT_VR_LITTLE_ENDIAN)
    return converted


def without_context(one: DeliverableObject) -> InstanceStatus:
    """Say that a node does not take a class."""
    comment = f"The node does not accept SOP class {one.sop_class_uid}."
    return InstanceStatus(one.sop_instance_uid, None, Outcome.SKIPPED, comment)


def _read_status(one: DeliverableObject, answer: Dataset) -> InstanceStatus:
    if "Status" not in answer:
        return InstanceStatus(one.sop_instance_uid, None, Outcome.RETRY, _NO_ANSWER)
    status = int(answer.Status)
    comment = comment_on(status, str(answer.get("ErrorComment", "") or ""))
    return InstanceStatus(one.sop_instance_uid, status, outcome_of(status), comment)


def outcome_of(status: int) -> Outcome:
    """Say what a C-STORE status means for the delivery (PS3.4 Table B.2-1, PS3.7 Annex C)."""
    if status == _SUCCESS:
        return Outcome.STORED
    if status in _WARNINGS:
        return Outcome.STORED_WITH_WARNING
    if status in _OUT_OF_RESOURCES or status in _WORTH_RETRYING:
        return Outcome.RETRY
    return Outcome.SKIPPED if status == _CLASS_NOT_SUPPORTED else Outcome.REFUSED


def comment_on(status: int, node_words: str = "") -> str:
    """Say for people what a C-STORE status means; empty for success."""
    if status == _SUCCESS:
        return ""
    text = _WARNINGS.get(status, "did not store it")
    # The node's own words help its operator; cut, and without control characters.
    words = "".join(c for c in node_words[:64] if c.isprintable())
    return f"The node {text} (0x{status:04X}){': ' + words if words else ''}."
