"""Slices with lungs, lesions and a class: what both networks learn from besides plain LCTSC."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

#: Number of classes: normal, COVID-19, community-acquired pneumonia.
N_CLASSES = 3
#: Lung pixels on a grid of 2 mm below which a slice shows no lung to judge: about 28 square cm.
SMALLEST_LUNG_PIXELS = 700
#: A slice with too little lesion for either label, or with too little lung to judge.
UNSURE = -1
#: A slice of a real patient with disease of its own, of no class of ours.
DISEASED = -2


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
    ``(slices,)``: 0 normal, 1 COVID-19, 2 community-acquired pneumonia, ``UNSURE``, ``DISEASED``;
    ``sources`` int64 ``(slices,)``, members of ``Source``; ``patients`` names, for phantoms with
    their seed.
    """

    hu: NDArray[np.int16]
    lung: NDArray[np.bool_]
    lesion: NDArray[np.bool_]
    classes: NDArray[np.int64]
    sources: NDArray[np.int64]
    patients: NDArray[np.str_]
    has_next: NDArray[np.bool_]  #: the next slice of the arrays lies above this one

    def where(self, keep: NDArray[np.bool_]) -> "LabelledSlices":
        """Keep the slices for which ``keep``, bool ``(slices,)``, is true."""
        return LabelledSlices(
            hu=self.hu[keep],
            lung=self.lung[keep],
            lesion=self.lesion[keep],
            classes=self.classes[keep],
            sources=self.sources[keep],
            patients=self.patients[keep],
            has_next=self.has_next[keep],
        )


def judged(slices: LabelledSlices) -> LabelledSlices:
    """Keep the slices that show enough lung to be judged, and no disease of their own.

    A neighbour may be dropped between two slices, so none counts as the next one any more unless
    it still is.
    """
    keep = slices.lung.sum(axis=(1, 2)) >= SMALLEST_LUNG_PIXELS
    keep &= slices.classes != DISEASED
    kept = slices.where(keep)
    next_kept = np.append(keep[1:], False)
    return replace(kept, has_next=kept.has_next & next_kept[keep])


def of_training(slices: LabelledSlices, patients: frozenset[str]) -> LabelledSlices:
    """Keep synthetic patients, and of the real ones those named."""
    synthetic = np.isin(slices.sources, [Source.PHANTOM, Source.NO_LUNGS])
    return slices.where(synthetic | np.isin(slices.patients, sorted(patients)))


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
        has_next=np.concatenate([one.has_next for one in listed]),
    )
