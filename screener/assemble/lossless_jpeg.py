"""Decode plain lossless JPEG fast, and only where every bit of it is accounted for.

libjpeg-turbo decodes it in a third of GDCM's time and gives the same values, but it says nothing
about damage. So the bits that the decoded values take are counted and held against the bits that
the scan has: what does not add up, and whatever is not of the plainest kind, is left to GDCM, which
judges it as it always did. The only door to ``imagecodecs``.
"""

import re
from dataclasses import dataclass
from typing import Final

import numpy as np
from imagecodecs import jpeg8_decode
from numpy.typing import NDArray

#: Markers of ITU-T T.81 Table B.1 that a plain stream may have before its scan.
_SOI, _EOI = b"\xff\xd8", b"\xff\xd9"
_SOF3, _DHT, _SOS, _COM = 0xC3, 0xC4, 0xDA, 0xFE
_APPLICATION: Final = frozenset(range(0xE0, 0xF0))
_MARKER = re.compile(rb"\xff[^\x00]")
#: Predictor 1 (the value to the left), no second spectral bound, no point transform (H.1.2).
_FIRST_ORDER = b"\x01\x00\x00"
#: One component that is sampled once.
_SAMPLED_ONCE = 0x11
_LEAST_BITS, _MOST_BITS = 9, 16
#: Difference modulo 2^16 to its category: how many bits its magnitude takes (T.81 Table H.2).
_CATEGORIES: Final = np.minimum(
    np.frexp(np.abs(np.arange(1 << 16, dtype=np.uint16).view(np.int16).astype(np.float64)))[1], 16
).astype(np.uint8)
#: Bits that follow the code of a category; the last has a single member.
_BITS_THAT_FOLLOW: Final = np.array([*range(16), 0], dtype=np.uint8)
#: For a category without code: no whole scan can hold it.
_NO_CODE = 255
#: Where no code fits, decoders go 17 bits on and take category 0: with a code of at most so many
#: bits for that one, the count misses a byte and more.
_LONGEST_CODE_OF_0 = 9


@dataclass(frozen=True, slots=True)
class _Scan:
    """What is said before a scan, and where its data start."""

    start: int
    precision: int
    code_lengths: NDArray[np.uint8]  #: bits of the code of each category, 0 to 16


class _NotPlain(Exception):
    """The stream is of another kind, or cut off."""


def decode_plain(encoded: bytes, rows: int, columns: int) -> NDArray[np.uint16] | None:
    """Decode a frame of first-order lossless JPEG (Process 14, Selection Value 1).

    Parameters
    ----------
    encoded
        The code stream; zeros after its end are padding.
    rows, columns
        What the header says; a stream of another size is not decoded.

    Returns
    -------
    :
        Values as the stream has them, ``(rows, columns)``; None where another decoder has to judge:
        any other kind of JPEG, 8 bits and less, restart markers, or a scan of other length than its
        values take.

    References
    ----------
    ITU-T T.81 Annex H; DICOM PS3.5 10.2.
    """
    whole = encoded.rstrip(b"\0")
    try:
        scan = _read_to_scan(whole, rows, columns)
        if _MARKER.findall(whole, scan.start) != [_EOI] or not whole.endswith(_EOI):
            return None
        values: NDArray[np.uint16] = jpeg8_decode(whole)
    except (_NotPlain, RuntimeError, ValueError):
        return None
    return values if _is_whole(values, scan, whole[scan.start : -len(_EOI)]) else None


def _is_whole(values: NDArray[np.uint16], scan: _Scan, coded: bytes) -> bool:
    """Tell whether values are in range and take the bits of the scan, to the ones that fill up."""
    n_left = 8 * (len(coded) - coded.count(b"\xff\0")) - _bits_taken(values, scan)
    if not 0 <= n_left < 8 or int(values.max()) >> scan.precision:  # noqa: PLR2004  less than a byte
        return False
    filling = (1 << n_left) - 1
    last = coded[-2] if coded.endswith(b"\xff\0") else coded[-1]
    return last & filling == filling


def _bits_taken(values: NDArray[np.uint16], scan: _Scan) -> int:
    """Count the bits of a scan that holds these values."""
    differences = np.empty_like(values)
    np.subtract(values[:, 1:], values[:, :-1], out=differences[:, 1:])
    np.subtract(values[1:, 0], values[:-1, 0], out=differences[1:, 0])
    differences[0, 0] = (int(values[0, 0]) - (1 << (scan.precision - 1))) & 0xFFFF
    has_code = scan.code_lengths > 0
    bits = np.where(has_code, scan.code_lengths + _BITS_THAT_FOLLOW, _NO_CODE).astype(np.uint8)
    return int(bits[_CATEGORIES].take(differences).sum(dtype=np.uint64))


def _read_to_scan(encoded: bytes, rows: int, columns: int) -> _Scan:
    """Read the segments before the scan; refuse what a plain stream has not."""
    precision: int | None = None
    tables: dict[int, NDArray[np.uint8]] = {}
    if not encoded.startswith(_SOI):
        raise _NotPlain
    at = len(_SOI)
    while True:
        marker, body = _segment_at(encoded, at)
        at += 4 + len(body)
        if marker == _SOF3 and precision is None:
            precision = _read_frame_header(body, rows, columns)
        elif marker == _DHT:
            _read_tables(body, tables)
        elif marker == _SOS and precision is not None:
            return _Scan(at, precision, _table_of_scan(body, tables))
        elif marker != _COM and marker not in _APPLICATION:
            raise _NotPlain


def _segment_at(encoded: bytes, at: int) -> tuple[int, bytes]:
    """Give the marker at a place and what follows its length (T.81 B.1.1.4)."""
    length = int.from_bytes(encoded[at + 2 : at + 4], "big")
    body = encoded[at + 4 : at + 2 + length]
    if encoded[at : at + 1] != b"\xff" or length < 2 or len(body) != length - 2:  # noqa: PLR2004
        raise _NotPlain
    return encoded[at + 1], body


def _read_frame_header(body: bytes, rows: int, columns: int) -> int:
    """Give the precision of the one component in bits (T.81 B.2.2)."""
    expected = rows.to_bytes(2, "big") + columns.to_bytes(2, "big") + b"\x01"
    if len(body) != 9 or body[1:6] != expected or body[7] != _SAMPLED_ONCE:  # noqa: PLR2004
        raise _NotPlain
    if not _LEAST_BITS <= body[0] <= _MOST_BITS:
        raise _NotPlain
    return body[0]


def _read_tables(body: bytes, tables: dict[int, NDArray[np.uint8]]) -> None:
    """Add the Huffman tables of a segment: class and place to code lengths (T.81 B.2.4.2)."""
    while body:
        counts = body[1:17]
        categories = body[17 : 17 + sum(counts)]
        if len(categories) < sum(counts) or max(categories, default=17) > 16:  # noqa: PLR2004
            raise _NotPlain
        lengths = np.zeros(17, dtype=np.uint8)
        lengths[list(categories)] = np.repeat(np.arange(1, 17, dtype=np.uint8), list(counts))
        tables[body[0]] = lengths
        body = body[17 + len(categories) :]


def _table_of_scan(body: bytes, tables: dict[int, NDArray[np.uint8]]) -> NDArray[np.uint8]:
    """Give the table of a scan of one component (T.81 B.2.3)."""
    if len(body) != 6 or body[0] != 1 or body[3:] != _FIRST_ORDER:  # noqa: PLR2004
        raise _NotPlain
    table = tables.get(body[2] >> 4)
    if table is None or not 0 < table[0] <= _LONGEST_CODE_OF_0:
        raise _NotPlain
    return table
