"""Command sets of DIMSE messages to values, and answers to bytes (PS3.7 6.3.1 and Annex E).

A command set is always Implicit VR Little Endian and holds group 0000 alone.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

from screener.receive.upper_layer import AbortReason, ProtocolViolation

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

#: Command Field (0000,0100), PS3.7 Table E.1-1.
C_STORE_RQ = 0x0001
C_ECHO_RQ = 0x0030
C_CANCEL_RQ = 0x0FFF
N_EVENT_REPORT_RQ = 0x0100
N_ACTION_RQ = 0x0130
_IS_ANSWER = 0x8000

#: Command Data Set Type (0000,0800): no data set follows.
_NO_DATA_SET = 0x0101
#: Unrecognised operation (PS3.7 C.5.18).
UNRECOGNISED_OPERATION = 0x0211

#: PS3.5 9.1.
_LONGEST_UID = 64

_GROUP_LENGTH = 0x0000
_AFFECTED_SOP_CLASS = 0x0002
_REQUESTED_SOP_CLASS = 0x0003
_COMMAND_FIELD = 0x0100
_MESSAGE_ID = 0x0110
_MESSAGE_ID_ANSWERED = 0x0120
_DATA_SET_TYPE = 0x0800
_STATUS = 0x0900
_ERROR_COMMENT = 0x0902
_AFFECTED_SOP_INSTANCE = 0x1000
_EVENT_TYPE = 0x1002
_ACTION_TYPE = 0x1008

_ELEMENT = struct.Struct("<HHL")


@dataclass(frozen=True, slots=True)
class Command:
    """A request as its command set has it."""

    field: int
    message_id: int
    has_data_set: bool
    sop_class_uid: str  #: affected, or requested; empty where absent
    sop_instance_uid: str  #: affected; empty where absent
    event_type: int | None
    action_type: int | None


@dataclass(frozen=True, slots=True)
class Answer:
    """What a request is answered with."""

    status: int
    comment: str = ""  #: Error Comment, at most 64 characters
    names_instance: bool = True  #: whether Affected SOP Instance UID goes back


def decode_command(content: bytes) -> Command:
    """Read a whole command set.

    Raises
    ------
    ProtocolViolation
        An element is cut off or of another group, or what every request has is missing.
    """
    values = dict(_elements(content))
    field = _number(values, _COMMAND_FIELD)
    data_set_type = _number(values, _DATA_SET_TYPE)
    if field is None or data_set_type is None:
        raise _violation("a command set does not say what it is")
    if field & _IS_ANSWER:
        raise _violation("an answer came to a request that we never made")
    message_id = _number(values, _MESSAGE_ID)
    if message_id is None and field != C_CANCEL_RQ:
        raise _violation("a request has no message id")
    return Command(
        field=field,
        message_id=message_id or 0,
        has_data_set=data_set_type != _NO_DATA_SET,
        sop_class_uid=_uid(values, _AFFECTED_SOP_CLASS) or _uid(values, _REQUESTED_SOP_CLASS),
        sop_instance_uid=_uid(values, _AFFECTED_SOP_INSTANCE),
        event_type=_number(values, _EVENT_TYPE),
        action_type=_number(values, _ACTION_TYPE),
    )


def encode_answer(command: Command, answer: Answer) -> bytes:
    """Write the command set of the answer to `command`."""
    elements = [
        (_AFFECTED_SOP_CLASS, _echo(command.sop_class_uid)),
        (_COMMAND_FIELD, struct.pack("<H", command.field | _IS_ANSWER)),
        (_MESSAGE_ID_ANSWERED, struct.pack("<H", command.message_id)),
        (_DATA_SET_TYPE, struct.pack("<H", _NO_DATA_SET)),
        (_STATUS, struct.pack("<H", answer.status)),
    ]
    if answer.comment:
        elements.append((_ERROR_COMMENT, _text(answer.comment, b" ")))
    if answer.names_instance and command.sop_instance_uid:
        elements.append((_AFFECTED_SOP_INSTANCE, _echo(command.sop_instance_uid)))
    if command.event_type is not None:
        elements.append((_EVENT_TYPE, struct.pack("<H", command.event_type)))
    if command.action_type is not None:
        elements.append((_ACTION_TYPE, struct.pack("<H", command.action_type)))
    body = b"".join(_ELEMENT.pack(0, tag, len(value)) + value for tag, value in elements)
    return _ELEMENT.pack(0, _GROUP_LENGTH, 4) + struct.pack("<L", len(body)) + body


def _elements(content: bytes) -> Iterator[tuple[int, bytes]]:
    offset = 0
    while offset < len(content):
        if offset + _ELEMENT.size > len(content):
            raise _violation("a command set is cut off")
        group, number, length = _ELEMENT.unpack_from(content, offset)
        offset += _ELEMENT.size
        if group or offset + length > len(content):
            raise _violation("a command set holds what is no command element")
        yield number, content[offset : offset + length]
        offset += length


def _number(values: Mapping[int, bytes], tag: int) -> int | None:
    value = values.get(tag)
    return int.from_bytes(value, "little") if value and len(value) == 2 else None  # noqa: PLR2004


def _uid(values: Mapping[int, bytes], tag: int) -> str:
    # Trailing bytes are padding (PS3.5 9.1); anything before them is judged with the value.
    return values.get(tag, b"").decode("latin-1").rstrip("\x00 ")


def _echo(uid: str) -> bytes:
    """Give a UID back; what is too long for one was refused, and no peer makes us send it."""
    return _text(uid[:_LONGEST_UID], b"\x00")


def _text(value: str, pad: bytes) -> bytes:
    content = value.encode("latin-1")
    return content + pad * (len(content) % 2)


def _violation(detail: str) -> ProtocolViolation:
    return ProtocolViolation(AbortReason.INVALID_PARAMETER, detail)
