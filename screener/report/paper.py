"""The page on paper: one sheet of A4 as PDF, with real text and embedded type.

It says what the picture says, in full sentences. Like the picture it carries no identity; the
header of the DICOM object that holds it does.
"""

from __future__ import annotations

from dataclasses import dataclass
from io import BytesIO
from typing import TYPE_CHECKING, Final

from reportlab.lib.colors import Color
from reportlab.lib.pagesizes import A4
from reportlab.lib.utils import ImageReader, simpleSplit
from reportlab.pdfbase.pdfmetrics import registerFont, stringWidth
from reportlab.pdfbase.ttfonts import TTFont
from reportlab.pdfgen.canvas import Canvas

from screener.domain import Decision
from screener.report.key_slices import (
    list_affected_slices,
    patient_class_of,
    select_key_slices,
)
from screener.report.lesions import lesions_of
from screener.report.marks import list_legend, row_of, side_letters
from screener.report.palette import CLASS_COLOURS, CLASS_LABELS, make_legible
from screener.report.planes import (
    crop_around_lungs,
    render_preview,
    render_projection,
    render_slice,
)
from screener.report.verdict import verdict_of
from screener.report.wording import (
    DISCLAIMER,
    INCOMPLETE,
    SHORT_DISCLAIMER,
    percent,
    say_candidates,
    say_outcome,
)

if TYPE_CHECKING:
    from PIL import Image

    from screener.domain import Preview, Screening, SliceProbabilities, Volume
    from screener.report.palette import Colour

#: Bitstream Vera comes with reportlab and may be embedded.
REGULAR: Final = "Vera"
BOLD: Final = "VeraBd"
INK: Final[Colour] = (20, 26, 34)
MUTED: Final[Colour] = (92, 100, 112)
RULE: Final[Colour] = (214, 219, 226)
WARNING: Final[Colour] = (166, 88, 0)
WIDTH, HEIGHT = A4
MARGIN: Final = 42.0
#: Points of a tile and pixels of the picture in it.
TILE: Final = (116.0, 108.0)
TILE_PIXELS: Final = (348, 324)
TILE_GAP: Final = 8.0
CAPTION: Final = 24.0
N_COLUMNS: Final = 3
N_TILES: Final = 6
PROJECTION: Final = (98.0, 232.0)
PROJECTION_PIXELS: Final = (294, 696)
STRIP: Final = 22.0
PREVIEW: Final = (280.0, 260.0)
PREVIEW_PIXELS: Final = (840, 780)
FOOTER: Final = 92.0
IDENTITY: Final = "The patient is named in the DICOM header of this document, not on this page."


def render_paper(screening: Screening) -> bytes:
    """Draw the result of a run on one sheet.

    Returns
    -------
    :
        A PDF file of one A4 page. The same screening gives the same bytes.

    Raises
    ------
    ReportError
        The screening contradicts itself.
    """
    buffer = BytesIO()
    for name in (REGULAR, BOLD):
        registerFont(TTFont(name, f"{name}.ttf"))
    # Invariant: no clock and no random document identifier.
    canvas = Canvas(buffer, pagesize=A4, invariant=1, pageCompression=1, lang="en-US")
    canvas.setTitle(f"Chest CT screening: {SHORT_DISCLAIMER}")
    pen = _Pen(canvas, HEIGHT - 52.0)
    _draw_head(pen, screening)
    if screening.volume is not None:
        _draw_pictures(pen, screening, screening.volume)
    elif screening.preview is not None:
        _draw_preview(pen, screening.preview)
    _draw_facts(pen, screening)
    _draw_footer(canvas, screening)
    canvas.showPage()
    canvas.save()
    return buffer.getvalue()


@dataclass(slots=True)
class _Pen:
    """A canvas and how far down the sheet is written."""

    canvas: Canvas
    y: float  #: base line of the next row, points from the lower edge

    def write(
        self, text: str, size: float = 9.0, colour: Colour = INK, *, is_bold: bool = False
    ) -> bool:
        """Write a paragraph; tell whether there was room down to the footer."""
        name = BOLD if is_bold else REGULAR
        for line in simpleSplit(make_legible(text), name, size, WIDTH - 2 * MARGIN):
            if self.y < FOOTER + size:
                return False
            _write(self.canvas, (MARGIN, self.y), line, size, colour, is_bold=is_bold)
            self.y -= size * 1.4
        return True


def _colour(colour: Colour) -> Color:
    red, green, blue = (value / 255 for value in colour)
    return Color(red, green, blue)


def _write(
    canvas: Canvas,
    corner: tuple[float, float],
    text: str,
    size: float,
    colour: Colour,
    *,
    is_bold: bool = False,
) -> None:
    canvas.setFillColor(_colour(colour))
    canvas.setFont(BOLD if is_bold else REGULAR, size)
    canvas.drawString(*corner, make_legible(text))


