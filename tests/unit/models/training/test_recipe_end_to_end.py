"""A recipe from data to model folder: what is exported computes what was trained, and is explained.

Each way to export is trained here with a small network: pictures, behind a lung model, slices
in HU, masks. Every recipe with its own network: `test_every_recipe.py`.
"""

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from models.datasets import read_dataset
from models.errors import ModelDigestMismatch, RecipeInvalid, TrainingFailed
from models.registry import ModelFolder, open_model_folder, verify_model
from models.session import run_graph
from models.training.recipe import Recipe, RecipeTask
from models.training.recipe_package import exported_logits
from models.training.run import OUTPUTS, open_device, train_recipe
from models.training.variants import GraphFormat, Precision, export_variant
from screener.cli.app import app
from tests.dataset_factories import write_dataset
from tests.recipe_factories import small_recipe, surroundings, without_count

#: A network of our own in place of a large one; its size is checked elsewhere.
OWN = (
    "network.source=own",
    "network.name=separable-cnn",
    "network.arguments={}",
)
#: One recipe for each way to export.
WAYS = {
    "pictures": ("ct-slices-custom-cnn",),
    "behind-lungs": ("covid-ct-efficientnet-b4", *OWN),
    "hu-slices": ("spgc-vgg16", *OWN),
    "masks": (
        "attention-unet-lung",
        "network.arguments.channels=[4, 8]",
        "network.arguments.strides=[2]",
    ),
}


def train_way(way: str, folder: Path) -> Recipe:
    name, *changes = WAYS[way]
    recipe = without_count(small_recipe(name, *changes))
    train_recipe(recipe, write_dataset(recipe.data.layout, folder / "data"), surroundings(folder))
    return recipe


@pytest.fixture(scope="module")
def train_once(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple[Recipe, Path]]:
    """Train each way once for the tests of this module."""
    done: dict[str, tuple[Recipe, Path]] = {}

    def train(way: str) -> tuple[Recipe, Path]:
        if way not in done:
            folder = tmp_path_factory.mktemp(way)
            done[way] = (train_way(way, folder), folder)
        return done[way]

    return train


@pytest.fixture(
    params=[
        pytest.param(way, marks=pytest.mark.slow) if way == "hu-slices" else way for way in WAYS
    ]
)
def trained(
    request: pytest.FixtureRequest, train_once: Callable[[str], tuple[Recipe, Path]]
) -> tuple[Recipe, Path]:
    """Give the recipe and the folder of each way."""
    return train_once(request.param)


def test_training_leaves_everything_it_promises(trained: tuple[Recipe, Path]) -> None:
    """Figures, pictures, checkpoints and a model folder that verifies."""
    recipe, folder = trained
    of_classes = {"predictions.csv", "confusion.png", "roc.png"}
    is_masks = recipe.task is RecipeTask.SEGMENTATION
    of_others = {"member-N"} | (of_classes if is_masks else set())
    expected = set(OUTPUTS) - of_others
    assert expected <= {path.name for path in folder.iterdir()}
    assert (folder / "curves.png").read_bytes().startswith(b"\x89PNG")
    metrics = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
    assert set(metrics["sides"]) <= {"validation", "test"}
    assert len(metrics["epochs"]) == 1
    model = open_model_folder(folder / "model")
    assert verify_model(model) == model.manifest.sha256
    assert model.manifest.recipe == recipe.name
    for split in json.loads((folder / "split.json").read_text(encoding="utf-8")):
        assert split["training"]
        assert not set(split["training"]) & set(split["validation"])


def test_exported_graph_computes_what_was_trained(trained: tuple[Recipe, Path]) -> None:
    """Raw images through the exported file give the logits that training measured."""
    recipe, folder = trained
    data = read_dataset(recipe.data.layout, folder / "data")
    names = [sample.name for sample in data.samples]
    if recipe.task is RecipeTask.SEGMENTATION:
        image = data.image(0)
        assert exported_logits(folder / "model", image, 1).shape == (1, *image.shape)
        return
    lines = (folder / "predictions.csv").read_text(encoding="utf-8").splitlines()
    rows = list(csv.DictReader(lines))
    for row in rows[:4]:
        measured = [float(row[f"logit {name}"]) for name in data.classes]
        image = data.image(names.index(row["name"]))
        found = exported_logits(folder / "model", image, 1)[0]
        # Training rounds pictures to whole grey values once; the graph does not.
        np.testing.assert_allclose(found, measured, atol=0.02)


