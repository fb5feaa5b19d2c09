"""Join a lung model and a classifier into one graph, so that one file runs on any picture."""

from pathlib import Path

import onnx
import torch
from onnx import compose
from torch import Tensor, nn

from models.manifest import GRAPH_FILE, HuWindow, InputUnit
from models.registry import ModelFolder
from models.training.export import export_graph, strip_training_traces
from models.training.graphs import grey_to_hu

#: Names inside the joined graph; the first and the last are its contract.
_GREY, _LUNG_LOGITS, _CLASS_LOGITS = "grey", "lung_logits", "class_logits"


class GreyToHu(nn.Module):
    """Grey values as the HU that they would be in a window; exported in front of a lung model."""

    def __init__(self, window: HuWindow) -> None:
        super().__init__()
        self.window = window

    def forward(self, grey: Tensor) -> Tensor:
        """Map grey values ``(batch, rows, columns)`` to int16 HU of the same shape."""
        return grey_to_hu(grey, self.window)


def export_behind_lungs(
    classifier: nn.Module, lungs: ModelFolder, grey_window: HuWindow, folder: Path
) -> Path:
    """Write ``model.onnx``: grey pictures to class logits, the lung model inside.

    Parameters
    ----------
    classifier
        Takes grey pictures and lung logits, see ``LungCropGraph``.
    lungs
        A lung-segmentation model of HU or of pictures.
    grey_window
        What turns pictures into HU where the lung model wants them.
    folder
        Where the graph goes; scratch files lie beside it for a moment.
    """
    generator = torch.Generator().manual_seed(0)
    grey = 255.0 * torch.rand(2, 160, 192, generator=generator)
    axes = {0: "batch", 1: "rows", 2: "columns"}
    lung_logits = torch.randn(grey.shape, generator=generator)
    examples = {_GREY: grey, _LUNG_LOGITS: lung_logits}
    dynamic = {_GREY: axes, _LUNG_LOGITS: axes}
    path = export_graph(classifier, examples, (_CLASS_LOGITS,), dynamic, folder / "classes")
    joined = compose.add_prefix(_take(path), "classes_")
    segmenter = compose.add_prefix(onnx.load(lungs.graph), "lungs_")
    (given,) = [one.name for one in segmenter.graph.input]
    del segmenter.graph.output[1:]
    if lungs.manifest.unit is InputUnit.HU:
        converter = export_graph(
            GreyToHu(grey_window), {_GREY: grey}, ("hu",), {_GREY: axes}, folder / "grey"
        )
        first = compose.add_prefix(_take(converter), "grey_")
        segmenter = _merge(first, segmenter, {"grey_hu": given})
        given = "grey_grey"
    joined = _merge(segmenter, joined, {f"lungs_{_LUNG_LOGITS}": f"classes_{_LUNG_LOGITS}"})
    _one_input(joined, given, "classes_grey")
    _rename(joined, {given: _GREY, f"classes_{_CLASS_LOGITS}": _CLASS_LOGITS})
    strip_training_traces(joined)
    onnx.checker.check_model(joined, full_check=True)
    onnx.save_model(joined, folder / GRAPH_FILE)
    return folder / GRAPH_FILE


def _take(path: Path) -> onnx.ModelProto:
    """Read a scratch graph and remove it."""
    model = onnx.load(path)
    path.unlink()
    path.parent.rmdir()
    return model


def _merge(
    first: onnx.ModelProto, second: onnx.ModelProto, links: dict[str, str]
) -> onnx.ModelProto:
    first.ir_version = second.ir_version = max(first.ir_version, second.ir_version)
    return compose.merge_models(first, second, io_map=list(links.items()))


def _one_input(model: onnx.ModelProto, kept: str, other: str) -> None:
    """Let both halves read the same input."""
    for node in model.graph.node:
        for number, name in enumerate(node.input):
            if name == other:
                node.input[number] = kept
    (removed,) = [one for one in model.graph.input if one.name == other]
    model.graph.input.remove(removed)


def _rename(model: onnx.ModelProto, names: dict[str, str]) -> None:
    """Rename inputs and outputs wherever they are used."""
    for value in (*model.graph.input, *model.graph.output):
        value.name = names.get(value.name, value.name)
    for node in model.graph.node:
        for number, name in enumerate(node.input):
            node.input[number] = names.get(name, name)
        for number, name in enumerate(node.output):
            node.output[number] = names.get(name, name)
