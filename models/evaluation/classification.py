"""Figures of a classifier on labelled images: per class and over all, each with an interval.

The figures themselves come from scikit-learn. Intervals need thousands of resamples; they are
computed for all of them at once from weighted counts, and a test holds both ways equal.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn import metrics

from models.errors import DatasetInvalid
from models.evaluation.bootstrap import Interval, Resampling, draw_weights, interval

_SUM_TOLERANCE = 1e-3


@dataclass(frozen=True, slots=True)
class Decided:
    """What is measured: labels, what the model said, and whose images they are.

    ``labels`` int64 ``(images,)`` and ``probabilities`` ``(images, classes)`` go by ``classes``.
    ``decisions`` int64 ``(images,)`` are the classes that were decided for.
    """

    classes: tuple[str, ...]
    labels: NDArray[np.int64]
    probabilities: NDArray[np.float64]
    decisions: NDArray[np.int64]
    patients: tuple[str, ...]

    def __post_init__(self) -> None:
        n_images, n_classes = len(self.labels), len(self.classes)
        shapes = (self.probabilities.shape, self.decisions.shape, len(self.patients))
        if shapes != ((n_images, n_classes), (n_images,), n_images) or n_images == 0:
            raise DatasetInvalid(f"{n_images} labels do not fit what was decided: {shapes}")
        if np.abs(self.probabilities.sum(axis=1) - 1.0).max() > _SUM_TOLERANCE:
            raise DatasetInvalid("probabilities of an image do not sum to 1")
        if self.labels.min() < 0 or self.labels.max() >= n_classes:
            raise DatasetInvalid(f"a label is none of the {n_classes} classes")


@dataclass(frozen=True, slots=True)
class ClassFigures:
    """One class against all others; ``auc`` is not a number where the class is absent or alone."""

    name: str
    n_images: int
    true_positive: int
    false_positive: int
    true_negative: int
    false_negative: int
    precision: Interval
    recall: Interval
    f1: Interval
    specificity: Interval
    auc: Interval


@dataclass(frozen=True, slots=True)
class ClassificationFigures:
    """Figures over all images, per class, and the counts they come from.

    ``confusion[label][decision]`` counts images. Over all classes, precision, recall, F1,
    specificity and AUC are plain means over the classes (macro); their intervals come from the
    resamples that have every class.
    """

    n_images: int
    n_patients: int
    resampling: Resampling
    accuracy: Interval
    precision: Interval
    recall: Interval
    f1: Interval
    specificity: Interval
    auc: Interval
    classes: tuple[ClassFigures, ...]
    confusion: tuple[tuple[int, ...], ...]


#: Figures that are given per class and as a mean over the classes.
CLASS_FIGURES = ("precision", "recall", "f1", "specificity", "auc")


def measure_classification(decided: Decided, resampling: Resampling) -> ClassificationFigures:
    """Measure a classifier.

    Parameters
    ----------
    decided
        Labels, probabilities and decisions.
    resampling
        How the intervals are drawn.
    """
    resampled = resample_figures(decided, draw_weights(decided.patients, resampling))
    values = _figures(decided)
    confusion = metrics.confusion_matrix(
        decided.labels, decided.decisions, labels=range(len(decided.classes))
    )
    per_class = tuple(
        _class_figures(decided, confusion, number, values, resampled)
        for number in range(len(decided.classes))
    )
    macro = {
        name: interval(_mean(values[name]), _mean_over(resampled[name], np.isfinite(values[name])))
        for name in CLASS_FIGURES
    }
    return ClassificationFigures(
        n_images=len(decided.labels),
        n_patients=len(set(decided.patients)),
        resampling=resampling,
        accuracy=interval(float(values["accuracy"][0]), resampled["accuracy"][:, 0]),
        **macro,
        classes=per_class,
        confusion=tuple(tuple(int(cell) for cell in row) for row in confusion),
    )


def area_under_curve(scores: NDArray[np.floating], truth: NDArray[np.bool_]) -> float:
    """Give the area under the ROC curve; a tie counts one half.

    Raises
    ------
    DatasetInvalid
        One of the two classes is absent.
    """
    if truth.all() or not truth.any():
        raise DatasetInvalid("the area under the curve needs both classes")
    return float(metrics.roc_auc_score(truth, scores))


def roc_points(
    scores: NDArray[np.floating], truth: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Give false positive rate, true positive rate and threshold along the ROC curve."""
    false_rate, true_rate, thresholds = metrics.roc_curve(truth, scores)
    return (
        np.asarray(false_rate, dtype=np.float64),
        np.asarray(true_rate, dtype=np.float64),
        np.asarray(thresholds, dtype=np.float64),
    )


