"""Read the headers of a study into frozen values, without pixels.

Absence is tolerated and noted; a value of the wrong type is not: the instance is then unreadable,
with the reason. Frames of multi-frame instances (Enhanced CT, Legacy Converted Enhanced CT) are
resolved from their functional groups, so that later steps see slices only.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from pydicom.dataset import Dataset

from screener.assemble.part10 import (
    Part10Header,
    PixelPlace,
    UnreadableFile,
    quiet_parser,
    read_part10_header,
)
from screener.assemble.plain_header import PlainHeaders
from screener.assemble.values import (
    Attributes,
    integer_of,
    integer_or_none,
    items_of,
    number_of,
    text_or_empty,
    texts_of,
    unsigned_of,
    vector_reader,
)
from screener.domain import SpooledInstance, SpooledStudy
from screener.errors import UnreadablePixels

CT_IMAGE_STORAGE = "1.2.840.10008.5.1.4.1.1.2"
ENHANCED_CT_IMAGE_STORAGE = "1.2.840.10008.5.1.4.1.1.2.1"
LEGACY_CONVERTED_ENHANCED_CT_IMAGE_STORAGE = "1.2.840.10008.5.1.4.1.1.2.2"
#: SOP classes that hold CT slices (PS3.4 B.5).
CT_SOP_CLASS_UIDS = frozenset(
    {
        CT_IMAGE_STORAGE,
        ENHANCED_CT_IMAGE_STORAGE,
        LEGACY_CONVERTED_ENHANCED_CT_IMAGE_STORAGE,
    }
)
#: Rows and Columns beyond this are no CT slice.
MAX_MATRIX = 16_384
#: More frames than this in one instance are no CT study.
MAX_FRAMES = 20_000
#: Bits Allocated (0028,0100) that a CT slice can have; 8 only after lossy compression.
_BITS_ALLOCATED = (8, 16)
_GROUPS = ("PerFrameFunctionalGroupsSequence", "SharedFunctionalGroupsSequence")
_KEYWORDS = (
    "SpecificCharacterSet", "ImageType", "SOPClassUID", "SOPInstanceUID", "StudyDate", "Modality",
    "Manufacturer", "PatientID", "BodyPartExamined", "SliceThickness", "KVP", "ConvolutionKernel",
    "ContrastBolusAgent", "ContrastBolusAgentSequence", "AcquisitionNumber", "InstanceNumber",
    "ImagePositionPatient", "ImageOrientationPatient", "FrameOfReferenceUID", "SamplesPerPixel",
    "PhotometricInterpretation", "NumberOfFrames", "Rows", "Columns", "PixelSpacing",
    "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "PixelPaddingValue",
    "PixelPaddingRangeLimit", "RescaleIntercept", "RescaleSlope", "RescaleType",
    "LossyImageCompression", "TemporalPositionIdentifier", "TemporalPositionIndex",
    "NominalPercentageOfCardiacPhase", "EchoNumbers", *_GROUPS,
)  # fmt: skip
#: What tells recordings of the same place apart, with the attributes that may say so: in
#: functional groups (PS3.3 C.7.6.16.2.2, C.8.15.3) and at the root of single frames.
DIVISIONS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("acquisition number", ("FrameAcquisitionNumber", "AcquisitionNumber")),
    ("temporal position", ("TemporalPositionIndex", "TemporalPositionIdentifier")),
    ("cardiac phase", ("NominalPercentageOfCardiacPhase",)),
    ("tube voltage", ("KVP",)),
    ("echo", ("EchoNumbers",)),
    ("stack", ("StackID",)),
)
#: Attributes that the report counts as missing: Type 1 (a value is needed) and Type 2 (may be
#: empty) of any composite image, of the CT classes, and of single-frame CT Image (PS3.3 A.3).
_TYPE_1 = ("SOPInstanceUID", "Modality")
_TYPE_1_OF_CT = ("ImageType", "FrameOfReferenceUID")
_TYPE_2 = ("PatientID", "Manufacturer", "StudyDate", "InstanceNumber")
_TYPE_2_OF_CT_IMAGE = ("KVP", "SliceThickness")


@dataclass(frozen=True, slots=True)
class Rescale:
    """Modality LUT of a frame: ``hu = stored * slope + intercept`` (PS3.3 C.11.1.1.2)."""

    slope: float
    intercept: float
    rescale_type: str | None  #: None where absent: Hounsfield units then, for CT


@dataclass(frozen=True, slots=True)
class PixelDescription:
    """How the pixels of an instance are stored."""

    rows: int
    columns: int
    bits_allocated: int
    bits_stored: int
    is_signed: bool
    padding: tuple[int, int] | None  #: stored values from, to (inclusive) that are no image
    n_frames: int
    place: PixelPlace


@dataclass(frozen=True, slots=True)
class FrameHeader:
    """One slice as its header describes it; None where the header is silent."""

    frame_number: int | None  #: from 1, None in single-frame instances
    image_type: tuple[str, ...]
    position_mm: tuple[float, float, float] | None
    orientation: tuple[float, float, float, float, float, float] | None
    pixel_spacing_mm: tuple[float, float] | None
    slice_thickness_mm: float | None
    divisions: tuple[str, ...]  #: values of ``DIVISIONS``, empty where the header is silent
    rescale: Rescale | None


@dataclass(frozen=True, slots=True)
class InstanceHeader:
    """One instance, with its frames; ``unreadable`` says why its pixels cannot be used."""

    instance: SpooledInstance
    modality: str
    body_part: str
    kernel: str
    has_contrast: bool
    frame_of_reference_uid: str
    patient_digest: str  #: sha256 of Patient ID, to tell patients apart; empty where it is empty
    instance_number: int | None
    is_study_date_empty: bool
    is_lossy: bool
    missing: tuple[str, ...]  #: keywords of Type 1 and 2 attributes that are not there
    pixels: PixelDescription | None
    frames: tuple[FrameHeader, ...]
    unreadable: str | None
    has_impossible_values: bool = False  #: it parses, and a value that pixels need is no such value


@dataclass(frozen=True, slots=True)
class SliceHeader:
    """One frame with the instance it belongs to."""

    header: InstanceHeader
    frame: FrameHeader


#: Beyond this no slope or intercept leads to Hounsfield units, which 16 bits hold.
_LARGEST_RESCALE = 1e6


def read_headers(study: SpooledStudy) -> tuple[InstanceHeader, ...]:
    """Read the headers of all instances of a study; never raises for a bad instance.

    Returns
    -------
    :
        One per instance, in the same order.
    """
    plain = PlainHeaders(_KEYWORDS)
    return tuple(read_instance_header(instance, plain) for instance in study.instances)


def read_instance_header(
    instance: SpooledInstance, plain: PlainHeaders | None = None
) -> InstanceHeader:
    """Read the header of one instance; what cannot be read stands in ``unreadable``."""
    try:
        parsed = read_part10_header(instance.path, _KEYWORDS, plain)
    except UnreadableFile as error:
        return _unreadable_instance(instance, str(error))
    with quiet_parser():
        return _describe_instance(instance, parsed)


def impossible_instances(headers: Sequence[InstanceHeader]) -> tuple[str, ...]:
    """Give the content digests of CT images that parse and hold values that cannot be."""
    return tuple(
        header.instance.content_digest
        for header in headers
        if header.has_impossible_values and header.instance.sop_class_uid in CT_SOP_CLASS_UIDS
    )


def _unreadable_instance(instance: SpooledInstance, reason: str) -> InstanceHeader:
    return InstanceHeader(
        instance=instance,
        modality="",
        body_part="",
        kernel="",
        has_contrast=False,
        frame_of_reference_uid="",
        patient_digest="",
        instance_number=None,
        is_study_date_empty=False,
        is_lossy=False,
        missing=(),
        pixels=None,
        frames=(),
        unreadable=reason,
    )


def _describe_instance(instance: SpooledInstance, parsed: Part10Header) -> InstanceHeader:
    dataset = parsed.dataset
    pixels: PixelDescription | None = None
    frames: tuple[FrameHeader, ...] = ()
    unreadable = None
    try:
        pixels = _describe_pixels(dataset, parsed.pixel_place)
    except UnreadablePixels as error:
        unreadable = str(error)
    try:
        frames = _describe_frames(dataset, 1 if pixels is None else pixels.n_frames)
    except UnreadablePixels as error:
        unreadable = unreadable or str(error)
    patient_id = text_or_empty(dataset, "PatientID")
    return InstanceHeader(
        instance=instance,
        modality=text_or_empty(dataset, "Modality").upper(),
        body_part=text_or_empty(dataset, "BodyPartExamined").upper(),
        kernel=text_or_empty(dataset, "ConvolutionKernel"),
        has_contrast=bool(
            text_or_empty(dataset, "ContrastBolusAgent") or "ContrastBolusAgentSequence" in dataset
        ),
        frame_of_reference_uid=text_or_empty(dataset, "FrameOfReferenceUID"),
        patient_digest=hashlib.sha256(patient_id.encode()).hexdigest() if patient_id else "",
        instance_number=integer_or_none(dataset, "InstanceNumber"),
        is_study_date_empty=not text_or_empty(dataset, "StudyDate"),
        is_lossy=text_or_empty(dataset, "LossyImageCompression") == "01",
        missing=_missing_keywords(dataset, instance.sop_class_uid),
        pixels=pixels,
        frames=frames,
        unreadable=unreadable,
        has_impossible_values=unreadable is not None,
    )


def _missing_keywords(dataset: Attributes, sop_class_uid: str) -> tuple[str, ...]:
    needed = _TYPE_1 + (_TYPE_1_OF_CT if sop_class_uid in CT_SOP_CLASS_UIDS else ())
    present = _TYPE_2 + (_TYPE_2_OF_CT_IMAGE if sop_class_uid == CT_IMAGE_STORAGE else ())
    empty = tuple(keyword for keyword in needed if not text_or_empty(dataset, keyword))
    absent = tuple(keyword for keyword in present if keyword not in dataset)
    return empty + absent


# ── pixels ───────────────────────────────────────────────────────────────────────────────────


def _describe_pixels(dataset: Attributes, place: PixelPlace | None) -> PixelDescription:
    """Check the Image Pixel Module (PS3.3 C.7.6.3) of a CT slice, strictly.

    Raises
    ------
    UnreadablePixels
        No standard Pixel Data, or a value that no CT slice can have.
    """
    if place is None:
        raise UnreadablePixels("no Pixel Data element: none, or in a private encoding")
    samples = unsigned_of(dataset, "SamplesPerPixel", 1, 4)
    if samples != 1:
        raise UnreadablePixels(f"Samples per Pixel is {samples}, a CT slice has 1")
    photometric = text_or_empty(dataset, "PhotometricInterpretation")
    if photometric != "MONOCHROME2":
        raise UnreadablePixels("Photometric Interpretation is not MONOCHROME2")
    bits_allocated = unsigned_of(dataset, "BitsAllocated", 1, 64)
    bits_stored = unsigned_of(dataset, "BitsStored", 1, 64)
    high_bit = unsigned_of(dataset, "HighBit", 0, 63)
    if bits_allocated not in _BITS_ALLOCATED or bits_stored > bits_allocated:
        raise UnreadablePixels(f"{bits_stored} bits stored in {bits_allocated} allocated")
    if high_bit != bits_stored - 1:
        raise UnreadablePixels(f"High Bit is {high_bit} with {bits_stored} bits stored")
    is_signed = unsigned_of(dataset, "PixelRepresentation", 0, 1) == 1
    n_frames = integer_of(dataset, "NumberOfFrames")
    n_frames = 1 if n_frames is None else n_frames
    if not 1 <= n_frames <= MAX_FRAMES:
        raise UnreadablePixels(f"Number of Frames is not between 1 and {MAX_FRAMES}")
    return PixelDescription(
        rows=unsigned_of(dataset, "Rows", 1, MAX_MATRIX),
        columns=unsigned_of(dataset, "Columns", 1, MAX_MATRIX),
        bits_allocated=bits_allocated,
        bits_stored=bits_stored,
        is_signed=is_signed,
        padding=_padding(dataset, is_signed=is_signed),
        n_frames=n_frames,
        place=place,
    )


def _padding(dataset: Attributes, *, is_signed: bool) -> tuple[int, int] | None:
    """Give the range of stored values that pad the image (PS3.3 C.7.5.1.1.2)."""
    value = _padding_value(dataset, "PixelPaddingValue", is_signed=is_signed)
    if value is None:
        return None
    limit = _padding_value(dataset, "PixelPaddingRangeLimit", is_signed=is_signed)
    other = value if limit is None else limit
    return min(value, other), max(value, other)


def _padding_value(dataset: Attributes, keyword: str, *, is_signed: bool) -> int | None:
    """Read a US or SS value; writers mix the two up, the sign belongs to the pixels."""
    value = integer_of(dataset, keyword)
    if value is None:
        return None
    unsigned = value & 0xFFFF
    return unsigned - 0x10000 if is_signed and unsigned > 0x7FFF else unsigned  # noqa: PLR2004


# ── frames ───────────────────────────────────────────────────────────────────────────────────


def _describe_frames(dataset: Attributes, n_frames: int) -> tuple[FrameHeader, ...]:
    per_frame = items_of(dataset, _GROUPS[0])
    if per_frame is None:
        numbers = [None] if n_frames == 1 else list(range(1, n_frames + 1))
        return tuple(_describe_frame(number, (dataset,), dataset) for number in numbers)
    if len(per_frame) != n_frames:
        raise UnreadablePixels(
            f"{len(per_frame)} items in Per-Frame Functional Groups for {n_frames} frames"
        )
    shared = (items_of(dataset, _GROUPS[1]) or ())[:1]
    return tuple(
        _describe_frame(number, (*_macros(group), *(m for one in shared for m in _macros(one))),
                        dataset)
        for number, group in enumerate(per_frame, start=1)
    )  # fmt: skip


def _macros(group: Dataset) -> tuple[Dataset, ...]:
    """Flatten one item of functional groups: each macro is a sequence of one item (C.7.6.16)."""
    return tuple(one.value[0] for one in group if one.VR == "SQ" and one.value)


def _first_text(places: Sequence[Attributes], keywords: Sequence[str]) -> str:
    """Give the first value that stands anywhere; for what only divides."""
    found = (text_or_empty(place, keyword) for keyword in keywords for place in places)
    return next((text for text in found if text), "")


def _describe_frame(
    number: int | None, places: Sequence[Attributes], dataset: Attributes
) -> FrameHeader:
    """Read the values of a frame from the first place that has them."""

    def look_up(keyword: str, read: Callable[[Attributes, str], Any]) -> Any:
        for place in places:
            if (value := read(place, keyword)) is not None:
                return value
        return None

    position = look_up("ImagePositionPatient", vector_reader(3))
    orientation = look_up("ImageOrientationPatient", vector_reader(6))
    thickness = look_up("SliceThickness", number_of)
    slope, intercept = look_up("RescaleSlope", number_of), look_up("RescaleIntercept", number_of)
    rescale = None
    if slope == 0.0 or max(abs(slope or 0.0), abs(intercept or 0.0)) > _LARGEST_RESCALE:
        raise UnreadablePixels("RescaleSlope and RescaleIntercept give no Hounsfield units")
    if slope is not None and intercept is not None:
        rescale_type = next((t for p in places if (t := text_or_empty(p, "RescaleType"))), None)
        rescale = Rescale(slope, intercept, rescale_type)
    frame_type = look_up("FrameType", texts_of)
    return FrameHeader(
        frame_number=number,
        image_type=frame_type or texts_of(dataset, "ImageType") or (),
        position_mm=position,
        orientation=orientation,
        pixel_spacing_mm=look_up("PixelSpacing", vector_reader(2)),
        slice_thickness_mm=thickness,
        divisions=tuple(_first_text((*places, dataset), keywords) for _, keywords in DIVISIONS),
        rescale=rescale,
    )
