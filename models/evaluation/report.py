"""Everything one evaluation found, as one value, and as ``metrics.json``."""

import json
import math
from dataclasses import dataclass, fields, is_dataclass
from enum import Enum
from pathlib import Path
from typing import Any

import numpy as np

from models.datasets import LabelledImages
from models.errors import DatasetInvalid
from models.evaluation.bootstrap import Interval
from models.evaluation.calibration import Calibration
from models.evaluation.classification import ClassificationFigures
from models.evaluation.cost import Cost
from models.evaluation.flattery import Flattery
from models.evaluation.masks import MaskFigures
from models.evaluation.operating_point import ChosenPoint
from models.evaluation.patients import PolicyFigures
from models.manifest import Manifest

#: Name of the file in an output folder.
METRICS_FILE = "metrics.json"
#: Grows when a reader of the old form would misread the new one.
SCHEMA_VERSION = 1


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """Which model was measured."""

    name: str
    version: str
    sha256: str
    task: str
    classes: tuple[str, ...]
    recipe: str


@dataclass(frozen=True, slots=True)
class DataFacts:
    """What it was measured on.

    ``part`` is empty where all samples were taken. ``patient_source`` says how patients are known.
    ``assumptions`` are stated, not checked: for example the window of the pictures.
    """

    name: str
    layout: str
    part: str
    n_images: int
    n_patients: int
    patient_source: str
    licence: str
    citation: str
    assumptions: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Temperature:
    """By what logits were divided, and where it came from."""

    value: float
    fitted_on: str


@dataclass(frozen=True, slots=True)
class AffectedFigures:
    """Any disease against normal, slice by slice: area under the curve, and at the threshold."""

    n_affected: int
    n_normal: int
    threshold: float
    auc: Interval
    sensitivity: Interval
    specificity: Interval


@dataclass(frozen=True, slots=True)
class PatientAffected:
    """The slices of one patient who has both kinds; intervals are over those slices."""

    patient: str
    by_class: AffectedFigures
    by_lesion_map: AffectedFigures | None


@dataclass(frozen=True, slots=True)
class EvaluationReport:
    """One evaluation; parts that do not apply are None or empty.

    ``calibration`` is that of the probabilities which were measured, ``uncalibrated`` that without
    a temperature where one was fitted. ``whole_image`` are the figures without lung boxes.
    """

    model: ModelFacts
    data: DataFacts
    decision: ChosenPoint | None = None
    temperature: Temperature | None = None
    images: ClassificationFigures | None = None
    affected: AffectedFigures | None = None
    affected_by_patient: tuple[PatientAffected, ...] = ()
    lesion_map: AffectedFigures | None = None
    whole_image: ClassificationFigures | None = None
    calibration: Calibration | None = None
    uncalibrated: Calibration | None = None
    patients: tuple[PolicyFigures, ...] = ()
    masks: MaskFigures | None = None
    baseline_masks: MaskFigures | None = None
    flattery: Flattery | None = None
    cost: Cost | None = None
    remarks: tuple[str, ...] = ()


def model_facts(manifest: Manifest) -> ModelFacts:
    """Say which model was measured."""
    return ModelFacts(
        name=manifest.name,
        version=manifest.version,
        sha256=manifest.sha256,
        task=manifest.task.value,
        classes=manifest.class_names,
        recipe=manifest.recipe,
    )


def data_facts(
    data: LabelledImages, part: str = "", assumptions: tuple[str, ...] = ()
) -> DataFacts:
    """Say what was measured on."""
    return DataFacts(
        name=data.name,
        layout=data.layout,
        part=part,
        n_images=len(data),
        n_patients=len(data.patients()),
        patient_source=data.patient_source.value,
        licence=data.licence,
        citation=data.citation,
        assumptions=assumptions,
    )


def to_document(value: Any) -> Any:
    """Turn frozen values into what JSON knows; a figure that is not a number becomes null."""
    if is_dataclass(value) and not isinstance(value, type):
        return {one.name: to_document(getattr(value, one.name)) for one in fields(value)}
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, dict):
        return {str(key): to_document(one) for key, one in value.items()}
    if isinstance(value, tuple | list):
        return [to_document(one) for one in value]
    if isinstance(value, np.generic):
        return to_document(value.item())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def report_document(report: EvaluationReport) -> dict[str, Any]:
    """Give the whole report for ``metrics.json``."""
    return {"schema_version": SCHEMA_VERSION, **to_document(report)}


def write_metrics(report: EvaluationReport, folder: Path) -> Path:
    """Write ``metrics.json`` into an existing folder."""
    path = folder / METRICS_FILE
    text = json.dumps(report_document(report), indent=2, ensure_ascii=False, allow_nan=False)
    path.write_text(text + "\n", encoding="utf-8")
    return path


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object from a file.

    Raises
    ------
    DatasetInvalid
        The file is missing, or holds something else.
    """
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DatasetInvalid(f"{path} is no readable {METRICS_FILE} ({error})") from error
    if not isinstance(document, dict):
        raise DatasetInvalid(f"{path} is no {METRICS_FILE}: it holds no object")
    return document


def read_metrics(path: Path) -> dict[str, Any]:
    """Read a ``metrics.json`` of this form.

    Raises
    ------
    DatasetInvalid
        The file is missing, is no JSON, or was written in another form.
    """
    document = read_json(path)
    if document.get("schema_version") != SCHEMA_VERSION:
        raise DatasetInvalid(
            f"{path} is not of form {SCHEMA_VERSION}; evaluate the model again with this version"
        )
    return document
