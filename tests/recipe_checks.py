"""What every training owes: checks of its folder, and of its model in the hands of a stranger."""

import csv
import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from typer.testing import CliRunner

from models.datasets import LabelledImages, Unit, read_dataset
from models.registry import open_model_folder
from models.training.recipe import Recipe, RecipeTask, SplitRule
from models.training.run import OUTPUTS
from screener.cli.app import app

#: Least side of a picture that a person looks at, in pixels, and least number of its grey values.
_LEAST_SIDE, _LEAST_GREYS = 200, 8
#: Least pixels of a plot in colour (axes, text and the diagonal of a ROC are grey), and how far the
#: channels of a colour are apart.
_LEAST_COLOURED, _COLOUR = 100, 60
#: Shares of a split that give each side of the tiny data sets an image of each class.
SHARES_OF_TINY: Mapping[str, str] = {
    "radiography": "data.shares=[0.5, 0.25, 0.25]",
    "large-slice-set": "data.shares=[0.4, 0.3, 0.3]",
}
#: How far logits are apart at most: training rounds pictures to whole grey values once, the graph
#: does not. A table has probabilities to six digits.
_ROUNDED, _LAST_DIGIT = 0.02, 1e-6


def run_command(*arguments: object) -> str:
    """Run one `screener models` command to its successful end; give what it prints."""
    words = ["models", *map(str, arguments)]
    result = CliRunner().invoke(app, words, catch_exceptions=False, standalone_mode=False)
    assert (result.exit_code, result.return_value or 0) == (0, 0), result.output
    return result.stdout


def check_picture(path: Path) -> None:
    """Check that a PNG opens whole, is large enough to read, and shows more than empty axes."""
    with Image.open(path) as opened:
        assert opened.format == "PNG"
        opened.load()
        grey = np.asarray(opened.convert("L"))
    assert min(grey.shape) >= _LEAST_SIDE, f"{path.name} is {grey.shape}"
    assert len(np.unique(grey)) >= _LEAST_GREYS, f"{path.name} is one colour or nearly so"


def check_plot(path: Path) -> None:
    """Check that a plot is a picture and shows data: more than axes, text and a diagonal."""
    check_picture(path)
    with Image.open(path) as opened:
        rgb = np.asarray(opened.convert("RGB"), dtype=np.int16)
    n_coloured = int((rgb.max(axis=2) - rgb.min(axis=2) > _COLOUR).sum())
    assert n_coloured >= _LEAST_COLOURED, f"{path.name} shows axes alone"


def check_training(recipe: Recipe, folder: Path) -> None:
    """Check that a training left figures, pictures, checkpoints, manifest and card."""
    names = {path.name for path in folder.iterdir()}
    is_masks = recipe.task is RecipeTask.SEGMENTATION
    members = sorted(folder.glob("member-*"))
    by_member = {"checkpoint.pt", "best.pt", "curves.png"}
    of_classes = {"predictions.csv", "confusion.png", "roc.png"}
    expected = set(OUTPUTS) - {"member-N"} - (of_classes if is_masks else set())
    assert expected - (by_member if members else set()) <= names
    for member in members or [folder]:
        assert by_member <= {path.name for path in member.iterdir()}
        check_plot(member / "curves.png")
    for plot in folder.glob("*.png"):
        check_plot(plot)
    for picture in folder.glob("model/*.png"):
        check_picture(picture)
    _check_metrics(recipe, json.loads((folder / "metrics.json").read_text(encoding="utf-8")))
    card = (folder / "model" / "card.md").read_text(encoding="utf-8")
    for figure in open_model_folder(folder / "model").manifest.metrics:
        assert f"{figure.name} | {figure.value:.3f} | {figure.lower:.3f}" in card
    for picture in (folder / "model").glob("*.png"):
        assert picture.name in card


