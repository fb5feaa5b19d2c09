"""Measure models on whole volumes, patient by patient.

Volumes come as ``.npz`` files with ``volume_hu`` (int16, slices from caudal to cranial),
``lung_mask`` (bool or labels, the same shape) and ``spacing_mm`` (slices, rows, columns): this
package knows nothing of DICOM.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from models.lung_components import label_lungs
from models.session import LungSegmenter
from models.training.data import TrainingDataInvalid

#: Slices per call of a session; more gains nothing on a CPU.
_BATCH_SIZE = 8
#: Air against soft tissue in the threshold method, in HU.
_AIR_HU = -400
#: Radius of the closing in the threshold method, in mm.
_CLOSING_MM = 5.0


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


def segment_volume(
    segmenter: LungSegmenter, volume_hu: NDArray[np.int16], spacing_mm: tuple[float, float, float]
) -> NDArray[np.uint8]:
    """Give lung labels of a whole volume: 0 background, 1 right, 2 left."""
    masks = [
        segmenter.mask(segmenter.logits(volume_hu[begin : begin + _BATCH_SIZE]))
        for begin in range(0, len(volume_hu), _BATCH_SIZE)
    ]
    return label_lungs(np.concatenate(masks), spacing_mm)


def dice(found: NDArray[np.bool_], truth: NDArray[np.bool_]) -> float:
    """Give the Dice coefficient, 0 to 1; two empty masks agree."""
    total = int(found.sum()) + int(truth.sum())
    return 1.0 if total == 0 else 2.0 * int((found & truth).sum()) / total


def slice_bootstrap(
    found: NDArray[np.bool_], truth: NDArray[np.bool_], *, seed: int, n_samples: int = 2000
) -> tuple[float, float]:
    """Give a 95 % interval of one patient's Dice by drawing slices with replacement.

    It speaks of this patient's slices alone, not of other patients.
    """
    both = (found & truth).sum(axis=(1, 2))
    total = found.sum(axis=(1, 2)) + truth.sum(axis=(1, 2))
    drawn = np.random.default_rng(seed).integers(0, len(both), (n_samples, len(both)))
    samples = 2.0 * both[drawn].sum(axis=1) / np.maximum(total[drawn].sum(axis=1), 1)
    return float(np.percentile(samples, 2.5)), float(np.percentile(samples, 97.5))


def patient_bootstrap(
    values: Sequence[float], *, seed: int, n_samples: int = 2000
) -> tuple[float, float]:
    """Give a 95 % interval of the mean by drawing patients with replacement."""
    known = np.asarray(values, dtype=np.float64)
    drawn = np.random.default_rng(seed).integers(0, len(known), (n_samples, len(known)))
    means = known[drawn].mean(axis=1)
    return float(np.percentile(means, 2.5)), float(np.percentile(means, 97.5))


def area_under_curve(scores: NDArray[np.floating], truth: NDArray[np.bool_]) -> float:
    """Give the area under the ROC curve; a tie counts one half.

    Raises
    ------
    TrainingDataInvalid
        One of the two classes is absent.
    """
    positive, negative = scores[truth], scores[~truth]
    if len(positive) == 0 or len(negative) == 0:
        raise TrainingDataInvalid("the area under the curve needs both classes")
    above = (positive[:, None] > negative[None, :]).mean()
    ties = (positive[:, None] == negative[None, :]).mean()
    return float(above + 0.5 * ties)


def threshold_lungs(
    volume_hu: NDArray[np.int16], spacing_mm: tuple[float, float, float]
) -> NDArray[np.bool_]:
    """Find lungs without a network, the baseline that a network has to beat.

    Air inside the body, its two largest parts, closed and filled slice by slice. It leaves out
    whatever is dense: consolidation, effusion, larger vessels at the hilum.
    """
    parts, _ = ndimage.label(volume_hu < _AIR_HU)
    sizes = np.bincount(parts.ravel())
    edges = (parts[:, 0], parts[:, -1], parts[:, :, 0], parts[:, :, -1])
    sizes[np.unique(np.concatenate([edge.ravel() for edge in edges]))] = 0
    sizes[0] = 0
    first, second = np.argsort(-sizes)[:2]
    mask = np.asarray(parts == first)
    if sizes[second] > sizes[first] / 10:
        mask |= parts == second
    reach = round(_CLOSING_MM / spacing_mm[1])
    rows, columns = np.ogrid[-reach : reach + 1, -reach : reach + 1]
    disk = rows**2 + columns**2 <= reach**2
    padded = np.pad(mask, ((0, 0), (reach, reach), (reach, reach)))
    inner = slice(reach, -reach or None)
    for index, one in enumerate(padded):
        closed = ndimage.binary_fill_holes(ndimage.binary_closing(one, disk))
        mask[index] = np.asarray(closed)[inner, inner]
    return mask
