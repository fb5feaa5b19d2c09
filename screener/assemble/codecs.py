"""Decode one compressed frame of one sample per pixel into stored values.

CharLS for JPEG-LS, OpenJPEG for JPEG 2000 and HTJ2K, GDCM for JPEG and RLE: called directly, so
that one decoder per syntax is fixed, nothing is re-interpreted on the way, and no library warning
can fire in a thread. Plain lossless JPEG, which most chest CT comes in, is decoded faster by
libjpeg-turbo; GDCM has whatever is not plain.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

import gdcm
import jpeg_ls
import numpy as np
from numpy.typing import NDArray
from openjpeg.utils import decode_pixel_data, get_parameters
from pydicom.uid import (
    HTJ2K,
    JPEG2000,
    HTJ2KLossless,
    HTJ2KLosslessRPCL,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
)

from screener.assemble.lossless_jpeg import decode_plain
from screener.assemble.part10 import PARSE_ERRORS
from screener.errors import UnreadablePixels

# GDCM writes its complaints to the terminal; we raise ours.
gdcm.Trace.WarningOff()
gdcm.Trace.ErrorOff()

#: Decoded values, little-endian.
_Bytes = bytes | bytearray | memoryview

#: Retired in 2001 (PS3.5), never negotiated, but old archives hold them.
_JPEG_SPECTRAL_SELECTION = "1.2.840.10008.1.2.4.53"
_JPEG_FULL_PROGRESSION = "1.2.840.10008.1.2.4.55"


@dataclass(frozen=True, slots=True)
class CellFormat:
    """What the header says about the stored cells."""

    rows: int
    columns: int
    bits_allocated: int
    bits_stored: int
    is_signed: bool


def decode_frame(
    encoded: bytes, cell_format: CellFormat, transfer_syntax_uid: str
) -> NDArray[np.integer]:
    """Decode one frame.

    Parameters
    ----------
    encoded
        The code stream.
    cell_format
        Matrix and bits as in the header.
    transfer_syntax_uid
        One of ``COMPRESSED_TRANSFER_SYNTAX_UIDS``.

    Returns
    -------
    :
        Stored values with their sign, shape ``(rows, columns)``.

    Raises
    ------
    UnreadablePixels
        The code stream is damaged, or is of another size than the header says.
    """
    try:
        decoded, precision = _DECODERS[transfer_syntax_uid](
            encoded, cell_format, transfer_syntax_uid
        )
    except (RuntimeError, MemoryError, SystemError, *PARSE_ERRORS) as error:
        raise UnreadablePixels(
            f"a frame in transfer syntax {transfer_syntax_uid} cannot be decoded "
            f"({type(error).__name__})"
        ) from error
    n_pixels = cell_format.rows * cell_format.columns
    n_bytes, remainder = divmod(len(decoded), n_pixels)
    if remainder or n_bytes not in {1, 2}:
        raise UnreadablePixels(
            f"a frame decodes to {len(decoded)} bytes, not to {cell_format.rows} rows of "
            f"{cell_format.columns}"
        )
    cells = np.frombuffer(decoded, dtype=f"<u{n_bytes}")
    return to_stored(
        cells.reshape(cell_format.rows, cell_format.columns),
        bits_stored=precision,
        is_signed=cell_format.is_signed,
    )


def to_stored(
    cells: NDArray[np.integer], *, bits_stored: int, is_signed: bool
) -> NDArray[np.integer]:
    """Interpret pixel cells: the bits above Bits Stored are dropped, or repeat the sign.

    Parameters
    ----------
    cells
        Unsigned cells of 8 or 16 bits.
    bits_stored
        How many of the low bits are the value.
    is_signed
        Pixel Representation (0028,0103): two's complement.

    References
    ----------
    DICOM PS3.5 8.1.1: what the unused bits hold is not defined.
    """
    unused = cells.dtype.itemsize * 8 - bits_stored
    native: NDArray[np.integer] = cells.astype(cells.dtype.newbyteorder("="), copy=False)
    if is_signed:
        native = native.view(np.dtype(f"i{cells.dtype.itemsize}"))
    if unused > 0:
        native = np.right_shift(np.left_shift(native, unused), unused)
    return native


def _decode_jpeg_ls(
    encoded: bytes, cell_format: CellFormat, _transfer_syntax_uid: str
) -> tuple[_Bytes, int]:
    decoded, info = jpeg_ls.decode_buffer(encoded)
    _check_matrix(info["height"], info["width"], cell_format)
    return decoded, int(info["bits_per_sample"])


def _decode_jpeg_2000(
    encoded: bytes, cell_format: CellFormat, _transfer_syntax_uid: str
) -> tuple[_Bytes, int]:
    info = get_parameters(encoded)
    _check_matrix(int(info["rows"]), int(info["columns"]), cell_format)
    decoded = decode_pixel_data(encoded, version=2)
    precision = int(info["precision"])
    # A signed code stream comes out in two's complement over the whole cell.
    return bytes(decoded), 8 * -(-precision // 8) if info["is_signed"] else precision


def _decode_lossless_jpeg(
    encoded: bytes, cell_format: CellFormat, transfer_syntax_uid: str
) -> tuple[_Bytes, int]:
    if cell_format.bits_allocated == 16:  # noqa: PLR2004  what a plain stream fills
        values = decode_plain(encoded, cell_format.rows, cell_format.columns)
        if values is not None:
            return values.astype("<u2", copy=False).data.cast("B"), cell_format.bits_stored
    return _decode_with_gdcm(encoded, cell_format, transfer_syntax_uid)


def _decode_with_gdcm(
    encoded: bytes, cell_format: CellFormat, transfer_syntax_uid: str
) -> tuple[_Bytes, int]:
    fragment = gdcm.Fragment()
    fragment.SetByteStringValue(encoded)
    fragments = gdcm.SequenceOfFragments.New()
    fragments.AddFragment(fragment)
    element = gdcm.DataElement(gdcm.Tag(0x7FE0, 0x0010))
    element.SetValue(fragments.__ref__())
    image = gdcm.Image()
    image.SetNumberOfDimensions(2)
    image.SetDimensions((cell_format.columns, cell_format.rows, 1))
    image.SetDataElement(element)
    image.SetPhotometricInterpretation(
        gdcm.PhotometricInterpretation(gdcm.PhotometricInterpretation.MONOCHROME2)
    )
    image.SetTransferSyntax(gdcm.TransferSyntax(gdcm.TransferSyntax.GetTSType(transfer_syntax_uid)))
    image.SetPixelFormat(
        gdcm.PixelFormat(
            1,
            cell_format.bits_allocated,
            cell_format.bits_stored,
            cell_format.bits_stored - 1,
            int(cell_format.is_signed),
        )
    )
    # GDCM hands bytes over as text; the detour gives them back unchanged.
    decoded = image.GetBuffer().encode("utf-8", "surrogateescape")
    return decoded, cell_format.bits_stored


def _check_matrix(rows: int, columns: int, cell_format: CellFormat) -> None:
    """Refuse a code stream of another size before memory is spent on it."""
    if (rows, columns) != (cell_format.rows, cell_format.columns):
        raise UnreadablePixels(
            f"the code stream has {rows} rows and {columns} columns, the header says "
            f"{cell_format.rows} and {cell_format.columns}"
        )


_Decoder = Callable[[bytes, CellFormat, str], tuple[_Bytes, int]]
_DECODERS: Final[Mapping[str, _Decoder]] = {
    RLELossless: _decode_with_gdcm,
    JPEGLossless: _decode_lossless_jpeg,
    JPEGLosslessSV1: _decode_lossless_jpeg,
    JPEGBaseline8Bit: _decode_with_gdcm,
    JPEGExtended12Bit: _decode_with_gdcm,
    _JPEG_SPECTRAL_SELECTION: _decode_with_gdcm,
    _JPEG_FULL_PROGRESSION: _decode_with_gdcm,
    JPEGLSLossless: _decode_jpeg_ls,
    JPEGLSNearLossless: _decode_jpeg_ls,
    JPEG2000Lossless: _decode_jpeg_2000,
    JPEG2000: _decode_jpeg_2000,
    HTJ2KLossless: _decode_jpeg_2000,
    HTJ2KLosslessRPCL: _decode_jpeg_2000,
    HTJ2K: _decode_jpeg_2000,
}
COMPRESSED_TRANSFER_SYNTAX_UIDS: Final = frozenset(_DECODERS)
#: Syntaxes that may lose information (PS3.5 A.4), whatever the header says.
LOSSY_TRANSFER_SYNTAX_UIDS: Final = frozenset(
    {
        JPEGBaseline8Bit,
        JPEGExtended12Bit,
        _JPEG_SPECTRAL_SELECTION,
        _JPEG_FULL_PROGRESSION,
        JPEGLSNearLossless,
        JPEG2000,
        HTJ2K,
    }
)
