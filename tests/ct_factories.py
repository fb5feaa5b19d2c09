"""Tiny CT instances by keyword, written with pydicom, and what tests need around them."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian

from screener.assemble import read_folder
from screener.assemble.headers import CT_IMAGE_STORAGE, ENHANCED_CT_IMAGE_STORAGE
from screener.domain import (
    RunIdentity,
    RunReason,
    SeriesGeometry,
    SliceSource,
    SpooledInstance,
    SpooledStudy,
    Volume,
)

RECEIVED_AT = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
STUDY_UID, SERIES_UID = "1.2.826.0.1.1", "1.2.826.0.1.1.1"
AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)


def ct_dataset(**attributes: Any) -> Dataset:
    """Make one conformant 8 x 8 CT slice; keywords replace attributes, None removes them."""
    dataset = Dataset()
    values: dict[str, Any] = {
        "SOPClassUID": CT_IMAGE_STORAGE,
        "SOPInstanceUID": "1.2.826.0.1.1.1.1",
        "StudyInstanceUID": STUDY_UID,
        "SeriesInstanceUID": SERIES_UID,
        "FrameOfReferenceUID": "1.2.826.0.1.2",
        "ImageType": ["ORIGINAL", "PRIMARY", "AXIAL"],
        "StudyDate": "20260301",
        "Modality": "CT",
        "Manufacturer": "Test",
        "PatientID": "P1",
        "KVP": "120",
        "BodyPartExamined": "CHEST",
        "ConvolutionKernel": "B30f",
        "SliceThickness": "5",
        "InstanceNumber": 1,
        "AcquisitionNumber": 1,
        "ImagePositionPatient": [-4.0, -4.0, 0.0],
        "ImageOrientationPatient": list(AXIAL),
        "PixelSpacing": [1.0, 1.0],
        "Rows": 8,
        "Columns": 8,
        "SamplesPerPixel": 1,
        "PhotometricInterpretation": "MONOCHROME2",
        "BitsAllocated": 16,
        "BitsStored": 12,
        "HighBit": 11,
        "PixelRepresentation": 0,
        "RescaleSlope": "1",
        "RescaleIntercept": "-1024",
        "PixelData": np.full((8, 8), 1024, dtype="<u2").tobytes(),
    }
    for keyword, value in {**values, **attributes}.items():
        if value is not None:
            setattr(dataset, keyword, value)
    return dataset


def write_dataset(
    dataset: Dataset,
    path: Path,
    transfer_syntax_uid: str = ExplicitVRLittleEndian,
    *,
    has_preamble: bool = True,
) -> Path:
    """Write a data set as a file; without preamble it is a bare data set."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if not has_preamble:
        dataset.save_as(
            path,
            implicit_vr=transfer_syntax_uid == ImplicitVRLittleEndian,
            little_endian=True,
            enforce_file_format=False,
        )
        return path
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = transfer_syntax_uid
    dataset.file_meta.MediaStorageSOPClassUID = dataset.get("SOPClassUID", CT_IMAGE_STORAGE)
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.get("SOPInstanceUID") or "1.2.3"
    dataset.save_as(path, enforce_file_format=True)
    return path


def write_series(
    folder: Path,
    positions_mm: Sequence[float] = tuple(5.0 * n for n in range(24)),
    *,
    per_slice: Mapping[int, Mapping[str, Any]] | None = None,
    series: str = SERIES_UID,
    **attributes: Any,
) -> Path:
    """Write axial slices at the positions; names are shuffled so that order must be found."""
    for index, position_mm in enumerate(positions_mm):
        values: dict[str, Any] = {
            "SOPInstanceUID": f"{series}.{index + 1}",
            "SeriesInstanceUID": series,
            "InstanceNumber": index + 1,
            "ImagePositionPatient": [-4.0, -4.0, position_mm],
            **attributes,
            **(per_slice or {}).get(index, {}),
        }
        name = f"{(index * 7919) % 997:03d}-{series.rsplit('.', 1)[-1]}"
        write_dataset(ct_dataset(**values), folder / name)
    return folder


def only_study(path: Path) -> SpooledStudy:
    """Read a folder that holds exactly one study."""
    (study,) = read_folder(path, RECEIVED_AT).studies
    return study


