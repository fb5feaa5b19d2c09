"""Order and measure the slices of a series: pure, from header values.

Slices are ordered along their normal, from caudal to cranial: file names, instance numbers and
Slice Location are not trusted. Gaps, duplicates, irregular spacing and tilt are separate questions
with stated tolerances; each is either a defect that the report repeats or a named refusal.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np
from numpy.typing import NDArray

from screener.domain import DefectCode, NotAnalysedReason, SeriesGeometry, SourceDefect
from screener.errors import NotAnalysable

Vector = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class GeometryRules:
    """Tolerances; distances in mm, angles in degrees.

    The defaults for tilt: below 1 degree is rounding, up to 10 degrees slices still show a chest
    as the models know it, beyond that they do not (a head CT is tilted by 15 to 25).
    """

    flagged_tilt_degrees: float = 1.0
    refused_tilt_degrees: float = 10.0
    same_position_mm: float = 0.05
    irregular_spacing_share: float = 0.1  #: deviation from the median distance, as a share of it
    gap_share: float = 1.5  #: a distance beyond this many medians lacks a slice
    refused_missing_share: float = 0.25  #: of the slices that should be there
    refused_gap_mm: float = 40.0
    thick_spacing_mm: float = 5.0  #: beyond this the report warns: models saw 1 to 5 mm


@dataclass(frozen=True, slots=True)
class SlicePlane:
    """Where one slice lies; what the geometry needs of a header."""

    position_mm: tuple[float, float, float]
    orientation: tuple[float, float, float, float, float, float]
    received_at: datetime
    content_digest: str
    frame_number: int | None = None
    instance_number: int | None = None


@dataclass(frozen=True, slots=True)
class StackGeometry:
    """The ordered stack."""

    order: tuple[int, ...]  #: indices of the planes used, caudal to cranial
    locations_mm: tuple[float, ...]  #: along the normal, same order
    replaced: tuple[int, ...]  #: indices of planes that a newer one at the same position replaced
    geometry: SeriesGeometry
    defects: tuple[SourceDefect, ...]


def slice_normal(orientation: Sequence[float]) -> Vector:
    """Give the unit normal of a slice, pointing to the head.

    Parameters
    ----------
    orientation
        Image Orientation (Patient): row cosines, then column cosines, in LPS axes.

    Raises
    ------
    NotAnalysable
        BROKEN_GEOMETRY: the two directions are no perpendicular unit vectors.

    References
    ----------
    DICOM PS3.3 C.7.6.2.1.1: z increases to the head.
    """
    row, column = np.array(orientation[:3]), np.array(orientation[3:])
    normal = np.cross(row, column)
    length = float(np.linalg.norm(normal))
    sizes = (float(np.linalg.norm(row)), float(np.linalg.norm(column)), length)
    if not all(math.isclose(size, 1.0, abs_tol=0.01) for size in sizes):
        raise NotAnalysable(
            NotAnalysedReason.BROKEN_GEOMETRY,
            "Image Orientation (Patient) does not hold two perpendicular unit vectors",
        )
    return np.asarray(normal / length * (1.0 if normal[2] >= 0 else -1.0), dtype=np.float64)


def angle_to_patient_axis_degrees(orientation: Sequence[float]) -> float:
    """Give the angle between the slice normal and the head-foot axis, 0 to 90."""
    cosine = min(1.0, abs(float(slice_normal(orientation)[2])))
    return math.degrees(math.acos(cosine))


def measure_stack(planes: Sequence[SlicePlane], rules: GeometryRules) -> StackGeometry:
    """Order the planes of one grid and judge their geometry.

    Parameters
    ----------
    planes
        At least one; all of the same orientation within rounding.
    rules
        Tolerances.

    Raises
    ------
    NotAnalysable
        BROKEN_GEOMETRY, GANTRY_TILTED, NOT_AXIAL, or TOO_FEW_SLICES for a single position.
    """
    normal = slice_normal(planes[0].orientation)
    positions = np.array([plane.position_mm for plane in planes], dtype=np.float64)
    locations = positions @ normal
    order, replaced = _order(planes, locations, rules)
    if len(order) < 2:  # noqa: PLR2004  one slice has no spacing
        raise NotAnalysable(
            NotAnalysedReason.TOO_FEW_SLICES, f"all {len(planes)} slices lie at one position"
        )
    ordered = locations[list(order)]
    distances = np.diff(ordered)
    tilt_degrees = angle_to_patient_axis_degrees(planes[0].orientation)
    _check_tilt(positions[list(order)], normal, tilt_degrees, rules)
    geometry = _measure(distances, len(replaced), tilt_degrees, rules)
    _check_gaps(geometry, rules)
    return StackGeometry(
        order=order,
        locations_mm=tuple(float(location) for location in ordered),
        replaced=replaced,
        geometry=geometry,
        defects=_find_defects(geometry, distances, rules),
    )


def _order(
    planes: Sequence[SlicePlane], locations: Vector, rules: GeometryRules
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Sort by location; of several planes at one location the last is used.

    The last by number, so that of two recordings that nothing else tells apart all slices come
    from the same one, in whatever order they were received; then the newest (design 3.1).
    """

    def sort_key(index: int) -> tuple[float, int, datetime, str, int]:
        plane = planes[index]
        return (
            float(locations[index]),
            plane.instance_number or 0,
            plane.received_at,
            plane.content_digest,
            plane.frame_number or 0,
        )

    kept: list[int] = []
    replaced: list[int] = []
    for index in sorted(range(len(planes)), key=sort_key):
        is_same = bool(kept) and locations[index] - locations[kept[-1]] <= rules.same_position_mm
        if not is_same:
            kept.append(index)
        elif sort_key(index)[1:] > sort_key(kept[-1])[1:]:
            replaced.append(kept[-1])
            kept[-1] = index
        else:
            replaced.append(index)
    return tuple(kept), tuple(replaced)


