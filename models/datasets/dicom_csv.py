"""Folders of DICOM slices and a CSV that labels them: the general case for HU.

Columns ``file`` and ``label``; further ``patient`` and ``part``. ``file`` is a slice, or a folder:
then the label is that of the patient, and its slices have none of their own. Without ``patient``
it is Patient ID (0010,0020), else the study.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from models.datasets.contract import LabelledImages, PatientSource, Sample, Unit
from models.datasets.dicom_files import HuFiles, SliceFile, read_slice_file, slice_files
from models.datasets.image_csv import LABELS_FILE, refuse_repeats, sample_of
from models.datasets.tables import class_order, read_table
from models.errors import DatasetInvalid


def read_dicom_csv(
    folder: Path, labels: Path | None = None, classes: Sequence[str] | None = None
) -> LabelledImages:
    """Read labelled slices; parameters as ``read_image_csv``.

    Within each patient slices are numbered from cranial to caudal.

    Raises
    ------
    DatasetInvalid
        A file is missing, no DICOM, or belongs to nobody; or a label is not among ``classes``.
    """
    table_path = folder / LABELS_FILE if labels is None else labels
    rows = read_table(table_path, ("file", "label"))
    order = tuple(classes or class_order([row["label"] for row in rows if row["label"]]))
    placed: list[tuple[Sample, SliceFile]] = []
    for row in rows:
        stated = sample_of(row, order, table_path)
        placed += _slices(folder, stated, is_patient_stated=bool(row.get("patient")))
    placed.sort(key=lambda one: (one[0].patient, -one[1].height_mm, one[0].name))
    samples = _numbered([sample for sample, _ in placed])
    refuse_repeats(samples, table_path)
    return LabelledImages(
        name=folder.name or "slices",
        layout="dicom-csv",
        unit=Unit.HU,
        classes=order,
        structures=(),
        samples=samples,
        licence="as the owner of the folder says",
        citation="",
        patient_source=PatientSource.STATED,
        pixels=HuFiles(tuple(one.path for _, one in placed)),
    )


def _slices(
    folder: Path, stated: Sample, *, is_patient_stated: bool
) -> list[tuple[Sample, SliceFile]]:
    path = folder / stated.name
    if path.is_dir():
        files = slice_files(path)
        stated = replace(stated, label=None, patient_label=stated.label)
    elif path.is_file():
        files = (read_slice_file(path),)
    else:
        raise DatasetInvalid(f"{path} is not there; correct the row or the folder")
    return [
        (
            replace(
                stated,
                name=one.path.relative_to(folder).as_posix(),
                patient=stated.patient if is_patient_stated else _patient(one),
                height_mm=one.height_mm,
                pixel_spacing_mm=one.pixel_spacing_mm,
            ),
            one,
        )
        for one in files
    ]


def _patient(one: SliceFile) -> str:
    patient = one.patient_id or one.study_instance_uid
    if not patient:
        raise DatasetInvalid(
            f"{one.path} names neither patient nor study; add a column patient to the CSV"
        )
    return patient


def _numbered(samples: Sequence[Sample]) -> tuple[Sample, ...]:
    counts: dict[str, int] = {}
    numbered = []
    for sample in samples:
        number = counts.get(sample.patient, 0)
        counts[sample.patient] = number + 1
        numbered.append(replace(sample, slice_number=number))
    return tuple(numbered)
