"""Frames that were drawn on slices: where they lie, and which slice each of them cites.

Shared by the segmentations and the map. highdicom asks for source images with unique SOP Instance
UIDs; real ones may be shared by all slices, so place holders stand for them until the end.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydicom import Dataset
from pydicom.uid import CTImageStorage
from pydicom.valuerep import DSfloat

from screener.report.uids import derive_uid

if TYPE_CHECKING:
    from collections.abc import Sequence

    from screener.domain import SliceSource, Volume
    from screener.report.envelope import Envelope
    from screener.report.evidence import SliceReference, StudyEvidence


def plane_sources(
    volume: Volume, slices: Sequence[SliceSource], evidence: StudyEvidence
) -> list[Dataset]:
    """Make one single-frame header per slice that carries only what places it.

    Their SOP Instance UIDs are place holders of this build: real ones may be shared by all
    slices, and frames of one instance have none of their own.
    """
    sources = []
    for index, one in enumerate(slices):
        # highdicom inherits from the first and takes only the place from the others.
        source = evidence.copy_header() if index == 0 else Dataset()
        source.StudyInstanceUID = evidence.header.StudyInstanceUID
        source.SeriesInstanceUID = volume.series_instance_uid
        source.SOPClassUID = CTImageStorage
        source.SOPInstanceUID = derive_uid("place holder", str(index))
        source.Modality = "CT"
        source.FrameOfReferenceUID = volume.frame_of_reference_uid
        source.PositionReferenceIndicator = evidence.header.get("PositionReferenceIndicator", "")
        source.Rows, source.Columns = one.rows, one.columns
        source.PixelSpacing = [decimal(value) for value in one.pixel_spacing_mm]
        source.ImageOrientationPatient = [decimal(value) for value in one.orientation]
        source.ImagePositionPatient = [decimal(value) for value in one.position_mm]
        # Type 1 in the result; the source may lack it.
        source.SliceThickness = decimal(one.slice_thickness_mm or volume.spacing_mm[0])
        sources.append(source)
    return sources


def cite_sources(
    document: Dataset,
    slices: Sequence[SliceSource],
    sources: Sequence[Dataset],
    evidence: StudyEvidence,
) -> None:
    """Replace the place holders by references that name the slices, or by none."""
    citations = {
        source.SOPInstanceUID: evidence.cite(one)
        for source, one in zip(sources, slices, strict=True)
    }
    frames = [
        (frame, citations[_source_image(frame).ReferencedSOPInstanceUID])
        for frame in document.PerFrameFunctionalGroupsSequence
    ]
    # Only now: frames of both lungs on one slice share one item.
    for frame, cited in frames:
        if cited is None:
            del frame.DerivationImageSequence
            continue
        image = _source_image(frame)
        image.ReferencedSOPClassUID = cited.instance.sop_class_uid
        image.ReferencedSOPInstanceUID = cited.instance.sop_instance_uid
        if cited.frame_number is not None:
            image.ReferencedFrameNumber = cited.frame_number
    _cite_series(document, list(citations.values()))


def _source_image(frame: Dataset) -> Dataset:
    image: Dataset = frame.DerivationImageSequence[0].SourceImageSequence[0]
    return image


def _cite_series(document: Dataset, citations: list[SliceReference | None]) -> None:
    cited = dict.fromkeys(citation.instance for citation in citations if citation is not None)
    # Written by highdicom with place holders, at the root and by series.
    del document.SourceImageSequence
    if not cited:
        del document.ReferencedSeriesSequence
        return
    series = Dataset()
    series.SeriesInstanceUID = next(iter(cited)).series_instance_uid
    series.ReferencedInstanceSequence = [instance.item() for instance in cited]
    document.ReferencedSeriesSequence = [series]


def pin_dimensions(document: Dataset, envelope: Envelope) -> None:
    """Replace the random Dimension Organization UID (0020,9164)."""
    uid = derive_uid("dimensions", envelope.sop_instance_uid)
    for item in document.DimensionOrganizationSequence:
        item.DimensionOrganizationUID = uid
    for item in document.DimensionIndexSequence:
        item.DimensionOrganizationUID = uid


def decimal(value: float) -> DSfloat:
    """Give a number as Decimal String: at most 16 characters (PS3.5 6.2)."""
    return DSfloat(value, auto_format=True)
