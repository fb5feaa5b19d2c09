"""Choose the threshold of a two-class decision, on validation data alone."""

from dataclasses import dataclass
from enum import Enum

import numpy as np
from numpy.typing import NDArray

from models.errors import DatasetInvalid
from models.evaluation.classification import roc_points


class OperatingRule(Enum):
    """What the threshold is best for."""

    YOUDEN = "youden"
    """Sensitivity + specificity - 1; Youden 1950."""
    ACCURACY = "accuracy"
    """Share of right decisions at the shares of the classes in the validation data."""
    SENSITIVITY_95 = "sensitivity-95"
    """The best specificity with a sensitivity of at least 0.95."""


@dataclass(frozen=True, slots=True)
class ChosenPoint:
    """A threshold on the probability of the positive class, and how it came about."""

    threshold: float
    rule: str
    chosen_on: str
    n_images: int


#: Rule of a threshold that was not chosen here.
OF_MANIFEST = "of the manifest"
#: Least sensitivity of ``SENSITIVITY_95``.
_LEAST_SENSITIVITY = 0.95
#: Half the way of ties between float32 probabilities.
_UNTUNED = 0.5


def untuned() -> ChosenPoint:
    """Give the threshold of a half, which no data were used for."""
    return ChosenPoint(_UNTUNED, "the likelier class", "nothing", 0)


def choose_threshold(
    scores: NDArray[np.float64], truth: NDArray[np.bool_], rule: OperatingRule, chosen_on: str
) -> ChosenPoint:
    """Choose the threshold that is best by the rule; positive is what reaches it.

    The threshold lies half way between the last score that counts as positive and the next one
    below, so that it does not hang on one image's exact score.

    Parameters
    ----------
    scores
        Probability of the positive class of each validation image.
    truth
        Which images are positive.
    rule
        What to be best for.
    chosen_on
        Name of the validation data, for the record.

    Raises
    ------
    DatasetInvalid
        One of the classes is absent.
    """
    if truth.all() or not truth.any():
        raise DatasetInvalid(f"{chosen_on}: an operating point needs images of both classes")
    false_rate, true_rate, thresholds = roc_points(scores, truth)
    share = float(truth.mean())
    if rule is OperatingRule.YOUDEN:
        merit = true_rate - false_rate
    elif rule is OperatingRule.ACCURACY:
        merit = share * true_rate + (1.0 - share) * (1.0 - false_rate)
    else:
        merit = np.where(true_rate >= _LEAST_SENSITIVITY, 1.0 - false_rate, -1.0)
    last = min(float(thresholds[int(np.argmax(merit))]), 1.0)
    below = scores[scores < last]
    threshold = 0.5 * (last + float(below.max())) if len(below) else last
    return ChosenPoint(threshold, rule.value, chosen_on, len(truth))


def decide(
    probabilities: NDArray[np.float64], threshold: float | None, positive: int = 1
) -> NDArray[np.int64]:
    """Decide for a class per image.

    Parameters
    ----------
    probabilities
        ``(images, classes)``.
    threshold
        None takes the likeliest class; a threshold needs exactly two classes.
    positive
        Which of the two the threshold is about.
    """
    if threshold is None:
        return np.asarray(probabilities.argmax(axis=1), dtype=np.int64)
    if probabilities.shape[1] != 2:  # noqa: PLR2004  a threshold divides two
        raise DatasetInvalid("a threshold decides between two classes; this model has others")
    is_positive = probabilities[:, positive] >= threshold
    return np.where(is_positive, positive, 1 - positive).astype(np.int64)
