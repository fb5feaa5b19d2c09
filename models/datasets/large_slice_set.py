"""The curated large COVID-19 CT slice set: class folders and one table of patients per class.

```text
.../1NonCOVID/*.png, .../2COVID/*.png, .../3CAP/*.png
meta_data_normal.csv, meta_data_covid.csv, meta_data_cap.csv     File name, Patient ID, ...
```

The folders may lie deeper than the tables (``curated_data/curated_data``).
"""

from pathlib import Path

from models.datasets.contract import LabelledImages, PatientSource, Sample, Unit
from models.datasets.grey_files import GreyFiles, picture_files
from models.datasets.tables import Row, read_table
from models.errors import DatasetInvalid

CLASSES = ("normal", "covid-19", "community-acquired-pneumonia")
_FOLDERS = ("1NonCOVID", "2COVID", "3CAP")
_TABLES = ("meta_data_normal.csv", "meta_data_covid.csv", "meta_data_cap.csv")
#: The published tables are not all UTF-8.
_ENCODINGS = ("utf-8-sig", "iso-8859-1")


def read_large_slice_set(folder: Path) -> LabelledImages:
    """Read the set; pictures of a class that its table does not name are one patient together.

    Raises
    ------
    DatasetInvalid
        A class folder or table is missing, or a table names none of the pictures.
    """
    samples: list[Sample] = []
    paths: list[Path] = []
    for label in range(len(CLASSES)):
        pictures = picture_files(_below(folder, _FOLDERS[label]))
        rows = _rows(_below(folder, _TABLES[label]))
        if not any(path.name in rows for path in pictures):
            raise DatasetInvalid(
                f"{_TABLES[label]} names none of the {len(pictures)} pictures in "
                f"{_FOLDERS[label]}; unpack tables and pictures of one version"
            )
        samples += [_sample(folder, path, label, rows.get(path.name)) for path in pictures]
        paths += pictures
    return LabelledImages(
        name="Large COVID-19 CT slice set",
        layout="large-slice-set",
        unit=Unit.GREY,
        classes=CLASSES,
        structures=(),
        samples=tuple(samples),
        licence="those of its seven sources; research use",
        citation="Maftouni et al. 2021, IISE Annual Conference, Robust ensemble-deep learning "
        "model for COVID-19 diagnosis based on an integrated CT scan images database",
        patient_source=PatientSource.STATED,
        pixels=GreyFiles(tuple(paths)),
    )


def _below(folder: Path, name: str) -> Path:
    found = sorted(folder.rglob(name))
    if len(found) != 1:
        raise DatasetInvalid(
            f"{folder} has {len(found)} times {name} below it; point at the unpacked data set"
        )
    return found[0]


def _rows(table: Path) -> dict[str, Row]:
    rows = read_table(table, ("file name", "patient id"), encodings=_ENCODINGS)
    return {Path(row["file name"].replace("\\", "/")).name: row for row in rows}


def _sample(folder: Path, path: Path, label: int, row: Row | None) -> Sample:
    patient = "" if row is None else row["patient id"]
    number = "" if row is None else row.get("slice", row.get("slices_x", ""))
    return Sample(
        name=path.relative_to(folder).as_posix(),
        patient=f"{CLASSES[label]} {patient or 'without patient'}",
        label=label,
        slice_number=int(float(number)) if _is_number(number) else None,
        patient_label=label,
    )


def _is_number(cell: str) -> bool:
    return cell.replace(".", "", 1).isdecimal()
