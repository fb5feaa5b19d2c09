"""Model folders with tiny graphs whose answers can be worked out by hand."""

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from models.manifest import (
    Calibration,
    CodedConcept,
    HuWindow,
    Manifest,
    ModelClass,
    OperatingPoint,
    Task,
    TrainingSource,
)
from models.manifest import Metric as ManifestMetric
from models.registry import ModelFolder, open_model_folder
from models.training.manifest_writer import write_manifest

_BATCH = ["batch", "rows", "columns"]


def tiny_manifest(task: Task, classes: tuple[str, ...], *, threshold: float = 0.5) -> Manifest:
    """Give a manifest for a tiny graph of a task; the digest is filled in when it is written."""
    inputs = {
        Task.LUNG_SEGMENTATION: ("hu",),
        Task.SLICE_CLASSIFICATION: ("hu", "boxes"),
        Task.IMAGE_CLASSIFICATION: ("grey",),
    }[task]
    return Manifest(
        name=f"tiny-{task.value}",
        version="0.0.1",
        task=task,
        summary="A graph for tests.",
        licence="Apache-2.0",
        intended_use="Tests.",
        recipe="none",
        inputs=inputs,
        outputs=("lung_logits",) if task is Task.LUNG_SEGMENTATION else ("class_logits",),
        classes=tuple(ModelClass(n, CodedConcept(n, "99TEST", n)) for n in classes),
        hu_window=None if inputs == ("grey",) else HuWindow(-1024.0, 400.0),
        input_rows=8,
        input_columns=8,
        operating_point=OperatingPoint(threshold, "not tuned"),
        calibration=Calibration(1.0, "not fitted"),
        training_data=(TrainingSource("none", "none", "none", 1),),
        metrics=(ManifestMetric("none", 0.5, 0.5, 0.5, "nothing", 1),),
        sha256="0" * 64,
    )


def write_brightness_model(
    folder: Path,
    classes: tuple[str, ...] = ("normal", "covid-19"),
    *,
    middle: float = 100.0,
    threshold: float = 0.5,
) -> ModelFolder:
    """Write a classifier of grey images: the logit of class n is n * (mean - middle) / 10."""
    slopes = (np.arange(len(classes), dtype=np.float32) / 10.0)[None]
    graph = helper.make_graph(
        [
            helper.make_node("ReduceMean", ["grey"], ["mean"], axes=[1, 2], keepdims=0),
            helper.make_node("Sub", ["mean", "middle"], ["shifted"]),
            helper.make_node("Unsqueeze", ["shifted", "axis"], ["column"]),
            helper.make_node("MatMul", ["column", "slopes"], ["class_logits"]),
        ],
        "brightness",
        [helper.make_tensor_value_info("grey", TensorProto.FLOAT, _BATCH)],
        [helper.make_tensor_value_info("class_logits", TensorProto.FLOAT, ["batch", len(classes)])],
        [
            numpy_helper.from_array(np.array(middle, np.float32), "middle"),
            numpy_helper.from_array(np.array([1], np.int64), "axis"),
            numpy_helper.from_array(slopes, "slopes"),
        ],
    )
    manifest = tiny_manifest(Task.IMAGE_CLASSIFICATION, classes, threshold=threshold)
    return _write(folder, graph, manifest)


def write_air_model(folder: Path) -> ModelFolder:
    """Write a lung model: the logit is (175 - |HU + 750|) / 100: lung, and neither air nor body."""
    graph = helper.make_graph(
        [
            helper.make_node("Cast", ["hu"], ["real"], to=TensorProto.FLOAT),
            helper.make_node("Add", ["real", "middle"], ["off"]),
            helper.make_node("Abs", ["off"], ["distance"]),
            helper.make_node("Sub", ["reach", "distance"], ["inside"]),
            helper.make_node("Div", ["inside", "scale"], ["lung_logits"]),
        ],
        "air",
        [helper.make_tensor_value_info("hu", TensorProto.INT16, _BATCH)],
        [helper.make_tensor_value_info("lung_logits", TensorProto.FLOAT, _BATCH)],
        [
            numpy_helper.from_array(np.array(750.0, np.float32), "middle"),
            numpy_helper.from_array(np.array(175.0, np.float32), "reach"),
            numpy_helper.from_array(np.array(100.0, np.float32), "scale"),
        ],
    )
    return _write(folder, graph, tiny_manifest(Task.LUNG_SEGMENTATION, ("lung",)))


def write_density_model(
    folder: Path, classes: tuple[str, ...] = ("normal", "covid-19", "community-acquired-pneumonia")
) -> ModelFolder:
    """Write a slice model: the logit of class n is n * (mean HU + 500) / 100; boxes are ignored."""
    slopes = (np.arange(len(classes), dtype=np.float32) / 100.0)[None]
    graph = helper.make_graph(
        [
            helper.make_node("Cast", ["hu"], ["real"], to=TensorProto.FLOAT),
            helper.make_node("ReduceMean", ["real"], ["mean"], axes=[1, 2], keepdims=0),
            helper.make_node("Add", ["mean", "middle"], ["shifted"]),
            helper.make_node("Unsqueeze", ["shifted", "axis"], ["column"]),
            helper.make_node("MatMul", ["column", "slopes"], ["product"]),
            helper.make_node("ReduceSum", ["boxes", "axis"], ["sums"], keepdims=1),
            helper.make_node("Mul", ["sums", "zero"], ["nothing"]),
            helper.make_node("Add", ["product", "nothing"], ["class_logits"]),
        ],
        "density",
        [
            helper.make_tensor_value_info("hu", TensorProto.INT16, _BATCH),
            helper.make_tensor_value_info("boxes", TensorProto.FLOAT, ["batch", 4]),
        ],
        [helper.make_tensor_value_info("class_logits", TensorProto.FLOAT, ["batch", len(classes)])],
        [
            numpy_helper.from_array(np.array(500.0, np.float32), "middle"),
            numpy_helper.from_array(np.array(0.0, np.float32), "zero"),
            numpy_helper.from_array(np.array([1], np.int64), "axis"),
            numpy_helper.from_array(slopes, "slopes"),
        ],
    )
    return _write(folder, graph, tiny_manifest(Task.SLICE_CLASSIFICATION, classes))


def _write(folder: Path, graph: onnx.GraphProto, manifest: Manifest) -> ModelFolder:
    folder.mkdir(parents=True, exist_ok=True)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, folder / "model.onnx")
    write_manifest(folder, manifest)
    return open_model_folder(folder)
