"""Marks that the page and the slice frames share: wrapped text, letters, strip, legend."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from screener.domain import LEFT_LUNG, RIGHT_LUNG, Decision
from screener.report.key_slices import patient_class_of
from screener.report.palette import (
    BACKGROUND,
    CLASS_COLOURS,
    CLASS_LABELS,
    INK,
    LUNG_COLOURS,
    PANEL,
    face,
    make_legible,
)

if TYPE_CHECKING:
    from PIL import Image, ImageDraw

    from screener.domain import Screening, SliceProbabilities
    from screener.report.palette import Colour

STRIP_WIDTH: Final = 86


def draw_outlined(
    draw: ImageDraw.ImageDraw, corner: tuple[int, int], text: str, anchor: str
) -> None:
    """Draw a letter that is seen on air and on bone."""
    draw.text(
        corner, text, font=face(20), fill=INK, anchor=anchor, stroke_width=3, stroke_fill=BACKGROUND
    )


def draw_strip(
    draw: ImageDraw.ImageDraw,
    probabilities: SliceProbabilities,
    n_slices: int,
    corner: tuple[int, int],
    projection: Image.Image,
) -> None:
    """Draw one line per classified slice, its width shared out among the classes."""
    left, top = corner
    draw.rectangle((left, top, left + STRIP_WIDTH, top + projection.height - 1), fill=PANEL)
    colours = [CLASS_COLOURS[patient_class_of(name)] for name in probabilities.class_names]
    height = projection.height / n_slices
    for row, slice_index in enumerate(probabilities.slice_indices):
        # The last slice is the one nearest the head and stands on top.
        upper = top + round((n_slices - 1 - int(slice_index)) * height)
        lower = max(upper, top + round((n_slices - int(slice_index)) * height) - 1)
        start = 0.0
        for column, colour in enumerate(colours):
            end = start + float(probabilities.probabilities[row, column])
            x = (left + round(start * STRIP_WIDTH), left + round(end * STRIP_WIDTH))
            if x[1] > x[0]:
                draw.rectangle((x[0], upper, x[1], lower), fill=colour)
            start = end


def draw_legend(draw: ImageDraw.ImageDraw, screening: Screening, corner: tuple[int, int]) -> None:
    """Draw the colours of the lungs and the classes in one row, as far as a run has them."""
    x, y = corner
    entries: list[tuple[str, Colour]] = []
    if screening.lungs is not None and isinstance(screening.outcome, Decision):
        entries += [
            ("right lung", LUNG_COLOURS[RIGHT_LUNG]),
            ("left lung", LUNG_COLOURS[LEFT_LUNG]),
        ]
    if screening.probabilities is not None:
        classes = [patient_class_of(name) for name in screening.probabilities.class_names]
        entries += [(CLASS_LABELS[one], CLASS_COLOURS[one]) for one in classes]
    for text, colour in entries:
        draw.rounded_rectangle((x, y, x + 18, y + 18), 4, fill=colour)
        draw.text((x + 26, y + 9), text, font=face(18), fill=INK, anchor="lm")
        x += 26 + round(draw.textlength(text, font=face(18))) + 28


def side_letters(orientation: tuple[float, ...]) -> tuple[str, str]:
    """Give the letters of the patient's sides at the left and the right edge of a slice."""
    return ("R", "L") if orientation[0] > 0 else ("L", "R")


def row_of(slice_index: int, n_slices: int, height: int) -> int:
    """Give the row of a slice in a picture with the head up."""
    return round((n_slices - slice_index - 0.5) * height / n_slices)


def wrap_text(draw: ImageDraw.ImageDraw, text: str, size_pixels: int, width: int) -> list[str]:
    """Break a text into lines that fit a width, pixels."""
    lines: list[str] = []
    for word in make_legible(text).split():
        longer = f"{lines[-1]} {word}" if lines else word
        if lines and draw.textlength(longer, font=face(size_pixels)) <= width:
            lines[-1] = longer
        else:
            lines.append(word)
    return lines
