"""The report: TID 1500 in a Comprehensive 3D SR (PS3.16 A; PS3.3 A.35.13).

The root result of a run. The same tree is valid in Comprehensive and Enhanced SR, for archives that
do not know the newer class. It is COMPLETE or PARTIAL, always UNVERIFIED and PRELIMINARY: software
cannot verify, and a physician's report follows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeAlias

from highdicom.coding_schemes import CodingSchemeIdentificationItem
from highdicom.sr import (
    CodeContentItem,
    CodedConcept,
    Comprehensive3DSR,
    ComprehensiveSR,
    ContainerContentItem,
    ContentSequence,
    DeviceObserverIdentifyingAttributes,
    EnhancedSR,
    ImageContentItem,
    MeasurementReport,
    ObservationContext,
    ObserverContext,
    RelationshipTypeValues,
    TextContentItem,
)
from pydicom import Dataset

from screener.domain import Decision
from screener.report import codes
from screener.report.algorithms import product_of
from screener.report.groups import assess, class_groups, lung_groups, slice_groups, summary_group
from screener.report.key_objects import cite_key_slices
from screener.report.key_slices import list_affected_slices
from screener.report.options import ReportClass
from screener.report.shortfalls import describe_shortfalls, find_shortfalls
from screener.report.wording import DISCLAIMER, say_defects, say_outcome, say_series

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pydicom.sr.coding import Code

    from screener.domain import PredecessorReport, Screening
    from screener.report.algorithms import Algorithm
    from screener.report.envelope import Envelope
    from screener.report.evidence import InstanceReference, SliceReference, StudyEvidence
    from screener.report.options import ReportOptions
    from screener.report.seg import LungSegments
    from screener.report.shortfalls import Shortfall

#: What a report is, by the class that a site chose.
ReportDocument: TypeAlias = Comprehensive3DSR | ComprehensiveSR | EnhancedSR
_CLASSES: Final[dict[ReportClass, type[ReportDocument]]] = {
    ReportClass.COMPREHENSIVE_3D: Comprehensive3DSR,
    ReportClass.COMPREHENSIVE: ComprehensiveSR,
    ReportClass.ENHANCED: EnhancedSR,
}


@dataclass(frozen=True, slots=True)
class Siblings:
    """The other objects of a run, as far as the report has something to say of them.

    Parameters
    ----------
    segments
        The segments to cite, None where no segmentation was written.
    lesion_map
        The map to cite, None where none was written.
    left_out
        One sentence for each object that a destination wants and the study cannot give.
    """

    segments: LungSegments | None = None
    lesion_map: InstanceReference | None = None
    left_out: tuple[str, ...] = ()

    def list_cited(self) -> list[InstanceReference]:
        """List what the tree refers to, so that it is evidence too."""
        segmentation = self.segments.reference if self.segments is not None else None
        return [one for one in (segmentation, self.lesion_map) if one is not None]


def build_report(
    screening: Screening,
    evidence: StudyEvidence,
    envelope: Envelope,
    options: ReportOptions,
    siblings: Siblings,
) -> ReportDocument:
    """Write the report of a run."""
    shortfalls = find_shortfalls(screening, options)
    content = MeasurementReport(
        observation_context=describe_observer(envelope.algorithms, envelope),
        procedure_reported=name_procedure(screening, evidence),
        imaging_measurements=[
            summary_group(
                screening,
                envelope.algorithms,
                (*_comments(screening, evidence, options, shortfalls), *siblings.left_out),
                siblings.lesion_map,
            ),
            *class_groups(screening, envelope.algorithms),
            *lung_groups(screening, envelope.algorithms, siblings.segments),
            *slice_groups(screening, envelope.algorithms, evidence, options.maximum_slice_groups),
        ],
    )
    insert_image_library(content, cite_key_slices(screening, evidence, options.n_key_slices))
    append_evaluations(content, screening)
    return write_document(
        content,
        evidence,
        envelope,
        options,
        cited=siblings.list_cited(),
        shortfalls=shortfalls,
        predecessor=screening.run.predecessor,
    )


def write_document(
    content: MeasurementReport,
    evidence: StudyEvidence,
    envelope: Envelope,
    options: ReportOptions,
    *,
    cited: Sequence[InstanceReference] = (),
    shortfalls: tuple[Shortfall, ...] = (),
    predecessor: PredecessorReport | None = None,
) -> ReportDocument:
    """Write a tree as a document of the class that the site chose.

    ``cited`` are objects of the same run, evidence beside the instances of the source;
    ``shortfalls`` make it PARTIAL.
    """
    listed = [*evidence.instances, *cited]
    # highdicom copies and searches the whole tree twice over, for evidence that is written anew
    # here: half of the time that a report takes. It gets the root with its first item alone.
    root, tree = content[0], content[0].ContentSequence
    root.ContentSequence = ContentSequence(list(tree)[:1], is_sr=True)
    document = _CLASSES[options.report_class](
        evidence=[evidence.header],
        content=root,
        is_complete=not shortfalls,
        is_verified=False,
        is_final=False,
        previous_versions=_predecessors(predecessor),
        requested_procedures=_requests(evidence.header),
        coding_schemes=[_private_scheme(options)],
        content_qualification=options.content_qualification.value,
        **envelope.arguments,
    )
    document.ContentSequence = tree
    if shortfalls:
        document.CompletionFlagDescription = describe_shortfalls(shortfalls)
    document.CurrentRequestedProcedureEvidenceSequence = _list_evidence(
        evidence.header.StudyInstanceUID, listed
    )
    if not listed:
        del document.CurrentRequestedProcedureEvidenceSequence
    return document


def _private_scheme(options: ReportOptions) -> CodingSchemeIdentificationItem:
    return CodingSchemeIdentificationItem(
        codes.PRIVATE_SCHEME,
        name=codes.PRIVATE_SCHEME_NAME,
        responsible_organization=options.manufacturer,
    )


def _comments(
    screening: Screening,
    evidence: StudyEvidence,
    options: ReportOptions,
    shortfalls: tuple[Shortfall, ...],
) -> tuple[str, ...]:
    """Give the texts of the summary, the conclusion first."""
    texts = [say_outcome(screening), DISCLAIMER]
    texts.extend(say_defects(screening, evidence.header_notes))
    if screening.run.predecessor is not None:
        texts.append("This report replaces an earlier report of the same study.")
    texts.extend(one.comment for one in shortfalls)
    if isinstance(screening.outcome, Decision):
        n_affected = len(list_affected_slices(screening))
        if n_affected > options.maximum_slice_groups:
            texts.append(
                f"{options.maximum_slice_groups} of {n_affected} affected slices are listed, "
                "the most certain ones."
            )
        if screening.volume and None in map(evidence.cite, screening.volume.slices):
            texts.append(
                "Slices are named by their position only: the SOP Instance UIDs of the source "
                "do not tell its slices apart."
            )
    texts.extend(say_series(screening))
    return tuple(texts)


def describe_observer(algorithms: tuple[Algorithm, ...], envelope: Envelope) -> ObservationContext:
    """Name the product as the observer (TID 1002, 1004)."""
    product = product_of(algorithms)
    attributes = DeviceObserverIdentifyingAttributes(
        uid=product.device_uid,
        name=product.name,
        manufacturer_name=product.manufacturer,
        model_name=product.name,
        serial_number=envelope.arguments["device_serial_number"],
    )
    return ObservationContext(
        observer_device_context=ObserverContext(
            observer_type=CodedConcept.from_code(codes.DEVICE),
            observer_identifying_attributes=attributes,
        )
    )


def name_procedure(screening: Screening, evidence: StudyEvidence) -> CodedConcept | Code:
    """Name the imaging procedure: the source's own code, else what we know of it."""
    for item in evidence.header.get("ProcedureCodeSequence", []):
        if item.get("CodeValue") and item.get("CodingSchemeDesignator") and item.get("CodeMeaning"):
            return CodedConcept(item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning)
    if isinstance(screening.outcome, Decision):
        return codes.CT_CHEST
    return codes.PROCEDURES_BY_MODALITY.get(evidence.modality, codes.IMAGING_PROCEDURE)


