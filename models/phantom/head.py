"""A head: skull, brain, orbits, sinuses. It has air in it and no lungs, and must be refused."""

from __future__ import annotations

import math

import numpy as np

from models.phantom.acquisition import (
    air_plane,
    draw_noise,
    noise_filter,
    sharpen_or_blur,
    to_stored,
)
from models.phantom.body import CORTEX_HU, FAT_HU, MUSCLE_HU, SIDES, SKIN_HU
from models.phantom.grid import (
    Ellipse,
    FloatArray,
    Grid,
    distance_mm,
    make_grid,
    paint,
    paint_ellipse,
    smooth_noise,
    soft_inside,
)
from models.phantom.spec import Kernel, Pattern, Phantom, PhantomSpec

GREY_MATTER_HU = 38.0
WHITE_MATTER_HU = 28.0
FLUID_HU = 6.0
_SINUS_HU = -985.0
#: Heights of skull base and vertex above the middle of the scan.
_SKULL_BASE_MM = -28.0
_VERTEX_MM = 96.0


def head_spec(seed: int) -> PhantomSpec:
    """Give the protocol of a head scan."""
    return PhantomSpec(
        seed=seed,
        pattern=Pattern.NORMAL,
        n_slices=36,
        slice_spacing_mm=5.0,
        pixel_spacing_mm=0.45,
        kernel=Kernel.SOFT,
        noise_hu=5.0,
    )


def make_head(seed: int, *, spec: PhantomSpec | None = None) -> Phantom:
    """Make a head CT volume.

    Parameters
    ----------
    spec
        Grid, kernel and noise instead of those of `head_spec`; its pattern must be normal.

    Returns
    -------
    :
        A phantom without any lung or lesion.

    Raises
    ------
    ValueError
        The pattern of the spec is not normal.
    """
    spec = spec or head_spec(seed)
    if spec.pattern is not Pattern.NORMAL:
        raise ValueError(f"pattern is {spec.pattern.value}; a head has none, give normal.")
    rng = np.random.default_rng([seed, 11])
    size = float(rng.normal(1.0, 0.04))
    offset_mm = (float(rng.uniform(-6, 6)), float(rng.uniform(-8, 8)))
    grid = make_grid(
        spec.rows, spec.columns, spec.pixel_spacing_mm, offset_mm, float(rng.uniform(-0.06, 0.06))
    )
    shape = (spec.n_slices, spec.rows, spec.columns)
    folds = smooth_noise(rng, shape, spec.spacing_mm, 9.0)
    amplitude = noise_filter(grid.shape, spec.pixel_spacing_mm, spec.kernel)
    volume = np.empty(shape, np.int16)
    for index in range(spec.n_slices):
        z_mm = (index - (spec.n_slices - 1) / 2) * spec.slice_spacing_mm / size
        plane_hu = _paint_plane(grid, z_mm, size, folds.plane(index))
        image = sharpen_or_blur(plane_hu, spec.pixel_spacing_mm, spec.kernel)
        image += np.float32(spec.noise_hu) * draw_noise(rng, grid.shape, amplitude)
        volume[index] = to_stored(image)
    return Phantom(
        volume,
        spec.spacing_mm,
        np.zeros(shape, np.uint8),
        np.zeros(shape, bool),
        spec.pattern,
        spec.kernel,
    )


def _paint_plane(grid: Grid, z_mm: float, size: float, folds: FloatArray) -> FloatArray:
    """Paint one plane; heights are those of a head of average size."""
    plane_hu = air_plane(grid)
    roundness = math.sqrt(max(0.0, 1 - max(0.0, (z_mm - 5) / (_VERTEX_MM - 5)) ** 2))
    if roundness == 0:
        return plane_hu
    scalp = Ellipse(0, 0, 78 * size * roundness, 98 * size * roundness, squareness=0.25)
    paint_ellipse(plane_hu, grid, scalp, SKIN_HU)
    paint_ellipse(plane_hu, grid, scalp.grown(-2), FAT_HU)
    _paint_headrest(grid, plane_hu, scalp)
    if z_mm < _SKULL_BASE_MM:
        _paint_face(grid, plane_hu, z_mm, size, folds)
        return plane_hu
    skull = scalp.grown(-5)
    paint_ellipse(plane_hu, grid, skull, CORTEX_HU + 400)
    paint_ellipse(plane_hu, grid, skull.grown(-7), FLUID_HU + 4)
    _paint_brain(grid, plane_hu, skull.grown(-9), z_mm, folds)
    if z_mm < 12:  # noqa: PLR2004 - orbits and frontal sinus lie in the lowest planes
        _paint_orbits(grid, plane_hu, size)
    return plane_hu


