"""Preamble and file meta of the files we keep: ours, whatever the sender had.

Written by hand because it must be byte-exact for the same instance, take UIDs that are no UIDs
(UUID text), and cost nothing. References: DICOM PS3.10 7.1, Table 7.1-1.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import BinaryIO

from screener.version import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME

#: A preamble of zeros: it can hold no program (PS3.10 7.1).
PREAMBLE = bytes(128)
PREFIX = b"DICM"

#: Preamble, prefix and the element that says how long the rest of the file meta is.
HEAD_BYTES = len(PREAMBLE) + len(PREFIX) + 12
#: PS3.5 7.1.2: these have a 32-bit length.
_LONG_VRS = frozenset(b"OB OD OF OL OV OW SQ SV UC UN UR UT UV".split())

#: File meta is far smaller; anything larger is not ours.
_MAX_META_BYTES = 4096

_VERSION = 0x0001
_SOP_CLASS = 0x0002
_SOP_INSTANCE = 0x0003
_TRANSFER_SYNTAX = 0x0010
_IMPLEMENTATION_CLASS = 0x0012
_IMPLEMENTATION_VERSION = 0x0013
_SOURCE_AE_TITLE = 0x0016


@dataclass(frozen=True, slots=True)
class FileMeta:
    """What the file meta says of the data set behind it."""

    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str
    source_ae_title: str = ""


def encode_file_meta(meta: FileMeta) -> bytes:
    """Give preamble, prefix and file meta; the data set follows at once."""
    elements = [
        _VERSION_ELEMENT,
        _uid(_SOP_CLASS, meta.sop_class_uid),
        _uid(_SOP_INSTANCE, meta.sop_instance_uid),
        _uid(_TRANSFER_SYNTAX, meta.transfer_syntax_uid),
        _IMPLEMENTATION_ELEMENTS,
    ]
    if meta.source_ae_title:
        elements.append(_short(_SOURCE_AE_TITLE, b"AE", meta.source_ae_title, b" "))
    body = b"".join(elements)
    return PREAMBLE + PREFIX + struct.pack("<HH2sHI", 2, 0, b"UL", 4, len(body)) + body


def read_file_meta(stream: BinaryIO) -> FileMeta:
    """Read what `encode_file_meta` wrote and leave the stream at the data set.

    Raises
    ------
    ValueError
        The file does not begin as ours do.
    """
    head = stream.read(HEAD_BYTES)
    if head[128:132] != PREFIX or len(head) != HEAD_BYTES:
        raise ValueError("no DICOM file")
    length = struct.unpack_from("<I", head, 140)[0]
    if length > _MAX_META_BYTES:
        raise ValueError("file meta is not ours")
    body = stream.read(length)
    values = _values(body) if len(body) == length else {}
    try:
        return FileMeta(
            sop_class_uid=values[_SOP_CLASS],
            sop_instance_uid=values[_SOP_INSTANCE],
            transfer_syntax_uid=values[_TRANSFER_SYNTAX],
            source_ae_title=values.get(_SOURCE_AE_TITLE, ""),
        )
    except KeyError as error:
        raise ValueError("file meta is not ours") from error


def foreign_meta_length(head: bytes) -> int:
    """Say how many bytes preamble and file meta of another's file take, by its first 144.

    Raises
    ------
    ValueError
        The bytes are not the beginning of a Part 10 file.
    """
    is_begun = head[128:132] == PREFIX and head[132:140] == b"\x02\x00\x00\x00UL\x04\x00"
    if len(head) < HEAD_BYTES or not is_begun:
        raise ValueError("no DICOM file")
    return HEAD_BYTES + int(struct.unpack_from("<I", head, 140)[0])


def parse_foreign_meta(head: bytes) -> FileMeta:
    """Read the file meta of another's file (PS3.10 7.1), `foreign_meta_length` bytes of it.

    Raises
    ------
    ValueError
        It does not say what the data set behind it is.
    """
    values: dict[int, str] = {}
    offset = HEAD_BYTES
    try:
        while offset < len(head):
            group, number, vr, length = struct.unpack_from("<HH2sH", head, offset)
            offset += 8
            if vr in _LONG_VRS:
                (length,) = struct.unpack_from("<I", head, offset)
                offset += 4
            if group == 2 and vr == b"UI":  # noqa: PLR2004 - the group of file meta
                value = head[offset : offset + length]
                values[number] = value.decode("latin-1").strip(" \x00")
            offset += length
        return FileMeta(values[_SOP_CLASS], values[_SOP_INSTANCE], values[_TRANSFER_SYNTAX])
    except (struct.error, KeyError) as error:
        raise ValueError("the file meta cannot be read") from error


def _uid(number: int, uid: str) -> bytes:
    return _short(number, b"UI", uid, b"\x00")


def _short(number: int, vr: bytes, text: str, pad: bytes) -> bytes:
    value = text.encode("ascii", "replace")
    value += pad * (len(value) % 2)
    return struct.pack("<HH2sH", 2, number, vr, len(value)) + value


def _values(body: bytes) -> dict[int, str]:
    values: dict[int, str] = {}
    offset = 12 + 2  # the version element has the long form
    while offset + 8 <= len(body):
        number, length = struct.unpack_from("<2xH2xH", body, offset)
        values[number] = body[offset + 8 : offset + 8 + length].decode("ascii").strip(" \x00")
        offset += 8 + length
    return values


_VERSION_ELEMENT = struct.pack("<HH2sHI", 2, _VERSION, b"OB", 0, 2) + b"\x00\x01"
_IMPLEMENTATION_ELEMENTS = _uid(_IMPLEMENTATION_CLASS, IMPLEMENTATION_CLASS_UID) + _short(
    _IMPLEMENTATION_VERSION, b"SH", IMPLEMENTATION_VERSION_NAME, b" "
)
