"""Measurement groups of the report (TID 1501 and TID 1411; PS3.16).

One group for the study, one per class, one per lung, one per affected slice. `Finding` holds one
value in every reader, so classes are not crowded into one group.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, TypeAlias

from highdicom.sr import (
    FindingSite,
    ImageContentItem,
    Measurement,
    MeasurementsAndQualitativeEvaluations,
    QualitativeEvaluation,
    ReferencedSegment,
    RelationshipTypeValues,
    SourceImageForMeasurementGroup,
    SourceSeriesForSegmentation,
    TextContentItem,
    TrackingIdentifier,
    VolumetricROIMeasurementsAndQualitativeEvaluations,
)

from screener.domain import LEFT_LUNG, RIGHT_LUNG, Decision, DefectCode, PatientClass
from screener.report import codes
from screener.report.algorithms import (
    LUNG_SEGMENTATION,
    SLICE_CLASSIFICATION,
    find_algorithm,
    product_of,
    tree_identification,
)
from screener.report.key_slices import list_affected_slices, most_certain, patient_class_of
from screener.report.uids import tracking_uid
from screener.report.wording import percent

if TYPE_CHECKING:
    from pydicom.sr.coding import Code

    from screener.domain import Screening, Volume
    from screener.report.algorithms import Algorithm
    from screener.report.evidence import InstanceReference, StudyEvidence
    from screener.report.key_slices import AffectedSlice
    from screener.report.seg import LungSegments

#: What the report holds groups of.
MeasurementGroup: TypeAlias = (
    MeasurementsAndQualitativeEvaluations | VolumetricROIMeasurementsAndQualitativeEvaluations
)

#: Label, word and concept of each lung.
LUNGS = (
    (RIGHT_LUNG, "Right lung", codes.RIGHT),
    (LEFT_LUNG, "Left lung", codes.LEFT),
)

#: Defects that change the pixels or where they lie, so that the images count as limited.
LIMITING_DEFECTS: Final = frozenset(
    {
        DefectCode.SLICE_GAP,
        DefectCode.DUPLICATE_POSITION,
        DefectCode.IRREGULAR_SPACING,
        DefectCode.GANTRY_TILT,
        DefectCode.LOSSY_COMPRESSION,
        DefectCode.UNREADABLE_INSTANCES,
        DefectCode.THICK_SLICES,
    }
)


def summary_group(
    screening: Screening,
    algorithms: tuple[Algorithm, ...],
    comments: tuple[str, ...],
    lesion_map: InstanceReference | None = None,
) -> MeasurementsAndQualitativeEvaluations:
    """Write the group that answers first: did it run, what came out, what is wrong.

    The map is cited here, so that the root result leads to every object that holds a result.
    """
    outcome = screening.outcome
    group = MeasurementsAndQualitativeEvaluations(
        tracking_identifier=_track(screening, "study summary", "Study summary"),
        algorithm_id=tree_identification(product_of(algorithms)),
        measurements=_counts(outcome) if isinstance(outcome, Decision) else None,
        qualitative_evaluations=[*assess(screening), *_quality(screening)],
    )
    _add_texts(group, codes.CONCLUSION, comments[:1])
    _add_texts(group, codes.COMMENT, comments[1:])
    if lesion_map is not None:
        group[0].ContentSequence.append(
            ImageContentItem(
                name=codes.CLASS_ACTIVATION,
                referenced_sop_class_uid=lesion_map.sop_class_uid,
                referenced_sop_instance_uid=lesion_map.sop_instance_uid,
                relationship_type=RelationshipTypeValues.CONTAINS,
            )
        )
    return group


def class_groups(
    screening: Screening, algorithms: tuple[Algorithm, ...]
) -> list[MeasurementsAndQualitativeEvaluations]:
    """Write one patient-level group per class with its Certainty of Finding."""
    if not isinstance(screening.outcome, Decision):
        return []
    identification = tree_identification(product_of(algorithms))
    groups = []
    for class_name, certainty in screening.outcome.class_certainties:
        patient_class = patient_class_of(class_name)
        concept = codes.PATIENT_CLASSES[patient_class]
        is_disease = patient_class is not PatientClass.NORMAL
        groups.append(
            MeasurementsAndQualitativeEvaluations(
                tracking_identifier=_track(
                    screening, f"patient {concept.value}", f"Patient: {concept.meaning}"
                ),
                finding_category=codes.DISEASE if is_disease else None,
                finding_type=concept,
                finding_sites=[FindingSite(anatomic_location=codes.LUNG)],
                algorithm_id=identification,
                measurements=[certainty_of(certainty)],
            )
        )
    return groups


def lung_groups(
    screening: Screening, algorithms: tuple[Algorithm, ...], segments: LungSegments | None
) -> list[MeasurementGroup]:
    """Write one group per lung with its volume and, where there is one, its segment."""
    algorithm = find_algorithm(algorithms, LUNG_SEGMENTATION)
    if not isinstance(screening.outcome, Decision) or screening.lungs is None or algorithm is None:
        return []
    volumes_ml = {
        RIGHT_LUNG: screening.lungs.right_volume_ml,
        LEFT_LUNG: screening.lungs.left_volume_ml,
    }
    groups: list[MeasurementGroup] = []
    for label, words, side in LUNGS:
        volume = Measurement(
            name=codes.VOLUME,
            value=round(volumes_ml[label], 1),
            unit=codes.CUBIC_CENTIMETER,
            method=codes.SUM_OF_SEGMENTED_VOXELS,
        )
        shared: dict[str, Any] = {
            "tracking_identifier": _track(screening, lung_concept(label), words),
            "finding_category": codes.ANATOMICAL_STRUCTURE,
            "finding_type": codes.LUNG,
            "finding_sites": [FindingSite(anatomic_location=codes.LUNG, laterality=side)],
            "algorithm_id": tree_identification(algorithm),
            "measurements": [volume],
        }
        if segments is None or label not in segments.number_by_label:
            groups.append(MeasurementsAndQualitativeEvaluations(**shared))
            continue
        groups.append(
            VolumetricROIMeasurementsAndQualitativeEvaluations(
                referenced_segment=ReferencedSegment(
                    sop_class_uid=segments.reference.sop_class_uid,
                    sop_instance_uid=segments.reference.sop_instance_uid,
                    segment_number=segments.number_by_label[label],
                    source_series=SourceSeriesForSegmentation(segments.source_series_instance_uid),
                ),
                **shared,
            )
        )
    return groups


def slice_groups(
    screening: Screening,
    algorithms: tuple[Algorithm, ...],
    evidence: StudyEvidence,
    maximum_groups: int,
) -> list[MeasurementsAndQualitativeEvaluations]:
    """Write one group per affected slice, the most certain ones where there are too many."""
    algorithm = find_algorithm(algorithms, SLICE_CLASSIFICATION)
    if algorithm is None or screening.volume is None:
        return []
    chosen = most_certain(list_affected_slices(screening), maximum_groups)
    return [_slice_group(screening, screening.volume, one, algorithm, evidence) for one in chosen]


def lung_concept(label: int) -> str:
    """Name a lung for its tracking UID, which SR and SEG share."""
    return "right lung" if label == RIGHT_LUNG else "left lung"


def describe_slice(volume: Volume, slice_index: int) -> str:
    """Say which slice it is in words that hold without a reference."""
    source = volume.slices[slice_index]
    return (
        f"Slice {slice_index + 1} of {len(volume.slices)} from the feet, "
        f"z {source.position_mm[2]:.1f} mm"
    )


def track_slice(screening: Screening, volume: Volume, slice_index: int) -> TrackingIdentifier:
    """Track the finding on a slice through every report of the study."""
    source = volume.slices[slice_index]
    # The position, not the index: late slices must not rename the finding of an earlier run.
    concept = f"slice {source.instance.series_instance_uid} {source.position_mm}"
    return _track(screening, concept, describe_slice(volume, slice_index))


def _slice_group(
    screening: Screening,
    volume: Volume,
    affected: AffectedSlice,
    algorithm: Algorithm,
    evidence: StudyEvidence,
) -> MeasurementsAndQualitativeEvaluations:
    source = volume.slices[affected.slice_index]
    reference = evidence.cite(source)
    images = None
    if reference is not None:
        images = [
            SourceImageForMeasurementGroup(
                referenced_sop_class_uid=reference.instance.sop_class_uid,
                referenced_sop_instance_uid=reference.instance.sop_instance_uid,
                referenced_frame_numbers=reference.frame_numbers,
            )
        ]
    return MeasurementsAndQualitativeEvaluations(
        tracking_identifier=track_slice(screening, volume, affected.slice_index),
        finding_category=codes.DISEASE,
        finding_type=codes.PATIENT_CLASSES[affected.patient_class],
        finding_sites=[FindingSite(anatomic_location=codes.LUNG)],
        algorithm_id=tree_identification(algorithm),
        source_images=images,
        measurements=[certainty_of(affected.probability)],
    )


def _counts(decision: Decision) -> list[Measurement]:
    return [
        Measurement(codes.N_SLICES_ANALYSED, decision.n_slices_analysed, codes.NO_UNITS),
        Measurement(codes.N_SLICES_AFFECTED, len(decision.affected_slice_indices), codes.NO_UNITS),
        Measurement(
            codes.PERCENT_SLICES_AFFECTED, percent(decision.affected_fraction), codes.PERCENT
        ),
    ]


def assess(screening: Screening) -> list[QualitativeEvaluation]:
    """Say in codes whether it ran (CID 6047) and what came out."""
    outcome = screening.outcome
    if isinstance(outcome, Decision):
        has_findings = bool(outcome.affected_slice_indices) or outcome.patient_class in {
            PatientClass.COVID_19,
            PatientClass.COMMUNITY_ACQUIRED_PNEUMONIA,
        }
        status = codes.SUCCEEDED_WITH_FINDINGS if has_findings else codes.SUCCEEDED_WITHOUT_FINDINGS
        return [
            QualitativeEvaluation(codes.PROCESSING_SUMMARY, status),
            QualitativeEvaluation(
                codes.OVERALL_ASSESSMENT, codes.PATIENT_CLASSES[outcome.patient_class]
            ),
        ]
    # The lungs may have been found where the slices did not suffice for a vote.
    status = codes.NONE_SUCCEEDED if screening.lungs is None else codes.NOT_ALL_SUCCEEDED
    return [
        QualitativeEvaluation(codes.PROCESSING_SUMMARY, status),
        QualitativeEvaluation(codes.OVERALL_ASSESSMENT, codes.NOT_ANALYSED),
        QualitativeEvaluation(
            codes.REASON_NOT_ANALYSED, codes.NOT_ANALYSED_REASONS[outcome.reason]
        ),
    ]


def _quality(screening: Screening) -> list[QualitativeEvaluation]:
    """Say whether the screened series has defects that the models may have suffered from."""
    if not isinstance(screening.outcome, Decision):
        return []
    is_limited = any(one.code in LIMITING_DEFECTS for one in screening.defects)
    value = codes.LIMITED_QUALITY if is_limited else codes.DIAGNOSTIC_QUALITY
    return [QualitativeEvaluation(codes.IMAGING_SERIES_QUALITY, value)]


def certainty_of(probability: float) -> Measurement:
    """Write a share of 0 to 1 as Certainty of Finding in percent."""
    return Measurement(codes.CERTAINTY_OF_FINDING, percent(probability), codes.PERCENT)


def _track(screening: Screening, concept: str, words: str) -> TrackingIdentifier:
    uid = tracking_uid(screening.run.study_instance_uid, concept)
    return TrackingIdentifier(uid=uid, identifier=words)


def _add_texts(
    group: MeasurementsAndQualitativeEvaluations, name: Code, texts: tuple[str, ...]
) -> None:
    for text in texts:
        group[0].ContentSequence.append(
            TextContentItem(
                name=name, value=text, relationship_type=RelationshipTypeValues.CONTAINS
            )
        )
