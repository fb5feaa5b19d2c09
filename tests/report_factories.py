"""Screenings and small CT series by keyword, for tests of the results."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np
from pydicom import Dataset, config, dcmwrite
from pydicom.dataset import FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

from screener.domain import (
    Decision,
    LesionMaps,
    LungMask,
    ModelIdentity,
    NotAnalysed,
    NotAnalysedReason,
    PatientClass,
    RunIdentity,
    RunReason,
    Screening,
    SeriesCandidate,
    SeriesGeometry,
    SeriesRanking,
    SliceProbabilities,
    SliceSource,
    SpooledInstance,
    SpooledStudy,
    Volume,
)

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

STUDY_UID = "1.2.826.0.1.3680043.8.498.1"
SERIES_UID = "1.2.826.0.1.3680043.8.498.2"
FRAME_OF_REFERENCE_UID = "1.2.826.0.1.3680043.8.498.3"
STARTED_AT = datetime(2026, 3, 4, 5, 6, 7, 890000, tzinfo=UTC)
CLASS_NAMES = ("normal", "covid-19", "community-acquired-pneumonia")
AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)


def ct_header(index: int, **changes: Any) -> Dataset:
    """Make the header of one axial slice; a change to None deletes the attribute."""
    header = Dataset()
    header.SpecificCharacterSet = "ISO_IR 100"
    header.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    header.SOPClassUID = CTImageStorage
    header.SOPInstanceUID = f"1.2.826.0.1.3680043.8.498.4.{index + 1}"
    header.StudyDate, header.StudyTime = "20260303", "101112"
    header.AccessionNumber = "A-17"
    header.Modality = "CT"
    header.Manufacturer = "Phantom Makers"
    header.ManufacturerModelName = "Phantom CT"
    header.ReferringPhysicianName = "Referrer^Rita"
    header.StudyDescription = "Chest"
    header.PatientName, header.PatientID = "Phantom^Paula", "P-1"
    header.PatientBirthDate, header.PatientSex, header.PatientAge = "19600102", "F", "066Y"
    header.PatientSize, header.PatientWeight = "1.62", "58.5"
    header.StudyInstanceUID, header.SeriesInstanceUID = STUDY_UID, SERIES_UID
    header.StudyID, header.SeriesNumber, header.InstanceNumber = "7", 3, index + 1
    header.FrameOfReferenceUID = FRAME_OF_REFERENCE_UID
    header.PositionReferenceIndicator = ""
    header.ImagePositionPatient = [-20.0, -30.0, 5.0 * index - 100.0]
    header.ImageOrientationPatient = list(AXIAL)
    header.PixelSpacing, header.SliceThickness = [1.5, 1.25], 5.0
    header.Rows, header.Columns = 32, 40
    header.SamplesPerPixel, header.PhotometricInterpretation = 1, "MONOCHROME2"
    header.BitsAllocated, header.BitsStored, header.HighBit = 16, 16, 15
    header.PixelRepresentation = 1
    header.RescaleIntercept, header.RescaleSlope = 0, 1
    change_header(header, changes)
    return header


def change_header(header: Dataset, changes: Mapping[str, Any]) -> None:
    """Change a header in place; a change to None deletes the attribute, which must be there."""
    for keyword, value in changes.items():
        if value is None:
            delattr(header, keyword)
        else:
            setattr(header, keyword, value)


def write_instance(folder: Path, header: Dataset, index: int = 0) -> SpooledInstance:
    """Write a data set as Part 10 and name it as the spool would."""
    header.file_meta = FileMetaDataset()
    header.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    path = folder / f"{index:04d}.dcm"
    with config.disable_value_validation():
        header.file_meta.MediaStorageSOPClassUID = header.SOPClassUID
        header.file_meta.MediaStorageSOPInstanceUID = header.get("SOPInstanceUID") or "1.2.3"
        header.PixelData = np.full((header.Rows, header.Columns), index, np.int16).tobytes()
        header["PixelData"].VR = "OW"
        dcmwrite(path, header, enforce_file_format=True)
        return SpooledInstance(
            study_instance_uid=header.StudyInstanceUID,
            series_instance_uid=header.SeriesInstanceUID,
            sop_instance_uid=header.get("SOPInstanceUID") or "",
            sop_class_uid=header.SOPClassUID,
            transfer_syntax_uid=ExplicitVRLittleEndian,
            content_digest=hashlib.sha256(path.read_bytes()).hexdigest(),
            path=path,
            received_at=STARTED_AT,
        )


def write_study(folder: Path, n_slices: int = 8, **changes: Any) -> SpooledStudy:
    """Write an axial series, caudal slice first, every header with the same changes."""
    with config.disable_value_validation():
        headers = [ct_header(index, **changes) for index in range(n_slices)]
    instances = tuple(write_instance(folder, header, index) for index, header in enumerate(headers))
    return SpooledStudy(instances[0].study_instance_uid, instances)


def run_identity(study: SpooledStudy, **changes: Any) -> RunIdentity:
    """Make the identity of a run with two models."""
    models = tuple(
        ModelIdentity(f"{task}-net", "1.0.0", task, digest * 64, "cpu")
        for task, digest in (("lung-segmentation", "a"), ("slice-classification", "b"))
    )
    identity = RunIdentity(
        run_id="run-1",
        study_instance_uid=study.study_instance_uid,
        reason=RunReason.NEW_STUDY,
        input_digest=study.input_digest,
        pipeline="chest-ct",
        code_version="0.1.0",
        settings_digest="c" * 64,
        version=1,
        started_at=STARTED_AT,
        models=models,
    )
    return replace(identity, **changes)


def slice_sources(study: SpooledStudy, n_frames: int | None = None) -> tuple[SliceSource, ...]:
    """Make the slices of a study: one per instance, or the frames of its only instance."""
    n_slices = n_frames or len(study.instances)
    return tuple(
        SliceSource(
            instance=study.instances[0] if n_frames else study.instances[index],
            frame_number=index + 1 if n_frames else None,
            position_mm=(-20.0, -30.0, 5.0 * index - 100.0),
            orientation=AXIAL,
            pixel_spacing_mm=(1.5, 1.25),
            rows=32,
            columns=40,
            location_mm=5.0 * index - 100.0,
            slice_thickness_mm=5.0,
            instance_number=index + 1,
        )
        for index in range(n_slices)
    )


def make_volume(
    study: SpooledStudy,
    *,
    frame_of_reference_uid: str | None = FRAME_OF_REFERENCE_UID,
    n_frames: int | None = None,
) -> Volume:
    """Make the volume of a study with air where the lungs are."""
    slices = slice_sources(study, n_frames)
    labels = make_labels(len(slices))
    return Volume(
        series_instance_uid=study.instances[0].series_instance_uid,
        frame_of_reference_uid=frame_of_reference_uid,
        volume_hu=np.where(labels > 0, -850, 40).astype(np.int16),
        spacing_mm=(5.0, 1.5, 1.25),
        slices=slices,
        geometry=SeriesGeometry(
            n_slices=len(slices),
            slice_spacing_mm=5.0,
            coverage_mm=5.0 * (len(slices) - 1),
            largest_gap_mm=5.0,
            n_missing_slices=0,
            n_duplicate_positions=0,
            tilt_degrees=0.0,
            is_regular=True,
        ),
    )


def make_labels(n_slices: int) -> np.ndarray:
    """Make two boxes of different size; the patient's right lies at low columns."""
    labels = np.zeros((n_slices, 32, 40), np.uint8)
    labels[1:-1, 8:24, 4:16] = 1
    labels[1:-1, 10:24, 24:36] = 2
    return labels


