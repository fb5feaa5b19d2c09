"""Read training slices and split them by patient.

The LCTSC layout is ``img/Case_CCC_SSS.png`` and ``lung/Case_CCC_SSS.png``: 8 bit of HU from -1024
to 400, 256 by 256; case number, then slice number.
"""

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

#: Range of the 8-bit images, in HU.
LCTSC_LOWER_HU, LCTSC_UPPER_HU = -1024.0, 400.0
#: Never trained on: its DICOM series is the end-to-end check.
HELD_OUT_CASE = "005"
_FILE_NAME = re.compile(r"Case_(?P<patient>\d{3})_(?P<slice>\d{3})\.png")


class TrainingDataInvalid(Exception):
    """Training data are missing, malformed, or would leak from training into validation."""


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
    TrainingDataInvalid
        A patient stands on both sides, or a held-out case stands on either.
    """

    training: frozenset[str]
    validation: frozenset[str]

    def __post_init__(self) -> None:
        both = self.training & self.validation
        if both:
            raise TrainingDataInvalid(
                f"patients {sorted(both)} are in training and validation; give each to one side"
            )
        if HELD_OUT_CASE in self.training | self.validation:
            raise TrainingDataInvalid(
                f"case {HELD_OUT_CASE} is held out for the end-to-end check; leave it out"
            )
        if not self.training:
            raise TrainingDataInvalid("nobody is left to train on; move patients to training")


def read_lctsc(folder: Path) -> LungSlices:
    """Read every slice of an LCTSC folder except the held-out case.

    Raises
    ------
    TrainingDataInvalid
        No slices, a file with another name, or an image without its mask.
    """
    images = sorted((folder / "img").glob("*.png"))
    if not images:
        raise TrainingDataInvalid(f"{folder}/img holds no PNG files; point --data at the folder")
    named = [(path, _parse_name(path)) for path in images]
    kept = [(path, name) for path, name in named if name[0] != HELD_OUT_CASE]
    span_hu = LCTSC_UPPER_HU - LCTSC_LOWER_HU
    grey = np.stack([np.asarray(Image.open(path).convert("L")) for path, _ in kept])
    hu = np.rint(grey.astype(np.float32) * (span_hu / 255.0) + LCTSC_LOWER_HU).astype(np.int16)
    mask = np.stack([_read_mask(folder / "lung" / path.name) for path, _ in kept])
    return LungSlices(
        hu=hu,
        mask=mask,
        patients=tuple(name[0] for _, name in kept),
        slice_numbers=tuple(name[1] for _, name in kept),
    )


def _parse_name(path: Path) -> tuple[str, int]:
    match = _FILE_NAME.fullmatch(path.name)
    if match is None:
        raise TrainingDataInvalid(f"{path.name} is not Case_CCC_SSS.png; remove or rename it")
    return match["patient"], int(match["slice"])


def _read_mask(path: Path) -> NDArray[np.bool_]:
    if not path.is_file():
        raise TrainingDataInvalid(f"{path} is missing; every image needs its mask")
    return np.asarray(np.asarray(Image.open(path).convert("L")) > 127)  # noqa: PLR2004  half of 255
