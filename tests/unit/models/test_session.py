"""Sessions keep the input contract, whatever size and provider is asked for."""

import shutil
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from models.errors import (
    ManifestInvalid,
    ModelDigestMismatch,
    ModelInputInvalid,
    ProviderUnavailable,
)
from models.manifest import MANIFEST_FILE
from models.registry import SHIPPED_MODELS, digest_file, find_model, open_model_folder
from models.session import LungSegmenter, Provider, SliceClassifier


@pytest.fixture(scope="module")
def lungs() -> LungSegmenter:
    return LungSegmenter(find_model("lung-segmentation"), provider=Provider.CPU, threads=1)


@pytest.fixture(scope="module")
def slices() -> SliceClassifier:
    return SliceClassifier(find_model("slice-classifier"), provider=Provider.CPU, threads=1)


def body(n: int, rows: int, columns: int) -> np.ndarray:
    """Give ellipses of soft tissue with two dark lungs, a different patient in each slice."""
    row = np.linspace(-1, 1, rows)[None, :, None]
    column = np.linspace(-1, 1, columns)[None, None, :]
    grow = np.linspace(0.9, 1.0, n)[:, None, None]
    hu = np.full((n, rows, columns), -1000.0)
    hu[(column / 0.85) ** 2 + (row / 0.6) ** 2 + 0 * grow < grow] = 40.0
    for side in (-0.38, 0.38):
        hu[((column - side) / 0.28) ** 2 + (row / 0.42) ** 2 + 0 * grow < grow**3] = -850.0
    return hu.astype(np.int16)


@pytest.mark.parametrize("shape", [(1, 512, 512), (3, 256, 256), (2, 300, 411), (1, 96, 64)])
def test_lung_logits_any_size_keep_shape(lungs: LungSegmenter, shape: tuple[int, int, int]) -> None:
    """Batch and image size are free; what comes back fits what went in."""
    logits = lungs.logits(body(*shape))
    assert logits.shape == shape
    assert logits.dtype == np.float32
    assert np.isfinite(logits).all()


def test_lung_logits_do_not_depend_on_the_batch(lungs: LungSegmenter) -> None:
    """A slice gets the same logits alone and among others."""
    hu = body(3, 256, 256)
    together = lungs.logits(hu)
    alone = np.concatenate([lungs.logits(hu[n : n + 1]) for n in range(3)])
    np.testing.assert_allclose(together, alone, atol=1e-3)


def test_lung_logits_see_nothing_outside_the_window(lungs: LungSegmenter) -> None:
    """The window is inside the graph: padding far below air looks like air at its edge."""
    hu = body(1, 256, 256)
    assert lungs.manifest.hu_window is not None
    lower_hu = int(lungs.manifest.hu_window.lower_hu)
    at_edge, far_below = hu.copy(), hu.copy()
    at_edge[:, :20] = lower_hu
    far_below[:, :20] = -32768
    np.testing.assert_array_equal(lungs.logits(at_edge), lungs.logits(far_below))


def test_lung_mask_is_where_probability_exceeds_the_threshold(lungs: LungSegmenter) -> None:
    """Cutting logits and cutting probabilities agree."""
    logits = np.linspace(-6, 6, 49, dtype=np.float32).reshape(1, 7, 7)
    probabilities = lungs.probabilities(logits)
    assert probabilities.min() > 0.0
    assert probabilities.max() < 1.0
    threshold = lungs.manifest.operating_point.threshold
    np.testing.assert_array_equal(lungs.mask(logits), probabilities > threshold)
    assert 0 < lungs.mask(logits).sum() < 49


def test_class_logits_any_size_have_one_column_per_class(slices: SliceClassifier) -> None:
    """Batch and image size are free."""
    for shape in [(1, 512, 512), (3, 256, 256), (2, 300, 411)]:
        boxes = np.tile(np.float32([10, 12, 80.5, 90]), (shape[0], 1))
        logits = slices.logits(body(*shape), boxes)
        assert logits.shape == (shape[0], 3)
        assert logits.dtype == np.float32
        lesion = slices.lesion_logits(body(*shape), boxes)
        assert lesion.shape[0] == shape[0]
        assert lesion.ndim == 3
        assert lesion.dtype == np.float32


def test_class_logits_do_not_depend_on_the_batch(slices: SliceClassifier) -> None:
    """A slice gets the same logits alone and among others."""
    hu = body(3, 256, 256)
    boxes = np.float32([[60, 30, 200, 220], [70, 40, 190, 200], [50, 20, 210, 230]])
    together = slices.logits(hu, boxes)
    alone = [slices.logits(hu[n : n + 1], boxes[n : n + 1]) for n in range(3)]
    np.testing.assert_allclose(together, np.concatenate(alone), atol=1e-4)


def test_class_logits_see_only_the_box(slices: SliceClassifier) -> None:
    """What lies beyond the box, but for the pixel that interpolation needs, changes nothing."""
    hu = body(1, 256, 256)
    boxes = np.float32([[60, 30, 200, 220]])
    changed = hu.copy()
    changed[:, :58] = 500
    changed[:, :, 222:] = 500
    np.testing.assert_array_equal(slices.logits(hu, boxes), slices.logits(changed, boxes))
    changed[:, 60:64] = 500
    assert np.abs(slices.logits(hu, boxes) - slices.logits(changed, boxes)).max() > 1e-4


def test_class_probabilities_follow_the_temperature(slices: SliceClassifier) -> None:
    """Softmax of the logits divided by the manifest's temperature."""
    logits = np.float32([[2.0, 1.0, -1.0], [500.0, -500.0, 0.0]])
    powers = np.exp(np.float64([2.0, 1.0, -1.0]) / slices.manifest.calibration.temperature)
    probabilities = slices.probabilities(logits)
    np.testing.assert_allclose(probabilities[0], powers / powers.sum(), rtol=1e-5)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1.0, rtol=1e-5)


