"""Lay captioned pictures out on one sheet, small enough to live beside a card."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

#: Side of one picture and height of its caption, in pixels.
_SIDE, _CAPTION = 220, 34
#: Colours of a sheet in colour: enough for a CT slice, and a quarter of the bytes of all.
_N_COLOURS = 28


@dataclass(frozen=True, slots=True)
class Picture:
    """Grey ``(rows, columns)`` or colour ``(rows, columns, 3)``, uint8, and two short lines."""

    image: NDArray[np.uint8] = field(repr=False)
    caption: str


def draw_sheet(pictures: Sequence[Picture], path: Path, *, per_row: int = 4) -> None:
    """Write a PNG with the pictures in rows; nothing is written where there are none."""
    if not pictures:
        return
    is_colour = any(one.image.ndim == 3 for one in pictures)  # noqa: PLR2004
    mode = "RGB" if is_colour else "L"
    n_rows = -(-len(pictures) // per_row)
    size = (per_row * _SIDE, n_rows * (_SIDE + _CAPTION))
    sheet = Image.new(mode, size, "white")
    draw = ImageDraw.Draw(sheet)
    for number, picture in enumerate(pictures):
        x, y = number % per_row * _SIDE, number // per_row * (_SIDE + _CAPTION)
        image = Image.fromarray(picture.image).convert(mode).resize((_SIDE - 4, _SIDE - 4))
        sheet.paste(image, (x + 2, y + 2))
        draw.multiline_text((x + 4, y + _SIDE), picture.caption, fill="black")
    if is_colour:
        sheet = sheet.quantize(_N_COLOURS, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
    path.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(path, optimize=True)