def resample_figures(
    decided: Decided, weights: NDArray[np.float64]
) -> dict[str, NDArray[np.float64]]:
    """Compute every figure for every resample.

    Parameters
    ----------
    decided
        Labels, probabilities and decisions.
    weights
        How often each image counts, ``(resamples, images)``.

    Returns
    -------
    :
        By name, ``(resamples, classes)``; the accuracy ``(resamples, 1)``. Not a number where a
        resample has no image that a figure is about.
    """
    is_class = decided.labels[:, None] == np.arange(len(decided.classes))
    is_said = decided.decisions[:, None] == np.arange(len(decided.classes))
    total = weights.sum(axis=1, keepdims=True)
    true_positive = weights @ (is_class & is_said)
    of_class, said = weights @ is_class, weights @ is_said
    with np.errstate(divide="ignore", invalid="ignore"):
        figures = {
            # nothing said: no precision, as scikit-learn's zero_division=0 has it
            "precision": np.where(said > 0, true_positive / said, 0.0),
            "recall": true_positive / of_class,
            "f1": np.where(of_class > 0, 2 * true_positive / (of_class + said), np.nan),
            "specificity": (total - of_class - said + true_positive) / (total - of_class),
            "accuracy": true_positive.sum(axis=1, keepdims=True) / total,
        }
    figures["precision"][of_class == 0] = np.nan
    figures["auc"] = np.stack(
        [
            _weighted_auc(decided.probabilities[:, number], is_class[:, number], weights)
            for number in range(len(decided.classes))
        ],
        axis=1,
    )
    return figures


def _figures(decided: Decided) -> dict[str, NDArray[np.float64]]:
    """Give the figures of all images, by name, one per class."""
    numbers = list(range(len(decided.classes)))
    precision, recall, f1, n_images = metrics.precision_recall_fscore_support(
        decided.labels, decided.decisions, labels=numbers, zero_division=0
    )
    tables = metrics.multilabel_confusion_matrix(decided.labels, decided.decisions, labels=numbers)
    with np.errstate(divide="ignore", invalid="ignore"):
        specificity = tables[:, 0, 0] / (tables[:, 0, 0] + tables[:, 0, 1])
    is_absent = np.asarray(n_images) == 0
    auc = np.array(
        [
            np.nan
            if is_absent[n] or n_images[n] == len(decided.labels)
            else metrics.roc_auc_score(decided.labels == n, decided.probabilities[:, n])
            for n in numbers
        ]
    )
    return {
        "precision": np.where(is_absent, np.nan, precision),
        "recall": np.where(is_absent, np.nan, recall),
        "f1": np.where(is_absent, np.nan, f1),
        "specificity": np.asarray(specificity, dtype=np.float64),
        "auc": auc,
        "accuracy": np.array([metrics.accuracy_score(decided.labels, decided.decisions)]),
    }


def _class_figures(
    decided: Decided,
    confusion: NDArray[np.int64],
    number: int,
    values: dict[str, NDArray[np.float64]],
    resampled: dict[str, NDArray[np.float64]],
) -> ClassFigures:
    true_positive = int(confusion[number, number])
    of_class, said = int(confusion[number].sum()), int(confusion[:, number].sum())
    intervals = {
        name: interval(float(values[name][number]), resampled[name][:, number])
        for name in CLASS_FIGURES
    }
    return ClassFigures(
        name=decided.classes[number],
        n_images=of_class,
        true_positive=true_positive,
        false_positive=said - true_positive,
        true_negative=int(confusion.sum()) - of_class - said + true_positive,
        false_negative=of_class - true_positive,
        **intervals,
    )


def _weighted_auc(
    scores: NDArray[np.float64], truth: NDArray[np.bool_], weights: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Give the area under the curve of each resample: pairs above, and half of the ties."""
    _, rank = np.unique(scores, return_inverse=True)
    n_ranks = int(rank.max()) + 1
    positive = _sum_by_rank(weights * truth, rank, n_ranks)
    negative = _sum_by_rank(weights * ~truth, rank, n_ranks)
    below = np.cumsum(negative, axis=1) - negative
    pairs = positive.sum(axis=1) * negative.sum(axis=1)
    won = (positive * (below + 0.5 * negative)).sum(axis=1)
    return np.asarray(np.divide(won, pairs, out=np.full(len(won), np.nan), where=pairs > 0))


def _sum_by_rank(
    weights: NDArray[np.float64], rank: NDArray[np.int64], n_ranks: int
) -> NDArray[np.float64]:
    order = np.argsort(rank, kind="stable")
    starts = np.searchsorted(rank[order], np.arange(n_ranks))
    return np.asarray(np.add.reduceat(weights[:, order], starts, axis=1))


def _mean(values: NDArray[np.float64]) -> float:
    """Mean over the classes that have the figure; not a number where none has."""
    known = values[np.isfinite(values)]
    return float(known.mean()) if len(known) else float("nan")


def _mean_over(table: NDArray[np.float64], has_figure: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Mean over the same classes in every resample; one that lacks a class has no mean."""
    if not has_figure.any():
        return np.full(len(table), np.nan)
    return np.asarray(table[:, has_figure].mean(axis=1))


def positive_scores(decided: Decided, positives: Sequence[int]) -> NDArray[np.float64]:
    """Give the probability of any of several classes together."""
    return np.asarray(decided.probabilities[:, list(positives)].sum(axis=1))
