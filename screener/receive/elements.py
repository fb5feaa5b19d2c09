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
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterator

#: Gives up to so many bytes from an offset into the data set: ``read_at(offset, n_bytes)``.
ReadAt: TypeAlias = Callable[[int, int], bytes]

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
_DELIMITER_BYTES = 8
#: PS3.5 7.1.2: these have a 16-bit length, all others a 32-bit one after two reserved bytes.
_SHORT_VRS = frozenset(b"AE AS AT CS DA DS DT FL FD IS LO LT PN SH SL SS ST TM UI UL US".split())


#: What a look costs of the budget beside its bytes: time goes by elements.
_LEAST_COST_BYTES = 64
#: Bytes that are read at once; a usual header is one read.
_WINDOW_BYTES = 32 * 1024

#: Group, element, VR, 16-bit length.
_SHORT_FORM = struct.Struct("<HH2sH")
_LONG_LENGTH = struct.Struct("<I")


class MalformedDataSet(ValueError):
    """The bytes are no data set, or one that costs too much to look through."""


class TooDeeplyNested(MalformedDataSet):
    """Sequences in sequences beyond anything honest: a parser that recurses would break."""


class FragmentFault(ValueError):
    """Encapsulated pixels are no list of fragments with an end (PS3.5 A.4)."""


class Element(NamedTuple):
    """One element of the outermost level."""

    tag: int  #: group and element as 0xggggeeee
    vr: bytes  #: two letters; empty where the encoding does not say
    length: int  #: bytes, or `UNDEFINED_LENGTH` for encapsulated pixels
    offset: int  #: of its value, from the start of the data set


class ElementReader:
    """Reads elements of one data set in order.

    Parameters
    ----------
    read_at
        Reads the data set.
    n_bytes
        Length of the data set.
    is_explicit
        Explicit VR Little Endian, or any encapsulated syntax.
    budget_bytes
        Most bytes that may be looked at; skipped values are free.
    """

    def __init__(
        self, read_at: ReadAt, n_bytes: int, *, is_explicit: bool, budget_bytes: int
    ) -> None:
        self._read_at = read_at
        self._is_explicit = is_explicit
        self._budget_bytes = budget_bytes
        self._position = 0
        self._end = n_bytes
        self._window = b""
        self._window_start = 0

    @property
    def end(self) -> int:
        """Length of the data set."""
        return self._end

    def elements(self) -> Iterator[Element]:
        """Give the outermost elements in order, up to and with the pixel data.

        Raises
        ------
        MalformedDataSet
            An element reaches beyond the end, has no VR, is nested too deeply, or the budget is
            used up.
        """
        is_explicit = self._is_explicit
        while self._position < self._end:
            element = self._element_header(is_explicit=is_explicit)
            tag, vr, length, offset = element
            if tag < _FIRST_DATA_SET_TAG:
                raise MalformedDataSet("command or file meta elements within the data set")
            yield element
            if tag in PIXEL_DATA_TAGS:
                return
            if length == UNDEFINED_LENGTH:
                self._position = offset
                self._skip_to(_SEQUENCE_END, is_explicit=is_explicit and vr != b"UN")
            else:
                self._position = offset + length

    def value(self, element: Element, max_bytes: int) -> bytes:
        """Read the first `max_bytes` of a value that has a length."""
        n_bytes = min(element.length, max_bytes)
        at = self._look(element.offset, n_bytes)
        return self._window[at : at + n_bytes]

    def items(self, sequence: Element) -> Iterator[ElementReader]:
        """Give a reader for each item of a sequence that `elements` just gave.

        Raises
        ------
        MalformedDataSet
            As `elements`, or something stands between the items.
        """
        is_undefined = sequence.length == UNDEFINED_LENGTH
        end = self._end if is_undefined else sequence.offset + sequence.length
        is_explicit = self._is_explicit and sequence.vr != b"UN"
        start = sequence.offset
        while start < end:
            self._position = start
            item = self._element_header(is_explicit=is_explicit)
            if item.tag == _SEQUENCE_END and is_undefined:
                return
            if item.tag != _ITEM:
                raise MalformedDataSet("a sequence holds what is no item")
            n_bytes, start = item.length, item.offset + item.length
            if n_bytes == UNDEFINED_LENGTH:
                self._position = item.offset
                self._skip_to(_ITEM_END, is_explicit=is_explicit)
                n_bytes, start = self._position - _DELIMITER_BYTES - item.offset, self._position
            yield self._within(item.offset, n_bytes, is_explicit=is_explicit)

    def _within(self, start: int, n_bytes: int, *, is_explicit: bool) -> ElementReader:
        return ElementReader(
            lambda offset, wanted: self._read_at(start + offset, wanted),
            n_bytes,
            is_explicit=is_explicit,
            budget_bytes=self._budget_bytes,
        )

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
            group, number, length = struct.unpack("<HHL", self._read_at(position, 8))
            tag = group << 16 | number
            if tag == _SEQUENCE_END:
                return
            if tag != _ITEM or length == UNDEFINED_LENGTH:
                raise FragmentFault("a fragment is no item with a length")
            position += 8 + length
        raise FragmentFault("there are too many fragments")

    def _element_header(self, *, is_explicit: bool) -> Element:
        # Some hundred of these stand in a header while its sender waits: one look, one unpacking.
        start = self._position
        at = self._look(start, 8)
        group, number, vr, length = _SHORT_FORM.unpack_from(self._window, at)
        offset = start + 8
        if not is_explicit or group == 0xFFFE:  # noqa: PLR2004 - items have no VR, PS3.5 7.5
            vr = b""
            (length,) = _LONG_LENGTH.unpack_from(self._window, at + 4)
        elif vr not in _SHORT_VRS:
            if not (vr.isalpha() and vr.isupper()):
                raise MalformedDataSet("an element has no value representation")
            at = self._look(offset, 4)
            (length,) = _LONG_LENGTH.unpack_from(self._window, at)
            offset += 4
        tag = group << 16 | number
        if (
            offset + length > self._end
            and length != UNDEFINED_LENGTH
            and tag not in PIXEL_DATA_TAGS  # cut-off pixels can still be attributed
        ):
            raise MalformedDataSet("an element reaches beyond the end of the data set")
        return Element(tag, vr, length, offset)

    def _skip_to(self, end: int, *, is_explicit: bool) -> None:
        """Go behind the delimiter that ends a value of undefined length, without recursion."""
        # Each level is (delimiter that ends it, explicit VR inside).
        levels = [(end, is_explicit)]
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

    def _look(self, offset: int, n_bytes: int) -> int:
        """Have bytes of the data set in the window; gives where in it they begin."""
        self._budget_bytes -= _LEAST_COST_BYTES + n_bytes
        if self._budget_bytes < 0:
            raise MalformedDataSet("the header is too large")
        if offset + n_bytes > self._end:
            raise MalformedDataSet("the data set ends within an element")
        at = offset - self._window_start
        if at >= 0 and at + n_bytes <= len(self._window):
            return at
        wanted = min(max(n_bytes, _WINDOW_BYTES), self._end - offset)
        self._window, self._window_start = self._read_at(offset, wanted), offset
        if len(self._window) < n_bytes:
            raise MalformedDataSet("the data set is shorter than announced")
        return 0
