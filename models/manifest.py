"""What a model says about itself: ``manifest.toml``, read strictly into frozen types.

The manifest is the contract that travels with the weights. Preprocessing is inside the graph; the
window and the size stand here so that people can read them, not so that code applies them again.
A key that is missing, unknown or out of range is an error: a manifest is read completely or not at
all.
"""

import re
import tomllib
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import TypeVar

from models.errors import ManifestInvalid

T = TypeVar("T")

#: Name of the manifest inside a model folder.
MANIFEST_FILE = "manifest.toml"
#: Name of the graph inside a model folder.
GRAPH_FILE = "model.onnx"


class Task(Enum):
    """What the graph computes."""

    LUNG_SEGMENTATION = "lung-segmentation"
    """HU slices in, one lung logit per pixel out."""
    SLICE_CLASSIFICATION = "slice-classification"
    """HU slices and lung boxes in, one logit per class out."""


@dataclass(frozen=True, slots=True)
class CodedConcept:
    """A concept of a coding scheme; DICOM PS3.3 8.8 (Code Sequence Macro)."""

    code_value: str
    coding_scheme: str
    code_meaning: str


@dataclass(frozen=True, slots=True)
class ModelClass:
    """One class of the output, with the concept that a report uses for it."""

    name: str
    concept: CodedConcept


@dataclass(frozen=True, slots=True)
class HuWindow:
    """Range that the graph keeps, in HU; values outside are clipped to it."""

    lower_hu: float
    upper_hu: float


@dataclass(frozen=True, slots=True)
class OperatingPoint:
    """Threshold on a probability (0 to 1), and the data and rule by which it was chosen."""

    threshold: float
    chosen_by: str


@dataclass(frozen=True, slots=True)
class Calibration:
    """Temperature by which logits are divided before softmax or sigmoid, and how it was fitted."""

    temperature: float
    fitted_by: str


@dataclass(frozen=True, slots=True)
class TrainingSource:
    """One body of training data and the licence under which it may be used."""

    name: str
    licence: str
    citation: str
    n_subjects: int


@dataclass(frozen=True, slots=True)
class Metric:
    """One measured figure with its 95 % interval, the data it was measured on, and how many."""

    name: str
    value: float
    lower: float
    upper: float
    measured_on: str
    n_subjects: int


