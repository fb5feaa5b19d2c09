"""Slice geometry from header values: oblique, reversed, gapped, duplicated, tilted."""

import math
from datetime import timedelta

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from screener.assemble.geometry import (
    GeometryRules,
    SlicePlane,
    angle_to_patient_axis_degrees,
    measure_stack,
    slice_normal,
)
from screener.domain import DefectCode, NotAnalysedReason
from screener.errors import NotAnalysable
from tests.ct_factories import AXIAL, RECEIVED_AT

RULES = GeometryRules()
Orientation = tuple[float, float, float, float, float, float]


def plane(
    z_mm: float, number: int = 0, orientation: Orientation = AXIAL, y_mm: float = 0.0
) -> SlicePlane:
    return SlicePlane(
        (0.0, y_mm, z_mm), orientation, RECEIVED_AT + timedelta(seconds=number), f"{number:064x}"
    )


def tilted(degrees: float) -> Orientation:
    radians = math.radians(degrees)
    return (1.0, 0.0, 0.0, 0.0, math.cos(radians), -math.sin(radians))


def refusal_of(planes: list[SlicePlane]) -> NotAnalysedReason:
    with pytest.raises(NotAnalysable) as caught:
        measure_stack(planes, RULES)
    return caught.value.reason


def codes_of(planes: list[SlicePlane]) -> list[DefectCode]:
    return [defect.code for defect in measure_stack(planes, RULES).defects]


@given(order=st.permutations(range(12)))
@settings(max_examples=30)
def test_order_is_caudal_to_cranial_whatever_comes_first(order: list[int]) -> None:
    """Slices come in any order; the stack always rises towards the head."""
    stack = measure_stack([plane(2.5 * n - 100) for n in order], RULES)
    assert [order[index] for index in stack.order] == list(range(12))
    assert np.allclose(np.diff(stack.locations_mm), 2.5)


@pytest.mark.parametrize(
    "orientation",
    [AXIAL, (-1.0, 0.0, 0.0, 0.0, 1.0, 0.0), (-1.0, 0.0, 0.0, 0.0, -1.0, 0.0)],
)
def test_normal_points_to_the_head_in_every_position(orientation: Orientation) -> None:
    """Prone or feet first: the normal still points to the head."""
    assert slice_normal(orientation) == pytest.approx([0.0, 0.0, 1.0])


def test_skewed_orientation_is_broken_geometry() -> None:
    """Cosines that are not perpendicular unit vectors describe no plane."""
    with pytest.raises(NotAnalysable) as caught:
        slice_normal((1.0, 0.0, 0.0, 0.7, 0.7, 0.0))
    assert caught.value.reason is NotAnalysedReason.BROKEN_GEOMETRY


def test_gap_is_measured_and_reported() -> None:
    """Two slices are missing: the geometry counts them, the median spacing stays."""
    planes = [plane(5.0 * n) for n in range(20) if n not in {7, 8}]
    stack = measure_stack(planes, RULES)
    assert stack.geometry.n_missing_slices == 2
    assert stack.geometry.largest_gap_mm == pytest.approx(15.0)
    assert stack.geometry.slice_spacing_mm == pytest.approx(5.0)
    assert stack.geometry.is_regular
    assert [defect.code for defect in stack.defects] == [DefectCode.SLICE_GAP]


def test_half_the_slices_missing_is_broken_geometry() -> None:
    """More holes than the rules allow are no series."""
    numbers = [0, 1, 2, 3, 4, 5, 6, 7, 15, 16, 17, 18]
    assert refusal_of([plane(3.0 * n) for n in numbers]) is NotAnalysedReason.BROKEN_GEOMETRY


def test_wide_gap_is_broken_geometry() -> None:
    """A gap of 45 mm hides a lesion of any size."""
    numbers = [*range(40), *range(49, 80)]
    assert refusal_of([plane(5.0 * n) for n in numbers]) is NotAnalysedReason.BROKEN_GEOMETRY


def test_duplicate_position_uses_the_newest() -> None:
    """Same position twice: the one received last is the slice, the other is reported."""
    planes = [plane(5.0 * n, n) for n in range(10)] + [plane(15.0, 99)]
    stack = measure_stack(planes, RULES)
    assert 10 in stack.order
    assert stack.replaced == (3,)
    assert stack.geometry.n_slices == 10
    assert codes_of(planes) == [DefectCode.DUPLICATE_POSITION]


def test_duplicate_is_the_same_whatever_order_files_come_in() -> None:
    """The choice between duplicates depends on arrival, not on listing order."""
    planes = [plane(0.0, 5), plane(0.0, 7), plane(0.0, 6), plane(5.0, 1)]
    stack = measure_stack(planes, RULES)
    mirrored = measure_stack(planes[::-1], RULES)
    assert planes[stack.order[0]] == planes[::-1][mirrored.order[0]] == planes[1]


def test_irregular_spacing_is_reported() -> None:
    """One slice lies 20 % off its place."""
    planes = [plane(5.0 * n + (1.0 if n == 4 else 0.0)) for n in range(12)]
    assert codes_of(planes) == [DefectCode.IRREGULAR_SPACING]


def test_jitter_within_tolerance_is_regular() -> None:
    """Rounding in headers is no irregularity."""
    planes = [plane(5.0 * n + 0.02 * (-1) ** n) for n in range(12)]
    assert codes_of(planes) == []


def test_tilted_gantry_is_refused_by_name() -> None:
    """18.5 degrees, slices shifted along the table: a gantry tilt, as in a head CT."""
    assert refusal_of([plane(5.0 * n, orientation=tilted(18.5)) for n in range(20)]) is (
        NotAnalysedReason.GANTRY_TILTED
    )


def test_oblique_reformat_is_refused_as_not_axial() -> None:
    """The same angle, but slices stacked along their normal: a reformat."""
    step = slice_normal(tilted(18.5)) * 5.0
    planes = [
        plane(float(n * step[2]), orientation=tilted(18.5), y_mm=float(n * step[1]))
        for n in range(20)
    ]
    assert refusal_of(planes) is NotAnalysedReason.NOT_AXIAL


def test_small_tilt_is_flagged_and_measured_along_the_normal() -> None:
    """Five degrees: screened, said in the report, spacing shorter by the cosine."""
    planes = [plane(5.0 * n, orientation=tilted(5.0)) for n in range(20)]
    stack = measure_stack(planes, RULES)
    assert stack.geometry.tilt_degrees == pytest.approx(5.0)
    assert stack.geometry.slice_spacing_mm == pytest.approx(5.0 * math.cos(math.radians(5.0)))
    assert codes_of(planes) == [DefectCode.GANTRY_TILT]


def test_thick_slices_are_flagged() -> None:
    """8 mm apart is more than the models saw."""
    assert codes_of([plane(8.0 * n) for n in range(20)]) == [DefectCode.THICK_SLICES]


def test_one_position_only_is_too_few() -> None:
    """Ten images of one place are no volume."""
    assert refusal_of([plane(1.0, n) for n in range(10)]) is NotAnalysedReason.TOO_FEW_SLICES


def test_coronal_is_ninety_degrees_off() -> None:
    """A coronal slice looks along the front-back axis."""
    assert angle_to_patient_axis_degrees((1, 0, 0, 0, 0, -1)) == pytest.approx(90.0)
