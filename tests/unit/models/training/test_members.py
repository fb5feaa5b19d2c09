"""Several networks of a recipe answer as one; each image is judged by a stranger to it."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from models.errors import DatasetInvalid, RecipeInvalid
from models.registry import open_model_folder
from models.session import ImageClassifier, Provider
from models.training.committee import Committee
from models.training.decision_offset import Offset, balanced, fit_offsets, offset_left_out
from models.training.graphs import GreyNetwork
from models.training.recipe import Monitor
from models.training.recipe_files import read_recipe
from models.training.run import train_recipe
from tests.dataset_factories import write_dataset
from tests.recipe_factories import set_one_thread, small_recipe, surroundings


class Brightness(torch.nn.Module):
    """Answers with the mean of the left half, so that mirroring changes it."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        left = image[..., : image.shape[3] // 2].mean((1, 2, 3))
        return torch.stack([torch.zeros_like(left), self.factor * left], dim=1)


def member(factor: float) -> GreyNetwork:
    return GreyNetwork(Brightness(factor), (0.0,), (1.0 / 255.0,))


def test_committee_is_the_mean_over_members_and_mirror_images() -> None:
    """One bright half counts the same on either side."""
    image = torch.zeros(1, 1, 4, 4)
    image[..., :2] = 10.0
    plain = Committee([member(1.0), member(3.0)], is_mirrored=False)
    mirrored = Committee([member(1.0), member(3.0)], is_mirrored=True)
    assert plain(image)[0].tolist() == [0.0, 20.0]
    assert mirrored(image)[0].tolist() == [0.0, 10.0]
    assert torch.equal(mirrored(image), mirrored(image.flip(3)))


def test_offsets_undo_a_lean_to_one_class() -> None:
    """Logits that are right but for a constant are right afterwards."""
    rng = np.random.default_rng(3)
    labels = rng.integers(0, 2, 400)
    logits = np.stack([np.zeros(400), 4.0 * labels - 2.0 - 3.0 + rng.normal(0, 1.5, 400)], axis=1)
    offsets = fit_offsets(logits, labels)
    assert sum(offsets) == pytest.approx(0.0)
    assert offsets[1] - offsets[0] == pytest.approx(3.0, abs=0.5)
    before = (logits.argmax(axis=1) == labels).mean()
    after = ((logits + np.array(offsets)).argmax(axis=1) == labels).mean()
    assert after > before + 0.1


def test_offsets_of_data_without_an_error_are_numbers() -> None:
    """A handful of images that a network tells apart by a hair drives the temperature to zero."""
    labels = np.array([1, 1, 0, 0])
    logits = np.array([[0.0, 0.000981], [0.0, 0.000591], [0.0, 0.000205], [0.0, -0.001153]])
    offsets = fit_offsets(logits, labels)
    assert np.isfinite(offsets).all()
    assert np.array_equal((logits + np.array(offsets)).argmax(axis=1), labels)


def test_offset_of_a_patient_is_fitted_on_the_others() -> None:
    """Labels of one patient cannot move its own decision."""
    logits = np.random.default_rng(4).normal(size=(12, 2))
    labels = np.arange(12) % 2
    patients = [f"patient {number // 3}" for number in range(12)]
    moved = offset_left_out(logits, labels, patients)
    flipped = labels.copy()
    flipped[:3] = 1 - flipped[:3]
    again = offset_left_out(logits, flipped, patients)
    np.testing.assert_array_equal(moved[:3], again[:3])
    assert not np.array_equal(moved[3:], again[3:])


def test_balanced_network_gives_the_moved_logits_of_the_test_side() -> None:
    """What is exported is what was measured."""
    network = member(1.0)
    images = 255.0 * torch.rand(6, 1, 4, 4, generator=torch.Generator().manual_seed(2))
    logits = {"validation": network(images), "test": network(images[:2])}
    labels = torch.tensor([0, 1, 0, 1, 1, 1])
    settled = balanced(network, logits, labels, list("aabbcc"))
    assert isinstance(settled.network, Offset)
    torch.testing.assert_close(settled.network(images[:2]), settled.logits["test"])
    torch.testing.assert_close(settled.network(images), settled.logits["validation"])
    assert set(settled.decisions) == {"validation"}


