"""Figures of an epoch on the validation data: enough to choose the best epoch, no more.

What is reported comes from ``models.evaluation``, with intervals and by patient.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from models.training.graphs import class_logits
from models.training.recipe import Monitor


@dataclass(frozen=True, slots=True)
class EpochFigures:
    """One epoch, counted from 0; figures that do not apply to the task are None."""

    epoch: int
    training_loss: float
    loss: float
    accuracy: float | None
    auc: float | None
    dice: float | None


def figures_of(logits: Tensor, targets: Tensor, loss: float) -> EpochFigures:
    """Measure logits against labels ``(n,)`` or masks ``(n, 1, rows, columns)``."""
    if targets.dim() > 1:
        return EpochFigures(0, 0.0, loss, None, None, mean_dice(logits > 0, targets > 0))
    probabilities = functional.softmax(class_logits(logits), dim=1)
    accuracy = float((probabilities.argmax(dim=1) == targets).float().mean())
    return EpochFigures(0, 0.0, loss, accuracy, mean_auc(probabilities, targets), None)


def is_better(new: EpochFigures, old: EpochFigures, monitor: Monitor) -> bool:
    """Tell whether an epoch beats another; equal figures are decided by the loss."""
    if monitor is Monitor.LAST:
        return True
    if monitor is Monitor.LOSS:
        return new.loss < old.loss
    figures = {
        Monitor.ACCURACY: (new.accuracy, old.accuracy),
        Monitor.AUC: (new.auc, old.auc),
        Monitor.DICE: (new.dice, old.dice),
    }
    now, before = figures[monitor]
    if now is None or before is None or now == before:
        return new.loss < old.loss
    return now > before


def mean_dice(found: Tensor, truth: Tensor) -> float:
    """Give the mean Dice over images; two empty masks agree."""
    axes = tuple(range(1, found.dim()))
    both = (found & truth).sum(axes, dtype=torch.float64)
    total = found.sum(axes, dtype=torch.float64) + truth.sum(axes, dtype=torch.float64)
    return float(torch.where(total > 0, 2.0 * both / total.clamp_min(1.0), 1.0).mean())


def mean_auc(probabilities: Tensor, labels: Tensor) -> float | None:
    """Give the area under the ROC curve, mean over the classes that have both sides."""
    n_classes = probabilities.shape[1]
    areas = []
    for number in range(1 if n_classes == 2 else 0, n_classes):  # noqa: PLR2004  two mirror each other
        score, is_class = probabilities[:, number], labels == number
        positive, negative = score[is_class], score[~is_class]
        if len(positive) and len(negative):
            above = (positive[:, None] > negative[None, :]).double().mean()
            ties = (positive[:, None] == negative[None, :]).double().mean()
            areas.append(float(above + 0.5 * ties))
    return sum(areas) / len(areas) if areas else None
