"""Read the wanted attributes of plain headers: explicit VR, little endian, no sequence among them.

The slices of a series repeat nearly all that their headers say. Here what is not wanted is stepped
over, and a value that was met before is not converted again: a quarter of the time that pydicom
takes. pydicom still converts each value, and reads every header that has anything unusual.
"""

import struct
from collections.abc import Sequence
from typing import Any, BinaryIO, Final

from pydicom.charset import convert_encodings, default_encoding
from pydicom.datadict import tag_for_keyword
from pydicom.dataelem import DataElement, RawDataElement, convert_raw_data_element
from pydicom.tag import BaseTag

#: Float Pixel Data (7FE0,0008) and everything after it is not header.
FIRST_PIXEL_TAG = 0x7FE00008
#: Longest header that is read here, bytes.
_MOST_BYTES = 1 << 16
#: Value representations with a 16-bit length whose values mean the same in any data set.
_SHORT_VRS: Final = frozenset(
    b"AE AS AT CS DA DS DT FD FL IS LO LT PN SH SL SS ST TM UI UL US".split()
)
#: With a 32-bit length; none of them is ever wanted.
_LONG_VRS: Final = frozenset(b"OB OD OF OL OV OW SQ UC UN UR UT".split())
_UNDEFINED_LENGTH = 0xFFFFFFFF
_CHARACTER_SET_TAG = 0x00080005
_ITEM, _END_OF_ITEM, _END_OF_SEQUENCE = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
#: Sequences within each other that are stepped over.
_DEEPEST = 8

_Raw = tuple[bytes, bytes]  # VR and value
_Converted = dict[tuple[int, _Raw, str], DataElement]  # the text names the character sets


class _Unusual(Exception):
    """Something that is left to pydicom."""


class PlainHeader:
    """Attributes of one header, read as those of pydicom's ``Dataset`` are."""

    __slots__ = ("_character_sets", "_converted", "_raw", "_sets_name")

    def __init__(self, raw: dict[int, _Raw], converted: _Converted) -> None:
        self._raw = raw
        self._converted = converted
        self._character_sets: str | list[str] = default_encoding
        if _CHARACTER_SET_TAG in raw:
            self._character_sets = convert_encodings(self["SpecificCharacterSet"].value)
        self._sets_name = str(self._character_sets)

    def __contains__(self, keyword: str) -> bool:
        return tag_for_keyword(keyword) in self._raw

    def __getitem__(self, keyword: str) -> DataElement:
        """Give an attribute; what pydicom raises on its bytes passes through."""
        tag = tag_for_keyword(keyword)
        raw = None if tag is None else self._raw.get(tag)
        if tag is None or raw is None:
            raise KeyError(keyword)
        is_set = tag == _CHARACTER_SET_TAG
        element = self._converted.get(known := (tag, raw, "" if is_set else self._sets_name))
        if element is None:
            encodings = default_encoding if is_set else self._character_sets
            element = self._converted[known] = _convert(tag, *raw, encodings)
        return element

    def get(self, keyword: str) -> Any:
        """Give a value, None when absent."""
        return self[keyword].value if keyword in self else None


def _convert(tag: int, vr: bytes, value: bytes, encodings: str | list[str]) -> DataElement:
    raw = RawDataElement(BaseTag(tag), vr.decode(), len(value), value, 0, False, True)
    return convert_raw_data_element(raw, encoding=encodings)


class PlainHeaders:
    """Reads the headers of one study; what it has converted goes with it.

    Parameters
    ----------
    keywords
        The attributes wanted.
    """

    def __init__(self, keywords: Sequence[str]) -> None:
        tags = (tag_for_keyword(keyword) for keyword in keywords)
        self._wanted = frozenset(tag for tag in tags if tag is not None) | {_CHARACTER_SET_TAG}
        self._converted: _Converted = {}

    def read(self, stream: BinaryIO) -> PlainHeader | None:
        """Read a header in explicit VR little endian from where the stream stands.

        Returns
        -------
        :
            The header, the stream before the first attribute of group 7FE0; or None for a header
            that is not plain, the stream where it stood.
        """
        start = stream.tell()
        try:
            raw, length = _walk(stream.read(_MOST_BYTES), self._wanted)
            header = PlainHeader(raw, self._converted)
        except (_Unusual, struct.error, LookupError, ValueError, TypeError, AttributeError):
            stream.seek(start)
            return None
        stream.seek(start + length)
        return header


def _walk(head: bytes, wanted: frozenset[int]) -> tuple[dict[int, _Raw], int]:
    """Give the wanted attributes and where those of the pixels start."""
    found: dict[int, _Raw] = {}
    at = 0
    while True:
        tag, vr, value_at, length = _attribute_at(head, at)
        if tag >= FIRST_PIXEL_TAG:
            break
        if tag in wanted:
            if vr not in _SHORT_VRS:
                raise _Unusual
            found[tag] = vr, head[value_at : value_at + length]
        at = _after(head, vr, value_at, length, 0)
    if not found:
        raise _Unusual
    return found, at


def _attribute_at(head: bytes, at: int) -> tuple[int, bytes, int, int]:
    """Give tag, VR, where the value starts, and its length (PS3.5 7.1.2)."""
    group, element, vr, length = struct.unpack_from("<HH2sH", head, at)
    if vr in _SHORT_VRS:
        return group << 16 | element, vr, at + 8, length
    if vr not in _LONG_VRS:
        raise _Unusual
    (length,) = struct.unpack_from("<I", head, at + 8)
    return group << 16 | element, vr, at + 12, length


def _after(head: bytes, vr: bytes, at: int, length: int, depth: int) -> int:
    """Give where the attribute after a value starts."""
    if length != _UNDEFINED_LENGTH:
        return at + length
    if vr != b"SQ" or depth == _DEEPEST:
        raise _Unusual
    while True:
        tag, length = _delimiter_at(head, at)
        at += 8
        if tag == _END_OF_SEQUENCE:
            return at
        if tag != _ITEM:
            raise _Unusual
        at = at + length if length != _UNDEFINED_LENGTH else _after_item(head, at, depth + 1)


def _after_item(head: bytes, at: int, depth: int) -> int:
    """Give where an item of undefined length ends (PS3.5 7.5.2)."""
    while _delimiter_at(head, at)[0] != _END_OF_ITEM:
        _, vr, value_at, length = _attribute_at(head, at)
        at = _after(head, vr, value_at, length, depth)
    return at + 8


def _delimiter_at(head: bytes, at: int) -> tuple[int, int]:
    group, element, length = struct.unpack_from("<HHI", head, at)
    return group << 16 | element, length
