"""Open a DICOM file within bounds; with `plain_header` the only place here that parses bytes.

Accepts Part 10 files, files without preamble, and bare data sets. Never trusts a length, never
inflates without a limit, and translates whatever the parser throws into ``UnreadableFile``.
Pixel data are not touched: their place in the stream is noted, so that a decoder reads one frame.
"""

import io
import struct
import warnings
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from pydicom import config as pydicom_config
from pydicom.datadict import tag_for_keyword
from pydicom.dataset import Dataset
from pydicom.errors import BytesLengthException, InvalidDicomError
from pydicom.filereader import read_dataset
from pydicom.tag import BaseTag
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from screener.assemble.plain_header import FIRST_PIXEL_TAG, PlainHeader, PlainHeaders
from screener.digest import digest_rest
from screener.errors import Permanent

# A UID of letters or a birth date "1970" is worth a defect in the report. It is not worth a
# warning of the library, whose text would carry the value into the log.
pydicom_config.settings.reading_validation_mode = pydicom_config.IGNORE

#: Everything the parser is known to raise on hostile bytes; OSError stands for a missing tag.
PARSE_ERRORS = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    BytesLengthException,
    EOFError,
    InvalidDicomError,
    LookupError,
    NotImplementedError,
    OSError,
    RecursionError,
    TypeError,
    ValueError,
    struct.error,
    zlib.error,
)
#: Largest file that is opened, bytes; an Enhanced CT of 4,000 frames of 512 x 512 fits.
MAX_FILE_BYTES = 2 << 30
#: Largest inflated data set, bytes. One megabyte can inflate to a gigabyte.
MAX_INFLATED_BYTES = 512 << 20

_PREAMBLE_BYTES = 128
_MAGIC = b"DICM"
#: Largest File Meta Information that is read, bytes; real ones have a few hundred.
_MAX_META_BYTES = 1 << 16
_META_GROUP = 0x0002
_TRANSFER_SYNTAX_ELEMENT = 0x0010
#: PS3.5 7.1.2: these value representations have a 32-bit length.
_LONG_VRS = frozenset({b"OB", b"OW", b"OF", b"OD", b"OL", b"OV", b"SQ", b"UC", b"UR", b"UT", b"UN"})
#: Bare data sets start with the identifying group.
_FIRST_DATA_GROUP = 0x0008
_PIXEL_DATA_TAG = 0x7FE00010
_NOT_EXPLICIT_LITTLE = frozenset({ImplicitVRLittleEndian, ExplicitVRBigEndian})
_UNDEFINED_LENGTH = 0xFFFFFFFF


class UnreadableFile(Permanent):
    """A file is no DICOM data set that can be parsed; the text never repeats its contents."""


@dataclass(frozen=True, slots=True)
class PixelPlace:
    """Where the value of Pixel Data (7FE0,0010) lies in the data stream."""

    offset_bytes: int
    length_bytes: int | None  #: None for undefined length (encapsulated)


@dataclass(frozen=True, slots=True)
class Part10Header:
    """The header of one file, without pixels."""

    transfer_syntax_uid: str
    dataset: Dataset | PlainHeader
    pixel_place: PixelPlace | None  #: None when there is no Pixel Data element


def read_part10_header(
    path: Path, keywords: Sequence[str] | None = None, plain: PlainHeaders | None = None
) -> Part10Header:
    """Parse the data set of a file up to its pixels.

    Parameters
    ----------
    path
        A DICOM file with or without preamble.
    keywords
        The attributes wanted, all if None.
    plain
        Reads the headers that are plain; made for the same attributes.

    Raises
    ------
    UnreadableFile
        Not DICOM, cut off, too large, or nested too deeply.
    """
    try:
        with open_data_set(path) as (stream, transfer_syntax_uid):
            if plain is not None and transfer_syntax_uid not in _NOT_EXPLICIT_LITTLE:
                with quiet_parser():
                    header = plain.read(stream)
                if header is not None:
                    place = _pixel_place(stream, is_implicit=False, is_little=True)
                    return Part10Header(transfer_syntax_uid, header, place)
            return _parse(stream, transfer_syntax_uid, keywords)
    except OSError as error:
        raise UnreadableFile(f"cannot be read: {error.strerror}") from error


@contextmanager
def open_data_set(path: Path) -> Iterator[tuple[BinaryIO, str]]:
    """Open the data set of a file: gives ``(stream at its start, transfer syntax UID)``.

    A deflated data set is inflated into memory, within ``MAX_INFLATED_BYTES``; offsets into it
    count from its start, offsets into any other from the start of the file.

    Raises
    ------
    UnreadableFile
        Not DICOM or too large.
    OSError
        The file cannot be read.
    """
    with path.open("rb") as stream:
        yield _position(stream)


