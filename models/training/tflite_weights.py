"""Read the weights of a TensorFlow Lite classifier into the same network of timm.

Made for the MobileNets of Keras Applications. Their convolutions come in the order in which timm
defines them; batch norm is folded into each convolution and its bias. What was folded cannot be
unfolded, so batch norm becomes the identity with that bias, and ``settle_batch_norm`` gives it the
statistics of real images afterwards, without which training would start from another function.

Weights are int8 with one scale per output channel, or float32. Activations of the original may be
int8 as well; the network that is filled here computes in float32, so that it agrees with the
original in most decisions and not in every bit.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import tflite
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from models.errors import TrainingFailed

#: Mean and deviation of values from 0 to 1 that these files expect: grey values as -1 to 1.
_SYMMETRIC = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
#: Constant that a hard sigmoid adds, relu6(x + 3) / 6, and that the converter puts into the bias.
_HARD_SIGMOID_OFFSET = 3.0
#: Types of weights that occur, and their types in numpy.
_TYPES = {
    tflite.TensorType.FLOAT32: np.float32,
    tflite.TensorType.INT8: np.int8,
    tflite.TensorType.INT32: np.int32,
}
_WEIGHTED = {
    tflite.BuiltinOperator.CONV_2D,
    tflite.BuiltinOperator.DEPTHWISE_CONV_2D,
    tflite.BuiltinOperator.FULLY_CONNECTED,
}


@dataclass(frozen=True, slots=True)
class FoldedLayer:
    """One convolution or dense layer: weight in torch's order of axes, and bias.

    ``is_quantised`` tells whether the weight was stored in 8 bits; the original then rounds what
    comes into the layer to 8 bits as well.
    """

    weight: Tensor
    bias: Tensor
    is_quantised: bool


def load_tflite(
    network: nn.Module, path: Path
) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
    """Fill a timm network from a TensorFlow Lite file.

    A last layer for other classes stays as it was initialised.

    Returns
    -------
    :
        Mean and deviation that the weights expect of values from 0 to 1.

    Raises
    ------
    TrainingFailed
        The file is none, or its layers are not those of the network.
    """
    layers = list(read_layers(path))
    modules = [one for one in network.modules() if isinstance(one, nn.Conv2d | nn.Linear)]
    if len(layers) != len(modules):
        raise TrainingFailed(
            f"{path} has {len(layers)} layers, the network {len(modules)}; choose its own network"
        )
    norms = _norms_behind(network)
    with torch.no_grad():
        for number, (layer, module) in enumerate(zip(layers, modules, strict=True)):
            weight = layer.weight.reshape(-1, *module.weight.shape[1:])
            if weight.shape != module.weight.shape:
                if module is modules[-1] and weight.shape[1:] == module.weight.shape[1:]:
                    continue
                raise TrainingFailed(
                    f"{path}: layer {number + 1} is {tuple(weight.shape)}, the network has "
                    f"{tuple(module.weight.shape)}; choose its own network"
                )
            module.weight.copy_(weight)
            _put_bias(module, norms.get(module), layer.bias)
    return _SYMMETRIC


def settle_batch_norm(network: nn.Module, images: Tensor) -> None:
    """Give every batch norm the statistics of images, without changing what the network computes.

    Parameters
    ----------
    network
        Whatever it holds; its batch norms keep their function.
    images
        What ``network`` takes; some dozens of the training data.
    """
    hooks = [
        one.register_forward_pre_hook(_settle)
        for one in network.modules()
        if isinstance(one, nn.BatchNorm2d)
    ]
    network.eval()
    with torch.no_grad():
        network(images)
    for hook in hooks:
        hook.remove()


def _settle(norm: nn.Module, given: tuple[Tensor, ...]) -> None:
    """Put mean and variance of the input into a batch norm, and take them out again behind."""
    if not isinstance(norm, nn.BatchNorm2d) or norm.running_mean is None:
        raise TypeError("registered for batch norm with statistics alone")
    mean, variance = given[0].mean((0, 2, 3)), given[0].var((0, 2, 3))
    if norm.running_var is None:
        raise TypeError("registered for batch norm with statistics alone")
    slope = norm.weight / (norm.running_var + norm.eps).sqrt()
    offset = norm.bias - norm.running_mean * slope
    norm.running_mean.copy_(mean)
    norm.running_var.copy_(variance)
    norm.weight.copy_(slope * (variance + norm.eps).sqrt())
    norm.bias.copy_(offset + mean * slope)


def _norms_behind(network: nn.Module) -> dict[nn.Module, nn.BatchNorm2d]:
    """Give the batch norm that follows each convolution, where one does."""
    ordered = [
        one for one in network.modules() if isinstance(one, nn.Conv2d | nn.Linear | nn.BatchNorm2d)
    ]
    return {one: norm for one, norm in pairwise(ordered) if isinstance(norm, nn.BatchNorm2d)}


def _put_bias(module: nn.Conv2d | nn.Linear, norm: nn.BatchNorm2d | None, bias: Tensor) -> None:
    if module.bias is not None:
        module.bias.copy_(bias)
        return
    if norm is None or norm.running_mean is None or norm.running_var is None:
        raise TrainingFailed("a layer has neither bias nor batch norm; choose its own network")
    norm.running_mean.zero_()
    norm.running_var.fill_(1.0)
    norm.weight.fill_((1.0 + norm.eps) ** 0.5)
    norm.bias.copy_(bias)


# ── the file ─────────────────────────────────────────────────────────────────────────────────


def read_layers(path: Path) -> Iterator[FoldedLayer]:
    """Give the layers with weights, in the order in which they run.

    Raises
    ------
    TrainingFailed
        The file is not TensorFlow Lite, or a tensor is of a type that is not read here.
    """
    content = path.read_bytes()
    if not tflite.Model.ModelBufferHasIdentifier(content, 0):
        raise TrainingFailed(f"{path} is not a TensorFlow Lite file; choose another")
    model = tflite.Model.GetRootAsModel(content, 0)
    graph = model.Subgraphs(0)
    kinds = [model.OperatorCodes(n).BuiltinCode() for n in range(model.OperatorCodesLength())]
    for number in range(graph.OperatorsLength()):
        operator = graph.Operators(number)
        kind = kinds[operator.OpcodeIndex()]
        if kind in _WEIGHTED:
            weight = _tensor(model, graph, operator.Inputs(1), path)
            bias = _tensor(model, graph, operator.Inputs(2), path)
            if _is_hard_sigmoid(graph, number, kinds):
                bias = bias - _HARD_SIGMOID_OFFSET
            stored = graph.Tensors(operator.Inputs(1)).Type()
            yield FoldedLayer(
                _in_order_of_torch(weight, kind),
                torch.from_numpy(bias),
                is_quantised=stored == tflite.TensorType.INT8,
            )


def _is_hard_sigmoid(graph: Any, number: int, kinds: list[int]) -> bool:
    """Tell whether a layer is followed by a multiplication with a constant: relu6(...) / 6."""
    if number + 1 >= graph.OperatorsLength():
        return False
    follower = graph.Operators(number + 1)
    if kinds[follower.OpcodeIndex()] != tflite.BuiltinOperator.MUL:
        return False
    output = graph.Operators(number).Outputs(0)
    others = [n for n in follower.InputsAsNumpy().tolist() if n != output]
    return len(others) == 1 and graph.Tensors(others[0]).ShapeLength() == 0


def _tensor(model: Any, graph: Any, number: int, path: Path) -> NDArray[np.float32]:
    """Give a constant tensor as float32, its scales applied."""
    tensor = graph.Tensors(number)
    if tensor.Type() not in _TYPES:
        raise TrainingFailed(f"{path}: tensor {tensor.Name()!r} has a type that is not read")
    raw = model.Buffers(tensor.Buffer()).DataAsNumpy()
    values = np.frombuffer(raw.tobytes(), dtype=_TYPES[tensor.Type()])
    values = values.reshape(tensor.ShapeAsNumpy()).astype(np.float32)
    quantization = tensor.Quantization()
    if quantization is None or quantization.ScaleLength() == 0:
        return values
    if np.any(quantization.ZeroPointAsNumpy()):
        raise TrainingFailed(f"{path}: tensor {tensor.Name()!r} has a zero point; not read")
    scale = quantization.ScaleAsNumpy().astype(np.float32)
    shape = [1] * values.ndim
    shape[quantization.QuantizedDimension()] = len(scale)
    return np.asarray(values * scale.reshape(shape), dtype=np.float32)


def _in_order_of_torch(weight: NDArray[np.float32], kind: int) -> Tensor:
    """Reorder axes: (out, rows, columns, in) or (1, rows, columns, out) to (out, in, ...)."""
    if kind == tflite.BuiltinOperator.CONV_2D:
        weight = weight.transpose(0, 3, 1, 2)
    elif kind == tflite.BuiltinOperator.DEPTHWISE_CONV_2D:
        weight = weight.transpose(3, 0, 1, 2)
    return torch.from_numpy(np.ascontiguousarray(weight))
