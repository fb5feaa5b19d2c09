"""Where the lungs are, and what their parenchyma looks like without vessels."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from models.phantom.grid import Ellipse, FloatArray, distance_mm, ellipse_outside, soft_inside

if TYPE_CHECKING:
    from models.phantom.body import Plane
    from models.phantom.viscera import Diaphragm, Organ

#: Parietal pleura and endothoracic fascia between lung and ribs.
PLEURA_MM = 1.5


def lung_occupancy(plane: Plane, diaphragm: Diaphragm, organs: list[Organ]) -> FloatArray:
    """Give the share of each voxel that is lung, both lungs together.

    Returns
    -------
    :
        ``(rows, columns)``, 0 to 1.
    """
    anatomy, grid, level = plane.anatomy, plane.grid, plane.level
    cavity = anatomy.cavity(level).grown(-PLEURA_MM)
    lungs = soft_inside(distance_mm(cavity, grid.x_mm, grid.y_mm), grid.pixel_mm)
    lungs = np.minimum(lungs, _beside_mediastinum(plane))
    lungs = np.minimum(lungs, diaphragm.above(plane.z_mm, plane.thickness_mm, grid.pixel_mm))
    for organ in organs:
        ellipse_outside(lungs, grid, organ.shape.grown(organ.margin_mm))
    vertebra = anatomy.vertebra(level)
    ellipse_outside(lungs, grid, vertebra.grown(5.0))
    behind = Ellipse(0, vertebra.y_mm + 30, 30, 27)
    ellipse_outside(lungs, grid, behind)
    return lungs


def _beside_mediastinum(plane: Plane) -> FloatArray:
    """Cut out the midline; the lungs nearly meet behind the sternum."""
    half_mm = plane.anatomy.strip_half_width_mm(plane.level)
    depth_mm = plane.anatomy.cavity_half_depth_mm
    anterior = np.clip((-plane.grid.y_mm / np.float32(depth_mm) - 0.25) / 0.4, 0, 1)
    narrowing = 0.75 * min(max((0.88 - plane.level) / 0.1, 0.0), 1.0)
    middle = np.exp(-(((plane.grid.y_mm - 6) / 30) ** 2))
    half_width = np.float32(half_mm) * (1 - np.float32(narrowing) * anterior)
    half_width = half_width * (0.7 + 0.36 * middle) + 1.2 * plane.textures.tissue
    return soft_inside(half_width - np.abs(plane.grid.x_mm - 2), plane.grid.pixel_mm)


def parenchyma_hu(plane: Plane) -> FloatArray:
    """Give lung tissue without visible vessels: denser where blood and weight sink to."""
    anatomy = plane.anatomy
    share = plane.grid.y_mm / np.float32(2 * anatomy.cavity_half_depth_mm)
    dependent = np.clip(share * 2, 0, 1) ** 4 * 40
    texture = plane.textures.parenchyma
    # Vessels too small to be drawn add what is drawn too little.
    base = np.float32(anatomy.lung_hu - 15) + np.float32(anatomy.gravity_hu) * share
    return np.asarray(np.maximum(base + dependent + 11 * texture, -990), np.float32)
