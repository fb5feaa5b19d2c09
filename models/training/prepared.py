"""Read a data set once, onto the grid of the network, and keep it in memory.

Decoding, the search for lungs and resampling cost far more than a step of a small network; after
this every epoch is arithmetic on tensors.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.datasets import LabelledImages, Unit
from models.errors import RecipeInvalid, TrainingFailed
from models.manifest import InputUnit
from models.registry import find_model, open_model_folder
from models.session import LungSegmenter, Provider
from models.training.graphs import grey_to_hu, hu_to_grey, lung_boxes, sample_box, whole_boxes
from models.training.recipe import LungBoxes, Recipe, RecipeTask

#: Follows an iteration with a progress bar.
Track = Callable[..., Iterable[int]]


@dataclass(frozen=True, slots=True)
class PreparedImages:
    """Images on the network's grid.

    ``images`` is ``(n, 1, rows, columns)``, grey values: uint8 for pictures, float16 for windowed
    HU. ``targets`` are labels ``(n,)`` or masks of the shape of the images, uint8. ``indices`` lead
    back into the data set. All three are of one length; a GPU that is asked for a target beyond
    the end says so only later, at some other line.
    """

    images: Tensor
    targets: Tensor
    indices: tuple[int, ...]

    def __post_init__(self) -> None:
        n_images, n_targets, n = len(self.images), len(self.targets), len(self.indices)
        if not n_images == n_targets == n:
            raise TrainingFailed(
                f"{n_images} images, {n_targets} targets, {n} indices: one each is needed"
            )

    def __len__(self) -> int:
        return len(self.indices)

    def of(self, indices: Sequence[int]) -> "PreparedImages":
        """Give the images of these indices of the data set, in their order."""
        where = {index: position for position, index in enumerate(self.indices)}
        chosen = torch.tensor([where[one] for one in indices], dtype=torch.int64)
        return PreparedImages(self.images[chosen], self.targets[chosen], tuple(indices))


class LungFinder:
    """Finds lung masks with an exported lung model.

    Parameters
    ----------
    settings
        Model and assumed window.
    threads
        Of the model.
    """

    def __init__(self, settings: LungBoxes, threads: int) -> None:
        path = Path(settings.model)
        folder = open_model_folder(path) if path.is_dir() else find_model(settings.model)
        self.segmenter = LungSegmenter(folder, provider=Provider.CPU, threads=threads)
        self._settings = settings

    def box(self, image: NDArray[Any], unit: Unit) -> Tensor:
        """Give the lung box of one image ``(rows, columns)``, shape ``(1, 4)``."""
        wants_hu = self.segmenter.manifest.unit is InputUnit.HU
        if unit is Unit.HU and not wants_hu:
            raise RecipeInvalid(
                f"lung model {self._settings.model} takes pictures, the data are HU; "
                "choose a lung model of HU"
            )
        pixels = torch.from_numpy(image).unsqueeze(0)
        if unit is Unit.GREY and wants_hu:
            pixels = grey_to_hu(pixels.to(torch.float32), self._settings.grey_window)
        elif unit is Unit.GREY:
            pixels = pixels.to(torch.float32)
        mask = self.segmenter.mask(self.segmenter.logits(pixels.numpy()))
        return lung_boxes(torch.from_numpy(mask), self._settings.shrink_pixels)


def prepare(
    data: LabelledImages, indices: Sequence[int], recipe: Recipe, *, threads: int, track: Track
) -> PreparedImages:
    """Read the images of these indices.

    Raises
    ------
    RecipeInvalid
        The recipe does not fit the data: no window for HU, other classes, no such structure.
    TrainingFailed
        There are no images, or one has no label.
    """
    check_fit(data, recipe)
    if not indices:
        raise TrainingFailed(f"{data.name}: no images on one side of the split; correct data.split")
    lungs = recipe.preprocessing.lungs
    finder = LungFinder(lungs, threads) if lungs is not None else None
    dtype = torch.uint8 if data.unit is Unit.GREY else torch.float16
    size = (recipe.preprocessing.rows, recipe.preprocessing.columns)
    images = torch.empty(len(indices), 1, *size, dtype=dtype)
    is_masks = recipe.task is RecipeTask.SEGMENTATION
    targets = torch.zeros(images.shape if is_masks else (len(indices),), dtype=torch.uint8)
    for position, index in enumerate(track(indices, description=f"reading {data.name}")):
        image = data.image(index)
        boxes = None if finder is None else finder.box(image, data.unit)
        images[position] = _on_grid(image, data.unit, boxes, recipe).to(dtype)
        if is_masks:
            mask = data.mask(index, recipe.data.structure)
            targets[position] = _mask_on_grid(mask, boxes, size)
    if not is_masks:
        targets = _labels(data, indices)
    return PreparedImages(images, targets, tuple(indices))


def check_fit(data: LabelledImages, recipe: Recipe) -> None:
    """Refuse a recipe that was written for other data."""
    if recipe.task is RecipeTask.CLASSIFICATION and recipe.data.classes != data.classes:
        raise RecipeInvalid(
            f"recipe {recipe.name} has classes {list(recipe.data.classes)}, {data.name} has "
            f"{list(data.classes)}; correct data.classes"
        )
    if recipe.task is RecipeTask.SEGMENTATION and recipe.data.structure not in data.structures:
        raise RecipeInvalid(
            f"{data.name} has masks of {list(data.structures)}, not of {recipe.data.structure!r}; "
            "correct data.structure"
        )
    if data.unit is Unit.HU and recipe.preprocessing.hu_window is None:
        raise RecipeInvalid(
            f"{data.name} is in HU; give [preprocessing.hu_window] with lower_hu and upper_hu"
        )


def _on_grid(image: NDArray[Any], unit: Unit, boxes: Tensor | None, recipe: Recipe) -> Tensor:
    pixels = torch.from_numpy(np.ascontiguousarray(image)).unsqueeze(0)
    window = recipe.preprocessing.hu_window
    is_hu = unit is Unit.HU and window is not None
    grey = hu_to_grey(pixels, window) if is_hu and window is not None else pixels.to(torch.float32)
    boxes = whole_boxes(grey) if boxes is None else boxes
    sampled = sample_box(grey, boxes, recipe.preprocessing.rows, recipe.preprocessing.columns)
    return sampled[0] if is_hu else sampled[0].round()


def _mask_on_grid(mask: NDArray[np.bool_], boxes: Tensor | None, size: tuple[int, int]) -> Tensor:
    pixels = torch.from_numpy(np.ascontiguousarray(mask)).unsqueeze(0).to(torch.float32)
    boxes = whole_boxes(pixels) if boxes is None else boxes
    return (sample_box(pixels, boxes, *size)[0] > 0.5).to(torch.uint8)  # noqa: PLR2004  most of it


def _labels(data: LabelledImages, indices: Sequence[int]) -> Tensor:
    labels = data.labels()[list(indices)]
    if (labels < 0).any():
        name = data.samples[indices[int(np.argmin(labels))]].name
        raise TrainingFailed(f"{data.name}: {name} has no label; leave it out of the split")
    return torch.from_numpy(labels)
