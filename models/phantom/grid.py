"""Planes in patient millimetres, soft-edged shapes on them, and smooth random fields.

Patient coordinates: x from the patient's right to the left, y from anterior to posterior, z from
caudal to cranial; the origin of x and y is the middle of the chest cavity.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

FloatArray = NDArray[np.floating]
Window = tuple[slice, slice]


@dataclass(frozen=True, slots=True)
class Grid:
    """In-plane sampling points of a volume, the patient possibly off centre and rotated."""

    x_mm: FloatArray = field(repr=False)  #: (rows, columns), patient coordinates
    y_mm: FloatArray = field(repr=False)  #: (rows, columns), patient coordinates
    pixel_mm: float
    offset_mm: tuple[float, float]  #: of the patient origin from the image centre, x and y
    rotation_rad: float
    centre: tuple[float, float]  #: row and column of the image centre, also of a part of it

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        rows, columns = self.x_mm.shape
        return rows, columns

    def within(self, window: Window) -> Grid:
        """Give a part of the plane, as a view."""
        centre = (self.centre[0] - window[0].start, self.centre[1] - window[1].start)
        return replace(self, x_mm=self.x_mm[window], y_mm=self.y_mm[window], centre=centre)

    def pixel_of(self, x_mm: FloatArray, y_mm: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Give fractional row and column of patient points."""
        cosine, sine = np.cos(self.rotation_rad), np.sin(self.rotation_rad)
        across = x_mm * cosine - y_mm * sine + self.offset_mm[0]
        down = x_mm * sine + y_mm * cosine + self.offset_mm[1]
        row = down / self.pixel_mm + self.centre[0]
        column = across / self.pixel_mm + self.centre[1]
        return np.asarray(row, np.float32), np.asarray(column, np.float32)

    def window(self, x_mm: float, y_mm: float, reach_mm: float) -> Window:
        """Give the part of the image within `reach_mm` of a point; may be empty."""
        row, column = self.pixel_of(np.float32([x_mm]), np.float32([y_mm]))  # type: ignore[arg-type]
        reach = reach_mm / self.pixel_mm + 2
        rows, columns = self.shape
        return (
            slice(max(0, int(row[0] - reach)), max(0, min(rows, int(row[0] + reach) + 1))),
            slice(max(0, int(column[0] - reach)), max(0, min(columns, int(column[0] + reach) + 1))),
        )


def make_grid(
    rows: int,
    columns: int,
    pixel_mm: float,
    offset_mm: tuple[float, float] = (0.0, 0.0),
    rotation_rad: float = 0.0,
) -> Grid:
    """Lay the image plane over the patient."""
    down = (np.arange(rows, dtype=np.float32) - (rows - 1) / 2) * pixel_mm - offset_mm[1]
    across = (np.arange(columns, dtype=np.float32) - (columns - 1) / 2) * pixel_mm - offset_mm[0]
    cosine, sine = np.float32(np.cos(rotation_rad)), np.float32(np.sin(rotation_rad))
    x_mm = across[None, :] * cosine + down[:, None] * sine
    y_mm = down[:, None] * cosine - across[None, :] * sine
    centre = ((rows - 1) / 2, (columns - 1) / 2)
    return Grid(x_mm, y_mm, pixel_mm, offset_mm, rotation_rad, centre)


@dataclass(frozen=True, slots=True)
class Ellipse:
    """An ellipse, or a rounder box when `squareness` is above 0, in patient millimetres."""

    x_mm: float
    y_mm: float
    half_x_mm: float
    half_y_mm: float
    angle_rad: float = 0.0
    squareness: float = 0.0  #: 0 ellipse to 1 a box with very round corners

    def grown(self, by_mm: float) -> Ellipse:
        """Give the same shape, larger on every side."""
        return Ellipse(
            self.x_mm,
            self.y_mm,
            max(self.half_x_mm + by_mm, 0.01),
            max(self.half_y_mm + by_mm, 0.01),
            self.angle_rad,
            self.squareness,
        )


