"""Outlines: their coordinates, their direction, what they leave out, how far they may stray."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, ImageDraw

from screener.report.contours import MOST_POINTS, TOLERANCE, Polygon, outline


def fill(polygons: list[Polygon], shape: tuple[int, int], scale: int = 8) -> np.ndarray:
    """Paint polygons and say of each pixel whether its centre lies inside."""
    picture = Image.new("L", (shape[1] * scale, shape[0] * scale))
    draw = ImageDraw.Draw(picture)
    for polygon in polygons:
        draw.polygon([tuple(point) for point in polygon * scale], fill=1)
    return np.asarray(picture)[scale // 2 :: scale, scale // 2 :: scale] > 0


def test_rectangle_has_its_four_corners() -> None:
    """The upper left corner of the upper left pixel is the origin; columns come first."""
    mask = np.zeros((20, 30), bool)
    mask[3:9, 5:17] = True
    [polygon] = outline(mask)
    assert polygon[0].tolist() == polygon[-1].tolist()
    assert {tuple(point) for point in polygon} == {(5, 3), (17, 3), (17, 9), (5, 9)}


def test_mask_at_the_edge_stays_within_the_image() -> None:
    """A mask that fills the image is outlined by the image."""
    [polygon] = outline(np.ones((6, 8), bool))
    assert polygon.min() == 0
    assert polygon.max(axis=0).tolist() == [8, 6]


def test_holes_and_specks_are_left_out_and_the_largest_comes_first() -> None:
    """Two islands, one with a hole, and a speck give two polygons."""
    mask = np.zeros((40, 60), bool)
    mask[2:10, 2:10] = True
    mask[12:38, 12:50] = True
    mask[20:26, 20:30] = False
    mask[2, 55] = True
    large, small = outline(mask)
    assert large.max(axis=0).tolist() == [50, 38]
    assert small.max(axis=0).tolist() == [10, 10]


def test_pixels_that_touch_by_a_corner_are_two_outlines() -> None:
    """A loop never crosses itself where two squares meet."""
    mask = np.zeros((20, 20), bool)
    mask[2:8, 2:8] = mask[8:14, 8:14] = True
    assert len(outline(mask)) == 2


@pytest.mark.parametrize("seed", range(5))
def test_outline_of_any_blob_stays_close(seed: int) -> None:
    """Filled again, the outline differs from the mask by less than a pixel along its edge."""
    rows, columns = np.mgrid[:64, :80]
    random = np.random.default_rng(seed)
    angles = np.arctan2(rows - 32, columns - 40)
    radius = 20 + 5 * np.sin(3 * angles + random.uniform(0, 6)) + 3 * np.sin(7 * angles)
    mask = np.hypot(rows - 32, columns - 40) < radius
    polygons = outline(mask)
    differing = fill(polygons, mask.shape) ^ mask
    n_edge = sum(len(outline_) for outline_ in polygons)
    assert len(polygons) == 1
    assert n_edge < 120
    assert differing.sum() <= TOLERANCE * 2 * np.pi * 28


def test_outline_of_noise_fits_an_element() -> None:
    """However ragged a mask, no polygon has more points than an element can hold."""
    noise = np.random.default_rng(1).random((512, 512)) < 0.7
    polygons = outline(noise)
    assert polygons
    assert max(len(one) for one in polygons) <= MOST_POINTS


def test_empty_mask_has_no_outline() -> None:
    """Nothing in, nothing out."""
    assert outline(np.zeros((8, 8), bool)) == []
