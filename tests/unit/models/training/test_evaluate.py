"""Figures against values worked out by hand."""

from pathlib import Path

import numpy as np
import pytest

from models.training.data import TrainingDataInvalid
from models.training.evaluate import (
    area_under_curve,
    dice,
    patient_bootstrap,
    read_volume,
    slice_bootstrap,
    threshold_lungs,
)


def test_dice_equals_hand_computed() -> None:
    """Two of three and two of four: 2 * 2 / 7."""
    found = np.array([[True, True, True, False, False]])
    truth = np.array([[True, True, False, True, True]])
    assert dice(found, truth) == pytest.approx(4 / 7)
    assert dice(~found & found, truth & ~truth) == 1.0


def test_area_under_curve_counts_ties_one_half() -> None:
    """Pairs: 0.9 above both, 0.4 above one and level with one: 3.5 of 4."""
    scores = np.array([0.9, 0.4, 0.4, 0.1])
    truth = np.array([True, True, False, False])
    assert area_under_curve(scores, truth) == pytest.approx(3.5 / 4)
    with pytest.raises(TrainingDataInvalid, match="both classes"):
        area_under_curve(scores, np.ones(4, dtype=bool))


def test_slice_bootstrap_holds_the_dice_and_repeats() -> None:
    """The interval surrounds the value and depends on the seed alone."""
    rng = np.random.default_rng(5)
    truth = rng.random((40, 16, 16)) > 0.5
    found = truth ^ (rng.random(truth.shape) > 0.9)
    lower, upper = slice_bootstrap(found, truth, seed=1)
    assert lower < dice(found, truth) < upper
    assert upper - lower < 0.05
    assert (lower, upper) == slice_bootstrap(found, truth, seed=1)


def test_patient_bootstrap_of_equal_patients_has_no_width() -> None:
    """Where patients agree there is nothing to be uncertain of."""
    assert patient_bootstrap([0.9, 0.9, 0.9], seed=0) == pytest.approx((0.9, 0.9))
    lower, upper = patient_bootstrap([0.5, 0.9, 0.7, 0.8], seed=0)
    assert 0.5 <= lower < 0.725 < upper <= 0.9


def test_volume_without_an_array_is_refused(tmp_path: Path) -> None:
    """The message names what is missing."""
    np.savez(tmp_path / "one.npz", volume_hu=np.zeros((2, 4, 4), dtype=np.int16))
    with pytest.raises(TrainingDataInvalid, match="lung_mask"):
        read_volume(tmp_path / "one.npz")


def test_volume_of_other_shape_is_refused(tmp_path: Path) -> None:
    """Volume and mask belong together."""
    np.savez(
        tmp_path / "one.npz",
        volume_hu=np.zeros((2, 4, 4), dtype=np.int16),
        lung_mask=np.zeros((3, 4, 4), dtype=bool),
        spacing_mm=np.array([5.0, 1.0, 1.0]),
    )
    with pytest.raises(TrainingDataInvalid, match="shaped as its mask"):
        read_volume(tmp_path / "one.npz")


def test_threshold_method_finds_lungs_and_closes_vessels() -> None:
    """Air outside the body and a small pocket are left out, a vessel is filled."""
    hu = np.full((4, 80, 100), -1000, dtype=np.int16)
    hu[:, 5:75, 5:95] = 40
    lungs = np.zeros(hu.shape, dtype=bool)
    lungs[:, 20:60, 15:40] = True
    lungs[:, 20:60, 60:85] = True
    hu[lungs] = -850
    hu[:, 40:43, 25:28] = 30
    hu[:, 65:68, 48:52] = -900
    found = threshold_lungs(hu, (5.0, 2.0, 2.0))
    assert dice(found, lungs) > 0.98
    assert found[:, 41, 26].all()
    assert not found[:, 66, 50].any()
