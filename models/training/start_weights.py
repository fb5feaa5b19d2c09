"""Weights to start from, out of a local file."""

from collections.abc import Mapping
from pathlib import Path

import safetensors.torch
from torch import Tensor, nn

from models.errors import TrainingFailed
from models.training.graphs import WHITE
from models.training.tensor_files import read_tensors
from models.training.tflite_weights import load_tflite

Triple = tuple[tuple[float, ...], tuple[float, ...]]
_TORCH_SUFFIXES = {".pt", ".pth"}
_OTHER_FILE = "choose another file"


def load_weights(network: nn.Module, file: str) -> Triple | None:
    """Load a file into a network; a head of another size stays as it was initialised.

    Returns
    -------
    :
        Mean and deviation that the weights expect of values from 0 to 1; None where the file does
        not say.

    Raises
    ------
    TrainingFailed
        The file is missing or of an unknown kind, or its tensors are not those of the network.
    """
    path = Path(file)
    if not path.is_file():
        raise TrainingFailed(f"weights {file} do not exist; correct network.weights")
    if path.suffix == ".tflite":
        return load_tflite(network, path)
    tensors = _named_tensors(path)
    load_tensors(network, tensors, path)
    return _normalisation(tensors)


def padding_of(file: str) -> str | None:
    """Give how the convolutions padded that weights were trained with, in timm's words.

    TensorFlow pads the far side of a strided convolution, torch both; tensors fit either way, and
    features are off by a pixel where it is the wrong one.

    Returns
    -------
    :
        None where the file does not say, or is not there.
    """
    path = Path(file)
    if path.suffix == ".tflite":
        return "same"
    if path.suffix not in _TORCH_SUFFIXES or not path.is_file():
        return None
    padding = read_tensors(path, "cpu", mend=_OTHER_FILE).get("padding")
    return padding if isinstance(padding, str) else None


def load_tensors(network: nn.Module, tensors: Mapping[str, Tensor], path: Path) -> None:
    """Load tensors by name; leave out those of another shape in the last layer alone."""
    wanted = network.state_dict()
    other = {
        name for name, one in tensors.items() if name in wanted and one.shape != wanted[name].shape
    }
    missing = set(wanted) - set(tensors)
    is_head_alone = len(other) <= 2  # noqa: PLR2004  weight and bias of the classifier
    if missing or not is_head_alone or len(other) == len(wanted):
        named = ", ".join(sorted(missing | other)[:4])
        raise TrainingFailed(f"{path} does not fit the network ({named}); choose other weights")
    fitting = {name: one for name, one in tensors.items() if name in wanted and name not in other}
    network.load_state_dict(fitting, strict=False)


def _normalisation(tensors: Mapping[str, Tensor]) -> Triple | None:
    """Give mean and deviation of a training of ours, which lie beside its weights."""
    if "mean" not in tensors or "deviation" not in tensors:
        return None
    mean, deviation = ((tensors[name].flatten() / WHITE).tolist() for name in ("mean", "deviation"))
    return tuple(mean), tuple(deviation)


def _named_tensors(path: Path) -> Mapping[str, Tensor]:
    """Read named tensors; nothing in the file is executed.

    A file of a training (``best.pt``) holds a network behind its normalisation, `GreyNetwork`.
    """
    if path.suffix in _TORCH_SUFFIXES:
        loaded = read_tensors(path, "cpu", mend=_OTHER_FILE)
        if "network" not in loaded:
            return dict(loaded)
        return {name.removeprefix("network."): one for name, one in loaded["network"].items()}
    if path.suffix != ".safetensors":
        raise TrainingFailed(f"{path}: use a .tflite, .safetensors or .pt file")
    try:
        return dict(safetensors.torch.load_file(path))
    except (OSError, ValueError, safetensors.SafetensorError) as error:
        raise TrainingFailed(f"{path} cannot be read ({error}); {_OTHER_FILE}") from error
