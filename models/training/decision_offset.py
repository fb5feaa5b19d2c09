"""Move the decision of a classifier where its errors are lopsided on data that it has not seen.

Networks that fit their training data completely lean to the class whose pictures come from more
sources. An offset on the logits, fitted on validation data, puts that right without touching what
the network has learnt; AUC does not change.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize
from torch import Tensor, nn

from models.datasets import VALIDATION
from models.evaluation.operating_point import ChosenPoint, untuned
from models.training.graphs import class_logits

#: A pull towards no offset, as if that many logits squared had been paid for it.
_SHRINKAGE = 0.5
#: Least and largest logarithm of the temperature that is tried.
_LOG_TEMPERATURES = (-10.0, 10.0)


class Offset(nn.Module):
    """A network whose class logits are moved by constants."""

    def __init__(self, network: nn.Module, offsets: tuple[float, ...]) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("offsets", torch.tensor(offsets, dtype=torch.float32))

    def forward(self, grey: Tensor) -> Tensor:
        """Map grey images to moved logits, one per class."""
        return class_logits(self.network(grey)) + cast("Tensor", self.offsets)


def fit_offsets(logits: NDArray[np.float64], labels: NDArray[np.int64]) -> tuple[float, ...]:
    """Fit offsets and a temperature together by least cross entropy; give the offsets, mean 0.

    Parameters
    ----------
    logits
        Shape ``(n, classes)``, of data that trained nothing.
    labels
        Shape ``(n,)``.
    """
    n_classes = logits.shape[1]
    truth = np.eye(n_classes)[labels]

    def cost(free: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        """Give the cost of the logarithm of a temperature and of offsets, and its slope."""
        temperature = np.exp(free[0])
        scaled = (logits + free[1:] - free[1:].mean()) / temperature
        scaled -= scaled.max(axis=1, keepdims=True)
        log_sum = np.log(np.exp(scaled).sum(axis=1, keepdims=True))
        excess = np.exp(scaled - log_sum) - truth
        entropy = float(((log_sum - scaled) * truth).sum() + _SHRINKAGE * (free[1:] ** 2).sum())
        of_offsets = excess.sum(axis=0) / temperature + 2.0 * _SHRINKAGE * free[1:]
        return entropy, np.array([-(excess * scaled).sum(), *of_offsets])

    # Data that are told apart without an error want a temperature of zero.
    bounds = [_LOG_TEMPERATURES, *[(None, None)] * n_classes]
    start = np.zeros(1 + n_classes)
    found = minimize(cost, start, jac=True, method="L-BFGS-B", bounds=bounds).x[1:]
    return tuple(float(one) for one in found - found.mean())


def offset_left_out(
    logits: NDArray[np.float64], labels: NDArray[np.int64], patients: Sequence[str]
) -> NDArray[np.float64]:
    """Move the logits of each patient by offsets that were fitted on all others."""
    moved, owner = logits.copy(), np.array(patients)
    for patient in np.unique(owner):
        others = owner != patient
        if others.any():
            moved[~others] += np.array(fit_offsets(logits[others], labels[others]))
    return moved


@dataclass(frozen=True, slots=True)
class Settled:
    """A network as it is exported, and what its images got.

    ``logits`` are by side. ``decisions`` are by side where they are other than the likelier class.
    """

    network: nn.Module
    logits: Mapping[str, Tensor]
    decisions: Mapping[str, NDArray[np.int64]]


def balanced(
    network: nn.Module, logits: Mapping[str, Tensor], labels: Tensor, patients: Sequence[str]
) -> Settled:
    """Move a network and the logits of every side by offsets fitted on the validation side.

    The validation decisions of a patient use offsets of the other patients, since what was fitted
    on an image is not measured on it. Ranks are not taken from those: offsets that leave out a
    patient lean against its label.

    Parameters
    ----------
    labels, patients
        Of the validation side.
    """
    known = labels.numpy().astype(np.int64)
    found = {side: class_logits(one).double().numpy() for side, one in logits.items()}
    offsets = fit_offsets(found[VALIDATION], known)
    moved = {side: torch.from_numpy(one + np.array(offsets)).float() for side, one in found.items()}
    decisions = offset_left_out(found[VALIDATION], known, patients).argmax(axis=1)
    return Settled(
        Offset(network, offsets), moved, {VALIDATION: decisions.astype(np.int64, copy=False)}
    )


def balanced_point(chosen_on: str, n_images: int) -> ChosenPoint:
    """Give the operating point of moved logits: the likelier class, the offset has done the rest.

    A threshold that is best on some dozens of images jumps with each of them; an offset by least
    cross entropy uses how sure the network is of all of them.
    """
    rule = "the likelier class after an offset by least cross entropy"
    return ChosenPoint(untuned().threshold, rule, chosen_on, n_images)
