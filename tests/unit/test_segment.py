"""Lungs and the chest gate, with a threshold in place of the network."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from models.errors import InferenceFailed
from models.lung_answers import LungAnswers, two_answers
from screener.domain import HuArray, NotAnalysedReason, Volume
from screener.errors import ModelFailure, NotAnalysable
from screener.segment import (
    ChestRules,
    check_chest,
    choose_lung_pixels,
    display_flips,
    find_lung_pixels,
    label_lung_mask,
    slice_widths_mm,
)
from tests.chest_models import ThresholdSegmenter, chest_hu
from tests.ct_factories import AXIAL, volume_of

SPACING_MM = (5.0, 4.0, 4.0)
PRONE = (-1.0, 0.0, 0.0, 0.0, -1.0, 0.0)
FEET_FIRST = (-1.0, 0.0, 0.0, 0.0, 1.0, 0.0)


def in_batches(volume: Volume, size: int = 5) -> Iterator[tuple[int, HuArray]]:
    for start in range(0, len(volume.slices), size):
        yield start, volume.volume_hu[start : start + size]


def raw_mask(volume: Volume) -> NDArray[np.bool_]:
    flips = display_flips(volume.slices[0].orientation)
    answers = find_lung_pixels(in_batches(volume), ThresholdSegmenter(), flips)
    return choose_lung_pixels(answers, volume, ThresholdSegmenter(), 4)


def refusal_of(volume: Volume) -> NotAnalysable:
    with pytest.raises(NotAnalysable) as caught:
        check_chest(label_lung_mask(raw_mask(volume), volume), volume, ChestRules())
    return caught.value


def test_two_lungs_are_found_labelled_and_measured() -> None:
    """The patient's right lung lies at low columns, and is made larger here."""
    volume = volume_of(chest_hu(), SPACING_MM)
    lungs = label_lung_mask(raw_mask(volume), volume)
    right, left = (np.argwhere(lungs.labels == label)[:, 2].mean() for label in (1, 2))
    assert right < left
    assert lungs.right_volume_ml > lungs.left_volume_ml > 500
    voxel_ml = float(np.prod(SPACING_MM)) / 1000
    assert lungs.right_volume_ml == pytest.approx((lungs.labels == 1).sum() * voxel_ml)
    check_chest(lungs, volume, ChestRules())


@pytest.mark.parametrize("orientation", [AXIAL, PRONE, FEET_FIRST])
def test_right_lung_is_right_in_every_position(
    orientation: tuple[float, float, float, float, float, float],
) -> None:
    """The same patient prone or with mirrored rows: the larger lung stays the right one."""
    flips = display_flips(orientation)
    hu = np.asarray(flips.apply(chest_hu()), dtype=np.int16)
    lungs = label_lung_mask(raw_mask(volume_of(hu, SPACING_MM, orientation)),
                            volume_of(hu, SPACING_MM, orientation))  # fmt: skip
    straight = volume_of(chest_hu(), SPACING_MM)
    expected = label_lung_mask(raw_mask(straight), straight)
    assert (flips.apply(lungs.labels) == expected.labels).all()
    assert lungs.right_volume_ml == pytest.approx(expected.right_volume_ml)


def test_batch_size_does_not_matter() -> None:
    """Slices are segmented one by one, whatever they travel with."""
    volume = volume_of(chest_hu(), SPACING_MM)
    flips = display_flips(AXIAL)
    one, all_at_once = (
        find_lung_pixels(in_batches(volume, size), ThresholdSegmenter(), flips) for size in (1, 99)
    )
    (whole,) = all_at_once
    assert (np.concatenate([part.codes for part in one]) == whole.codes).all()
    two_lanes = find_lung_pixels(in_batches(volume, 3), ThresholdSegmenter(), flips, n_lanes=2)
    assert (np.concatenate([part.codes for part in two_lanes]) == whole.codes).all()


class SolidSegmenter(ThresholdSegmenter):
    """Calls what is dense solid lung, and keeps the sizes that it was shown."""

    def __init__(self) -> None:
        self.sizes: set[tuple[int, ...]] = set()

    def answers(self, images: HuArray) -> LungAnswers:
        """Say that half of the lungs is solid."""
        self.sizes.add(images.shape[1:])
        dense = np.where(images > 200, 5.0, -8.0).astype(np.float32)
        sums = np.array([[50.0, 100.0]] * len(images), dtype=np.float32)
        return two_answers(np.zeros(images.shape, dtype=bool), dense, sums)


@pytest.mark.parametrize("orientation", [AXIAL, PRONE, FEET_FIRST])
def test_closer_look_at_solid_lungs_lies_where_they_are(
    orientation: tuple[float, float, float, float, float, float],
) -> None:
    """However the slices are stored, the square is cut, mirrored and put back at its place."""
    hu = np.full((6, 80, 80), 40, dtype=np.int16)
    hu[:, 12:30, 44:70] = 300
    volume = volume_of(hu, (5.0, 2.0, 2.0), orientation)
    segmenter = SolidSegmenter()
    flips = display_flips(volume.slices[0].orientation)
    answers = find_lung_pixels(in_batches(volume), segmenter, flips)
    mask = choose_lung_pixels(answers, volume, segmenter, 4)
    np.testing.assert_array_equal(mask, hu > 200)
    assert segmenter.sizes == {(80, 80), (50, 50)}


