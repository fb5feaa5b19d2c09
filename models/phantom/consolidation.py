"""Lesions like community-acquired pneumonia: consolidation with open bronchi in it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from models.phantom.lesion_field import (
    LUNGS,
    CoarseLungs,
    LesionFields,
    empty_fields,
    pick_voxel,
    soft_step,
    window_around,
)
from models.phantom.spec import RIGHT_LUNG
from models.phantom.trees import grow_tree, tubes_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from models.phantom.grid import FloatArray

#: Share of both lungs that severity 1 stands for.
_LARGEST_FRACTION = 0.36
#: How much of a lobe is consolidated at most.
_LARGEST_LOBE_SHARE = 0.9
_N_BRONCHI = 34
_MOST_PATCHES = 40
#: Lobes drawn at most, the same one perhaps twice, until enough is solid.
_MOST_LOBES = 8
#: Foci at most until a share of the lungs is consolidated; some fall onto what is so already.
_MOST_FOCI = 24


def consolidation_fields(
    lungs: CoarseLungs, severity: float, threshold: float, rng: np.random.Generator
) -> LesionFields:
    """Consolidate one lobe, seldom two, or scatter patches over a lobe.

    Parameters
    ----------
    severity
        0 to 1.
    threshold
        Share of replaced air from which a voxel counts as affected.
    """
    fields = empty_fields(lungs)
    sides = [lung for lung in LUNGS if (lungs.labels == lung).any()]
    wanted = 0.03 + severity * _LARGEST_FRACTION
    form = rng.random()
    lung = int(rng.choice(sides))
    lobe = _pick_lobe(lungs, lung, rng)
    if form < 0.2:  # noqa: PLR2004 - bronchopneumonia
        _add_patches(fields, lungs, lung, lobe=lobe, wanted=wanted, threshold=threshold, rng=rng)
        return fields
    _consolidate(fields, lungs, lung, lobe=lobe, wanted=wanted, rng=rng)
    if form > 0.85:  # noqa: PLR2004 - a second lobe, of either lung
        other = int(rng.choice(sides))
        lobe = _pick_lobe(lungs, other, rng)
        _consolidate(fields, lungs, other, lobe=lobe, wanted=0.4 * wanted, rng=rng)
    return fields


def solid_lobe_fields(
    lungs: CoarseLungs, fraction: float, threshold: float, rng: np.random.Generator
) -> LesionFields:
    """Consolidate whole lobes of either lung in turn until a share of both lungs is solid.

    Parameters
    ----------
    fraction
        0 to 1; the last lobe is filled whole, so that more may be.
    threshold
        Share of replaced air from which a voxel counts as affected.
    """
    fields = empty_fields(lungs)
    sides = [lung for lung in LUNGS if (lungs.labels == lung).any()]
    everywhere = (slice(None), slice(None), slice(None))
    for number in range(_MOST_LOBES):
        lung = sides[number % len(sides)]
        lobe = _pick_lobe(lungs, lung, rng)
        core_hu = np.clip(rng.uniform(-10, 45) + 22 * lungs.fine_noise, -100, 60)
        fields.add(lung, everywhere, np.asarray(lobe * 0.99, np.float32), core_hu)
        _add_bronchograms(fields, lungs, lung, lobe, rng)
        if fields.affected_fraction(lungs, threshold) >= fraction:
            break
    return fields


def half_consolidated_fields(
    lungs: CoarseLungs, fraction: float, threshold: float, rng: np.random.Generator
) -> LesionFields:
    """Consolidate parts of lobes and scatter patches until a share of both lungs is affected.

    Parameters
    ----------
    fraction
        0 to 1; open bronchi and hazy rims as in ``consolidation_fields``, aerated lung between.
    threshold
        Share of replaced air from which a voxel counts as affected.
    """
    fields = empty_fields(lungs)
    sides = [lung for lung in LUNGS if (lungs.labels == lung).any()]
    for number in range(_MOST_FOCI):
        affected = fields.affected_fraction(lungs, threshold)
        if affected >= fraction:
            break
        lung = sides[number % len(sides)]
        lobe = _pick_lobe(lungs, lung, rng)
        focus = min(float(rng.uniform(0.08, 0.2)), fraction - affected + 0.01)
        if rng.random() < 0.25:  # noqa: PLR2004 - bronchopneumonia
            # Patches stop at four fifths of what is wanted.
            wanted = (affected + focus) / 0.8
            _add_patches(
                fields, lungs, lung, lobe=lobe, wanted=wanted, threshold=threshold, rng=rng
            )
        else:
            _consolidate(fields, lungs, lung, lobe=lobe, wanted=focus, rng=rng)
    return fields


def solid_lung_fields(lungs: CoarseLungs, rng: np.random.Generator) -> LesionFields:
    """Consolidate one lung, drawn by lot, from apex to base."""
    fields = empty_fields(lungs)
    lung = int(rng.choice([lung for lung in LUNGS if (lungs.labels == lung).any()]))
    everywhere = (slice(None), slice(None), slice(None))
    whole = np.ones(lungs.labels.shape, np.float32)
    core_hu = np.clip(rng.uniform(-10, 45) + 22 * lungs.fine_noise, -100, 60)
    fields.add(lung, everywhere, np.asarray(whole * 0.99, np.float32), core_hu)
    _add_bronchograms(fields, lungs, lung, whole, rng)
    return fields


def _pick_lobe(lungs: CoarseLungs, lung: int, rng: np.random.Generator) -> FloatArray:
    """Choose a lobe of a lung that has room for a lesion; give its soft membership.

    The oblique fissure runs from high behind to low in front, the horizontal one of the right
    lung forward from its middle.
    """
    wave = 0.03 * lungs.noise
    behind = soft_step(
        (lungs.posterior - 0.22 - 0.85 * lungs.height + wave) / np.float32(0.03) + 0.5
    )
    above = soft_step((lungs.height - 0.5 + wave) / np.float32(0.03) + 0.5)
    lobes = [behind]
    lobes += (
        [(1 - behind) * above, (1 - behind) * (1 - above)] if lung == RIGHT_LUNG else [1 - behind]
    )
    n_voxels = [float((lobe * (lungs.labels == lung)).sum()) for lobe in lobes]
    likely = np.array([0.5, *([0.5 / (len(lobes) - 1)] * (len(lobes) - 1))])
    likely = likely * (np.array(n_voxels) > 0.08 * max(1.0, sum(n_voxels)))
    chosen = int(rng.choice(len(lobes), p=likely / likely.sum()))
    return np.asarray(lobes[chosen], np.float32)


def _consolidate(
    fields: LesionFields,
    lungs: CoarseLungs,
    lung: int,
    *,
    lobe: FloatArray,
    wanted: float,
    rng: np.random.Generator,
) -> None:
    """Fill the part of a lobe that lies nearest to a point at its surface."""
    member = (lungs.labels == lung) & (lobe > 0.5)  # noqa: PLR2004
    if not member.any():
        return
    weights = np.where(member, np.exp(-lungs.pleura_mm / 12), 0)
    centre_mm = pick_voxel(rng, np.asarray(weights, np.float32), lungs)
    stretch = rng.uniform(0.8, 1.3, 3)
    distance = np.sqrt(
        (stretch[0] * (lungs.z_mm - centre_mm[0])) ** 2
        + (stretch[1] * (lungs.y_mm - centre_mm[1])) ** 2
        + (stretch[2] * (lungs.x_mm - centre_mm[2])) ** 2
    )
    distance = distance + 5 * lungs.noise + 2.5 * lungs.fine_noise
    n_wanted = wanted * np.count_nonzero(lungs.labels)
    lobe_share = min(_LARGEST_LOBE_SHARE, n_wanted / np.count_nonzero(member))
    radius_mm = float(np.quantile(distance[member], lobe_share))
    edge_mm = rng.uniform(5, 12)
    core = soft_step((radius_mm + edge_mm / 2 - distance) / np.float32(edge_mm)) * lobe
    halo_mm = rng.uniform(6, 18)
    halo = soft_step((radius_mm + halo_mm - distance) / np.float32(halo_mm)) * lobe
    everywhere = (slice(None), slice(None), slice(None))
    core_hu = np.clip(rng.uniform(-10, 45) + 22 * lungs.fine_noise, -100, 60)
    halo = np.asarray(halo * (1 - core) * 0.8, np.float32)
    fields.add(lung, everywhere, halo, float(rng.uniform(-640, -480)))
    fields.add(lung, everywhere, np.asarray(core * 0.99, np.float32), core_hu)
    _add_bronchograms(fields, lungs, lung, np.asarray(core, np.float32), rng)


def _add_bronchograms(
    fields: LesionFields,
    lungs: CoarseLungs,
    lung: int,
    core: FloatArray,
    rng: np.random.Generator,
) -> None:
    """Let air-filled bronchi branch from the lung root into the consolidation."""
    inside = (core > 0.7) & (lungs.labels == lung)  # noqa: PLR2004
    inner = np.argwhere(inside & (lungs.pleura_mm > 7))  # noqa: PLR2004 - they end before the pleura
    if len(inner) == 0:
        return
    chosen = inner[rng.integers(0, len(inner), _N_BRONCHI)]
    targets = (chosen + rng.uniform(-0.5, 0.5, chosen.shape)) * np.asarray(lungs.spacing_mm)
    root = _root_mm(lungs, lung, targets.mean(axis=0))
    tree = grow_tree(
        (root[2], root[1], root[0]), targets[:, ::-1], twig_radius_mm=0.75, largest_radius_mm=2.6
    )
    fields.bronchograms.append(tubes_of(tree))


def _root_mm(lungs: CoarseLungs, lung: int, near_mm: NDArray[np.float64]) -> NDArray[np.float64]:
    """Give the point of a lung that lies nearest to the midline and not far off, z y x."""
    voxels = np.argwhere(lungs.labels == lung)
    positions = voxels * np.asarray(lungs.spacing_mm)
    medial_mm = lungs.lateral[0, 0, voxels[:, 2]] * 100
    cost = medial_mm + 0.4 * np.linalg.norm(positions[:, :2] - near_mm[:2], axis=1)
    return np.asarray(positions[int(np.argmin(cost))], np.float64)


def _add_patches(
    fields: LesionFields,
    lungs: CoarseLungs,
    lung: int,
    *,
    lobe: FloatArray,
    wanted: float,
    threshold: float,
    rng: np.random.Generator,
) -> None:
    """Scatter dense patches with hazy rims over a lobe, as bronchopneumonia does."""
    weights = np.asarray(lobe * (lungs.labels == lung), np.float32)
    for _ in range(_MOST_PATCHES):
        if fields.affected_fraction(lungs, threshold) >= 0.8 * wanted:
            break
        centre_mm = pick_voxel(rng, weights, lungs)
        radii_mm = rng.uniform(7, 19) * rng.uniform(0.8, 1.3, 3)
        window = window_around(lungs, centre_mm, 2.2 * radii_mm)
        distance = np.sqrt(
            ((lungs.z_mm[window[0]] - centre_mm[0]) / radii_mm[0]) ** 2
            + ((lungs.y_mm[:, window[1]] - centre_mm[1]) / radii_mm[1]) ** 2
            + ((lungs.x_mm[:, :, window[2]] - centre_mm[2]) / radii_mm[2]) ** 2
        )
        distance = distance + 0.28 * lungs.noise[window] + 0.12 * lungs.fine_noise[window]
        halo = np.asarray(soft_step((1.6 - distance) / 0.9) * lobe[window] * 0.7, np.float32)
        core = np.asarray(soft_step((1.1 - distance) / 0.5) * lobe[window] * 0.98, np.float32)
        fields.add(lung, window, np.asarray(halo * (1 - core), np.float32), -580.0)
        core_hu = np.clip(rng.uniform(-90, 35) + 20 * lungs.fine_noise[window], -150, 60)
        fields.add(lung, window, core, core_hu)
        _add_bronchograms_of_patch(
            fields, lungs, lung, centre_mm=centre_mm, radii_mm=radii_mm, rng=rng
        )


def _add_bronchograms_of_patch(
    fields: LesionFields,
    lungs: CoarseLungs,
    lung: int,
    *,
    centre_mm: NDArray[np.float64],
    radii_mm: NDArray[np.float64],
    rng: np.random.Generator,
) -> None:
    """Let one or two bronchi reach into a larger patch."""
    if radii_mm.mean() < 13:  # noqa: PLR2004 - small patches hide theirs
        return
    targets = centre_mm + rng.uniform(-0.6, 0.6, (4, 3)) * radii_mm
    root = _root_mm(lungs, lung, centre_mm)
    tree = grow_tree(
        (root[2], root[1], root[0]), targets[:, ::-1], twig_radius_mm=0.7, largest_radius_mm=1.6
    )
    fields.bronchograms.append(tubes_of(tree))
