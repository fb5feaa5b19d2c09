"""A folder of pictures and a CSV that labels them: the general case for grey images.

Columns ``file`` and ``label``; further ``patient``, ``part``, ``slice_number`` and
``mask_STRUCTURE`` (a path). Paths are relative to the folder. Without ``patient`` each image stands
for itself.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath

from models.datasets.contract import (
    TEST,
    TRAINING,
    VALIDATION,
    LabelledImages,
    PatientSource,
    Sample,
    Unit,
)
from models.datasets.grey_files import PICTURE_ENDINGS, GreyFiles
from models.datasets.tables import Row, class_order, read_table
from models.errors import DatasetInvalid

#: File that is read where none is named.
LABELS_FILE = "labels.csv"
MASK_PREFIX = "mask_"
_PARTS = frozenset({"", TRAINING, VALIDATION, TEST})


def read_image_csv(
    folder: Path, labels: Path | None = None, classes: Sequence[str] | None = None
) -> LabelledImages:
    """Read a folder of pictures with its CSV.

    Parameters
    ----------
    folder
        Where the paths of the CSV start.
    labels
        The CSV; ``labels.csv`` in the folder without it.
    classes
        Order of the classes; without it numbers by value, else names by alphabet.

    Raises
    ------
    DatasetInvalid
        A file is missing or named twice, a cell is wrong, or a label is not among ``classes``.
    """
    if not folder.is_dir():
        raise DatasetInvalid(f"{folder} is no folder; check the path of the pictures")
    table_path = folder / LABELS_FILE if labels is None else labels
    rows = read_table(table_path, ("file", "label"))
    order = tuple(classes or class_order([row["label"] for row in rows if row["label"]]))
    structures = tuple(
        name.removeprefix(MASK_PREFIX) for name in rows[0] if name.startswith(MASK_PREFIX)
    )
    samples = tuple(sample_of(row, order, table_path) for row in rows)
    refuse_repeats(samples, table_path)
    paths = tuple(_existing(folder, sample.name, table_path) for sample in samples)
    masks: Mapping[str, tuple[Path | None, ...]] = {
        structure: tuple(
            _existing(folder, cell, table_path) if (cell := row[MASK_PREFIX + structure]) else None
            for row in rows
        )
        for structure in structures
    }
    return LabelledImages(
        name=folder.name or "images",
        layout="image-csv",
        unit=Unit.GREY,
        classes=order,
        structures=structures,
        samples=samples,
        licence="as the owner of the folder says",
        citation="",
        patient_source=PatientSource.STATED if rows[0].get("patient") else PatientSource.IMAGE,
        pixels=GreyFiles(paths, masks),
    )


def sample_of(row: Row, classes: Sequence[str], table_path: Path) -> Sample:
    """Turn one row of a label CSV into a sample."""
    name = PurePosixPath(row["file"].replace("\\", "/"))
    if not row["file"] or name.is_absolute() or ".." in name.parts:
        raise DatasetInvalid(
            f"{table_path}: file = {row['file']!r} must be a path relative to the folder of images"
        )
    if row["label"] and row["label"] not in classes:
        raise DatasetInvalid(
            f"{table_path}: label = {row['label']!r} of {name} is not one of {', '.join(classes)}; "
            "correct the cell"
        )
    if "patient" in row and not row["patient"]:
        raise DatasetInvalid(
            f"{table_path}: {name} has no patient; fill every cell of the column or remove it"
        )
    part = row.get("part", "")
    if part not in _PARTS:
        raise DatasetInvalid(
            f"{table_path}: part = {part!r} of {name}: must be training, validation or test"
        )
    number = row.get("slice_number", "")
    if number and not number.lstrip("-").isdecimal():
        raise DatasetInvalid(f"{table_path}: slice_number = {number!r} of {name} is no number")
    return Sample(
        name=str(name),
        patient=row.get("patient") or str(name),
        label=classes.index(row["label"]) if row["label"] else None,
        part=part,
        slice_number=int(number) if number else None,
    )


def refuse_repeats(samples: Sequence[Sample], table_path: Path) -> None:
    """Refuse a table that names one file twice: it would count twice, or on two sides."""
    seen: set[str] = set()
    for sample in samples:
        if sample.name in seen:
            raise DatasetInvalid(f"{table_path} names {sample.name} twice; keep one row per image")
        seen.add(sample.name)


def _existing(folder: Path, name: str, table_path: Path) -> Path:
    path = folder / name
    if path.suffix.lower() not in PICTURE_ENDINGS:
        endings = ", ".join(sorted(PICTURE_ENDINGS))
        raise DatasetInvalid(
            f"{table_path} names {name}, which is no picture ({endings}); slices in "
            "DICOM have the layout dicom-csv"
        )
    if not path.is_file():
        raise DatasetInvalid(
            f"{table_path} names {name}, which is not in {folder}; correct the row or the folder"
        )
    return path