def _fill(canvas: Canvas, box: tuple[float, float, float, float], colour: Colour) -> None:
    """Fill left, bottom, width, height."""
    canvas.setFillColor(_colour(colour))
    canvas.rect(*box, stroke=0, fill=1)


def _draw_head(pen: _Pen, screening: Screening) -> None:
    verdict = verdict_of(screening)
    _fill(pen.canvas, (0, HEIGHT - 9, WIDTH, 9), verdict.colour)
    _fill(pen.canvas, (MARGIN, pen.y - 4, 5, 22), verdict.colour)
    _write(pen.canvas, (MARGIN + 14, pen.y), verdict.title, 18, INK, is_bold=True)
    pen.y -= 22
    pen.write(SHORT_DISCLAIMER, 9.5, WARNING, is_bold=True)
    if screening.run.shortfall is not None:
        pen.write(f"{INCOMPLETE}.", 9.5, WARNING, is_bold=True)
    pen.y -= 3
    pen.write(say_outcome(screening), 9.5)
    pen.y -= 5
    if isinstance(screening.outcome, Decision):
        _draw_certainties(pen, screening.outcome)


def _draw_certainties(pen: _Pen, decision: Decision) -> None:
    left, right = MARGIN + 120, WIDTH - MARGIN - 46
    for class_name, certainty in decision.class_certainties:
        patient_class = patient_class_of(class_name)
        _write(pen.canvas, (MARGIN, pen.y), CLASS_LABELS[patient_class], 9, INK)
        _fill(pen.canvas, (left, pen.y - 1, right - left, 8), RULE)
        length = (right - left) * min(max(certainty, 0.0), 1.0)
        _fill(pen.canvas, (left, pen.y - 1, length, 8), CLASS_COLOURS[patient_class])
        text = f"{percent(certainty):.1f} %"
        corner = (WIDTH - MARGIN - stringWidth(text, REGULAR, 9), pen.y)
        _write(pen.canvas, corner, text, 9, INK)
        pen.y -= 14
    pen.y -= 4