def insert_image_library(content: MeasurementReport, references: Iterable[SliceReference]) -> None:
    """List slices before the measurements (TID 1600).

    Only references: highdicom's entries repeat up to fifteen descriptors per image and cannot be
    made for multi-frame sources.
    """
    images = [
        ImageContentItem(
            name=codes.SOURCE,
            referenced_sop_class_uid=reference.instance.sop_class_uid,
            referenced_sop_instance_uid=reference.instance.sop_instance_uid,
            referenced_frame_numbers=reference.frame_numbers,
            relationship_type=RelationshipTypeValues.CONTAINS,
        )
        for reference in references
    ]
    if not images:
        return
    group = ContainerContentItem(
        name=codes.IMAGE_LIBRARY_GROUP, relationship_type=RelationshipTypeValues.CONTAINS
    )
    group.ContentSequence = ContentSequence(images)
    library = ContainerContentItem(
        name=codes.IMAGE_LIBRARY,
        template_id="1600",
        relationship_type=RelationshipTypeValues.CONTAINS,
    )
    library.ContentSequence = ContentSequence([group])
    tree = content[0].ContentSequence
    tree.insert(len(tree) - 1, library)


def append_evaluations(content: MeasurementReport, screening: Screening) -> None:
    """Say the result of the study at the root too (TID 1500 row 12), where viewers look for it."""
    container = ContainerContentItem(
        name=codes.QUALITATIVE_EVALUATIONS, relationship_type=RelationshipTypeValues.CONTAINS
    )
    contains = RelationshipTypeValues.CONTAINS
    container.ContentSequence = ContentSequence(
        [
            *(
                CodeContentItem(name=item.name, value=item.value, relationship_type=contains)
                for evaluation in assess(screening)
                for item in evaluation
            ),
            TextContentItem(
                name=codes.CONCLUSION, value=say_outcome(screening), relationship_type=contains
            ),
        ]
    )
    content[0].ContentSequence.append(container)


