"""Marks that the page and the slice frames share: wrapped text, letters, strip, legend."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from screener.domain import LEFT_LUNG, RIGHT_LUNG, Decision
from screener.report.activation import ACTIVATION, activation_colour
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


def list_legend(screening: Screening) -> list[tuple[str, tuple[Colour, ...]]]:
    """List words and colours of the lungs, the map and the classes, as far as a run has them."""
    entries: list[tuple[str, tuple[Colour, ...]]] = []
    said = screening.probabilities
    if screening.lungs is not None and isinstance(screening.outcome, Decision):
        entries += [
            ("right lung", (LUNG_COLOURS[RIGHT_LUNG],)),
            ("left lung", (LUNG_COLOURS[LEFT_LUNG],)),
        ]
        if said is not None and said.lesions is not None:
            entries.append((ACTIVATION, tuple(map(activation_colour, (0.3, 0.55, 0.8, 1.0)))))
    if said is not None:
        classes = [patient_class_of(name) for name in said.class_names]
        entries += [(CLASS_LABELS[one], (CLASS_COLOURS[one],)) for one in classes]
    return entries


def draw_legend(
    draw: ImageDraw.ImageDraw, screening: Screening, corner: tuple[int, int], size_pixels: int = 18
) -> None:
    """Draw the legend in one row."""
    x, y = corner
    for text, colours in list_legend(screening):
        width = size_pixels if len(colours) == 1 else 2 * size_pixels
        step = width / len(colours)
        for place, colour in enumerate(colours):
            edges = x + round(place * step), x + round((place + 1) * step) - 1
            draw.rectangle((edges[0], y, edges[1], y + size_pixels - 1), fill=colour)
        x += width + 8
        middle = y + size_pixels // 2
        draw.text((x, middle), text, font=face(size_pixels), fill=INK, anchor="lm")
        x += round(draw.textlength(text, font=face(size_pixels))) + size_pixels + 4


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
