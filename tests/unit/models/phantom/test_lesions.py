"""Lesions placed into a given volume: what changes, what must not, and which inputs are refused."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from models.phantom import LEFT_LUNG, RIGHT_LUNG, Pattern, place_lesions, place_solid_lobes

if TYPE_CHECKING:
    from numpy.typing import NDArray

DISEASES = [Pattern.COVID_19, Pattern.COMMUNITY_ACQUIRED_PNEUMONIA]
SPACING_MM = (5.0, 2.5, 2.5)
LUNG_HU, WALL_HU, VESSEL_HU = -860, 40, 40


def two_lungs(n_slices: int) -> tuple[NDArray[np.int16], NDArray[np.uint8]]:
    """Two elliptic cylinders of lung with one bright vessel each and a little noise."""
    rng = np.random.default_rng(1)
    down, across = np.mgrid[0:96, 0:128]
    labels = np.zeros((n_slices, 96, 128), np.uint8)
    for label, centre in ((RIGHT_LUNG, 36), (LEFT_LUNG, 92)):
        inside = ((down - 48) / 38) ** 2 + ((across - centre) / 24) ** 2 < 1
        labels[:, inside] = label
    volume = np.where(labels > 0, LUNG_HU, WALL_HU) + rng.normal(0, 8, labels.shape)
    volume[:, 69:72, 21:24] = volume[:, 69:72, 105:108] = VESSEL_HU
    return volume.round().astype(np.int16), labels


@pytest.mark.parametrize("pattern", DISEASES)
@pytest.mark.parametrize("n_slices", [1, 3, 40])
def test_lesions_are_placed_in_slabs_of_any_thickness(pattern: Pattern, n_slices: int) -> None:
    """One slice, a few, or a whole lung: lesions appear and stay inside."""
    volume, labels = two_lungs(n_slices)
    rng = np.random.default_rng(4)
    changed, mask = place_lesions(volume, labels, SPACING_MM, pattern, 0.5, rng)
    assert changed.shape == mask.shape == volume.shape
    assert changed.dtype == np.int16
    assert 0.02 < mask[labels > 0].mean() < 0.6
    assert not mask[labels == 0].any()
    assert float(np.median(changed[mask])) > LUNG_HU + 80


@pytest.mark.parametrize("pattern", DISEASES)
def test_healthy_lung_far_from_lesions_is_untouched(pattern: Pattern) -> None:
    """Most of the lung outside the mask keeps its values; the chest wall keeps all."""
    volume, labels = two_lungs(20)
    rng = np.random.default_rng(2)
    changed, mask = place_lesions(volume, labels, SPACING_MM, pattern, 0.2, rng)
    healthy = (labels > 0) & ~mask
    assert float((changed[healthy] == volume[healthy]).mean()) > 0.6
    # Solid tissue at the very surface of the lung may move by noise, never by disease.
    difference = np.abs(changed.astype(int) - volume)[labels == 0]
    assert difference.max() <= 40


def test_vessels_stay_visible_through_ground_glass() -> None:
    """A vessel remains brighter than the ground glass around it."""
    volume, labels = two_lungs(12)
    changed, mask = place_lesions(
        volume, labels, SPACING_MM, Pattern.COVID_19, 1.0, np.random.default_rng(3)
    )
    vessel = np.zeros(labels.shape, bool)
    vessel[:, 70, 22] = vessel[:, 70, 106] = True
    assert (vessel & mask).any()
    assert changed[vessel].min() > -60
    assert float(np.median(changed[mask & ~vessel])) < -300


@pytest.mark.parametrize("pattern", DISEASES)
def test_noise_survives_in_lesions(pattern: Pattern) -> None:
    """Fine-grained noise is no tell-tale: a lesion keeps a good part of it."""
    volume, labels = two_lungs(10)
    rng = np.random.default_rng(5)
    changed, mask = place_lesions(volume, labels, SPACING_MM, pattern, 0.8, rng)
    pairs = mask[:, :, 1:] & mask[:, :, :-1]
    grain = np.diff(changed.astype(float), axis=2)[pairs]
    # Robust spread of neighbouring differences; 8 HU of noise gives about 11.
    spread = 1.4826 * np.median(np.abs(grain - np.median(grain)))
    assert spread > 5


def test_same_generator_gives_same_lesions() -> None:
    """The generator alone decides."""
    volume, labels = two_lungs(6)
    results = [
        place_lesions(volume, labels, SPACING_MM, Pattern.COVID_19, 0.5, np.random.default_rng(8))
        for _ in range(2)
    ]
    assert np.array_equal(results[0][0], results[1][0])
    assert np.array_equal(results[0][1], results[1][1])


def test_input_is_not_changed() -> None:
    """The caller's volume stays as it was."""
    volume, labels = two_lungs(4)
    before = volume.copy()
    place_lesions(volume, labels, SPACING_MM, Pattern.COVID_19, 0.9, np.random.default_rng(0))
    assert np.array_equal(volume, before)


def test_normal_pattern_and_lungless_slices_come_back_unchanged() -> None:
    """Nothing to do is done visibly: same values, empty mask."""
    volume, labels = two_lungs(3)
    rng = np.random.default_rng(0)
    for pattern, given in ((Pattern.NORMAL, labels), (Pattern.COVID_19, np.zeros_like(labels))):
        changed, mask = place_lesions(volume, given, SPACING_MM, pattern, 0.5, rng)
        assert np.array_equal(changed, volume)
        assert not mask.any()


def test_one_lung_alone_can_be_affected() -> None:
    """A slice that shows one lung only is no error."""
    volume, labels = two_lungs(2)
    labels[labels == LEFT_LUNG] = 0
    for pattern in DISEASES:
        _, mask = place_lesions(volume, labels, SPACING_MM, pattern, 0.5, np.random.default_rng(1))
        assert mask[labels == RIGHT_LUNG].any()


def test_wrong_inputs_are_refused_by_name() -> None:
    """Shapes, severity and pixel aspect are checked."""
    volume, labels = two_lungs(2)
    rng = np.random.default_rng(0)
    with pytest.raises(ValueError, match="must agree"):
        place_lesions(volume, labels[:1], SPACING_MM, Pattern.COVID_19, 0.5, rng)
    with pytest.raises(ValueError, match="severity"):
        place_lesions(volume, labels, SPACING_MM, Pattern.COVID_19, 1.5, rng)
    with pytest.raises(ValueError, match="square pixels"):
        place_lesions(volume, labels, (5.0, 2.5, 2.0), Pattern.COVID_19, 0.5, rng)


def test_solid_lobes_fill_the_wanted_share_and_stay_inside() -> None:
    """Half of the lungs is soft tissue then, with open bronchi; the wall stays."""
    volume, labels = two_lungs(40)
    changed, mask = place_solid_lobes(volume, labels, SPACING_MM, 0.5, np.random.default_rng(4))
    assert 0.5 <= mask[labels > 0].mean() < 1.0
    assert not mask[labels == 0].any()
    assert -60 < float(np.median(changed[mask])) < 70
    assert (changed[mask] < -400).any()
    assert np.abs(changed.astype(int) - volume)[labels == 0].max() <= 60


def test_solid_lobes_need_lungs() -> None:
    """A volume without lungs comes back as it was."""
    volume, labels = two_lungs(4)
    rng = np.random.default_rng(4)
    changed, mask = place_solid_lobes(volume, labels * 0, SPACING_MM, 0.5, rng)
    assert (changed == volume).all()
    assert not mask.any()
