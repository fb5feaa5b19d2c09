"""Write a recipe as it was run, every change included, so that it can be run again."""

from dataclasses import asdict
from enum import Enum
from pathlib import Path
from typing import Any

from models.errors import RecipeInvalid
from models.training.recipe import (
    BinaryCrossEntropy,
    ConstantRate,
    CosineRate,
    Crop,
    CrossEntropy,
    ExponentialRate,
    Focal,
    FocalTversky,
    OneCycleRate,
    Recipe,
    RecipeTask,
    SplitRule,
)
from models.training.recipe_files import AS_RUN_FILE, read_recipe
from models.training.toml_text import array_table, lines, table

#: Names of losses and schedules in a file.
_NAMES: dict[type, str] = {
    CrossEntropy: "cross-entropy",
    BinaryCrossEntropy: "binary-cross-entropy",
    Focal: "focal",
    FocalTversky: "focal-tversky",
    ConstantRate: "constant",
    ExponentialRate: "exponential",
    CosineRate: "cosine",
    OneCycleRate: "one-cycle",
}
#: Keys of a file that are called otherwise in the values.
_KEYS = {"is_mirrored": "mirrored", "n_members": "members"}
_KEYS |= {"is_decision_balanced": "balance_decision"}


def write_recipe(recipe: Recipe, folder: Path) -> Path:
    """Write ``recipe.toml`` into a folder.

    Raises
    ------
    RecipeInvalid
        What was written does not read back as the same recipe.
    """
    path = folder / AS_RUN_FILE
    path.write_text(recipe_text(recipe), encoding="utf-8")
    if read_recipe(str(path)) != recipe:
        raise RecipeInvalid(f"{path} reads back otherwise; mend the writer")
    return path


def recipe_text(recipe: Recipe) -> str:
    """Give a recipe as TOML that needs no other file."""
    head = lines(
        name=recipe.name,
        summary=recipe.summary,
        citation=recipe.citation,
        notes=recipe.notes,
        task=recipe.task.value,
        metrics=[one.value for one in recipe.metrics],
        **({} if recipe.published else {"published": []}),
    )
    parts = [head, table("data", **_data(recipe)), *_preprocessing(recipe), *_network(recipe)]
    parts += [
        table("loss", name=_NAMES[type(recipe.loss)], **_values(recipe.loss)),
        table("optimiser", **_values(recipe.optimiser)),
        table("schedule", name=_NAMES[type(recipe.schedule)], **_values(recipe.schedule)),
        table("augmentation", **_values(recipe.augmentation)),
        table("training", **_values(recipe.training)),
    ]
    parts += [array_table("published", **_values(one)) for one in recipe.published]
    return "\n\n".join(parts) + "\n"


def _values(settings: Any) -> dict[str, object]:
    """Give the fields of settings by their keys in a file; those that are None are left out."""
    return {
        _KEYS.get(key, key): value.value if isinstance(value, Enum) else value
        for key, value in asdict(settings).items()
        if value is not None
    }


def _data(recipe: Recipe) -> dict[str, object]:
    values = _values(recipe.data)
    del values["structure" if recipe.task is RecipeTask.CLASSIFICATION else "classes"]
    if recipe.data.split is not SplitRule.PATIENT:
        del values["shares"]
    if recipe.data.split is not SplitRule.FOLDS:
        del values["n_folds"]
    if not recipe.data.allow_leaks_because:
        del values["allow_leaks_because"]
    return values


def _preprocessing(recipe: Recipe) -> list[str]:
    values = _values(recipe.preprocessing)
    window, lungs = values.pop("hu_window", None), values.pop("lungs", None)
    parts = [table("preprocessing", **values)]
    if isinstance(window, dict):
        parts.append(table("preprocessing.hu_window", **window))
    if recipe.preprocessing.crop is Crop.LUNGS and isinstance(lungs, dict):
        grey_window = lungs.pop("grey_window")
        parts.append(table("preprocessing.lungs", **lungs))
        parts.append(table("preprocessing.lungs.grey_window", **grey_window))
    return parts


def _network(recipe: Recipe) -> list[str]:
    values = _values(recipe.network)
    del values["arguments"]
    arguments = dict(recipe.network.arguments)
    parts = [table("network", **values)]
    return [*parts, table("network.arguments", **arguments)] if arguments else parts