def distance_mm(ellipse: Ellipse, x_mm: FloatArray, y_mm: FloatArray) -> FloatArray:
    """Give the distance from the outline along the ray from the centre, negative inside."""
    across, down = x_mm - np.float32(ellipse.x_mm), y_mm - np.float32(ellipse.y_mm)
    if ellipse.angle_rad:
        cosine, sine = np.float32(np.cos(ellipse.angle_rad)), np.float32(np.sin(ellipse.angle_rad))
        across, down = across * cosine + down * sine, down * cosine - across * sine
    half_x, half_y = np.float32(ellipse.half_x_mm), np.float32(ellipse.half_y_mm)
    # In place: fresh arrays of a whole plane at each step would take most of the time of a phantom.
    across *= across
    down *= down
    radius = across + down
    np.sqrt(radius, out=radius)
    across /= half_x**2
    down /= half_y**2
    level = across + down
    np.sqrt(level, out=level)
    if ellipse.squareness:
        level += np.float32(ellipse.squareness) * (_box_norm(across, down) - level)
    # At the centre the ray has no direction: the shorter half axis is the distance.
    is_centre = level <= 1e-3  # noqa: PLR2004
    np.maximum(level, np.float32(1e-3), out=level)
    np.divide(1, level, out=level)
    radius *= np.subtract(1, level, out=level)
    radius[is_centre] = -np.float32(min(ellipse.half_x_mm, ellipse.half_y_mm))
    return radius


def _box_norm(across: FloatArray, down: FloatArray) -> FloatArray:
    """Give the fourth-power norm from two squares, which it changes: roots are quicker."""
    across *= across
    down *= down
    across += down
    np.sqrt(across, out=across)
    return np.asarray(np.sqrt(across, out=across))


def box_around(distance: FloatArray, reach_mm: float, step: int, shape: tuple[int, int]) -> Window:
    """Give the part of an image around a shape, from distances at every few pixels; may be empty.

    Parameters
    ----------
    distance
        Of every ``step``-th row and column, in mm.
    reach_mm
        How far around the outline the part extends.
    shape
        Rows and columns of the image.
    """
    near = distance < reach_mm
    first, second = (
        slice(max(0, (int(used[0]) - 1) * step), min(size, (int(used[-1]) + 1) * step + 1))
        if len(used)
        else slice(0, 0)
        for used, size in zip(
            (np.flatnonzero(near.any(axis=1)), np.flatnonzero(near.any(axis=0))), shape, strict=True
        )
    )
    return first, second


def soft_inside(distance: FloatArray, edge_mm: float) -> FloatArray:
    """Turn distances into 0 to 1 occupancy with an edge of the given width."""
    share = np.asarray(distance / np.float32(edge_mm))
    np.subtract(np.float32(0.5), share, out=share)
    return np.asarray(np.clip(share, 0, 1, out=share))


def smooth_union(first: FloatArray, second: FloatArray, blend_mm: float) -> FloatArray:
    """Join two distance fields, rounding the crease."""
    blend = np.float32(blend_mm)
    share = np.clip(0.5 + 0.5 * (second - first) / blend, 0, 1)
    joined = second * (1 - share) + first * share - blend * share * (1 - share)
    return np.asarray(joined, np.float32)


def smoothstep(low: float, high: float, value: float) -> float:
    """Rise from 0 at `low` to 1 at `high` without corners."""
    share = min(max((value - low) / (high - low), 0.0), 1.0)
    return share * share * (3 - 2 * share)


def paint(plane_hu: FloatArray, occupancy: FloatArray, value_hu: FloatArray | float) -> None:
    """Blend a value into a plane (or a view of one), in place."""
    change = np.subtract(value_hu, plane_hu)
    change *= occupancy
    plane_hu += change


def paint_ellipse(
    plane_hu: FloatArray, grid: Grid, ellipse: Ellipse, value_hu: float, edge_mm: float = 0.0
) -> None:
    """Blend a filled ellipse into a plane, touching only its surroundings."""
    reach_mm = 1.5 * max(ellipse.half_x_mm, ellipse.half_y_mm) + edge_mm
    window = grid.window(ellipse.x_mm, ellipse.y_mm, reach_mm)
    distance = distance_mm(ellipse, grid.x_mm[window], grid.y_mm[window])
    paint(plane_hu[window], soft_inside(distance, max(edge_mm, grid.pixel_mm)), value_hu)


