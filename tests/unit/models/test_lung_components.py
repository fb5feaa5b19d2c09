"""Raw masks become two labelled lungs, whatever hangs together or lies about."""

import numpy as np
import pytest
from scipy import ndimage

from models.lung_components import DEFAULT_RULES, LEFT_LUNG, RIGHT_LUNG, _erosions, label_lungs

SPACING_MM = (5.0, 2.0, 2.0)
SHAPE = (30, 120, 180)


def ellipsoid(centre: tuple[float, float, float], radii: tuple[float, float, float]) -> np.ndarray:
    """Give a filled ellipsoid in voxels."""
    axes = np.ogrid[tuple(slice(0, size) for size in SHAPE)]
    parts = zip(axes, centre, radii, strict=True)
    return sum(((axis - middle) / radius) ** 2 for axis, middle, radius in parts) < 1.0


RIGHT = ellipsoid((15, 60, 50), (14, 40, 28))
LEFT = ellipsoid((15, 60, 130), (14, 38, 26))


def dice(one: np.ndarray, two: np.ndarray) -> float:
    return 2.0 * (one & two).sum() / (one.sum() + two.sum())


def test_labels_of_two_lungs_are_right_then_left() -> None:
    """The patient's right lung lies at low columns."""
    labels = label_lungs(RIGHT | LEFT, SPACING_MM)
    assert labels.dtype == np.uint8
    np.testing.assert_array_equal(labels == RIGHT_LUNG, RIGHT)
    np.testing.assert_array_equal(labels == LEFT_LUNG, LEFT)


def test_labels_of_empty_mask_are_empty() -> None:
    """No lung is an answer, not an error."""
    assert not label_lungs(np.zeros(SHAPE, dtype=bool), SPACING_MM).any()


def test_labels_leave_out_gas_in_the_bowel() -> None:
    """A pocket of 8 ml at the lowest slices hangs together with neither lung."""
    gas = ellipsoid((1, 60, 90), (1.5, 10, 12))
    labels = label_lungs(RIGHT | LEFT | gas, SPACING_MM)
    assert not labels[gas & ~RIGHT & ~LEFT].any()


def test_labels_of_gas_alone_are_empty() -> None:
    """An abdomen has no lungs, even where the network erred."""
    gas = ellipsoid((3, 60, 60), (2, 8, 8)) | ellipsoid((3, 60, 110), (2, 8, 8))
    assert gas.sum() * 0.02 > 5
    assert not label_lungs(gas, SPACING_MM).any()


def test_labels_fill_vessels_and_lesions_inside_a_lung() -> None:
    """What is closed in within its slice belongs to the lung around it."""
    lesion = ellipsoid((15, 60, 50), (5, 8, 8))
    labels = label_lungs((RIGHT & ~lesion) | LEFT, SPACING_MM)
    np.testing.assert_array_equal(labels == RIGHT_LUNG, RIGHT)


def test_labels_do_not_fill_the_mediastinum_between_touching_lungs() -> None:
    """Lungs that meet in front and behind do not swallow the heart."""
    ring = np.zeros(SHAPE, dtype=bool)
    ring[10:20, 28:32, 60:120] = True
    ring[10:20, 88:92, 60:120] = True
    labels = label_lungs(RIGHT | LEFT | ring, SPACING_MM)
    heart = ellipsoid((15, 60, 91), (4, 15, 8)) & ~RIGHT & ~LEFT
    assert heart.any()
    assert not labels[heart].any()


@pytest.mark.parametrize("width", [6, 14])
def test_labels_split_lungs_that_touch(width: int) -> None:
    """A bridge at the anterior junction does not make one lung of two."""
    bridge = np.zeros(SHAPE, dtype=bool)
    bridge[8:22, 60 : 60 + width, 70:110] = True
    labels = label_lungs(RIGHT | LEFT | bridge, SPACING_MM)
    assert dice(labels == RIGHT_LUNG, RIGHT) > 0.95
    assert dice(labels == LEFT_LUNG, LEFT) > 0.95


def test_labels_split_lungs_that_cannot_be_pulled_apart_near_the_middle() -> None:
    """Lungs that overlap widely are cut where the mask is thinnest."""
    right = ellipsoid((15, 60, 62), (14, 40, 36))
    left = ellipsoid((15, 60, 118), (14, 40, 36))
    labels = label_lungs(right | left, SPACING_MM)
    columns_right = np.flatnonzero((labels == RIGHT_LUNG).any(axis=(0, 1)))
    columns_left = np.flatnonzero((labels == LEFT_LUNG).any(axis=(0, 1)))
    assert 85 <= columns_right[-1] <= 95
    assert 85 <= columns_left[0] <= 96


@pytest.mark.parametrize(("lung", "label"), [(RIGHT, RIGHT_LUNG), (LEFT, LEFT_LUNG)])
def test_labels_of_one_lung_name_its_side(lung: np.ndarray, label: int) -> None:
    """After removal or collapse of a lung the other keeps its side and stays whole."""
    labels = label_lungs(lung, SPACING_MM)
    np.testing.assert_array_equal(labels, np.where(lung, label, 0))


def test_labels_keep_a_lobe_that_consolidation_cut_off() -> None:
    """A large part below a dense band belongs to the lung above it."""
    band = np.zeros(SHAPE, dtype=bool)
    band[8:11] = True
    labels = label_lungs((RIGHT & ~band) | LEFT, SPACING_MM)
    np.testing.assert_array_equal(labels == RIGHT_LUNG, RIGHT & ~band)


def test_labels_leave_out_a_pillow_under_the_shoulders() -> None:
    """A large dark part behind the apices is no lung, although lungs reach as far back below."""
    pillow = np.zeros(SHAPE, dtype=bool)
    pillow[26:, 92:110, 40:140] = True
    labels = label_lungs(RIGHT | LEFT | pillow, SPACING_MM)
    assert pillow.sum() > 0.02 * RIGHT.sum()
    assert not labels[pillow].any()


def test_labels_of_flipped_volume_are_swapped() -> None:
    """Sides come from the columns alone."""
    mask = RIGHT | LEFT
    labels = label_lungs(mask, SPACING_MM)
    flipped = label_lungs(mask[:, :, ::-1], SPACING_MM)[:, :, ::-1]
    np.testing.assert_array_equal(flipped == RIGHT_LUNG, labels == LEFT_LUNG)


@pytest.mark.parametrize(
    "grid_mm", [(3.0, 3.0, 3.0), (4.0, 2.4140625, 2.4140625), (20.0, 2.9296875, 2.9296875)]
)
def test_erosions_are_those_of_a_distance_transform(grid_mm: tuple[float, float, float]) -> None:
    """Voxel for voxel, at the faces of the volume too."""
    noise = np.random.default_rng(5).normal(size=(14, 31, 22))
    mask = ndimage.gaussian_filter(noise, 2.0) > -0.06
    depth_mm = ndimage.distance_transform_edt(np.pad(mask, 1), sampling=grid_mm)[1:-1, 1:-1, 1:-1]
    for erosion_mm, eroded in zip(
        np.arange(3.0, 18.0, 1.5), _erosions(mask, grid_mm, DEFAULT_RULES), strict=True
    ):
        assert np.array_equal(eroded, depth_mm > erosion_mm)
