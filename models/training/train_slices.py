"""Train the joint lesion and slice-class network; one readable file.

``python -m models.training slices --data DIR --out DIR``
"""

import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from rich.progress import track
from torch import Tensor
from torch.nn import functional

from models.datasets.lung_slices import PatientSplit
from models.manifest import HuWindow
from models.training.augment import (
    LungAugmentation,
    add_gravity,
    change_lung_density,
    change_scanner,
    move,
    uniform,
)
from models.training.losses import focal_tversky
from models.training.networks import (
    InputGrid,
    SliceNetwork,
    crop_boxes,
    lay_channels_last,
    normalise_hu,
)
from models.training.slice_data import (
    N_CLASSES,
    UNSURE,
    LabelledSlices,
    training_slices,
    with_lungs,
)

#: Lung and soft tissue; bone adds nothing to the question.
SLICE_WINDOW = HuWindow(lower_hu=-1024.0, upper_hu=300.0)


def slice_augmentation() -> LungAugmentation:
    """Scanner variation as for lungs; position gently, since the box takes most of it away."""
    return LungAugmentation(
        rotation_degrees=10.0,
        zoom_lower=0.9,
        zoom_upper=1.2,
        shift=0.03,
        upside_down=0.0,  # gravity is a hint at the cause; prone patients are a stated limit
        offset_hu=60.0,  # a ground glass is 100 to 300 HU above its lung; more would hide it
        lung_density_lower=0.5,
        lung_density_upper=1.6,
        noise_hu=70.0,
    )


@dataclass(frozen=True, slots=True)
class SliceRecipe:
    """Every number of a slice-classifier training, with its reason."""

    seed: int = 21
    widths: tuple[int, int, int, int] = (16, 32, 64, 96)  #: 0.4 M parameters, ten ms on a CPU
    #: Two mm a pixel in a box around adult lungs: what the LCTSC images can teach.
    grid: InputGrid = field(default_factory=lambda: InputGrid(SLICE_WINDOW, 160))
    n_steps: int = 1200  #: about ten minutes on two free CPU cores
    batch_size: int = 12  #: four of each class
    learning_rate: float = 2e-3
    weight_decay: float = 1e-3
    lesion_weight: float = 1.0  #: the map carries the classes, so it counts as much
    label_smoothing: float = 0.05  #: synthetic labels are cleaner than real ones
    box_jitter: float = 0.04  #: masks of other networks differ by this share of the box
    augmentation: LungAugmentation = field(default_factory=slice_augmentation)


def train_slices(
    slices: LabelledSlices, split: PatientSplit, recipe: SliceRecipe, out: Path
) -> SliceNetwork:
    """Train, print validation accuracy now and then, leave ``slices.pt`` in ``out``.

    Parameters
    ----------
    slices
        Slices of every source; those without lungs are left out. Real patients outside
        ``split.training`` are not learnt from, nor are lesions placed in them.
    """
    judged = with_lungs(slices)
    training = training_slices(judged, split)
    validation = judged.where(np.isin(judged.patients, sorted(split.validation)))
    torch.manual_seed(recipe.seed)
    generator = torch.Generator().manual_seed(recipe.seed)
    network = SliceNetwork(recipe.widths, N_CLASSES)
    lay_channels_last(network)
    optimiser = torch.optim.AdamW(
        network.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, recipe.learning_rate, total_steps=recipe.n_steps, pct_start=0.15
    )
    out.mkdir(parents=True, exist_ok=True)
    started_s = time.monotonic()
    for step in track(range(recipe.n_steps), description="slices"):
        chosen = balanced_choice(training.classes, recipe.batch_size, generator)
        loss = slice_loss(network, training, chosen, recipe, generator)
        optimiser.zero_grad()
        torch.autograd.backward(loss)
        optimiser.step()
        schedule.step()
        if step % 100 == 0 or step == recipe.n_steps - 1:
            torch.save(network.state_dict(), out / "slices.pt")
            accuracy = validation_accuracy(network, validation, recipe)
            taken_s = time.monotonic() - started_s
            print(
                f"step {step} loss {loss.item():.4f} accuracy {accuracy} {taken_s:.0f} s",
                flush=True,
            )
    return network


