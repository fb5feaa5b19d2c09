"""Dice, volumes and the threshold method, against values worked out by hand."""

from pathlib import Path

import numpy as np
import pytest

from models.datasets import read_dataset
from models.errors import DatasetInvalid
from models.evaluation.masks import dice, dice_over_slices, measure_masks, pool_patients
from models.evaluation.volumes import (
    has_volumes,
    lung_bearing,
    lung_boxes,
    read_volumes,
    threshold_lungs,
)
from tests import dataset_factories as factories


def test_dice_equals_hand_computed() -> None:
    """Two of three and two of four: 2 * 2 / 7."""
    found = np.array([[True, True, True, False, False]])
    truth = np.array([[True, True, False, True, True]])
    assert dice(found, truth) == pytest.approx(4 / 7)
    assert dice(~found & found, truth & ~truth) == 1.0


def test_interval_over_slices_holds_the_dice_and_repeats() -> None:
    """The interval surrounds the value and depends on the seed alone."""
    rng = np.random.default_rng(5)
    truth = rng.random((40, 16, 16)) > 0.5
    found = truth ^ (rng.random(truth.shape) > 0.9)
    figure = dice_over_slices(found, truth, seed=1)
    assert figure.value == pytest.approx(dice(found, truth))
    assert figure.lower < figure.value < figure.upper < figure.lower + 0.05
    assert figure == dice_over_slices(found, truth, seed=1)


def test_volumes_run_from_caudal_to_cranial(tmp_path: Path) -> None:
    """Whatever the files are called; spacing comes from positions."""
    data = read_dataset("spgc", factories.write_dataset("spgc", tmp_path))
    assert has_volumes(data)
    volume = next(iter(read_volumes(data)))
    assert volume.spacing_mm == (factories.SLICE_MM, factories.PIXEL_MM, factories.PIXEL_MM)
    expected = [factories.slice_hu(factories.PNEUMONIA, 0, n) for n in range(factories.N_SLICES)]
    assert np.array_equal(volume.images, np.stack(expected))


def test_slices_of_several_series_are_no_volume(tmp_path: Path) -> None:
    """Two slices at one height cannot be stacked."""
    for number in range(3):
        path = tmp_path / "P1" / f"{number}.dcm"
        factories.write_dicom_slice(path, np.full((8, 8), number, np.int16), 5.0, "P1")
    with pytest.raises(DatasetInvalid, match="several series"):
        list(read_volumes(read_dataset("spgc", tmp_path)))


def test_masks_are_measured_by_patient(tmp_path: Path) -> None:
    """A perfect mask has Dice 1 everywhere; half of it 2/3 by hand."""
    data = read_dataset("lctsc", factories.write_dataset("lctsc", tmp_path))

    def perfect(volume: object) -> np.ndarray:
        return np.stack([data.mask(n, "lung") for n in volume.indices])

    figures = measure_masks(data, perfect, "lung")
    assert [one.dice.value for one in figures.patients] == [1.0] * 4
    assert figures.mean is not None
    assert figures.mean.value == 1.0
    assert pool_patients("lung", figures.patients[:1]).mean is None


def test_boxes_and_lung_bearing_slices_follow_the_mask() -> None:
    """Edges are exclusive above; a slice of less than 15 square cm is not judged."""
    masks = np.zeros((2, 60, 60), dtype=bool)
    masks[0, 10:50, 5:45] = True
    masks[1, 3, 4] = True
    assert lung_boxes(masks).tolist() == [[10, 5, 50, 45], [3, 4, 4, 5]]
    assert lung_bearing(masks, (5.0, 1.0, 1.0)).tolist() == [0]


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
