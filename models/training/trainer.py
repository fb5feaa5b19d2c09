"""The one training loop: classes or masks, CPU or GPU, interrupted or not.

Everything random in an epoch is drawn from its seed and its number, so that a training that was
interrupted and resumed gives the same weights as one that was not. After each epoch a checkpoint
is written beside the old one and renamed over it.
"""

import copy
import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from models.errors import TrainingFailed
from models.training.grey_augment import augment
from models.training.learning_figures import EpochFigures, figures_of, is_better
from models.training.losses import LossFunction, build_loss
from models.training.optimisers import build_optimiser, rate_factor, set_rate
from models.training.prepared import PreparedImages
from models.training.recipe import Recipe, RecipeTask
from models.training.tensor_files import read_tensors

#: Files of a training inside its output folder.
CHECKPOINT_FILE, BEST_FILE = "checkpoint.pt", "best.pt"
#: Seeds of neighbouring epochs, far enough apart for neighbouring recipe seeds.
_SEED_STRIDE = 100_003

#: Hears of each finished epoch.
Listener = Callable[[EpochFigures], None]
#: Follows the steps of an epoch: total first, then called once per step by the context's owner.
StepListener = Callable[[int, int, int], None]


@dataclass(frozen=True, slots=True)
class Problem:
    """What is to be learnt.

    ``network`` takes grey images ``(batch, 1, rows, columns)``; ``head`` is the part that is
    trained alone during ``frozen_epochs``, None where there is no such part; ``padding`` is that of
    `BuiltNetwork`, and goes with the weights.
    """

    network: nn.Module
    head: nn.Module | None
    training: PreparedImages
    validation: PreparedImages
    recipe: Recipe
    padding: str | None = None


@dataclass(frozen=True, slots=True)
class Learnt:
    """The figures of every epoch, and which one was best on the validation data."""

    history: tuple[EpochFigures, ...]
    best: EpochFigures


@dataclass(slots=True)
class _Running:
    """A training in progress; checkpoints hold all that changes."""

    network: nn.Module
    average: nn.Module
    optimiser: torch.optim.Optimizer
    loss: LossFunction
    device: torch.device
    n_steps_done: int
    history: list[EpochFigures]


def fit(
    problem: Problem,
    out: Path,
    *,
    device: torch.device,
    is_resumed: bool,
    on_epoch: Listener,
    on_step: StepListener,
) -> Learnt:
    """Train a network in place; at the end it holds the weights of its best epoch.

    Parameters
    ----------
    out
        Folder of the checkpoints.
    is_resumed
        Go on from the checkpoint in ``out`` where there is one.
    on_epoch
        Hears of each epoch after its checkpoint is safe.
    on_step
        Hears epoch, step and number of steps.

    Raises
    ------
    TrainingFailed
        The loss is no number any more, or the checkpoint is of another recipe.
    """
    recipe, network = problem.recipe, problem.network.to(device)
    lay_channels_last(network)
    run = _Running(
        network=network,
        average=copy.deepcopy(network) if recipe.training.average_decay > 0 else network,
        optimiser=build_optimiser(network, recipe.optimiser),
        loss=build_loss(recipe.loss, _counts(problem.training, recipe)),
        device=device,
        n_steps_done=0,
        history=[],
    )
    if is_resumed:
        _resume(run, recipe, out)
    for epoch in range(len(run.history), recipe.training.epochs):
        training_loss = _train_epoch(run, problem, epoch, on_step)
        figures = _validate(run, problem)
        run.history.append(replace(figures, epoch=epoch, training_loss=training_loss))
        _keep(run, problem, out)
        on_epoch(run.history[-1])
    network.load_state_dict(_read(out / BEST_FILE, device)["network"])
    return Learnt(tuple(run.history), _best(run.history, recipe))


def batches(batch_size: int, order: Tensor) -> list[Tensor]:
    """Cut an order into batches; a last image alone joins the batch before, for batch norm."""
    cut = list(torch.split(order, batch_size))
    if len(cut) > 1 and len(cut[-1]) == 1:
        cut[-2:] = [torch.cat(cut[-2:])]
    return cut


def predict(
    network: nn.Module, images: PreparedImages, *, batch_size: int, device: torch.device
) -> Tensor:
    """Give the network's logits of all images, on the CPU, without augmentation."""
    network.eval()
    with torch.inference_mode():
        found = [
            network(as_input(batch, device)).float().cpu()
            for batch in torch.split(images.images, batch_size)
        ]
    return torch.cat(found)


def as_input(batch: Tensor, device: torch.device) -> Tensor:
    """Give stored images as float32 on a device."""
    return batch.to(device, torch.float32).contiguous(memory_format=torch.channels_last)


def lay_channels_last(network: nn.Module) -> None:
    """Lay weights of convolutions out channels last: half again as fast on CPUs."""
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def _validate(run: _Running, problem: Problem) -> EpochFigures:
    """Measure loss and figures on the validation data."""
    recipe, validation = problem.recipe, problem.validation
    batch_size = recipe.training.batch_size
    logits = predict(run.average, validation, batch_size=batch_size, device=run.device)
    targets = _as_targets(validation.targets, recipe)
    return figures_of(logits, targets, float(run.loss(logits, targets)))


