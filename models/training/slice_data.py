"""Slices with lungs, lesions and a class, as the slice classifier learns from them."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

#: Number of classes: normal, COVID-19, community-acquired pneumonia.
N_CLASSES = 3
#: A slice with so little lesion that neither label is fair; only its lesion map is learnt from.
UNSURE = -1


@dataclass(frozen=True, slots=True)
class LabelledSlices:
    """Slices with lungs, lesions and class.

    ``hu`` int16, ``lung`` and ``lesion`` bool, all ``(slices, rows, columns)``; ``classes`` int64
    ``(slices,)``, 0 normal, 1 COVID-19,
    2 community-acquired pneumonia, or ``UNSURE``.
    """

    hu: NDArray[np.int16]
    lung: NDArray[np.bool_]
    lesion: NDArray[np.bool_]
    classes: NDArray[np.int64]


def join_slices(parts: Iterable[LabelledSlices]) -> LabelledSlices:
    """Put several sets one after the other."""
    listed = list(parts)
    return LabelledSlices(
        hu=np.concatenate([one.hu for one in listed]),
        lung=np.concatenate([one.lung for one in listed]),
        lesion=np.concatenate([one.lesion for one in listed]),
        classes=np.concatenate([one.classes for one in listed]),
    )
