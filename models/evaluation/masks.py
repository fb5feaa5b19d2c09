"""Dice of masks against what experts drew, slice by slice and patient by patient."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.datasets import LabelledImages
from models.evaluation.bootstrap import N_RESAMPLES, Interval, interval, mean_interval
from models.evaluation.volumes import PatientVolume, read_volumes

#: Gives a mask of a whole volume in the shape of its images.
FindMask = Callable[[PatientVolume], NDArray[np.bool_]]


@dataclass(frozen=True, slots=True)
class PatientDice:
    """Dice of one patient over all slices, with an interval over the patient's own slices."""

    patient: str
    n_slices: int
    dice: Interval


@dataclass(frozen=True, slots=True)
class MaskFigures:
    """Dice by patient; ``mean`` has its interval over patients, None for one patient alone."""

    structure: str
    patients: tuple[PatientDice, ...]
    mean: Interval | None


def dice(found: NDArray[np.bool_], truth: NDArray[np.bool_]) -> float:
    """Give the Dice coefficient, 0 to 1; two empty masks agree."""
    total = int(found.sum()) + int(truth.sum())
    return 1.0 if total == 0 else 2.0 * int((found & truth).sum()) / total


def dice_over_slices(
    found: NDArray[np.bool_], truth: NDArray[np.bool_], *, seed: int = 0
) -> Interval:
    """Give one patient's Dice with an interval by drawing slices with replacement.

    It speaks of this patient's slices alone, not of other patients.
    """
    both = (found & truth).sum(axis=(1, 2))
    total = found.sum(axis=(1, 2)) + truth.sum(axis=(1, 2))
    return _dice_of_counts(np.stack([both, total], axis=1), seed)


def _dice_of_counts(counts: NDArray[np.int64], seed: int = 0) -> Interval:
    """Give Dice over slices of (pixels in both, pixels in either twice), ``(slices, 2)``."""
    drawn = np.random.default_rng(seed).integers(0, len(counts), (N_RESAMPLES, len(counts)))
    sums = counts[drawn].sum(axis=1)
    samples = 2.0 * sums[:, 0] / np.maximum(sums[:, 1], 1)
    both, total = counts.sum(axis=0)
    return interval(1.0 if total == 0 else float(2.0 * both / total), samples)


def measure_masks(
    data: LabelledImages,
    find: FindMask,
    structure: str,
    track: Callable[[Iterable[PatientVolume]], Iterable[PatientVolume]] = iter,
) -> MaskFigures:
    """Measure a mask on every patient of a data set, whole series.

    Parameters
    ----------
    data
        Slices that form volumes, with masks of the structure.
    find
        What is measured, for example a network with its clean-up.
    structure
        Name of the masks in the data.
    track
        Wraps the patients for a progress bar.
    """
    measured = []
    for volume in track(read_volumes(data)):
        truth = np.stack([data.mask(n, structure) for n in volume.indices])
        figure = dice_over_slices(find(volume), truth)
        measured.append(PatientDice(volume.patient, len(truth), figure))
    return pool_patients(structure, measured)


def measure_picture_masks(
    data: LabelledImages,
    find: Callable[[NDArray[Any]], NDArray[np.bool_]],
    structure: str,
    track: Callable[[Sequence[int]], Iterable[int]],
) -> MaskFigures:
    """Measure a mask on pictures that form no volume, one by one; Dice is pooled by patient.

    Parameters
    ----------
    data
        Pictures with masks of the structure.
    find
        Gives the mask of one picture.
    structure
        Name of the masks in the data.
    track
        Wraps the indices for a progress bar.
    """
    counts: dict[str, list[tuple[int, int]]] = {}
    for index in track(range(len(data))):
        found, truth = find(data.image(index)), data.mask(index, structure)
        both, total = int((found & truth).sum()), int(found.sum()) + int(truth.sum())
        counts.setdefault(data.samples[index].patient, []).append((both, total))
    return pool_patients(
        structure,
        [
            PatientDice(patient, len(pairs), _dice_of_counts(np.array(pairs)))
            for patient, pairs in counts.items()
        ],
    )


def pool_patients(structure: str, patients: Iterable[PatientDice]) -> MaskFigures:
    """Put patients together, for example those of every fold of a cross-validation."""
    listed = tuple(patients)
    values = [one.dice.value for one in listed]
    mean = mean_interval(values) if len(values) > 1 else None
    return MaskFigures(structure, listed, mean)
