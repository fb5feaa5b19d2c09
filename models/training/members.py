"""Train the networks of one recipe: one as a rule, several seeds, or one per fold.

Several networks become one answer, a `Committee`. With folds, each image is judged by the member
that has not seen its patient; these out-of-fold logits are the validation figures, and every image
that is not kept for the test is used for training by the other members.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from models.datasets import (
    TEST,
    TRAINING,
    VALIDATION,
    LabelledImages,
    Split,
    cross_validation,
    split_by_lists,
    split_by_patient,
)
from models.errors import TrainingFailed
from models.evaluation.plots import curves_plot
from models.training.committee import Committee
from models.training.graphs import GreyNetwork
from models.training.learning_figures import EpochFigures
from models.training.network_builders import build_network, count_parameters
from models.training.prepared import PreparedImages
from models.training.recipe import Recipe, SplitRule
from models.training.tflite_weights import settle_batch_norm
from models.training.trainer import Learnt, Problem, fit, predict

#: Images that give batch norm its statistics where the weights have none.
_SETTLING_IMAGES = 128


@dataclass(frozen=True, slots=True)
class Plan:
    """One network to be trained: on which split, from which seed, into which folder."""

    split: Split
    seed: int
    out: Path


@dataclass(frozen=True, slots=True)
class Watching:
    """Who hears of the progress of every member, and whether earlier work is taken up."""

    device: torch.device
    is_resumed: bool
    say: Callable[[str], None]
    on_step: Callable[[int, int, int], None]


@dataclass(frozen=True, slots=True)
class Members:
    """The trained networks as one and each alone, and what each side's images got.

    ``judged`` and ``logits`` are by side, without the training side.
    """

    network: nn.Module
    networks: tuple[GreyNetwork, ...]
    learnt: tuple[Learnt, ...]
    training_indices: tuple[int, ...]
    judged: Mapping[str, PreparedImages]
    logits: Mapping[str, Tensor]


def plan_members(data: LabelledImages, recipe: Recipe, out: Path) -> tuple[Plan, ...]:
    """Split the data as the recipe says; a split without validation images is refused."""
    seed = recipe.training.seed
    if recipe.data.split is SplitRule.FOLDS:
        splits = cross_validation(data, recipe.data.n_folds, seed)
    elif recipe.data.split is SplitRule.LISTS:
        lists = split_by_lists(data, allow_leaks_because=recipe.data.allow_leaks_because)
        splits = (lists,) * recipe.training.n_members
    else:
        splits = (split_by_patient(data, recipe.data.shares, seed),) * recipe.training.n_members
    for split in splits:
        if not split.training or not split.validation:
            raise TrainingFailed(
                f"{data.name}: the split has {len(split.training)} training and "
                f"{len(split.validation)} validation images; both are needed, correct data.split"
            )
    if len(splits) == 1:
        return (Plan(splits[0], seed, out),)
    folders = [out / f"member-{number + 1}" for number in range(len(splits))]
    return tuple(
        Plan(split, seed + number, folder)
        for number, (split, folder) in enumerate(zip(splits, folders, strict=True))
    )


def train_members(
    recipe: Recipe, plans: Sequence[Plan], prepared: PreparedImages, watching: Watching
) -> Members:
    """Train every planned network, in order.

    Parameters
    ----------
    prepared
        The images of every side of every plan.
    """
    networks, learnt, own_logits = [], [], []
    for number, plan in enumerate(plans):
        if len(plans) > 1:
            watching.say(f"network {number + 1} of {len(plans)}")
        network, found = _train_one(recipe, plan, prepared, watching)
        networks.append(network)
        learnt.append(found)
        alone = _answer([network], recipe)
        own_logits.append(_judge(alone, prepared.of(plan.split.validation), recipe, watching))
    together = _answer(networks, recipe)
    is_folds = recipe.data.split is SplitRule.FOLDS
    sides = _sides(plans, is_folds=is_folds)
    judged = {side: prepared.of(indices) for side, indices in sides.items() if indices}
    logits = {
        side: _judge(together, one, recipe, watching)
        for side, one in judged.items()
        if side != VALIDATION or not is_folds
    }
    if is_folds:
        logits[VALIDATION] = torch.cat(own_logits)
    return Members(
        network=together,
        networks=tuple(networks),
        learnt=tuple(learnt),
        training_indices=tuple(sorted({n for plan in plans for n in plan.split.training})),
        judged={side: judged[side] for side in (VALIDATION, TEST) if side in judged},
        logits=logits,
    )


def _sides(plans: Sequence[Plan], *, is_folds: bool) -> dict[str, tuple[int, ...]]:
    """Give the judged sides; with folds, validation is all folds one after the other."""
    first = plans[0].split
    if not is_folds:
        return {VALIDATION: first.validation, TEST: first.test}
    return {VALIDATION: tuple(n for one in plans for n in one.split.validation), TEST: first.test}


def _train_one(
    recipe: Recipe, plan: Plan, prepared: PreparedImages, watching: Watching
) -> tuple[GreyNetwork, Learnt]:
    """Build and train one network into its own folder; draw its curves."""
    plan.out.mkdir(parents=True, exist_ok=True)
    own = replace(recipe, training=replace(recipe.training, seed=plan.seed))
    torch.manual_seed(plan.seed)
    built = build_network(own)
    network = GreyNetwork(built.network, built.mean, built.deviation)
    watching.say(f"{recipe.network.name}: {count_parameters(network)} trainable parameters")
    sides = {
        TRAINING: prepared.of(plan.split.training),
        VALIDATION: prepared.of(plan.split.validation),
    }
    if recipe.network.weights.endswith(".tflite"):
        step = max(1, len(sides[TRAINING]) // _SETTLING_IMAGES)
        settle_batch_norm(network, sides[TRAINING].images[::step].to(torch.float32))
    problem = Problem(network, built.head, sides[TRAINING], sides[VALIDATION], own, built.padding)
    found = fit(
        problem,
        plan.out,
        device=watching.device,
        is_resumed=watching.is_resumed,
        on_epoch=lambda one: watching.say(epoch_line(one, recipe)),
        on_step=watching.on_step,
    )
    (plan.out / "curves.png").write_bytes(curves_plot(*_curves(found)))
    return network, found


def _answer(networks: Sequence[GreyNetwork], recipe: Recipe) -> nn.Module:
    """Give one network as it is where nothing is to be averaged."""
    if len(networks) == 1 and not recipe.preprocessing.is_mirrored:
        return networks[0]
    return Committee(networks, is_mirrored=recipe.preprocessing.is_mirrored)


def _judge(
    network: nn.Module, images: PreparedImages, recipe: Recipe, watching: Watching
) -> Tensor:
    batch_size = recipe.training.batch_size
    return predict(network, images, batch_size=batch_size, device=watching.device)


def _curves(learnt: Learnt) -> tuple[dict[str, list[float]], dict[str, list[float]]]:
    """Give the losses over the epochs, and the figures that apply to the task."""
    history = learnt.history
    losses = {
        "training": [one.training_loss for one in history],
        "validation": [one.loss for one in history],
    }
    figures: dict[str, list[float]] = {}
    for label, name in (("accuracy", "accuracy"), ("AUC", "auc"), ("Dice", "dice")):
        values = [getattr(one, name) for one in history]
        if any(value is not None for value in values):
            figures[label] = [float("nan") if value is None else value for value in values]
    return losses, figures


def epoch_line(figures: EpochFigures, recipe: Recipe) -> str:
    """Give one line about an epoch for people."""
    parts = [f"epoch {figures.epoch + 1}/{recipe.training.epochs}"]
    parts += [f"training loss {figures.training_loss:.4f}", f"validation loss {figures.loss:.4f}"]
    for name in ("accuracy", "auc", "dice"):
        value = getattr(figures, name)
        if value is not None:
            parts.append(f"{name} {value:.3f}")
    return ", ".join(parts)
