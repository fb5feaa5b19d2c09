"""Pixels into data sets and data sets into files, in every transfer syntax the demo can write."""

from __future__ import annotations

import io
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import gdcm
import numpy as np
from pydicom import dcmread
from pydicom.config import IGNORE
from pydicom.datadict import tag_for_keyword
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate, generate_frames
from pydicom.uid import UID

from screener.receive.part10 import FileMeta, encode_file_meta

if TYPE_CHECKING:
    from numpy.typing import NDArray

IMPLICIT_VR_LITTLE_ENDIAN = "1.2.840.10008.1.2"
EXPLICIT_VR_LITTLE_ENDIAN = "1.2.840.10008.1.2.1"
RLE_LOSSLESS = "1.2.840.10008.1.2.5"
JPEG_LOSSLESS_PROCESS_14 = "1.2.840.10008.1.2.4.57"
JPEG_LOSSLESS_FIRST_ORDER = "1.2.840.10008.1.2.4.70"
JPEG_LS_LOSSLESS = "1.2.840.10008.1.2.4.80"
JPEG_2000_LOSSLESS = "1.2.840.10008.1.2.4.90"

#: Syntaxes whose encoders pydicom finds in our environment.
_BY_PYDICOM = (RLE_LOSSLESS, JPEG_LS_LOSSLESS, JPEG_2000_LOSSLESS)
#: Syntaxes that only GDCM encodes.
_BY_GDCM = {
    JPEG_LOSSLESS_PROCESS_14: gdcm.TransferSyntax.JPEGLosslessProcess14,
    JPEG_LOSSLESS_FIRST_ORDER: gdcm.TransferSyntax.JPEGLosslessProcess14_1,
}
#: In the file meta of instances whose own UID was taken out.
_UNKNOWN_UID = "2.25.0"
#: GDCM is shown pixels of this class and none of the header.
_SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
_PIXEL_KEYWORDS = (
    "SamplesPerPixel",
    "PhotometricInterpretation",
    "Rows",
    "Columns",
    "BitsAllocated",
    "BitsStored",
    "HighBit",
    "PixelRepresentation",
)
#: Every transfer syntax `save` writes; all are lossless.
WRITABLE_SYNTAXES = (
    IMPLICIT_VR_LITTLE_ENDIAN,
    EXPLICIT_VR_LITTLE_ENDIAN,
    *_BY_PYDICOM,
    *_BY_GDCM,
)


def set_stored(ds: Dataset, stored: NDArray[np.integer]) -> None:
    """Put stored values and their description into a data set, in place.

    Parameters
    ----------
    stored
        ``(rows, columns)`` or ``(frames, rows, columns)``; 12 bits are declared where they hold
        all values, else 16.
    """
    ds.SamplesPerPixel = 1
    ds.PhotometricInterpretation = "MONOCHROME2"
    ds.Rows, ds.Columns = stored.shape[-2:]
    is_signed = np.issubdtype(stored.dtype, np.signedinteger)
    limit = 2**11 if is_signed else 2**12
    is_short = int(stored.max()) < limit and int(stored.min()) >= (-limit if is_signed else 0)
    ds.BitsAllocated = 16
    ds.BitsStored = 12 if is_short else 16
    ds.HighBit = ds.BitsStored - 1
    ds.PixelRepresentation = int(is_signed)
    ds.PixelData = stored.astype(stored.dtype.newbyteorder("<")).tobytes()
    ds["PixelData"].VR = "OW"


def set_any_uid(ds: Dataset, keyword: str, value: str) -> None:
    """Set a UID that may break the rules of its representation, in place."""
    tag = tag_for_keyword(keyword)
    if tag is None:
        raise ValueError(f"{keyword} is no keyword of the data dictionary.")
    uid = UID(value, validation_mode=IGNORE)
    ds[tag] = DataElement(tag, "UI", uid, validation_mode=IGNORE)


