"""Sets that are class folders of numbered pictures: SARS-COV-2 CT and the radiography database."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from models.datasets.contract import LabelledImages, PatientSource, Sample, Unit
from models.datasets.grey_files import GreyFiles, picture_files
from models.errors import DatasetInvalid

#: Numbers that are kept together in SARS-COV-2 CT: 2,481 slices come from 120 patients, so a block
#: is about two of them. At most one patient lies across each border between blocks.
SLICES_PER_BLOCK = 40
_NUMBER = re.compile(r"(\d+)\D*$")

_SARS_FOLDERS = {"non-covid-19": "non-COVID", "covid-19": "COVID"}
_RADIOGRAPHY_FOLDERS = {
    "normal": "Normal",
    "covid-19": "COVID",
    "lung-opacity": "Lung_Opacity",
    "viral-pneumonia": "Viral Pneumonia",
}


def read_sars_cov_2_ct(folder: Path) -> LabelledImages:
    """Read SARS-COV-2 CT: ``COVID/Covid (n).png``, ``non-COVID/Non-Covid (n).png``.

    Patients are not stated; neighbours by number are slices of one patient. Blocks of neighbours
    stand for patients. A random split of this set puts almost every patient on both sides.

    Raises
    ------
    DatasetInvalid
        A class folder is missing or empty, or a name has no number.
    """
    paths, labels = _pictures(folder, _SARS_FOLDERS)
    numbers = [_number(path) for path in paths]
    names = tuple(_SARS_FOLDERS)
    samples = tuple(
        Sample(
            name=path.relative_to(folder).as_posix(),
            patient=f"{names[label]} block {number // SLICES_PER_BLOCK}",
            label=label,
            slice_number=number,
        )
        for path, label, number in zip(paths, labels, numbers, strict=True)
    )
    return LabelledImages(
        name="SARS-COV-2 CT",
        layout="sars-cov-2-ct",
        unit=Unit.GREY,
        classes=names,
        structures=(),
        samples=samples,
        licence="CC BY-NC-SA 4.0",
        citation="Soares et al. 2020, medRxiv 2020.04.24.20078584",
        patient_source=PatientSource.BLOCK,
        pixels=GreyFiles(tuple(paths)),
    )


def read_radiography(folder: Path) -> LabelledImages:
    """Read the COVID-19 radiography database: four class folders with images and lung masks.

    Patients are not stated, and numbers say nothing about them: each radiograph stands for itself.
    Masks (256 by 256) are brought to the size of their radiograph (299 by 299).

    Raises
    ------
    DatasetInvalid
        A class folder is missing or empty, or a radiograph has no mask.
    """
    paths, labels = _pictures(folder, _RADIOGRAPHY_FOLDERS, "images")
    masks = tuple(path.parent.with_name("masks") / path.name for path in paths)
    for mask in masks:
        if not mask.is_file():
            raise DatasetInvalid(f"{mask} is missing; every radiograph needs its mask of the lungs")
    samples = tuple(
        Sample(name=(name := path.relative_to(folder).as_posix()), patient=name, label=label)
        for path, label in zip(paths, labels, strict=True)
    )
    return LabelledImages(
        name="COVID-19 radiography database",
        layout="radiography",
        unit=Unit.GREY,
        classes=tuple(_RADIOGRAPHY_FOLDERS),
        structures=("lung",),
        samples=samples,
        licence="as its page states; research use",
        citation="Chowdhury et al. 2020, IEEE Access 8:132665; Rahman et al. 2021, "
        "Comput Biol Med 132:104319",
        patient_source=PatientSource.IMAGE,
        pixels=GreyFiles(tuple(paths), {"lung": masks}),
    )


def _pictures(
    folder: Path, folders: Mapping[str, str], below: str = ""
) -> tuple[Sequence[Path], Sequence[int]]:
    """List the pictures of every class folder, in order of their numbers."""
    paths: list[Path] = []
    labels: list[int] = []
    for label, name in enumerate(folders.values()):
        found = sorted(picture_files(folder / name / below), key=_sort_key)
        if not found:
            raise DatasetInvalid(
                f"{folder / name / below} holds no pictures; point at the folder that holds "
                f"{', '.join(folders.values())}"
            )
        paths += found
        labels += [label] * len(found)
    return paths, labels


def _sort_key(path: Path) -> tuple[int, str]:
    match = _NUMBER.search(path.stem)
    return (int(match[1]) if match else -1, path.name)


def _number(path: Path) -> int:
    match = _NUMBER.search(path.stem)
    if match is None:
        raise DatasetInvalid(f"{path} has no number; rename or remove it")
    return int(match[1])
