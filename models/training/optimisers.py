"""Optimisers and learning-rate schedules of the recipes.

A schedule is a pure function of the step, so that a resumed training needs nothing but its number.
"""

import math

import torch
from torch import nn

from models.training.recipe import (
    ConstantRate,
    CosineRate,
    ExponentialRate,
    OneCycleRate,
    OptimiserName,
    OptimiserSettings,
    Schedule,
)

#: Momentum of plain gradient descent.
_MOMENTUM = 0.9
#: A one-cycle schedule starts at this share of its peak and ends at a ten-thousandth of the start.
_ONE_CYCLE_START, _ONE_CYCLE_END = 1 / 25, 1 / 25 * 1e-4


def build_optimiser(network: nn.Module, settings: OptimiserSettings) -> torch.optim.Optimizer:
    """Give the optimiser over all parameters of a network."""
    rate, decay = settings.learning_rate, settings.weight_decay
    match settings.name:
        case OptimiserName.ADAM:
            return torch.optim.Adam(network.parameters(), lr=rate, weight_decay=decay)
        case OptimiserName.ADAMW:
            return torch.optim.AdamW(network.parameters(), lr=rate, weight_decay=decay)
        case OptimiserName.SGD:
            return torch.optim.SGD(
                network.parameters(), lr=rate, weight_decay=decay, momentum=_MOMENTUM
            )


def set_rate(optimiser: torch.optim.Optimizer, rate: float) -> None:
    """Set the learning rate of every group."""
    for group in optimiser.param_groups:
        group["lr"] = rate


def rate_factor(schedule: Schedule, step: int, n_steps: int, steps_per_epoch: int) -> float:
    """Give the factor on the learning rate at a step, from 0 for the first of ``n_steps``."""
    done = step / max(n_steps, 1)
    match schedule:
        case ConstantRate():
            return 1.0
        case ExponentialRate(factor, every_epochs):
            return float(factor ** (step / (every_epochs * steps_per_epoch)))
        case CosineRate(warmup_share):
            if done < warmup_share:
                return (step + 1) / (warmup_share * n_steps + 1)
            return _cosine(1.0, 0.0, (done - warmup_share) / (1.0 - warmup_share))
        case OneCycleRate(warmup_share):
            if done < warmup_share:
                return _cosine(_ONE_CYCLE_START, 1.0, done / warmup_share)
            return _cosine(1.0, _ONE_CYCLE_END, (done - warmup_share) / (1.0 - warmup_share))


def _cosine(start: float, end: float, share: float) -> float:
    """Go from start to end along half a cosine."""
    return end + (start - end) * 0.5 * (1.0 + math.cos(math.pi * share))