@dataclass(frozen=True, slots=True)
class Manifest:
    """Everything a model says about itself.

    ``classes`` stand in the order of the last axis of the logits. ``input_rows`` and
    ``input_columns`` are the grid to which the graph resamples inside, in pixels. ``sha256`` is the
    lower-case hexadecimal digest of ``model.onnx``.
    """

    name: str
    version: str
    task: Task
    summary: str
    licence: str
    intended_use: str
    recipe: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    classes: tuple[ModelClass, ...]
    hu_window: HuWindow
    input_rows: int
    input_columns: int
    operating_point: OperatingPoint
    calibration: Calibration
    training_data: tuple[TrainingSource, ...]
    metrics: tuple[Metric, ...]
    sha256: str

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes in output order."""
        return tuple(one.name for one in self.classes)


def read_manifest(folder: Path) -> Manifest:
    """Read the manifest of a model folder.

    Parameters
    ----------
    folder
        A folder that holds ``manifest.toml``.

    Raises
    ------
    ManifestInvalid
        The file is missing or not TOML, a key is missing or unknown, or a value has the wrong type
        or range.
    """
    path = folder / MANIFEST_FILE
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ManifestInvalid(
            f"{path} cannot be read ({error}); restore the model folder"
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ManifestInvalid(f"{path} is not TOML ({error}); restore the file") from error
    root = _Table(path, "", document)
    manifest = _manifest(root)
    root.finish()
    return manifest


def _manifest(root: "_Table") -> Manifest:
    """Take every key of the document; cross-check what belongs together."""
    task = _task(root)
    classes = tuple(_model_class(one) for one in root.tables("classes"))
    if task is Task.SLICE_CLASSIFICATION and len(classes) < 2:  # noqa: PLR2004  one class decides nothing
        raise root.invalid("classes", len(classes), "a classifier needs at least two classes")
    graph = root.table("graph")
    window = graph.table("hu_window")
    manifest = Manifest(
        name=root.text("name", pattern=r"[a-z0-9][a-z0-9-]*"),
        version=root.text("version", pattern=r"\d+\.\d+\.\d+"),
        task=task,
        summary=root.text("summary"),
        licence=root.text("licence"),
        intended_use=root.text("intended_use"),
        recipe=root.text("recipe"),
        inputs=graph.texts("inputs"),
        outputs=graph.texts("outputs"),
        classes=classes,
        hu_window=_hu_window(window),
        input_rows=graph.count("input_rows"),
        input_columns=graph.count("input_columns"),
        operating_point=_operating_point(root.table("operating_point")),
        calibration=_calibration(root.table("calibration")),
        training_data=tuple(_training_source(one) for one in root.tables("training_data")),
        metrics=tuple(_metric(one) for one in root.tables("metrics")),
        sha256=graph.text("sha256", pattern=r"[0-9a-f]{64}"),
    )
    graph.finish()
    return manifest


def _task(root: "_Table") -> Task:
    value = root.text("task")
    known = {task.value: task for task in Task}
    if value not in known:
        raise root.invalid("task", value, f"must be one of {', '.join(known)}")
    return known[value]


def _model_class(table: "_Table") -> ModelClass:
    concept = CodedConcept(
        code_value=table.text("code_value"),
        coding_scheme=table.text("coding_scheme"),
        code_meaning=table.text("code_meaning"),
    )
    return table.finished(ModelClass(name=table.text("name"), concept=concept))


def _hu_window(table: "_Table") -> HuWindow:
    window = HuWindow(lower_hu=table.number("lower_hu"), upper_hu=table.number("upper_hu"))
    if window.lower_hu >= window.upper_hu:
        raise table.invalid(
            "upper_hu", window.upper_hu, f"must be above lower_hu {window.lower_hu}"
        )
    return table.finished(window)


def _operating_point(table: "_Table") -> OperatingPoint:
    threshold = table.number("threshold", lower=0.0, upper=1.0)
    return table.finished(OperatingPoint(threshold, table.text("chosen_by")))


def _calibration(table: "_Table") -> Calibration:
    temperature = table.number("temperature", lower=0.01, upper=100.0)
    return table.finished(Calibration(temperature, table.text("fitted_by")))


def _training_source(table: "_Table") -> TrainingSource:
    source = TrainingSource(
        name=table.text("name"),
        licence=table.text("licence"),
        citation=table.text("citation"),
        n_subjects=table.count("n_subjects"),
    )
    return table.finished(source)


def _metric(table: "_Table") -> Metric:
    metric = Metric(
        name=table.text("name"),
        value=table.number("value"),
        lower=table.number("lower"),
        upper=table.number("upper"),
        measured_on=table.text("measured_on"),
        n_subjects=table.count("n_subjects"),
    )
    if not metric.lower <= metric.value <= metric.upper:
        raise table.invalid("value", metric.value, "must lie within lower and upper")
    return table.finished(metric)


class _Table:
    """One TOML table that gives each key once and knows which were never asked for."""

    __slots__ = ("_left", "_path", "_where")

    def __init__(self, path: Path, where: str, content: dict[str, object]) -> None:
        self._path = path
        self._where = where
        self._left = dict(content)

    def invalid(self, key: str, value: object, rule: str) -> ManifestInvalid:
        """Say which key of which file has which value, and what it must be."""
        return ManifestInvalid(f"{self._path}: {self._where}{key} = {value!r}: {rule}")

    def text(self, key: str, *, pattern: str = r"(?s).*\S.*") -> str:
        """Take a string that matches the whole pattern; by default any that is not blank."""
        value = self._take(key)
        if not isinstance(value, str) or re.fullmatch(pattern, value) is None:
            raise self.invalid(key, value, f"must be text matching {pattern}")
        return value

    def texts(self, key: str) -> tuple[str, ...]:
        """Take a list of at least one string."""
        value = self._take(key)
        if (
            not isinstance(value, list)
            or not value
            or not all(isinstance(one, str) for one in value)
        ):
            raise self.invalid(key, value, "must be a list of at least one text")
        return tuple(value)

    def number(self, key: str, *, lower: float = -1e9, upper: float = 1e9) -> float:
        """Take a finite number within the limits, both included."""
        value = self._take(key)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise self.invalid(key, value, "must be a number")
        if not lower <= value <= upper:
            raise self.invalid(key, value, f"must be from {lower:g} to {upper:g}")
        return float(value)

    def count(self, key: str) -> int:
        """Take a whole number above zero."""
        value = self._take(key)
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise self.invalid(key, value, "must be a whole number above zero")
        return value

    def table(self, key: str) -> "_Table":
        """Take a sub-table."""
        value = self._take(key)
        if not isinstance(value, dict):
            raise self.invalid(key, value, "must be a table")
        return _Table(self._path, f"{self._where}{key}.", value)

    def tables(self, key: str) -> tuple["_Table", ...]:
        """Take a list of tables, at least one."""
        value = self._take(key)
        if (
            not isinstance(value, list)
            or not value
            or not all(isinstance(one, dict) for one in value)
        ):
            raise self.invalid(key, value, "must be a list of at least one table")
        return tuple(
            _Table(self._path, f"{self._where}{key}[{n}].", one) for n, one in enumerate(value)
        )

    def finish(self) -> None:
        """Refuse what nobody asked for: a misspelt key must not pass for a default."""
        for key, value in self._left.items():
            raise self.invalid(key, value, "unknown key; remove it or correct its name")

    def finished(self, value: T) -> T:
        """Give the value after ``finish``."""
        self.finish()
        return value

    def _take(self, key: str) -> object:
        if key not in self._left:
            raise ManifestInvalid(f"{self._path}: {self._where}{key} is missing; add it")
        return self._left.pop(key)
