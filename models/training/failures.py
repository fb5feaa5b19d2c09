"""Show the worst errors of a model: the pictures that its card owes its readers."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from models.datasets import LabelledImages
from models.training.measuring import MeasuredClasses, MeasuredMasks
from models.training.picture_sheet import Picture, draw_sheet
from models.training.prepared import PreparedImages

#: Most pictures on the sheet.
_MOST = 8
#: A mask below this Dice is a failure worth a look.
_POOR_DICE = 0.95
FAILURES_FILE = "failures.png"


@dataclass(frozen=True, slots=True)
class Failures:
    """The errors on what was judged, ``on``, in words; ``n_shown`` are on the sheet."""

    on: str
    words: str
    n_shown: int


def show_class_failures(
    measured: MeasuredClasses,
    prepared: PreparedImages,
    data: LabelledImages,
    folder: Path,
    *,
    on: str,
) -> Failures:
    """Draw the wrong decisions that were surest, and tell which classes are confused.

    ``on`` names the images for readers: a side of the split, or *out of fold*.
    """
    decided = measured.decided
    wrong = np.flatnonzero(decided.decisions != decided.labels)
    surety = decided.probabilities[wrong, decided.decisions[wrong]]
    shown = wrong[np.argsort(-surety, kind="stable")][:_MOST]
    pictures = [
        Picture(
            _grey(prepared, int(n)),
            f"{data.classes[decided.labels[n]]}, called\n{data.classes[decided.decisions[n]]} "
            f"({decided.probabilities[n, decided.decisions[n]]:.2f})",
        )
        for n in shown
    ]
    draw_sheet(pictures, folder / FAILURES_FILE)
    lines = [f"{len(wrong)} of {len(decided.labels)} images ({on}) were called another class."]
    counts = np.array(measured.figures.confusion)
    np.fill_diagonal(counts, 0)
    for row, column in zip(
        *np.unravel_index(np.argsort(-counts, axis=None), counts.shape), strict=True
    ):
        if counts[row, column]:
            lines.append(
                f"- {data.classes[row]} called {data.classes[column]}: {counts[row, column]}"
            )
    if len(shown):
        lines.append(f"\nThe {len(shown)} that it was surest of:")
    return Failures(on, "\n".join(lines), len(shown))


def show_mask_failures(
    measured: MeasuredMasks,
    prepared: PreparedImages,
    data: LabelledImages,
    folder: Path,
    *,
    on: str,
) -> Failures:
    """Draw the images with the lowest Dice; ``on`` is that of `show_class_failures`."""
    dice = np.array(measured.per_image)
    poor = np.flatnonzero(dice < _POOR_DICE)
    shown = poor[np.argsort(dice[poor], kind="stable")][:_MOST]
    pictures = [
        Picture(
            _grey(prepared, int(n)),
            f"Dice {dice[n]:.2f}\n{data.samples[prepared.indices[n]].name[-30:]}",
        )
        for n in shown
    ]
    draw_sheet(pictures, folder / FAILURES_FILE)
    words = f"{len(poor)} of {len(dice)} images ({on}) have a Dice below {_POOR_DICE}."
    if len(shown):
        words += f" The {len(shown)} lowest:"
    return Failures(on, words, len(shown))


def _grey(prepared: PreparedImages, number: int) -> NDArray[np.uint8]:
    return prepared.images[number, 0].float().clamp(0, 255).byte().numpy()
