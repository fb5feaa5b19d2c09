"""Run a recipe from data to model folder: read, split, train, measure, draw, export, describe.

Everything lands in one folder; ``OUTPUTS`` says what. The test side of a split is looked at once,
at the end, and chooses nothing.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from models.datasets import (
    OUT_OF_FOLD,
    TEST,
    VALIDATION,
    LabelledImages,
    Split,
    absent_classes,
    read_dataset,
)
from models.errors import TrainingFailed
from models.evaluation.operating_point import untuned
from models.evaluation.plots import confusion_plot, roc_plot
from models.evaluation.report import METRICS_FILE, to_document
from models.evaluation.tables import write_csv
from models.manifest import Manifest, Metric
from models.training.cards import CardFacts, write_card
from models.training.decision_offset import Settled, balanced, balanced_point
from models.training.failures import Failures, show_class_failures, show_mask_failures
from models.training.freed_memory import freed_memory_kept
from models.training.learning_figures import EpochFigures
from models.training.measuring import (
    MeasuredClasses,
    MeasuredMasks,
    chosen_point,
    fitted_temperature,
    measure_classes,
    measure_masks,
)
from models.training.members import Members, Watching, plan_members, train_members
from models.training.network_builders import count_parameters
from models.training.prepared import Track, prepare
from models.training.recipe import Recipe, RecipeTask, SplitRule
from models.training.recipe_package import Trained, package
from models.training.recipe_writer import write_recipe
from models.training.trainer import CHECKPOINT_FILE, Learnt

#: What a training leaves in its folder.
OUTPUTS: Mapping[str, str] = {
    "recipe.toml": "the recipe as it was run, with every change; it can be trained again",
    "split.json": "names of the images on each side, and the leaks that were allowed",
    "member-N": "checkpoint, weights and curves of each network where a recipe trains several",
    "checkpoint.pt": "the state after the latest epoch, for --resume",
    "best.pt": "the weights of the best epoch",
    "metrics.json": "figures of every epoch and of each side, with intervals",
    "predictions.csv": "logits and label of each validation and test image (classes)",
    "curves.png": "loss and figures over the epochs",
    "confusion.png": "labels against decisions (classes)",
    "roc.png": "sensitivity against specificity (classes)",
    "model": "the exported model: model.onnx, manifest.toml, card.md",
}


@dataclass(frozen=True, slots=True)
class Surroundings:
    """Where and on what a training runs, and who watches."""

    out: Path
    device: str
    threads: int
    is_resumed: bool
    track: Track
    say: Callable[[str], None]
    on_step: Callable[[int, int, int], None]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a training."""

    recipe: str
    out: Path
    epochs: int
    best: EpochFigures
    metrics: tuple[Metric, ...]
    model: Path
    sha256: str


def train_recipe(recipe: Recipe, data_folder: Path, around: Surroundings) -> Outcome:
    """Train a recipe on the data of a folder.

    Raises
    ------
    ModelError
        The data, the split, the weights or the settings cannot be used; the message says what to
        mend.
    """
    torch.set_num_threads(around.threads)
    device = open_device(around.device)
    data = read_dataset(recipe.data.layout, data_folder)
    plans = plan_members(data, recipe, around.out)
    around.out.mkdir(parents=True, exist_ok=True)
    write_recipe(recipe, around.out)
    _write_json(around.out / "split.json", [_split_names(data, one.split) for one in plans])
    if recipe.task is not RecipeTask.SEGMENTATION:
        for one in plans:
            for line in absent_classes(data, one.split):
                around.say(f"{line}: what is learnt or measured there says nothing of it")
    indices = sorted({n for one in plans for side in one.split.sides().values() for n in side})
    prepared = prepare(data, indices, recipe, threads=around.threads, track=around.track)
    watching = Watching(device, around.is_resumed, around.say, around.on_step)
    with freed_memory_kept():
        members = train_members(recipe, plans, prepared, watching)
    network, trained, failures = _measure(members, recipe, data, around)
    around.say("exporting the model")
    manifest = package(network, trained, around.out / "model")
    facts = CardFacts(
        n_parameters=sum(count_parameters(one.network) for one in members.networks),
        n_training_images=len(members.training_indices),
        has_test=TEST in members.judged,
        leaks=tuple(str(leak) for leak in plans[0].split.leaks),
        leak_reason=plans[0].split.allowed_because,
        failures=failures,
    )
    write_card(manifest, trained, facts, around.out / "model")
    return _outcome(recipe, members.learnt[0], manifest, around)


