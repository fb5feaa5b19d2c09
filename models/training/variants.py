"""Make smaller forms of a graph and measure how far each is from it.

``fp16`` halves the weights; input and output stay float32, and so does all resampling, where half
precision would lose positions. ``int8`` quantises weights per output channel and activations by the
range that calibration images show (static, QDQ). ``ort`` is the format of ONNX Runtime's mobile
builds. A variant lies beside ``model.onnx`` and is pinned in the manifest with its measured parity.
"""

import statistics
import tempfile
import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import Enum
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray
from onnxruntime.quantization import (
    CalibrationDataReader,
    QuantFormat,
    QuantType,
    quantize_static,
)
from onnxruntime.quantization.shape_inference import quant_pre_process
from onnxruntime.transformers.float16 import DEFAULT_OP_BLOCK_LIST, convert_float_to_float16

from models.errors import TrainingFailed
from models.manifest import Manifest, Task, Variant
from models.registry import ModelFolder, digest_file
from models.training.manifest_writer import write_manifest
from models.training.variant_images import Feed

#: Operators that stay in float32: where samples are taken, and what depends on exact positions.
_FLOAT32_OPERATORS = ("GridSample", "Resize", "Range", "ReduceMin", "ReduceMax", "Round", "Cast")
#: Fewer images than this calibrate nothing and measure nothing.
_LEAST_IMAGES = 4
#: Runs of each graph, taken in turn, whose median is compared.
_TIMED_RUNS = 9


class Precision(Enum):
    """Numbers of a variant."""

    FP32 = "fp32"
    """As trained."""
    FP16 = "fp16"
    """Weights and most arithmetic in half precision."""
    INT8 = "int8"
    """Weights and activations of convolutions and dense layers in 8 bits."""


class GraphFormat(Enum):
    """File format of a variant."""

    ONNX = "onnx"
    """What ``model.onnx`` is."""
    ORT = "ort"
    """Flat file for the mobile builds of ONNX Runtime."""


@dataclass(frozen=True, slots=True)
class Exported:
    """A variant as it was written; ``speed`` is times as fast as ``model.onnx`` on this CPU."""

    model: str
    variant: Variant
    path: Path
    size_bytes: int
    size_of_model_bytes: int
    speed: float


def export_variant(
    folder: ModelFolder,
    precision: Precision,
    graph_format: GraphFormat,
    feeds: Sequence[Feed],
    measured_on: str,
) -> Exported:
    """Write a variant beside the graph, measure it, and pin it in the manifest.

    Parameters
    ----------
    feeds
        Inputs of single images. Every second one calibrates, the others measure.
    measured_on
        What the images are, for the manifest.

    Raises
    ------
    TrainingFailed
        The variant would be the graph itself, or there are too few images.
    """
    if precision is Precision.FP32 and graph_format is GraphFormat.ONNX:
        raise TrainingFailed("fp32 in ONNX is model.onnx itself; choose fp16, int8 or --format ort")
    if len(feeds) < _LEAST_IMAGES:
        raise TrainingFailed(f"{len(feeds)} images: at least {_LEAST_IMAGES} are needed; give more")
    name = _name(precision, graph_format)
    path = folder.path / f"model.{precision.value}.{graph_format.value}"
    with tempfile.TemporaryDirectory() as scratch:
        converted = _convert(folder.graph, precision, feeds[::2], Path(scratch))
        if graph_format is GraphFormat.ORT:
            _write_ort(converted, path)
        else:
            path.write_bytes(converted.read_bytes())
    measured = feeds[1::2]
    before, after = _outputs(folder.graph, measured), _outputs(path, measured)
    variant = Variant(
        name=name,
        file=path.name,
        sha256=digest_file(path),
        parity=max(float(np.abs(a - b).max()) for a, b in zip(before, after, strict=True)),
        agreement=_agreement(folder.manifest, before, after),
        n_images=len(measured),
        measured_on=measured_on,
    )
    _pin(folder, variant)
    return Exported(
        model=folder.manifest.name,
        variant=variant,
        path=path,
        size_bytes=path.stat().st_size,
        size_of_model_bytes=folder.graph.stat().st_size,
        speed=_speed(folder.graph, path, measured[0]),
    )


