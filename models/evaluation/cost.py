"""What an inference costs: multiply-accumulate operations, parameters, bytes, and time.

Operations are counted at the shapes of a real run, so that sizes which a graph computes itself
(resizing, lung boxes) are the true ones. Time is given as a ratio to MobileNetV2, both run in turns
on the same machine at the same moment: seconds alone say more about the machine than the model.
"""

import tempfile
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper

from models.evaluation.reference_network import SIDE, write_reference
from models.registry import ModelFolder
from models.session import ImageClassifier, Provider, run_graph

#: Runs of each network, in turns.
N_ROUNDS = 15
#: Operators that multiply, and are not counted; a graph with one of them says so.
_UNCOUNTED: Final = frozenset({"Einsum", "LSTM", "GRU", "RNN", "Attention", "MultiHeadAttention"})

Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class GraphCost:
    """Of one image of ``rows`` by ``columns``; parameters are the numbers stored as weights.

    ``uncounted`` names operators that multiply and are not in ``n_macs``.
    """

    n_macs: int
    n_parameters: int
    n_bytes: int
    rows: int
    columns: int
    uncounted: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Speed:
    """Slices per second of the model and of MobileNetV2, and their ratio, over ``n_rounds`` turns.

    ``ratio`` is the median of the turns, 2 is twice as fast as MobileNetV2; ``ratio_lower`` and
    ``ratio_upper`` are the quartiles. The first two depend on machine and load, the ratio hardly.
    """

    slices_per_s: float
    reference_slices_per_s: float
    ratio: float
    ratio_lower: float
    ratio_upper: float
    n_rounds: int
    threads: int


@dataclass(frozen=True, slots=True)
class Cost:
    """Counts and speed; the speed is None where it was not measured."""

    graph: GraphCost
    speed: Speed | None


def count_cost(graph: Path, feed: Mapping[str, NDArray[Any]]) -> GraphCost:
    """Count one run of a graph.

    Parameters
    ----------
    graph
        ``model.onnx``.
    feed
        Inputs by name, for one image; the first is ``(1, rows, columns)``.

    Raises
    ------
    InferenceFailed
        The graph does not run on the feed.
    """
    model = onnx.load(graph)
    weights = {one.name: tuple(one.dims) for one in model.graph.initializer}
    nodes = [node for node in model.graph.node if node.op_type in _COUNTERS]
    shapes = {**weights, **_measured_shapes(model, nodes, feed, set(weights))}
    n_macs = sum(_COUNTERS[node.op_type](node, shapes) for node in nodes)
    first = next(iter(feed.values()))
    return GraphCost(
        n_macs=n_macs,
        n_parameters=_count_parameters(model),
        n_bytes=graph.stat().st_size,
        rows=first.shape[1],
        columns=first.shape[2],
        uncounted=_uncounted(model),
    )


def measure_speed(run: Callable[[], object], *, threads: int, n_rounds: int = N_ROUNDS) -> Speed:
    """Time a function that handles one slice against MobileNetV2 on one picture, in turns.

    Parameters
    ----------
    run
        Handles one slice.
    threads
        Threads of both networks.
    n_rounds
        Turns after one for warming up.
    """
    with tempfile.TemporaryDirectory() as folder:
        reference = ImageClassifier(
            write_reference(Path(folder)), provider=Provider.CPU, threads=threads
        )
        picture = np.full((1, SIDE, SIDE), 100.0, dtype=np.float32)
        times = [
            (_seconds(run), _seconds(lambda: reference.logits(picture)))
            for _ in range(n_rounds + 1)
        ][1:]
    table = np.array(times)
    ratios = table[:, 1] / table[:, 0]
    lower, middle, upper = np.percentile(ratios, (25, 50, 75))
    medians = np.median(table, axis=0)
    return Speed(
        slices_per_s=float(1.0 / medians[0]),
        reference_slices_per_s=float(1.0 / medians[1]),
        ratio=float(middle),
        ratio_lower=float(lower),
        ratio_upper=float(upper),
        n_rounds=n_rounds,
        threads=threads,
    )