def test_folds_train_a_network_each_and_export_one_model(tmp_path: Path) -> None:
    """Every image is validated once, by the network that left it out; the test stays out.

    The recipe is a data scientist's: a settings file with a network that no recipe here names.
    """
    set_one_thread()
    path = tmp_path / "covid-ct-tiny.toml"
    path.write_text(
        'extends = "covid-ct-committee"\nname = "covid-ct-tiny"\n'
        'summary = "COVID-19 on single CT pictures: two tiny networks."\n'
        '[network]\nsource = "timm"\nname = "test_efficientnet"\nweights = "none"\n'
        "[data]\nn_folds = 2\n[preprocessing]\nrows = 32\ncolumns = 32\n"
        "[training]\nepochs = 1\nbatch_size = 2\n",
        encoding="utf-8",
    )
    recipe = read_recipe(str(path))
    data = write_dataset("covid-ct", tmp_path / "data")
    outcome = train_recipe(recipe, data, surroundings(tmp_path / "out"))
    folds = json.loads((outcome.out / "split.json").read_text("utf-8"))
    assert len(folds) == 2
    validated = [name for fold in folds for name in fold["validation"]]
    assert len(validated) == len(set(validated)) == 12
    assert all(not set(fold["training"]) & set(fold["validation"]) for fold in folds)
    assert all(name.startswith("test/") for fold in folds for name in fold["test"])
    with (outcome.out / "predictions.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["side"] for row in rows].count("validation") == 12
    assert [row["side"] for row in rows].count("test") == 6
    assert {path.name for path in outcome.out.glob("member-*")} == {"member-1", "member-2"}
    manifest = open_model_folder(outcome.model).manifest
    assert manifest.recipe == "covid-ct-tiny"
    places = {metric.measured_on.split(",")[1].strip() for metric in manifest.metrics}
    assert places == {"out of fold", "test"}
    assert "has learnt from every\nimage" in (outcome.model / "card.md").read_text("utf-8")
    point = manifest.operating_point
    assert point.threshold == 0.5
    assert "offset" in point.chosen_by
    found = exported_test_logits(outcome.model, data, rows)
    expected = [[float(row[f"logit {name}"]) for name in recipe.data.classes] for row in rows[-6:]]
    np.testing.assert_allclose(found, expected, atol=2e-3)


def test_card_of_folds_without_test_images_counts_failures_out_of_fold(tmp_path: Path) -> None:
    """No image is called validation that trained four of five networks."""
    set_one_thread()
    changes = ["network.name=test_efficientnet", "network.weights=none", "data.n_folds=2"]
    changes += ["preprocessing.rows=32", "preprocessing.columns=32", "training.epochs=1"]
    changes += ["network.n_parameters=99710"]
    data = write_dataset("covid-ct", tmp_path / "data")
    for listed in data.glob("Data-split/*/test*.txt"):
        listed.unlink()
    recipe = read_recipe("covid-ct-committee", changes)
    outcome = train_recipe(recipe, data, surroundings(tmp_path / "out"))
    card = (outcome.model / "card.md").read_text("utf-8")
    failures = card.partition("## Where it fails")[2].partition("## Notes")[0]
    assert "of 18 images (out of fold) were called another class" in failures
    assert "validation" not in failures


def exported_test_logits(model: Path, data: Path, rows: list[dict[str, str]]) -> np.ndarray:
    """Run the exported graph on the pictures of the test side."""
    from PIL import Image

    classifier = ImageClassifier(open_model_folder(model), provider=Provider.CPU, threads=1)
    pictures = [np.asarray(Image.open(data / row["name"]).convert("L")) for row in rows[-6:]]
    return np.concatenate([classifier.logits(one[None].astype(np.float32)) for one in pictures])


def test_folds_need_as_many_patients(tmp_path: Path) -> None:
    """More folds than patients are refused before anything is trained."""
    data = write_dataset("covid-ct", tmp_path / "data")
    with pytest.raises(DatasetInvalid, match="folds"):
        train_recipe(small_recipe("covid-ct-committee"), data, surroundings(tmp_path / "out"))


@pytest.mark.parametrize(
    ("recipe", "change", "named"),
    [
        ("covid-ct-committee", "data.n_folds=1", "data.n_folds = 1"),
        ("covid-ct-committee", "training.members=3", "the folds are members"),
        ("covid-ct-mobile", "preprocessing.mirrored=1", "preprocessing.mirrored = 1"),
        ("attention-unet-lung", "training.members=2", "need classes"),
    ],
)
def test_committee_settings_that_do_not_fit_are_refused(
    recipe: str, change: str, named: str
) -> None:
    """Folds and members exclude each other, and masks have neither."""
    with pytest.raises(RecipeInvalid) as caught:
        read_recipe(recipe, [change])
    assert named in str(caught.value)


def test_last_epoch_is_kept_where_nothing_is_monitored() -> None:
    """A choice by a small validation list is no choice."""
    assert read_recipe("covid-ct-mobile").training.monitor is Monitor.LAST
