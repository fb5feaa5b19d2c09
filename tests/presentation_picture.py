"""Show a presentation state over one of its images, as a viewer would (PS3.3 C.10, PS3.4 N.2).

Written from the standard alone, so that it does not repeat what the report step thinks. It draws
what our states have: one window, one displayed area, polylines in pixels, text in the display.
``python -m tests.presentation_picture STATE IMAGES OUT`` writes a picture for each image.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from pydicom import dcmread

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from pydicom import Dataset

_SIXTEEN_BITS: Final = 65535
#: White of the CIELab values (D50), and the matrix from XYZ under it to linear sRGB.
_WHITE: Final = np.array([0.96422, 1.0, 0.82521])
_TO_LINEAR_RGB: Final = np.array(
    [
        [3.1338561, -1.6168667, -0.4906146],
        [-0.9787684, 1.9161415, 0.0334540],
        [0.0719453, -0.2289914, 1.4052427],
    ]
)


def show(state: Dataset, image: Dataset, width: int) -> Image.Image:
    """Draw one image as the state wants it.

    Parameters
    ----------
    image
        One of the single-frame images that the state names, with its pixels.
    width
        Of the display, pixels; its height follows from the displayed area.
    """
    hu = image.pixel_array * float(state.RescaleSlope) + float(state.RescaleIntercept)
    grey = Image.fromarray(_windowed(hu, state.SoftcopyVOILUTSequence[0]))
    (area,) = state.DisplayedAreaSelectionSequence
    left, top = (value - 1 for value in area.DisplayedAreaTopLeftHandCorner)
    right, bottom = area.DisplayedAreaBottomRightHandCorner
    row_mm, column_mm = area.PresentationPixelSpacing
    scale = width / (right - left)
    down = scale * row_mm / column_mm
    size = width, round((bottom - top) * down)
    picture = grey.resize(size, Image.Resampling.BICUBIC, (left, top, right, bottom)).convert("RGB")
    draw = ImageDraw.Draw(picture)
    for one in _annotations_of(state, image.SOPInstanceUID):
        colour = _colour_of(state, one.GraphicLayer)
        for line in one.get("GraphicObjectSequence", []):
            points = np.array(line.GraphicData).reshape(-1, 2) - (left, top)
            draw.line([(x * scale, y * down) for x, y in points], fill=colour, width=2)
        for text in one.get("TextObjectSequence", []):
            _write(draw, text, colour, size)
    return picture


def _windowed(values: NDArray[np.float64], window: Dataset) -> NDArray[np.uint8]:
    """Apply a linear window (PS3.3 C.11.2.1.2.1)."""
    centre, width = float(window.WindowCenter), float(window.WindowWidth)
    shares = (values - (centre - 0.5)) / (width - 1) + 0.5
    return np.rint(np.clip(shares, 0, 1) * 255).astype(np.uint8)


def _annotations_of(state: Dataset, sop_instance_uid: str) -> list[Dataset]:
    """Give what is drawn on one image, lower layers first."""
    orders = {one.GraphicLayer: one.GraphicLayerOrder for one in state.GraphicLayerSequence}
    ours = [
        one
        for one in state.GraphicAnnotationSequence
        if sop_instance_uid
        in {image.ReferencedSOPInstanceUID for image in one.ReferencedImageSequence}
    ]
    return sorted(ours, key=lambda one: orders[one.GraphicLayer])


def _colour_of(state: Dataset, layer: str) -> tuple[int, int, int]:
    (found,) = [one for one in state.GraphicLayerSequence if one.GraphicLayer == layer]
    return rgb_of(found.GraphicLayerRecommendedDisplayCIELabValue)


def rgb_of(cielab: list[int]) -> tuple[int, int, int]:
    """Give the sRGB colour of a PCS value of 16 bits (PS3.3 C.10.7.1.1)."""
    lightness = cielab[0] / _SIXTEEN_BITS * 100
    a, b = (value / _SIXTEEN_BITS * 255 - 128 for value in cielab[1:])
    y = (lightness + 16) / 116
    cubes = np.array([y + a / 500, y, y - b / 200])
    xyz = np.where(cubes > 6 / 29, cubes**3, 3 * (6 / 29) ** 2 * (cubes - 4 / 29)) * _WHITE
    linear = np.clip(_TO_LINEAR_RGB @ xyz, 0, 1)
    gamma = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    red, green, blue = np.rint(gamma * 255).astype(int).tolist()
    return red, green, blue


def _write(
    draw: ImageDraw.ImageDraw, text: Dataset, colour: tuple[int, int, int], size: tuple[int, int]
) -> None:
    """Write text into its box, which is in fractions of the display, as large as fits."""
    left, top = np.array(text.BoundingBoxTopLeftHandCorner) * size
    right, bottom = np.array(text.BoundingBoxBottomRightHandCorner) * size
    words = text.UnformattedTextValue.replace("\r\n", "\n")
    for pixels in range(40, 4, -1):
        font = ImageFont.load_default(pixels)
        box = draw.multiline_textbbox((left, top), words, font=font)
        if box[2] <= right and box[3] <= bottom:
            break
    draw.multiline_text((left, top), words, font=font, fill=colour)


def main(state_file: Path, folder: Path, out: Path) -> None:
    """Write a picture for each image of the folder that the state names."""
    state = dcmread(state_file)
    for path in sorted(one for one in folder.rglob("*") if one.is_file()):
        image = dcmread(path)
        if _annotations_of(state, image.SOPInstanceUID):
            show(state, image, 1024).save(out / f"{path.stem}.png")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:4]))
