"""Small CT instances as bytes, with any defect a sender may have; synthetic throughout."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pydicom.config
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset

from screener.receive.elements import ReadAt
from screener.receive.part10 import FileMeta, encode_file_meta

if TYPE_CHECKING:
    from pathlib import Path

CT_IMAGE = "1.2.840.10008.5.1.4.1.1.2"
EXPLICIT = "1.2.840.10008.1.2.1"
IMPLICIT = "1.2.840.10008.1.2"

STUDY_UID = "1.2.826.0.1.3680043.8.498.1"
SERIES_UID = "1.2.826.0.1.3680043.8.498.1.1"

_ROWS = 16


def ct_dataset(number: int = 1, **values: Any) -> Dataset:
    """One CT slice; `values` replace attributes by keyword, None removes one."""
    attributes: dict[str, Any] = {
        "ImageType": ["ORIGINAL", "PRIMARY", "AXIAL"],
        "SOPClassUID": CT_IMAGE,
        "SOPInstanceUID": f"{SERIES_UID}.{number}",
        "StudyDate": "20260102",
        "Modality": "CT",
        "Manufacturer": "TESTWARE",
        "PatientName": "CANARY^NAME",
        "PatientID": "CANARY-ID",
        "StudyInstanceUID": STUDY_UID,
        "SeriesInstanceUID": SERIES_UID,
        "SeriesNumber": 2,
        "InstanceNumber": number,
        "ImagePositionPatient": [-100.0, -90.5, float(number)],
        "SamplesPerPixel": 1,
        "PhotometricInterpretation": "MONOCHROME2",
        "Rows": _ROWS,
        "Columns": _ROWS,
        "BitsAllocated": 16,
        "BitsStored": 16,
        "HighBit": 15,
        "PixelRepresentation": 1,
        "PixelData": np.full((_ROWS, _ROWS), number, dtype="<i2").tobytes(),
    } | values
    dataset = Dataset()
    for keyword, value in attributes.items():
        if value is None:
            continue
        tag = tag_for_keyword(keyword)
        assert tag is not None
        vr = "OW" if keyword == "PixelData" else dictionary_VR(tag)
        dataset[tag] = DataElement(tag, vr, value, validation_mode=pydicom.config.IGNORE)
    return dataset


def encode(dataset: Dataset, transfer_syntax_uid: str = EXPLICIT) -> bytes:
    """Encode a data set without file meta."""
    stream = DicomBytesIO()
    stream.is_little_endian = True
    stream.is_implicit_VR = transfer_syntax_uid == IMPLICIT
    write_dataset(stream, dataset)
    content: bytes = stream.parent.getvalue()  # type: ignore[attr-defined]
    return content


def report_item(sop_instance_uid: str, **values: Any) -> Dataset:
    """One object of a storage commitment."""
    reference = Dataset()
    reference.ReferencedSOPInstanceUID = sop_instance_uid
    for keyword, value in values.items():
        setattr(reference, keyword, value)
    return reference


def report_dataset(*, is_undefined: bool = False) -> Dataset:
    """Result of a storage commitment (PS3.4 Table J.3-2), with lengths or with delimiters."""
    report = Dataset()
    report.SpecificCharacterSet = "ISO_IR 192"
    report.TransactionUID = "2.25.17"
    report.ReferencedSOPSequence = [report_item("1.2.1")]
    report.FailedSOPSequence = [report_item("1.2.2", FailureReason=0x0112), report_item("1.2.3")]
    for keyword in ("ReferencedSOPSequence", "FailedSOPSequence"):
        report[keyword].is_undefined_length = is_undefined
        for one in report[keyword].value:
            one.is_undefined_length_sequence_item = is_undefined
            one.PurposeOfReferenceCodeSequence = [Dataset()]  # nobody sends it, nobody minds
            one["PurposeOfReferenceCodeSequence"].is_undefined_length = is_undefined
    return report


def ct_bytes(number: int = 1, **values: Any) -> bytes:
    """One encoded CT slice, Explicit VR Little Endian."""
    return encode(ct_dataset(number, **values))


@dataclass(frozen=True, slots=True)
class WrittenFile:
    """A Part 10 file and the data set in it."""

    path: Path
    content: bytes


def write_ct(
    folder: Path, number: int = 1, command_uid: str | None = None, **values: Any
) -> WrittenFile:
    """Write one slice as a file whose meta names `command_uid`, or the data set's own UID."""
    content = ct_bytes(number, **values)
    uid = command_uid or f"{SERIES_UID}.{number}"
    path = folder / f"{number:04d}-{len(list(folder.iterdir()))}.dcm"
    path.write_bytes(encode_file_meta(FileMeta(CT_IMAGE, uid, EXPLICIT)) + content)
    return WrittenFile(path, content)


def reader_of(content: bytes) -> ReadAt:
    """Give what reads an encoded data set."""
    return lambda offset, n_bytes: content[offset : offset + n_bytes]