def test_volume_counts_real_gaps() -> None:
    """A missing slice does not shrink the lung: its neighbours stand for the gap."""
    whole = volume_of(chest_hu(), SPACING_MM)
    kept = [n for n in range(len(whole.slices)) if n != 20]
    gapped = replace(
        whole,
        volume_hu=whole.volume_hu[kept],
        slices=tuple(whole.slices[n] for n in kept),
    )
    assert slice_widths_mm(gapped).sum() == pytest.approx(slice_widths_mm(whole).sum())
    assert slice_widths_mm(gapped)[19:21].tolist() == [7.5, 7.5]
    full, partial = (label_lung_mask(raw_mask(one), one) for one in (whole, gapped))
    assert partial.right_volume_ml == pytest.approx(full.right_volume_ml, rel=0.01)


def test_volume_without_lungs_is_not_a_chest() -> None:
    """Soft tissue only: an abdomen."""
    hu = chest_hu()
    hu[hu < -500] = 40
    refusal = refusal_of(volume_of(hu, SPACING_MM))
    assert refusal.reason is NotAnalysedReason.NOT_A_CHEST
    assert "lungs of 0 ml" in refusal.detail


def test_air_without_bones_is_not_a_chest() -> None:
    """A water phantom with two air cylinders."""
    hu = chest_hu()
    hu[hu > 100] = 0
    refusal = refusal_of(volume_of(hu, SPACING_MM))
    assert refusal.reason is NotAnalysedReason.NOT_A_CHEST
    assert "of bone" in refusal.detail


def test_soft_tissue_taken_for_lungs_is_not_a_chest() -> None:
    """A network that marks fat: next to nothing in the mask holds air."""
    mask = raw_mask(volume_of(chest_hu(), SPACING_MM))
    volume = volume_of(np.where(mask, np.int16(-120), chest_hu()), SPACING_MM)
    lungs = label_lung_mask(mask, volume)
    with pytest.raises(NotAnalysable) as caught:
        check_chest(lungs, volume, ChestRules())
    assert caught.value.reason is NotAnalysedReason.NOT_A_CHEST
    assert "0% of what looked like lungs" in caught.value.detail


def test_one_lung_is_incomplete() -> None:
    """The left lung is missing: resected, or out of the field."""
    hu = chest_hu()
    left = hu[..., hu.shape[2] // 2 :]
    left[left < -500] = 40
    refusal = refusal_of(volume_of(hu, SPACING_MM))
    assert refusal.reason is NotAnalysedReason.LUNGS_INCOMPLETE
    assert "left lung 0 ml" in refusal.detail


def test_short_stretch_of_lung_is_incomplete() -> None:
    """60 mm of a chest are too little, however good the slices are."""
    refusal = refusal_of(volume_of(chest_hu()[18:30], SPACING_MM))
    assert refusal.reason is NotAnalysedReason.LUNGS_INCOMPLETE
    assert "60 mm" in refusal.detail


def test_consolidated_lungs_are_still_a_chest() -> None:
    """Three quarters of both lungs consolidated, but enclosed by the mask: ill, and screened."""
    mask = raw_mask(volume_of(chest_hu(), SPACING_MM))
    rows = np.argwhere(mask)[:, 1]
    ill = np.zeros_like(mask)
    ill[:, int(np.quantile(rows, 0.25)) :] = True
    volume = volume_of(np.where(mask & ill, np.int16(20), chest_hu()), SPACING_MM)
    check_chest(label_lung_mask(mask, volume), volume, ChestRules())


class FailingSegmenter(ThresholdSegmenter):
    """A model whose device ran out of memory."""

    def logits(self, hu: HuArray) -> NDArray[np.float32]:
        raise InferenceFailed("out of memory; try a smaller batch")


class ShrinkingSegmenter(ThresholdSegmenter):
    """A model that gives its internal size."""

    def logits(self, hu: HuArray) -> NDArray[np.float32]:
        return super().logits(hu)[:, ::2, ::2]


@pytest.mark.parametrize(
    ("segmenter", "text"),
    [(FailingSegmenter(), "out of memory"), (ShrinkingSegmenter(), r"gave \(5, 32, 32\)")],
)
def test_failing_model_is_a_named_failure(segmenter: ThresholdSegmenter, text: str) -> None:
    """A model's failure is no statement about the patient."""
    volume = volume_of(chest_hu(), SPACING_MM)
    with pytest.raises(ModelFailure, match=text):
        find_lung_pixels(in_batches(volume), segmenter, display_flips(AXIAL))
