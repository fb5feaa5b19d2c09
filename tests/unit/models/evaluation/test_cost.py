"""Operations, parameters and bytes are exact; speed is a ratio of turns."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from models.evaluation.cost import count_cost, example_feed, measure_speed
from models.evaluation.reference_network import REFERENCE_MACS, write_reference
from models.registry import find_model


def test_reference_network_costs_what_is_published(tmp_path: Path) -> None:
    """MobileNetV2: 300.8 million operations, 3,504,872 parameters less 17,056 folded ones."""
    folder = write_reference(tmp_path)
    cost = count_cost(folder.graph, example_feed(folder, np.zeros((224, 224), np.float32)))
    assert cost.n_macs == REFERENCE_MACS == 300_774_272
    assert cost.n_parameters == 3_504_872 - 17_056
    assert cost.n_bytes == folder.graph.stat().st_size
    assert cost.uncounted == ()


def save(nodes: list[onnx.NodeProto], weights: dict[str, np.ndarray], path: Path) -> Path:
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", "r", "c"])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(values, name) for name, values in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, path)
    return path


def test_operations_of_each_operator_equal_hand_worked(tmp_path: Path) -> None:
    """A grouped convolution, its transpose and a product, on an image of 6 by 8."""
    axis = np.array([1], np.int64)
    nodes = [
        helper.make_node("Unsqueeze", ["x", "axis"], ["image"]),
        helper.make_node("Concat", ["image", "image"], ["two"], axis=1),
        helper.make_node("Conv", ["two", "w1"], ["a"], kernel_shape=[3, 3], group=2),
        helper.make_node("ConvTranspose", ["a", "w2"], ["b"], kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("MatMul", ["b", "w3"], ["y"]),
    ]
    weights = {
        "axis": axis,
        "w1": np.zeros((4, 1, 3, 3), np.float32),
        "w2": np.zeros((4, 5, 2, 2), np.float32),
        "w3": np.zeros((12, 7), np.float32),
    }
    path = save(nodes, weights, tmp_path / "model.onnx")
    cost = count_cost(path, {"x": np.zeros((1, 6, 8), np.float32)})
    convolution = 4 * (4 * 6) * (1 * 3 * 3)  # outputs times taps
    transposed = (4 * 4 * 6) * (5 * 2 * 2)  # inputs times taps
    product = (5 * 8 * 7) * 12
    assert cost.n_macs == convolution + transposed + product
    assert cost.n_parameters == 36 + 80 + 84
    assert (cost.rows, cost.columns) == (6, 8)


def test_sizes_that_a_graph_computes_itself_are_counted() -> None:
    """The shipped slice model resizes boxes inside; its cost does not depend on the image."""
    folder = find_model("slice-classifier")
    costs = [
        count_cost(folder.graph, example_feed(folder, np.full(shape, -500, np.int16))).n_macs
        for shape in ((256, 300), (512, 512))
    ]
    assert costs[0] == costs[1] > 1_000_000


def test_operators_that_are_not_counted_are_named(tmp_path: Path) -> None:
    """A product of another kind is not passed over in silence."""
    nodes = [helper.make_node("Einsum", ["x", "x"], ["y"], equation="nrc,nrc->nr")]
    path = save(nodes, {}, tmp_path / "model.onnx")
    assert count_cost(path, {"x": np.zeros((1, 2, 3), np.float32)}).uncounted == ("Einsum",)


def test_speed_of_an_idle_function_is_a_large_ratio() -> None:
    """Turns are taken in pairs; the ratio is that of the medians' order, not of the clock."""
    speed = measure_speed(lambda: None, threads=1, n_rounds=2)
    assert speed.ratio > 10
    assert speed.ratio_lower <= speed.ratio <= speed.ratio_upper
    assert speed.ratio == pytest.approx(speed.slices_per_s / speed.reference_slices_per_s, rel=0.9)
