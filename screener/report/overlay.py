"""The picture people would rather look at: what was found and where, on one page.

It carries no identity: no name, number, date or UID of the patient or the study.
"""

from __future__ import annotations

from io import BytesIO
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
    draw_legend,
    draw_outlined,
    draw_strip,
    row_of,
    side_letters,
    wrap_text,
)
from screener.report.palette import (
    BACKGROUND,
    CLASS_COLOURS,
    CLASS_LABELS,
    INK,
    MUTED,
    PANEL,
    WARNING,
    face,
)
from screener.report.planes import (
    crop_around_lungs,
    render_preview,
    render_projection,
    render_slice,
)
from screener.report.verdict import verdict_of
from screener.report.wording import INCOMPLETE, SHORT_DISCLAIMER, percent, say_candidates

if TYPE_CHECKING:
    from screener.domain import Preview, Screening, Volume
    from screener.report.key_slices import AffectedSlice
    from screener.report.palette import Colour

WIDTH: Final = 1600
HEIGHT: Final = 1000
MARGIN: Final = 36
TILE: Final = (338, 316)
TILE_GAP: Final = 14
CAPTION: Final = 34
N_COLUMNS: Final = 3
N_TILES: Final = 6
BODY_TOP: Final = 176
SIDE_LEFT: Final = 1108
PROJECTION: Final = (330, 440)
FOOTER_TOP: Final = 922
PREVIEW: Final = (760, 690)
LEADER_GAP: Final = 17  #: least distance of two letters, pixels


def render_overlay_png(screening: Screening) -> bytes:
    """Draw the result of a run as one page.

    Returns
    -------
    :
        A PNG file, 1600 by 1000 pixels: verdict, certainties, key slices in the lung window with
        lung contours, a frontal view with the probabilities along the body, what is wrong with
        the source, legend and disclaimer. The same screening gives the same bytes.

    Raises
    ------
    ReportError
        The screening contradicts itself.
    """
    buffer = BytesIO()
    render_page(screening).save(buffer, format="PNG")
    return buffer.getvalue()


def render_page(screening: Screening) -> Image.Image:
    """Draw the page of :func:`render_overlay_png` as a picture."""
    page = Image.new("RGB", (WIDTH, HEIGHT), BACKGROUND)
    draw = ImageDraw.Draw(page)
    _draw_head(draw, screening)
    if screening.volume is not None:
        key_slices = select_key_slices(screening, N_TILES)
        _draw_tiles(page, draw, screening, screening.volume, key_slices)
        bottom = _draw_side(page, draw, screening, screening.volume, key_slices)
        _draw_facts(draw, screening, (SIDE_LEFT, bottom + 22), WIDTH - MARGIN - SIDE_LEFT)
    else:
        room = WIDTH - 2 * MARGIN
        if screening.preview is not None:
            _draw_preview(page, draw, screening.preview)
            room -= PREVIEW[0] + MARGIN
        _draw_facts(draw, screening, (MARGIN, BODY_TOP), room)
    _draw_footer(draw, screening)
    return page


def _draw_head(draw: ImageDraw.ImageDraw, screening: Screening) -> None:
    verdict = verdict_of(screening)
    draw.rectangle((0, 0, WIDTH, 8), fill=verdict.colour)
    draw.text((MARGIN, 28), verdict.title, font=face(44), fill=verdict.colour)
    top = 92
    width = (SIDE_LEFT if isinstance(screening.outcome, Decision) else WIDTH) - 2 * MARGIN
    lines = list(zip(verdict.lines, (20, 18), (INK, MUTED), strict=True))
    if screening.run.shortfall is not None:
        lines.insert(0, (f"{INCOMPLETE}.", 20, WARNING))
    for line, size, colour in lines:
        for row in wrap_text(draw, line, size, width):
            draw.text((MARGIN, top), row, font=face(size), fill=colour)
            top += round(1.3 * size)
    if isinstance(screening.outcome, Decision):
        _draw_certainties(draw, screening.outcome, SIDE_LEFT, 30)


