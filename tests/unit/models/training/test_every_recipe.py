"""Every recipe with its own network, and one that a stranger writes: from data to a measured model.

What the folder of a training must hold, and what `screener models verify` and `evaluate` must say
of the model in it, is checked by `tests/recipe_checks.py`.
"""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from models.evaluation.classification import Decided
from models.evaluation.plots import curves_plot, roc_plot
from models.training.recipe_files import SHIPPED_RECIPES, read_recipe
from models.training.run import train_recipe
from tests.dataset_factories import write_dataset
from tests.recipe_checks import (
    SHARES_OF_TINY,
    check_model_of_stranger,
    check_picture,
    check_plot,
    check_training,
    run_command,
)
from tests.recipe_factories import SMALL, small_recipe, surroundings

NAMES = sorted(path.stem for path in SHIPPED_RECIPES.glob("*.toml"))


@pytest.fixture(autouse=True)
def no_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Run on defaults, whatever the machine has."""
    monkeypatch.delenv("SCREENER_SETTINGS", raising=False)
    monkeypatch.chdir(tmp_path)


@pytest.mark.slow
@pytest.mark.timeout(3600)  # exporting a large network takes minutes, more on a busy core
@pytest.mark.parametrize("name", NAMES)
def test_recipe_runs_end_to_end(name: str, tmp_path: Path) -> None:
    """Every recipe with its own network, from a tiny data set to the report on its model."""
    # The tiny data sets have too few patients for five folds, or for sides of a sixth.
    fewer = ["data.n_folds=2"] if name == "covid-ct-committee" else []
    layout = small_recipe(name).data.layout
    fewer += [SHARES_OF_TINY[layout]] if layout in SHARES_OF_TINY else []
    recipe = small_recipe(name, *fewer, side=96)
    data = write_dataset(recipe.data.layout, tmp_path / "data")
    train_recipe(recipe, data, surroundings(tmp_path / "out"))
    check_training(recipe, tmp_path / "out")
    check_model_of_stranger(recipe, data, tmp_path / "out", tmp_path / "stranger")


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("network", ["resnet10t", "regnety_002"])
def test_network_of_timm_is_one_settings_file_and_no_code(network: str, tmp_path: Path) -> None:
    """A data scientist writes a file, trains, verifies and measures, by commands alone."""
    recipe = tmp_path / f"covid-ct-{network.replace('_', '-')}.toml"
    recipe.write_text(
        f"""extends = "covid-ct-mobile"
name = "{recipe.stem}"
summary = "COVID-19 on single CT pictures: {network}."
published = []

[network]
source = "timm"
name = "{network}"
weights = "none"
""",
        encoding="utf-8",
    )
    data = write_dataset("covid-ct", tmp_path / "data")
    out = tmp_path / "training" / recipe.stem
    changes = [*SMALL, "preprocessing.rows=64", "preprocessing.columns=64"]
    options = [word for change in changes for word in ("--set", change)]
    said = run_command("train", recipe, "--data", data, "--threads", 1, "--device", "cpu", *options)
    assert f"training/{recipe.stem}/model" in said.replace("\n", "")
    check_training(read_recipe(str(recipe), changes), out)
    check_model_of_stranger(read_recipe(str(recipe)), data, out, tmp_path / "stranger")


def test_check_of_pictures_refuses_what_is_none(tmp_path: Path) -> None:
    """One colour, a thumbnail and half a file are no pictures."""
    path = tmp_path / "a.png"
    path.write_bytes(curves_plot({"training": [0.7]}, {"accuracy": [0.5]}))
    check_plot(path)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(OSError, match="truncated"):
        check_picture(path)
    Image.new("RGB", (400, 300), "white").save(path)
    with pytest.raises(AssertionError, match="one colour"):
        check_picture(path)
    noise = np.random.default_rng(1).integers(0, 255, (40, 400), dtype=np.uint8)
    Image.fromarray(noise).save(path)
    with pytest.raises(AssertionError, match="is \\(40, 400\\)"):
        check_picture(path)


def test_plot_of_one_class_alone_says_so(tmp_path: Path) -> None:
    """No curve is drawn, which a person reads; the check of plots refuses it."""
    path = tmp_path / "roc.png"
    for labels, is_plot in (([1, 1], False), ([0, 1], True)):
        decided = Decided(
            classes=("normal", "covid-19"),
            labels=np.array(labels),
            probabilities=np.array([[0.7, 0.3], [0.2, 0.8]]),
            decisions=np.array([0, 1]),
            patients=("a", "b"),
        )
        path.write_bytes(roc_plot(decided))
        check_picture(path)
        if is_plot:
            check_plot(path)
            continue
        with pytest.raises(AssertionError, match="axes alone"):
            check_plot(path)


def test_curves_of_one_epoch_are_seen() -> None:
    """A line needs two epochs, a point one: another figure gives another picture."""
    low, high = ({"accuracy": [value]} for value in (0.2, 0.8))
    losses = {"training": [0.7], "validation": [0.6]}
    assert curves_plot(losses, low) != curves_plot(losses, high)
