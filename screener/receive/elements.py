"""Walk the elements of an encoded data set within fixed bounds.

Why not a DICOM library: at this door the question is "is this well-formed, and who is it?", and
the answer must cost the same for every input. A library reads a cut-off or random data set
without complaint, recurses with the nesting of the sender's choice, and puts values into its
warnings. Here values are skipped unread, nesting is a counter, and every byte that is looked at
counts against a budget. Little endian only: that is all we accept (`contexts.py`).

References: DICOM PS3.5 7.1 (elements), 7.5 (sequences), A.4 (encapsulated pixels).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO

if TYPE_CHECKING:
    from collections.abc import Iterator

UNDEFINED_LENGTH = 0xFFFFFFFF
#: Pixel Data (7FE0,0010), Float Pixel Data and Double Float Pixel Data end the walk.
PIXEL_DATA_TAGS = frozenset({0x7FE00008, 0x7FE00009, 0x7FE00010})

#: Sequences in sequences; real CT needs four.
MAX_DEPTH = 32
#: Fragments of encapsulated pixels; a slice needs one, a frame of a multi-frame one each.
MAX_FRAGMENTS = 65536

#: Groups 0000 (command) and 0002 (file meta) have no place in a data set (PS3.5 7.1).
_FIRST_DATA_SET_TAG = 0x00040000
_ITEM = 0xFFFEE000
_ITEM_END = 0xFFFEE00D
_SEQUENCE_END = 0xFFFEE0DD
#: PS3.5 7.1.2: these have a 16-bit length, all others a 32-bit one after two reserved bytes.
_SHORT_VRS = frozenset(b"AE AS AT CS DA DS DT FL FD IS LO LT PN SH SL SS ST TM UI UL US".split())


#: What a look at a few bytes costs of the budget: time goes by elements, not by bytes.
_LEAST_COST_BYTES = 64


class MalformedDataSet(ValueError):
    """The bytes are no data set, or one that costs too much to look through."""


class TooDeeplyNested(MalformedDataSet):
    """Sequences in sequences beyond anything honest: a parser that recurses would break."""


class FragmentFault(ValueError):
    """Encapsulated pixels are no list of fragments with an end (PS3.5 A.4)."""


@dataclass(frozen=True, slots=True)
class Element:
    """One element of the outermost level."""

    tag: int  #: group and element as 0xggggeeee
    vr: bytes  #: two letters; empty where the encoding does not say
    length: int  #: bytes, or `UNDEFINED_LENGTH` for encapsulated pixels
    offset: int  #: of its value, from the start of the stream


class ElementReader:
    """Reads elements of one data set in order.

    Parameters
    ----------
    stream
        At the first byte of the data set; seekable.
    n_bytes
        Length of the data set.
    is_explicit
        Explicit VR Little Endian, or any encapsulated syntax.
    budget_bytes
        Most bytes that may be looked at; skipped values are free.
    """

    def __init__(
        self, stream: BinaryIO, n_bytes: int, *, is_explicit: bool, budget_bytes: int
    ) -> None:
        self._stream = stream
        self._is_explicit = is_explicit
        self._budget_bytes = budget_bytes
        self._position = stream.tell()
        self._end = self._position + n_bytes

    @property
    def end(self) -> int:
        """Offset of the first byte after the data set."""
        return self._end

    def elements(self) -> Iterator[Element]:
        """Give the outermost elements in order, up to and with the pixel data.

        Raises
        ------
        MalformedDataSet
            An element reaches beyond the end, has no VR, is nested too deeply, or the budget is
            used up.
        """
        while self._position < self._end:
            element = self._element_header(is_explicit=self._is_explicit)
            if element.tag < _FIRST_DATA_SET_TAG:
                raise MalformedDataSet("command or file meta elements within the data set")
            yield element
            if element.tag in PIXEL_DATA_TAGS:
                return
            if element.length == UNDEFINED_LENGTH:
                self._position = element.offset
                self._skip_sequence(is_explicit=self._is_explicit and element.vr != b"UN")
            else:
                self._position = element.offset + element.length

    def value(self, element: Element, max_bytes: int) -> bytes:
        """Read the first `max_bytes` of a value that has a length."""
        return self._read_at(element.offset, min(element.length, max_bytes))

    def check_fragments(self, pixels: Element) -> None:
        """Walk the fragments of encapsulated pixels; their bytes are skipped unread.

        Raises
        ------
        FragmentFault
            One reaches beyond the end, the delimiter is missing, or there are too many.
        """
        position = pixels.offset
        for _ in range(MAX_FRAGMENTS):
            if position + 8 > self._end:
                raise FragmentFault("the fragments have no end")
            self._stream.seek(position)
            group, number, length = struct.unpack("<HHL", self._stream.read(8))
            tag = group << 16 | number
            if tag == _SEQUENCE_END:
                return
            if tag != _ITEM or length == UNDEFINED_LENGTH:
                raise FragmentFault("a fragment is no item with a length")
            position += 8 + length
        raise FragmentFault("there are too many fragments")

    def _element_header(self, *, is_explicit: bool) -> Element:
        start = self._position
        head = self._read_at(start, 8)
        group, number = struct.unpack_from("<HH", head)
        tag = group << 16 | number
        if not is_explicit or group == 0xFFFE:  # noqa: PLR2004 - items have no VR, PS3.5 7.5
            return self._checked(tag, b"", struct.unpack_from("<I", head, 4)[0], start + 8)
        vr = head[4:6]
        if vr in _SHORT_VRS:
            return self._checked(tag, vr, struct.unpack_from("<H", head, 6)[0], start + 8)
        if not (vr.isalpha() and vr.isupper()):
            raise MalformedDataSet("an element has no value representation")
        long_length = struct.unpack("<I", self._read_at(start + 8, 4))[0]
        return self._checked(tag, vr, long_length, start + 12)

    def _checked(self, tag: int, vr: bytes, length: int, offset: int) -> Element:
        if (
            length != UNDEFINED_LENGTH
            and offset + length > self._end
            and (
                tag not in PIXEL_DATA_TAGS  # cut-off pixels can still be attributed
            )
        ):
            raise MalformedDataSet("an element reaches beyond the end of the data set")
        return Element(tag, vr, length, offset)

    def _skip_sequence(self, *, is_explicit: bool) -> None:
        """Go to the end of a value of undefined length, without recursion."""
        # Each level is (delimiter that ends it, explicit VR inside).
        levels = [(_SEQUENCE_END, is_explicit)]
        while levels:
            delimiter, level_is_explicit = levels[-1]
            element = self._element_header(is_explicit=level_is_explicit)
            self._position = element.offset
            if element.tag == delimiter:
                levels.pop()
            elif element.length != UNDEFINED_LENGTH:
                self._position += element.length
            elif element.tag == _ITEM:
                levels.append((_ITEM_END, level_is_explicit))
            else:
                levels.append((_SEQUENCE_END, level_is_explicit and element.vr != b"UN"))
            if len(levels) > 2 * MAX_DEPTH:
                raise TooDeeplyNested("sequences are nested too deeply")

    def _read_at(self, offset: int, n_bytes: int) -> bytes:
        self._budget_bytes -= max(n_bytes, _LEAST_COST_BYTES)
        if self._budget_bytes < 0:
            raise MalformedDataSet("the header is too large")
        if offset + n_bytes > self._end:
            raise MalformedDataSet("the data set ends within an element")
        self._stream.seek(offset)
        content = self._stream.read(n_bytes)
        if len(content) != n_bytes:
            raise MalformedDataSet("the data set is shorter than announced")
        return content
