"""MobileNetV2 as a model folder: the yardstick for speed, with weights of no use.

Sandler et al. 2018, arXiv:1801.04381, table 2, width 1.0, 224 by 224, 1000 classes. How fast a
graph runs does not depend on its weights, so they are random and nothing has to be downloaded.
Batch normalisation is folded, as in every exported classifier.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from models.manifest import (
    GRAPH_FILE,
    Calibration,
    CodedConcept,
    Manifest,
    ModelClass,
    OperatingPoint,
    Task,
)
from models.registry import ModelFolder, digest_file

#: Side of the input, pixels.
SIDE = 224
#: Table 2: expansion, channels, repetitions, first stride.
_STAGES = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)
_STEM, _HEAD, _CLASSES = 32, 1280, 1000
#: Multiply-accumulate operations of one image.
REFERENCE_MACS = 300_774_272
_OPSET = 17


@dataclass(slots=True)
class _Builder:
    """Nodes and weights of a graph under construction."""

    rng: np.random.Generator
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    weights: list[onnx.TensorProto] = field(default_factory=list)

    def weight(self, shape: tuple[int, ...]) -> str:
        name = f"w{len(self.weights)}"
        values = self.rng.normal(0.0, 0.05, shape).astype(np.float32)
        self.weights.append(numpy_helper.from_array(values, name))
        return name

    def add(self, kind: str, inputs: list[str], **attributes: Any) -> str:
        name = f"x{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [name], **attributes))
        return name

    def convolve(
        self, x: str, n_in: int, n_out: int, *, side: int = 1, stride: int = 1, groups: int = 1
    ) -> str:
        weight, bias = self.weight((n_out, n_in // groups, side, side)), self.weight((n_out,))
        edge = side // 2
        return self.add(
            "Conv",
            [x, weight, bias],
            kernel_shape=[side, side],
            strides=[stride, stride],
            pads=[edge] * 4,
            group=groups,
        )

    def clipped(self, x: str) -> str:
        """ReLU6."""
        return self.add("Clip", [x, "zero", "six"])

    def block(self, x: str, n_in: int, n_out: int, expansion: int, stride: int) -> str:
        """Inverted residual with a linear bottleneck."""
        wide = n_in * expansion
        y = x if expansion == 1 else self.clipped(self.convolve(x, n_in, wide))
        y = self.clipped(self.convolve(y, wide, wide, side=3, stride=stride, groups=wide))
        y = self.convolve(y, wide, n_out)
        return self.add("Add", [x, y]) if stride == 1 and n_in == n_out else y


def write_reference(folder: Path) -> ModelFolder:
    """Write the network into an existing folder and give it as a model of grey images."""
    builder = _Builder(np.random.default_rng(0))
    x = builder.add("Unsqueeze", ["grey", "axis"])
    x = builder.add("Concat", [x, x, x], axis=1)
    x = builder.clipped(builder.convolve(x, 3, _STEM, side=3, stride=2))
    n_in = _STEM
    for expansion, n_out, repetitions, first_stride in _STAGES:
        for number in range(repetitions):
            x = builder.block(x, n_in, n_out, expansion, first_stride if number == 0 else 1)
            n_in = n_out
    x = builder.clipped(builder.convolve(x, n_in, _HEAD))
    x = builder.add("Flatten", [builder.add("GlobalAveragePool", [x])])
    logits = builder.add(
        "Gemm", [x, builder.weight((_HEAD, _CLASSES)), builder.weight((_CLASSES,))]
    )
    builder.nodes.append(helper.make_node("Identity", [logits], ["class_logits"]))
    _save(builder, folder / GRAPH_FILE)
    return ModelFolder(folder, _manifest(digest_file(folder / GRAPH_FILE)))


def _save(builder: _Builder, path: Path) -> None:
    constants = [
        numpy_helper.from_array(np.array(0.0, np.float32), "zero"),
        numpy_helper.from_array(np.array(6.0, np.float32), "six"),
        numpy_helper.from_array(np.array([1], np.int64), "axis"),
    ]
    graph = helper.make_graph(
        builder.nodes,
        "mobilenet-v2",
        [helper.make_tensor_value_info("grey", TensorProto.FLOAT, ["batch", SIDE, SIDE])],
        [helper.make_tensor_value_info("class_logits", TensorProto.FLOAT, ["batch", _CLASSES])],
        [*builder.weights, *constants],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", _OPSET)], ir_version=8)
    onnx.save(model, path)


def _manifest(sha256: str) -> Manifest:
    concept = CodedConcept("none", "99NONE", "none")
    return Manifest(
        name="mobilenet-v2-reference",
        version="1.0.0",
        task=Task.IMAGE_CLASSIFICATION,
        summary="MobileNetV2 1.0/224 with random weights: a yardstick for speed.",
        licence="Apache-2.0",
        intended_use="Timing; its output means nothing.",
        recipe="none",
        inputs=("grey",),
        outputs=("class_logits",),
        classes=(ModelClass("none", concept), ModelClass("nothing", concept)),
        hu_window=None,
        input_rows=SIDE,
        input_columns=SIDE,
        operating_point=OperatingPoint(0.5, "none"),
        calibration=Calibration(1.0, "none"),
        training_data=(),
        metrics=(),
        sha256=sha256,
    )
