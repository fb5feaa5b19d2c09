"""Branching trees of vessels and airways: grown in a lung, drawn sparsely into planes.

A tree grows towards random targets; each target is joined where the added length and the turn are
least, which gives the long stems and short twigs of lungs. Radii follow Murray's law: the cubes of
the daughters' radii add up to their mother's.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from models.phantom.grid import FloatArray, Grid

#: Distance between the points that stand for a branch.
_STEP_MM = 0.8
#: Branches longer than this are split, so that later ones can spring from their middle.
_LONGEST_BRANCH_MM = 9.0


@dataclass(frozen=True, slots=True)
class Tree:
    """A rooted tree; node 0 is the root and its own parent."""

    nodes_mm: NDArray[np.float64] = field(repr=False)  #: (n, 3), x y z
    parents: NDArray[np.int64] = field(repr=False)  #: (n,), smaller than the node's own index
    radii_mm: NDArray[np.float64] = field(repr=False)  #: (n,), of the branch that ends here


@dataclass(frozen=True, slots=True)
class Tubes:
    """Points along branches, ready to be drawn."""

    points_mm: FloatArray = field(repr=False)  #: (n, 3), x y z
    radii_mm: FloatArray = field(repr=False)  #: (n,)
    steepness: FloatArray = field(repr=False)  #: (n,), 1 along the body axis, 0 in the plane


def grow_tree(
    root_mm: tuple[float, float, float],
    targets_mm: NDArray[np.float64],
    *,
    twig_radius_mm: float,
    largest_radius_mm: float,
) -> Tree:
    """Grow a tree from its root to all targets.

    Parameters
    ----------
    targets_mm
        ``(n, 3)``, x y z; near ones are joined first.
    twig_radius_mm, largest_radius_mm
        Radius at a target, and a cap for the stem.
    """
    origin = np.asarray(root_mm, np.float64)
    order = np.argsort(np.linalg.norm(targets_mm - origin, axis=1))
    capacity = 1 + 14 * len(targets_mm)
    nodes = np.empty((capacity, 3))
    headings = np.zeros((capacity, 3))
    lengths = np.zeros(capacity)
    parents = np.zeros(capacity, np.int64)
    nodes[0] = origin
    n_nodes = 1
    for target in targets_mm[order]:
        gap = target - nodes[:n_nodes]
        distance = np.sqrt(np.einsum("ij,ij->i", gap, gap))
        turn = 1 - np.einsum("ij,ij->i", gap, headings[:n_nodes]) / np.maximum(distance, 1e-6)
        cost = distance * (1 + 1.1 * turn) + 0.45 * lengths[:n_nodes]
        parent = int(np.argmin(cost))
        n_pieces = min(12, max(1, int(np.ceil(distance[parent] / _LONGEST_BRANCH_MM))))
        bent = headings[parent] * distance[parent] * 0.35
        start = nodes[parent].copy()
        for piece in range(1, n_pieces + 1):
            share = piece / n_pieces
            # A quadratic curve that leaves in the direction of its mother.
            nodes[n_nodes] = start + share * (target - start) + 2 * share * (1 - share) * bent
            step = nodes[n_nodes] - nodes[parent]
            step_mm = float(np.linalg.norm(step))
            headings[n_nodes] = step / max(step_mm, 1e-6)
            lengths[n_nodes] = lengths[parent] + step_mm
            parents[n_nodes] = parent
            parent = n_nodes
            n_nodes += 1
    parents = parents[:n_nodes]
    radii = _murray_radii(parents, twig_radius_mm)
    return Tree(nodes[:n_nodes], parents, np.minimum(radii, largest_radius_mm))


def _murray_radii(parents: NDArray[np.int64], twig_radius_mm: float) -> NDArray[np.float64]:
    """Add up the cubes of the radii from the twigs to the root."""
    n_twigs = np.zeros(len(parents))
    is_mother = np.zeros(len(parents), bool)
    is_mother[parents[1:]] = True
    n_twigs[~is_mother] = 1
    for node in range(len(parents) - 1, 0, -1):
        n_twigs[parents[node]] += n_twigs[node]
    return np.asarray(twig_radius_mm * np.maximum(n_twigs, 1) ** (1 / 2.75), np.float64)


def tubes_of(
    tree: Tree,
    *,
    least_radius_mm: float = 0.0,
    shift_mm: float = 0.0,
    radius_share: float = 1.0,
) -> Tubes:
    """Sample points along the branches of a tree.

    Parameters
    ----------
    least_radius_mm
        Thinner branches are left out.
    shift_mm, radius_share
        Move the branches aside by their radius plus this and scale the radius: an airway that
        runs beside its artery. Not moved when `shift_mm` is 0.
    """
    nodes = np.arange(1, len(tree.parents))
    nodes = nodes[tree.radii_mm[nodes] >= least_radius_mm]
    start, end = tree.nodes_mm[tree.parents[nodes]], tree.nodes_mm[nodes]
    length = np.linalg.norm(end - start, axis=1)
    n_steps = np.maximum(1, np.ceil(length / _STEP_MM)).astype(int)
    branch = np.repeat(np.arange(len(nodes)), n_steps)
    first = np.repeat(np.cumsum(n_steps) - n_steps, n_steps)
    share = (np.arange(len(branch)) - first + 0.5) / n_steps[branch]
    points = start[branch] + share[:, None] * (end - start)[branch]
    mother_radii = np.minimum(tree.radii_mm[tree.parents[nodes]], 1.5 * tree.radii_mm[nodes])
    radii = mother_radii[branch] * (1 - share) + tree.radii_mm[nodes][branch] * share
    heading = (end - start) / np.maximum(length, 1e-6)[:, None]
    if shift_mm:
        aside = np.stack([-heading[:, 1], heading[:, 0], np.zeros(len(heading))], axis=1)
        aside /= np.maximum(np.linalg.norm(aside, axis=1), 1e-3)[:, None]
        points = points + aside[branch] * (radii * (1 + radius_share) + shift_mm)[:, None]
    return Tubes(
        points.astype(np.float32),
        (radii * radius_share).astype(np.float32),
        np.abs(heading[branch, 2]).astype(np.float32),
    )


def join_tubes(parts: list[Tubes]) -> Tubes:
    """Put several sets of tubes into one, ordered by height."""
    points = np.concatenate([part.points_mm for part in parts])
    order = np.argsort(points[:, 2], kind="stable")
    return Tubes(
        points[order],
        np.concatenate([part.radii_mm for part in parts])[order],
        np.concatenate([part.steepness for part in parts])[order],
    )


def tube_occupancy(
    tubes: Tubes, grid: Grid, z_mm: float, thickness_mm: float, extra_mm: float = 0.0
) -> FloatArray:
    """Give the share of each voxel of one plane that tubes fill, partial volume included.

    Parameters
    ----------
    tubes
        Ordered by height, as `join_tubes` gives them.
    extra_mm
        Added to every radius: the wall of an airway.

    Returns
    -------
    :
        ``(rows, columns)``, 0 to 1.
    """
    occupancy = np.zeros(grid.shape, np.float32)
    if not len(tubes.points_mm):
        return occupancy
    largest_mm = float(tubes.radii_mm.max()) + extra_mm + thickness_mm / 2
    low, high = np.searchsorted(tubes.points_mm[:, 2], [z_mm - largest_mm, z_mm + largest_mm])
    points = tubes.points_mm[low:high]
    radii = tubes.radii_mm[low:high] + np.float32(extra_mm)
    beyond = np.maximum(np.abs(points[:, 2] - z_mm) - thickness_mm / 2, 0)
    is_cut = beyond < radii
    points, radii, beyond = points[is_cut], radii[is_cut], beyond[is_cut]
    crossing = np.sqrt(1 - tubes.steepness[low:high][is_cut] ** 2)
    # A thin vessel in the plane of a thick slice fills only part of it.
    filling = np.clip(2 * radii / np.maximum(thickness_mm * crossing, 1e-3), 0, 1)
    row, column = grid.pixel_of(points[:, 0], points[:, 1])
    radius_pixels = np.sqrt(radii**2 - beyond**2) / grid.pixel_mm
    flat = occupancy.ravel()
    for reach in range(1, int(np.ceil(radius_pixels.max(initial=0) + 0.5)) + 1):
        chosen = np.ceil(radius_pixels + 0.5).astype(int) == reach
        if chosen.any():
            discs = np.stack([row, column, radius_pixels, filling], axis=1)[chosen]
            _splat(flat, grid.shape, discs, reach)
    return occupancy


def _splat(flat: FloatArray, shape: tuple[int, int], discs: FloatArray, reach: int) -> None:
    """Draw soft discs of similar size, keeping the larger value, in place."""
    rows, columns = shape
    inside = (discs[:, 0] > -reach) & (discs[:, 0] < rows + reach)
    row, column, radius, filling = discs[inside].T
    offsets = np.arange(-reach, reach + 1)
    at_row = np.round(row).astype(np.int64)[:, None, None] + offsets[None, :, None]
    at_column = np.round(column).astype(np.int64)[:, None, None] + offsets[None, None, :]
    distance = np.hypot(at_row - row[:, None, None], at_column - column[:, None, None])
    # Sub-pixel twigs keep their area by fading.
    value = np.clip(radius[:, None, None] + 0.5 - distance, 0, 1)
    value *= np.minimum(filling * np.minimum(1, (2 * radius) ** 1.0), 1)[:, None, None]
    is_in = (at_row >= 0) & (at_row < rows) & (at_column >= 0) & (at_column < columns)
    is_in &= value > 0
    np.maximum.at(flat, (at_row * columns + at_column)[is_in], value[is_in].astype(np.float32))
