"""Train the joint lesion and slice-class network; one readable file.

``python -m models.training slices --data DIR --out DIR``
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from models.manifest import HuWindow
from models.training.augment import (
    LungAugmentation,
    add_gravity,
    change_lung_density,
    change_scanner,
    move,
    uniform,
)
from models.training.decoys import add_decoys, add_domes, add_motion
from models.training.device_slices import DeviceSlices, to_device
from models.training.losses import focal_tversky
from models.training.networks import (
    InputGrid,
    SliceNetwork,
    crop_boxes,
    normalise_hu,
)
from models.training.paint_lesions import LesionPainting, paint_lesions
from models.training.side_by_side import Course, enrol, make_folds, train_side_by_side
from models.training.slice_data import (
    UNSURE,
    LabelledSlices,
    Source,
    judged,
    of_training,
)

#: Lung and soft tissue; bone adds nothing to the question.
SLICE_WINDOW = HuWindow(lower_hu=-1024.0, upper_hu=300.0)
#: How often a slice of each source is drawn; lesions are painted into the real ones.
SOURCE_SHARES = {Source.REAL: 0.6, Source.PLACED: 0.25, Source.PHANTOM: 0.15}

#: How much more often slices with the diaphragm are drawn, and below which share of the largest
#: lung area a slice beneath it counts as one.
DIAPHRAGM_WEIGHT, _FULL_SHARE = 2.5, 0.85

#: Share of affected slices: in training, and among the slices with lungs of a patient in practice.
TRAINED_PREVALENCE, EXPECTED_PREVALENCE = 0.6, 1.0 / 3.0


def slice_augmentation() -> LungAugmentation:
    """Scanner variation as for lungs; position gently, since the box takes most of it away."""
    return LungAugmentation(
        rotation_degrees=10.0,
        zoom_lower=0.8,
        zoom_upper=1.2,
        shift=0.03,
        upside_down=0.0,  # gravity is a hint at the cause; prone patients are a stated limit
        offset_hu=60.0,  # a ground glass is 100 to 300 HU above its lung; more would hide it
        lung_density_lower=0.5,
        lung_density_upper=1.7,
        noise_hu=70.0,
    )


@dataclass(frozen=True, slots=True)
class SliceRecipe:
    """Every number of a slice-classifier training, with its reason."""

    seed: int = 21
    widths: tuple[int, ...] = (24, 40, 64, 96, 128)  #: 0.9 M parameters
    #: Two mm a pixel in a box around adult lungs: what the LCTSC images can teach.
    grid: InputGrid = field(default_factory=lambda: InputGrid(SLICE_WINDOW, 160))
    n_steps: int = 1476  #: six minutes of a part of one large GPU
    batch_size: int = 32
    learning_rate: float = 2e-3
    weight_decay: float = 1e-3
    class_weight: float = 0.5
    dense_weight: float = 0.3
    lung_weight: float = 0.3
    thick: float = 0.3  #: slices averaged with a part of their neighbour
    normal_share: float = 0.4  #: of the real slices; the others get painted lesions
    affected_share: float = 0.004  #: of the lung on a slice; less is neither normal nor affected
    clean_share: float = 0.0005
    box_jitter: float = 0.04  #: masks of other networks differ by this share of the box
    decay: float = 0.998
    augmentation: LungAugmentation = field(default_factory=slice_augmentation)
    painting: LesionPainting = field(default_factory=LesionPainting)


def finishing_recipe() -> SliceRecipe:
    """Go on at a lower rate, with batches of another seed."""
    return SliceRecipe(seed=23, n_steps=1049, learning_rate=1.5e-3)


@dataclass(frozen=True, slots=True)
class SliceBatch:
    """What one step sees; images and maps ``(batch, channels, n, n)``."""

    image: Tensor
    lesion: Tensor  #: on the grid of the maps, 0 to 1
    dense: Tensor
    lung: Tensor
    classes: Tensor  #: (batch,), ``UNSURE`` where neither
    chosen: Tensor  #: (batch,), numbers of the slices

    def of(self, places: Tensor) -> "SliceBatch":
        """Keep some places of the batch."""
        return SliceBatch(
            image=self.image[places],
            lesion=self.lesion[places],
            dense=self.dense[places],
            lung=self.lung[places],
            classes=self.classes[places],
            chosen=self.chosen[places],
        )


@dataclass(frozen=True, slots=True)
class Drawing:
    """What batches are drawn from; ``(slices,)`` each: weights, and 1 where real, near the base."""

    slices: DeviceSlices
    weights: Tensor
    is_real: Tensor
    is_base: Tensor


def train_slices(
    slices: LabelledSlices,
    patients_of: Mapping[str, frozenset[str]],
    recipe: SliceRecipe,
    out: Path,
    *,
    device: torch.device,
    start: Mapping[str, SliceNetwork] | None = None,
    seconds: float | None = None,
    save_every_s: float = 30.0,
) -> dict[str, SliceNetwork]:
    """Train one network per fold, print the loss now and then, leave ``FOLD/slices.pt``.

    Parameters
    ----------
    slices
        Slices of every source; those without lungs and those with disease of their own are left
        out.
    patients_of
        For each fold the real patients it learns from; from others nothing is learnt, nor from
        lesions placed in them.
    start
        Networks to go on from, by fold; None starts afresh.
    seconds
        Wall clock time after which the course ends, however many steps were made.
    """
    torch.manual_seed(recipe.seed)
    generator = torch.Generator(device).manual_seed(recipe.seed)
    training = of_training(judged(slices), frozenset().union(*patients_of.values()))
    drawing = Drawing(
        slices=to_device(training, device),
        weights=torch.from_numpy(source_weights(training)).to(device),
        is_real=torch.from_numpy(training.sources == Source.REAL).to(device),
        is_base=torch.from_numpy(shows_diaphragm(training)).to(torch.float32).to(device),
    )
    folds = make_folds(training, patients_of, device)
    learners = enrol(
        {fold: start[fold] if start else SliceNetwork(recipe.widths) for fold in patients_of},
        device,
        weight_decay=recipe.weight_decay,
        decay=recipe.decay,
    )
    n_drawn = recipe.batch_size * (1 if len(learners) == 1 else 3)

    def loss_of(number: int, network: SliceNetwork, batch: SliceBatch) -> Tensor:
        own = folds.choose(number, batch.chosen, recipe.batch_size, generator)
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
            classes, maps = network(batch.image[own])
        return slice_loss(classes.float(), maps.float(), batch.of(own), recipe)

    return train_side_by_side(
        learners,
        Course(recipe.n_steps, seconds),
        recipe.learning_rate,
        lambda _step: slice_batch(drawing, n_drawn, recipe, generator),
        loss_of,
        out=out,
        name="slices",
        save_every_s=save_every_s,
    )


def source_weights(slices: LabelledSlices) -> NDArray[np.float32]:
    """Weigh each slice by source, within a source each class alike, and domes more than the rest.

    Where the diaphragm rises into the lungs, tissue stands among lung as consolidation does.
    """
    weights = np.zeros(len(slices.sources), dtype=np.float32)
    prominence = np.where(shows_diaphragm(slices), DIAPHRAGM_WEIGHT, 1.0)
    for source, share in SOURCE_SHARES.items():
        of_source = slices.sources == source
        present = np.unique(slices.classes[of_source])
        for label in present:
            chosen = of_source & (slices.classes == label)
            weights[chosen] = share / len(present) * prominence[chosen] / prominence[chosen].sum()
    return weights


def shows_diaphragm(slices: LabelledSlices) -> NDArray[np.bool_]:
    """Tell which slices have less lung than a slice above them, near the base of their volume."""
    area = slices.lung.sum(axis=(1, 2))
    shown = np.zeros(len(area), dtype=np.bool_)
    first = 0
    for last in np.flatnonzero(~slices.has_next):
        volume = area[first : last + 1]
        fullest = int(np.argmax(volume)) if len(volume) else 0
        shown[first : first + fullest] = volume[:fullest] < _FULL_SHARE * volume.max()
        first = int(last) + 1
    return shown


def slice_batch(
    drawing: Drawing, n: int, recipe: SliceRecipe, generator: torch.Generator
) -> SliceBatch:
    """Draw a batch, change patient, lungs and scanner, paint lesions, cut the boxes out."""
    drawn = drawing.slices
    hu, masks, chosen = drawn.draw(drawing.weights, n, generator, thick=recipe.thick)
    hu, masks = move(hu, masks, recipe.augmentation, generator)
    hu, lung = add_domes(hu, masks[:, :1], drawing.is_base[chosen], generator)
    lesion = masks[:, 1:] * lung
    healthy = lung * (1.0 - lesion)
    hu = add_gravity(hu, lung, generator)
    hu = change_lung_density(hu, healthy, recipe.augmentation, generator)
    hu = add_decoys(hu, healthy, generator)
    disease = _draw_disease(len(hu), recipe, generator) * drawing.is_real[chosen]
    painted = paint_lesions(hu, lung, disease, recipe.painting, generator)
    share = painted.lesion.sum(dim=(1, 2, 3)) / lung.sum(dim=(1, 2, 3)).clamp_min(1.0)
    painted_class = torch.where(share >= recipe.affected_share, disease, UNSURE)
    painted_class = torch.where(share <= recipe.clean_share, 0, painted_class)
    classes = torch.where(disease > 0, painted_class, drawn.classes[chosen])
    # Placed lesions and phantoms do not say what is dense: it drowns the vessels.
    solid = lesion * (functional.avg_pool2d(hu, 3, stride=1, padding=1) > -350.0)  # noqa: PLR2004
    masks = torch.cat([torch.maximum(lesion, painted.lesion), solid + painted.dense, lung], dim=1)
    hu = add_motion(painted.hu, generator)
    hu = change_scanner(hu, recipe.augmentation, generator)
    boxes = jittered_boxes(lung, recipe.box_jitter, generator)
    image = crop_boxes(normalise_hu(hu, recipe.grid.window), boxes, recipe.grid.size)
    on_grid = crop_boxes(masks.clamp(0.0, 1.0), boxes, recipe.grid.size)
    maps = functional.avg_pool2d(on_grid, 2)
    return SliceBatch(
        image=image,
        lesion=maps[:, :1],
        dense=maps[:, 1:2],
        lung=maps[:, 2:],
        classes=classes,
        chosen=chosen,
    )


def _draw_disease(n: int, recipe: SliceRecipe, generator: torch.Generator) -> Tensor:
    """Draw what is painted, ``(n,)``: nothing, or one disease as often as the other."""
    odds = torch.rand(n, generator=generator, device=generator.device)
    is_ill = odds >= recipe.normal_share
    is_second = odds >= 0.5 * (1.0 + recipe.normal_share)
    return is_ill.to(torch.int64) + is_second.to(torch.int64)


def slice_loss(classes: Tensor, maps: Tensor, batch: SliceBatch, recipe: SliceRecipe) -> Tensor:
    """Give the loss of the three maps and of the classes together."""
    lesion, dense, lung = maps[:, :1], maps[:, 1:2], maps[:, 2:]
    cross_entropy = functional.binary_cross_entropy_with_logits
    loss = 2.0 * cross_entropy(lesion, batch.lesion)
    loss = loss + 0.5 * focal_tversky(lesion, batch.lesion, alpha=0.5, beta=0.5, smooth=8.0)
    of_lesion = cross_entropy(dense, batch.dense, reduction="none", weight=batch.lesion)
    loss = loss + recipe.dense_weight * of_lesion.sum() / (batch.lesion.sum() + 1.0)
    loss = loss + recipe.lung_weight * cross_entropy(lung, batch.lung)
    known = functional.cross_entropy(classes, batch.classes, ignore_index=UNSURE)
    return loss + recipe.class_weight * known


def jittered_boxes(lung: Tensor, jitter: float, generator: torch.Generator) -> Tensor:
    """Give the lung box of each slice, its edges moved by a share of its extent.

    Parameters
    ----------
    lung
        Shape ``(batch, 1, rows, columns)``; an empty mask gives the whole slice.
    """
    n, _, n_rows, n_columns = lung.shape
    edges = []
    for axis, size in ((2, n_rows), (3, n_columns)):
        used = (lung > 0).any(dim=5 - axis).flatten(1)
        number = torch.arange(size, device=lung.device)
        empty = ~used.any(dim=1)
        first = torch.where(used, number, size).amin(dim=1).masked_fill(empty, 0)
        last = torch.where(used, number, -1).amax(dim=1).masked_fill(empty, size - 1)
        edges.append((first.to(torch.float32), last.to(torch.float32) + 1.0))
    (row0, row1), (column0, column1) = edges
    boxes = torch.stack([row0, column0, row1, column1], dim=1)
    extent = (boxes[:, 2:] - boxes[:, :2]).repeat(1, 2)
    return boxes + extent * uniform(generator, 4 * n, -jitter, jitter).view(n, 4)
