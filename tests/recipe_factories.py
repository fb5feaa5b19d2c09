"""Recipes at a size that a test can afford, and surroundings of a training without a terminal."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import torch

from models.training.recipe import Recipe
from models.training.recipe_files import read_recipe
from models.training.run import Surroundings

#: Keys that make any recipe small: no weights from elsewhere, one epoch of one small batch.
SMALL = (
    "network.weights=none",
    "training.epochs=1",
    "training.batch_size=2",
    "training.frozen_epochs=0",
)


def small_recipe(name: str, *changes: str, side: int = 64) -> Recipe:
    """Give a recipe that trains on images of a small side."""
    sizes = (f"preprocessing.rows={side}", f"preprocessing.columns={side}")
    return read_recipe(name, [*SMALL, *sizes, *changes])


def quietly(items: Sequence[int], description: str = "") -> Iterable[int]:
    """Follow an iteration without a bar."""
    del description
    return items


def surroundings(
    out: Path, *, is_resumed: bool = False, said: list[str] | None = None
) -> Surroundings:
    """Train on one thread of the CPU into a folder."""
    return Surroundings(
        out=out,
        device="cpu",
        threads=1,
        is_resumed=is_resumed,
        track=quietly,
        say=(said if said is not None else []).append,
        on_step=lambda _epoch, _step, _n_steps: None,
    )


def without_count(recipe: Recipe) -> Recipe:
    """Give the recipe without the count that it must meet."""
    return replace(recipe, network=replace(recipe.network, n_parameters=None))


def set_one_thread() -> None:
    """Keep torch to one thread: tests share their machine."""
    torch.set_num_threads(1)