def _check_metrics(recipe: Recipe, metrics: Mapping[str, Any]) -> None:
    """Check the figures of every epoch and side."""
    assert metrics["recipe"] == recipe.name
    for history in metrics["epochs"]:
        assert len(history) == recipe.training.epochs
        assert all(np.isfinite(one["loss"]) for one in history)
    assert "validation" in metrics["sides"]
    for figures in metrics["sides"].values():
        main = figures["dice" if recipe.task is RecipeTask.SEGMENTATION else "accuracy"]
        assert 0.0 <= main["lower"] <= main["value"] <= main["upper"] <= 1.0


def check_model_of_stranger(recipe: Recipe, data_folder: Path, folder: Path, out: Path) -> None:
    """Check that `models verify` and `models evaluate` run on the exported model, and agree.

    Parameters
    ----------
    data_folder
        What the recipe was trained on.
    folder
        What the training left.
    out
        Where the report goes.
    """
    model = folder / "model"
    verdict = json.loads(run_command("verify", model, "--json"))
    digest = open_model_folder(model).manifest.sha256
    assert [(one["is_ok"], one["detail"]) for one in verdict] == [(True, digest)]
    data = read_dataset(recipe.data.layout, data_folder)
    is_masks = recipe.task is RecipeTask.SEGMENTATION
    asked = ("--layout", recipe.data.layout, "--data", data_folder)
    if data.unit is Unit.GREY and not is_masks:
        asked = ("--images", data_folder, "--labels", write_labels(data, out))
    text = run_command("evaluate", model, *asked, "--no-cost", "--json", "--out", out / "report")
    document = json.loads(text)
    assert document["model"]["sha256"] == digest
    assert (out / "report" / "evaluation.html").stat().st_size > 0
    if is_masks:
        assert len(document["masks"]["patients"]) == len(data.patients())
        assert np.isfinite(document["masks"]["mean"]["value"])
        return
    for plot in (out / "report").glob("*.png"):
        check_plot(plot)
    assert document["images"]["n_images"] > 0
    if data.unit is Unit.GREY:
        assert document["images"]["n_images"] == len(data)
        # With folds, the validation images were judged by one network, not by all.
        sides = {"test"} if recipe.data.split is SplitRule.FOLDS else {"validation", "test"}
        measured = _columns(folder / "predictions.csv", "logit ", sides)
        found = _columns(out / "report" / "predictions.csv", "p_")
        _check_probabilities(measured, found, document["temperature"]["value"])


def write_labels(data: LabelledImages, out: Path) -> Path:
    """Write what a stranger has: a CSV of files, labels and patients."""
    out.mkdir(parents=True, exist_ok=True)
    path = out / "labels.csv"
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["file", "label", "patient"])
        for one in data.samples:
            assert one.label is not None
            writer.writerow([one.name, data.classes[one.label], one.patient])
    return path


def _check_probabilities(
    measured: Mapping[str, NDArray[np.float64]],
    found: Mapping[str, NDArray[np.float64]],
    temperature: float,
) -> None:
    """Check that a report has the probabilities of the logits of a training, image by image.

    Compared are logarithms times the temperature, on the scale of logits: a sharp temperature makes
    much of what was rounded. Below the last digit of the report all are alike.
    """
    assert measured
    for name, logits in measured.items():
        scaled = logits / temperature
        expected = np.exp(scaled - np.logaddexp.reduce(scaled))
        kept, meant = (np.maximum(one, _LAST_DIGIT) for one in (found[name], expected))
        apart = np.abs(temperature * (np.log(kept) - np.log(meant)))
        allowed = _ROUNDED + temperature * _LAST_DIGIT / kept
        assert (apart <= allowed).all(), f"{name}: {apart}, temperature {temperature}"


def _columns(
    path: Path, prefix: str, sides: Collection[str] = ("",)
) -> dict[str, NDArray[np.float64]]:
    """Read the columns that begin with a prefix, by the name of the image."""
    with path.open(encoding="utf-8", newline="") as stream:
        return {
            row.get("name") or row["file"]: np.array(
                [float(cell) for name, cell in row.items() if name.startswith(prefix)]
            )
            for row in csv.DictReader(stream)
            if row.get("side", "") in sides
        }