def _check_tilt(
    positions: Vector, normal: Vector, tilt_degrees: float, rules: GeometryRules
) -> None:
    """Refuse slices that are tilted too far, and say whether the gantry or a reformat did it."""
    if tilt_degrees <= rules.refused_tilt_degrees:
        return
    step = positions[-1] - positions[0]
    shear_degrees = math.degrees(
        math.acos(min(1.0, abs(float(step @ normal)) / float(np.linalg.norm(step))))
    )
    # A tilted gantry moves along the table, not along the slice normal; a reformat does not.
    if shear_degrees > rules.flagged_tilt_degrees:
        raise NotAnalysable(
            NotAnalysedReason.GANTRY_TILTED,
            f"gantry tilted by {tilt_degrees:.1f} degrees, "
            f"at most {rules.refused_tilt_degrees:.0f} can be screened",
        )
    raise NotAnalysable(
        NotAnalysedReason.NOT_AXIAL,
        f"oblique slices, {tilt_degrees:.1f} degrees off axial, "
        f"at most {rules.refused_tilt_degrees:.0f} can be screened",
    )


def _measure(
    distances: Vector, n_replaced: int, tilt_degrees: float, rules: GeometryRules
) -> SeriesGeometry:
    spacing_mm = float(np.median(distances))
    multiples = np.maximum(1.0, np.round(distances / spacing_mm))
    is_gap = distances > rules.gap_share * spacing_mm
    deviation = np.abs(distances - spacing_mm * np.where(is_gap, multiples, 1.0))
    return SeriesGeometry(
        n_slices=len(distances) + 1,
        slice_spacing_mm=spacing_mm,
        coverage_mm=float(distances.sum()),
        largest_gap_mm=float(distances.max()),
        n_missing_slices=int((multiples[is_gap] - 1).sum()),
        n_duplicate_positions=n_replaced,
        tilt_degrees=tilt_degrees,
        is_regular=bool((deviation <= rules.irregular_spacing_share * spacing_mm).all()),
    )


def _check_gaps(geometry: SeriesGeometry, rules: GeometryRules) -> None:
    expected = geometry.n_slices + geometry.n_missing_slices
    if geometry.n_missing_slices > rules.refused_missing_share * expected:
        raise NotAnalysable(
            NotAnalysedReason.BROKEN_GEOMETRY,
            f"{geometry.n_missing_slices} of {expected} slices are missing",
        )
    if geometry.largest_gap_mm > rules.refused_gap_mm:
        raise NotAnalysable(
            NotAnalysedReason.BROKEN_GEOMETRY,
            f"a gap of {geometry.largest_gap_mm:.1f} mm between neighbouring slices, "
            f"at most {rules.refused_gap_mm:.0f} mm can be screened",
        )


def _find_defects(
    geometry: SeriesGeometry, distances: Vector, rules: GeometryRules
) -> tuple[SourceDefect, ...]:
    found = _find_lacks(geometry, distances, rules)
    spacing_mm = geometry.slice_spacing_mm
    if not geometry.is_regular:
        found.append(
            SourceDefect(
                DefectCode.IRREGULAR_SPACING,
                f"slices lie {distances.min():.2f} to {distances.max():.2f} mm apart, "
                f"{spacing_mm:.2f} mm in the median",
            )
        )
    if geometry.tilt_degrees > rules.flagged_tilt_degrees:
        found.append(
            SourceDefect(
                DefectCode.GANTRY_TILT, f"slices are tilted by {geometry.tilt_degrees:.1f} degrees"
            )
        )
    if spacing_mm > rules.thick_spacing_mm:
        found.append(
            SourceDefect(
                DefectCode.THICK_SLICES,
                f"slices lie {spacing_mm:.1f} mm apart, more than the "
                f"{rules.thick_spacing_mm:.0f} mm that the models were made for",
            )
        )
    return tuple(found)


def _find_lacks(
    geometry: SeriesGeometry, distances: Vector, rules: GeometryRules
) -> list[SourceDefect]:
    """Find positions without a slice, and those with several."""
    found = []
    if geometry.n_missing_slices:
        n_gaps = int((distances > rules.gap_share * geometry.slice_spacing_mm).sum())
        found.append(
            SourceDefect(
                DefectCode.SLICE_GAP,
                f"{n_gaps} gaps, the largest {geometry.largest_gap_mm:.1f} mm; about "
                f"{geometry.n_missing_slices} slices are missing",
                geometry.n_missing_slices,
            )
        )
    if geometry.n_duplicate_positions:
        found.append(
            SourceDefect(
                DefectCode.DUPLICATE_POSITION,
                f"{geometry.n_duplicate_positions} slices lie where another one does; "
                "the last by number, then the newest, was used",
                geometry.n_duplicate_positions,
            )
        )
    return found