def _draw_pictures(pen: _Pen, screening: Screening, volume: Volume) -> None:
    """Draw the key slices and, beside them, where they lie."""
    key_slices = select_key_slices(screening, N_TILES)
    lungs = screening.lungs if isinstance(screening.outcome, Decision) else None
    crop = crop_around_lungs(volume, lungs, TILE[0] / TILE[1])
    top = pen.y
    for place, slice_index in enumerate(reversed(key_slices)):
        row, column = divmod(place, N_COLUMNS)
        left = MARGIN + column * (TILE[0] + TILE_GAP)
        bottom = top - TILE[1] - row * (TILE[1] + CAPTION)
        lesions = lesions_of(screening, slice_index)
        picture = render_slice(volume, lungs, slice_index, crop, TILE_PIXELS, lesions=lesions)
        _place(pen.canvas, picture, (left, bottom), TILE)
        _draw_caption(
            pen.canvas, screening, volume, slice_index, corner=(left, bottom), place=place
        )
    _draw_body(pen.canvas, screening, volume, key_slices, top)
    n_rows = -(-len(key_slices) // N_COLUMNS)
    pen.y = top - max(n_rows * (TILE[1] + CAPTION), PROJECTION[1]) - 14


def _draw_preview(pen: _Pen, preview: Preview) -> None:
    """Show what came."""
    picture = render_preview(preview, PREVIEW_PIXELS)
    scale = PREVIEW[0] / PREVIEW_PIXELS[0]
    width, height = picture.width * scale, picture.height * scale
    _place(pen.canvas, picture, (MARGIN, pen.y - height), (width, height))
    pen.y -= height + 12
    pen.write(f"{preview.caption}, not analysed", 8, MUTED)
    pen.y -= 8


def _place(
    canvas: Canvas, picture: Image.Image, corner: tuple[float, float], size: tuple[float, float]
) -> None:
    canvas.drawImage(ImageReader(picture), *corner, width=size[0], height=size[1])


def _draw_caption(
    canvas: Canvas,
    screening: Screening,
    volume: Volume,
    slice_index: int,
    *,
    corner: tuple[float, float],
    place: int,
) -> None:
    left, bottom = corner
    affected = {one.slice_index: one for one in list_affected_slices(screening)}
    one = affected.get(slice_index)
    canvas.setStrokeColor(_colour(CLASS_COLOURS[one.patient_class] if one else RULE))
    canvas.setLineWidth(2 if one else 1)
    canvas.rect(left, bottom, *TILE, stroke=1, fill=0)
    sides = side_letters(volume.slices[slice_index].orientation)
    base = bottom + 5
    for x, side in ((left + 4, sides[0]), (left + TILE[0] - 11, sides[1])):
        _fill(canvas, (x - 1.5, base - 2.5, 9.5, 10), INK)
        _write(canvas, (x, base), side, 8, (255, 255, 255), is_bold=True)
    letter = chr(ord("A") + place)
    z_mm = volume.slices[slice_index].position_mm[2]
    words = f"{letter}  slice {slice_index + 1} of {len(volume.slices)}, z {z_mm:.0f} mm"
    _write(canvas, (left, bottom - 9), words, 7, INK)
    if one is not None:
        label = f"{CLASS_LABELS[one.patient_class]} {percent(one.probability):.0f} %"
        _write(canvas, (left, bottom - 18), label, 7, MUTED)


def _draw_body(
    canvas: Canvas,
    screening: Screening,
    volume: Volume,
    key_slices: tuple[int, ...],
    top: float,
) -> None:
    """Draw the frontal view, a line per key slice, and the probabilities along the body."""
    projection = render_projection(volume, *PROJECTION_PIXELS)
    scale = PROJECTION[0] / PROJECTION_PIXELS[0]
    width, height = projection.width * scale, projection.height * scale
    left = WIDTH - MARGIN - STRIP - 16 - PROJECTION[0]
    _place(canvas, projection, (left, top - height), (width, height))
    n_slices = len(volume.slices)
    canvas.setLineWidth(0.6)
    for place, slice_index in enumerate(reversed(key_slices)):
        y = top - row_of(slice_index, n_slices, projection.height) * scale
        canvas.setStrokeColor(_colour((255, 255, 255)))
        canvas.line(left, y, left + width, y)
        # Letters step sideways, so that those of neighbours do not cover each other.
        letter_left = left + 2 + (place % N_TILES) * 9
        _write(
            canvas, (letter_left, y + 1), chr(ord("A") + place), 6, (255, 255, 255), is_bold=True
        )
    if screening.probabilities is not None:
        corner = (WIDTH - MARGIN - STRIP, top)
        _draw_strip(canvas, screening.probabilities, n_slices, corner, height)
    words = "Along the body, head up; right: probabilities"
    for row, line in enumerate(simpleSplit(words, REGULAR, 7, WIDTH - MARGIN - left)):
        _write(canvas, (left, top - height - 10 - 9 * row), line, 7, MUTED)


def _draw_strip(
    canvas: Canvas,
    probabilities: SliceProbabilities,
    n_slices: int,
    corner: tuple[float, float],
    height: float,
) -> None:
    left, top = corner
    _fill(canvas, (left, top - height, STRIP, height), RULE)
    for row, slice_index in enumerate(probabilities.slice_indices):
        bottom = top - (n_slices - int(slice_index)) * height / n_slices
        start = 0.0
        for column, class_name in enumerate(probabilities.class_names):
            share = float(probabilities.probabilities[row, column])
            box = (left + start * STRIP, bottom, share * STRIP, height / n_slices)
            _fill(canvas, box, CLASS_COLOURS[patient_class_of(class_name)])
            start += share


def _draw_facts(pen: _Pen, screening: Screening) -> None:
    """List what else there is to say, as far as there is room."""
    facts: list[tuple[str, Colour]] = []
    if screening.run.shortfall is not None:
        facts.append((f"Incomplete: {screening.run.shortfall}.", WARNING))
    if screening.lungs is not None and isinstance(screening.outcome, Decision):
        volumes = screening.lungs.right_volume_ml, screening.lungs.left_volume_ml
        facts.append((f"Lungs: right {volumes[0]:.0f} ml, left {volumes[1]:.0f} ml.", INK))
    facts.extend((f"Source: {one.detail}", WARNING) for one in screening.defects)
    facts.extend((text, MUTED) for text in say_candidates(screening))
    models = ", ".join(f"{one.name} {one.version}" for one in screening.run.models)
    facts.append((f"Models: {models or 'none'}; software {screening.run.code_version}.", MUTED))
    for text, colour in facts:
        if not pen.write(text, 8, colour):
            _write(pen.canvas, (MARGIN, FOOTER - 4), "More in the report.", 7, MUTED)
            return
        pen.y -= 2


def _draw_footer(canvas: Canvas, screening: Screening) -> None:
    canvas.setStrokeColor(_colour(RULE))
    canvas.setLineWidth(1)
    canvas.line(MARGIN, FOOTER - 12, WIDTH - MARGIN, FOOTER - 12)
    x, y = MARGIN, FOOTER - 28
    for text, colours in list_legend(screening):
        for colour in colours:
            _fill(canvas, (x, y, 8 if len(colours) == 1 else 5, 8), colour)
            x += 8 if len(colours) == 1 else 5
        _write(canvas, (x + 4, y + 1), text, 8, INK)
        x += 4 + stringWidth(text, REGULAR, 8) + 14
    for row, line in enumerate((*simpleSplit(DISCLAIMER, BOLD, 8, WIDTH - 2 * MARGIN), IDENTITY)):
        is_identity = line == IDENTITY
        corner = (MARGIN, y - 16 - 11 * row)
        colour = MUTED if is_identity else WARNING
        _write(canvas, corner, line, 8, colour, is_bold=not is_identity)