def _draw_preview(page: Image.Image, draw: ImageDraw.ImageDraw, preview: Preview) -> None:
    """Show what came beside the reason why it was not analysed."""
    picture = render_preview(preview, PREVIEW)
    left, top = WIDTH - MARGIN - picture.width, BODY_TOP
    page.paste(picture, (left, top))
    box = (left - 2, top - 2, left + picture.width + 1, top + picture.height + 1)
    draw.rectangle(box, outline=MUTED, width=2)
    words = f"{preview.caption}, not analysed"
    draw.text((left, top + picture.height + 10), words, font=face(17), fill=MUTED)


def _draw_certainties(draw: ImageDraw.ImageDraw, decision: Decision, left: int, top: int) -> None:
    draw.text((left, top), "Certainty of each class", font=face(17), fill=MUTED)
    bar_left, bar_right = left + 168, WIDTH - MARGIN - 70
    for row, (class_name, certainty) in enumerate(decision.class_certainties):
        patient_class = patient_class_of(class_name)
        y = top + 30 + 32 * row
        draw.text((left, y), CLASS_LABELS[patient_class], font=face(18), fill=INK)
        draw.rounded_rectangle((bar_left, y + 3, bar_right, y + 19), 4, fill=PANEL)
        length = round((bar_right - bar_left) * min(max(certainty, 0.0), 1.0))
        if length > 0:
            bar = (bar_left, y + 3, bar_left + length, y + 19)
            draw.rounded_rectangle(bar, 4, fill=CLASS_COLOURS[patient_class])
        text = f"{percent(certainty):.1f} %"
        draw.text((WIDTH - MARGIN, y), text, font=face(18), fill=INK, anchor="ra")


def _draw_tiles(
    page: Image.Image,
    draw: ImageDraw.ImageDraw,
    screening: Screening,
    volume: Volume,
    key_slices: tuple[int, ...],
) -> None:
    affected = {one.slice_index: one for one in list_affected_slices(screening)}
    # What a refused study holds may be no lungs, whatever the model marked.
    lungs = screening.lungs if isinstance(screening.outcome, Decision) else None
    crop = crop_around_lungs(volume, lungs, TILE[0] / TILE[1])
    # From the head down, as films hang.
    for place, slice_index in enumerate(reversed(key_slices)):
        row, column = divmod(place, N_COLUMNS)
        left = MARGIN + column * (TILE[0] + TILE_GAP)
        top = BODY_TOP + row * (TILE[1] + CAPTION + TILE_GAP)
        lesions = lesions_of(screening, slice_index)
        picture = render_slice(volume, lungs, slice_index, crop, TILE, lesions=lesions)
        page.paste(picture, (left, top))
        _draw_caption(
            draw, volume, slice_index, affected.get(slice_index), corner=(left, top), place=place
        )


def _draw_caption(
    draw: ImageDraw.ImageDraw,
    volume: Volume,
    slice_index: int,
    affected: AffectedSlice | None,
    *,
    corner: tuple[int, int],
    place: int,
) -> None:
    left, top = corner
    right, bottom = left + TILE[0], top + TILE[1]
    colour = CLASS_COLOURS[affected.patient_class] if affected else MUTED
    draw.rectangle((left - 2, top - 2, right + 1, bottom + 1), outline=colour, width=3)
    sides = side_letters(volume.slices[slice_index].orientation)
    for x, side, anchor in ((left + 10, sides[0], "ls"), (right - 10, sides[1], "rs")):
        draw_outlined(draw, (x, bottom - 10), side, anchor)
    draw.rectangle((left, top, left + 30, top + 30), fill=colour)
    draw.text((left + 15, top + 15), _letter(place), font=face(20), fill=BACKGROUND, anchor="mm")
    z_mm = volume.slices[slice_index].position_mm[2]
    words = f"slice {slice_index + 1} of {len(volume.slices)}, z {z_mm:.0f} mm"
    draw.text((left, bottom + 8), words, font=face(17), fill=MUTED)
    if affected is not None:
        label = f"{CLASS_LABELS[affected.patient_class]} {percent(affected.probability):.0f} %"
        width = round(draw.textlength(label, font=face(17)))
        draw.rectangle((right - width - 16, top, right, top + 30), fill=colour)
        draw.text((right - 8, top + 15), label, font=face(17), fill=BACKGROUND, anchor="rm")


