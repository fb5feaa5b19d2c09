"""Arteries, veins and airways of both lungs of a phantom."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from models.phantom.body import SIDES
from models.phantom.grid import FloatArray, Grid, paint
from models.phantom.spec import LEFT_LUNG, RIGHT_LUNG
from models.phantom.trees import Tree, Tubes, grow_tree, join_tubes, tube_occupancy, tubes_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from models.phantom.anatomy import Anatomy

VESSEL_HU = 42.0
AIRWAY_HU = -985.0
WALL_HU = -60.0
_WALL_MM = 0.8
#: Twigs per litre of lung.
_ARTERIES_PER_LITRE = 400
_VEINS_PER_LITRE = 310
_TWIG_RADIUS_MM = 0.5
#: Arteries from this radius have a visible airway at their side.
_LEAST_ACCOMPANIED_MM = 1.5


@dataclass(frozen=True, slots=True)
class PulmonaryTrees:
    """Tubes of both lungs in patient millimetres."""

    vessels: Tubes = field(repr=False)
    airways: Tubes = field(repr=False)


def grow_pulmonary_trees(
    anatomy: Anatomy, grid: Grid, lung_labels: NDArray[np.uint8], z_mm: FloatArray
) -> PulmonaryTrees:
    """Grow the trees of both lungs and the large airways.

    Parameters
    ----------
    lung_labels
        ``(slices, rows, columns)``.
    z_mm
        Height of every slice.
    """
    rng = np.random.default_rng(anatomy.tree_seed)
    vessels: list[Tubes] = []
    airways = [_central_airways(anatomy)]
    for side, label in zip(SIDES, (RIGHT_LUNG, LEFT_LUNG), strict=True):
        for per_litre, shift_mm in ((_ARTERIES_PER_LITRE, 0.0), (_VEINS_PER_LITRE, -16.0)):
            targets = _targets(grid, lung_labels == label, z_mm, per_litre, rng)
            if len(targets) == 0:
                continue
            height_mm = (0.55 + 0.02 * side) * anatomy.lung_height_mm + shift_mm
            tree = grow_tree(
                (side * 31, 8 - 0.4 * shift_mm, height_mm),
                targets,
                twig_radius_mm=_TWIG_RADIUS_MM,
                largest_radius_mm=7.5,
            )
            vessels.append(tubes_of(tree))
            if shift_mm == 0:
                airways.append(
                    tubes_of(
                        tree, least_radius_mm=_LEAST_ACCOMPANIED_MM, shift_mm=0.4, radius_share=0.62
                    )
                )
    return PulmonaryTrees(join_tubes([*vessels, _no_tubes()]), join_tubes(airways))


def _no_tubes() -> Tubes:
    nothing = np.zeros(0, np.float32)
    return Tubes(np.zeros((0, 3), np.float32), nothing, nothing)


def _targets(
    grid: Grid,
    lung: NDArray[np.bool_],
    z_mm: FloatArray,
    per_litre: int,
    rng: np.random.Generator,
) -> NDArray[np.float64]:
    """Draw points evenly in a lung, some millimetres off its surface, x y z."""
    stride = max(1, round(3.0 / grid.pixel_mm))
    coarse = lung[:, ::stride, ::stride]
    voxels = np.argwhere(coarse)
    if len(voxels) == 0:
        return np.zeros((0, 3))
    spacing_mm = float(z_mm[1] - z_mm[0]) if len(z_mm) > 1 else 5.0
    litres = len(voxels) * spacing_mm * (stride * grid.pixel_mm) ** 2 / 1e6
    chosen = voxels[rng.integers(0, len(voxels), max(1, round(per_litre * litres)))]
    jitter = rng.uniform(-0.5, 0.5, chosen.shape)
    at = chosen[:, 1] * stride, chosen[:, 2] * stride
    return np.stack(
        [
            grid.x_mm[at] + jitter[:, 2] * stride * grid.pixel_mm,
            grid.y_mm[at] + jitter[:, 1] * stride * grid.pixel_mm,
            z_mm[chosen[:, 0]] + jitter[:, 0] * spacing_mm,
        ],
        axis=1,
    ).astype(np.float64)


def _central_airways(anatomy: Anatomy) -> Tubes:
    """Lay trachea and main bronchi."""
    height_mm = anatomy.lung_height_mm
    carina = np.array([2.0, 20.0, anatomy.carina_level * height_mm])
    top = np.array([0.0, -2.0, 1.35 * height_mm])
    right, left = (
        np.array([side * 33.0, 14.0, (0.56 + 0.015 * side) * height_mm]) for side in (-1, 1)
    )
    paths = [(top, carina, 8.6, 8.2), (carina, right, 7.6, 6.0), (carina, left, 6.8, 5.2)]
    return join_tubes([tubes_of(_straight(*path)) for path in paths])


def _straight(
    start: NDArray[np.float64], end: NDArray[np.float64], first_mm: float, last_mm: float
) -> Tree:
    """Give a tree of one unbranched, tapering piece."""
    n_nodes = 12
    share = np.linspace(0, 1, n_nodes)
    return Tree(
        start + share[:, None] * (end - start),
        np.maximum(np.arange(n_nodes) - 1, 0),
        first_mm + share * (last_mm - first_mm),
    )


def paint_trees(
    trees: PulmonaryTrees, grid: Grid, z_mm: float, thickness_mm: float, plane_hu: FloatArray
) -> None:
    """Draw vessels, then airways with their walls, into one plane, in place."""
    paint(plane_hu, tube_occupancy(trees.vessels, grid, z_mm, thickness_mm), VESSEL_HU)
    wall = tube_occupancy(trees.airways, grid, z_mm, thickness_mm, _WALL_MM)
    lumen = tube_occupancy(trees.airways, grid, z_mm, thickness_mm)
    # Walls brighten lung only: in the mediastinum they meet soft tissue.
    paint(plane_hu, np.maximum(wall - lumen, 0), np.maximum(plane_hu, WALL_HU))
    paint(plane_hu, lumen, AIRWAY_HU)
