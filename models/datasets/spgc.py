"""COVID-CT-MD and the SPGC-COVID sets made from it: DICOM folders, one per patient.

```text
COVID-19 subjects/P001/*.dcm, CAP subjects/cap001/*.dcm, Normal subjects/normal001/*.dcm
Index.csv, Slice-level-labels*.npy                          labels of slices, by index
P002/*.dcm, P002.labels.csv                                 the same in one table per patient
TEST_FOLDER/P1/*.dcm                                        no labels: to be predicted
```

Labels run from cranial to caudal, by descending Slice Location; file names are no order, and every
slice of a patient may carry one SOP Instance UID. A slice without infection is *normal*, whatever
its patient has; slices of an ill patient without slice labels have no label.
"""

import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from models.datasets.contract import LabelledImages, PatientSource, Sample, Unit
from models.datasets.dicom_files import HuFiles, SliceFile, slice_files
from models.datasets.tables import read_table
from models.errors import DatasetInvalid

CLASSES = ("normal", "covid-19", "community-acquired-pneumonia")
_CLASS_NAMES = (re.compile(r"normal"), re.compile(r"covid"), re.compile(r"cap\b"))
_INFECTED = {"0": False, "1": True}


def read_spgc(folder: Path) -> LabelledImages:
    """Read every folder below that holds DICOM slices as one patient.

    ``slice_number`` counts from cranial to caudal, as the labels do.

    Raises
    ------
    DatasetInvalid
        No DICOM, two patients of one name, or labels that do not fit the slices.
    """
    patients = _patient_folders(folder)
    by_index = _labels_by_index(folder)
    samples: list[Sample] = []
    paths: list[Path] = []
    for patient_folder in patients:
        slices = slice_files(patient_folder)
        samples += _samples(folder, patient_folder, slices, by_index)
        paths += [one.path for one in slices]
    return LabelledImages(
        name="COVID-CT-MD",
        layout="spgc",
        unit=Unit.HU,
        classes=CLASSES,
        structures=(),
        samples=tuple(samples),
        licence="none stated; citation asked",
        citation="Afshar et al. 2021, Sci Data 8:121, 10.1038/s41597-021-00900-3",
        patient_source=PatientSource.STATED,
        pixels=HuFiles(tuple(paths)),
    )


def _patient_folders(folder: Path) -> tuple[Path, ...]:
    found = sorted({path.parent for path in folder.rglob("*.dcm")})
    if not found:
        raise DatasetInvalid(
            f"{folder} has no .dcm files below it; point at the folder of the patients' folders"
        )
    names = [one.name for one in found]
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise DatasetInvalid(
            f"{folder} has two folders of the name {repeated[0]}: is that one patient or two? "
            "Rename one, or read the parts one by one"
        )
    return tuple(found)


def _samples(
    folder: Path,
    patient_folder: Path,
    slices: tuple[SliceFile, ...],
    by_index: Mapping[str, NDArray[np.bool_]],
) -> list[Sample]:
    table = patient_folder.with_name(patient_folder.name + ".labels.csv")
    patient_label = _class_of(patient_folder, folder)
    infected: list[bool | None] = [None] * len(slices)
    if table.is_file():
        patient_label, infected = _from_table(table, slices)
    elif patient_folder.name in by_index:
        infected = _from_index(by_index[patient_folder.name], slices, patient_folder)
    elif patient_label == 0:
        infected = [False] * len(slices)
    return [
        Sample(
            name=one.path.relative_to(folder).as_posix(),
            patient=patient_folder.name,
            label=_label(is_infected, patient_label),
            slice_number=number,
            patient_label=patient_label,
            height_mm=one.height_mm,
            pixel_spacing_mm=one.pixel_spacing_mm,
        )
        for number, (one, is_infected) in enumerate(zip(slices, infected, strict=True))
    ]


def _label(is_infected: bool | None, patient_label: int | None) -> int | None:
    if is_infected is None:
        return None
    return patient_label if is_infected else 0


def _class_of(patient_folder: Path, root: Path) -> int | None:
    """Read the class from the folders above a patient; None where none names one."""
    for part in reversed(patient_folder.relative_to(root).parts[:-1]):
        for label, pattern in enumerate(_CLASS_NAMES):
            if pattern.match(part.lower()):
                return label
    return None


def _from_table(table: Path, slices: tuple[SliceFile, ...]) -> tuple[int, list[bool | None]]:
    rows = {
        row["file"]: row for row in read_table(table, ("file", "patient_class", "slice_infected"))
    }
    names = [one.path.name for one in slices]
    if set(rows) != set(names):
        different = sorted(set(rows) ^ set(names))
        raise DatasetInvalid(
            f"{table} and its folder do not name the same slices, for example {different[0]}"
        )
    given = {row["patient_class"].lower() for row in rows.values()}
    labels = {n for n, pattern in enumerate(_CLASS_NAMES) if any(map(pattern.match, given))}
    if len(given) != 1 or len(labels) != 1:
        raise DatasetInvalid(f"{table}: patient_class is {sorted(given)}; it must be one class")
    flags: list[bool | None] = []
    for name in names:
        cell = rows[name]["slice_infected"]
        if cell not in _INFECTED:
            raise DatasetInvalid(f"{table}: slice_infected = {cell!r} of {name} must be 0 or 1")
        flags.append(_INFECTED[cell])
    return labels.pop(), flags


def _labels_by_index(folder: Path) -> dict[str, NDArray[np.bool_]]:
    """Read the published arrays: one row per patient, one column per slice; newest file first."""
    index = folder / "Index.csv"
    arrays = sorted(folder.glob("Slice-level-labels*.npy"), key=lambda path: len(path.name))
    if not index.is_file() or not arrays:
        return {}
    try:
        labels = np.load(arrays[-1], allow_pickle=False)
    except (OSError, ValueError) as error:
        raise DatasetInvalid(
            f"{arrays[-1]} is no plain array ({error}); use the file without objects"
        ) from error
    rows = read_table(index, ("label index", "folder/id"))
    return {row["folder/id"]: labels[int(row["label index"])] > 0 for row in rows}


def _from_index(
    labels: NDArray[np.bool_], slices: tuple[SliceFile, ...], patient_folder: Path
) -> list[bool | None]:
    if len(labels) < len(slices) or bool(labels[len(slices) :].any()):
        raise DatasetInvalid(
            f"{patient_folder} has {len(slices)} slices, its row of the slice labels more infected "
            "ones or fewer cells; the folder is not complete"
        )
    return [bool(one) for one in labels[: len(slices)]]
