"""The page on paper inside a DICOM object (Encapsulated PDF; PS3.3 A.45.1)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from highdicom.sr import CodedConcept
from pydicom.valuerep import DA, DT, TM

from screener.report import codes
from screener.report.envelope import start_document
from screener.report.key_objects import cite_key_slices
from screener.report.paper import render_paper

if TYPE_CHECKING:
    from highdicom import SOPClass

    from screener.domain import Screening
    from screener.report.envelope import Envelope
    from screener.report.evidence import InstanceReference, StudyEvidence


def build_encapsulated_pdf(
    screening: Screening, evidence: StudyEvidence, envelope: Envelope, n_key_slices: int
) -> SOPClass:
    """Write the page of a run, citing the key slices it shows.

    Raises
    ------
    ReportError
        The screening contradicts itself.
    """
    paper = render_paper(screening)
    document = start_document(evidence, envelope, "DOC")
    document.ConversionType = "WSD"
    document.ContentDate = DA(envelope.at.date())
    document.ContentTime = TM(envelope.at.time())
    document.AcquisitionDateTime = DT(envelope.at)
    document.BurnedInAnnotation = "NO"
    document.RecognizableVisualFeatures = "NO"
    document.VerificationFlag = "UNVERIFIED"
    document.DocumentTitle = "Chest CT screening, AI result, unverified, not for diagnosis"
    document.ConceptNameCodeSequence = [CodedConcept.from_code(codes.IMAGING_MEASUREMENT_REPORT)]
    document.MIMETypeOfEncapsulatedDocument = "application/pdf"
    document.EncapsulatedDocumentLength = len(paper)
    # OB has an even length; the length above tells readers where the file ends.
    document.EncapsulatedDocument = paper + b"\0" * (len(paper) % 2)
    sources = [one.item() for one in _list_instances(screening, evidence, n_key_slices)]
    if sources:
        document.SourceInstanceSequence = sources
    return document


def _list_instances(
    screening: Screening, evidence: StudyEvidence, n_key_slices: int
) -> tuple[InstanceReference, ...]:
    """List what the page shows; this module has no place for frame numbers."""
    cited = cite_key_slices(screening, evidence, n_key_slices)
    return tuple(dict.fromkeys(one.instance for one in cited))
