"""PDUs of the DICOM Upper Layer, as an acceptor reads and writes them (PS3.8 9.3).

Bytes to values and values to bytes; no socket, no decision. What a peer sends is looked at once,
within the bounds of its own PDU, and copied only where it is kept. Anything that is not as the
standard has it is a `ProtocolViolation`.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from screener.receive.negotiation import ContextAnswer


class PduType(IntEnum):
    """PS3.8 9.3.1."""

    ASSOCIATE_RQ = 1
    ASSOCIATE_AC = 2
    ASSOCIATE_RJ = 3
    DATA_TF = 4
    RELEASE_RQ = 5
    RELEASE_RP = 6
    ABORT = 7


class AbortReason(IntEnum):
    """Reason of an A-ABORT by the service provider (PS3.8 Table 9-26)."""

    NOT_SPECIFIED = 0
    UNRECOGNISED_PDU = 1
    UNEXPECTED_PDU = 2
    UNEXPECTED_PARAMETER = 5
    INVALID_PARAMETER = 6


class ProtocolViolation(ValueError):
    """A peer sent what PS3.7 or PS3.8 do not allow here; ends in an A-ABORT.

    Parameters
    ----------
    reason
        What the A-ABORT says.
    detail
        Fixed text for log and audit, no value of the peer.
    """

    def __init__(self, reason: AbortReason, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class ProposedContext:
    """A presentation context as proposed (PS3.8 9.3.2.2)."""

    context_id: int
    abstract_syntax: str
    transfer_syntaxes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class UserIdentity:
    """That a peer says who its user is (PS3.7 D.3.3.7); the fields themselves are not kept."""

    identity_type: int
    is_answer_wanted: bool


@dataclass(frozen=True, slots=True)
class AssociationRequest:
    """What an A-ASSOCIATE-RQ says (PS3.8 9.3.2)."""

    protocol_version: int
    called_ae_title: str
    calling_ae_title: str
    application_context: str
    contexts: tuple[ProposedContext, ...]
    maximum_length: int  #: of a P-DATA-TF PDU that the peer takes, bytes; 0: any
    roles: Mapping[str, tuple[bool, bool]]  #: by SOP class: as SCU, as SCP
    user_identity: UserIdentity | None
    returned_field: bytes  #: AE titles and reserved bytes, which an A-ASSOCIATE-AC returns


class DataValue(NamedTuple):  # made five times for a slice: a third of what a dataclass costs
    """A presentation data value (PS3.8 9.3.5.1 and Annex E.2)."""

    context_id: int
    is_command: bool
    is_last: bool
    fragment: memoryview


#: PS3.8 Annex A.2.1: the DICOM application context.
APPLICATION_CONTEXT = "1.2.840.10008.3.1.1.1"

_FIXED = struct.Struct(">H2x16s16s32x")
_ITEM = struct.Struct(">BxH")
_RETURNED = slice(4, 68)  # AE titles and reserved bytes within the variable part

_APPLICATION_CONTEXT_ITEM = 0x10
_PROPOSED_CONTEXT_ITEM = 0x20
_ANSWERED_CONTEXT_ITEM = 0x21
_ABSTRACT_SYNTAX_ITEM = 0x30
_TRANSFER_SYNTAX_ITEM = 0x40
_USER_INFORMATION_ITEM = 0x50
_MAXIMUM_LENGTH_ITEM = 0x51
_IMPLEMENTATION_CLASS_ITEM = 0x52
_ROLE_ITEM = 0x54
_IMPLEMENTATION_VERSION_ITEM = 0x55
_USER_IDENTITY_ITEM = 0x58

_IS_COMMAND = 1
_IS_LAST = 2


def decode_request(body: memoryview) -> AssociationRequest:
    """Read the variable part of an A-ASSOCIATE-RQ.

    Raises
    ------
    ProtocolViolation
        An item reaches beyond its end, or a context stands twice or has an even number.
    """
    if len(body) < _FIXED.size:
        raise _invalid("the association request is too short")
    version, called, calling = _FIXED.unpack_from(body)
    application_context = ""
    contexts: dict[int, ProposedContext] = {}
    user: _UserInformation | None = None
    for item_type, content in _items(body[_FIXED.size :]):
        if item_type == _APPLICATION_CONTEXT_ITEM:
            application_context = _uid(content)
        elif item_type == _PROPOSED_CONTEXT_ITEM:
            context = _context(content)
            if context.context_id in contexts:
                raise _invalid("a presentation context stands twice")
            if context.context_id % 2 == 0:  # PS3.8 9.3.2.2: odd, 1 to 255
                raise _invalid("a presentation context has an even number")
            contexts[context.context_id] = context
        elif item_type == _USER_INFORMATION_ITEM:
            user = _user_information(content)
    user = user or _UserInformation(0, {}, None)
    return AssociationRequest(
        protocol_version=version,
        called_ae_title=_ae_title(called),
        calling_ae_title=_ae_title(calling),
        application_context=application_context,
        contexts=tuple(contexts.values()),
        maximum_length=user.maximum_length,
        roles=user.roles,
        user_identity=user.identity,
        returned_field=bytes(body[_RETURNED]),
    )


def encode_accept(
    request: AssociationRequest,
    answers: Sequence[ContextAnswer],
    maximum_length: int,
    implementation: tuple[str, str],
) -> bytes:
    """Write an A-ASSOCIATE-AC (PS3.8 9.3.3).

    Parameters
    ----------
    maximum_length
        Longest P-DATA-TF PDU that we take, bytes.
    implementation
        Class UID and version name (PS3.7 D.3.3.2).
    """
    class_uid, version_name = implementation
    user = [
        _item(_MAXIMUM_LENGTH_ITEM, struct.pack(">L", maximum_length)),
        _item(_IMPLEMENTATION_CLASS_ITEM, class_uid.encode("ascii")),
        *(_role_item(answer) for answer in _roles_to_answer(answers)),
        _item(_IMPLEMENTATION_VERSION_ITEM, version_name.encode("ascii")),
    ]
    body = b"".join(
        (
            struct.pack(">H2x", 1),
            request.returned_field,
            _item(_APPLICATION_CONTEXT_ITEM, APPLICATION_CONTEXT.encode("ascii")),
            *(_answer_item(answer) for answer in answers),
            _item(_USER_INFORMATION_ITEM, b"".join(user)),
        )
    )
    return _pdu(PduType.ASSOCIATE_AC, body)


def encode_reject(result: int, source: int, reason: int) -> bytes:
    """Write an A-ASSOCIATE-RJ (PS3.8 Table 9-21)."""
    return _pdu(PduType.ASSOCIATE_RJ, struct.pack(">xBBB", result, source, reason))


def encode_release_answer() -> bytes:
    """Write an A-RELEASE-RP (PS3.8 9.3.7)."""
    return _pdu(PduType.RELEASE_RP, bytes(4))


def encode_abort(reason: AbortReason) -> bytes:
    """Write an A-ABORT of the service provider (PS3.8 9.3.8)."""
    return _pdu(PduType.ABORT, struct.pack(">2xBB", 2, reason))


def encode_command(context_id: int, command: bytes, maximum_length: int) -> bytes:
    """Write a command set as P-DATA-TF PDUs of at most `maximum_length` bytes; 0: any length."""
    # Each PDU has one value: length (4 bytes), context, control header.
    room = max(maximum_length - 6, 1) if maximum_length else len(command)
    pdus = []
    for start in range(0, len(command), room):
        part = command[start : start + room]
        control = _IS_COMMAND | (_IS_LAST if start + room >= len(command) else 0)
        value = struct.pack(">LBB", len(part) + 2, context_id, control) + part
        pdus.append(_pdu(PduType.DATA_TF, value))
    return b"".join(pdus)


def data_values(body: memoryview) -> Iterator[DataValue]:
    """Give the presentation data values of a P-DATA-TF; their fragments are views.

    Raises
    ------
    ProtocolViolation
        A value has no control header or reaches beyond the PDU.
    """
    offset = 0
    while offset < len(body):
        if offset + 6 > len(body):
            raise _invalid("a presentation data value is too short")
        length, context_id, control = struct.unpack_from(">LBB", body, offset)
        end = offset + 4 + length
        if length < 2 or end > len(body):  # noqa: PLR2004 - context and control header
            raise _invalid("a presentation data value does not fit its PDU")
        yield DataValue(
            context_id,
            is_command=bool(control & _IS_COMMAND),
            is_last=bool(control & _IS_LAST),
            fragment=body[offset + 6 : end],
        )
        offset = end


@dataclass(frozen=True, slots=True)
class _UserInformation:
    maximum_length: int
    roles: Mapping[str, tuple[bool, bool]]
    identity: UserIdentity | None


def _context(content: memoryview) -> ProposedContext:
    if len(content) < 4:  # noqa: PLR2004 - context id and three reserved bytes
        raise _invalid("a presentation context is too short")
    abstract_syntax = ""
    transfer_syntaxes: list[str] = []
    for item_type, uid in _items(content[4:]):
        if item_type == _ABSTRACT_SYNTAX_ITEM:
            abstract_syntax = _uid(uid)
        elif item_type == _TRANSFER_SYNTAX_ITEM:
            transfer_syntaxes.append(_uid(uid))
    return ProposedContext(content[0], abstract_syntax, tuple(transfer_syntaxes))


def _user_information(content: memoryview) -> _UserInformation:
    maximum_length = 0
    roles: dict[str, tuple[bool, bool]] = {}
    identity: UserIdentity | None = None
    for item_type, value in _items(content):
        if item_type == _MAXIMUM_LENGTH_ITEM:
            if len(value) != 4:  # noqa: PLR2004 - PS3.8 Table D.1-1
                raise _invalid("the maximum length is none")
            maximum_length = struct.unpack(">L", value)[0]
        elif item_type == _ROLE_ITEM:
            uid, is_scu, is_scp = _role(value)
            roles[uid] = (is_scu, is_scp)
        elif item_type == _USER_IDENTITY_ITEM:
            identity = _identity(value)
    return _UserInformation(maximum_length, roles, identity)


def _role(value: memoryview) -> tuple[str, bool, bool]:
    length = struct.unpack_from(">H", value)[0] if len(value) > 1 else 0
    if len(value) != length + 4:
        raise _invalid("a role selection is malformed")
    return _uid(value[2 : 2 + length]), bool(value[-2]), bool(value[-1])


def _identity(value: memoryview) -> UserIdentity:
    if len(value) < 2:  # noqa: PLR2004 - type and the wish for an answer
        raise _invalid("a user identity is too short")
    return UserIdentity(value[0], bool(value[1]))


def _items(content: memoryview) -> Iterator[tuple[int, memoryview]]:
    """Give type and value of items in a row; unknown types are for the caller to ignore."""
    offset = 0
    while offset < len(content):
        if offset + _ITEM.size > len(content):
            raise _invalid("an item of the association request is cut off")
        item_type, length = _ITEM.unpack_from(content, offset)
        offset += _ITEM.size
        if offset + length > len(content):
            raise _invalid("an item of the association request is longer than its place")
        yield item_type, content[offset : offset + length]
        offset += length


def _uid(content: memoryview) -> str:
    return str(content, "latin-1").strip(" \x00")


def _ae_title(content: bytes) -> str:
    return content.decode("latin-1").strip(" ")


def _invalid(detail: str) -> ProtocolViolation:
    return ProtocolViolation(AbortReason.INVALID_PARAMETER, detail)


def _pdu(pdu_type: PduType, body: bytes) -> bytes:
    return struct.pack(">BxL", pdu_type, len(body)) + body


def _item(item_type: int, content: bytes) -> bytes:
    return _ITEM.pack(item_type, len(content)) + content


def _answer_item(answer: ContextAnswer) -> bytes:
    syntax = _item(_TRANSFER_SYNTAX_ITEM, answer.transfer_syntax.encode("latin-1"))
    head = struct.pack(">BxBx", answer.context_id, answer.result)
    return _item(_ANSWERED_CONTEXT_ITEM, head + syntax)


def _roles_to_answer(answers: Sequence[ContextAnswer]) -> list[ContextAnswer]:
    """Give one answer for each SOP class whose roles were negotiated."""
    by_class = {answer.abstract_syntax: answer for answer in answers if answer.roles is not None}
    return list(by_class.values())


def _role_item(answer: ContextAnswer) -> bytes:
    is_scu, is_scp = answer.roles or (False, False)
    uid = answer.abstract_syntax.encode("latin-1")
    return _item(_ROLE_ITEM, struct.pack(">H", len(uid)) + uid + bytes((is_scu, is_scp)))