def _name(precision: Precision, graph_format: GraphFormat) -> str:
    suffix = "" if graph_format is GraphFormat.ONNX else f"-{graph_format.value}"
    return precision.value + suffix


def _pin(folder: ModelFolder, variant: Variant) -> Manifest:
    """Write the variant into the manifest, in place of one of the same name."""
    others = tuple(one for one in folder.manifest.variants if one.name != variant.name)
    changed = replace(folder.manifest, variants=(*others, variant))
    return write_manifest(folder.path, changed)


# ── conversion ───────────────────────────────────────────────────────────────────────────────


def _convert(graph: Path, precision: Precision, feeds: Sequence[Feed], scratch: Path) -> Path:
    """Give the graph in another precision; a new file unless it stays as it is."""
    if precision is Precision.FP32:
        return graph
    path = scratch / "converted.onnx"
    if precision is Precision.FP16:
        kept = [*DEFAULT_OP_BLOCK_LIST, *_FLOAT32_OPERATORS]
        with warnings.catch_warnings():
            # Weights below the least half are raised to it, and each is warned about.
            warnings.simplefilter("ignore", UserWarning)
            model = convert_float_to_float16(
                onnx.load(graph), keep_io_types=True, op_block_list=kept
            )
        onnx.save_model(model, path)
        return path
    prepared = scratch / "prepared.onnx"
    quant_pre_process(str(graph), str(prepared), skip_symbolic_shape=True)
    quantize_static(
        str(prepared),
        str(path),
        _Images(feeds),
        quant_format=QuantFormat.QDQ,
        per_channel=True,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        op_types_to_quantize=["Conv", "Gemm", "MatMul"],
    )
    return path


class _Images(CalibrationDataReader):  # type: ignore[misc]  # the base has no types
    """Hands calibration images to the quantiser, one after the other."""

    def __init__(self, feeds: Sequence[Feed]) -> None:
        self._feeds = iter(feeds)

    def get_next(self) -> dict[str, NDArray[Any]] | None:
        """Give the next image, None after the last."""
        feed = next(self._feeds, None)
        return None if feed is None else dict(feed)


def _write_ort(graph: Path, path: Path) -> None:
    """Write the format of the mobile builds, with optimisations that hold on any processor."""
    options = _options()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.add_session_config_entry("session.save_model_format", "ORT")
    options.optimized_model_filepath = str(path)
    ort.InferenceSession(str(graph), options, providers=["CPUExecutionProvider"])


# ── measuring ────────────────────────────────────────────────────────────────────────────────


def _options() -> ort.SessionOptions:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    return options


def _session(path: Path) -> ort.InferenceSession:
    return ort.InferenceSession(str(path), _options(), providers=["CPUExecutionProvider"])


def _outputs(path: Path, feeds: Sequence[Feed]) -> list[NDArray[np.float32]]:
    """Give the first output of each image."""
    session = _session(path)
    return [np.asarray(session.run(None, dict(feed))[0], dtype=np.float32) for feed in feeds]


def _agreement(
    manifest: Manifest, before: list[NDArray[np.float32]], after: list[NDArray[np.float32]]
) -> float:
    """Give the share of images, or of pixels of masks, that both decide alike."""
    if manifest.task is Task.LUNG_SEGMENTATION:
        threshold = manifest.operating_point.threshold
        cut = manifest.calibration.temperature * np.log(threshold / (1.0 - threshold))
        same = [((a > cut) == (b > cut)).mean() for a, b in zip(before, after, strict=True)]
    else:
        pairs = zip(before, after, strict=True)
        same = [(a.argmax(axis=1) == b.argmax(axis=1)).mean() for a, b in pairs]
    return float(np.mean(same))


def _speed(graph: Path, variant: Path, feed: Feed) -> float:
    """Give how many times as fast the variant is: medians of runs taken in turn."""
    sessions = (_session(graph), _session(variant))
    seconds: tuple[list[float], list[float]] = ([], [])
    for _ in range(_TIMED_RUNS):
        for session, taken in zip(sessions, seconds, strict=True):
            started = time.perf_counter()
            session.run(None, dict(feed))
            taken.append(time.perf_counter() - started)
    return statistics.median(seconds[0]) / statistics.median(seconds[1])