def example_feed(folder: ModelFolder, image: NDArray[Any]) -> dict[str, NDArray[Any]]:
    """Give the inputs of a model for one image ``(rows, columns)``; boxes span all of it."""
    inputs = folder.manifest.inputs
    feed: dict[str, NDArray[Any]] = {inputs[0]: image[None]}
    if len(inputs) > 1:
        feed[inputs[1]] = np.array([[0, 0, *image.shape]], dtype=np.float32)
    return feed


def _seconds(run: Callable[[], object]) -> float:
    started_s = time.perf_counter()
    run()
    return time.perf_counter() - started_s


def _measured_shapes(
    model: onnx.ModelProto,
    nodes: Iterable[onnx.NodeProto],
    feed: Mapping[str, NDArray[Any]],
    known: set[str],
) -> dict[str, Shape]:
    """Run the graph with the tensors of the counted nodes as outputs, and give their shapes."""
    names = {name for node in nodes for name in (*node.input, *node.output) if name} - known
    names -= set(feed)
    if not names:
        return {}
    probed = onnx.ModelProto()
    probed.CopyFrom(model)
    have = {one.name for one in probed.graph.output}
    probed.graph.output.extend(helper.make_empty_tensor_value_info(n) for n in sorted(names - have))
    results = run_graph(probed.SerializeToString(), feed, sorted(names))
    return {name: tuple(array.shape) for name, array in results.items()}


def _product(shape: Iterable[int]) -> int:
    return int(np.prod(list(shape), dtype=np.int64))


def _of_convolution(node: onnx.NodeProto, shapes: Mapping[str, Shape]) -> int:
    weight = node.input[3] if node.op_type == "QLinearConv" else node.input[1]
    return _product(shapes[node.output[0]]) * _product(shapes[weight][1:])


def _of_transposed_convolution(node: onnx.NodeProto, shapes: Mapping[str, Shape]) -> int:
    return _product(shapes[node.input[0]]) * _product(shapes[node.input[1]][1:])


def _of_product(node: onnx.NodeProto, shapes: Mapping[str, Shape]) -> int:
    left = shapes[node.input[0]]
    transposed = any(a.name == "transA" and a.i == 1 for a in node.attribute)
    return _product(shapes[node.output[0]]) * (left[0] if transposed else left[-1])


_COUNTERS: Final[Mapping[str, Callable[[onnx.NodeProto, Mapping[str, Shape]], int]]] = {
    "Conv": _of_convolution,
    "ConvInteger": _of_convolution,
    "QLinearConv": _of_convolution,
    "ConvTranspose": _of_transposed_convolution,
    "Gemm": _of_product,
    "MatMul": _of_product,
    "MatMulInteger": _of_product,
    "QLinearMatMul": _of_product,
}


def _count_parameters(model: onnx.ModelProto) -> int:
    """Count stored weights: tensors of at least one axis that are not shapes or indices."""
    tensors = list(model.graph.initializer)
    for node in model.graph.node:
        if node.op_type == "Constant":
            tensors += [a.t for a in node.attribute if a.name == "value"]
    kinds = {onnx.TensorProto.INT64, onnx.TensorProto.INT32, onnx.TensorProto.BOOL}
    return sum(
        _product(one.dims) for one in tensors if one.data_type not in kinds and len(one.dims) > 0
    )


def _uncounted(model: onnx.ModelProto) -> tuple[str, ...]:
    """Name what multiplies and is not counted, inside branches and functions too."""
    found = {node.op_type for node in model.graph.node if node.op_type in _UNCOUNTED}
    for node in model.graph.node:
        for attribute in node.attribute:
            inner = {one.op_type for one in attribute.g.node}
            found |= {f"{name} in {node.op_type}" for name in inner & set(_COUNTERS)}
    return tuple(sorted(found))
