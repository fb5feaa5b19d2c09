"""Tell which frames of a series are axial CT slices of the patient, and why the others are not.

Each frame is asked the same questions in the same order; what fails is counted with its reason.
"""

from collections import Counter
from collections.abc import Sequence

from screener.assemble.geometry import angle_to_patient_axis_degrees
from screener.assemble.headers import CT_SOP_CLASS_UIDS, InstanceHeader, SliceHeader
from screener.domain import DefectCode, NotAnalysedReason, SourceDefect
from screener.errors import NotAnalysable

#: Slices whose normal is further than this from the patient axis are coronal or sagittal.
_AXIAL_WITHIN_DEGREES = 45.0
#: Image Type values (0008,0008) of pictures that are computed from several slices or energies and
#: are no longer Hounsfield units of one plane (PS3.3 C.8.15.2 and what vendors write).
_COMPUTED_IMAGE_TYPES = frozenset(
    {
        "MIP", "MINIP", "MAXIP", "PROJECTION IMAGE", "MAX_IP", "MIN_IP", "VOLUME_RENDER",
        "PERFUSION", "RCBF", "RCBV", "MTT", "TTP", "SUBTRACTION", "SCREEN SAVE", "ELECTRON_DENSITY",
        "EFF_ATOMIC_NUM", "IODINE", "Z_EFF",
    }
)  # fmt: skip
#: Modalities of documents (PS3.3 C.7.3.1.1.1) that often share a study with images.
_TEXT_MODALITIES = frozenset({"SR", "KO", "PR", "DOC", "REG", "RTSTRUCT", "RTPLAN", "RTDOSE"})


def usable_slices(
    headers: Sequence[InstanceHeader],
) -> tuple[list[SliceHeader], list[SourceDefect]]:
    """Separate axial CT slices from the rest; the rest is counted, never dropped in silence."""
    usable: list[SliceHeader] = []
    refusals: Counter[NotAnalysedReason] = Counter()
    details: dict[NotAnalysedReason, str] = {}
    for header in headers:
        whole = _refuse_instance(header)
        if whole is not None:
            refusals[whole[0]] += 1
            details.setdefault(*whole)
            continue
        for one in (SliceHeader(header, frame) for frame in header.frames):
            refusal = _refuse_slice(one)
            if refusal is None:
                usable.append(one)
            else:
                refusals[refusal[0]] += 1
                details.setdefault(*refusal)
    if not usable:
        reason, count = refusals.most_common(1)[0]
        what = "image" if count == 1 else "images"
        raise NotAnalysable(reason, f"{count} {what}: {details[reason]}")
    return usable, [_exclusion(reason, refusals[reason], details[reason]) for reason in refusals]


def _exclusion(reason: NotAnalysedReason, count: int, detail: str) -> SourceDefect:
    code = (
        DefectCode.UNREADABLE_INSTANCES
        if reason is NotAnalysedReason.UNREADABLE_PIXELS
        else DefectCode.EXCLUDED_INSTANCES
    )
    return SourceDefect(code, f"{count} left out: {detail}", count)


def _refuse_instance(header: InstanceHeader) -> tuple[NotAnalysedReason, str] | None:
    sop_class_uid = header.instance.sop_class_uid
    if not sop_class_uid:
        return (
            NotAnalysedReason.NO_IMAGES,
            "no SOP Class UID, so nothing says what it is and no report can refer to it",
        )
    if sop_class_uid not in CT_SOP_CLASS_UIDS:
        if header.pixels is None and not header.frames:
            return (
                NotAnalysedReason.NO_IMAGES,
                f"no image (modality {header.modality or 'unknown'})",
            )
        if header.pixels is None and header.modality in _TEXT_MODALITIES:
            return NotAnalysedReason.NO_IMAGES, f"no image (modality {header.modality})"
        return (
            NotAnalysedReason.UNSUPPORTED_MODALITY,
            f"modality {header.modality or 'unknown'} is not CT",
        )
    if header.modality not in {"CT", ""}:
        return (
            NotAnalysedReason.UNSUPPORTED_MODALITY,
            f"SOP class CT with modality {header.modality}",
        )
    if not header.frames:
        return NotAnalysedReason.UNREADABLE_PIXELS, header.unreadable or "no frames"
    return None


def _refuse_slice(one: SliceHeader) -> tuple[NotAnalysedReason, str] | None:
    """Give the first thing that makes a frame unusable, in the order in which people ask."""
    image_type = one.frame.image_type
    if "LOCALIZER" in image_type or "SCOUT" in image_type:
        return NotAnalysedReason.LOCALIZER_ONLY, "localizer (topogram, scout)"
    if image_type[:2] == ("DERIVED", "SECONDARY"):
        return NotAnalysedReason.DERIVED_ONLY, "derived, secondary image"
    if computed := _COMPUTED_IMAGE_TYPES.intersection(image_type):
        return NotAnalysedReason.DERIVED_ONLY, f"computed image ({min(computed)})"
    if one.header.unreadable is not None:
        return NotAnalysedReason.UNREADABLE_PIXELS, one.header.unreadable
    if one.frame.orientation is None or one.frame.position_mm is None:
        return NotAnalysedReason.BROKEN_GEOMETRY, "no Image Position or Orientation (Patient)"
    if one.frame.pixel_spacing_mm is None or min(one.frame.pixel_spacing_mm) <= 0:
        return NotAnalysedReason.BROKEN_GEOMETRY, "no Pixel Spacing"
    return _refuse_orientation(one.frame.orientation)


def _refuse_orientation(
    orientation: tuple[float, float, float, float, float, float],
) -> tuple[NotAnalysedReason, str] | None:
    try:
        angle_degrees = angle_to_patient_axis_degrees(orientation)
    except NotAnalysable as error:
        return error.reason, error.detail
    if angle_degrees > _AXIAL_WITHIN_DEGREES:
        return (
            NotAnalysedReason.NOT_AXIAL,
            f"coronal, sagittal or oblique slices, {angle_degrees:.0f} degrees off axial",
        )
    if abs(orientation[0]) < abs(orientation[1]):
        return NotAnalysedReason.BROKEN_GEOMETRY, "rows run from front to back, not left to right"
    return None
