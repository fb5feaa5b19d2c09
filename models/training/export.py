"""Export a network to ONNX and show that ONNX Runtime computes the same."""

import warnings
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
import torch
from torch import Tensor, nn

from models.manifest import GRAPH_FILE

#: Operator set of the graphs: GridSample and Resize as ONNX Runtime has them for CPU and CUDA.
OPSET = 18


def export_graph(
    network: nn.Module,
    examples: Mapping[str, Tensor],
    outputs: tuple[str, ...],
    dynamic: Mapping[str, Mapping[int, str]],
    folder: Path,
) -> Path:
    """Write ``model.onnx`` with dynamic axes and nothing else beside it.

    Parameters
    ----------
    examples
        One tensor per input, in order; sizes above 1 on every dynamic axis.
    outputs
        Names of the outputs, in order.
    dynamic
        For each input its dynamic axes by number, each with a name; equal names are equal sizes.
    """
    folder.mkdir(parents=True, exist_ok=True)
    axes = {
        name: torch.export.Dim(name, min=1) for one in dynamic.values() for name in one.values()
    }
    # By position: the arguments of a graph may have other names than its inputs.
    shapes = tuple(
        {axis: axes[label] for axis, label in dynamic[name].items()} for name in examples
    )
    with warnings.catch_warnings():
        # The exporter warns of deprecated parts of torch that it uses itself.
        for category in (DeprecationWarning, FutureWarning):
            warnings.simplefilter("ignore", category)
        # Two inputs share the batch axis on purpose.
        warnings.filterwarnings("ignore", message="# The axis name", category=UserWarning)
        program = torch.onnx.export(
            network.eval(),
            tuple(examples.values()),
            input_names=list(examples),
            output_names=list(outputs),
            dynamic_shapes=shapes,
            opset_version=OPSET,
            dynamo=True,
            optimize=True,
            verbose=False,
        )
    if program is None:
        raise RuntimeError("torch.onnx.export gave no program; the dynamo exporter is required")
    path = folder / GRAPH_FILE
    model = program.model_proto
    strip_training_traces(model)
    onnx.checker.check_model(model, full_check=True)
    onnx.save_model(model, path)
    return path


def strip_training_traces(model: onnx.ModelProto) -> None:
    """Remove source paths and stack traces that the exporter leaves in the graph."""
    del model.metadata_props[:]
    model.doc_string = ""
    model.graph.doc_string = ""
    del model.graph.metadata_props[:]
    for node in model.graph.node:
        node.doc_string = ""
        del node.metadata_props[:]
    for value in (*model.graph.value_info, *model.graph.input, *model.graph.output):
        del value.metadata_props[:]
    for initializer in model.graph.initializer:
        del initializer.metadata_props[:]


def largest_difference(
    expected: Tensor, found: "np.ndarray[tuple[int, ...], np.dtype[np.float32]]"
) -> float:
    """Give the largest absolute difference of logits between torch and ONNX Runtime."""
    return float(np.abs(expected.detach().numpy() - found).max())
