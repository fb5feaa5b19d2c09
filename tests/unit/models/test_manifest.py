"""Manifests are read completely or not at all."""

from pathlib import Path

import pytest

from models.errors import ManifestInvalid
from models.manifest import MANIFEST_FILE, CodedConcept, InputUnit, Task, read_manifest

VALID = """
name = "slice-classifier"
version = "1.2.3"
task = "slice-classification"
summary = "Three classes."
licence = "Apache-2.0"
intended_use = "Research."
recipe = "joint"

[graph]
sha256 = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
inputs = ["hu", "boxes"]
outputs = ["class_logits", "lesion_logits"]
input_rows = 224
input_columns = 192
hu_window = { lower_hu = -1024, upper_hu = 300.5 }

[[classes]]
name = "normal"
code_value = "17621005"
coding_scheme = "SCT"
code_meaning = "Normal"

[[classes]]
name = "covid-19"
code_value = "840539006"
coding_scheme = "SCT"
code_meaning = "COVID-19"

[operating_point]
threshold = 0.4
chosen_by = "validation"

[calibration]
temperature = 1.5
fitted_by = "validation"

[[training_data]]
name = "LCTSC"
licence = "CC BY 3.0"
citation = "Yang 2017"
n_subjects = 7

[[metrics]]
name = "accuracy"
value = 0.9
lower = 0.8
upper = 0.95
measured_on = "phantoms"
n_subjects = 12
"""


def write(folder: Path, text: str) -> Path:
    (folder / MANIFEST_FILE).write_text(text, encoding="utf-8")
    return folder


def test_manifest_valid_is_read_completely(tmp_path: Path) -> None:
    """Every key of the file arrives in the frozen value."""
    manifest = read_manifest(write(tmp_path, VALID))
    assert manifest.task is Task.SLICE_CLASSIFICATION
    assert manifest.class_names == ("normal", "covid-19")
    assert manifest.classes[1].concept == CodedConcept("840539006", "SCT", "COVID-19")
    assert manifest.hu_window is not None
    assert (manifest.hu_window.lower_hu, manifest.hu_window.upper_hu) == (-1024.0, 300.5)
    assert (manifest.input_rows, manifest.input_columns) == (224, 192)
    assert manifest.inputs == ("hu", "boxes")
    assert manifest.operating_point.threshold == 0.4
    assert manifest.calibration.temperature == 1.5
    assert manifest.metrics[0].lower == 0.8


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        ('recipe = "joint"', "", "recipe is missing"),
        ('recipe = "joint"', 'recipe = "joint"\ncolour = "red"', "colour = 'red'"),
        ("temperature = 1.5", "temperature = 1.5\ntemprature = 2", "calibration.temprature = 2"),
        ("threshold = 0.4", "threshold = 1.4", "operating_point.threshold = 1.4"),
        ("threshold = 0.4", 'threshold = "0.4"', "operating_point.threshold = '0.4'"),
        ("threshold = 0.4", "threshold = nan", "operating_point.threshold = nan"),
        ("threshold = 0.4", "threshold = true", "operating_point.threshold = True"),
        ("temperature = 1.5", "temperature = 0", "calibration.temperature = 0"),
        ('task = "slice-classification"', 'task = "guessing"', "task = 'guessing'"),
        ('version = "1.2.3"', 'version = "latest"', "version = 'latest'"),
        ("0123456789abcdef0123", "0123456789ABCDEF0123", "graph.sha256"),
        ("lower_hu = -1024", "lower_hu = 400", "graph.hu_window.upper_hu = 300.5"),
        ('inputs = ["hu", "boxes"]', 'inputs = ["grey"]', "graph.inputs = ['grey']"),
        ("input_rows = 224", "input_rows = 0", "graph.input_rows = 0"),
        ('inputs = ["hu", "boxes"]', "inputs = []", "graph.inputs = []"),
        ('name = "covid-19"', 'name = ""', "classes[1].name = ''"),
        ("upper = 0.95", "upper = 0.85", "metrics[0].value = 0.9"),
        ("n_subjects = 7", "n_subjects = 7.5", "training_data[0].n_subjects = 7.5"),
    ],
)
def test_manifest_with_fault_names_key_and_value(
    tmp_path: Path, old: str, new: str, named: str
) -> None:
    """A missing, unknown or impossible key is refused by its full name."""
    assert old in VALID
    with pytest.raises(ManifestInvalid) as caught:
        read_manifest(write(tmp_path, VALID.replace(old, new, 1)))
    assert named in str(caught.value)
    assert str(tmp_path / MANIFEST_FILE) in str(caught.value)


def test_manifest_of_classifier_with_one_class_is_refused(tmp_path: Path) -> None:
    """A classifier that knows one class decides nothing."""
    start, end = VALID.index('[[classes]]\nname = "covid-19"'), VALID.index("[operating_point]")
    with pytest.raises(ManifestInvalid, match="at least two classes"):
        read_manifest(write(tmp_path, VALID[:start] + VALID[end:]))


def test_manifest_absent_is_refused(tmp_path: Path) -> None:
    """A folder without manifest is no model."""
    with pytest.raises(ManifestInvalid, match="cannot be read"):
        read_manifest(tmp_path)


@pytest.mark.parametrize("content", [b"name = ", b"\xff\xfe"])
def test_manifest_not_toml_is_refused(tmp_path: Path, content: bytes) -> None:
    """Damage is told apart from absence."""
    (tmp_path / MANIFEST_FILE).write_bytes(content)
    with pytest.raises(ManifestInvalid, match="is not TOML"):
        read_manifest(tmp_path)


GREY = (
    VALID.replace('task = "slice-classification"', 'task = "image-classification"')
    .replace('["hu", "boxes"]', '["grey"]')
    .replace("hu_window = { lower_hu = -1024, upper_hu = 300.5 }\n", "")
)
VARIANT = """
[[variants]]
name = "int8"
file = "model.int8.onnx"
sha256 = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
parity = 0.25
agreement = 0.99
n_images = 200
measured_on = "validation images"
"""


def test_manifest_of_grey_images_has_no_window_and_may_have_variants(tmp_path: Path) -> None:
    """A picture's window is unknown; other forms of the graph are pinned beside it."""
    manifest = read_manifest(write(tmp_path, GREY + VARIANT))
    assert (manifest.task, manifest.unit) == (Task.IMAGE_CLASSIFICATION, InputUnit.GREY)
    assert manifest.hu_window is None
    (variant,) = manifest.variants
    assert (variant.file, variant.parity, variant.agreement) == ("model.int8.onnx", 0.25, 0.99)
    assert read_manifest(write(tmp_path, VALID)).variants == ()


def test_manifest_of_grey_images_with_a_window_is_refused(tmp_path: Path) -> None:
    """A window that nothing applies would mislead."""
    text = GREY.replace("[graph]", "[graph]\nhu_window = { lower_hu = -1024, upper_hu = 300.5 }")
    with pytest.raises(ManifestInvalid, match=r"graph\.hu_window"):
        read_manifest(write(tmp_path, text))


def test_manifest_variant_outside_its_folder_is_refused(tmp_path: Path) -> None:
    """A file name is a name, not a path."""
    with pytest.raises(ManifestInvalid, match=r"variants\[0\]\.file"):
        read_manifest(write(tmp_path, GREY + VARIANT.replace("model.int8", "../model.int8")))
