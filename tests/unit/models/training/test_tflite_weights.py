"""Weights of TensorFlow Lite in the networks of timm decide as the original does.

The original runs in its own interpreter on the same pictures. It rounds activations to 8 bits and
ours does not, and its own two sets of kernels agree with each other on nine pictures of ten; so do
we with it, once the same rounding is put in front of our layers. Needs the real files; without them
the comparison is skipped, visibly.
"""

from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib import cbook
from numpy.typing import NDArray
from PIL import Image
from sklearn.datasets import load_sample_images
from torch import Tensor, nn

from models.errors import TrainingFailed
from models.training.tflite_weights import load_tflite, read_layers, settle_batch_norm
from models.training.torchvision_operators import import_timm
from tests.ct_factories import real_data
from tests.recipe_factories import set_one_thread

MOBILENETS = {
    "mobilenet_v2_1.0_224_imagenet_int8.tflite": "mobilenetv2_100",
    "mobilenet_v3_small_imagenet_int8.tflite": "mobilenetv3_small_100",
}
#: Least share of pictures with the same first choice: in float32, and with 8-bit activations.
LEAST = {
    "mobilenet_v2_1.0_224_imagenet_int8.tflite": (0.85, 0.85),
    "mobilenet_v3_small_imagenet_int8.tflite": (0.6, 0.8),
}


def pictures() -> NDArray[np.uint8]:
    """Cut 30 squares out of three photographs that come with installed packages."""
    with cbook.get_sample_data("grace_hopper.jpg") as stream, Image.open(stream) as portrait:
        photographs = [portrait.convert("RGB")]
    photographs += [Image.fromarray(one) for one in load_sample_images().images]
    rng = np.random.default_rng(0)
    cut = []
    for one in photographs:
        for _ in range(10):
            side = int(min(one.size) * rng.uniform(0.5, 1.0))
            x, y = (int(rng.integers(0, length - side + 1)) for length in one.size)
            square = one.crop((x, y, x + side, y + side))
            cut.append(np.asarray(square.resize((224, 224), Image.Resampling.BILINEAR)))
    return np.stack(cut)


def choices_of_original(path: Path, images: NDArray[np.uint8]) -> NDArray[np.int64]:
    interpreter_module = pytest.importorskip("ai_edge_litert.interpreter")
    interpreter = interpreter_module.Interpreter(str(path), num_threads=1)
    interpreter.allocate_tensors()
    (given,), (found,) = interpreter.get_input_details(), interpreter.get_output_details()
    choices = []
    for image in images:
        interpreter.set_tensor(given["index"], image[None].astype(given["dtype"]))
        interpreter.invoke()
        choices.append(int(interpreter.get_tensor(found["index"])[0].argmax()))
    return np.array(choices)


def choices_of(network: nn.Module, images: NDArray[np.uint8]) -> NDArray[np.int64]:
    given = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 127.5 - 1.0
    with torch.inference_mode():
        logits = [network(one) for one in given.split(1)]
    return torch.cat(logits).argmax(dim=1).numpy()


def rounded_to_8_bits(_layer: nn.Module, given: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """Round the input of a layer as the interpreter does: 256 steps from its least to its most."""
    lower, upper = given[0].min().clamp_max(0.0), given[0].max().clamp_min(0.0)
    step = ((upper - lower) / 255.0).clamp_min(1e-9)
    zero = (-lower / step).round()
    return ((((given[0] / step).round() + zero).clamp(0, 255) - zero) * step,)


@pytest.mark.parametrize("file", MOBILENETS)
def test_tflite_weights_choose_as_the_original(file: str) -> None:
    """The first of a thousand ImageNet classes, on the same pictures."""
    set_one_thread()
    path = real_data("weights", file)
    network = import_timm().create_model(MOBILENETS[file], num_classes=1000, pad_type="same")
    expected = load_tflite(network.eval(), path)
    assert expected == ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    images = pictures()
    original = choices_of_original(path, images)
    as_float = (choices_of(network, images) == original).mean()
    layers = [one for one in network.modules() if isinstance(one, nn.Conv2d | nn.Linear)]
    for layer, stored in zip(layers, read_layers(path), strict=True):
        if stored.is_quantised:
            layer.register_forward_pre_hook(rounded_to_8_bits)
    as_int8 = (choices_of(network, images) == original).mean()
    assert as_float >= LEAST[file][0], f"{as_float:.3f} in float32"
    assert as_int8 >= LEAST[file][1], f"{as_int8:.3f} with 8-bit activations"


def test_tflite_weights_of_another_network_are_refused() -> None:
    """MobileNetV2 does not fit into V3."""
    path = real_data("weights", "mobilenet_v2_1.0_224_imagenet_int8.tflite")
    network = import_timm().create_model("mobilenetv3_small_100", pad_type="same")
    with pytest.raises(TrainingFailed, match="choose its own network"):
        load_tflite(network, path)


def test_tflite_file_that_is_none_is_refused(tmp_path: Path) -> None:
    """Rubbish is told from weights."""
    path = tmp_path / "weights.tflite"
    path.write_bytes(b"no flat buffer at all")
    with pytest.raises(TrainingFailed, match="not a TensorFlow Lite file"):
        load_tflite(nn.Sequential(), path)


def test_settled_batch_norm_computes_the_same_and_knows_its_input() -> None:
    """The function stays; statistics become those of the images, so that training starts there."""
    torch.manual_seed(1)
    first, second = nn.Conv2d(3, 5, 3, bias=False), nn.Conv2d(5, 4, 3, bias=False)
    network = nn.Sequential(first, nn.BatchNorm2d(5), nn.ReLU(), second, nn.BatchNorm2d(4)).eval()
    images = torch.randn(6, 3, 12, 12) * 3.0 + 1.0
    with torch.no_grad():
        before = network(images)
        settle_batch_norm(network, images)
        after = network(images)
        learning = network.train()(images)
    torch.testing.assert_close(after, before, rtol=1e-4, atol=1e-5)
    # What batch norm computes while it learns is what it computed before, up to n / (n - 1).
    torch.testing.assert_close(learning, before, rtol=0.02, atol=0.02)