def enhanced_dataset(positions_mm: Sequence[float], **attributes: Any) -> Dataset:
    """Make an Enhanced CT: frame n is filled with the value 1024 + n."""
    dataset = ct_dataset(
        SOPClassUID=ENHANCED_CT_IMAGE_STORAGE,
        NumberOfFrames=len(positions_mm),
        ImagePositionPatient=None,
        ImageOrientationPatient=None,
        PixelSpacing=None,
        RescaleSlope=None,
        RescaleIntercept=None,
        SliceThickness=None,
        PixelData=b"".join(
            np.full((8, 8), 1024 + n, dtype="<u2").tobytes() for n in range(len(positions_mm))
        ),
        **attributes,
    )
    dataset.SharedFunctionalGroupsSequence = [
        _group(
            PlaneOrientationSequence={"ImageOrientationPatient": list(AXIAL)},
            PixelMeasuresSequence={"PixelSpacing": [1.0, 1.0], "SliceThickness": "5"},
            PixelValueTransformationSequence={
                "RescaleSlope": "1",
                "RescaleIntercept": "-1024",
                "RescaleType": "HU",
            },
        )
    ]
    dataset.PerFrameFunctionalGroupsSequence = [
        _group(
            PlanePositionSequence={"ImagePositionPatient": [-4.0, -4.0, position_mm]},
            CTImageFrameTypeSequence={"FrameType": ["ORIGINAL", "PRIMARY", "AXIAL", "NONE"]},
        )
        for position_mm in positions_mm
    ]
    return dataset


def _group(**macros: Mapping[str, Any]) -> Dataset:
    group = Dataset()
    for sequence, values in macros.items():
        item = Dataset()
        for keyword, value in values.items():
            setattr(item, keyword, value)
        setattr(group, sequence, [item])
    return group


def instance(number: int = 1, **values: Any) -> SpooledInstance:
    """Make a reference to an instance that is nowhere on disk."""
    made = SpooledInstance(
        study_instance_uid=STUDY_UID,
        series_instance_uid=SERIES_UID,
        sop_instance_uid=f"{SERIES_UID}.{number}",
        sop_class_uid=CT_IMAGE_STORAGE,
        transfer_syntax_uid=ExplicitVRLittleEndian,
        content_digest=f"{number:064x}",
        path=Path(f"{number}.dcm"),
        received_at=RECEIVED_AT + timedelta(seconds=number),
    )
    return replace(made, **values)


def volume_of(
    volume_hu: NDArray[np.int16],
    spacing_mm: tuple[float, float, float],
    orientation: tuple[float, float, float, float, float, float] = AXIAL,
) -> Volume:
    """Wrap an array as a volume with regular slices."""
    n_slices, rows, columns = volume_hu.shape
    slices = tuple(
        SliceSource(
            instance=instance(n + 1),
            frame_number=None,
            position_mm=(0.0, 0.0, n * spacing_mm[0]),
            orientation=orientation,
            pixel_spacing_mm=spacing_mm[1:],
            rows=rows,
            columns=columns,
            location_mm=n * spacing_mm[0],
            slice_thickness_mm=spacing_mm[0],
            instance_number=n + 1,
        )
        for n in range(n_slices)
    )
    geometry = SeriesGeometry(
        n_slices, spacing_mm[0], (n_slices - 1) * spacing_mm[0], spacing_mm[0], 0, 0, 0.0, True
    )
    return Volume(SERIES_UID, "1.2.3", volume_hu, spacing_mm, slices, geometry)


def run_of(study: SpooledStudy) -> RunIdentity:
    """Make the identity of a local run."""
    return RunIdentity(
        run_id="run-1",
        study_instance_uid=study.study_instance_uid,
        reason=RunReason.LOCAL,
        input_digest=study.input_digest,
        pipeline="chest-ct",
        code_version="0",
        settings_digest="0" * 64,
        version=1,
        started_at=RECEIVED_AT,
        models=(),
    )


def real_data(*parts: str) -> Path:
    """Give a place in the real CT outside the repository, or skip the test."""
    root = Path(__file__).resolve().parents[1]
    data = Path(os.environ.get("SCREENER_TEST_DATA", root.parent / "shared" / "data"))
    path = data.joinpath(*parts)
    if not path.exists():
        pytest.skip(f"real CT is not here: {path}")
    return path


def read_hu_as_the_node_does(path: Path) -> NDArray[np.int16]:
    """Read one file through the node's own headers and decoders."""
    from screener.assemble.headers import SliceHeader, read_headers
    from screener.assemble.pixels import read_frame_hu

    (header,) = read_headers(only_study(path))
    hu, _ = read_frame_hu(SliceHeader(header, header.frames[0]))
    return hu