@pytest.mark.parametrize(
    "hu",
    [
        np.zeros((2, 64, 64), dtype=np.float32),
        np.zeros((64, 64), dtype=np.int16),
        np.zeros((0, 64, 64), dtype=np.int16),
    ],
)
def test_lung_logits_of_no_int16_stack_are_refused(lungs: LungSegmenter, hu: np.ndarray) -> None:
    """Type, number of axes and emptiness are checked before ONNX Runtime sees them."""
    with pytest.raises(ModelInputInvalid, match="must be int16"):
        lungs.logits(hu)


@pytest.mark.parametrize(
    ("boxes", "rule"),
    [
        (np.zeros((1, 4), dtype=np.float32), "no area"),
        (np.float32([[10, 10, 5, 20]]), "no area"),
        (np.float32([[10, 10, np.nan, 20]]), "no area"),
        (np.float32([[0, 0, 9, 9], [0, 0, 9, 9]]), "must be float32"),
        (np.array([[0, 0, 9, 9]], dtype=np.float64), "must be float32"),
    ],
)
def test_class_logits_of_impossible_boxes_are_refused(
    slices: SliceClassifier, boxes: np.ndarray, rule: str
) -> None:
    """A box belongs to a slice and has an area."""
    with pytest.raises(ModelInputInvalid, match=rule):
        slices.logits(body(1, 64, 64), boxes)


def test_session_on_cpu_is_no_fallback(lungs: LungSegmenter) -> None:
    """Asked for and got."""
    assert lungs.provider.actual is Provider.CPU
    assert lungs.provider.fallback_reason is None
    assert lungs.digest == lungs.manifest.sha256


@pytest.mark.parametrize("provider", [Provider.CUDA, Provider.TENSORRT])
def test_session_without_gpu_build_records_the_fallback(
    provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The CPU takes over, and the reason says what to install."""
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])
    opened = LungSegmenter(find_model("lung-segmentation"), provider=provider, threads=1)
    assert opened.provider.requested is provider
    assert opened.provider.actual is Provider.CPU
    assert "install the gpu extra" in (opened.provider.fallback_reason or "")
    assert opened.logits(body(1, 64, 64)).shape == (1, 64, 64)


def test_session_with_provider_that_fails_records_the_fallback(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A GPU build without a working driver runs on the CPU and says why."""
    create = onnxruntime.InferenceSession

    def without_driver(path: str, options: object, *, providers: list[str]) -> object:
        if providers[0] == "CUDAExecutionProvider":
            raise RuntimeError("libcuda.so.1: cannot open shared object file")
        return create(path, options, providers=providers)

    monkeypatch.setattr(onnxruntime, "InferenceSession", without_driver)
    monkeypatch.setattr(
        onnxruntime,
        "get_available_providers",
        lambda: ["CUDAExecutionProvider", "CPUExecutionProvider"],
    )
    opened = LungSegmenter(find_model("lung-segmentation"), provider=Provider.CUDA, threads=1)
    assert opened.provider.actual is Provider.CPU
    assert "libcuda.so.1" in (opened.provider.fallback_reason or "")


def test_session_of_changed_graph_never_opens(tmp_path: Path) -> None:
    """The digest is verified first, so a damaged graph is a mismatch and not a parse error."""
    folder = tmp_path / "lungs"
    shutil.copytree(SHIPPED_MODELS / "lung_segmentation", folder)
    opened = open_model_folder(folder)
    opened.graph.write_bytes(b"not a graph")
    with pytest.raises(ModelDigestMismatch):
        LungSegmenter(opened, provider=Provider.CPU, threads=1)


def test_session_of_pinned_rubbish_names_the_provider(tmp_path: Path) -> None:
    """A graph that was released broken is reported as one that does not open."""
    folder = tmp_path / "lungs"
    shutil.copytree(SHIPPED_MODELS / "lung_segmentation", folder)
    before = digest_file(folder / "model.onnx")
    (folder / "model.onnx").write_bytes(b"not a graph")
    text = (folder / MANIFEST_FILE).read_text(encoding="utf-8")
    text = text.replace(before, digest_file(folder / "model.onnx"))
    (folder / MANIFEST_FILE).write_text(text, encoding="utf-8")
    with pytest.raises(ProviderUnavailable, match="does not open on cpu"):
        LungSegmenter(open_model_folder(folder), provider=Provider.CPU, threads=1)


def test_session_of_other_task_is_refused() -> None:
    """A classifier is no segmenter, whatever its graph would compute."""
    with pytest.raises(ManifestInvalid, match="is for slice-classification"):
        LungSegmenter(find_model("slice-classifier"), provider=Provider.CPU, threads=1)


def test_session_with_other_names_is_refused(tmp_path: Path) -> None:
    """The graph's inputs and outputs must be those that the manifest names."""
    folder = tmp_path / "lungs"
    shutil.copytree(SHIPPED_MODELS / "lung_segmentation", folder)
    text = (folder / MANIFEST_FILE).read_text(encoding="utf-8")
    assert '"lung_logits"' in text
    text = text.replace('"lung_logits"', '"logits"')
    (folder / MANIFEST_FILE).write_text(text, encoding="utf-8")
    with pytest.raises(ManifestInvalid, match="export it again"):
        LungSegmenter(open_model_folder(folder), provider=Provider.CPU, threads=1)


def test_session_without_threads_is_refused() -> None:
    """Zero threads would mean as many as the machine has; that is never wanted by accident."""
    with pytest.raises(ModelInputInvalid, match="threads = 0"):
        LungSegmenter(find_model("lung-segmentation"), provider=Provider.CPU, threads=0)
