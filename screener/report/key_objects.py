"""Key slices as a Key Object Selection (PS3.16 TID 2010), which viewers mark in the series."""

from __future__ import annotations

from typing import TYPE_CHECKING

from highdicom.ko import KeyObjectSelection, KeyObjectSelectionDocument

from screener.domain import Decision
from screener.report import codes
from screener.report.key_slices import select_key_slices
from screener.report.wording import SHORT_DISCLAIMER, say_outcome

if TYPE_CHECKING:
    from pydicom import Dataset

    from screener.domain import Screening
    from screener.report.envelope import Envelope
    from screener.report.evidence import InstanceReference, SliceReference, StudyEvidence


def cite_key_slices(
    screening: Screening, evidence: StudyEvidence, n_most: int
) -> tuple[SliceReference, ...]:
    """Cite the key slices of a decision, leaving out those that no reference can name."""
    if screening.volume is None or not isinstance(screening.outcome, Decision):
        return ()
    cited = (
        evidence.cite(screening.volume.slices[index])
        for index in select_key_slices(screening, n_most)
    )
    return tuple(reference for reference in cited if reference is not None)


def build_key_objects(
    screening: Screening,
    evidence: StudyEvidence,
    envelope: Envelope,
    key_slices: tuple[SliceReference, ...],
) -> KeyObjectSelectionDocument:
    """Write the key object selection of a run.

    Parameters
    ----------
    key_slices
        References of :func:`cite_key_slices`, at least one.
    """
    frames: dict[InstanceReference, list[int]] = {}
    for reference in key_slices:
        numbers = frames.setdefault(reference.instance, [])
        if reference.frame_number is not None:
            numbers.append(reference.frame_number)
    sources = [_source(evidence, instance) for instance in frames]
    document = KeyObjectSelectionDocument(
        evidence=sources,
        content=KeyObjectSelection(
            document_title=codes.OF_INTEREST,
            referenced_objects=sources,
            description=f"{SHORT_DISCLAIMER}. {say_outcome(screening)}",
        ),
        **envelope.arguments,
    )
    images = [item for item in document.ContentSequence if item.ValueType == "IMAGE"]
    for image, numbers in zip(images, frames.values(), strict=True):
        # TID 2010 forbids a concept name here, highdicom writes one.
        del image.ConceptNameCodeSequence
        if numbers:
            image.ReferencedSOPSequence[0].ReferencedFrameNumber = numbers
    # highdicom inherits study attributes for other objects but not for this one.
    document.copy_patient_and_study_information(evidence.header)
    return document


def _source(evidence: StudyEvidence, instance: InstanceReference) -> Dataset:
    source = evidence.copy_header()
    source.SeriesInstanceUID = instance.series_instance_uid
    source.SOPClassUID = instance.sop_class_uid
    source.SOPInstanceUID = instance.sop_instance_uid
    # highdicom tells images from other objects by these; they are not written.
    source.Rows = source.Columns = 1
    return source
