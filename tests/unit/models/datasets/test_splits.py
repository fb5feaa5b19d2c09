"""Splits keep patients together, and a split that leaks is refused."""

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from models.datasets import (
    LabelledImages,
    PatientSource,
    Sample,
    Unit,
    absent_classes,
    cross_validation,
    find_leaks,
    read_dataset,
    split_by_lists,
    split_by_patient,
)
from models.errors import DatasetInvalid, LeakingSplit
from tests import dataset_factories as factories

PROJECT = Path(__file__).resolve().parents[4]
TEST_DATA = Path(os.environ.get("SCREENER_TEST_DATA", PROJECT.parent / "shared" / "data"))


class Numbers:
    """Every image is its value, so that equal values are identical pixels."""

    def __init__(self, values: list[int]) -> None:
        self.values = values

    def image(self, index: int) -> np.ndarray:
        return np.full((2, 2), self.values[index], np.uint8)

    def mask(self, index: int, structure: str) -> np.ndarray:
        raise NotImplementedError


def made(patients: list[str], labels: list[int], values: list[int] | None = None) -> LabelledImages:
    return LabelledImages(
        name="made",
        layout="image-csv",
        unit=Unit.GREY,
        classes=("no", "yes"),
        structures=(),
        samples=tuple(
            Sample(f"{n}.png", patient, label)
            for n, (patient, label) in enumerate(zip(patients, labels, strict=True))
        ),
        licence="",
        citation="",
        patient_source=PatientSource.STATED,
        pixels=Numbers(values or list(range(len(patients)))),
    )


def forty() -> LabelledImages:
    """Twenty patients of two to four images, two classes."""
    patients = [f"p{n}" for n in range(20) for _ in range(2 + n % 3)]
    return made(patients, [int(patient[1:]) % 2 for patient in patients])


def test_split_keeps_patients_together_and_shares_classes() -> None:
    """Every index once, no patient twice, and each side near its share of both classes."""
    data = forty()
    split = split_by_patient(data, (0.6, 0.2, 0.2), seed=3)
    assert sorted(split.training + split.validation + split.test) == list(range(len(data)))
    sides = [{data.samples[n].patient for n in side} for side in split.sides().values()]
    assert not sides[0] & sides[1]
    assert not sides[0] & sides[2]
    assert not sides[1] & sides[2]
    for side, share in zip(split.sides().values(), (0.6, 0.2, 0.2), strict=True):
        for label in (0, 1):
            n_of_class = (data.labels()[list(side)] == label).sum()
            assert n_of_class == pytest.approx(share * (data.labels() == label).sum(), abs=3)


def test_side_without_a_class_is_named() -> None:
    """One patient has all of a class: the other sides have none of it, and it is said."""
    data = made(["a", "b", "c", "d"], [0, 0, 0, 1])
    split = split_by_patient(data, (0.5, 0.5, 0.0), seed=1)
    (line,) = absent_classes(data, split)
    name, side = ("training", split.training)
    if 3 in split.training:
        name, side = ("validation", split.validation)
    assert line == f"no image of yes in {name} ({len(side)} images)"
    assert absent_classes(forty(), split_by_patient(forty(), (0.5, 0.25, 0.25), seed=1)) == ()


def test_split_depends_on_the_seed_alone() -> None:
    """The same seed repeats the split, another gives another."""
    data = forty()
    assert split_by_patient(data, (0.8, 0.2, 0.0), 1) == split_by_patient(data, (0.8, 0.2, 0.0), 1)
    assert split_by_patient(data, (0.8, 0.2, 0.0), 1) != split_by_patient(data, (0.8, 0.2, 0.0), 2)


def test_split_leaves_the_official_test_alone() -> None:
    """What the lists keep for the test is never drawn for training."""
    data = forty()
    samples = tuple(
        replace(s, part="test") if s.patient in {"p0", "p1"} else s for s in data.samples
    )
    data = replace(data, samples=samples)
    held_out = tuple(n for n, s in enumerate(samples) if s.part == "test")
    assert split_by_patient(data, (0.8, 0.2, 0.0), 5).test == held_out
    for split in cross_validation(data, 4, 5):
        assert split.test == held_out
        assert not set(split.training + split.validation) & set(held_out)


def test_cross_validation_validates_everyone_once() -> None:
    """The validation sides are a partition of the images, by patient."""
    data = forty()
    folds = cross_validation(data, 5, seed=0)
    seen = sorted(n for fold in folds for n in fold.validation)
    assert seen == list(range(len(data)))
    for fold in folds:
        assert not find_leaks(data, fold.sides())


@pytest.mark.parametrize("shares", [(0.5, 0.2, 0.2), (1.2, -0.2, 0.0)])
def test_shares_that_are_none_are_refused(shares: tuple[float, float, float]) -> None:
    """Shares must sum to one."""
    with pytest.raises(DatasetInvalid, match="sum to 1"):
        split_by_patient(forty(), shares, 0)


def test_more_folds_than_patients_are_refused() -> None:
    """A fold without patients validates nothing."""
    with pytest.raises(DatasetInvalid, match="5 folds of 2 patients"):
        cross_validation(made(["a", "a", "b"], [0, 0, 1]), 5, 0)


def test_lists_with_a_patient_on_two_sides_are_refused() -> None:
    """The message names the patient; the reason that lets it pass is kept."""
    data = made(["a", "a", "b"], [0, 0, 1])
    parts = ("training", "validation", "validation")
    data = replace(
        data, samples=tuple(replace(s, part=p) for s, p in zip(data.samples, parts, strict=True))
    )
    with pytest.raises(LeakingSplit, match="patient a in training and validation"):
        split_by_lists(data)
    split = split_by_lists(data, allow_leaks_because="the published split")
    assert [str(leak) for leak in split.leaks] == ["patient a in training and validation"]
    assert split.allowed_because == "the published split"


def test_identical_pixels_on_two_sides_are_refused() -> None:
    """Two names for one picture are one picture."""
    data = made(["a", "b", "c", "d"], [0, 0, 1, 1], values=[5, 5, 7, 8])
    leaks = find_leaks(data, {"training": (0, 2), "test": (1, 3)})
    assert [str(leak) for leak in leaks] == ["pixels 0.png = 1.png in training and test"]
    with pytest.raises(LeakingSplit, match="pixels"):
        cross_validation(data, 4, 0)


def test_lists_that_say_nothing_are_refused() -> None:
    """No part, no split."""
    with pytest.raises(DatasetInvalid, match="split it by patient"):
        split_by_lists(forty())


@pytest.mark.parametrize("layout", factories.WRITERS)
def test_tiny_set_of_every_layout_can_be_split(layout: str, tmp_path: Path) -> None:
    """Recipes can be tried on them: two sides, no leak."""
    data = read_dataset(layout, factories.write_dataset(layout, tmp_path))
    split = split_by_patient(data, (0.5, 0.5, 0.0), seed=0)
    assert split.training
    assert split.validation
    assert not split.leaks


def test_real_covid_ct_lists_leak_one_paper() -> None:
    """The official lists put one preprint on two sides: known, named, and accepted by reason."""
    folder = TEST_DATA / "train" / "covid-ct"
    if not folder.is_dir():
        pytest.skip(f"{folder} is not there; set SCREENER_TEST_DATA")
    data = read_dataset("covid-ct", folder)
    with pytest.raises(LeakingSplit, match=r"paper 2020\.03\.13\.20035212"):
        split_by_lists(data)
    split = split_by_lists(data, allow_leaks_because="official lists")
    assert len(split.leaks) == 1
    assert (len(split.training), len(split.validation)) == (425, 118)
