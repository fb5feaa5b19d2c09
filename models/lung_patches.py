"""Patches of solid lung that a mask leaves out, seen as gaps between what holds air.

A network that looks for solid lobes takes patches strewn over a lung for what they look like:
vessels, heart, chest wall. Between parts of one lung they cannot be anything else. Needs numpy and
scipy only.
"""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from models.lung_components import (
    LEFT_LUNG,
    RIGHT_LUNG,
    BoolVolume,
    Spacing,
    coarsen,
    label_lungs,
)

#: Radius of the closing that tells whether a lung is full of gaps, in mm.
TELLING_RADIUS_MM = 20.0
#: Share of the closed lungs that are gaps, above which they count as patches. Of eight LCTSC
#: patients gaps are at most 0.06 as they are, with ground glass, with lobes, parts or a lung solid
#: (folds at the hilum, around the heart and above the diaphragm), and 0.10 and more with patches
#: strewn over half of the lungs.
PATCHY_SHARE = 0.08
#: Radius of the closing that fills gaps which are patches, in mm: at the edge of a lung a ball must
#: be larger than what it shall not fall into. Larger still, it fills mediastinum and diaphragm.
FILLING_RADIUS_MM = 2.0 * TELLING_RADIUS_MM
#: Grid on which lungs are closed, in mm: nothing fine is asked.
_GRID_MM = 3.0


def fill_patches(mask: BoolVolume, spacing_mm: Spacing) -> BoolVolume:
    """Fill the gaps of lungs that have many; give any other mask back as it is.

    Parameters
    ----------
    mask
        Raw mask of both lungs, ``(slices, rows, columns)``.
    """
    coarse, steps, grid_mm = coarsen(mask, spacing_mm, _GRID_MM)
    labels = label_lungs(coarse, grid_mm)
    lungs = [labels == label for label in (RIGHT_LUNG, LEFT_LUNG)]
    n_closed = sum(np.count_nonzero(_close(one, TELLING_RADIUS_MM, grid_mm)) for one in lungs)
    n_gaps = n_closed - np.count_nonzero(labels)
    if n_gaps <= PATCHY_SHARE * n_closed:
        return mask
    closed = np.logical_or(*(_close(one, FILLING_RADIUS_MM, grid_mm) for one in lungs))
    nearest = [
        np.minimum((np.arange(size) + step // 2) // step, n - 1)
        for size, step, n in zip(mask.shape, steps, closed.shape, strict=True)
    ]
    return mask | closed[np.ix_(*nearest)]


def _close(lung: BoolVolume, radius_mm: float, grid_mm: Spacing) -> BoolVolume:
    """Close a lung with a ball, beyond the ends of the volume too."""
    closed = np.zeros_like(lung)
    box = ndimage.find_objects(lung.view(np.uint8))
    if not box:
        return closed
    reach = [int(radius_mm / size) + 1 for size in grid_mm]
    padded = np.pad(lung[box[0]], [(one, one) for one in reach])
    grown = _distance_mm(~padded, grid_mm) <= radius_mm
    kept = _distance_mm(grown, grid_mm) > radius_mm
    inside = tuple(slice(one, size - one) for one, size in zip(reach, padded.shape, strict=True))
    closed[box[0]] = kept[inside]
    return closed


def _distance_mm(mask: BoolVolume, grid_mm: Spacing) -> NDArray[np.float64]:
    """Give each voxel's distance from what is not in the mask."""
    return np.asarray(ndimage.distance_transform_edt(mask, sampling=grid_mm), dtype=np.float64)