def balanced_choice(
    classes: "np.ndarray[tuple[int, ...], np.dtype[np.int64]]", n: int, generator: torch.Generator
) -> Tensor:
    """Draw slice numbers, equally many of each class, unsure ones now and then."""
    known = torch.from_numpy(classes)
    drawn = []
    for label in range(N_CLASSES):
        of_class = torch.nonzero(known == label).flatten()
        drawn.append(of_class[torch.randint(len(of_class), (n // N_CLASSES,), generator=generator)])
    unsure = torch.nonzero(known == UNSURE).flatten()
    if len(unsure) > 0:
        drawn[0][0] = unsure[torch.randint(len(unsure), (1,), generator=generator)]
    return torch.cat(drawn)


def slice_loss(
    network: SliceNetwork,
    slices: LabelledSlices,
    chosen: Tensor,
    recipe: SliceRecipe,
    generator: torch.Generator,
) -> Tensor:
    """Give cross entropy of the classes plus cross entropy and Tversky loss of the lesion map."""
    hu, masks = tensors_of(slices, chosen)
    hu, masks = move(hu, masks, recipe.augmentation, generator)
    lung, lesion = masks[:, :1], masks[:, 1:]
    hu = add_gravity(hu, lung, generator)
    hu = change_lung_density(hu, lung * (1.0 - lesion), recipe.augmentation, generator)
    hu = change_scanner(hu, recipe.augmentation, generator)
    boxes = jittered_boxes(lung, recipe.box_jitter, generator)
    image = crop_boxes(normalise_hu(hu, recipe.grid.window), boxes, recipe.grid.size)
    target = functional.avg_pool2d(crop_boxes(lesion, boxes, recipe.grid.size), 4)
    classes, found = network(image)
    truth = torch.from_numpy(slices.classes)[chosen]
    class_loss = functional.cross_entropy(
        classes, truth, ignore_index=UNSURE, label_smoothing=recipe.label_smoothing
    )
    map_loss = functional.binary_cross_entropy_with_logits(found, target) * 2.0
    map_loss = map_loss + 0.5 * focal_tversky(found, target, alpha=0.5, beta=0.5, smooth=4.0)
    return class_loss + recipe.lesion_weight * map_loss


def tensors_of(slices: LabelledSlices, chosen: Tensor) -> tuple[Tensor, Tensor]:
    """Give HU ``(batch, 1, rows, columns)`` and lung and lesion masks ``(batch, 2, ...)``."""
    numbers = chosen.numpy()
    hu = torch.from_numpy(slices.hu[numbers]).to(torch.float32).unsqueeze(1)
    masks = np.stack([slices.lung[numbers], slices.lesion[numbers]], axis=1)
    return hu, torch.from_numpy(masks).to(torch.float32)


def jittered_boxes(lung: Tensor, jitter: float, generator: torch.Generator) -> Tensor:
    """Give the lung box of each slice, its edges moved by a share of its extent.

    Parameters
    ----------
    lung
        Shape ``(batch, 1, rows, columns)``; an empty mask gives the whole slice.
    """
    n, _, rows, columns = lung.shape
    boxes = torch.empty(n, 4)
    for number, mask in enumerate(lung[:, 0] > 0):
        used_rows = torch.nonzero(mask.any(dim=1)).flatten()
        used_columns = torch.nonzero(mask.any(dim=0)).flatten()
        if len(used_rows) == 0:
            boxes[number] = torch.tensor([0.0, 0.0, float(rows), float(columns)])
            continue
        first = torch.stack([used_rows[0], used_columns[0]]).to(torch.float32)
        last = torch.stack([used_rows[-1], used_columns[-1]]).to(torch.float32) + 1.0
        boxes[number] = torch.cat([first, last])
    extent = (boxes[:, 2:] - boxes[:, :2]).repeat(1, 2)
    return boxes + extent * uniform(generator, 4 * n, -jitter, jitter).view(n, 4)


def validation_accuracy(
    network: SliceNetwork, slices: LabelledSlices, recipe: SliceRecipe
) -> list[float]:
    """Give the share of slices called right, class by class, without augmentation."""
    network.eval()
    generator = torch.Generator().manual_seed(0)
    found = []
    with torch.inference_mode():
        for numbers in torch.split(torch.arange(len(slices.hu)), 16):
            hu, masks = tensors_of(slices, numbers)
            boxes = jittered_boxes(masks[:, :1], 0.0, generator)
            image = crop_boxes(normalise_hu(hu, recipe.grid.window), boxes, recipe.grid.size)
            found.append(network(image)[0].argmax(dim=1))
    network.train()
    right = torch.cat(found).numpy() == slices.classes
    return [round(float(right[slices.classes == label].mean()), 3) for label in range(N_CLASSES)]
