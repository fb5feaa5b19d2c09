"""COVID-19-like lesions: ground glass in both lungs, near the pleura, behind and below."""

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

if TYPE_CHECKING:
    from models.phantom.grid import FloatArray

#: Share of both lungs that severity 1 stands for.
_LARGEST_FRACTION = 0.5
_MOST_LESIONS = 70
_FEWEST_LESIONS = 3


def ground_glass_fields(
    lungs: CoarseLungs, severity: float, threshold: float, rng: np.random.Generator
) -> LesionFields:
    """Place lesions until the wanted share of the lungs is affected.

    Parameters
    ----------
    severity
        0 to 1.
    threshold
        Share of replaced air from which a voxel counts as affected.
    """
    fields = empty_fields(lungs)
    weights = _site_weights(lungs, rng)
    base_hu = rng.uniform(-640, -420)
    reticulation = rng.uniform(0.3, 1.0) if rng.random() < 0.45 else 0.0  # noqa: PLR2004
    wanted = 0.02 + severity * _LARGEST_FRACTION
    size = 0.75 + 0.5 * severity
    sides = [lung for lung in LUNGS if (lungs.labels == lung).any()]
    for number in range(_MOST_LESIONS):
        is_enough = fields.affected_fraction(lungs, threshold) >= wanted
        if is_enough and number >= _FEWEST_LESIONS * len(sides) - 2:
            break
        # Both lungs first, then wherever there is room.
        lung = sides[number % len(sides)]
        _add_lesion(
            fields,
            lungs,
            lung,
            weights=weights,
            base_hu=base_hu,
            reticulation=reticulation,
            size=size,
            rng=rng,
        )
    return fields


def _site_weights(lungs: CoarseLungs, rng: np.random.Generator) -> FloatArray:
    """Say where lesions like to be: near the chest wall, at the back, at the base."""
    basal = rng.uniform(0.3, 1.6)
    posterior = rng.uniform(0.4, 2.0)
    weights = np.exp(-lungs.pleura_mm / 9) * (0.1 + lungs.lateral) ** 2
    weights = weights * np.exp(posterior * lungs.posterior - basal * 1.6 * lungs.height)
    return np.asarray(np.where(lungs.labels > 0, weights, 0), np.float32)


def _add_lesion(
    fields: LesionFields,
    lungs: CoarseLungs,
    lung: int,
    *,
    weights: FloatArray,
    base_hu: float,
    reticulation: float,
    size: float,
    rng: np.random.Generator,
) -> None:
    """Add one rounded, patchy or band-like opacity."""
    room = weights * (lungs.labels == lung)
    room *= 1 - 0.9 * fields.share[LUNGS.index(lung)]
    centre_mm = pick_voxel(rng, room, lungs)
    is_band = rng.random() < 0.35  # noqa: PLR2004 - about a third follow the pleura
    if is_band:
        radii_mm = rng.uniform(22, 42, 3) * size
    else:
        radii_mm = rng.uniform(8, 22) * size * rng.uniform(0.75, 1.35, 3)
    window = window_around(lungs, centre_mm, 1.9 * radii_mm + 4)
    roughness = rng.uniform(0.12, 0.32)
    distance = np.sqrt(
        ((lungs.z_mm[window[0]] - centre_mm[0]) / radii_mm[0]) ** 2
        + ((lungs.y_mm[:, window[1]] - centre_mm[1]) / radii_mm[1]) ** 2
        + ((lungs.x_mm[:, :, window[2]] - centre_mm[2]) / radii_mm[2]) ** 2
    )
    rough = roughness * (lungs.noise[window] + 0.5 * lungs.fine_noise[window])
    softness = rng.uniform(0.3, 0.75)
    share = soft_step((1 + softness / 2 - distance - rough) / softness)
    if is_band:
        depth_mm = rng.uniform(6, 15) * (1 + 0.35 * lungs.noise[window])
        share = share * soft_step((depth_mm + 3 - lungs.pleura_mm[window]) / 6)
    share = share * np.float32(rng.uniform(0.75, 0.97))
    # A denser core in some, as in the second week.
    own_hu = base_hu + rng.uniform(-110, 110)
    core_hu = rng.uniform(60, 260) if rng.random() < 0.3 else 0.0  # noqa: PLR2004
    core = soft_step((0.75 - distance - rough) / 0.6) * np.float32(core_hu)
    target = np.clip(own_hu + core + 45 * lungs.fine_noise[window], -740, -180)
    fields.add(lung, window, np.asarray(share, np.float32), target, reticulation)