def _train_epoch(run: _Running, problem: Problem, epoch: int, on_step: StepListener) -> float:
    """Go once through the training data; give the mean loss over the images."""
    recipe, training = problem.recipe, problem.training
    seed = recipe.training.seed * _SEED_STRIDE + epoch
    torch.manual_seed(seed)  # dropout
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(training), generator=generator)
    cut = batches(recipe.training.batch_size, order)
    n_steps = len(cut) * recipe.training.epochs
    _freeze(problem, is_frozen=epoch < recipe.training.frozen_epochs)
    total = 0.0
    for number, chosen in enumerate(cut):
        factor = rate_factor(recipe.schedule, run.n_steps_done, n_steps, len(cut))
        set_rate(run.optimiser, recipe.optimiser.learning_rate * factor)
        value = _step(run, problem, chosen, generator)
        if not math.isfinite(value):
            raise TrainingFailed(
                f"recipe {recipe.name}: the loss is no number in epoch {epoch + 1}; "
                "lower optimiser.learning_rate"
            )
        total += value * len(chosen)
        on_step(epoch, number + 1, len(cut))
    return total / len(training)


def _step(run: _Running, problem: Problem, chosen: Tensor, generator: torch.Generator) -> float:
    """Learn from one batch; give its loss."""
    recipe, training = problem.recipe, problem.training
    is_masks = recipe.task is RecipeTask.SEGMENTATION
    images = training.images[chosen].to(run.device, torch.float32)
    targets = _as_targets(training.targets[chosen], recipe).to(run.device)
    moved, masks = augment(images, targets if is_masks else None, recipe.augmentation, generator)
    logits = run.network(moved.contiguous(memory_format=torch.channels_last))
    value = run.loss(logits, targets if masks is None else masks)
    run.optimiser.zero_grad(set_to_none=True)
    torch.autograd.backward(value)
    run.optimiser.step()
    run.n_steps_done += 1
    if run.average is not run.network:
        _average(run, recipe.training.average_decay)
    return float(value.detach())


def _average(run: _Running, decay: float) -> None:
    """Move the average towards the weights, faster at first; the statistics belong to them."""
    decay = min(decay, (1 + run.n_steps_done) / (10 + run.n_steps_done))
    with torch.no_grad():
        pairs = zip(run.average.parameters(), run.network.parameters(), strict=True)
        for kept, new in pairs:
            kept.lerp_(new, 1.0 - decay)
        for known, now in zip(run.average.buffers(), run.network.buffers(), strict=True):
            if known.is_floating_point():
                known.lerp_(now, 1.0 - decay)
            else:
                known.copy_(now)


def _freeze(problem: Problem, *, is_frozen: bool) -> None:
    """Let all parameters learn, or those of the head alone; what is frozen keeps its statistics."""
    head = problem.head
    problem.network.train(not is_frozen or head is None)
    if head is not None:
        head.train()
    of_head = {id(one) for one in head.parameters()} if head is not None else set()
    for parameter in problem.network.parameters():
        parameter.requires_grad_(not is_frozen or id(parameter) in of_head or head is None)


def _as_targets(targets: Tensor, recipe: Recipe) -> Tensor:
    return targets.to(torch.float32) if recipe.task is RecipeTask.SEGMENTATION else targets


def _counts(training: PreparedImages, recipe: Recipe) -> list[int]:
    """Count images per class, or pixels outside and inside the masks."""
    if recipe.task is RecipeTask.SEGMENTATION:
        inside = int(training.targets.sum(dtype=torch.int64))
        return [training.targets.numel() - inside, inside]
    return torch.bincount(training.targets, minlength=len(recipe.data.classes)).tolist()


def _best(history: list[EpochFigures], recipe: Recipe) -> EpochFigures:
    best = history[0]
    for one in history[1:]:
        if is_better(one, best, recipe.training.monitor):
            best = one
    return best


# ── checkpoints ──────────────────────────────────────────────────────────────────────────────


def _keep(run: _Running, problem: Problem, out: Path) -> None:
    """Write the best weights where this epoch has them, then the checkpoint."""
    latest, recipe = run.history[-1], problem.recipe
    if _best(run.history, recipe) is latest:
        best = {"network": run.average.state_dict(), "epoch": latest.epoch}
        _write(out / BEST_FILE, {**best, "padding": problem.padding})
    state = {
        "recipe": recipe_key(recipe),
        "network": run.network.state_dict(),
        "average": run.average.state_dict() if run.average is not run.network else {},
        "optimiser": run.optimiser.state_dict(),
        "n_steps_done": run.n_steps_done,
        "history": [asdict(one) for one in run.history],
    }
    _write(out / CHECKPOINT_FILE, state)


def _resume(run: _Running, recipe: Recipe, out: Path) -> None:
    """Take everything up from the checkpoint, where there is one."""
    path = out / CHECKPOINT_FILE
    if not path.is_file():
        return
    device = next(run.network.parameters()).device
    state = _read(path, device)
    if state["recipe"] != recipe_key(recipe):
        raise TrainingFailed(
            f"{path} is of other settings; resume with the same, or train into another --out"
        )
    run.network.load_state_dict(state["network"])
    if run.average is not run.network:
        run.average.load_state_dict(state["average"])
    run.optimiser.load_state_dict(state["optimiser"])
    run.n_steps_done = state["n_steps_done"]
    run.history.extend(EpochFigures(**one) for one in state["history"])


def recipe_key(recipe: Recipe) -> str:
    """Give a text that is equal for trainings that can be continued by each other."""
    return repr((recipe.data, recipe.preprocessing, recipe.network, recipe.loss, recipe.optimiser,
                 recipe.schedule, recipe.augmentation, recipe.training))  # fmt: skip


def _write(path: Path, state: Mapping[str, object]) -> None:
    part = path.with_suffix(".part")
    torch.save(dict(state), part)
    part.replace(path)


def _read(path: Path, device: torch.device) -> dict[str, Any]:
    return read_tensors(path, device, mend="train without --resume")
