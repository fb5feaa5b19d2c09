"""Turn what a recipe trained into a model folder: graph, manifest, card."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from models.datasets import LabelledImages, Unit
from models.evaluation.operating_point import ChosenPoint
from models.manifest import (
    Calibration,
    Manifest,
    Metric,
    OperatingPoint,
    Task,
    TrainingSource,
)
from models.registry import find_model, open_model_folder
from models.session import ImageClassifier, LungSegmenter, Provider, SliceClassifier
from models.training.class_concepts import model_class
from models.training.export import export_graph
from models.training.graph_joining import export_behind_lungs
from models.training.graphs import (
    GreyImageGraph,
    HuSliceGraph,
    LungCropGraph,
    MaskGraph,
)
from models.training.manifest_writer import write_manifest
from models.training.recipe import Crop, Recipe, RecipeTask

#: A size that no training uses, so that the exporter sees dynamic axes.
_EXAMPLE_SHAPE = (2, 320, 288)
#: Version of a model that was trained from a recipe and not yet released by anybody.
_VERSION = "0.1.0"
_INTENDED_USE = "Research and development; not a medical device, not for diagnosis."


@dataclass(frozen=True, slots=True)
class Trained:
    """What a training found out, as the manifest and the card tell it."""

    recipe: Recipe
    data: LabelledImages
    training_patients: int
    metrics: tuple[Metric, ...]
    temperature: float
    temperature_fitted_by: str
    operating_point: ChosenPoint


def package(network: nn.Module, trained: Trained, folder: Path) -> Manifest:
    """Export the graph and write the manifest beside it."""
    folder.mkdir(parents=True, exist_ok=True)
    network = network.cpu().eval()
    for parameter in network.parameters():
        parameter.requires_grad_(False)
    task, inputs, outputs = _export(network, trained, folder)
    recipe, point = trained.recipe, trained.operating_point
    is_masks = recipe.task is RecipeTask.SEGMENTATION
    names = (recipe.data.structure,) if is_masks else recipe.data.classes
    manifest = Manifest(
        name=recipe.name,
        version=_VERSION,
        task=task,
        summary=recipe.summary,
        licence=f"weights trained on {trained.data.name}, whose licence is: {trained.data.licence}",
        intended_use=_INTENDED_USE,
        recipe=recipe.name,
        inputs=inputs,
        outputs=outputs,
        classes=tuple(model_class(name) for name in names),
        hu_window=recipe.preprocessing.hu_window if inputs[0] == Unit.HU.value else None,
        input_rows=recipe.preprocessing.rows,
        input_columns=recipe.preprocessing.columns,
        operating_point=OperatingPoint(point.threshold, _chosen_by(point)),
        calibration=Calibration(trained.temperature, trained.temperature_fitted_by),
        training_data=(
            TrainingSource(
                name=trained.data.name,
                licence=trained.data.licence,
                citation=trained.data.citation,
                n_subjects=trained.training_patients,
            ),
        ),
        metrics=trained.metrics,
        sha256="0" * 64,
    )
    return write_manifest(folder, manifest)


def _chosen_by(point: ChosenPoint) -> str:
    if point.n_images == 0:
        return f"not tuned: {point.rule}"
    return f"{point.rule}, on {point.chosen_on}, {point.n_images} images"


def _export(
    network: nn.Module, trained: Trained, folder: Path
) -> tuple[Task, tuple[str, ...], tuple[str, ...]]:
    """Write the graph; give its task, inputs and outputs."""
    recipe, unit = trained.recipe, trained.data.unit
    if recipe.task is RecipeTask.SEGMENTATION:
        return _export_masks(network, recipe, unit, folder)
    if unit is Unit.HU:
        return _export_hu_slices(network, recipe, folder)
    return _export_pictures(network, recipe, folder)


def _export_masks(
    network: nn.Module, recipe: Recipe, unit: Unit, folder: Path
) -> tuple[Task, tuple[str, ...], tuple[str, ...]]:
    size = (recipe.preprocessing.rows, recipe.preprocessing.columns)
    window = recipe.preprocessing.hu_window if unit is Unit.HU else None
    graph = MaskGraph(network, *size, window=window)
    images = example_hu() if unit is Unit.HU else example_grey()
    axes = {unit.value: {0: "batch", 1: "rows", 2: "columns"}}
    export_graph(graph, {unit.value: images}, ("lung_logits",), axes, folder)
    return Task.LUNG_SEGMENTATION, (unit.value,), ("lung_logits",)


def _export_hu_slices(
    network: nn.Module, recipe: Recipe, folder: Path
) -> tuple[Task, tuple[str, ...], tuple[str, ...]]:
    steps = recipe.preprocessing
    if steps.hu_window is None:
        raise ValueError("HU without a window; check_fit refuses it")
    graph = HuSliceGraph(
        network,
        steps.rows,
        steps.columns,
        window=steps.hu_window,
        uses_boxes=steps.crop is Crop.LUNGS,
    )
    boxes = torch.tensor([[10.0, 20.0, 300.0, 250.0], [0.0, 0.0, 320.0, 288.0]])
    axes = {"hu": {0: "batch", 1: "rows", 2: "columns"}, "boxes": {0: "batch"}}
    export_graph(graph, {"hu": example_hu(), "boxes": boxes}, ("class_logits",), axes, folder)
    return Task.SLICE_CLASSIFICATION, ("hu", "boxes"), ("class_logits",)


def _export_pictures(
    network: nn.Module, recipe: Recipe, folder: Path
) -> tuple[Task, tuple[str, ...], tuple[str, ...]]:
    steps = recipe.preprocessing
    contract = (Task.IMAGE_CLASSIFICATION, ("grey",), ("class_logits",))
    if steps.lungs is None:
        graph = GreyImageGraph(network, steps.rows, steps.columns)
        axes = {"grey": {0: "batch", 1: "rows", 2: "columns"}}
        export_graph(graph, {"grey": example_grey()}, ("class_logits",), axes, folder)
        return contract
    path = Path(steps.lungs.model)
    lungs = open_model_folder(path) if path.is_dir() else find_model(steps.lungs.model)
    threshold = lungs.manifest.operating_point.threshold
    cut = lungs.manifest.calibration.temperature * float(np.log(threshold / (1.0 - threshold)))
    behind = LungCropGraph(
        network, steps.rows, steps.columns, shrink_pixels=steps.lungs.shrink_pixels, cut=cut
    )
    export_behind_lungs(behind.eval(), lungs, steps.lungs.grey_window, folder)
    return contract


def example_hu() -> torch.Tensor:
    """Give slices of noise, the same every time."""
    generator = torch.Generator().manual_seed(0)
    return torch.randint(-1100, 500, _EXAMPLE_SHAPE, dtype=torch.int16, generator=generator)


def example_grey() -> torch.Tensor:
    """Give pictures of noise, the same every time."""
    generator = torch.Generator().manual_seed(0)
    return 255.0 * torch.rand(*_EXAMPLE_SHAPE, generator=generator)


def exported_logits(
    folder: Path, image: NDArray[np.int16] | NDArray[np.uint8], threads: int
) -> NDArray[np.float32]:
    """Run the exported model on one image ``(rows, columns)`` as a user would.

    HU slices are given the whole image as their box.
    """
    model = open_model_folder(folder)
    batch = image[None]
    if model.manifest.task is Task.IMAGE_CLASSIFICATION:
        pictures = ImageClassifier(model, provider=Provider.CPU, threads=threads)
        return pictures.logits(batch.astype(np.float32))
    if model.manifest.task is Task.SLICE_CLASSIFICATION:
        slices = SliceClassifier(model, provider=Provider.CPU, threads=threads)
        boxes = np.array([[0.0, 0.0, *image.shape]], dtype=np.float32)
        return slices.logits(batch.astype(np.int16), boxes)
    masks = LungSegmenter(model, provider=Provider.CPU, threads=threads)
    if model.manifest.hu_window is not None:
        return masks.logits(batch.astype(np.int16))
    return masks.logits(batch.astype(np.float32))
