"""Lung outlines and findings over the original slices (GSPS; PS3.3 A.33.1).

A viewer draws them on the images it already has, in the lung window, and can switch them off.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from highdicom.color import CIELabColor
from pydicom import Dataset, dcmread
from pydicom.errors import InvalidDicomError
from pydicom.valuerep import DA, DT, TM, DSfloat

from screener.domain import LEFT_LUNG, RIGHT_LUNG, Decision
from screener.errors import ReportError
from screener.report.activation import activation_colour, seen_mask
from screener.report.contours import outline
from screener.report.envelope import start_document
from screener.report.key_slices import list_affected_slices, select_key_slices
from screener.report.lesions import Extent, lesions_of
from screener.report.palette import CLASS_COLOURS, CLASS_LABELS, LUNG_COLOURS
from screener.report.planes import LUNG_WINDOW_HU
from screener.report.verdict import verdict_of
from screener.report.wording import INCOMPLETE, SHORT_DISCLAIMER, percent

if TYPE_CHECKING:
    from highdicom import SOPClass

    from screener.domain import LungMask, Screening, SliceSource, Volume
    from screener.report.contours import Polygon
    from screener.report.envelope import Envelope
    from screener.report.evidence import SliceReference, StudyEvidence
    from screener.report.palette import Colour

#: Layer of each lung, and of the words; Graphic Layer (0070,0002) is a CS.
LUNG_LAYERS: Final = {RIGHT_LUNG: "RIGHT_LUNG", LEFT_LUNG: "LEFT_LUNG"}
RESULT_LAYER: Final = "RESULT"
#: Layer of what the classifier saw.
SEEN_LAYER: Final = "SEEN_BY_AI"


@dataclass(frozen=True, slots=True)
class Rescale:
    """How stored values become HU, as the Modality LUT module takes it."""

    intercept: str
    slope: str


@dataclass(frozen=True, slots=True)
class AnnotatedSlice:
    """One slice that a viewer can draw on."""

    slice_index: int
    source: SliceSource
    reference: SliceReference


@dataclass(frozen=True, slots=True)
class PresentationPlan:
    """What a presentation state is made of, all of it there."""

    volume: Volume
    lungs: LungMask
    slices: tuple[AnnotatedSlice, ...]
    rescale: Rescale


def plan_presentation(
    screening: Screening, evidence: StudyEvidence, n_most: int
) -> PresentationPlan | str:
    """Collect what a presentation state needs, or say in half a sentence why there is none."""
    if not isinstance(screening.outcome, Decision):
        return "the study was not analysed"
    if screening.volume is None or screening.lungs is None:
        return "the lungs were not segmented"
    volume = screening.volume
    slices = []
    for index in select_key_slices(screening, n_most):
        reference = evidence.cite(volume.slices[index])
        if reference is not None:
            slices.append(AnnotatedSlice(index, volume.slices[index], reference))
    if not slices:
        return "no reference would name a slice of the source"
    rescales = {_rescale_of(one.source) for one in slices}
    if len(rescales) > 1:
        return "the slices of the source differ in their rescale values"
    rescale = rescales.pop()
    if rescale is None:
        return "the source does not say how its values become HU"
    return PresentationPlan(volume, screening.lungs, tuple(slices), rescale)


def build_presentation(
    screening: Screening, evidence: StudyEvidence, envelope: Envelope, plan: PresentationPlan
) -> SOPClass:
    """Write the presentation state of a run."""
    document = start_document(evidence, envelope, "PR")
    for item in document.ContributingEquipmentSequence:
        # In local time like all its other times: dcmpschk 3.6.7 takes no offset in a DT.
        item.ContributionDateTime = DT(envelope.at.replace(tzinfo=None))
    document.BodyPartExamined = "CHEST"
    document.ContentLabel = "AI_RESULT"
    document.ContentDescription = SHORT_DISCLAIMER
    document.ContentCreatorName = f"{envelope.arguments['manufacturer_model_name']}^AI"
    document.PresentationCreationDate = DA(envelope.at.date())
    document.PresentationCreationTime = TM(envelope.at.time())
    document.ReferencedSeriesSequence = [_series(plan)]
    document.DisplayedAreaSelectionSequence = [_displayed_area(plan.slices[0].source)]
    document.RescaleIntercept = plan.rescale.intercept
    document.RescaleSlope = plan.rescale.slope
    document.RescaleType = "HU"
    document.SoftcopyVOILUTSequence = [_lung_window()]
    document.PresentationLUTShape = "IDENTITY"
    document.GraphicAnnotationSequence = [
        item for one in plan.slices for item in _annotations(screening, plan.lungs, one)
    ]
    document.GraphicLayerSequence = _layers(screening, document.GraphicAnnotationSequence)
    return document


def _rescale_of(source: SliceSource) -> Rescale | None:
    try:
        header = dcmread(source.instance.path, stop_before_pixels=True, force=True)
    except (InvalidDicomError, OSError, EOFError) as error:
        raise ReportError(f"the header of a key slice cannot be read: {error}") from error
    places = [header]
    if source.frame_number is not None:
        groups = [*header.get("SharedFunctionalGroupsSequence", [])]
        frames = header.get("PerFrameFunctionalGroupsSequence", [])
        groups += frames[source.frame_number - 1 : source.frame_number]
        for group in groups:
            places += group.get("PixelValueTransformationSequence", [])
    for place in reversed(places):
        intercept, slope = place.get("RescaleIntercept"), place.get("RescaleSlope")
        if intercept is not None and slope is not None:
            return Rescale(str(intercept), str(slope))
    return None


def _series(plan: PresentationPlan) -> Dataset:
    """List the images this applies to, frames of one instance in one item."""
    images: dict[str, Dataset] = {}
    for one in plan.slices:
        image = images.setdefault(one.reference.instance.sop_instance_uid, one.reference.item())
        number = one.reference.frame_number
        if number is not None:
            numbers = image.get("ReferencedFrameNumber", [])
            known = [numbers] if isinstance(numbers, int) else list(numbers)
            image.ReferencedFrameNumber = sorted({*map(int, known), number})
    series = Dataset()
    series.SeriesInstanceUID = plan.volume.series_instance_uid
    series.ReferencedImageSequence = list(images.values())
    return series


def _displayed_area(source: SliceSource) -> Dataset:
    area = Dataset()
    area.DisplayedAreaTopLeftHandCorner = [1, 1]
    area.DisplayedAreaBottomRightHandCorner = [source.columns, source.rows]
    area.PresentationSizeMode = "SCALE TO FIT"
    area.PresentationPixelSpacing = [
        DSfloat(value, auto_format=True) for value in source.pixel_spacing_mm
    ]
    return area


def _lung_window() -> Dataset:
    lower, upper = LUNG_WINDOW_HU
    window = Dataset()
    window.WindowCenter = DSfloat((lower + upper) / 2)
    window.WindowWidth = DSfloat(upper - lower)
    window.WindowCenterWidthExplanation = "LUNG"
    return window


def _annotations(screening: Screening, lungs: LungMask, one: AnnotatedSlice) -> list[Dataset]:
    items = []
    for label, layer in LUNG_LAYERS.items():
        polygons = outline(lungs.labels[one.slice_index] == label)
        if polygons:
            item = _annotation(one, layer)
            item.GraphicObjectSequence = [_polyline(polygon) for polygon in polygons]
            items.append(item)
    seen = _outline_seen(screening, lungs, one.slice_index)
    if seen:
        item = _annotation(one, SEEN_LAYER)
        item.GraphicObjectSequence = [_polyline(polygon) for polygon in seen]
        items.append(item)
    words = _annotation(one, RESULT_LAYER)
    words.TextObjectSequence = [_text(_say(screening, one.slice_index))]
    return [*items, words]


def _outline_seen(screening: Screening, lungs: LungMask, slice_index: int) -> list[Polygon]:
    """Outline where the classifier saw something inside the lungs."""
    lesions = lesions_of(screening, slice_index)
    if lesions is None:
        return []
    labels = lungs.labels[slice_index]
    n_rows, n_columns = labels.shape
    shares = lesions.resample(Extent(0, 0, n_columns, n_rows), (n_columns, n_rows))
    return outline(seen_mask(shares, labels > 0))


def _annotation(one: AnnotatedSlice, layer: str) -> Dataset:
    item = Dataset()
    item.ReferencedImageSequence = [one.reference.item()]
    item.GraphicLayer = layer
    return item


def _polyline(polygon: Polygon) -> Dataset:
    item = Dataset()
    item.GraphicAnnotationUnits = "PIXEL"
    item.GraphicDimensions = 2
    item.NumberOfGraphicPoints = len(polygon)
    item.GraphicData = polygon.astype(np.float32).ravel().tolist()
    item.GraphicType = "POLYLINE"
    item.GraphicFilled = "N"
    return item


def _text(text: str) -> Dataset:
    """Write words into the upper left part of the display."""
    item = Dataset()
    item.BoundingBoxAnnotationUnits = "DISPLAY"
    item.UnformattedTextValue = text
    item.BoundingBoxTopLeftHandCorner = [0.02, 0.02]
    item.BoundingBoxBottomRightHandCorner = [0.6, 0.14]
    item.BoundingBoxTextHorizontalJustification = "LEFT"
    return item


def _say(screening: Screening, slice_index: int) -> str:
    affected = {one.slice_index: one for one in list_affected_slices(screening)}
    one = affected.get(slice_index)
    finding = (
        f"This slice: {CLASS_LABELS[one.patient_class]} {percent(one.probability):.0f} %"
        if one
        else "This slice: not affected"
    )
    incomplete = [INCOMPLETE] if screening.run.shortfall is not None else []
    return "\r\n".join([verdict_of(screening).title, finding, *incomplete, SHORT_DISCLAIMER])


def _layers(screening: Screening, annotations: Any) -> list[Dataset]:
    """Describe the layers that are in use, in the colours of the picture."""
    used = {item.GraphicLayer for item in annotations}
    colours: dict[str, Colour] = {
        layer: LUNG_COLOURS[label] for label, layer in LUNG_LAYERS.items()
    }
    colours[SEEN_LAYER] = activation_colour(1.0)
    if isinstance(screening.outcome, Decision):
        colours[RESULT_LAYER] = CLASS_COLOURS[screening.outcome.patient_class]
    layers = []
    for order, (name, colour) in enumerate(colours.items(), start=1):
        if name in used:
            layer = Dataset()
            layer.GraphicLayer = name
            layer.GraphicLayerOrder = order
            layer.GraphicLayerRecommendedDisplayCIELabValue = list(
                CIELabColor.from_rgb(*colour).value
            )
            layers.append(layer)
    return layers