def make_lungs(n_slices: int) -> LungMask:
    """Make a lung mask with volumes that agree with its voxels."""
    labels = make_labels(n_slices)
    voxel_ml = 5.0 * 1.5 * 1.25 / 1000.0
    return LungMask(
        labels=labels,
        right_volume_ml=float((labels == 1).sum() * voxel_ml),
        left_volume_ml=float((labels == 2).sum() * voxel_ml),
    )


def make_probabilities(n_slices: int, affected: tuple[int, ...]) -> SliceProbabilities:
    """Make probabilities of the slices that hold lung."""
    indices = np.arange(1, n_slices - 1)
    rows = [
        (0.1, 0.7 + index / 1000, 0.2 - index / 1000) if index in affected else (0.8, 0.1, 0.1)
        for index in indices
    ]
    lesions = make_lesions([index in affected for index in indices])
    return SliceProbabilities(CLASS_NAMES, indices, np.array(rows, np.float32), lesions)


def make_lesions(is_affected: list[bool]) -> LesionMaps:
    """Make maps around both boxes of `make_labels`; affected slices are hot at the lower right."""
    boxes = np.tile(np.array([[8, 4, 24, 36]], np.float32), (len(is_affected), 1))
    maps = np.full((len(is_affected), 8, 8), 0.02, np.float32)
    for row in np.flatnonzero(is_affected):
        maps[row, 5:7, 1:3] = 0.95 - 0.05 * row
    return LesionMaps(boxes, maps)


