"""Train networks side by side: one per fold, from shared batches, each on its own patients.

Making a batch (moving, painting lesions, changing the scanner) costs more than a step of one of
these small networks, so cross-validation comes at little more than the price of one training.
"""

import copy
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Generic, TypeVar, cast

import numpy as np
import torch
from torch import Tensor, nn

from models.errors import TrainingFailed
from models.training.networks import lay_channels_last
from models.training.slice_data import LabelledSlices, Source

Batch = TypeVar("Batch")
Network = TypeVar("Network", bound=nn.Module)


@dataclass(frozen=True, slots=True)
class Course:
    """Length of a training: steps, or wall clock seconds where those end first."""

    n_steps: int
    seconds: float | None = None
    warm_up: float = 0.1  #: share of the course until the peak of the learning rate
    started_s: float = field(default_factory=time.monotonic)

    def progress(self, step: int) -> float:
        """Give the share of the course that is done, 0 to 1."""
        done = step / self.n_steps
        if self.seconds is not None:
            done = max(done, (time.monotonic() - self.started_s) / self.seconds)
        return min(done, 1.0)

    def rate(self, progress: float) -> float:
        """Give the learning rate as a share of its peak: up in a line, down in half a cosine."""
        if progress < self.warm_up:
            return max(progress / self.warm_up, 0.02)
        fallen = (progress - self.warm_up) / (1.0 - self.warm_up)
        return max(0.5 * (1.0 + math.cos(math.pi * fallen)), 1e-3)


class SlowCopy:
    """An average of the last few hundred steps' weights, better than the weights of any step."""

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.network = copy.deepcopy(network).eval()
        self._decay = decay
        self._n_steps = 0

    @torch.no_grad()
    def follow(self, network: nn.Module) -> None:
        """Move a little towards the weights of a network; its statistics of batch norm too."""
        self._n_steps += 1
        keep = min(self._decay, self._n_steps / (self._n_steps + 10.0))
        pairs = zip(self.network.state_dict().values(), network.state_dict().values(), strict=True)
        floating = [(slow, fast) for slow, fast in pairs if slow.is_floating_point()]
        torch._foreach_lerp_(
            [slow for slow, _ in floating], [fast for _, fast in floating], 1.0 - keep
        )


class Learner(Generic[Network]):
    """One network of a fold with its optimiser and its slow copy."""

    def __init__(self, network: Network, *, weight_decay: float, decay: float) -> None:
        self.network = network
        self.slow = SlowCopy(network, decay)
        self._optimiser = torch.optim.AdamW(network.parameters(), lr=0.0, weight_decay=weight_decay)

    def learn(self, loss: Tensor, rate: float) -> None:
        """Make one step."""
        for group in self._optimiser.param_groups:
            group["lr"] = rate
        self._optimiser.zero_grad()
        torch.autograd.backward(loss)
        self._optimiser.step()
        self.slow.follow(self.network)

    @property
    def result(self) -> Network:
        """The slow copy, in evaluation mode."""
        return cast("Network", self.slow.network)

    def save(self, path: Path) -> None:
        """Write the slow weights, under a temporary name first: no reader sees half a file."""
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".part")
        state = self.slow.network.state_dict()
        torch.save({name: value.cpu() for name, value in state.items()}, partial)
        partial.replace(path)


@dataclass(frozen=True, slots=True)
class Folds:
    """Several networks that learn side by side, each from the patients of its fold alone.

    They share the batches, which cost more than the networks: each takes its part of a batch from
    the slices that it may see.
    """

    names: tuple[str, ...]
    is_allowed: Tensor = field(repr=False)  #: (folds, slices) float32, 0 or 1

    def choose(self, fold: int, drawn: Tensor, n: int, generator: torch.Generator) -> Tensor:
        """Choose places in the batch, ``(n,)``, whose slices the fold may see, and no other.

        Where the batch holds fewer of them than ``n``, they are taken more than once.

        Raises
        ------
        TrainingFailed
            The batch holds none.
        """
        is_allowed = self.is_allowed[fold, drawn]
        n_allowed = int(is_allowed.sum())
        if n_allowed == 0:
            raise TrainingFailed(
                f"fold {self.names[fold]}: a batch of {len(drawn)} slices holds none of its "
                "patients; leave fewer patients out, or draw larger batches"
            )
        order = torch.rand(len(drawn), generator=generator, device=drawn.device)
        places = (order + is_allowed).topk(min(n, n_allowed)).indices
        return places[torch.arange(n, device=drawn.device) % len(places)]


def make_folds(
    slices: LabelledSlices, patients_of: Mapping[str, frozenset[str]], device: torch.device
) -> Folds:
    """Say which fold may learn from which slice: synthetic patients, and its own real ones."""
    synthetic = np.isin(slices.sources, [Source.PHANTOM, Source.NO_LUNGS])
    allowed = [
        synthetic | np.isin(slices.patients, sorted(patients)) for patients in patients_of.values()
    ]
    return Folds(tuple(patients_of), torch.from_numpy(np.stack(allowed)).float().to(device))


def enrol(
    networks: Mapping[str, Network], device: torch.device, *, weight_decay: float, decay: float
) -> dict[str, Learner[Network]]:
    """Make a learner of the network of each fold, on the device."""
    learners = {}
    for fold, network in networks.items():
        lay_channels_last(network.to(device).train())
        learners[fold] = Learner(network, weight_decay=weight_decay, decay=decay)
    return learners


def train_side_by_side(
    learners: Mapping[str, Learner[Network]],
    course: Course,
    learning_rate: float,
    make_batch: Callable[[int], Batch],
    loss_of: Callable[[int, Network, Batch], Tensor],
    *,
    out: Path,
    name: str,
    save_every_s: float,
) -> dict[str, Network]:
    """Run a course; now and then, and at its end, print the loss and leave ``FOLD/NAME.pt``.

    Parameters
    ----------
    learning_rate
        At its peak.
    make_batch
        Takes the number of the step and gives what it sees, for all learners together.
    loss_of
        Takes the number of the learner, its network and the batch.

    Returns
    -------
    :
        The slow copy of each fold's network.
    """

    def save(state: str) -> None:
        for fold, learner in learners.items():
            learner.save(out / fold / f"{name}.pt")
        print(f"{name} {state}", flush=True)

    saved_s = time.monotonic()
    step = 0
    while (progress := course.progress(step)) < 1.0:
        batch = make_batch(step)
        losses = []
        for number, learner in enumerate(learners.values()):
            loss = loss_of(number, learner.network, batch)
            learner.learn(loss, learning_rate * course.rate(progress))
            losses.append(loss.detach())
        step += 1
        if time.monotonic() - saved_s > save_every_s:
            saved_s = time.monotonic()
            save(f"step {step} {progress:.0%} loss {torch.stack(losses).mean().item():.4f}")
    save(f"ended after {step} steps")
    return {fold: learner.result for fold, learner in learners.items()}
