"""One picture per key slice, large enough to read, with its place along the body.

Like the page it carries no identity.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from PIL import Image, ImageDraw

from screener.domain import Decision
from screener.report.key_slices import (
    list_affected_slices,
    patient_class_of,
    select_key_slices,
)
from screener.report.lesions import lesions_of
from screener.report.marks import (
    STRIP_WIDTH,
    draw_legend,
    draw_outlined,
    draw_strip,
    row_of,
    side_letters,
    wrap_text,
)
from screener.report.overlay import render_page
from screener.report.palette import (
    BACKGROUND,
    CLASS_COLOURS,
    CLASS_LABELS,
    INK,
    MUTED,
    PANEL,
    WARNING,
    face,
    make_legible,
)
from screener.report.planes import crop_around_lungs, render_projection, render_slice
from screener.report.verdict import verdict_of
from screener.report.wording import SHORT_DISCLAIMER, percent

if TYPE_CHECKING:
    from screener.domain import Screening, SliceProbabilities, Volume

#: Width and height of every frame, of the same aspect as the page.
FRAME: Final = (1120, 700)
#: Most slices that get a frame; with the page before them twelve frames.
MOST_SLICES: Final = 11
MARGIN: Final = 24
PICTURE: Final = (640, 556)
PICTURE_TOP: Final = 68
SIDE_LEFT: Final = 692
PROJECTION: Final = (290, 284)
PROJECTION_TOP: Final = 338
FOOTER_TOP: Final = 644


def list_frame_slices(screening: Screening, n_key_slices: int) -> tuple[int, ...]:
    """List the slices that get a frame, from the head down; none without a decision."""
    if not isinstance(screening.outcome, Decision):
        return ()
    return tuple(reversed(select_key_slices(screening, min(n_key_slices, MOST_SLICES))))


def render_frames(screening: Screening, n_key_slices: int) -> list[Image.Image]:
    """Draw the page and the slices of :func:`list_frame_slices`, all 1120 by 700 pixels.

    Raises
    ------
    ReportError
        The screening contradicts itself.
    """
    frames = [render_page(screening).resize(FRAME, Image.Resampling.LANCZOS)]
    if screening.volume is None:
        return frames
    slices = list_frame_slices(screening, n_key_slices)
    if not slices:
        return frames
    projection = render_projection(screening.volume, *PROJECTION)
    for place, slice_index in enumerate(slices, start=1):
        words = f"key slice {place} of {len(slices)}"
        frames.append(_draw_frame(screening, screening.volume, slice_index, words, projection))
    return frames


def _draw_frame(
    screening: Screening, volume: Volume, slice_index: int, words: str, projection: Image.Image
) -> Image.Image:
    frame = Image.new("RGB", FRAME, BACKGROUND)
    draw = ImageDraw.Draw(frame)
    verdict = verdict_of(screening)
    draw.rectangle((0, 0, FRAME[0], 6), fill=verdict.colour)
    draw.text((MARGIN, 36), verdict.title, font=face(28), fill=verdict.colour, anchor="lm")
    colour = MUTED
    if screening.run.shortfall is not None:
        words, colour = f"study incomplete, {words}", WARNING
    draw.text((FRAME[0] - MARGIN, 38), words, font=face(18), fill=colour, anchor="rm")
    _draw_slice(frame, draw, screening, volume, slice_index)
    _draw_slice_words(draw, screening, volume, slice_index)
    _draw_place(frame, draw, screening, slice_index, projection)
    draw_legend(draw, screening, (MARGIN, FOOTER_TOP + 21), 15)
    corner = (FRAME[0] - MARGIN, FOOTER_TOP + 29)
    draw.text(corner, SHORT_DISCLAIMER, font=face(17), fill=WARNING, anchor="rm")
    return frame


def _draw_slice(
    frame: Image.Image,
    draw: ImageDraw.ImageDraw,
    screening: Screening,
    volume: Volume,
    slice_index: int,
) -> None:
    width, height = PICTURE
    lungs, lesions = screening.lungs, lesions_of(screening, slice_index)
    crop = crop_around_lungs(volume, lungs, width / height)
    picture = render_slice(volume, lungs, slice_index, crop, PICTURE, lesions=lesions)
    frame.paste(picture, (MARGIN, PICTURE_TOP))
    base = PICTURE_TOP + height - 14
    sides = side_letters(volume.slices[slice_index].orientation)
    draw_outlined(draw, (MARGIN + 14, base), sides[0], "ls")
    draw_outlined(draw, (MARGIN + width - 14, base), sides[1], "rs")


def _draw_slice_words(
    draw: ImageDraw.ImageDraw, screening: Screening, volume: Volume, slice_index: int
) -> None:
    """Say which slice it is, whether it is affected, and what the classifier said of it."""
    affected = {one.slice_index: one for one in list_affected_slices(screening)}
    one = affected.get(slice_index)
    colour = CLASS_COLOURS[one.patient_class] if one else MUTED
    label = f"Affected: {CLASS_LABELS[one.patient_class]}" if one else "Not affected"
    box = (MARGIN - 2, PICTURE_TOP - 2, MARGIN + PICTURE[0] + 1, PICTURE_TOP + PICTURE[1] + 1)
    draw.rectangle(box, outline=colour, width=4 if one else 2)
    draw.text((SIDE_LEFT, PICTURE_TOP), label, font=face(24), fill=colour if one else INK)
    z_mm = volume.slices[slice_index].position_mm[2]
    text = f"Slice {slice_index + 1} of {len(volume.slices)} from the feet, z {z_mm:.1f} mm"
    draw.text((SIDE_LEFT, PICTURE_TOP + 38), text, font=face(18), fill=MUTED)
    if screening.probabilities is not None:
        _draw_bars(draw, screening.probabilities, slice_index, PICTURE_TOP + 78)
    for row, line in enumerate(wrap_text(draw, verdict_of(screening).lines[0], 15, 404)[:2]):
        corner = (SIDE_LEFT, PICTURE_TOP + 184 + 20 * row)
        draw.text(corner, make_legible(line), font=face(15), fill=MUTED)


def _draw_bars(
    draw: ImageDraw.ImageDraw, probabilities: SliceProbabilities, slice_index: int, top: int
) -> None:
    rows = {int(index): row for row, index in enumerate(probabilities.slice_indices)}
    if slice_index not in rows:
        draw.text((SIDE_LEFT, top), "This slice was not classified.", font=face(18), fill=MUTED)
        return
    bar_left, bar_right = SIDE_LEFT + 168, FRAME[0] - MARGIN - 70
    for column, class_name in enumerate(probabilities.class_names):
        share = float(probabilities.probabilities[rows[slice_index], column])
        patient_class = patient_class_of(class_name)
        y = top + 32 * column
        draw.text((SIDE_LEFT, y), CLASS_LABELS[patient_class], font=face(18), fill=INK)
        draw.rectangle((bar_left, y + 3, bar_right, y + 19), fill=PANEL)
        length = round((bar_right - bar_left) * min(max(share, 0.0), 1.0))
        if length > 0:
            bar = (bar_left, y + 3, bar_left + length, y + 19)
            draw.rectangle(bar, fill=CLASS_COLOURS[patient_class])
        words = f"{percent(share):.1f} %"
        draw.text((FRAME[0] - MARGIN, y), words, font=face(18), fill=INK, anchor="ra")


def _draw_place(
    frame: Image.Image,
    draw: ImageDraw.ImageDraw,
    screening: Screening,
    slice_index: int,
    projection: Image.Image,
) -> None:
    """Draw the frontal view with the line of the slice and the probabilities beside it."""
    if screening.volume is None:
        return
    n_slices = len(screening.volume.slices)
    top = PROJECTION_TOP
    draw.text((SIDE_LEFT, top - 28), "Along the body", font=face(17), fill=MUTED)
    frame.paste(projection, (SIDE_LEFT, top))
    strip = SIDE_LEFT + PROJECTION[0] + 28
    if screening.probabilities is not None:
        draw.text((strip, top - 28), "Probability", font=face(17), fill=MUTED)
        draw_strip(draw, screening.probabilities, n_slices, (strip, top), projection)
    y = top + row_of(slice_index, n_slices, projection.height)
    right = strip + STRIP_WIDTH if screening.probabilities is not None else strip - 8
    draw.line((SIDE_LEFT - 8, y, right + 4, y), fill=WARNING, width=2)