def make_decision(
    n_slices: int, affected: tuple[int, ...], patient_class: PatientClass
) -> Decision:
    """Make a decision that agrees with the probabilities."""
    return Decision(
        patient_class=patient_class,
        certainty=0.91,
        class_certainties=tuple(zip(CLASS_NAMES, (0.06, 0.91, 0.03), strict=True)),
        slice_votes=(("normal", n_slices - 2 - len(affected)), ("covid-19", len(affected))),
        n_slices_analysed=n_slices - 2,
        affected_slice_indices=affected,
        policy_name="majority",
        explanation="Most lung-bearing slices carry this class.",
    )


def make_screening(
    study: SpooledStudy,
    *,
    affected: tuple[int, ...] = (2, 3, 4),
    patient_class: PatientClass = PatientClass.COVID_19,
    frame_of_reference_uid: str | None = FRAME_OF_REFERENCE_UID,
    n_frames: int | None = None,
    **changes: Any,
) -> Screening:
    """Make the screening of a study written by `write_study`."""
    volume = make_volume(study, frame_of_reference_uid=frame_of_reference_uid, n_frames=n_frames)
    n_slices = len(volume.slices)
    screening = Screening(
        run=run_identity(study),
        n_instances=len(study.instances),
        ranking=make_ranking(study, selected=volume.series_instance_uid),
        defects=(),
        outcome=make_decision(n_slices, affected, patient_class),
        volume=volume,
        lungs=make_lungs(n_slices),
        probabilities=make_probabilities(n_slices, affected),
    )
    return replace(screening, **changes)


def make_refusal(
    study: SpooledStudy, reason: NotAnalysedReason = NotAnalysedReason.LOCALIZER_ONLY
) -> Screening:
    """Make a screening without a decision."""
    return Screening(
        run=run_identity(study),
        n_instances=len(study.instances),
        ranking=make_ranking(study, selected=None),
        defects=(),
        outcome=NotAnalysed(reason, "The only series is a topogram."),
    )


def make_ranking(study: SpooledStudy, selected: str | None) -> SeriesRanking:
    """Make the ranking of a study with one series."""
    candidate = SeriesCandidate(
        series_instance_uid=study.instances[0].series_instance_uid,
        modality="CT",
        n_instances=len(study.instances),
        n_slices=len(study.instances) if selected else 0,
        score=1.0 if selected else 0.0,
        reasons=("thin axial slices",) if selected else ("localizer",),
        refusal=None if selected else NotAnalysedReason.LOCALIZER_ONLY,
    )
    return SeriesRanking((candidate,), selected)