def ellipse_outside(field_to_cut: FloatArray, grid: Grid, ellipse: Ellipse) -> None:
    """Remove an ellipse from an occupancy field, in place."""
    window = grid.window(
        ellipse.x_mm, ellipse.y_mm, 1.5 * max(ellipse.half_x_mm, ellipse.half_y_mm)
    )
    distance = distance_mm(ellipse, grid.x_mm[window], grid.y_mm[window])
    view = field_to_cut[window]
    np.minimum(view, 1 - soft_inside(distance, grid.pixel_mm), out=view)


@dataclass(frozen=True, slots=True)
class Axis:
    """Linear interpolation along one axis, from coarse samples to fine ones.

    Indexing instead of matrices: threads of a linear algebra library that wait for each other
    make small products very slow on a busy machine.
    """

    low: NDArray[np.intp] = field(repr=False)  #: (n fine,), index of the sample before
    high: NDArray[np.intp] = field(repr=False)  #: of the sample after
    share: FloatArray = field(repr=False)  #: weight of the sample after, 0 to 1


def axis_at(position: NDArray[np.floating], n_coarse: int) -> Axis:
    """Interpolate at fractional sample positions, edges held."""
    position = np.clip(position, 0, n_coarse - 1)
    low = np.floor(position).astype(np.intp)
    high = np.minimum(low + 1, n_coarse - 1)
    return Axis(low, high, np.asarray(position - low, np.float32))


def resize_axis(n_fine: int, n_coarse: int) -> Axis:
    """Spread coarse samples evenly over the same extent."""
    return axis_at((np.arange(n_fine) + 0.5) * n_coarse / n_fine - 0.5, n_coarse)


Axes = tuple[Axis, Axis, Axis]


def layer_between(coarse: FloatArray, axes: Axes, slice_index: int) -> FloatArray:
    """Give one plane, still coarse in rows and columns."""
    along = axes[0]
    low, high = coarse[along.low[slice_index]], coarse[along.high[slice_index]]
    return np.asarray(low + along.share[slice_index] * (high - low))


def interpolated_plane(coarse: FloatArray, axes: Axes, slice_index: int) -> FloatArray:
    """Give one plane of a coarse field, ``(rows, columns)``."""
    layer = layer_between(coarse, axes, slice_index)
    _, rows, columns = axes
    layer = layer[rows.low] + rows.share[:, None] * (layer[rows.high] - layer[rows.low])
    before = layer[:, columns.low]
    return np.asarray(before + columns.share * (layer[:, columns.high] - before), np.float32)


@dataclass(frozen=True, slots=True)
class SmoothNoise:
    """A random field of unit variance, stored coarse and read plane by plane."""

    coarse: FloatArray = field(repr=False)  #: (coarse slices, coarse rows, coarse columns)
    axes: Axes = field(repr=False)

    def plane(self, slice_index: int) -> FloatArray:
        """Give one plane, ``(rows, columns)``."""
        return interpolated_plane(self.coarse, self.axes, slice_index)

    def volume(self) -> FloatArray:
        """Give the whole field, ``(slices, rows, columns)``."""
        return np.stack([self.plane(index) for index in range(len(self.axes[0].low))])


def smooth_noise(
    rng: np.random.Generator,
    shape: tuple[int, int, int],
    spacing_mm: tuple[float, float, float],
    correlation_mm: float,
) -> SmoothNoise:
    """Draw a smooth random field with roughly the given correlation length."""
    step_mm = correlation_mm / 1.5
    coarse_shape = [
        max(2, min(count, round(count * spacing / step_mm)))
        for count, spacing in zip(shape, spacing_mm, strict=True)
    ]
    coarse = rng.standard_normal(coarse_shape, dtype=np.float32)
    coarse = ndimage.gaussian_filter(coarse, 0.8)
    coarse -= coarse.mean()
    coarse /= max(float(coarse.std()), 1e-6)
    slices, rows, columns = (
        resize_axis(fine, rough) for fine, rough in zip(shape, coarse_shape, strict=True)
    )
    return SmoothNoise(coarse, (slices, rows, columns))
