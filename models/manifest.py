"""What a model says about itself: ``manifest.toml``, read strictly into frozen types.

The manifest is the contract that travels with the weights. Preprocessing is inside the graph; the
window and the size stand here so that people can read them, not so that code applies them again.
A key that is missing, unknown or out of range is an error: a manifest is read completely or not at
all.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from models.errors import ManifestInvalid
from models.strict_toml import StrictTable, read_document

#: Name of the manifest inside a model folder.
MANIFEST_FILE = "manifest.toml"
#: Name of the graph inside a model folder.
GRAPH_FILE = "model.onnx"
#: Name of the card inside a model folder.
CARD_FILE = "card.md"
#: SHA-256 in lower-case hexadecimal.
_DIGEST = r"[0-9a-f]{64}"


class Task(Enum):
    """What the graph computes."""

    LUNG_SEGMENTATION = "lung-segmentation"
    """HU slices in, one lung logit per pixel out."""
    SLICE_CLASSIFICATION = "slice-classification"
    """HU slices and lung boxes in, one logit per class out."""
    IMAGE_CLASSIFICATION = "image-classification"
    """Grey images of unknown window in, one logit per class out."""


#: Inputs that a graph of each task may have, in order.
_INPUTS: Mapping[Task, tuple[tuple[str, ...], ...]] = {
    Task.LUNG_SEGMENTATION: (("hu",), ("grey",)),
    Task.SLICE_CLASSIFICATION: (("hu", "boxes"),),
    Task.IMAGE_CLASSIFICATION: (("grey",),),
}


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


class InputUnit(Enum):
    """What the numbers of the input are; the name of the first input of the graph."""

    HU = "hu"
    """Hounsfield units, int16."""
    GREY = "grey"
    """Grey values from 0 to 255, float32; the window that made them is unknown."""


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
class Variant:
    """Another form of the same graph, beside it in the folder.

    ``parity`` is the largest absolute difference of its logits from those of ``model.onnx`` on
    ``n_images`` images named in ``measured_on``; ``agreement`` is the share of the images (for
    masks: of the pixels) that both decide alike.
    """

    name: str
    file: str
    sha256: str
    parity: float
    agreement: float
    n_images: int
    measured_on: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """Everything a model says about itself.

    ``classes`` stand in the order of the last axis of the logits. ``input_rows`` and
    ``input_columns`` are the grid to which the graph resamples inside, in pixels. ``sha256`` is the
    lower-case hexadecimal digest of ``model.onnx``. ``hu_window`` is None for grey images, whose
    window nobody knows. ``variants`` is empty where ``model.onnx`` stands alone.
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
    hu_window: HuWindow | None
    input_rows: int
    input_columns: int
    operating_point: OperatingPoint
    calibration: Calibration
    training_data: tuple[TrainingSource, ...]
    metrics: tuple[Metric, ...]
    sha256: str
    variants: tuple[Variant, ...] = ()

    @property
    def unit(self) -> InputUnit:
        """What the numbers of the image input are."""
        return InputUnit(self.inputs[0])

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
    document = read_document(path, ManifestInvalid, mend="restore the model folder")
    root = StrictTable(path, "", document, ManifestInvalid)
    manifest = _manifest(root)
    root.finish()
    return manifest


def _manifest(root: StrictTable) -> Manifest:
    """Take every key of the document; cross-check what belongs together."""
    task = root.choice("task", Task)
    classes = tuple(_model_class(one) for one in root.tables("classes"))
    if task is not Task.LUNG_SEGMENTATION and len(classes) < 2:  # noqa: PLR2004  one class decides nothing
        raise root.invalid("classes", len(classes), "a classifier needs at least two classes")
    graph = root.table("graph")
    inputs = graph.texts("inputs")
    _check_inputs(graph, task, inputs)
    manifest = Manifest(
        name=root.text("name", pattern=r"[a-z0-9][a-z0-9-]*"),
        version=root.text("version", pattern=r"\d+\.\d+\.\d+"),
        task=task,
        summary=root.text("summary"),
        licence=root.text("licence"),
        intended_use=root.text("intended_use"),
        recipe=root.text("recipe"),
        inputs=inputs,
        outputs=graph.texts("outputs"),
        classes=classes,
        hu_window=_hu_window(graph, inputs),
        input_rows=graph.count("input_rows"),
        input_columns=graph.count("input_columns"),
        operating_point=_operating_point(root.table("operating_point")),
        calibration=_calibration(root.table("calibration")),
        training_data=tuple(_training_source(one) for one in root.tables("training_data")),
        metrics=tuple(_metric(one) for one in root.tables("metrics")),
        sha256=graph.text("sha256", pattern=_DIGEST),
        variants=tuple(_variant(one) for one in _tables_or_none(root, "variants")),
    )
    graph.finish()
    return manifest


def _model_class(table: StrictTable) -> ModelClass:
    concept = CodedConcept(
        code_value=table.text("code_value"),
        coding_scheme=table.text("coding_scheme"),
        code_meaning=table.text("code_meaning"),
    )
    return table.finished(ModelClass(name=table.text("name"), concept=concept))


def _check_inputs(graph: StrictTable, task: Task, inputs: tuple[str, ...]) -> None:
    """Refuse inputs that no session of the task can feed."""
    allowed = _INPUTS[task]
    if inputs not in allowed:
        rule = " or ".join(str(list(one)) for one in allowed)
        raise graph.invalid("inputs", list(inputs), f"must be {rule} for {task.value}")


def _hu_window(graph: StrictTable, inputs: tuple[str, ...]) -> HuWindow | None:
    """Take the window of a graph of HU; grey images have none."""
    if inputs[0] == InputUnit.GREY.value:
        return None
    table = graph.table("hu_window")
    window = HuWindow(lower_hu=table.number("lower_hu"), upper_hu=table.number("upper_hu"))
    if window.lower_hu >= window.upper_hu:
        raise table.invalid(
            "upper_hu", window.upper_hu, f"must be above lower_hu {window.lower_hu}"
        )
    return table.finished(window)


def _tables_or_none(root: StrictTable, key: str) -> tuple[StrictTable, ...]:
    """Take a list of tables that may be absent."""
    return root.tables(key) if root.has(key) else ()


def _variant(table: StrictTable) -> Variant:
    variant = Variant(
        name=table.text("name", pattern=r"[a-z0-9][a-z0-9-]*"),
        file=table.text("file", pattern=r"model\.[a-z0-9.]+"),
        sha256=table.text("sha256", pattern=_DIGEST),
        parity=table.number("parity", lower=0.0),
        agreement=table.number("agreement", lower=0.0, upper=1.0),
        n_images=table.count("n_images"),
        measured_on=table.text("measured_on"),
    )
    return table.finished(variant)


def _operating_point(table: StrictTable) -> OperatingPoint:
    threshold = table.number("threshold", lower=0.0, upper=1.0)
    return table.finished(OperatingPoint(threshold, table.text("chosen_by")))


def _calibration(table: StrictTable) -> Calibration:
    temperature = table.number("temperature", lower=0.01, upper=100.0)
    return table.finished(Calibration(temperature, table.text("fitted_by")))


def _training_source(table: StrictTable) -> TrainingSource:
    source = TrainingSource(
        name=table.text("name"),
        licence=table.text("licence"),
        citation=table.text("citation"),
        n_subjects=table.count("n_subjects"),
    )
    return table.finished(source)


def _metric(table: StrictTable) -> Metric:
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
