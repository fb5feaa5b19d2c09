"""The pictures as one Multi-frame True Color Secondary Capture (PS3.3 A.8.5).

The first frame is the page, then comes one frame per key slice, each citing the slice it was drawn
on. No identity is burned in.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from highdicom.sr import CodedConcept
from pydicom import Dataset
from pydicom.tag import Tag
from pydicom.valuerep import DA, DT, TM

from screener.domain import Decision
from screener.report import codes
from screener.report.envelope import start_document
from screener.report.slice_frames import FRAME, list_frame_slices, render_frames

if TYPE_CHECKING:
    from highdicom import SOPClass

    from screener.domain import Screening
    from screener.report.envelope import Envelope
    from screener.report.evidence import SliceReference, StudyEvidence

_EIGHT_BITS: Final = 8


def build_capture(
    screening: Screening, evidence: StudyEvidence, envelope: Envelope, n_key_slices: int
) -> SOPClass:
    """Write the pictures of a run; without a decision the page alone.

    Raises
    ------
    ReportError
        The screening contradicts itself.
    """
    pictures = render_frames(screening, n_key_slices)
    document = start_document(evidence, envelope, "OT")
    _describe(document, screening, envelope)
    document.SamplesPerPixel = 3
    document.PhotometricInterpretation = "RGB"
    document.PlanarConfiguration = 0
    document.Columns, document.Rows = FRAME
    document.BitsAllocated = document.BitsStored = _EIGHT_BITS
    document.HighBit = _EIGHT_BITS - 1
    document.PixelRepresentation = 0
    document.NumberOfFrames = len(pictures)
    if len(pictures) > 1:
        document.FrameIncrementPointer = Tag("PageNumberVector")
        document.PageNumberVector = list(range(1, len(pictures) + 1))
    citations = [None, *_cite(screening, evidence, n_key_slices)]
    document.SharedFunctionalGroupsSequence = [Dataset()]
    document.PerFrameFunctionalGroupsSequence = [_frame(one) for one in citations]
    _cite_all(document, citations)
    document.PixelData = b"".join(picture.tobytes() for picture in pictures)
    document["PixelData"].VR = "OB"
    return document


def _describe(document: SOPClass, screening: Screening, envelope: Envelope) -> None:
    document.ImageType = ["DERIVED", "SECONDARY"]
    document.ConversionType = "WSD"
    document.BurnedInAnnotation = "NO"
    document.RecognizableVisualFeatures = "NO"
    document.LossyImageCompression = "00"
    document.PatientOrientation = ""
    document.ContentDate = DA(envelope.at.date())
    document.ContentTime = TM(envelope.at.time())
    document.AcquisitionDateTime = DT(envelope.at)
    # What was not analysed may be any part of the body.
    if isinstance(screening.outcome, Decision):
        document.BodyPartExamined = "CHEST"
    else:
        document.Laterality = ""
    document.DerivationDescription = (
        "Screening result drawn by software for people: first the page, then one frame per key "
        "slice. AI, not for diagnosis."
    )


def _cite(
    screening: Screening, evidence: StudyEvidence, n_key_slices: int
) -> list[SliceReference | None]:
    if screening.volume is None:
        return []
    indices = list_frame_slices(screening, n_key_slices)
    return [evidence.cite(screening.volume.slices[index]) for index in indices]


def _frame(cited: SliceReference | None) -> Dataset:
    frame = Dataset()
    if cited is None:
        return frame
    derivation = Dataset()
    derivation.DerivationCodeSequence = [CodedConcept.from_code(codes.DERIVATION)]
    derivation.SourceImageSequence = [_source(cited)]
    frame.DerivationImageSequence = [derivation]
    return frame


def _source(cited: SliceReference) -> Dataset:
    source = cited.item()
    source.PurposeOfReferenceCodeSequence = [CodedConcept.from_code(codes.SOURCE_FOR_PROCESSING)]
    return source


def _cite_all(document: SOPClass, citations: list[SliceReference | None]) -> None:
    """List the sources at the root too, where viewers that know no functional groups look."""
    sources = [_source(one) for one in citations if one is not None]
    if sources:
        document.SourceImageSequence = sources
        document.DerivationCodeSequence = [CodedConcept.from_code(codes.DERIVATION)]
