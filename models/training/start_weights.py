"""Weights to start from, out of a local file."""

from collections.abc import Mapping
from dataclasses import dataclass
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


@dataclass(frozen=True, slots=True)
class StartWeights:
    """What a file holds for a network to start from.

    ``tensors`` are by the network's own names; None for TensorFlow Lite, whose layers are read with
    the network at hand. ``padding`` is how the convolutions padded that the weights were trained
    with, in timm's words; None where the file does not say. TensorFlow pads the far side of a
    strided convolution, torch both: tensors fit either way, but features are off by a pixel.
    """

    path: Path
    tensors: Mapping[str, Tensor] | None
    padding: str | None

    def load(self, network: nn.Module) -> Triple | None:
        """Load them into a network; a head of another size stays as it was initialised.

        Returns
        -------
        :
            Mean and deviation that the weights expect of values from 0 to 1; None where the file
            does not say.

        Raises
        ------
        TrainingFailed
            They are not those of the network.
        """
        if self.tensors is None:
            return load_tflite(network, self.path)
        load_tensors(network, self.tensors, self.path)
        return _normalisation(self.tensors)


def read_weights(file: str) -> StartWeights:
    """Read a file; nothing in it is executed.

    A file of a training (``best.pt``) holds a network behind its normalisation, `GreyNetwork`.

    Raises
    ------
    TrainingFailed
        It is missing, damaged or of an unknown kind.
    """
    path = Path(file)
    if not path.is_file():
        raise TrainingFailed(f"weights {file} do not exist; correct network.weights")
    if path.suffix == ".tflite":
        return StartWeights(path, None, "same")
    if path.suffix == ".safetensors":
        return StartWeights(path, _safetensors(path), None)
    if path.suffix not in _TORCH_SUFFIXES:
        raise TrainingFailed(f"{path}: use a .tflite, .safetensors or .pt file")
    loaded = read_tensors(path, "cpu", mend=_OTHER_FILE)
    if "network" not in loaded:
        return StartWeights(path, loaded, None)
    tensors = {name.removeprefix("network."): one for name, one in loaded["network"].items()}
    return StartWeights(path, tensors, loaded.get("padding"))


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


def _safetensors(path: Path) -> Mapping[str, Tensor]:
    try:
        return dict(safetensors.torch.load_file(path))
    except (OSError, ValueError, safetensors.SafetensorError) as error:
        raise TrainingFailed(f"{path} cannot be read ({error}); {_OTHER_FILE}") from error
