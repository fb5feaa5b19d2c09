"""Plots as PNG bytes; the door to matplotlib. No display, no global figure."""

import io
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from models.evaluation.calibration import Calibration
from models.evaluation.classification import ClassificationFigures, Decided, roc_points

#: Colours that people with colour blindness tell apart (Okabe and Ito 2008).
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
#: Letters of a class name in one line beside a matrix.
_NAME_LETTERS = 13
_SIZE_INCHES, _DPI = (4.6, 4.0), 110


def confusion_plot(figures: ClassificationFigures) -> bytes:
    """Draw counts of images: rows are labels, columns are decisions."""
    counts = np.array(figures.confusion)
    # A long name in one line leaves no room for the counts.
    names = [textwrap.fill(one.name, _NAME_LETTERS) for one in figures.classes]
    figure, axes = _new()
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    axes.imshow(shares, cmap="Blues", vmin=0.0, vmax=1.0)
    for (row, column), count in np.ndenumerate(counts):
        colour = "white" if shares[row, column] > 0.5 else "black"  # noqa: PLR2004  half of the scale
        axes.text(column, row, str(count), ha="center", va="center", color=colour)
    axes.set_xticks(range(len(names)), names)
    axes.set_yticks(range(len(names)), names)
    axes.set_xlabel("decided")
    axes.set_ylabel("labelled")
    return _png(figure)


def roc_plot(decided: Decided) -> bytes:
    """Draw the ROC curve of each class against the others; of two classes, the second alone.

    A dot marks the decisions that were taken. Images of one class alone have no curve; it says so.
    """
    figure, axes = _new()
    numbers = [1] if len(decided.classes) == 2 else range(len(decided.classes))  # noqa: PLR2004
    for number in numbers:
        truth = decided.labels == number
        if truth.all() or not truth.any():
            continue
        colour = _COLOURS[number % 7]
        _draw_roc(axes, decided.classes[number], decided.probabilities[:, number], truth, colour)
        called = decided.decisions == number
        axes.plot(called[~truth].mean(), called[truth].mean(), "o", color=colour, markersize=6)
    if not axes.lines:
        axes.text(0.5, 0.5, "images of one class alone: no curve", ha="center", va="center")
    _roc_axes(axes)
    return _png(figure)


def score_roc_plot(curves: Mapping[str, tuple[NDArray[np.float64], NDArray[np.bool_]]]) -> bytes:
    """Draw the ROC curve of several scores, each with its own truth."""
    figure, axes = _new()
    for number, (name, (scores, truth)) in enumerate(curves.items()):
        _draw_roc(axes, name, scores, truth, _COLOURS[number % 7])
    _roc_axes(axes)
    return _png(figure)


def _draw_roc(
    axes: Any, name: str, scores: NDArray[np.float64], truth: NDArray[np.bool_], colour: str
) -> None:
    """Draw one curve; its area stands in the legend."""
    false_rate, true_rate, _ = roc_points(scores, truth)
    area = np.trapezoid(true_rate, false_rate)
    axes.plot(false_rate, true_rate, color=colour, label=f"{name} (AUC {area:.3f})")


def reliability_plot(calibrations: Mapping[str, Calibration]) -> bytes:
    """Draw how often the likeliest class is right against how sure the model was."""
    figure, axes = _new()
    axes.plot([0, 1], [0, 1], color="0.6", linewidth=1, linestyle="--")
    for number, (name, one) in enumerate(calibrations.items()):
        known = [b for b in one.bins if b.mean_confidence is not None]
        axes.plot(
            [b.mean_confidence for b in known],
            [b.accuracy for b in known],
            color=_COLOURS[number % 7],
            marker="o",
            markersize=4,
            label=f"{name} (ECE {one.expected_error:.3f})",
        )
    _show_shares(axes)
    axes.set_xlabel("confidence of the likeliest class")
    axes.set_ylabel("share that is right")
    axes.legend(loc="upper left", fontsize=8)
    return _png(figure)


def curves_plot(
    losses: Mapping[str, Sequence[float]], figures: Mapping[str, Sequence[float]]
) -> bytes:
    """Draw losses by epoch, from 1, and below them figures of 0 to 1."""
    figure = Figure(figsize=(_SIZE_INCHES[0], 5.6), dpi=_DPI, layout="constrained")
    FigureCanvasAgg(figure)
    above, below = figure.subplots(2, 1, sharex=True)
    _draw_curves(above, losses, "loss")
    _draw_curves(below, figures, "validation data")
    below.set_ylim(-0.02, 1.02)
    below.set_xlabel("epoch")
    n_epochs = max(map(len, losses.values()))
    below.set_xlim(0.5, n_epochs + 0.5)
    below.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    return _png(figure)


def _draw_curves(axes: Any, curves: Mapping[str, Sequence[float]], y_label: str) -> None:
    """Draw each curve with its points, so that one epoch alone is seen too."""
    for number, (name, values) in enumerate(curves.items()):
        epochs = range(1, len(values) + 1)
        colour = _COLOURS[number % 7]
        axes.plot(epochs, values, color=colour, marker="o", markersize=3, label=name)
    axes.set_ylabel(y_label)
    axes.grid(color="0.9", linewidth=0.6)
    axes.legend(fontsize=8)


def slices_plot(patients: Mapping[str, tuple[Sequence[float], Sequence[int]]]) -> bytes:
    """Draw along the body: score of each slice, and which slices are labelled affected (1).

    A label of -1 is unknown. Slices run from caudal to cranial.
    """
    shown = list(patients.items())
    figure = Figure(figsize=(7.5, 1.5 * len(shown)), dpi=_DPI, layout="constrained")
    FigureCanvasAgg(figure)
    for number, (name, (scores, labels)) in enumerate(shown):
        axes = figure.add_subplot(len(shown), 1, number + 1)
        places = np.arange(len(scores))
        affected = np.asarray(labels) == 1
        axes.bar(places[affected], 1.0, width=1.0, color="#F5C8A6", label="labelled affected")
        axes.plot(places, scores, color=_COLOURS[0], linewidth=1.2, label="score")
        axes.set_ylim(0, 1)
        axes.set_title(name, fontsize=8, loc="left")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        if number == 0:
            axes.legend(fontsize=7, loc="upper right")
    figure.supxlabel("slice, from caudal to cranial", fontsize=9)
    return _png(figure)


def _new() -> tuple[Figure, Any]:
    figure = Figure(figsize=_SIZE_INCHES, dpi=_DPI, layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.add_subplot()


def _roc_axes(axes: Any) -> None:
    axes.plot([0, 1], [0, 1], color="0.6", linewidth=1, linestyle="--")
    _show_shares(axes)
    axes.set_xlabel("1 - specificity")
    axes.set_ylabel("sensitivity")
    if axes.get_legend_handles_labels()[0]:
        axes.legend(loc="lower right", fontsize=8)


def _show_shares(axes: Any) -> None:
    """Show 0 to 1 both ways, with room for points on the edges."""
    axes.set_xlim(-0.02, 1.02)
    axes.set_ylim(-0.02, 1.02)


def _png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()