def save(ds: Dataset, path: Path, transfer_syntax_uid: str) -> None:
    """Write a data set with uncompressed pixels as a Part 10 file in the given transfer syntax.

    The data set is left compressed when the syntax is.

    Raises
    ------
    ValueError
        Nothing here writes that transfer syntax.
    """
    if transfer_syntax_uid not in WRITABLE_SYNTAXES:
        raise ValueError(
            f"Transfer syntax {transfer_syntax_uid} cannot be written; "
            f"choose one of {', '.join(WRITABLE_SYNTAXES)}."
        )
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = UID(EXPLICIT_VR_LITTLE_ENDIAN)
    if transfer_syntax_uid in _BY_PYDICOM:
        ds.compress(transfer_syntax_uid, generate_instance_uid=False)
    elif transfer_syntax_uid in _BY_GDCM:
        _compress_by_gdcm(ds, transfer_syntax_uid)
    # Where the data set has lost its UIDs on purpose, the file meta stands in.
    meta = FileMeta(
        ds.get("SOPClassUID", _UNKNOWN_UID),
        ds.get("SOPInstanceUID", _UNKNOWN_UID),
        transfer_syntax_uid,
    )
    is_implicit = transfer_syntax_uid == IMPLICIT_VR_LITTLE_ENDIAN
    with path.open("wb") as file:
        file.write(encode_file_meta(meta))
        ds.file_meta = FileMetaDataset()
        ds.save_as(file, implicit_vr=is_implicit, little_endian=True, enforce_file_format=False)


def _plain_file(ds: Dataset, frame: bytes) -> bytes:
    """Encode only what GDCM needs to find the pixels of one frame."""
    pixels = Dataset()
    for keyword in _PIXEL_KEYWORDS:
        pixels[keyword] = ds[keyword]
    pixels.PixelData = frame
    pixels["PixelData"].VR = "OW"
    pixels.SOPClassUID = _SECONDARY_CAPTURE
    pixels.SOPInstanceUID = _UNKNOWN_UID
    pixels.file_meta = FileMetaDataset()
    pixels.file_meta.TransferSyntaxUID = UID(EXPLICIT_VR_LITTLE_ENDIAN)
    file = io.BytesIO()
    pixels.save_as(file, enforce_file_format=True)
    return file.getvalue()


def _compress_by_gdcm(ds: Dataset, transfer_syntax_uid: str) -> None:
    """Take only the encoded pixels from GDCM, in place; the header stays ours.

    Frame by frame, since GDCM writes no signed pixels in several frames of a secondary capture.
    """
    n_frames = int(ds.get("NumberOfFrames", 1))
    stored, frame_bytes = ds.PixelData, len(ds.PixelData) // n_frames
    with tempfile.TemporaryDirectory() as folder:
        frames = [
            _encode_frame(ds, stored[start : start + frame_bytes], transfer_syntax_uid, folder)
            for start in range(0, n_frames * frame_bytes, frame_bytes)
        ]
    ds.PixelData = encapsulate(frames)
    ds["PixelData"].VR = "OB"
    ds["PixelData"].is_undefined_length = True
    ds.file_meta.TransferSyntaxUID = UID(transfer_syntax_uid)


def _encode_frame(ds: Dataset, frame: bytes, transfer_syntax_uid: str, folder: str) -> bytes:
    plain, encoded = Path(folder, "plain.dcm"), Path(folder, "encoded.dcm")
    plain.write_bytes(_plain_file(ds, frame))
    reader = gdcm.ImageReader()
    reader.SetFileName(str(plain))
    change = gdcm.ImageChangeTransferSyntax()
    change.SetTransferSyntax(gdcm.TransferSyntax(_BY_GDCM[transfer_syntax_uid]))
    if not reader.Read():
        raise ValueError("GDCM cannot read these pixels.")
    change.SetInput(reader.GetImage())
    if not change.Change():
        raise ValueError(f"GDCM cannot encode these pixels as {transfer_syntax_uid}.")
    writer = gdcm.ImageWriter()
    writer.SetFileName(str(encoded))
    writer.SetFile(reader.GetFile())
    writer.SetImage(change.GetOutput())
    if not writer.Write():
        raise ValueError(f"GDCM cannot write these pixels as {transfer_syntax_uid}.")
    return next(generate_frames(dcmread(encoded).PixelData, number_of_frames=1))
