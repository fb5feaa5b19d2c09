"""What a phantom is asked for, and what comes back. Arrays are ``(slices, rows, columns)``."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: Lung labels, the numbers used across the project.
RIGHT_LUNG = 1
LEFT_LUNG = 2

#: Air, the value around the patient.
AIR_HU = -1000

#: Lowest value written, as most scanners clip.
LOWEST_HU = -1024


class Pattern(StrEnum):
    """Which disease, if any, the lungs show."""

    NORMAL = "normal"  #: no lesion; gravity gradient only
    COVID_19 = "covid-19"  #: bilateral, peripheral, multifocal ground glass
    COMMUNITY_ACQUIRED_PNEUMONIA = "community-acquired-pneumonia"  #: lobar consolidation


class Kernel(StrEnum):
    """Reconstruction kernel: how sharp the image and how coloured its noise."""

    SOFT = "soft"  #: mediastinal kernel, blurred, coarse noise
    STANDARD = "standard"  #: in between
    LUNG = "lung"  #: sharp kernel with overshoot, fine-grained noise


@dataclass(frozen=True, slots=True)
class PhantomSpec:
    """One phantom; the same spec gives the same voxels.

    The anatomy keeps its size in millimetres whatever the grid: a field of view below about
    350 mm cuts the body, a coverage (slices times spacing) below about 300 mm cuts the lungs.

    Parameters
    ----------
    seed
        Draws anatomy, table, lesions and noise; not negative.
    pattern
        Normal, COVID-19-like or community-acquired-pneumonia-like.
    n_slices, slice_spacing_mm
        Slices and the distance between their centres; slices are as thick as they are apart.
    rows, columns, pixel_spacing_mm
        In-plane grid, square pixels.
    kernel, noise_hu
        Reconstruction kernel and standard deviation of the noise in the body's centre.
    severity
        0 to 1: share of the lungs that is affected, 1 being about half of them; ignored for
        the normal pattern.

    Raises
    ------
    ValueError
        A value is out of its range.
    """

    seed: int
    pattern: Pattern
    n_slices: int = 64
    slice_spacing_mm: float = 5.0
    rows: int = 512
    columns: int = 512
    pixel_spacing_mm: float = 0.74
    kernel: Kernel = Kernel.STANDARD
    noise_hu: float = 18.0
    severity: float = 0.5

    def __post_init__(self) -> None:
        if self.seed < 0:
            raise ValueError(f"seed is {self.seed}; give a number from 0.")
        if min(self.n_slices, self.rows, self.columns) < 1:
            raise ValueError(
                f"n_slices, rows and columns are {self.n_slices}, {self.rows}, {self.columns}; "
                "each must be at least 1."
            )
        for name in ("slice_spacing_mm", "pixel_spacing_mm"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0):
                raise ValueError(f"{name} is {value}; it must be above 0.")
        if not (math.isfinite(self.noise_hu) and self.noise_hu >= 0):
            raise ValueError(f"noise_hu is {self.noise_hu}; it must not be negative.")
        if not 0 <= self.severity <= 1:
            raise ValueError(f"severity is {self.severity}; it must lie between 0 and 1.")

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Slice spacing, row spacing, column spacing."""
        return (self.slice_spacing_mm, self.pixel_spacing_mm, self.pixel_spacing_mm)


@dataclass(frozen=True, slots=True)
class Phantom:
    """A synthetic CT volume and what is exactly in it.

    The patient's right lies at low columns, anterior at low rows, caudal at low slice indices.
    """

    volume_hu: NDArray[np.int16] = field(repr=False)  #: (slices, rows, columns)
    spacing_mm: tuple[float, float, float]  #: slices, rows, columns
    lung_labels: NDArray[np.uint8] = field(repr=False)  #: 0 outside, 1 right, 2 left lung
    lesion_mask: NDArray[np.bool_] = field(repr=False)  #: inside the lung labels
    pattern: Pattern
    kernel: Kernel


def typical_spec(
    seed: int, pattern: Pattern, *, rows: int = 512, coverage_mm: float = 320.0
) -> PhantomSpec:
    """Give a plausible protocol for a whole chest: spacing, kernel, dose and severity by seed.

    Parameters
    ----------
    rows
        Rows and columns; the field of view stays between 350 and 420 mm.
    coverage_mm
        Length of the scan along the body axis.
    """
    rng = np.random.default_rng([seed, 7])
    slice_spacing_mm = float(rng.choice([2.0, 3.0, 5.0, 5.0]))
    kernel = Kernel(rng.choice([kernel.value for kernel in Kernel]))
    noise_hu = float(rng.uniform(8, 18) * (1.9 if kernel is Kernel.LUNG else 1.0))
    return PhantomSpec(
        seed=seed,
        pattern=pattern,
        n_slices=max(1, round(coverage_mm / slice_spacing_mm)),
        slice_spacing_mm=slice_spacing_mm,
        rows=rows,
        columns=rows,
        pixel_spacing_mm=float(rng.uniform(350, 420)) / rows,
        kernel=kernel,
        noise_hu=noise_hu,
        severity=float(rng.uniform(0.25, 0.9)),
    )
