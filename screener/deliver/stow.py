"""Send results by STOW-RS, and read what became of each (PS3.18 10.5).

One request takes them all, streamed from their files. What a service refuses as a whole is sent
again one by one, so that one object that it does not take costs the others nothing.
"""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any

from screener.deliver.dicom_json import integer_of, items_of, text_of
from screener.deliver.qido import STUDIES
from screener.deliver.scu import (
    InstanceStatus,
    comment_on,
    outcome_of,
    transfer_syntax_of,
    unreadable,
    without_context,
)
from screener.deliver.web import WebAnswer, connected
from screener.deliver.web_errors import Meaning, judge_status, not_dicom_json, status_of
from screener.domain import Outcome
from screener.errors import DestinationUnavailable

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from screener.deliver.scu import DeliverableObject
    from screener.deliver.web import WebSession
    from screener.domain import WebNode

_REFERENCED_SOP_SEQUENCE = "00081199"
_FAILED_SOP_SEQUENCE = "00081198"
_REFERENCED_SOP_INSTANCE_UID = "00081155"
_WARNING_REASON = "00081196"
_FAILURE_REASON = "00081197"

#: Instances as Part 10 files, as they are stored.
CONTENT_TYPE = 'multipart/related; type="application/dicom"'

#: The stored files are small; larger pieces save nothing.
_CHUNK_BYTES = 256 * 1024

_SILENT = "The service did not say what became of it."
_ENDED_BEFORE = "The service could not be reached any more before it."


def store_objects(
    node: WebNode, objects: Sequence[DeliverableObject]
) -> tuple[InstanceStatus, ...]:
    """Send `objects` and say what became of each; the same outcomes as `scu.store_objects`.

    Returns
    -------
    :
        One entry per object, in the same order.

    Raises
    ------
    DestinationUnavailable
        Nothing was answered, or to come again later.
    """
    readable = [one for one in objects if transfer_syntax_of(one.path)]
    answered: dict[str, InstanceStatus] = {}
    if readable:
        with connected(node) as session:
            answered = {one.sop_instance_uid: one for one in _store(session, readable)}
    return tuple(answered.get(one.sop_instance_uid) or unreadable(one) for one in objects)


def _store(session: WebSession, objects: Sequence[DeliverableObject]) -> list[InstanceStatus]:
    answer = _post(session, objects)
    told = _told(answer.document)
    status = status_of(answer.status)
    if status.meaning is Meaning.CONTENT and not _tells_all(told, objects):
        if len(objects) > 1:
            return _store_one_by_one(session, objects)
        return [_refused_alone(objects[0], answer)]
    if status.meaning is not Meaning.CONTENT and status.meaning is not Meaning.SOME_STORED:
        judge_status(session.node, answer.status, answer.headers)
    if not isinstance(answer.document, dict):
        # A page of a proxy comes with 200, too: only the service itself can say "stored".
        raise not_dicom_json(session.node, answer.headers.get("Content-Type", ""))
    return [_status(one, told.get(one.sop_instance_uid)) for one in objects]


def _store_one_by_one(
    session: WebSession, objects: Sequence[DeliverableObject]
) -> list[InstanceStatus]:
    """Send each alone; what was answered before the service went away stays so."""
    statuses: list[InstanceStatus] = []
    for at, one in enumerate(objects):
        try:
            statuses += _store(session, [one])
        except DestinationUnavailable:
            if not statuses:
                raise
            return statuses + [
                InstanceStatus(rest.sop_instance_uid, None, Outcome.RETRY, _ENDED_BEFORE)
                for rest in objects[at:]
            ]
    return statuses


def _post(session: WebSession, objects: Sequence[DeliverableObject]) -> WebAnswer:
    boundary = uuid.uuid4().hex
    heads = [_head(boundary) for _ in objects]
    tail = f"\r\n--{boundary}--\r\n".encode()
    try:
        sizes = [one.path.stat().st_size for one in objects]
    except OSError as error:
        raise DestinationUnavailable(f"{session.node.name}: our own file is gone") from error
    return session.post(
        STUDIES,
        f"{CONTENT_TYPE}; boundary={boundary}",
        _body(heads, objects, tail),
        sum(map(len, heads)) + sum(sizes) + len(tail),
    )


def _head(boundary: str) -> bytes:
    return f"\r\n--{boundary}\r\nContent-Type: application/dicom\r\n\r\n".encode()


def _body(
    heads: Sequence[bytes], objects: Sequence[DeliverableObject], tail: bytes
) -> Iterator[bytes]:
    for head, one in zip(heads, objects, strict=True):
        yield head
        with one.path.open("rb") as file:
            while chunk := file.read(_CHUNK_BYTES):
                yield chunk
    yield tail


def _told(document: Any) -> dict[str, tuple[Outcome, int]]:
    """Read what a store response says of each instance: outcome and status by UID."""
    told: dict[str, tuple[Outcome, int]] = {}
    for item in items_of(document, _REFERENCED_SOP_SEQUENCE):
        remark = integer_of(item, _WARNING_REASON)
        outcome = Outcome.STORED if remark is None else Outcome.STORED_WITH_WARNING
        told[text_of(item, _REFERENCED_SOP_INSTANCE_UID)] = (outcome, remark or 0)
    for item in items_of(document, _FAILED_SOP_SEQUENCE):
        reason = integer_of(item, _FAILURE_REASON)
        # 0x0110 is "processing failure", what a service means that gives no reason.
        code = 0x0110 if reason is None else reason
        told[text_of(item, _REFERENCED_SOP_INSTANCE_UID)] = (outcome_of(code), code)
    return told


def _tells_all(told: dict[str, tuple[Outcome, int]], objects: Sequence[DeliverableObject]) -> bool:
    return all(one.sop_instance_uid in told for one in objects)


def _status(one: DeliverableObject, told: tuple[Outcome, int] | None) -> InstanceStatus:
    if told is None:
        return InstanceStatus(one.sop_instance_uid, None, Outcome.RETRY, _SILENT)
    outcome, code = told
    return InstanceStatus(one.sop_instance_uid, code, outcome, comment_on(code))


def _refused_alone(one: DeliverableObject, answer: WebAnswer) -> InstanceStatus:
    """Say why a service refuses one object as such; a media type it does not take is a class."""
    unsupported_media_type = 415
    if answer.status == unsupported_media_type:
        return without_context(one)
    comment = f"The service {status_of(answer.status).text} (HTTP {answer.status})."
    return InstanceStatus(one.sop_instance_uid, None, Outcome.REFUSED, comment)
