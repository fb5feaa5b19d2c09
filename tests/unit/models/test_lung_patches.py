"""Gaps between parts of a lung are filled where there are many, and left where there are few."""

import numpy as np
import pytest
from numpy.typing import NDArray

from models.evaluation.masks import dice
from models.lung_answers import choose_lungs, one_answer, two_answers
from models.lung_patches import fill_patches
from models.phantom import Strewn, place_strewn

#: Slices, rows and columns: coarse and fine grids, of about the same lungs.
GRIDS = [((40, 80, 100), (6.0, 3.0, 3.0)), ((120, 120, 150), (2.0, 2.0, 2.0))]
Shape = tuple[int, int, int]
Spacing = tuple[float, float, float]


def two_lungs(shape: Shape, spacing_mm: Spacing) -> NDArray[np.bool_]:
    """Give two ellipsoids beside each other, 200 mm high."""
    axes = [(np.arange(n) - (n - 1) / 2) * mm for n, mm in zip(shape, spacing_mm, strict=True)]
    z, y, x = np.meshgrid(*axes, indexing="ij", sparse=True)
    sides = [(z / 100) ** 2 + (y / 85) ** 2 + ((x - side) / 55) ** 2 < 1 for side in (-70, 70)]
    return np.asarray(sides[0] | sides[1])


def strew(lungs: NDArray[np.bool_], spacing_mm: Spacing, share: float) -> NDArray[np.bool_]:
    """Take balls of 10 to 20 mm out of the lungs until the share is gone."""
    rng = np.random.default_rng(8)
    air = np.full(lungs.shape, -850, dtype=np.int16)
    _, patches = place_strewn(air, lungs, spacing_mm, share, Strewn(10.0, 20.0), rng=rng)
    return lungs & ~patches


@pytest.mark.parametrize(("shape", "spacing_mm"), GRIDS)
def test_patches_strewn_over_half_of_the_lungs_are_filled(
    shape: Shape, spacing_mm: Spacing
) -> None:
    """What lies between parts of a lung is lung, on any grid; nothing that was found is lost."""
    lungs = two_lungs(shape, spacing_mm)
    holed = strew(lungs, spacing_mm, 0.5)
    filled = fill_patches(holed, spacing_mm)
    assert dice(holed, lungs) < 0.7
    assert dice(filled, lungs) > 0.93
    assert filled[holed].all()


@pytest.mark.parametrize(("shape", "spacing_mm"), GRIDS)
def test_lungs_with_few_gaps_stay_as_they_are(shape: Shape, spacing_mm: Spacing) -> None:
    """A few foci, and a solid lobe left out as a whole: other rules answer for those."""
    lungs = two_lungs(shape, spacing_mm)
    few = strew(lungs, spacing_mm, 0.04)
    lobe = lungs.copy()
    lobe[: shape[0] // 3, :, : shape[2] // 2] = False
    for mask in (lungs, few, lobe, np.zeros(shape, dtype=bool)):
        np.testing.assert_array_equal(fill_patches(mask, spacing_mm), mask)


def test_patches_are_filled_where_the_network_suspects_solid_lung() -> None:
    """Its second answer alone may be too small to decide; without any the mask stays."""
    shape, spacing_mm = GRIDS[0]
    lungs = two_lungs(shape, spacing_mm)
    holed = strew(lungs, spacing_mm, 0.5)
    with_solid = np.where(holed, np.float32(5.0), np.float32(-5.0))

    def choose(added: float) -> NDArray[np.bool_]:
        sums = np.tile(np.array([[added, 100.0]], dtype=np.float32), (shape[0], 1))
        answers = [two_answers(holed, with_solid, sums)]
        return choose_lungs(answers, spacing_mm, lambda _: answers)

    assert dice(choose(8.0), lungs) > 0.93
    # Nothing is suspected; hardly anything holds air; the network cannot tell.
    np.testing.assert_array_equal(choose(2.0), holed)
    np.testing.assert_array_equal(choose(90.0), holed)
    alone = choose_lungs([one_answer(holed)], spacing_mm, lambda _: [one_answer(holed)])
    np.testing.assert_array_equal(alone, holed)
