"""What lies inside the rib cage besides the lungs: mediastinum, diaphragm, upper abdomen."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from models.phantom.body import FAT_HU, MUSCLE_HU, SIDES, Plane
from models.phantom.grid import (
    Ellipse,
    FloatArray,
    Grid,
    Window,
    distance_mm,
    paint,
    paint_ellipse,
    smoothstep,
    soft_inside,
)

if TYPE_CHECKING:
    from models.phantom.anatomy import Anatomy

BLOOD_HU = 41.0
LIVER_HU = 58.0
SPLEEN_HU = 48.0
KIDNEY_HU = 31.0
BOWEL_HU = 28.0
GAS_HU = -960.0


@dataclass(frozen=True, slots=True)
class Diaphragm:
    """Height of the diaphragm over the image plane."""

    height_mm: FloatArray = field(repr=False)  #: (rows, columns), z of the surface
    slope: FloatArray = field(repr=False)  #: (rows, columns), absolute, millimetres per millimetre

    def above(self, z_mm: float, thickness_mm: float, pixel_mm: float) -> FloatArray:
        """Give the share of each voxel that lies above the diaphragm."""
        width_mm = thickness_mm + self.slope * np.float32(pixel_mm)
        return np.clip(0.5 + (z_mm - self.height_mm) / width_mm, 0, 1)

    def within(self, window: Window) -> Diaphragm:
        """Give a part of the image plane."""
        return Diaphragm(self.height_mm[window], self.slope[window])


def make_diaphragm(anatomy: Anatomy, grid: Grid) -> Diaphragm:
    """Model two domes, high in the middle, lowest behind and at the flanks."""
    half_width_mm, half_depth_mm = anatomy.cavity_half_width_mm, anatomy.cavity_half_depth_mm
    #: 1 at the front wall, 0 at the back wall
    front = np.clip(0.5 - grid.y_mm / np.float32(2 * half_depth_mm), 0, 1)
    rim = np.float32(0.5) * front**1.4
    centre_mm = 0.48 * half_width_mm
    heights = []
    for side, dome_mm in zip(SIDES, (anatomy.right_dome_mm, anatomy.left_dome_mm), strict=True):
        outward = grid.x_mm * np.float32(side) - np.float32(centre_mm)
        reach = np.where(outward > 0, half_width_mm - centre_mm, 1.3 * half_width_mm)
        square = (outward / reach) ** 2 + ((grid.y_mm + 6) / half_depth_mm) ** 2
        bulge = np.clip(1 - square, 0, 1) ** np.float32(0.75)
        heights.append(dome_mm * (rim + (1 - rim) * bulge))
    left = 1 / (1 + np.exp(-grid.x_mm / np.float32(6)))
    height = np.asarray(heights[0] * (1 - left) + heights[1] * left, np.float32)
    by_row, by_column = np.gradient(height, grid.pixel_mm)
    return Diaphragm(height, np.sqrt(by_row**2 + by_column**2))


@dataclass(frozen=True, slots=True)
class Organ:
    """One structure of the mediastinum in one plane."""

    shape: Ellipse
    value_hu: float
    margin_mm: float  #: fat around it that the lungs keep off


def heart_parts(anatomy: Anatomy, z_mm: float) -> list[Organ]:
    """Give the heart in one plane; empty above and below it."""
    scale = anatomy.heart_scale
    height_mm = z_mm - anatomy.left_dome_mm - 20
    half_mm = 54 * scale
    if abs(height_mm) >= half_mm:
        return []
    share = math.sqrt(1 - (height_mm / half_mm) ** 2)
    lean = height_mm / half_mm
    x_mm, y_mm = 20 + anatomy.heart_shift_mm - 13 * lean, -24 + 8 * lean
    ventricles = Ellipse(x_mm, y_mm, 58 * scale * share, 43 * scale * share, -0.55, 0.2)
    atria = Ellipse(x_mm - 26, y_mm + 22, 38 * scale * share, 30 * scale * share, 0.2)
    cavity = Ellipse(x_mm + 14, y_mm + 2, 26 * scale * share, 16 * scale * share, -0.55)
    margin_mm = 2.5 + 4 * share
    return [
        Organ(ventricles, BLOOD_HU + 8, margin_mm),
        Organ(atria, BLOOD_HU, margin_mm),
        Organ(cavity, BLOOD_HU - 4, 0.0),
    ]


def great_vessels(anatomy: Anatomy, level: float) -> list[Organ]:
    """Give aorta, pulmonary arteries and great veins in one plane."""
    radius_mm = anatomy.aorta_radius_mm
    front_mm = anatomy.vertebra(level).y_mm - anatomy.vertebra(level).half_y_mm
    organs = []
    if level < 0.79:  # noqa: PLR2004 - below the arch
        beside = smoothstep(0.02, 0.35, level)
        descending = Ellipse(
            6 + 17 * beside, front_mm - radius_mm * (1 - 0.95 * beside), *[radius_mm] * 2
        )
        organs.append(Organ(descending, BLOOD_HU, 2.0))
    parts = [
        (0.46, 0.78, Ellipse(-12, -22, 1.25 * radius_mm, 1.25 * radius_mm)),
        (0.745, 0.815, Ellipse(5, 8, 1.05 * radius_mm, 40, -0.5)),
        (0.50, 0.625, Ellipse(16, -30, 14, 15)),
        (0.56, 0.62, Ellipse(-14, 2, 28, 9, 0.1)),
        (0.58, 0.65, Ellipse(25, 0, 12, 13)),
        (0.50, 0.86, Ellipse(-25, -14, 8.5, 9.5)),
        (0.36, 0.52, Ellipse(-2, 22, 36, 16)),
        (0.81, 1.15, Ellipse(-18, -14 + 30 * max(level - 0.81, 0), 7, 7)),
        (0.81, 1.15, Ellipse(-1, -6 + 20 * max(level - 0.81, 0), 4.5, 4.5)),
        (0.81, 1.15, Ellipse(15, 4 + 20 * max(level - 0.81, 0), 5, 5)),
        (0.83, 0.92, Ellipse(4, -24, 20, 6, -0.2)),
    ]
    organs += [Organ(shape, BLOOD_HU, 2.0) for low, high, shape in parts if low < level < high]
    return organs


def hila(level: float) -> list[Organ]:
    """Give the two lung roots, where vessels and bronchi enter."""
    share = 1 - ((level - 0.55) / 0.1) ** 2
    if share <= 0:
        return []
    width_mm = 16 * math.sqrt(share)
    return [Organ(Ellipse(side * 29, 8, width_mm, 1.25 * width_mm), FAT_HU, 0.0) for side in SIDES]


def oesophagus(anatomy: Anatomy, level: float) -> Organ:
    """Give the oesophagus, before the spine and behind the trachea."""
    vertebra = anatomy.vertebra(level)
    return Organ(Ellipse(5, vertebra.y_mm - vertebra.half_y_mm - 9, 9, 6), 34.0, 1.5)


def paint_mediastinum(plane: Plane, plane_hu: FloatArray, organs: list[Organ]) -> None:
    """Paint fat, then the structures in it, over the whole cavity, in place."""
    grid = plane.grid
    neck = smoothstep(0.86, 1.0, plane.level)
    if neck > 0:
        # Thyroid and neck muscles, where the lungs leave room.
        strength = neck * np.clip(plane.textures.tissue + 1.1, 0, 1)
        paint(plane_hu, strength, MUSCLE_HU + 6)
    for organ in organs:
        if organ.value_hu > FAT_HU:
            paint_ellipse(plane_hu, grid, organ.shape, organ.value_hu, 1.2)


def paint_abdomen(plane: Plane) -> FloatArray:
    """Give the upper abdomen of one plane, to be laid under the diaphragm."""
    anatomy, grid, level = plane.anatomy, plane.grid, plane.level
    texture = plane.textures.tissue
    abdomen = np.asarray(FAT_HU + 8 * texture, np.float32)
    low = smoothstep(0.15, -0.45, level)
    half_mm = anatomy.cavity_half_width_mm
    spleen_share = 1 - ((level - 0.1) / 0.32) ** 2
    if spleen_share > 0:
        size = math.sqrt(spleen_share)
        spleen = Ellipse(0.72 * half_mm, 34, 32 * size, 48 * size, -0.35)
        paint_ellipse(abdomen, grid, spleen, SPLEEN_HU, 1.5)
    _paint_stomach(plane, abdomen)
    liver = Ellipse(
        -0.42 * half_mm - 20 * low,
        -4 + 6 * low,
        (0.86 - 0.42 * low) * half_mm,
        84 - 26 * low,
        -0.12,
        0.4,
    )
    if level > -0.55:  # noqa: PLR2004 - lower edge of the liver
        paint_ellipse(abdomen, grid, liver, LIVER_HU, 1.5)
    _paint_behind(plane, abdomen)
    if level < -0.12:  # noqa: PLR2004 - below the stomach
        _paint_bowel(plane, abdomen)
    return abdomen


def _paint_stomach(plane: Plane, abdomen: FloatArray) -> None:
    share = 1 - ((plane.level - 0.08) / 0.36) ** 2
    if share <= 0:
        return
    size = math.sqrt(share)
    stomach = Ellipse(52, -22, 42 * size, 36 * size, -0.4)
    paint_ellipse(abdomen, plane.grid, stomach, 42.0, 1.5)
    content = stomach.grown(-4)
    paint_ellipse(abdomen, plane.grid, content, 22.0, 1.5)
    # Gas rises to the front of a patient who lies on the back.
    gas_mm = content.half_y_mm * (0.2 + 0.6 * plane.anatomy.stomach_gas)
    window = plane.grid.window(content.x_mm, content.y_mm, 60)
    x_mm, y_mm = plane.grid.x_mm[window], plane.grid.y_mm[window]
    inside = soft_inside(distance_mm(content, x_mm, y_mm), plane.grid.pixel_mm)
    surface = soft_inside(y_mm - content.y_mm + content.half_y_mm - gas_mm, plane.grid.pixel_mm)
    paint(abdomen[window], inside * surface, GAS_HU)


def _paint_behind(plane: Plane, abdomen: FloatArray) -> None:
    """Paint aorta, inferior vena cava, crura, psoas and kidneys."""
    anatomy, grid, level = plane.anatomy, plane.grid, plane.level
    vertebra = anatomy.vertebra(level)
    front_mm = vertebra.y_mm - vertebra.half_y_mm
    radius_mm = anatomy.aorta_radius_mm
    paint_ellipse(abdomen, grid, Ellipse(-24, front_mm - 14, 13, 9), BLOOD_HU, 1.2)
    for side in SIDES:
        crus = Ellipse(side * 14, front_mm - 2, 5, 16, side * 0.3)
        paint_ellipse(abdomen, grid, crus, MUSCLE_HU)
        psoas_mm = 8 + 14 * smoothstep(-0.05, -0.6, level)
        psoas = Ellipse(side * (vertebra.half_x_mm + 12), vertebra.y_mm + 2, psoas_mm, psoas_mm)
        paint_ellipse(abdomen, grid, psoas, MUSCLE_HU)
        share = 1 - ((level + 0.3) / (0.24 + 0.03 * side)) ** 2
        if share > 0:
            kidney = Ellipse(side * 60, front_mm + 6, 27 * share**0.5, 31 * share**0.5, side * 0.5)
            paint_ellipse(abdomen, grid, kidney, KIDNEY_HU, 1.2)
            sinus = Ellipse(side * 50, front_mm + 2, 10 * share, 9 * share)
            paint_ellipse(abdomen, grid, sinus, FAT_HU + 20, 2.0)
    paint_ellipse(abdomen, grid, Ellipse(6, front_mm - radius_mm, *[radius_mm] * 2), BLOOD_HU, 1.2)


def _paint_bowel(plane: Plane, abdomen: FloatArray) -> None:
    """Paint loops whose place drifts from plane to plane."""
    anatomy, grid = plane.anatomy, plane.grid
    rng = np.random.default_rng(anatomy.tree_seed)
    fade = smoothstep(-0.1, -0.22, plane.level)
    for _ in range(18):
        phase, pace = rng.uniform(0, 2 * math.pi), rng.uniform(25, 60)
        x_mm = rng.uniform(-70, 90) + 9 * math.sin(plane.z_mm / pace + phase)
        y_mm = rng.uniform(-66, 20) + 7 * math.cos(plane.z_mm / pace + phase)
        half_mm = rng.uniform(10, 18) * fade * (0.8 + 0.2 * math.sin(plane.z_mm / pace))
        is_gassy = rng.random() < 0.35  # noqa: PLR2004 - about a third of the loops
        is_covered = x_mm < 10 and plane.level > -0.4  # noqa: PLR2004 - the liver is there
        if half_mm < 4 or is_covered:  # noqa: PLR2004
            continue
        loop = Ellipse(x_mm, y_mm, half_mm, 0.85 * half_mm, phase)
        paint_ellipse(abdomen, grid, loop, BOWEL_HU + 10, 1.5)
        if is_gassy:
            gas = Ellipse(x_mm, y_mm - 0.3 * half_mm, 0.7 * half_mm, 0.45 * half_mm)
            paint_ellipse(abdomen, grid, gas, GAS_HU, 1.0)
