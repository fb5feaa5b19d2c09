"""Move the decision of a classifier where its errors are lopsided on data that it has not seen.

Networks that fit their training data completely lean to the class whose pictures come from more
sources. An offset on the logits, fitted on validation data, puts that right without touching what
the network has learnt; AUC does not change.
"""

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize
from torch import Tensor, nn

from models.datasets import VALIDATION
from models.training.graphs import class_logits

#: A pull towards no offset, as if that many logits squared had been paid for it.
_SHRINKAGE = 0.5


class Offset(nn.Module):
    """A network whose class logits are moved by constants."""

    def __init__(self, network: nn.Module, offsets: tuple[float, ...]) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("offsets", torch.tensor(offsets, dtype=torch.float32))

    def forward(self, grey: Tensor) -> Tensor:
        """Map grey images to moved logits, one per class."""
        return class_logits(self.network(grey)) + self.offsets


def fit_offsets(logits: NDArray[np.float64], labels: NDArray[np.int64]) -> tuple[float, ...]:
    """Fit offsets and a temperature together by least cross entropy; give the offsets, mean 0.

    Parameters
    ----------
    logits
        Shape ``(n, classes)``, of data that trained nothing.
    labels
        Shape ``(n,)``.
    """
    n, n_classes = logits.shape

    def cost(free: NDArray[np.float64]) -> float:
        moved = (logits + free[1:] - free[1:].mean()) / np.exp(free[0])
        largest = moved.max(axis=1, keepdims=True)
        log_sum = np.log(np.exp(moved - largest).sum(axis=1)) + largest[:, 0]
        entropy = (log_sum - moved[np.arange(n), labels]).sum()
        return float(entropy + _SHRINKAGE * (free[1:] ** 2).sum())

    found = minimize(cost, np.zeros(1 + n_classes), method="L-BFGS-B").x[1:]
    return tuple(float(one) for one in found - found.mean())


def offset_out_of_fold(
    logits: NDArray[np.float64], labels: NDArray[np.int64], fold_of: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Move the logits of each fold by offsets that were fitted on the other folds."""
    moved = logits.copy()
    for fold in np.unique(fold_of):
        others = fold_of != fold
        moved[~others] += np.array(fit_offsets(logits[others], labels[others]))
    return moved


def balanced(
    network: nn.Module, logits: Mapping[str, Tensor], labels: Tensor, fold_of: Tensor | None
) -> tuple[nn.Module, dict[str, Tensor]]:
    """Move a network and the logits of every side by offsets fitted on the validation side.

    Parameters
    ----------
    labels
        Of the validation side.
    fold_of
        Fold of each validation image; the figures of a fold then use offsets of the others alone.
    """
    known = labels.numpy().astype(np.int64)
    found = {side: class_logits(one).double().numpy() for side, one in logits.items()}
    offsets = fit_offsets(found[VALIDATION], known)
    moved = {side: one + np.array(offsets) for side, one in found.items()}
    if fold_of is not None:
        folds = fold_of.numpy().astype(np.int64)
        moved[VALIDATION] = offset_out_of_fold(found[VALIDATION], known, folds)
    tensors = {side: torch.from_numpy(one).float() for side, one in moved.items()}
    return Offset(network, offsets), tensors
