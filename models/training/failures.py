"""Show the worst errors of a model: the pictures that its card owes its readers."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from models.datasets import LabelledImages
from models.training.measuring import MeasuredClasses, MeasuredMasks
from models.training.prepared import PreparedImages

#: Most pictures on the sheet, pictures in a row, side of one in pixels, height of its caption.
_MOST, _PER_ROW, _SIDE, _CAPTION = 8, 4, 220, 34
#: A mask below this Dice is a failure worth a look.
_POOR_DICE = 0.95
FAILURES_FILE = "failures.png"


@dataclass(frozen=True, slots=True)
class Failures:
    """The errors of one side of the split in words; ``n_shown`` are on the sheet."""

    side: str
    words: str
    n_shown: int


def show_class_failures(
    measured: MeasuredClasses, prepared: PreparedImages, data: LabelledImages, folder: Path
) -> Failures:
    """Draw the wrong decisions that were surest, and tell which classes are confused."""
    decided = measured.decided
    wrong = np.flatnonzero(decided.decisions != decided.labels)
    surety = decided.probabilities[wrong, decided.decisions[wrong]]
    shown = wrong[np.argsort(-surety, kind="stable")][:_MOST]
    captions = [
        f"{data.classes[decided.labels[n]]}, called\n{data.classes[decided.decisions[n]]} "
        f"({decided.probabilities[n, decided.decisions[n]]:.2f})"
        for n in shown
    ]
    _draw_sheet([_grey(prepared, int(n)) for n in shown], captions, folder)
    lines = [
        f"{len(wrong)} of {len(decided.labels)} {measured.side} images were called another class."
    ]
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
    return Failures(measured.side, "\n".join(lines), len(shown))


def show_mask_failures(
    measured: MeasuredMasks, prepared: PreparedImages, data: LabelledImages, folder: Path
) -> Failures:
    """Draw the images with the lowest Dice."""
    dice = np.array(measured.per_image)
    poor = np.flatnonzero(dice < _POOR_DICE)
    shown = poor[np.argsort(dice[poor], kind="stable")][:_MOST]
    captions = [
        f"Dice {dice[n]:.2f}\n{data.samples[prepared.indices[n]].name[-30:]}" for n in shown
    ]
    _draw_sheet([_grey(prepared, int(n)) for n in shown], captions, folder)
    words = f"{len(poor)} of {len(dice)} {measured.side} images have a Dice below {_POOR_DICE}."
    if len(shown):
        words += f" The {len(shown)} lowest:"
    return Failures(measured.side, words, len(shown))


def _grey(prepared: PreparedImages, number: int) -> NDArray[np.uint8]:
    return prepared.images[number, 0].float().clamp(0, 255).byte().numpy()


def _draw_sheet(images: list[NDArray[np.uint8]], captions: list[str], folder: Path) -> None:
    """Lay pictures with captions out in rows; nothing is written where there are none."""
    if not images:
        return
    n_rows = -(-len(images) // _PER_ROW)
    sheet = Image.new("L", (_PER_ROW * _SIDE, n_rows * (_SIDE + _CAPTION)), 255)
    draw = ImageDraw.Draw(sheet)
    for number, (image, caption) in enumerate(zip(images, captions, strict=True)):
        x, y = number % _PER_ROW * _SIDE, number // _PER_ROW * (_SIDE + _CAPTION)
        sheet.paste(Image.fromarray(image).resize((_SIDE - 4, _SIDE - 4)), (x + 2, y + 2))
        draw.multiline_text((x + 4, y + _SIDE), caption, fill=0)
    folder.mkdir(parents=True, exist_ok=True)
    sheet.save(folder / FAILURES_FILE)