def _list_evidence(
    study_instance_uid: str, references: Iterable[InstanceReference]
) -> list[Dataset]:
    """Write the Current Requested Procedure Evidence Sequence (0040,A375), grouped by series."""
    series: dict[str, Dataset] = {}
    for reference in references:
        item = series.setdefault(reference.series_instance_uid, Dataset())
        item.SeriesInstanceUID = reference.series_instance_uid
        if "ReferencedSOPSequence" not in item:
            item.ReferencedSOPSequence = []
        instance = Dataset()
        instance.ReferencedSOPClassUID = reference.sop_class_uid
        instance.ReferencedSOPInstanceUID = reference.sop_instance_uid
        item.ReferencedSOPSequence.append(instance)
    study = Dataset()
    study.StudyInstanceUID = study_instance_uid
    study.ReferencedSeriesSequence = list(series.values())
    return [study] if series else []


def _predecessors(predecessor: PredecessorReport | None) -> list[Dataset] | None:
    """Name the report that this one replaces."""
    if predecessor is None:
        return None
    stub = Dataset()
    stub.StudyInstanceUID = predecessor.study_instance_uid
    stub.SeriesInstanceUID = predecessor.series_instance_uid
    stub.SOPClassUID = predecessor.sop_class_uid
    stub.SOPInstanceUID = predecessor.sop_instance_uid
    return [stub]


def _requests(header: Dataset) -> list[Dataset] | None:
    """Write the Referenced Request Sequence (0040,A370) from what the source says of its order."""
    orders = list(header.get("RequestAttributesSequence", []))
    if not orders and not header.get("AccessionNumber"):
        return None
    return [_request(header, order) for order in orders or [Dataset()]]


def _request(header: Dataset, order: Dataset) -> Dataset:
    request = Dataset()
    request.StudyInstanceUID = order.get("StudyInstanceUID") or header.StudyInstanceUID
    request.ReferencedStudySequence = []
    request.AccessionNumber = order.get("AccessionNumber") or header.AccessionNumber
    request.PlacerOrderNumberImagingServiceRequest = order.get(
        "PlacerOrderNumberImagingServiceRequest", ""
    )
    request.FillerOrderNumberImagingServiceRequest = order.get(
        "FillerOrderNumberImagingServiceRequest", ""
    )
    request.RequestedProcedureID = order.get("RequestedProcedureID", "")
    request.RequestedProcedureDescription = order.get("RequestedProcedureDescription", "")
    request.RequestedProcedureCodeSequence = list(order.get("RequestedProcedureCodeSequence", []))
    return request
