"""Measure models for a person: open them by name or path, read data, hand in the node's vote."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from models.datasets import LAYOUTS, TEST, TRAINING, VALIDATION, LabelledImages, read_dataset
from models.datasets.image_csv import read_image_csv
from models.errors import DatasetError, ModelError
from models.evaluation.compare import compare, read_measured, read_published
from models.evaluation.evaluate import Evaluation, EvaluationSettings, evaluate
from models.evaluation.operating_point import OperatingRule
from models.evaluation.patients import VoteOutcome
from models.manifest import HuWindow, Task
from models.registry import SHIPPED_MODELS, find_model, open_model_folder
from screener.domain import PatientClass, SliceProbabilities, VoteRule
from screener.errors import ModelFailure, NotAnalysable, WrongUse
from screener.vote import vote

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from models.evaluation.compare import Comparison
    from models.evaluation.patients import Vote
    from models.registry import ModelFolder
    from screener.domain import VotePolicy
    from screener.settings import Settings

#: Parts that may be asked for; ``all`` takes every sample.
PARTS = ("all", TRAINING, VALIDATION, TEST)


@dataclass(frozen=True, slots=True)
class Measurement:
    """What a person asks to be measured; see `screener models evaluate`."""

    model: str
    images: Path | None
    labels: Path | None
    layout: str
    data: Path | None
    part: str
    patients: tuple[str, ...]
    validation_labels: Path | None
    validation_part: str
    window: tuple[float, float] | None
    lungs: str
    class_map: tuple[str, ...]
    rule: str
    by_likeliest: bool
    allow_leaks_because: str
    folds: tuple[str, ...]
    with_whole_image: bool
    with_flattery: bool
    with_cost: bool
    threads: int
    seed: int


def measure(
    settings: Settings,
    wanted: Measurement,
    track: Callable[[Sequence[int]], Iterable[int]],
) -> Evaluation:
    """Measure one model.

    Raises
    ------
    WrongUse
        Options contradict each other, or the data do not fit.
    ModelFailure
        The model is missing, changed, or fails.
    """
    try:
        folder = open_model(settings, wanted.model)
        data, validation = _read(wanted)
        return evaluate(
            folder, data, _evaluation_settings(settings, wanted, folder, validation, track)
        )
    except DatasetError as error:
        raise WrongUse(str(error)) from error
    except ModelError as error:
        raise ModelFailure(str(error)) from error


def open_model(settings: Settings, name: str) -> ModelFolder:
    """Open a model by path of its folder, or by its name under ``models.root``."""
    path = Path(name)
    if path.is_dir():
        return open_model_folder(path)
    return find_model(name, settings.models.root or SHIPPED_MODELS)


def compare_runs(names: Sequence[str]) -> Comparison:
    """Compare measurements, each beside the publication that its model follows.

    Raises
    ------
    WrongUse
        A name is neither a measurement nor a recipe.
    """
    try:
        recipes = {name: read_published(name) for name in names if not Path(name).exists()}
        unknown = sorted(name for name, one in recipes.items() if one is None)
        if unknown:
            raise WrongUse(
                f"{unknown[0]} is neither a file, nor a folder, nor a recipe; "
                "`screener models evaluate ... --out FOLDER` writes what can be compared"
            )
        paths = [Path(name) for name in names if name not in recipes]
        measured = [one for path in paths for one in read_measured(path)]
        for one in measured:
            recipes.setdefault(one.recipe, read_published(one.recipe))
        return compare(measured, [one for one in recipes.values() if one and one.figures])
    except DatasetError as error:
        raise WrongUse(str(error)) from error


def vote_policies(policy: VotePolicy) -> Mapping[str, Vote]:
    """Give every rule with the thresholds of the site's policy, the site's own rule first."""
    rules = sorted(VoteRule, key=lambda rule: rule is not policy.rule)
    return {rule.value: _vote_by(replace(policy, name=rule.value, rule=rule)) for rule in rules}


def _vote_by(policy: VotePolicy) -> Vote:
    def decide(
        classes: tuple[str, ...],
        slice_indices: NDArray[np.int64],
        probabilities: NDArray[np.float32],
        spacing_mm: float,
    ) -> VoteOutcome:
        slices = SliceProbabilities(classes, slice_indices, probabilities)
        try:
            decision = vote(slices, policy, spacing_mm)
        except NotAnalysable as error:
            return VoteOutcome(f"not analysed: {error.reason.value}", 0.0)
        return VoteOutcome(decision.patient_class.value, decision.certainty)

    return decide


def _evaluation_settings(
    settings: Settings,
    wanted: Measurement,
    folder: ModelFolder,
    validation: LabelledImages | None,
    track: Callable[[Sequence[int]], Iterable[int]],
) -> EvaluationSettings:
    has_our_classes = set(folder.manifest.class_names) <= {one.value for one in PatientClass}
    can_vote = has_our_classes and PatientClass.NORMAL.value in folder.manifest.class_names
    lungs = wanted.lungs
    if not lungs and wanted.data is not None and folder.manifest.task is Task.SLICE_CLASSIFICATION:
        lungs = settings.models.lungs.name
    return EvaluationSettings(
        window=None if wanted.window is None else _window(wanted.window),
        part="" if wanted.part == "all" else wanted.part,
        class_map=_class_map(wanted.class_map),
        validation=validation,
        rule=OperatingRule(wanted.rule),
        by_likeliest=wanted.by_likeliest,
        allow_leaks_because=wanted.allow_leaks_because,
        votes=vote_policies(settings.vote.policy()) if can_vote else {},
        lungs=open_model(settings, lungs) if lungs else None,
        lung_folds=[_fold(settings, text) for text in wanted.folds],
        with_whole_image=wanted.with_whole_image,
        with_flattery=wanted.with_flattery,
        with_cost=wanted.with_cost,
        threads=wanted.threads,
        seed=wanted.seed,
        track=track,
    )


def _fold(settings: Settings, text: str) -> tuple[ModelFolder, tuple[str, ...]]:
    name, separator, patients = text.rpartition("=")
    if not separator or not patients:
        raise WrongUse(f"--fold {text}: write it as MODEL=PATIENT,PATIENT")
    return open_model(settings, name), tuple(patients.split(","))


def _window(edges: tuple[float, float]) -> HuWindow:
    lower_hu, upper_hu = edges
    if not lower_hu < upper_hu:
        raise WrongUse(f"--window {lower_hu:g} {upper_hu:g}: the first must be the lower, in HU")
    return HuWindow(lower_hu, upper_hu)


def _class_map(pairs: Sequence[str]) -> dict[str, str]:
    wrong = [pair for pair in pairs if pair.count("=") != 1]
    if wrong:
        raise WrongUse(f"--map {wrong[0]}: write it as NAME=CLASS, for example NonCOVID=normal")
    return dict(pair.split("=") for pair in pairs)


def _read(wanted: Measurement) -> tuple[LabelledImages, LabelledImages | None]:
    """Read the data to report on, and those to choose on where they are named."""
    if wanted.part not in PARTS or wanted.validation_part not in ("", *PARTS[1:]):
        raise WrongUse(f"parts are {', '.join(PARTS)}; correct --part or --validation-part")
    if (wanted.images is None) == (wanted.data is None):
        raise WrongUse("name the data by --images and --labels, or by --layout and --data")
    whole = _read_whole(wanted)
    data = _part_of(whole, wanted.part, wanted.patients)
    if wanted.validation_labels is not None:
        if wanted.images is None:
            raise WrongUse("--validation-labels goes with --images; use --validation-part")
        return data, read_image_csv(wanted.images, wanted.validation_labels)
    if wanted.validation_part:
        return data, _part_of(whole, wanted.validation_part, ())
    return data, None


def _read_whole(wanted: Measurement) -> LabelledImages:
    if wanted.images is not None:
        if wanted.labels is None:
            raise WrongUse("--images needs --labels, a CSV with the columns file and label")
        return read_image_csv(wanted.images, wanted.labels)
    if wanted.data is None or not wanted.layout:
        raise WrongUse(f"--data needs --layout, one of {', '.join(LAYOUTS)}")
    return read_dataset(wanted.layout, wanted.data)


def _part_of(data: LabelledImages, part: str, patients: Sequence[str]) -> LabelledImages:
    unknown = sorted(set(patients) - set(data.patients()))
    if unknown:
        raise WrongUse(f"{data.name} has no patient {unknown[0]!r}; correct --patient")
    kept = [
        n
        for n, sample in enumerate(data.samples)
        if part in ("all", sample.part) and (not patients or sample.patient in patients)
    ]
    if not kept:
        raise WrongUse(f"{data.name} has no images of part {part}; choose another --part")
    return data if len(kept) == len(data) else data.subset(kept)