def _draw_side(
    page: Image.Image,
    draw: ImageDraw.ImageDraw,
    screening: Screening,
    volume: Volume,
    key_slices: tuple[int, ...],
) -> int:
    """Draw the frontal view and the probabilities beside it; give the lower edge."""
    projection = render_projection(volume, *PROJECTION)
    top = BODY_TOP + 26
    left = SIDE_LEFT + PROJECTION[0] - projection.width
    draw.text((SIDE_LEFT, BODY_TOP - 4), "Along the body", font=face(17), fill=MUTED)
    page.paste(projection, (left, top))
    strip = SIDE_LEFT + PROJECTION[0] + 40
    if screening.probabilities is not None:
        draw.text((strip, BODY_TOP - 4), "Probability", font=face(17), fill=MUTED)
        draw_strip(draw, screening.probabilities, len(volume.slices), (strip, top), projection)
    rows = [
        top + row_of(slice_index, len(volume.slices), projection.height)
        for slice_index in reversed(key_slices)
    ]
    span = (top + LEADER_GAP // 2, top + projection.height - LEADER_GAP // 2)
    _draw_leaders(draw, rows, (left, SIDE_LEFT + PROJECTION[0]), span)
    return top + projection.height


def _draw_leaders(
    draw: ImageDraw.ImageDraw, rows: list[int], sides: tuple[int, int], span: tuple[int, int]
) -> None:
    """Draw a line per key slice and its letter beside, letters apart enough to be read."""
    left, right = sides
    for place, (y, label_y) in enumerate(zip(rows, _spread(rows, span), strict=True)):
        draw.line((left, y, right, y), fill=MUTED, width=1)
        draw.line((right, y, right + 14, label_y), fill=MUTED, width=1)
        draw.text((right + 25, label_y), _letter(place), font=face(16), fill=INK, anchor="mm")


def _spread(rows: list[int], span: tuple[int, int]) -> list[int]:
    """Move ascending rows apart to the leader gap, within the span as far as there is room."""
    spread: list[int] = []
    for row in rows:
        spread.append(max(row, spread[-1] + LEADER_GAP) if spread else max(row, span[0]))
    limit = span[1]
    for at in reversed(range(len(spread))):
        spread[at] = min(spread[at], limit)
        limit = spread[at] - LEADER_GAP
    return spread


def _draw_facts(
    draw: ImageDraw.ImageDraw, screening: Screening, corner: tuple[int, int], width: int
) -> None:
    """List what is missing, the lungs, the models and the defects, as far as there is room."""
    left, top = corner
    facts: list[tuple[str, Colour]] = []
    if screening.run.shortfall is not None:
        facts.append((f"Incomplete: {screening.run.shortfall}", WARNING))
    if screening.lungs is not None and isinstance(screening.outcome, Decision):
        volumes = screening.lungs.right_volume_ml, screening.lungs.left_volume_ml
        facts.append((f"Lungs: right {volumes[0]:.0f} ml, left {volumes[1]:.0f} ml", INK))
    models = ", ".join(f"{one.name} {one.version}" for one in screening.run.models)
    facts.append((f"Models: {models or 'none'}", MUTED))
    facts.extend((f"Source: {one.detail}", WARNING) for one in screening.defects)
    if not isinstance(screening.outcome, Decision):
        facts.extend((text, MUTED) for text in say_candidates(screening))
    for text, colour in facts:
        for line in wrap_text(draw, text, 17, width):
            if top > FOOTER_TOP - 44:
                draw.text((left, top), "more in the report", font=face(17), fill=MUTED)
                return
            draw.text((left, top), line, font=face(17), fill=colour)
            top += 23
        top += 5


def _draw_footer(draw: ImageDraw.ImageDraw, screening: Screening) -> None:
    draw.line((MARGIN, FOOTER_TOP, WIDTH - MARGIN, FOOTER_TOP), fill=PANEL, width=2)
    y = FOOTER_TOP + 24
    draw_legend(draw, screening, (MARGIN, y))
    draw.text((WIDTH - MARGIN, y + 9), SHORT_DISCLAIMER, font=face(22), fill=WARNING, anchor="rm")


def _letter(place: int) -> str:
    return chr(ord("A") + place)
