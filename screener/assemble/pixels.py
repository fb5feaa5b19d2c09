"""Read one frame from its file and turn it into Hounsfield units.

Only the frame's own bytes are read. Measured on 512 x 512 slices: GDCM and OpenJPEG keep Python's
lock while they decode, CharLS does not; ONNX Runtime does not need it, so threads are enough to
overlap decoding with inference.
"""

import io
from typing import BinaryIO, Final

import numpy as np
from numpy.typing import NDArray
from pydicom.encaps import get_frame
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from screener.assemble.codecs import (
    COMPRESSED_TRANSFER_SYNTAX_UIDS,
    CellFormat,
    decode_frame,
    to_stored,
)
from screener.assemble.decoders import FrameDecoder
from screener.assemble.headers import PixelDescription, Rescale, SliceHeader
from screener.assemble.part10 import PARSE_ERRORS, UnreadableFile, open_data_set
from screener.errors import UnreadablePixels

#: Air, HU. Nothing in a body is thinner; lower values are padding, declared or not.
AIR_HU = -1024
_MAX_HU = 32767
#: Largest encoded frame that is decoded, bytes.
_MAX_FRAME_BYTES = 128 << 20
#: Rescale Types (0028,1054) whose values are HU; "US" says nothing (PS3.3 C.11.1.1.2).
_HU_TYPES = frozenset({None, "HU", "US"})
_NATIVE: Final = frozenset(
    {
        ImplicitVRLittleEndian,
        ExplicitVRLittleEndian,
        ExplicitVRBigEndian,
        DeflatedExplicitVRLittleEndian,
    }
)


def can_decode(transfer_syntax_uid: str) -> bool:
    """Tell whether frames in this transfer syntax can be decoded."""
    return transfer_syntax_uid in _NATIVE or transfer_syntax_uid in COMPRESSED_TRANSFER_SYNTAX_UIDS


def read_frame_hu(
    one: SliceHeader, decode: FrameDecoder = decode_frame
) -> tuple[NDArray[np.int16], int]:
    """Read one slice from its file in Hounsfield units.

    Parameters
    ----------
    one
        A slice whose header was found readable.
    decode
        Who decodes a compressed frame: this process, or a child with limits.

    Returns
    -------
    :
        HU, shape ``(rows, columns)``, at least ``AIR_HU``; and the number of padding pixels that
        were replaced by air.

    Raises
    ------
    UnreadablePixels
        No decoder, damaged or missing data, no Rescale Slope and Intercept, or a quantity other
        than HU.
    """
    pixels, rescale = one.header.pixels, one.frame.rescale
    if pixels is None:
        raise UnreadablePixels(one.header.unreadable or "no pixels")
    if rescale is None:
        raise UnreadablePixels("no Rescale Slope and Intercept: the values are no HU")
    stored = _read_stored(one, pixels, decode)
    return rescale_to_hu(stored, rescale, pixels.padding)


def rescale_to_hu(
    stored: NDArray[np.integer], rescale: Rescale, padding: tuple[int, int] | None
) -> tuple[NDArray[np.int16], int]:
    """Turn stored values into Hounsfield units and padding into air.

    Parameters
    ----------
    stored
        Decoded values, shape ``(rows, columns)``.
    rescale
        Modality LUT of the frame.
    padding
        Range of stored values that are no image, inclusive; None if there is none.

    Returns
    -------
    :
        HU, same shape, from ``AIR_HU`` to 32767; and the number of pixels that were not air by
        their value and were replaced, declared as padding or below anything that can be measured.

    Raises
    ------
    UnreadablePixels
        The rescale type is not HU. A slope of zero never comes here (`headers`).

    References
    ----------
    DICOM PS3.3 C.11.1.1.2 (rescale), C.7.5.1.1.2 (padding).
    """
    if rescale.rescale_type not in _HU_TYPES:
        raise UnreadablePixels(f"Rescale Type {rescale.rescale_type}: no HU")
    if rescale.slope == 1.0 and rescale.intercept.is_integer():
        values = stored.astype(np.int32) + int(rescale.intercept)
    else:
        exact = stored * np.float64(rescale.slope) + rescale.intercept
        values = np.rint(np.clip(exact, -(2**30), 2**30)).astype(np.int32)
    n_replaced = int(np.count_nonzero(values < AIR_HU))
    if padding is not None:
        is_padding = (stored >= padding[0]) & (stored <= padding[1]) & (values > AIR_HU)
        n_replaced += int(np.count_nonzero(is_padding))
        values[is_padding] = AIR_HU
    return np.clip(values, AIR_HU, _MAX_HU).astype(np.int16), n_replaced


def _read_stored(
    one: SliceHeader, pixels: PixelDescription, decode: FrameDecoder
) -> NDArray[np.integer]:
    """Read and decode the stored values of a frame, shape ``(rows, columns)``."""
    index = (one.frame.frame_number or 1) - 1
    try:
        with open_data_set(one.header.instance.path) as (stream, transfer_syntax_uid):
            if not can_decode(transfer_syntax_uid):
                raise UnreadablePixels(f"no decoder for transfer syntax {transfer_syntax_uid}")
            encoded = _read_encoded(stream, pixels, index, transfer_syntax_uid)
    except (UnreadableFile, *PARSE_ERRORS) as error:
        raise UnreadablePixels(f"the pixel data are damaged ({type(error).__name__})") from error
    return _decode(encoded, pixels, transfer_syntax_uid, decode)


def _read_encoded(
    stream: BinaryIO, pixels: PixelDescription, index: int, transfer_syntax_uid: str
) -> bytes:
    """Read the bytes of one frame, still encoded."""
    stream.seek(pixels.place.offset_bytes)
    if transfer_syntax_uid in _NATIVE:
        n_bytes = pixels.rows * pixels.columns * pixels.bits_allocated // 8
        stream.seek(index * n_bytes, io.SEEK_CUR)
        length = pixels.place.length_bytes
        encoded = stream.read(n_bytes)
        if length is None or (index + 1) * n_bytes > length or len(encoded) < n_bytes:
            raise UnreadablePixels("there are fewer pixel bytes than rows and columns say")
        return encoded
    encoded = get_frame(stream, index, number_of_frames=pixels.n_frames)
    if len(encoded) > _MAX_FRAME_BYTES:
        raise UnreadablePixels(f"an encoded frame has {len(encoded)} bytes")
    return encoded


def _decode(
    encoded: bytes, pixels: PixelDescription, transfer_syntax_uid: str, decode: FrameDecoder
) -> NDArray[np.integer]:
    if transfer_syntax_uid in COMPRESSED_TRANSFER_SYNTAX_UIDS:
        return decode(encoded, _cell_format(pixels), transfer_syntax_uid)
    order = ">" if transfer_syntax_uid == ExplicitVRBigEndian else "<"
    cells = np.frombuffer(encoded, dtype=f"{order}u{pixels.bits_allocated // 8}")
    return to_stored(
        cells.reshape(pixels.rows, pixels.columns),
        bits_stored=pixels.bits_stored,
        is_signed=pixels.is_signed,
    )


def _cell_format(pixels: PixelDescription) -> CellFormat:
    return CellFormat(
        rows=pixels.rows,
        columns=pixels.columns,
        bits_allocated=pixels.bits_allocated,
        bits_stored=pixels.bits_stored,
        is_signed=pixels.is_signed,
    )