@contextmanager
def quiet_parser() -> Iterator[None]:
    """Keep the library's warnings quiet: they repeat values. What matters becomes a defect."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def digest_data_set(path: Path) -> str:
    """Give the content digest of a file: of the encoded data set, the bytes after the file meta.

    Raises
    ------
    UnreadableFile
        Not DICOM or too large.
    OSError
        The file cannot be read.
    """
    with path.open("rb") as stream:
        offset, _ = _find_data_set(stream)
        stream.seek(offset)
        return digest_rest(stream)


def _position(stream: BinaryIO) -> tuple[BinaryIO, str]:
    n_bytes = stream.seek(0, io.SEEK_END)
    if n_bytes > MAX_FILE_BYTES:
        raise UnreadableFile(f"{n_bytes} bytes are more than the {MAX_FILE_BYTES} allowed")
    stream.seek(0)
    offset, transfer_syntax_uid = _find_data_set(stream)
    stream.seek(offset)
    if transfer_syntax_uid == DeflatedExplicitVRLittleEndian:
        return _inflate(stream), transfer_syntax_uid
    return stream, transfer_syntax_uid


def _find_data_set(stream: BinaryIO) -> tuple[int, str]:
    """Give the offset of the data set and its transfer syntax, from the meta or by its looks."""
    head = stream.read(_PREAMBLE_BYTES + len(_MAGIC))
    has_preamble = head[_PREAMBLE_BYTES:] == _MAGIC
    start = len(head) if has_preamble else 0
    stream.seek(start)
    meta = stream.read(_MAX_META_BYTES)
    try:
        end, transfer_syntax_uid = _walk_meta(meta)
    except struct.error as error:
        raise UnreadableFile("the file ends within its meta information") from error
    if end == 0 and not has_preamble and not _looks_like_data_set(meta):
        raise UnreadableFile("not a DICOM file")
    if transfer_syntax_uid is None:
        transfer_syntax_uid = _guess_transfer_syntax(meta[end : end + 6])
    return start + end, transfer_syntax_uid


def _walk_meta(meta: bytes) -> tuple[int, str | None]:
    """Walk group 0002, always Explicit VR Little Endian (PS3.10 7.1)."""
    at = 0
    transfer_syntax_uid = None
    while len(meta) - at >= 8 and meta[at : at + 2] == b"\x02\x00":  # noqa: PLR2004  tag, VR, length
        element, vr, length = struct.unpack_from("<H2sH", meta, at + 2)
        value_at = at + 8
        if vr in _LONG_VRS:
            (length,) = struct.unpack_from("<I", meta, at + 8)
            value_at = at + 12
        if value_at + length > len(meta):
            raise UnreadableFile("the meta information is cut off or too long")
        if element == _TRANSFER_SYNTAX_ELEMENT:
            value = meta[value_at : value_at + length]
            transfer_syntax_uid = value.decode("ascii", "replace").strip("\0 ")
        at = value_at + length
    return at, transfer_syntax_uid


def _looks_like_data_set(head: bytes) -> bool:
    """Tell a bare data set: group 0008 first, then a VR or a length that fits (PS3.5 7.1)."""
    if len(head) < 8 or struct.unpack_from("<H", head)[0] != _FIRST_DATA_GROUP:  # noqa: PLR2004
        return False
    (length,) = struct.unpack_from("<I", head, 4)
    return _is_vr(head[4:6]) or length < len(head)


def _guess_transfer_syntax(head: bytes) -> str:
    return str(ExplicitVRLittleEndian if _is_vr(head[4:6]) else ImplicitVRLittleEndian)


def _is_vr(code: bytes) -> bool:
    return len(code) == 2 and code.isalpha() and code.isupper()  # noqa: PLR2004


def _inflate(stream: BinaryIO) -> BinaryIO:
    """Inflate a deflated data set (PS3.5 A.5) within bounds."""
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        inflated = inflater.decompress(stream.read(), MAX_INFLATED_BYTES)
    except zlib.error as error:
        raise UnreadableFile("the deflated data set is damaged") from error
    if inflater.unconsumed_tail:
        raise UnreadableFile(f"the data set inflates to more than {MAX_INFLATED_BYTES} bytes")
    return io.BytesIO(inflated)


def _parse(
    stream: BinaryIO, transfer_syntax_uid: str, keywords: Sequence[str] | None
) -> Part10Header:
    is_implicit = transfer_syntax_uid == ImplicitVRLittleEndian
    is_little = transfer_syntax_uid != ExplicitVRBigEndian
    try:
        with quiet_parser():
            dataset = read_dataset(
                stream,
                is_implicit,
                is_little,
                stop_when=_is_pixel_tag,
                specific_tags=None if keywords is None else _tags(keywords),
            )
    except PARSE_ERRORS as error:
        raise UnreadableFile(f"cannot be parsed ({type(error).__name__})") from error
    if not dataset:
        raise UnreadableFile("no data element can be read")
    # The parser finds out when the data set is not encoded as its transfer syntax says.
    is_implicit = bool(dataset.original_encoding[0])
    return Part10Header(
        transfer_syntax_uid,
        dataset,
        _pixel_place(stream, is_implicit=is_implicit, is_little=is_little),
    )


def _tags(keywords: Sequence[str]) -> list[BaseTag | int]:
    tags = [tag_for_keyword(keyword) for keyword in keywords]
    return [BaseTag(tag) for tag in tags if tag is not None]


def _is_pixel_tag(tag: BaseTag, _vr: str | None, _length: int) -> bool:
    return int(tag) >= FIRST_PIXEL_TAG


def _pixel_place(stream: BinaryIO, *, is_implicit: bool, is_little: bool) -> PixelPlace | None:
    """Find Pixel Data from where the parser stopped; Extended Offset Tables come before it."""
    order = "<" if is_little else ">"
    while len(head := stream.read(8)) == 8:  # noqa: PLR2004  tag, VR, length
        group, element = struct.unpack_from(order + "HH", head)
        if is_implicit:
            (length,) = struct.unpack_from(order + "I", head, 4)
        elif head[4:6] in _LONG_VRS:
            wide = stream.read(4)
            if len(wide) < 4:  # noqa: PLR2004
                return None
            (length,) = struct.unpack(order + "I", wide)
        else:
            (length,) = struct.unpack_from(order + "H", head, 6)
        if group << 16 | element == _PIXEL_DATA_TAG:
            return PixelPlace(stream.tell(), None if length == _UNDEFINED_LENGTH else length)
        if length == _UNDEFINED_LENGTH or group << 16 | element > _PIXEL_DATA_TAG:
            return None
        stream.seek(length, io.SEEK_CUR)
    return None