def _paint_headrest(grid: Grid, plane_hu: FloatArray, scalp: Ellipse) -> None:
    depth = distance_mm(scalp.grown(16), grid.x_mm, grid.y_mm)
    is_shell = (np.abs(depth) < 2) & (grid.y_mm > 10) & (plane_hu < -900)  # noqa: PLR2004
    plane_hu[is_shell] = -150


def _paint_brain(
    grid: Grid, plane_hu: FloatArray, brain: Ellipse, z_mm: float, folds: FloatArray
) -> None:
    """Paint cortex with sulci, white matter and the lateral ventricles."""
    depth = distance_mm(brain, grid.x_mm, grid.y_mm)
    inside = soft_inside(depth, 1.5)
    paint(plane_hu, inside, GREY_MATTER_HU)
    white = soft_inside(depth + 9 + 4 * folds, 3) * inside
    paint(plane_hu, white, WHITE_MATTER_HU)
    sulci = np.exp(-((folds / 0.2) ** 2)) * soft_inside(-depth - 9, 5) * inside
    paint(plane_hu, 0.8 * sulci, FLUID_HU)
    paint_ellipse(plane_hu, grid, Ellipse(0, 0, 0.9, brain.half_y_mm), GREY_MATTER_HU + 20)
    share = 1 - ((z_mm - 28) / 24) ** 2
    if share > 0:
        for side in SIDES:
            for y_mm, lean in ((-22.0, -0.5), (24.0, 0.45)):
                horn = Ellipse(side * 11, y_mm, 5 * share, 17 * share, side * lean)
                paint_ellipse(plane_hu, grid, horn, FLUID_HU, 1.5)


def _paint_orbits(grid: Grid, plane_hu: FloatArray, size: float) -> None:
    for side in SIDES:
        orbit = Ellipse(side * 31 * size, -72 * size, 19, 22)
        paint_ellipse(plane_hu, grid, orbit, FAT_HU)
        paint_ellipse(plane_hu, grid, Ellipse(orbit.x_mm, orbit.y_mm - 6, 12, 12), FLUID_HU + 10)
    cells = Ellipse(0, -70 * size, 11, 20, squareness=0.5)
    paint_ellipse(plane_hu, grid, cells, CORTEX_HU)
    for y_mm in (-82.0, -70.0, -58.0):
        for side in SIDES:
            paint_ellipse(plane_hu, grid, Ellipse(side * 5, y_mm * size, 3.8, 4.5), _SINUS_HU)


def _paint_face(
    grid: Grid, plane_hu: FloatArray, z_mm: float, size: float, folds: FloatArray
) -> None:
    """Paint jaws, airway, maxillary sinuses and neck muscles below the skull base."""
    muscle = Ellipse(0, 18, 64 * size, 64 * size)
    depth = distance_mm(muscle, grid.x_mm, grid.y_mm)
    paint(plane_hu, soft_inside(depth + 4 * folds, 4) * np.clip(folds + 1.4, 0, 1), MUSCLE_HU)
    paint_ellipse(plane_hu, grid, Ellipse(0, 34, 15, 12), CORTEX_HU)
    paint_ellipse(plane_hu, grid, Ellipse(0, 50, 11, 9), GREY_MATTER_HU)
    paint_ellipse(plane_hu, grid, Ellipse(0, 2, 11, 8), _SINUS_HU)
    for side in SIDES:
        ramus = Ellipse(side * 46 * size, -10, 5, 20, side * 0.25)
        paint_ellipse(plane_hu, grid, ramus, CORTEX_HU + 200)
        mastoid = Ellipse(side * 50 * size, 30, 11, 14)
        paint_ellipse(plane_hu, grid, mastoid, CORTEX_HU)
        if z_mm > _SKULL_BASE_MM - 38:
            sinus = Ellipse(side * 25 * size, -52 * size, 15, 18)
            paint_ellipse(plane_hu, grid, sinus.grown(2), CORTEX_HU)
            paint_ellipse(plane_hu, grid, sinus, _SINUS_HU)
    if z_mm <= _SKULL_BASE_MM - 38:
        arch = Ellipse(0, -40 * size, 38 * size, 46 * size)
        ring = np.abs(distance_mm(arch, grid.x_mm, grid.y_mm)) - 5
        front = soft_inside(grid.y_mm + 38, 4)
        paint(plane_hu, soft_inside(ring, grid.pixel_mm) * front, CORTEX_HU + 500)
