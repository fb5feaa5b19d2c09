"""What the scanner adds: table, kernel sharpness, correlated noise, clipping."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy import fft, ndimage

from models.phantom.spec import AIR_HU, LOWEST_HU, Kernel

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from models.phantom.anatomy import Anatomy
    from models.phantom.grid import FloatArray, Grid

#: Blur of the image in millimetres (standard deviation).
_BLUR_MM = {Kernel.SOFT: 0.75, Kernel.STANDARD: 0.5, Kernel.LUNG: 0.3}
#: Peak of the noise spectrum in line pairs per millimetre.
_NOISE_PEAK = {Kernel.SOFT: 0.22, Kernel.STANDARD: 0.32, Kernel.LUNG: 0.55}
#: Edge overshoot of the sharp kernel.
_OVERSHOOT = 0.35


def paint_table(plane_hu: FloatArray, grid: Grid, anatomy: Anatomy) -> None:
    """Paint the patient table under the body, in place; it does not turn with the patient."""
    rows, columns = grid.shape
    across = (np.arange(columns, dtype=np.float32) - (columns - 1) / 2)[None, :] * grid.pixel_mm
    down = (np.arange(rows, dtype=np.float32) - (rows - 1) / 2)[:, None] * grid.pixel_mm
    top_mm = anatomy.torso(0.3).y_mm + anatomy.torso(0.3).half_y_mm + grid.offset_mm[1] + 2
    if anatomy.has_flat_table:
        depth = np.where(np.abs(across) < 215, down - top_mm, -99)  # noqa: PLR2004
        shells = [(0.0, 2.0, -80.0), (2.0, 24.0, -945.0), (24.0, 26.5, -60.0)]
    else:
        depth = np.hypot(across, down - (top_mm - 420)) - 420
        shells = [(0.0, 5.0, -935.0), (5.0, 7.5, 120.0), (7.5, 34.0, -955.0), (34.0, 36.5, 60.0)]
    is_free = plane_hu < -900  # noqa: PLR2004 - the body lies on the table, not in it
    for near_mm, far_mm, value_hu in shells:
        plane_hu[is_free & (depth >= near_mm) & (depth < far_mm)] = value_hu


def sharpen_or_blur(plane_hu: FloatArray, pixel_mm: float, kernel: Kernel) -> FloatArray:
    """Apply the in-plane point spread of a kernel."""
    image = ndimage.gaussian_filter(plane_hu, _BLUR_MM[kernel] / pixel_mm, truncate=3.0)
    if kernel is Kernel.LUNG:
        image += np.float32(_OVERSHOOT) * (image - ndimage.gaussian_filter(image, 1.0 / pixel_mm))
    return np.asarray(image, np.float32)


def noise_filter(shape: tuple[int, int], pixel_mm: float, kernel: Kernel) -> FloatArray:
    """Give the noise amplitude over spatial frequency: a ramp that the kernel cuts off.

    Filtered back projection leaves little noise at frequency 0 and none beyond the cut-off.
    """
    by_row = fft.fftfreq(shape[0], pixel_mm)[:, None]
    by_column = fft.rfftfreq(shape[1], pixel_mm)[None, :]
    frequency = np.hypot(by_row, by_column) / _NOISE_PEAK[kernel]
    amplitude = (0.12 + np.sqrt(frequency)) * np.exp(-0.5 * frequency**2)
    full = np.fft.irfft2(amplitude, s=shape)
    # Unit variance: the squared impulse response must sum to 1.
    return np.asarray(amplitude / np.sqrt((full**2).sum()), np.float32)


def draw_noise(
    rng: np.random.Generator, shape: tuple[int, int], amplitude: FloatArray
) -> FloatArray:
    """Draw one plane of unit-variance noise with the given spectrum."""
    white = rng.standard_normal(shape, dtype=np.float32)
    coloured = fft.irfft2(fft.rfft2(white) * amplitude, s=shape)
    return np.asarray(coloured, np.float32)


def noise_map(grid: Grid, anatomy: Anatomy, level: float) -> FloatArray:
    """Give the noise relative to the body's centre: less at its rim, more at the shoulders."""
    torso = anatomy.torso(level)
    square = (grid.x_mm / (1.6 * torso.half_x_mm)) ** 2
    square = square + ((grid.y_mm - torso.y_mm) / (1.6 * torso.half_y_mm)) ** 2
    shoulders = 1 + 0.5 * float(np.clip((level - 0.8) / 0.2, 0, 1))
    return np.asarray(shoulders * (0.45 + 0.55 * np.exp(-2 * square)), np.float32)


def to_stored(plane_hu: FloatArray) -> NDArray[np.int16]:
    """Round to whole HU and clip as a 12-bit scanner does."""
    return np.clip(np.round(plane_hu), LOWEST_HU, 3071).astype(np.int16)


def air_plane(grid: Grid) -> FloatArray:
    """Give an empty plane."""
    return np.full(grid.shape, AIR_HU, np.float32)
