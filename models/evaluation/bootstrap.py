"""Intervals by drawing patients with replacement.

Images of one patient resemble each other, so that drawing images pretends to know more than there
is to know (Efron and Tibshirani 1993, chapter 8). The unit that is drawn is therefore the patient;
where nothing is known of patients, or there is one alone, it is the image, and the result says so.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

import numpy as np
from numpy.typing import NDArray

from models.errors import DatasetInvalid

#: Samples that are drawn for an interval.
N_RESAMPLES = 2000
#: Percentiles of a 95 % interval.
_EDGES = (2.5, 97.5)


class ResamplingUnit(Enum):
    """What is drawn with replacement."""

    PATIENT = "patient"
    """Whole patients: the interval speaks of other patients."""
    IMAGE = "image"
    """Images: it speaks of other images of the same patients, and is narrower than the truth."""


@dataclass(frozen=True, slots=True)
class Interval:
    """A figure with its 95 % interval; all three are not a number where it cannot be given."""

    value: float
    lower: float
    upper: float


@dataclass(frozen=True, slots=True)
class Resampling:
    """How intervals were drawn; ``n_units`` are there to draw from."""

    unit: ResamplingUnit
    n_units: int
    n_resamples: int
    seed: int


def choose_resampling(
    patients: Sequence[str], *, are_patients_known: bool, seed: int = 0, n: int = N_RESAMPLES
) -> Resampling:
    """Draw patients where several are known, images otherwise."""
    if not patients:
        raise DatasetInvalid("there are no images to measure; check the labels")
    n_patients = len(set(patients))
    if are_patients_known and n_patients > 1:
        return Resampling(ResamplingUnit.PATIENT, n_patients, n, seed)
    return Resampling(ResamplingUnit.IMAGE, len(patients), n, seed)


def draw_weights(patients: Sequence[str], resampling: Resampling) -> NDArray[np.float64]:
    """Draw how often each image counts in each resample.

    Parameters
    ----------
    patients
        The patient of each image.
    resampling
        What to draw.

    Returns
    -------
    :
        Shape ``(n_resamples, n_images)``: whole numbers.
    """
    rng = np.random.default_rng(resampling.seed)
    n_units = resampling.n_units
    drawn = rng.multinomial(n_units, np.full(n_units, 1.0 / n_units), size=resampling.n_resamples)
    if resampling.unit is ResamplingUnit.IMAGE:
        return drawn.astype(np.float64)
    _, unit_of_image = np.unique(np.asarray(patients), return_inverse=True)
    return np.asarray(drawn[:, unit_of_image], dtype=np.float64)


def interval(value: float, resampled: NDArray[np.float64]) -> Interval:
    """Put the 95 % interval of resampled figures around a figure; undefined resamples are left out.

    The interval is widened to the figure where the resamples happen to lie on one side of it.
    """
    known = resampled[np.isfinite(resampled)]
    if len(known) == 0 or not np.isfinite(value):
        return Interval(float("nan"), float("nan"), float("nan"))
    lower, upper = np.percentile(known, _EDGES)
    return Interval(float(value), min(float(lower), value), max(float(upper), value))


def mean_interval(values: Sequence[float], *, seed: int = 0, n: int = N_RESAMPLES) -> Interval:
    """Give the mean of one figure per patient with its interval over patients."""
    known = np.asarray(values, dtype=np.float64)
    drawn = np.random.default_rng(seed).integers(0, len(known), (n, len(known)))
    return interval(float(known.mean()), known[drawn].mean(axis=1))
