"""The LCTSC pictures as arrays, to learn lungs from; the held-out case is never read."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from models.datasets.lctsc import STRUCTURE, read_lctsc_images
from models.errors import DatasetInvalid, LeakingSplit

#: Never trained on: its DICOM series is the end-to-end check.
HELD_OUT_CASE = "005"


@dataclass(frozen=True, slots=True)
class LungSlices:
    """Slices with lung masks.

    ``hu`` is int16 and ``mask`` is bool, both ``(slices, rows, columns)``; ``patients`` and
    ``slice_numbers`` name each slice.
    """

    hu: NDArray[np.int16]
    mask: NDArray[np.bool_]
    patients: tuple[str, ...]
    slice_numbers: tuple[int, ...]

    def of_patients(self, wanted: frozenset[str]) -> "LungSlices":
        """Keep the slices of the wanted patients, in order."""
        keep = [n for n, patient in enumerate(self.patients) if patient in wanted]
        return LungSlices(
            hu=self.hu[keep],
            mask=self.mask[keep],
            patients=tuple(self.patients[n] for n in keep),
            slice_numbers=tuple(self.slice_numbers[n] for n in keep),
        )


@dataclass(frozen=True, slots=True)
class PatientSplit:
    """Who is trained on and who is looked at while training.

    Raises
    ------
    LeakingSplit
        A patient stands on both sides, or a held-out case stands on either.
    DatasetInvalid
        Nobody is left to train on.
    """

    training: frozenset[str]
    validation: frozenset[str]

    def __post_init__(self) -> None:
        both = self.training & self.validation
        if both:
            raise LeakingSplit(
                f"patients {sorted(both)} are in training and validation; give each to one side"
            )
        if HELD_OUT_CASE in self.training | self.validation:
            raise LeakingSplit(
                f"case {HELD_OUT_CASE} is held out for the end-to-end check; leave it out"
            )
        if not self.training:
            raise DatasetInvalid("nobody is left to train on; move patients to training")


def read_lctsc(folder: Path, *, with_held_out: bool = False) -> LungSlices:
    """Read every slice of an LCTSC folder of pictures, the held-out case only where asked for.

    Cross-validation asks: its fold of that case is the model that ships.

    Raises
    ------
    DatasetInvalid
        No slices, a file with another name, or an image without its mask.
    """
    data = read_lctsc_images(folder)
    kept = [
        n
        for n, sample in enumerate(data.samples)
        if with_held_out or sample.patient != HELD_OUT_CASE
    ]
    if not kept:
        raise DatasetInvalid(f"{folder} holds the held-out case alone; add other cases")
    return LungSlices(
        hu=np.stack([data.image(n) for n in kept]),
        mask=np.stack([data.mask(n, STRUCTURE) for n in kept]),
        patients=tuple(data.samples[n].patient for n in kept),
        slice_numbers=tuple(data.samples[n].slice_number or 0 for n in kept),
    )
