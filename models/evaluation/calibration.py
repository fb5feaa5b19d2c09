"""Do probabilities mean what they say: expected calibration error, reliability, temperature.

Guo et al. 2017, On Calibration of Modern Neural Networks, arXiv:1706.04599.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import optimize

from models.errors import DatasetInvalid

#: Bins of confidence from 0 to 1, all of one width, as in the paper.
N_BINS = 15
#: Where a temperature is looked for; the manifest allows 0.01 to 100.
_TEMPERATURES = (0.05, 20.0)


@dataclass(frozen=True, slots=True)
class ReliabilityBin:
    """Images of a confidence from ``lower`` to ``upper``; means are None where there are none."""

    lower: float
    upper: float
    n_images: int
    mean_confidence: float | None
    accuracy: float | None


@dataclass(frozen=True, slots=True)
class Calibration:
    """``expected_error`` is the mean of |confidence - accuracy| over images; Brier sums classes."""

    expected_error: float
    brier: float
    bins: tuple[ReliabilityBin, ...]


def measure_calibration(
    labels: NDArray[np.int64], probabilities: NDArray[np.float64], n_bins: int = N_BINS
) -> Calibration:
    """Compare the confidence of the likeliest class with how often it is right.

    Parameters
    ----------
    labels
        ``(images,)``.
    probabilities
        ``(images, classes)``.
    n_bins
        Number of bins.
    """
    confidence = probabilities.max(axis=1)
    is_right = probabilities.argmax(axis=1) == labels
    numbers = np.minimum((confidence * n_bins).astype(np.int64), n_bins - 1)
    bins: list[ReliabilityBin] = []
    error = 0.0
    for number in range(n_bins):
        inside = numbers == number
        n_inside = int(inside.sum())
        mean = float(confidence[inside].mean()) if n_inside else None
        accuracy = float(is_right[inside].mean()) if n_inside else None
        bins.append(
            ReliabilityBin(number / n_bins, (number + 1) / n_bins, n_inside, mean, accuracy)
        )
        if mean is not None and accuracy is not None:
            error += n_inside / len(labels) * abs(mean - accuracy)
    target = np.eye(probabilities.shape[1])[labels]
    brier = float(((probabilities - target) ** 2).sum(axis=1).mean())
    return Calibration(error, brier, tuple(bins))


def fit_temperature(labels: NDArray[np.int64], logits: NDArray[np.float64]) -> float:
    """Find the temperature of least cross entropy, on data that nothing else is measured on.

    Parameters
    ----------
    labels
        ``(images,)``, at least two classes among them.
    logits
        ``(images, classes)``, before any temperature.

    Raises
    ------
    DatasetInvalid
        Fewer than two classes: any temperature would do.
    """
    if len(set(labels.tolist())) < 2:  # noqa: PLR2004  see the docstring
        raise DatasetInvalid("a temperature is fitted on images of at least two classes")

    def loss(log_temperature: float) -> float:
        return cross_entropy(labels, softmax(logits, float(np.exp(log_temperature))))

    lower, upper = (float(np.log(edge)) for edge in _TEMPERATURES)
    found = optimize.minimize_scalar(loss, bounds=(lower, upper), method="bounded")
    return float(np.exp(found.x))


def softmax(logits: NDArray[np.float64], temperature: float = 1.0) -> NDArray[np.float64]:
    """Turn logits ``(images, classes)`` into probabilities that sum to 1 in each row."""
    scaled = np.asarray(logits, dtype=np.float64) / temperature
    powers = np.exp(scaled - scaled.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))


def cross_entropy(labels: NDArray[np.int64], probabilities: NDArray[np.float64]) -> float:
    """Give the mean cross entropy in nats."""
    of_label = probabilities[np.arange(len(labels)), labels]
    return float(-np.log(np.maximum(of_label, np.finfo(np.float64).tiny)).mean())
