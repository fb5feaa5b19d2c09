"""Slices with lungs, lesions and a class: what both networks learn from besides plain LCTSC."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from models.datasets.lung_slices import PatientSplit

#: Number of classes: normal, COVID-19, community-acquired pneumonia.
N_CLASSES = 3
#: Lung pixels on a grid of 2 mm below which a slice shows no lung to judge: about 28 square cm.
SMALLEST_LUNG_PIXELS = 700
#: A slice with too little lesion for either label, or with too little lung to judge.
UNSURE = -1


class Source(IntEnum):
    """Where a slice comes from."""

    REAL = 0
    """LCTSC as it is."""
    PLACED = 1
    """LCTSC with synthetic lesions."""
    PHANTOM = 2
    """A synthetic chest."""
    NO_LUNGS = 3
    """A synthetic body part without lungs."""


@dataclass(frozen=True, slots=True)
class LabelledSlices:
    """Slices with lungs, lesions, class, source and patient.

    ``hu`` int16, ``lung`` and ``lesion`` bool, all ``(slices, rows, columns)``; ``classes`` int64
    ``(slices,)``: 0 normal, 1 COVID-19, 2 community-acquired pneumonia, or ``UNSURE``; ``sources``
    int64 ``(slices,)``, members of ``Source``; ``patients`` names, for phantoms with their seed.
    """

    hu: NDArray[np.int16]
    lung: NDArray[np.bool_]
    lesion: NDArray[np.bool_]
    classes: NDArray[np.int64]
    sources: NDArray[np.int64]
    patients: NDArray[np.str_]

    def where(self, keep: NDArray[np.bool_]) -> "LabelledSlices":
        """Keep the slices for which ``keep``, bool ``(slices,)``, is true."""
        return LabelledSlices(
            hu=self.hu[keep],
            lung=self.lung[keep],
            lesion=self.lesion[keep],
            classes=self.classes[keep],
            sources=self.sources[keep],
            patients=self.patients[keep],
        )


def with_lungs(slices: LabelledSlices) -> LabelledSlices:
    """Keep the slices that show enough lung to be judged."""
    return slices.where(slices.lung.sum(axis=(1, 2)) >= SMALLEST_LUNG_PIXELS)


def training_slices(slices: LabelledSlices, split: PatientSplit) -> LabelledSlices:
    """Keep synthetic patients, and the real ones that the split gives to training."""
    synthetic = np.isin(slices.sources, [Source.PHANTOM, Source.NO_LUNGS])
    return slices.where(synthetic | np.isin(slices.patients, sorted(split.training)))


def join_slices(parts: Iterable[LabelledSlices]) -> LabelledSlices:
    """Put several sets one after the other."""
    listed = list(parts)
    return LabelledSlices(
        hu=np.concatenate([one.hu for one in listed]),
        lung=np.concatenate([one.lung for one in listed]),
        lesion=np.concatenate([one.lesion for one in listed]),
        classes=np.concatenate([one.classes for one in listed]),
        sources=np.concatenate([one.sources for one in listed]),
        patients=np.concatenate([one.patients for one in listed]),
    )
