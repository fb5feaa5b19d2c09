"""Branching trees: connected, tapering, and drawn with the right area."""

from __future__ import annotations

import numpy as np

from models.phantom.grid import make_grid
from models.phantom.trees import grow_tree, join_tubes, tube_occupancy, tubes_of


def test_tree_reaches_all_targets_and_tapers() -> None:
    """Every target is a node; no daughter is wider than its mother."""
    targets = np.random.default_rng(0).uniform(-60, 60, (80, 3))
    tree = grow_tree((0, 0, 0), targets, twig_radius_mm=0.5, largest_radius_mm=9.0)
    gaps = np.linalg.norm(tree.nodes_mm[None] - targets[:, None], axis=2).min(axis=1)
    assert gaps.max() < 1e-6
    assert (tree.parents[1:] < np.arange(1, len(tree.parents))).all()
    assert (tree.radii_mm[1:] <= tree.radii_mm[tree.parents[1:]] + 1e-9).all()
    assert tree.radii_mm.min() == 0.5


def test_vessel_along_the_axis_fills_its_disc() -> None:
    """A tube of radius 4 mm through the plane covers about 16 pi square millimetres."""
    tree = grow_tree(
        (0, 0, -20), np.array([[0.0, 0.0, 20.0]]), twig_radius_mm=4.0, largest_radius_mm=4.0
    )
    grid = make_grid(64, 64, 0.5)
    drawn = tube_occupancy(join_tubes([tubes_of(tree)]), grid, 0.0, 2.0)
    area_mm2 = float(drawn.sum()) * 0.25
    assert abs(area_mm2 - 16 * np.pi) < 0.08 * 16 * np.pi


def test_thin_vessel_in_a_thick_slice_fades() -> None:
    """A vessel of 1 mm that runs within a 5 mm slice fills a fifth of it."""
    tree = grow_tree(
        (-12, 0, 0), np.array([[12.0, 0.0, 0.0]]), twig_radius_mm=0.5, largest_radius_mm=0.5
    )
    grid = make_grid(64, 64, 0.5)
    drawn = tube_occupancy(join_tubes([tubes_of(tree)]), grid, 0.0, 5.0)
    assert 0.15 < float(drawn.max()) < 0.25


def test_plane_far_from_all_tubes_is_empty() -> None:
    """Nothing is drawn where nothing is."""
    tree = grow_tree(
        (0, 0, 0), np.array([[0.0, 0.0, 10.0]]), twig_radius_mm=1.0, largest_radius_mm=1.0
    )
    drawn = tube_occupancy(join_tubes([tubes_of(tree)]), make_grid(16, 16, 1.0), 60.0, 2.0)
    assert not drawn.any()
