"""Patches of one density with hard edges, strewn over the lungs: plain lesions of known mask.

Another family than every painting that networks learn from, and none that a patient has: how far a
mask depends on what lesions look like shows here.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

#: Density of the patches and standard deviation of its noise, in HU.
_PATCH_HU, _NOISE_HU = 40.0, 15.0
#: Shortest and longest half side of a block, as shares of its size.
_SHORTEST, _LONGEST = 0.6, 1.4
_LOWEST_HU = -1024


@dataclass(frozen=True, slots=True)
class Strewn:
    """Smallest and largest patch in mm: radius of a ball, about half the side of a block."""

    smallest_mm: float
    largest_mm: float
    are_blocks: bool = False


def place_strewn(
    volume_hu: NDArray[np.int16],
    lungs: NDArray[np.bool_],
    spacing_mm: tuple[float, float, float],
    share: float,
    strewn: Strewn,
    *,
    rng: np.random.Generator,
) -> tuple[NDArray[np.int16], NDArray[np.bool_]]:
    """Strew patches over the lungs until a share of them is full.

    Parameters
    ----------
    volume_hu, lungs
        ``(slices, rows, columns)``.

    Returns
    -------
    :
        HU with patches, and the patches, all within the lungs.
    """
    inside = np.argwhere(lungs)
    places = np.ogrid[tuple(slice(size) for size in lungs.shape)]
    patches = np.zeros_like(lungs)
    while np.count_nonzero(patches) < share * len(inside):
        middle = inside[rng.integers(len(inside))]
        size_mm = rng.uniform(strewn.smallest_mm, strewn.largest_mm)
        away_mm = [
            (axis - index) * mm for axis, index, mm in zip(places, middle, spacing_mm, strict=True)
        ]
        if strewn.are_blocks:
            z, y, x = size_mm * rng.uniform(_SHORTEST, _LONGEST, 3)
            is_patch = (abs(away_mm[0]) < z) & (abs(away_mm[1]) < y) & (abs(away_mm[2]) < x)
        else:
            is_patch = away_mm[0] ** 2 + away_mm[1] ** 2 + away_mm[2] ** 2 < size_mm**2
        patches |= lungs & is_patch
    filled = volume_hu.copy()
    tissue = _PATCH_HU + _NOISE_HU * rng.standard_normal(np.count_nonzero(patches))
    filled[patches] = np.clip(tissue, _LOWEST_HU, None).astype(np.int16)
    return filled, patches
