"""LCTSC (AAPM Lung CT Segmentation Challenge 2017): CT with lungs drawn by experts.

Three layouts are read:

```text
img/Case_CCC_SSS.png, lung/Case_CCC_SSS.png     8 bit of HU from -1024 to 400
NAME.../*.dcm, NAME_lungmask.npz                DICOM; ``masks`` from caudal to cranial
PATIENT/STUDY/SERIES/*.dcm                      as downloaded: CT and an RT Structure Set
```
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.datasets.contract import LabelledImages, PatientSource, PixelSource, Sample, Unit
from models.datasets.dicom_files import HuFiles, SliceFile, slice_files
from models.datasets.grey_files import GreyFiles, picture_files
from models.datasets.rt_structures import find_lung_contours, lung_mask_reader
from models.errors import DatasetInvalid

#: Range of the 8-bit images, in HU.
LCTSC_LOWER_HU, LCTSC_UPPER_HU = -1024.0, 400.0
STRUCTURE = "lung"
#: Distance of slices by number, and of pixels of the pictures: 512 of 0.977 mm became 256.
_PICTURE_SLICE_MM, _PICTURE_PIXEL_MM = 3.0, 1.95
_FILE_NAME = re.compile(r"Case_(?P<patient>\d{3})_(?P<slice>\d{3})\.png")
_MASK_SUFFIX = "_lungmask.npz"
_MASK_ARRAY = "masks"

_MaskReader = Callable[[], NDArray[np.bool_]]


def read_lctsc_images(folder: Path) -> LabelledImages:
    """Read LCTSC in whichever of its layouts the folder has.

    Raises
    ------
    DatasetInvalid
        The folder is of none of them, or an image has no mask.
    """
    if (folder / "img").is_dir():
        samples, pixels = _from_pictures(folder)
    else:
        samples, pixels = _from_dicom(folder)
    return LabelledImages(
        name="LCTSC",
        layout="lctsc",
        unit=Unit.HU,
        classes=(),
        structures=(STRUCTURE,),
        samples=samples,
        licence="CC BY 3.0",
        citation="Yang et al. 2017, The Cancer Imaging Archive, 10.7937/K9/TCIA.2017.3R3FVZ08",
        patient_source=PatientSource.STATED,
        pixels=pixels,
    )


def grey_to_hu(grey: NDArray[np.uint8]) -> NDArray[np.int16]:
    """Turn 8-bit values of the picture layout into HU."""
    span_hu = LCTSC_UPPER_HU - LCTSC_LOWER_HU
    hu = np.rint(grey.astype(np.float32) * (span_hu / 255.0) + LCTSC_LOWER_HU)
    return np.asarray(hu, dtype=np.int16)


@dataclass(frozen=True, slots=True)
class _HuPictures:
    """Pictures whose grey values stand for HU."""

    files: GreyFiles

    def image(self, index: int) -> NDArray[Any]:
        return grey_to_hu(self.files.image(index))

    def mask(self, index: int, structure: str) -> NDArray[np.bool_]:
        return self.files.mask(index, structure)


def _from_pictures(folder: Path) -> tuple[tuple[Sample, ...], PixelSource]:
    paths = picture_files(folder / "img")
    if not paths:
        raise DatasetInvalid(
            f"{folder}/img holds no PNG files; point at the folder of img and lung"
        )
    masks = tuple(folder / "lung" / path.name for path in paths)
    for mask in masks:
        if not mask.is_file():
            raise DatasetInvalid(f"{mask} is missing; every image needs its mask")
    samples = tuple(_picture_sample(folder, path) for path in paths)
    return samples, _HuPictures(GreyFiles(paths, {STRUCTURE: masks}))


def _picture_sample(folder: Path, path: Path) -> Sample:
    match = _FILE_NAME.fullmatch(path.name)
    if match is None:
        raise DatasetInvalid(f"{path.name} is not Case_CCC_SSS.png; remove or rename it")
    return Sample(
        name=path.relative_to(folder).as_posix(),
        patient=match["patient"],
        label=None,
        slice_number=int(match["slice"]),
        height_mm=_PICTURE_SLICE_MM * int(match["slice"]),
        pixel_spacing_mm=(_PICTURE_PIXEL_MM, _PICTURE_PIXEL_MM),
    )


def _from_dicom(folder: Path) -> tuple[tuple[Sample, ...], PixelSource]:
    samples: list[Sample] = []
    paths: list[Path] = []
    readers: list[_MaskReader | None] = []
    for patient, slices, masks in [*_with_mask_arrays(folder), *_with_contours(folder)]:
        for number, (one, mask) in enumerate(zip(slices, masks, strict=True)):
            name = one.path.relative_to(folder).as_posix()
            samples.append(_dicom_sample(name, patient, number, one))
            paths.append(one.path)
            readers.append(mask)
    if not samples:
        raise DatasetInvalid(
            f"{folder} has neither img and lung, nor DICOM folders with NAME_lungmask.npz or an "
            "RT Structure Set beside them; point at an LCTSC folder"
        )
    return tuple(samples), HuFiles(tuple(paths), {STRUCTURE: tuple(readers)})


def _dicom_sample(name: str, patient: str, number: int, one: SliceFile) -> Sample:
    return Sample(
        name=name,
        patient=patient,
        label=None,
        slice_number=number,
        height_mm=one.height_mm,
        pixel_spacing_mm=one.pixel_spacing_mm,
    )


_Case = tuple[str, tuple[SliceFile, ...], tuple[_MaskReader, ...]]


def _with_mask_arrays(folder: Path) -> list[_Case]:
    """Find DICOM folders that have an array of masks beside them, slices from caudal to cranial."""
    cases: list[_Case] = []
    for array in sorted(folder.glob(f"*{_MASK_SUFFIX}")):
        stem = array.name.removesuffix(_MASK_SUFFIX)
        folders = [one for one in folder.glob(f"{stem}*") if one.is_dir()]
        if len(folders) != 1:
            raise DatasetInvalid(
                f"{array} belongs to {len(folders)} folders {stem}*; there must be exactly one"
            )
        slices = slice_files(folders[0])[::-1]
        n_masks = len(_mask_array(array))
        if n_masks != len(slices):
            raise DatasetInvalid(f"{array} has {n_masks} masks for {len(slices)} slices")
        masks = tuple(partial(_array_mask, array, number) for number in range(n_masks))
        cases.append((stem, slices, masks))
    return cases


def _mask_array(path: Path) -> NDArray[Any]:
    try:
        with np.load(path) as arrays:
            return np.asarray(arrays[_MASK_ARRAY])
    except (OSError, KeyError, ValueError) as error:
        raise DatasetInvalid(f"{path} has no readable array {_MASK_ARRAY!r} ({error})") from error


def _array_mask(path: Path, number: int) -> NDArray[np.bool_]:
    return np.asarray(_mask_array(path)[number] > 0)


def _with_contours(folder: Path) -> list[_Case]:
    """Find patients with an RT Structure Set; one folder per patient directly below."""
    cases: list[_Case] = []
    for patient in sorted(one for one in folder.iterdir() if one.is_dir()):
        contours = find_lung_contours(patient)
        if contours is None:
            continue
        series = [one for one in slice_files(contours.ct_folder) if one.modality == "CT"][::-1]
        masks = tuple(lung_mask_reader(contours, one) for one in series)
        cases.append((patient.name, tuple(series), masks))
    return cases
