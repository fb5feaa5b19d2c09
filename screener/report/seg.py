"""The two lungs as a Segmentation: BINARY, or as a label map for archives that know it.

The frames take their geometry from the assembled volume, not from the source headers, and each
cites the one slice it was drawn on where a reference can name it. An object without a Frame of
Reference UID would not say where it lies, so none is written then (PS3.3 A.51).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
from highdicom.color import CIELabColor
from highdicom.seg import (
    SegmentAlgorithmTypeValues,
    Segmentation,
    SegmentationTypeValues,
    SegmentDescription,
)
from highdicom.sr import CodedConcept

from screener.domain import Decision, ResultKind
from screener.errors import ReportError
from screener.report import codes
from screener.report.algorithms import LUNG_SEGMENTATION, find_algorithm, segment_identification
from screener.report.evidence import InstanceReference
from screener.report.groups import LUNGS, lung_concept
from screener.report.palette import LUNG_COLOURS
from screener.report.source_frames import cite_sources, pin_dimensions, plane_sources
from screener.report.uids import tracking_uid

if TYPE_CHECKING:
    from screener.domain import LabelArray, LungMask, Screening, Volume
    from screener.report.algorithms import Algorithm
    from screener.report.envelope import Envelope
    from screener.report.evidence import StudyEvidence

#: Longest UID, characters (PS3.5 9.1).
UID_CHARACTERS: Final = 64


@dataclass(frozen=True, slots=True)
class LungSegments:
    """What the report needs to know to cite the segments."""

    reference: InstanceReference
    source_series_instance_uid: str
    number_by_label: dict[int, int]  #: segment number of each lung that has voxels


@dataclass(frozen=True, slots=True)
class _Lungs:
    """The parts of a screening that a segmentation needs, all of them there."""

    volume: Volume
    mask: LungMask
    algorithm: Algorithm
    segments: LungSegments


def why_no_segmentation(screening: Screening) -> str | None:
    """Say why the lungs of a screening cannot be written, None where they can."""
    if screening.volume is None or screening.lungs is None:
        return "the lungs were not segmented"
    if not isinstance(screening.outcome, Decision):
        return "the study was not analysed"
    if not screening.lungs.labels.any():
        return "the lung mask is empty"
    uid = screening.volume.frame_of_reference_uid
    if not uid:
        return "the source has no Frame of Reference UID, so no object could say where it lies"
    if len(uid) > UID_CHARACTERS:
        return "the Frame of Reference UID of the source is longer than DICOM allows"
    return None


def number_segments(screening: Screening, envelope: Envelope) -> LungSegments:
    """Number the lungs that have voxels, right before left, from 1.

    Raises
    ------
    ReportError
        The screening has no volume or no lungs.
    """
    if screening.volume is None or screening.lungs is None:
        raise ReportError("segments were asked for, but the run has no lungs")
    present = [label for label, _, _ in LUNGS if (screening.lungs.labels == label).any()]
    return LungSegments(
        reference=InstanceReference(
            envelope.series_instance_uid, envelope.sop_class_uid, envelope.sop_instance_uid
        ),
        source_series_instance_uid=screening.volume.series_instance_uid,
        number_by_label={label: number for number, label in enumerate(present, start=1)},
    )


def build_segmentation(
    screening: Screening, evidence: StudyEvidence, envelope: Envelope, segments: LungSegments
) -> Segmentation:
    """Write the lungs of a screening.

    Raises
    ------
    ReportError
        The mask does not fit the volume, or the run names no segmentation model.
    """
    lungs = _require_lungs(screening, envelope, segments)
    sources = plane_sources(lungs.volume, lungs.volume.slices, evidence)
    is_label_map = envelope.kind is ResultKind.LABEL_MAP
    document = Segmentation(
        source_images=sources,
        pixel_array=_renumber(lungs),
        segmentation_type=(
            SegmentationTypeValues.LABELMAP if is_label_map else SegmentationTypeValues.BINARY
        ),
        segment_descriptions=[
            _describe(label, number, screening.run.study_instance_uid, lungs.algorithm)
            for label, number in segments.number_by_label.items()
        ],
        content_label="LUNGS",
        content_description="Right and left lung, segmented by artificial intelligence",
        content_creator_name=f"{envelope.arguments['manufacturer_model_name']}^AI",
        **envelope.arguments,
    )
    cite_sources(document, lungs.volume.slices, sources, evidence)
    pin_dimensions(document, envelope)
    return document


def _require_lungs(screening: Screening, envelope: Envelope, segments: LungSegments) -> _Lungs:
    algorithm = find_algorithm(envelope.algorithms, LUNG_SEGMENTATION)
    if screening.volume is None or screening.lungs is None or algorithm is None:
        raise ReportError("a segmentation needs a volume, lungs and the model that found them")
    if screening.lungs.labels.shape != screening.volume.volume_hu.shape:
        raise ReportError(
            f"the lung mask has shape {screening.lungs.labels.shape}, "
            f"the volume {screening.volume.volume_hu.shape}"
        )
    return _Lungs(screening.volume, screening.lungs, algorithm, segments)


def _renumber(lungs: _Lungs) -> LabelArray:
    """Give labels as segment numbers; they differ only where a lung is absent."""
    if all(label == number for label, number in lungs.segments.number_by_label.items()):
        return lungs.mask.labels
    renumbered = np.zeros_like(lungs.mask.labels)
    for label, number in lungs.segments.number_by_label.items():
        renumbered[lungs.mask.labels == label] = number
    return renumbered


def _describe(
    label: int, number: int, study_instance_uid: str, algorithm: Algorithm
) -> SegmentDescription:
    words, side = next((words, side) for one, words, side in LUNGS if one == label)
    description = SegmentDescription(
        segment_number=number,
        segment_label=words,
        segmented_property_category=codes.ANATOMICAL_STRUCTURE,
        segmented_property_type=codes.LUNG,
        algorithm_type=SegmentAlgorithmTypeValues.AUTOMATIC,
        algorithm_identification=segment_identification(algorithm),
        tracking_uid=tracking_uid(study_instance_uid, lung_concept(label)),
        tracking_id=words,
        display_color=CIELabColor.from_rgb(*LUNG_COLOURS[label]),
    )
    # highdicom has no argument for the modifier.
    description.SegmentedPropertyTypeCodeSequence[0].SegmentedPropertyTypeModifierCodeSequence = [
        CodedConcept.from_code(side)
    ]
    return description