def holds_training(out: Path) -> bool:
    """Tell whether a folder holds the checkpoint of a training, or of one of its members."""
    folders = (out, *out.glob("member-*"))
    return any((folder / CHECKPOINT_FILE).exists() for folder in folders)


def open_device(name: str) -> torch.device:
    """Give a device that is there: ``cpu``, ``cuda`` or ``auto``."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name not in {"cpu", "cuda"}:
        raise TrainingFailed(f"device {name!r}: must be cpu, cuda or auto")
    if name == "cuda" and not torch.cuda.is_available():
        raise TrainingFailed("no CUDA device is there; use --device cpu")
    return torch.device(name)


def _measure(
    members: Members, recipe: Recipe, data: LabelledImages, around: Surroundings
) -> tuple[nn.Module, Trained, Failures]:
    """Measure validation and test, write figures and pictures, collect what the manifest tells."""
    n_patients = len({data.samples[n].patient for n in members.training_indices})
    if recipe.task is RecipeTask.SEGMENTATION:
        trained, failures = _measure_masks(members, recipe, data, around, n_patients)
        return members.network, trained, failures
    judged, on = members.judged, f"{data.name}, {_side_words(recipe, VALIDATION)}"
    labels = judged[VALIDATION].targets
    patients = [data.samples[n].patient for n in judged[VALIDATION].indices]
    is_moved = recipe.training.is_decision_balanced
    settled = Settled(members.network, members.logits, {})
    if is_moved:
        settled = balanced(members.network, members.logits, labels, patients)
    temperature = fitted_temperature(settled.logits[VALIDATION], labels)
    point = balanced_point(on, len(labels))
    if not is_moved:
        point = chosen_point(settled.logits[VALIDATION], labels, temperature, on)
    classes = [
        measure_classes(data, one, settled, temperature, side=side) for side, one in judged.items()
    ]
    _write_metrics(around.out, recipe, members.learnt, classes)
    _write_predictions(around.out / "predictions.csv", data, classes)
    last = classes[-1]
    (around.out / "confusion.png").write_bytes(confusion_plot(last.figures))
    (around.out / "roc.png").write_bytes(roc_plot(last.decided))
    failures = show_class_failures(
        last,
        judged[last.side],
        data,
        around.out / "model",
        on=_side_words(recipe, last.side),
    )
    metrics = tuple(metric for one in classes for metric in _class_metrics(one, data, recipe))
    fitted = f"least cross entropy on {on}, {len(labels)} images"
    trained = Trained(recipe, data, n_patients, metrics, temperature, fitted, point)
    return settled.network, trained, failures


def _measure_masks(
    members: Members,
    recipe: Recipe,
    data: LabelledImages,
    around: Surroundings,
    n_patients: int,
) -> tuple[Trained, Failures]:
    """Measure the masks of every judged side; there is nothing to fit."""
    judged = members.judged
    masks = [measure_masks(data, judged[side], members.logits[side], side=side) for side in judged]
    _write_metrics(around.out, recipe, members.learnt, masks)
    metrics = tuple(_dice_metric(one, data, recipe) for one in masks)
    fitted = "not fitted: the mask is a threshold on the logit"
    last = masks[-1]
    failures = show_mask_failures(
        last, judged[last.side], data, around.out / "model", on=_side_words(recipe, last.side)
    )
    return Trained(recipe, data, n_patients, metrics, 1.0, fitted, untuned()), failures


def _side_words(recipe: Recipe, side: str) -> str:
    """Name what was judged; with folds the model as a whole has seen all of it."""
    is_fold = recipe.data.split is SplitRule.FOLDS and side == VALIDATION
    return OUT_OF_FOLD if is_fold else side


def _class_metrics(measured: MeasuredClasses, data: LabelledImages, recipe: Recipe) -> list[Metric]:
    """Give the figures that are numbers as the manifest has them."""
    figures = measured.figures
    side = _side_words(recipe, measured.side)
    where = f"{data.name}, {side}, {figures.n_images} images; interval over "
    where += f"{figures.resampling.unit.value}s"
    named = {
        "accuracy": figures.accuracy,
        "precision (mean over classes)": figures.precision,
        "recall (mean over classes)": figures.recall,
        "F1 (mean over classes)": figures.f1,
        "area under the curve (mean over classes)": figures.auc,
    }
    return [
        Metric(name, one.value, one.lower, one.upper, where, figures.n_patients)
        for name, one in named.items()
        if np.isfinite([one.value, one.lower, one.upper]).all()
    ]


def _dice_metric(measured: MeasuredMasks, data: LabelledImages, recipe: Recipe) -> Metric:
    side = _side_words(recipe, measured.side)
    where = f"{data.name}, {side}, slices on the network's grid; interval over "
    where += measured.interval_over
    dice = measured.dice
    return Metric("dice", dice.value, dice.lower, dice.upper, where, measured.n_patients)


def _write_metrics(
    out: Path,
    recipe: Recipe,
    learnt: tuple[Learnt, ...],
    measured: list[MeasuredClasses] | list[MeasuredMasks],
) -> None:
    """Write every figure of the training; arrays stay in predictions.csv."""
    sides: dict[str, Any] = {}
    for one in measured:
        if isinstance(one, MeasuredMasks):
            sides[one.side] = {"dice": one.dice, "n_patients": one.n_patients}
        else:
            sides[one.side] = to_document(one.figures) | {"calibration": one.calibration}
    document = {
        "recipe": recipe.name,
        "published": recipe.published,
        "best_epochs": [one.best.epoch + 1 for one in learnt],
        "sides": sides,
        "epochs": [member.history for member in learnt],
    }
    _write_json(out / METRICS_FILE, document)


def _write_predictions(path: Path, data: LabelledImages, measured: list[MeasuredClasses]) -> None:
    """Write one line per judged image: side, name, patient, label and logits."""
    header = ["side", "name", "patient", "label", *(f"logit {name}" for name in data.classes)]
    rows = []
    for one in measured:
        for index, label, logits in zip(one.indices, one.decided.labels, one.logits, strict=True):
            sample = data.samples[index]
            cells = (one.side, sample.name, sample.patient, data.classes[label])
            rows.append((*cells, *(f"{value:.6f}" for value in logits)))
    write_csv(path, header, rows)


def _split_names(data: LabelledImages, split: Split) -> dict[str, Any]:
    names = {
        side: [data.samples[n].name for n in indices] for side, indices in split.sides().items()
    }
    return names | {
        "leaks": [str(leak) for leak in split.leaks],
        "allowed_because": split.allowed_because,
    }


def _write_json(path: Path, document: object) -> None:
    """Write JSON that every reader takes: a figure that is not a number becomes null."""
    text = json.dumps(to_document(document), indent=1, allow_nan=False)
    path.write_text(text + "\n", encoding="utf-8")


def _outcome(recipe: Recipe, learnt: Learnt, manifest: Manifest, around: Surroundings) -> Outcome:
    return Outcome(
        recipe=recipe.name,
        out=around.out,
        epochs=len(learnt.history),
        best=learnt.best,
        metrics=manifest.metrics,
        model=around.out / "model",
        sha256=manifest.sha256,
    )
