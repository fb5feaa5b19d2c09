"""Turn a trained network into a model folder: graph, pinned manifest, parity with torch.

What a manifest says about data, licence, figures and operating point is written by people, after
measuring; it is taken from a template folder. What depends on the graph is filled in here.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from models.manifest import Manifest, read_manifest
from models.registry import open_model_folder
from models.session import LungSegmenter, Provider, SliceClassifier
from models.training.export import export_graph, largest_difference
from models.training.manifest_writer import write_manifest
from models.training.networks import (
    InputGrid,
    LungGraph,
    SliceGraph,
    SliceNetwork,
    TwoAnswerUNet,
)

#: An odd size that no training used, so that the parity check meets the dynamic axes.
_EXAMPLE_SHAPE = (2, 320, 288)


def package_lungs(
    network: TwoAnswerUNet, grid: InputGrid, *, template: Path, folder: Path
) -> float:
    """Export the lung network into a folder.

    Parameters
    ----------
    template
        Folder of a manifest whose text is taken over; may be ``folder`` itself.

    Returns
    -------
    :
        Largest difference of the logits between torch and ONNX Runtime.
    """
    manifest = read_manifest(template)
    graph = LungGraph(network, grid).eval()
    hu = _example_hu()
    axes = {"hu": {0: "batch", 1: "rows", 2: "columns"}}
    outputs = ("lung_logits", "solid_logits", "solid_sums")
    export_graph(graph, {"hu": hu}, outputs, axes, folder)
    write_manifest(folder, _for_graph(manifest, grid, ("hu",), outputs))
    session = LungSegmenter(open_model_folder(folder), provider=Provider.CPU, threads=1)
    with torch.inference_mode():
        lung, _, sums = graph(hu)
    # The sums are of thousands of pixels; a mean difference is what compares with logits.
    n_pixels = grid.size * grid.size
    return max(
        largest_difference(lung, session.logits(hu.numpy())),
        largest_difference(
            sums / n_pixels, session.answers(hu.numpy()).sums / np.float32(n_pixels)
        ),
    )


def package_slices(
    network: SliceNetwork, grid: InputGrid, *, template: Path, folder: Path
) -> float:
    """Export the slice network into a folder; parameters and result as ``package_lungs``."""
    manifest = read_manifest(template)
    graph = SliceGraph(network, grid).eval()
    hu = _example_hu()
    boxes = torch.tensor([[10.0, 20.0, 300.0, 250.0], [0.0, 0.0, 320.0, 288.0]])
    axes = {"hu": {0: "batch", 1: "rows", 2: "columns"}, "boxes": {0: "batch"}}
    outputs = ("class_logits", "lesion_logits")
    export_graph(graph, {"hu": hu, "boxes": boxes}, outputs, axes, folder)
    write_manifest(folder, _for_graph(manifest, grid, ("hu", "boxes"), outputs))
    session = SliceClassifier(open_model_folder(folder), provider=Provider.CPU, threads=1)
    with torch.inference_mode():
        classes, lesion = graph(hu, boxes)
    return max(
        largest_difference(classes, session.logits(hu.numpy(), boxes.numpy())),
        largest_difference(lesion, session.lesion_logits(hu.numpy(), boxes.numpy())),
    )


def _example_hu() -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(-1100, 500, _EXAMPLE_SHAPE, dtype=torch.int16, generator=generator)


def _for_graph(
    manifest: Manifest, grid: InputGrid, inputs: Sequence[str], outputs: Sequence[str]
) -> Manifest:
    """Fill in what the graph decides."""
    return replace(
        manifest,
        inputs=tuple(inputs),
        outputs=tuple(outputs),
        hu_window=grid.window,
        input_rows=grid.size,
        input_columns=grid.size,
    )
