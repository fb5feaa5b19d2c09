"""Body wall of one plane: skin, fat, muscle, ribs, spine, sternum and shoulder girdle."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from models.phantom.grid import (
    Ellipse,
    FloatArray,
    Grid,
    SmoothNoise,
    Window,
    box_around,
    distance_mm,
    paint,
    paint_ellipse,
    smooth_noise,
    smooth_union,
    smoothstep,
    soft_inside,
)

if TYPE_CHECKING:
    from models.phantom.anatomy import Anatomy

FAT_HU = -102.0
MUSCLE_HU = 54.0
SKIN_HU = 20.0
CORTEX_HU = 720.0
MARROW_HU = 210.0
CARTILAGE_HU = 105.0
CORD_HU = 30.0
SIDES = (-1.0, 1.0)
#: Pixels between those that tell where the patient lies, and room left around the patient.
_COARSE_STEP = 8
_ROOM_MM = 12.0
#: Half the thickness of a rib, across the chest wall.
_RIB_HALF_MM = 4.6


@dataclass(frozen=True, slots=True)
class Textures:
    """Slow variations that make tissue look like tissue, over the volume."""

    tissue: SmoothNoise = field(repr=False)  #: fat strands and muscle planes
    parenchyma: SmoothNoise = field(repr=False)  #: secondary lobules and their perfusion

    def of_slice(self, index: int) -> SliceTextures:
        """Give both fields in one slice."""
        return SliceTextures(self.tissue.plane(index), self.parenchyma.plane(index))


@dataclass(frozen=True, slots=True)
class SliceTextures:
    """The same in one slice, ``(rows, columns)``, unit variance."""

    tissue: FloatArray = field(repr=False)
    parenchyma: FloatArray = field(repr=False)

    def within(self, window: Window) -> SliceTextures:
        """Give both in a part of the slice."""
        return SliceTextures(self.tissue[window], self.parenchyma[window])


@dataclass(frozen=True, slots=True)
class Plane:
    """One plane to be painted."""

    anatomy: Anatomy
    grid: Grid = field(repr=False)
    z_mm: float
    thickness_mm: float
    textures: SliceTextures = field(repr=False)

    @property
    def level(self) -> float:
        """Height in the chest, 0 at the lung bases, 1 at the apices."""
        return self.anatomy.level(self.z_mm)

    def within(self, window: Window) -> Plane:
        """Give a part of the plane."""
        return replace(self, grid=self.grid.within(window), textures=self.textures.within(window))


def draw_textures(
    rng: np.random.Generator, shape: tuple[int, int, int], spacing_mm: tuple[float, float, float]
) -> Textures:
    """Draw the random fields of one patient."""
    return Textures(
        smooth_noise(rng, shape, spacing_mm, 11.0), smooth_noise(rng, shape, spacing_mm, 7.0)
    )


def body_window(plane: Plane) -> Window:
    """Give the part of the image that shows the patient; around it is air."""
    step, shape = _COARSE_STEP, plane.grid.shape
    coarse = plane.within((slice(0, shape[0], step), slice(0, shape[1], step)))
    return box_around(body_distance_mm(coarse), _ROOM_MM, step, shape)


def body_distance_mm(plane: Plane) -> FloatArray:
    """Give the distance from the skin, negative inside the patient."""
    anatomy, grid, level = plane.anatomy, plane.grid, plane.level
    distance = distance_mm(anatomy.torso(level), grid.x_mm, grid.y_mm)
    shoulders = smoothstep(0.62, 0.98, level)
    if shoulders > 0:
        width_mm = anatomy.cavity_half_width_mm
        for side in SIDES:
            shoulder = Ellipse(
                side * (0.62 * width_mm + 28 * shoulders),
                22.0,
                (66 + 0.6 * anatomy.fat_mm) * (0.35 + 0.65 * shoulders),
                (56 + 0.6 * anatomy.fat_mm) * (0.35 + 0.65 * shoulders),
            )
            distance = smooth_union(distance, distance_mm(shoulder, grid.x_mm, grid.y_mm), 24.0)
    if anatomy.has_breasts:
        distance = _with_breasts(plane, distance)
    return distance


def _with_breasts(plane: Plane, distance: FloatArray) -> FloatArray:
    """Add two breasts between the levels of heart and arch."""
    anatomy, grid = plane.anatomy, plane.grid
    height = 1 - ((plane.level - 0.42) / 0.24) ** 2
    if height <= 0:
        return distance
    torso = anatomy.torso(plane.level)
    for side in SIDES:
        breast = Ellipse(
            side * anatomy.cavity_half_width_mm * 0.62,
            torso.y_mm - 0.92 * torso.half_y_mm + 8,
            46 * height**0.4,
            anatomy.breast_mm * height,
            side * 0.42,
        )
        distance = smooth_union(distance, distance_mm(breast, grid.x_mm, grid.y_mm), 12.0)
    return distance


def paint_body_wall(plane: Plane, plane_hu: FloatArray) -> FloatArray:
    """Paint everything outside the chest cavity, in place.

    Returns
    -------
    :
        Occupancy of the cavity within the rib cage, 0 to 1.
    """
    anatomy, grid, level = plane.anatomy, plane.grid, plane.level
    texture = plane.textures.tissue
    body = body_distance_mm(plane)
    cage = distance_mm(anatomy.rib_cage(level), grid.x_mm, grid.y_mm)
    edge_mm = grid.pixel_mm
    paint(plane_hu, soft_inside(body, edge_mm), SKIN_HU)
    fat = FAT_HU + 6 * texture
    if anatomy.has_breasts:
        fat = fat + _glands(plane, body, cage, texture)
    paint(plane_hu, soft_inside(body + 1.8, edge_mm), fat)
    muscle = soft_inside(body + 2.5 + 0.45 * anatomy.fat_mm + 1.5 * texture, 2.0)
    muscle *= soft_inside(cage - _muscle_mm(plane) - 2.5 * texture, 2.5)
    # Fat between the muscle layers follows the rib cage here and there.
    layers = np.exp(-(((cage - 13.5 - 2 * texture) / (1.2 + 0.8 * np.abs(texture))) ** 2))
    strands = np.clip(1.6 * texture - 1.2, 0, 1) * soft_inside(11 - cage, 4)
    sheaths = 0.75 * np.exp(-((texture / 0.13) ** 2)) * soft_inside(13 - cage, 4)
    layers *= 1 - smoothstep(0.85, 0.95, level)
    muscle *= 1 - np.clip(layers + strands + sheaths, 0, 1)
    paint(plane_hu, muscle, MUSCLE_HU + 4 * texture)
    return soft_inside(distance_mm(anatomy.cavity(level), grid.x_mm, grid.y_mm), edge_mm)


def _muscle_mm(plane: Plane) -> FloatArray:
    """Give how far muscle reaches out from the rib cage in every direction."""
    anatomy, grid, level = plane.anatomy, plane.grid, plane.level
    across = np.abs(grid.x_mm)
    behind = soft_inside(anatomy.back_mm(level) - 12 - grid.y_mm, 30)
    before = soft_inside(grid.y_mm + 0.45 * anatomy.cavity_half_depth_mm, 30)
    flank = soft_inside(0.6 * anatomy.cavity_half_width_mm - across, 40)
    chest = smoothstep(0.05, 0.6, level)
    reach = 9 + behind * (24 + 16 * soft_inside(across - 48, 20))
    reach = reach + flank * anatomy.muscle_mm * (0.25 + 0.9 * chest)
    pectoral = smoothstep(0.45, 0.6, level) * (0.6 * anatomy.muscle_mm + 4)
    reach = reach + before * (1 - 0.5 * flank) * pectoral * soft_inside(12 - across, 10)
    reach = reach + (flank + 0.5 * behind) * 75 * smoothstep(0.68, 0.92, level)
    return np.asarray(reach + 40 * smoothstep(0.9, 1.0, level), np.float32)


def _glands(plane: Plane, body: FloatArray, cage: FloatArray, texture: FloatArray) -> FloatArray:
    """Give the brightening by glandular tissue inside the breasts."""
    height = 1 - ((plane.level - 0.42) / 0.2) ** 2
    front = soft_inside(plane.grid.y_mm + 0.55 * plane.anatomy.cavity_half_depth_mm, 20)
    zone = front * soft_inside(26 - cage, 10) * soft_inside(body + 8, 6)
    return np.asarray(zone * np.clip(texture + 0.3, 0, 1) * 125 * max(0.0, height), np.float32)


def paint_bones(plane: Plane, plane_hu: FloatArray) -> None:
    """Paint ribs, spine, sternum, scapulae, clavicles and humeral heads, in place."""
    _paint_ribs(plane, plane_hu)
    _paint_sternum(plane, plane_hu)
    _paint_shoulder_girdle(plane, plane_hu)
    _paint_spine(plane, plane_hu)


def _paint_bone(plane_hu: FloatArray, grid: Grid, bone: Ellipse, cortex_mm: float = 1.8) -> None:
    paint_ellipse(plane_hu, grid, bone, CORTEX_HU)
    if min(bone.half_x_mm, bone.half_y_mm) > cortex_mm + 1:
        paint_ellipse(plane_hu, grid, bone.grown(-cortex_mm), MARROW_HU, 1.5)


def _paint_ribs(plane: Plane, plane_hu: FloatArray) -> None:
    """Paint where the sloping ribs cross this plane.

    All ribs are one periodic function of the height that a rib has at the spine.
    """
    anatomy, grid = plane.anatomy, plane.grid
    cage = anatomy.rib_cage(plane.level)
    outward_mm = distance_mm(cage.grown(6.5), grid.x_mm, grid.y_mm)
    ring = np.nonzero(np.abs(outward_mm) < _RIB_HALF_MM * (1 + 0.2 * grid.pixel_mm))
    outward_mm = outward_mm[ring]
    across = np.abs(grid.x_mm[ring] - cage.x_mm) / cage.half_x_mm
    down = (grid.y_mm[ring] - cage.y_mm) / cage.half_y_mm
    #: 0 at the spine, 1 at the sternum
    course = np.arctan2(across, down) / np.float32(math.pi)
    descent = np.sin(np.clip(course / 0.8, 0, 1) * np.float32(math.pi / 2)) ** 1.5
    descent -= 0.35 * np.clip((course - 0.8) / 0.2, 0, 1)
    origin_mm = plane.z_mm + anatomy.rib_slope_mm * descent
    turns = origin_mm / anatomy.rib_spacing_mm + anatomy.rib_phase
    beside_mm = (turns - np.round(turns)) * anatomy.rib_spacing_mm
    inside_mm = 5 * (1 - np.sqrt((outward_mm / _RIB_HALF_MM) ** 2 + (beside_mm / 6.6) ** 2))
    is_rib = (origin_mm < anatomy.lung_height_mm * 1.0) & (course > 0.1) & (course < 0.95)  # noqa: PLR2004
    is_rib &= (origin_mm > -0.4 * anatomy.lung_height_mm) | (course < 0.4)  # noqa: PLR2004
    bone = np.where(is_rib, soft_inside(-inside_mm, grid.pixel_mm), 0)
    cartilage = np.clip((course - 0.78) / 0.02, 0, 1)
    cortex_hu = CORTEX_HU + cartilage * (CARTILAGE_HU - CORTEX_HU)
    marrow_hu = MARROW_HU + 60 + cartilage * (CARTILAGE_HU - MARROW_HU - 60)
    ring_hu = plane_hu[ring]
    paint(ring_hu, bone, cortex_hu)
    paint(ring_hu, bone * soft_inside(1.7 - inside_mm, 1.2), marrow_hu)
    plane_hu[ring] = ring_hu


def _paint_sternum(plane: Plane, plane_hu: FloatArray) -> None:
    level = plane.level
    if not 0.22 < level < 0.9:  # noqa: PLR2004 - from xiphoid to manubrium
        return
    cage = plane.anatomy.rib_cage(level)
    manubrium = smoothstep(0.7, 0.82, level)
    half_mm = 15 + 13 * manubrium - 8 * smoothstep(0.35, 0.22, level)
    sternum = Ellipse(
        0, cage.y_mm - cage.half_y_mm - 6, half_mm, 5.5 + 2 * manubrium, squareness=0.6
    )
    _paint_bone(plane_hu, plane.grid, sternum, 1.4)


def _paint_shoulder_girdle(plane: Plane, plane_hu: FloatArray) -> None:
    anatomy, grid, level = plane.anatomy, plane.grid, plane.level
    width_mm = anatomy.cavity_half_width_mm
    for side in SIDES:
        if 0.5 < level < 1.02:  # noqa: PLR2004 - from the lower angle to the spine of the scapula
            length_mm = 10 + 36 * smoothstep(0.5, 0.8, level)
            blade = Ellipse(
                side * width_mm * 0.86,
                anatomy.back_mm(level) - 8 - 6 * smoothstep(0.6, 1.0, level),
                length_mm,
                3.4 + 3 * smoothstep(0.85, 1.0, level),
                -side * 0.75,
            )
            _paint_bone(plane_hu, grid, blade, 1.4)
        rise = (level - 0.88) / 0.16
        if 0 <= rise <= 1:
            cage = anatomy.rib_cage(level)
            clavicle = Ellipse(
                side * (24 + rise * (width_mm - 12)),
                cage.y_mm - cage.half_y_mm - 12 + 30 * rise,
                16 + 6 * rise,
                6.0,
                side * 0.25,
            )
            _paint_bone(plane_hu, grid, clavicle, 1.6)
        head_mm = (level - anatomy.shoulder_level - 0.08) * anatomy.lung_height_mm
        if abs(head_mm) < 22:  # noqa: PLR2004 - radius of a humeral head
            radius_mm = math.sqrt(22**2 - head_mm**2)
            head = Ellipse(side * (0.62 * width_mm + 58), 14, radius_mm, radius_mm)
            _paint_bone(plane_hu, grid, head, 1.6)


def _paint_spine(plane: Plane, plane_hu: FloatArray) -> None:
    anatomy, grid, level = plane.anatomy, plane.grid, plane.level
    body = anatomy.vertebra(level)
    turns = plane.z_mm / (anatomy.rib_spacing_mm + 1) + 0.3
    phase = turns - math.floor(turns)
    canal_y_mm = body.y_mm + body.half_y_mm + 9
    arch_hu = CORTEX_HU - 260
    if phase > 0.35:  # noqa: PLR2004 - pedicles spring from the upper part of a vertebra
        paint_ellipse(plane_hu, grid, Ellipse(0, canal_y_mm, 16, 13), arch_hu, 1.5)
        for side in SIDES:
            process = Ellipse(side * 27, canal_y_mm + 4, 16, 5, side * 0.35)
            _paint_bone(plane_hu, grid, process)
    else:
        for side in SIDES:
            joint = Ellipse(side * 13, canal_y_mm + 7, 7, 6, -side * 0.5)
            paint_ellipse(plane_hu, grid, joint, arch_hu, 1.5)
    spinous = Ellipse(0, canal_y_mm + 20 + 4 * phase, 3.6, 11, squareness=0.4)
    _paint_bone(plane_hu, grid, spinous, 1.2)
    paint_ellipse(plane_hu, grid, Ellipse(0, canal_y_mm, 10.5, 8.5), FAT_HU + 60)
    paint_ellipse(plane_hu, grid, Ellipse(0, canal_y_mm, 6, 5), CORD_HU, 1.5)
    if phase < 0.2:  # noqa: PLR2004 - an intervertebral disc
        paint_ellipse(plane_hu, grid, body, 85.0, 1.5)
    else:
        _paint_bone(plane_hu, grid, body)
