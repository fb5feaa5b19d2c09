"""What a split by slices would have flattered: a measure of the data, not of a model.

The nearest neighbour in tiny grey copies is as simple as a classifier can be. Asked about images
whose patients it has seen, it answers by recognising the patient; asked about new patients, it
cannot. The difference between the two is what a slice-level split of these data gives away for
free; a published figure on such a split has to be read with it in mind.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from models.datasets import LabelledImages
from models.errors import DatasetInvalid

#: Side of the tiny copies, pixels.
_SIDE = 32
#: How many times the folds are drawn anew.
_N_DRAWS = 5


@dataclass(frozen=True, slots=True)
class Flattery:
    """Accuracy of the nearest neighbour under both splits, and how often it is the same patient.

    ``by_image`` divides images at random, ``by_patient`` whole patients; both into ``n_folds``,
    drawn several times. ``same_patient`` is the share of images whose nearest neighbour in the
    whole set belongs to the same patient.
    """

    by_image: float
    by_patient: float
    same_patient: float
    n_images: int
    n_patients: int
    n_folds: int


def measure_flattery(data: LabelledImages, n_folds: int = 5, seed: int = 0) -> Flattery:
    """Measure how much a split by images flatters on this data set.

    Raises
    ------
    DatasetInvalid
        Fewer labelled patients than folds.
    """
    kept = [n for n, sample in enumerate(data.samples) if sample.label is not None]
    labels = data.labels()[kept]
    _, patient_of = np.unique([data.samples[n].patient for n in kept], return_inverse=True)
    n_patients = int(patient_of.max(initial=-1)) + 1
    if n_patients < n_folds:
        raise DatasetInvalid(
            f"{data.name} has {n_patients} labelled patients, fewer than {n_folds} folds"
        )
    copies = np.stack([_tiny(data.image(n)) for n in kept])
    likeness = copies @ copies.T
    np.fill_diagonal(likeness, -np.inf)
    rng = np.random.default_rng(seed)
    by_image, by_patient = [], []
    for _ in range(_N_DRAWS):
        by_image.append(_accuracy(likeness, labels, rng.permutation(len(kept)) % n_folds))
        by_patient.append(
            _accuracy(likeness, labels, (rng.permutation(n_patients) % n_folds)[patient_of])
        )
    nearest = likeness.argmax(axis=1)
    return Flattery(
        by_image=float(np.mean(by_image)),
        by_patient=float(np.mean(by_patient)),
        same_patient=float((patient_of[nearest] == patient_of).mean()),
        n_images=len(kept),
        n_patients=n_patients,
        n_folds=n_folds,
    )


def _tiny(image: NDArray[np.generic]) -> NDArray[np.float64]:
    """Give a tiny copy of mean 0 and length 1, so that a product is a correlation."""
    picture = Image.fromarray(image.astype(np.float32))
    small = np.asarray(picture.resize((_SIDE, _SIDE), Image.Resampling.BOX), dtype=np.float64)
    flat = small.ravel() - small.mean()
    return np.asarray(flat / max(float(np.linalg.norm(flat)), 1e-12))


def _accuracy(
    likeness: NDArray[np.float64], labels: NDArray[np.int64], fold_of: NDArray[np.int64]
) -> float:
    """Classify each fold by the nearest image outside it."""
    other = np.where(fold_of[:, None] != fold_of[None, :], likeness, -np.inf)
    return float((labels[other.argmax(axis=1)] == labels).mean())