def test_card_tells_what_a_reader_must_know(trained: tuple[Recipe, Path]) -> None:
    """Data, figures with intervals, what it must not be used for, failures."""
    recipe, folder = trained
    card = (folder / "model" / "card.md").read_text(encoding="utf-8")
    for phrase in ("not a medical device", "must not be used", "95 % interval", "Where it fails"):
        assert phrase in card
    for figure in recipe.published:
        assert f"{figure.value:.3f}" in card
    assert ("failures.png" in card) == (folder / "model" / "failures.png").exists()
    assert "\n\n\n" not in card


# ── variants ─────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def picture_model(train_once: Callable[[str], tuple[Recipe, Path]], tmp_path: Path) -> ModelFolder:
    """A copy of a model of pictures for each variant."""
    _, folder = train_once("pictures")
    return open_model_folder(shutil.copytree(folder / "model", tmp_path / "model"))


@pytest.mark.parametrize(
    ("precision", "graph_format", "parity", "share_of_bytes"),
    [
        ("fp16", "onnx", 0.01, 0.6),
        ("int8", "onnx", 0.1, 0.5),
        ("fp32", "ort", 1e-4, 1.2),
        pytest.param("int8", "ort", 0.1, 0.6, marks=pytest.mark.slow),
    ],
)
def test_exported_variant_is_smaller_close_and_pinned(
    picture_model: ModelFolder,
    precision: str,
    graph_format: str,
    parity: float,
    share_of_bytes: float,
) -> None:
    """Each says how far it is from the graph, is as close on a new image, and is verified."""
    arguments = ["models", "export", str(picture_model.path), "--limit", "8", "--json"]
    arguments += ["--variant", precision, "--format", graph_format]
    result = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert result.exit_code == 0
    done = json.loads(result.stdout)
    assert done["variant"]["parity"] <= parity
    assert done["variant"]["n_images"] == 4
    path = picture_model.path / f"model.{precision}.{graph_format}"
    assert Path(done["path"]) == path
    assert path.stat().st_size <= share_of_bytes * picture_model.graph.stat().st_size
    grey = np.random.default_rng(5).uniform(0.0, 255.0, (2, 96, 80)).astype(np.float32)
    small, whole = (
        run_graph(file.read_bytes(), {"grey": grey}, ["class_logits"])["class_logits"]
        for file in (path, picture_model.graph)
    )
    # Noise is further from what calibrated than a chest is.
    np.testing.assert_allclose(small, whole, atol=3.0 * parity)
    changed = open_model_folder(picture_model.path)
    assert [one.parity for one in changed.manifest.variants] == [done["variant"]["parity"]]
    verify_model(changed)
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(ModelDigestMismatch, match=path.name):
        verify_model(changed)


def test_variant_that_is_the_model_itself_is_refused(picture_model: ModelFolder) -> None:
    """fp32 in ONNX is there already."""
    with pytest.raises(TrainingFailed, match=r"model\.onnx itself"):
        export_variant(picture_model, Precision.FP32, GraphFormat.ONNX, (), "nothing")


def test_variant_without_images_is_refused(picture_model: ModelFolder) -> None:
    """Nothing is claimed that was not measured."""
    with pytest.raises(TrainingFailed, match="at least 4"):
        export_variant(picture_model, Precision.INT8, GraphFormat.ONNX, (), "nothing")


# ── what does not fit ────────────────────────────────────────────────────────────────────────


def test_recipe_of_other_classes_is_refused(tmp_path: Path) -> None:
    """A recipe written for other data does not train on these."""
    recipe = small_recipe("covid-ct-mobile", 'data.classes=["a", "b"]')
    data = write_dataset("covid-ct", tmp_path / "data")
    with pytest.raises(RecipeInvalid, match=r"correct data\.classes"):
        train_recipe(recipe, data, surroundings(tmp_path / "out"))


def test_recipe_without_window_for_hu_is_refused(tmp_path: Path) -> None:
    """HU need a window before a network sees them."""
    recipe = small_recipe("ct-slices-custom-cnn", "data.layout=spgc")
    data = write_dataset("spgc", tmp_path / "data")
    with pytest.raises(RecipeInvalid, match="hu_window"):
        train_recipe(recipe, data, surroundings(tmp_path / "out"))


def test_device_that_is_not_there_is_refused() -> None:
    """A wrong name, and a GPU where there is none."""
    with pytest.raises(TrainingFailed, match="must be cpu, cuda or auto"):
        open_device("tpu")
    assert open_device("cpu").type == "cpu"
