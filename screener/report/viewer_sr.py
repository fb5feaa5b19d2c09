"""A second, smaller report for viewers that fail on groups without a region (TID 1410).

Every group draws a box around the lungs of one slice and gives the certainty of what was found in
it; the verdict on the patient stands in Qualitative Evaluations. It is no root result: it repeats
what the report says, in a series of its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from highdicom.sr import (
    FindingSite,
    GraphicTypeValues,
    ImageRegion,
    MeasurementReport,
    PlanarROIMeasurementsAndQualitativeEvaluations,
    SourceImageForRegion,
)

from screener.domain import Decision, PatientClass
from screener.report import codes
from screener.report.algorithms import (
    SLICE_CLASSIFICATION,
    find_algorithm,
    list_algorithms,
    tree_identification,
)
from screener.report.groups import certainty_of, track_slice
from screener.report.key_slices import (
    list_affected_slices,
    most_certain,
    patient_class_of,
    select_key_slices,
)
from screener.report.shortfalls import find_shortfalls
from screener.report.sr import (
    append_evaluations,
    describe_observer,
    insert_image_library,
    name_procedure,
    write_document,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from screener.domain import Screening, Volume
    from screener.report.algorithms import Algorithm
    from screener.report.envelope import Envelope
    from screener.report.evidence import SliceReference, StudyEvidence
    from screener.report.options import ReportOptions
    from screener.report.sr import ReportDocument


@dataclass(frozen=True, slots=True)
class Region:
    """What was found on one slice, and where the lungs are on it."""

    slice_index: int
    patient_class: PatientClass
    probability: float  #: 0 to 1, of that class
    reference: SliceReference
    box: NDArray[np.float64]  #: (5, 2), closed; columns before rows, corner of the image is 0, 0


@dataclass(frozen=True, slots=True)
class RegionPlan:
    """What a report of regions is made of, all of it there."""

    volume: Volume
    algorithm: Algorithm
    regions: tuple[Region, ...]


def plan_regions(
    screening: Screening, evidence: StudyEvidence, options: ReportOptions
) -> RegionPlan | str:
    """Collect the regions, or say in half a sentence why there are none.

    Affected slices, the most certain ones where there are too many; key slices where none is
    affected.
    """
    if not isinstance(screening.outcome, Decision):
        return "the study was not analysed"
    if screening.volume is None or screening.lungs is None or screening.probabilities is None:
        return "the run has no slices with lungs and probabilities"
    labels = screening.lungs.labels
    regions = []
    for index, patient_class, probability in _list_findings(screening, options):
        reference = evidence.cite(screening.volume.slices[index])
        if reference is not None and labels[index].any():
            box = _box_around(labels[index] > 0)
            regions.append(Region(index, patient_class, probability, reference, box))
    if not regions:
        return "no reference would name a slice of the source"
    algorithm = find_algorithm(list_algorithms(screening, options), SLICE_CLASSIFICATION)
    if algorithm is None:
        return "the run names no slice classifier"
    return RegionPlan(screening.volume, algorithm, tuple(regions))


def build_viewer_report(
    screening: Screening,
    evidence: StudyEvidence,
    envelope: Envelope,
    options: ReportOptions,
    plan: RegionPlan,
) -> ReportDocument:
    """Write the report of regions of a run."""
    content = MeasurementReport(
        observation_context=describe_observer(envelope.algorithms, envelope),
        procedure_reported=name_procedure(screening, evidence),
        imaging_measurements=[_group(screening, plan, one) for one in plan.regions],
    )
    insert_image_library(content, [one.reference for one in plan.regions])
    append_evaluations(content, screening)
    shortfalls = find_shortfalls(screening, options)
    return write_document(content, evidence, envelope, options, shortfalls=shortfalls)


def _list_findings(
    screening: Screening, options: ReportOptions
) -> list[tuple[int, PatientClass, float]]:
    affected = most_certain(list_affected_slices(screening), options.maximum_slice_groups)
    if affected:
        return [(one.slice_index, one.patient_class, one.probability) for one in affected]
    probabilities = screening.probabilities
    if probabilities is None:
        return []
    classes = [patient_class_of(name) for name in probabilities.class_names]
    if PatientClass.NORMAL not in classes:
        return []
    column = classes.index(PatientClass.NORMAL)
    rows = {int(index): row for row, index in enumerate(probabilities.slice_indices)}
    return [
        (index, PatientClass.NORMAL, float(probabilities.probabilities[rows[index], column]))
        for index in select_key_slices(screening, options.n_key_slices)
        if index in rows
    ]


def _box_around(mask: NDArray[np.bool_]) -> NDArray[np.float64]:
    rows = np.flatnonzero(mask.any(axis=1))
    columns = np.flatnonzero(mask.any(axis=0))
    left, right = columns[0], columns[-1] + 1
    top, bottom = rows[0], rows[-1] + 1
    corners = [(left, top), (right, top), (right, bottom), (left, bottom), (left, top)]
    return np.array(corners, np.float64)


def _group(
    screening: Screening, plan: RegionPlan, region: Region
) -> PlanarROIMeasurementsAndQualitativeEvaluations:
    is_disease = region.patient_class is not PatientClass.NORMAL
    instance = region.reference.instance
    return PlanarROIMeasurementsAndQualitativeEvaluations(
        tracking_identifier=track_slice(screening, plan.volume, region.slice_index),
        referenced_region=ImageRegion(
            graphic_type=GraphicTypeValues.POLYLINE,
            graphic_data=region.box,
            source_image=SourceImageForRegion(
                referenced_sop_class_uid=instance.sop_class_uid,
                referenced_sop_instance_uid=instance.sop_instance_uid,
                referenced_frame_numbers=region.reference.frame_numbers,
            ),
        ),
        finding_category=codes.DISEASE if is_disease else None,
        finding_type=codes.PATIENT_CLASSES[region.patient_class],
        finding_sites=[FindingSite(anatomic_location=codes.LUNG)],
        algorithm_id=tree_identification(plan.algorithm),
        measurements=[certainty_of(region.probability)],
    )
