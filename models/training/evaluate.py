"""Whole volumes as arrays, and former names of what :mod:`models.evaluation` has.

Volumes come as ``.npz`` files with ``volume_hu`` (int16, slices from caudal to cranial),
``lung_mask`` (bool or labels, the same shape) and ``spacing_mm`` (slices, rows, columns): this
package knows nothing of DICOM.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from models.errors import DatasetInvalid as TrainingDataInvalid
from models.evaluation.bootstrap import mean_interval
from models.evaluation.classification import area_under_curve
from models.evaluation.masks import dice, dice_over_slices
from models.evaluation.volumes import segment_volume, threshold_lungs

__all__ = [
    "MaskedVolume",
    "area_under_curve",
    "dice",
    "patient_bootstrap",
    "read_volume",
    "segment_volume",
    "slice_bootstrap",
    "threshold_lungs",
]


@dataclass(frozen=True, slots=True)
class MaskedVolume:
    """A volume with its true lungs; arrays ``(slices, rows, columns)``, spacing in that order."""

    name: str
    volume_hu: NDArray[np.int16]
    lung_mask: NDArray[np.bool_]
    spacing_mm: tuple[float, float, float]


def read_volume(path: Path) -> MaskedVolume:
    """Read one ``.npz`` volume.

    Raises
    ------
    TrainingDataInvalid
        An array is missing or the shapes differ.
    """
    with np.load(path) as arrays:
        missing = {"volume_hu", "lung_mask", "spacing_mm"} - set(arrays)
        if missing:
            raise TrainingDataInvalid(f"{path} lacks {sorted(missing)}; write it again")
        volume_hu, mask = arrays["volume_hu"], arrays["lung_mask"]
        first, second, third = (float(size) for size in arrays["spacing_mm"])
    if volume_hu.shape != mask.shape or volume_hu.dtype != np.int16:
        raise TrainingDataInvalid(f"{path}: volume must be int16 and shaped as its mask")
    return MaskedVolume(path.stem, volume_hu, mask > 0, (first, second, third))


def slice_bootstrap(
    found: NDArray[np.bool_], truth: NDArray[np.bool_], *, seed: int
) -> tuple[float, float]:
    """Give a 95 % interval of one patient's Dice by drawing slices with replacement."""
    figure = dice_over_slices(found, truth, seed=seed)
    return figure.lower, figure.upper


def patient_bootstrap(values: Sequence[float], *, seed: int) -> tuple[float, float]:
    """Give a 95 % interval of the mean by drawing patients with replacement."""
    figure = mean_interval(values, seed=seed)
    return figure.lower, figure.upper
