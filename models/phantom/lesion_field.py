"""Lungs on a coarse grid, and fields that say how much air a lesion replaces there.

Lesions are smooth, so they are computed on steps of about three millimetres and interpolated;
texture finer than that is added at full resolution when lesions are applied.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage

from models.phantom.grid import FloatArray, SmoothNoise, smooth_noise
from models.phantom.spec import LEFT_LUNG, RIGHT_LUNG

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from models.phantom.trees import Tubes

_STEP_MM = 2.8
#: Below this coverage nothing is known about base and apex.
_WHOLE_LUNG_MM = 100.0
LUNGS = (RIGHT_LUNG, LEFT_LUNG)


@dataclass(frozen=True, slots=True)
class CoarseLungs:
    """Lungs sampled every few millimetres; coordinates are array millimetres, z y x."""

    labels: NDArray[np.uint8] = field(repr=False)
    spacing_mm: tuple[float, float, float]
    strides: tuple[int, int, int]
    z_mm: FloatArray = field(repr=False)  #: (slices, 1, 1)
    y_mm: FloatArray = field(repr=False)  #: (1, rows, 1)
    x_mm: FloatArray = field(repr=False)  #: (1, 1, columns)
    pleura_mm: FloatArray = field(repr=False)  #: distance from the nearest lung surface
    posterior: FloatArray = field(repr=False)  #: (1, rows, 1), 0 front to 1 back of the lungs
    height: FloatArray = field(repr=False)  #: (slices, 1, 1), 0 base to 1 apex
    lateral: FloatArray = field(repr=False)  #: (1, 1, columns), 0 midline to 1 chest wall
    noise: FloatArray = field(repr=False)  #: unit variance, roughly 13 mm correlation
    fine_noise: FloatArray = field(repr=False)  #: unit variance, roughly 6 mm correlation


@dataclass(frozen=True, slots=True)
class LesionFields:
    """What lesions do, per lung, on the coarse grid; built up by `add`.

    The arrays are written while lesions are added and only read afterwards.
    """

    share: FloatArray = field(repr=False)  #: (2, slices, rows, columns), right then left, 0 to 1
    weighted_hu: FloatArray = field(repr=False)  #: sum of share times target HU, same shape
    weight: FloatArray = field(repr=False)  #: sum of shares, same shape
    reticulation: FloatArray = field(repr=False)  #: strength of septal lines, same shape
    bronchograms: list[Tubes] = field(repr=False)  #: open airways in array millimetres, x y z

    @property
    def target_hu(self) -> FloatArray:
        """Mean of the targets, weighted by share."""
        return self.weighted_hu / np.maximum(self.weight, np.float32(1e-4))

    def add(
        self,
        lung: int,
        window: tuple[slice, slice, slice],
        share: FloatArray,
        target_hu: FloatArray | float,
        reticulation: float = 0.0,
    ) -> None:
        """Add one lesion within a window of the coarse grid."""
        at = (LUNGS.index(lung), *window)
        self.share[at] = 1 - (1 - self.share[at]) * (1 - share)
        self.weighted_hu[at] += share * target_hu
        self.weight[at] += share
        self.reticulation[at] = np.maximum(self.reticulation[at], reticulation * share)

    def affected_fraction(self, lungs: CoarseLungs, threshold: float) -> float:
        """Give the share of lung voxels whose air is replaced by more than the threshold."""
        n_affected = 0
        for side, lung in enumerate(LUNGS):
            is_affected = (self.share[side] > threshold) & (lungs.labels == lung)
            n_affected += int(np.count_nonzero(is_affected))
        return n_affected / max(1, int(np.count_nonzero(lungs.labels)))


def empty_fields(lungs: CoarseLungs) -> LesionFields:
    """Give fields without any lesion."""
    shape = (2, *lungs.labels.shape)
    return LesionFields(
        share=np.zeros(shape, np.float32),
        weighted_hu=np.zeros(shape, np.float32),
        weight=np.zeros(shape, np.float32),
        reticulation=np.zeros(shape, np.float32),
        bronchograms=[],
    )


def coarse_lungs(
    lung_labels: NDArray[np.uint8],
    spacing_mm: tuple[float, float, float],
    rng: np.random.Generator,
) -> CoarseLungs:
    """Sample lungs coarsely and measure where in the lungs each voxel lies.

    Parameters
    ----------
    lung_labels
        ``(slices, rows, columns)``, 1 right and 2 left; at least one voxel of lung.
    """
    strides = tuple(max(1, round(_STEP_MM / spacing)) for spacing in spacing_mm)
    labels = np.ascontiguousarray(lung_labels[:: strides[0], :: strides[1], :: strides[2]])
    spacing = (
        spacing_mm[0] * strides[0],
        spacing_mm[1] * strides[1],
        spacing_mm[2] * strides[2],
    )
    axes = [
        np.arange(count, dtype=np.float32) * np.float32(step)
        for count, step in zip(labels.shape, spacing, strict=True)
    ]
    z_mm, y_mm, x_mm = axes[0][:, None, None], axes[1][None, :, None], axes[2][None, None, :]
    pleura_mm = ndimage.distance_transform_edt(labels > 0, sampling=spacing)
    in_slices, in_rows, in_columns = (
        np.flatnonzero((labels > 0).any(axis=other)) for other in ((1, 2), (0, 2), (0, 1))
    )
    is_whole = (in_slices[-1] - in_slices[0]) * spacing[0] >= _WHOLE_LUNG_MM
    height = _rank(z_mm, in_slices * spacing[0]) if is_whole else np.full_like(z_mm, 0.4)
    middle_mm = (in_columns[0] + in_columns[-1]) / 2 * spacing[2]
    half_mm = max((in_columns[-1] - in_columns[0]) / 2 * spacing[2], 1.0)
    shape = (labels.shape[0], labels.shape[1], labels.shape[2])
    return CoarseLungs(
        labels=labels,
        spacing_mm=spacing,
        strides=(strides[0], strides[1], strides[2]),
        z_mm=z_mm,
        y_mm=y_mm,
        x_mm=x_mm,
        pleura_mm=np.asarray(pleura_mm, np.float32),
        posterior=_rank(y_mm, in_rows * spacing[1]),
        height=height,
        lateral=np.asarray(np.abs(x_mm - middle_mm) / half_mm, np.float32),
        noise=_noise(smooth_noise(rng, shape, spacing, 13.0)),
        fine_noise=_noise(smooth_noise(rng, shape, spacing, 6.0)),
    )


def _noise(noise: SmoothNoise) -> FloatArray:
    return noise.volume()


def _rank(position_mm: FloatArray, occupied_mm: NDArray[np.floating]) -> FloatArray:
    """Scale positions to 0 to 1 over the occupied range."""
    low, high = float(occupied_mm[0]), float(occupied_mm[-1])
    return np.asarray(np.clip((position_mm - low) / max(high - low, 1.0), 0, 1), np.float32)


def window_around(
    lungs: CoarseLungs, centre_mm: NDArray[np.floating], reach_mm: NDArray[np.floating]
) -> tuple[slice, slice, slice]:
    """Give the part of the coarse grid within reach of a point, z y x."""
    low = np.maximum(np.floor((centre_mm - reach_mm) / lungs.spacing_mm), 0).astype(int)
    high = np.ceil((centre_mm + reach_mm) / lungs.spacing_mm).astype(int) + 1
    return slice(low[0], high[0]), slice(low[1], high[1]), slice(low[2], high[2])


def pick_voxel(
    rng: np.random.Generator, weights: FloatArray, lungs: CoarseLungs
) -> NDArray[np.float64]:
    """Draw a voxel by weight; give its position in millimetres, z y x."""
    cumulative = np.cumsum(weights.ravel(), dtype=np.float64)
    flat = int(np.searchsorted(cumulative, rng.random() * cumulative[-1], side="right"))
    index = np.unravel_index(min(flat, weights.size - 1), weights.shape)
    return np.asarray(np.array(index) * np.array(lungs.spacing_mm), np.float64)


def soft_step(value: FloatArray) -> FloatArray:
    """Rise smoothly from 0 at 0 to 1 at 1."""
    clipped = np.clip(value, 0, 1)
    return clipped * clipped * (3 - 2 * clipped)
