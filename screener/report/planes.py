"""CT planes as pictures: window, crop to the lungs, contours, frontal projection."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
from PIL import Image, ImageChops

from screener.domain import LEFT_LUNG, RIGHT_LUNG
from screener.report.activation import SEEN_FROM, activation_colour, colour_activation, erode
from screener.report.lesions import Extent
from screener.report.palette import LUNG_COLOURS

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from screener.domain import LungMask, Preview, Volume
    from screener.report.lesions import SliceLesions

#: Lung window: width 1500 HU around -600 HU, what radiologists read lungs in.
LUNG_WINDOW_HU: Final = (-1350.0, 150.0)
#: Margin around the lungs, millimetres.
MARGIN_MM: Final = 12.0
#: Grey values between which the frontal projection is stretched, percentiles.
PROJECTION_PERCENTILES: Final = (1.0, 99.5)
_WHITE: Final = 255
_HALF: Final = 128


def crop_around_lungs(volume: Volume, lungs: LungMask | None, aspect: float) -> Extent:
    """Give the part of the planes that holds the lungs, or the whole plane without lungs.

    Parameters
    ----------
    aspect
        Width by height of the picture.
    """
    _, n_rows, n_columns = volume.volume_hu.shape
    top, bottom, left, right = 0.0, float(n_rows), 0.0, float(n_columns)
    _, row_mm, column_mm = volume.spacing_mm
    if lungs is not None and lungs.labels.any():
        rows = np.flatnonzero(lungs.labels.any(axis=(0, 2)))
        columns = np.flatnonzero(lungs.labels.any(axis=(0, 1)))
        top, bottom = rows[0] - MARGIN_MM / row_mm, rows[-1] + 1 + MARGIN_MM / row_mm
        left, right = columns[0] - MARGIN_MM / column_mm, columns[-1] + 1 + MARGIN_MM / column_mm
    width_mm, height_mm = (right - left) * column_mm, (bottom - top) * row_mm
    width_mm = max(width_mm, height_mm * aspect)
    height_mm = width_mm / aspect
    middle_row, middle_column = (top + bottom) / 2, (left + right) / 2
    half_rows, half_columns = height_mm / row_mm / 2, width_mm / column_mm / 2
    return Extent(
        middle_column - half_columns,
        middle_row - half_rows,
        middle_column + half_columns,
        middle_row + half_rows,
    )


def render_slice(
    volume: Volume,
    lungs: LungMask | None,
    slice_index: int,
    crop: Extent,
    size: tuple[int, int],
    *,
    lesions: SliceLesions | None = None,
) -> Image.Image:
    """Draw one slice in the lung window with both lungs outlined and what was seen coloured.

    Parameters
    ----------
    size
        Width and height, pixels.
    lesions
        The classifier's map of this slice; drawn only where there are lungs.
    """
    grey = _apply_window(volume.volume_hu[slice_index].astype(np.float32), LUNG_WINDOW_HU)
    picture = _extract(Image.fromarray(grey), crop, size).convert("RGB")
    if lungs is None:
        return picture
    labels = lungs.labels[slice_index]
    masks = {label: _extract_mask(labels == label, crop, size) for label in LUNG_COLOURS}
    if lesions is not None:
        both = ImageChops.lighter(masks[RIGHT_LUNG], masks[LEFT_LUNG])
        shares = lesions.resample(crop, size)
        picture = colour_activation(picture, shares, both)
        seen = Image.fromarray(((shares >= SEEN_FROM) & (np.asarray(both) > 0)).astype(np.uint8))
        line = _outline(seen.point(lambda value: _WHITE * value))
        picture.paste(activation_colour(0.8), mask=line)
    for label, mask in masks.items():
        picture.paste(LUNG_COLOURS[label], mask=_outline(mask))
    return picture


def render_preview(preview: Preview, size: tuple[int, int]) -> Image.Image:
    """Draw one image as large as fits, its grey values stretched to what it holds.

    Parameters
    ----------
    size
        Most width and height, pixels.
    """
    values = preview.image_hu.astype(np.float32)
    shown = values[values > LUNG_WINDOW_HU[0]]
    lower, upper = np.percentile(shown if shown.size else values, PROJECTION_PERCENTILES)
    grey = _apply_window(values, (float(lower), float(max(upper, lower + 1.0))))
    row_mm, column_mm = preview.pixel_spacing_mm or (1.0, 1.0)
    height_mm, width_mm = grey.shape[0] * row_mm, grey.shape[1] * column_mm
    scale = min(size[0] / width_mm, size[1] / height_mm)
    fitted = max(1, round(width_mm * scale)), max(1, round(height_mm * scale))
    return Image.fromarray(grey).resize(fitted, Image.Resampling.BICUBIC).convert("RGB")


def render_projection(volume: Volume, width: int, maximum_height: int) -> Image.Image:
    """Draw the volume from the front, head up, like a radiograph.

    The height follows from the spacing and is at most ``maximum_height`` pixels, the width at
    most ``width``.
    """
    means = np.clip(volume.volume_hu, -1000, 600).mean(axis=1, dtype=np.float32)[::-1]
    lower, upper = np.percentile(means, PROJECTION_PERCENTILES)
    grey = _apply_window(means, (float(lower), float(max(upper, lower + 1.0))))
    slice_mm, _, column_mm = volume.spacing_mm
    height_mm, width_mm = means.shape[0] * slice_mm, means.shape[1] * column_mm
    scale = min(width / width_mm, maximum_height / height_mm)
    size = (max(1, round(width_mm * scale)), max(1, round(height_mm * scale)))
    return Image.fromarray(grey).resize(size, Image.Resampling.BICUBIC).convert("RGB")


def _apply_window(
    values_hu: NDArray[np.float32], window_hu: tuple[float, float]
) -> NDArray[np.uint8]:
    """Map HU to 0 to 255; below the window black, above it white."""
    lower, upper = window_hu
    scaled = (values_hu - lower) * (_WHITE / (upper - lower))
    grey: NDArray[np.uint8] = np.clip(scaled, 0, _WHITE).astype(np.uint8)
    return grey


def _extract(plane: Image.Image, crop: Extent, size: tuple[int, int]) -> Image.Image:
    box = (crop.left, crop.top, crop.right, crop.bottom)
    return plane.transform(size, Image.Transform.EXTENT, box, Image.Resampling.BICUBIC)


def _extract_mask(mask: NDArray[np.bool_], crop: Extent, size: tuple[int, int]) -> Image.Image:
    solid = _extract(Image.fromarray(mask.astype(np.uint8) * _WHITE), crop, size)
    return solid.point(lambda value: _WHITE if value >= _HALF else 0)


def _outline(mask: Image.Image) -> Image.Image:
    """Give the inner edge of a mask, one pixel wide."""
    inside = np.asarray(mask) > 0
    return Image.fromarray((inside & ~erode(inside)).astype(np.uint8) * _WHITE)
