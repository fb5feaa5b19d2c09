"""Train the Attention U-Net that finds lungs; one readable file.

``python -m models.training lungs --data DIR --out DIR``
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from models.manifest import HuWindow
from models.training.augment import (
    LungAugmentation,
    augment_lungs,
    chance,
    change_scanner,
    move,
)
from models.training.decoys import add_motion
from models.training.device_slices import DeviceSlices, to_device
from models.training.losses import focal_tversky
from models.training.networks import InputGrid, TwoAnswerUNet, normalise_hu
from models.training.paint_lesions import LesionPainting, paint_lesions
from models.training.side_by_side import Course, enrol, make_folds, train_side_by_side
from models.training.slice_data import LabelledSlices, Source, of_training
from models.training.solid_lungs import SolidPainting, fill_solid

#: What the LCTSC images keep; wider would be invented, narrower would lose bone.
LUNG_WINDOW = HuWindow(lower_hu=-1024.0, upper_hu=400.0)


#: How often a slice of each source is drawn: real ones lead, since real lungs are the aim.
SOURCE_SHARES = {
    Source.REAL: 0.55,
    Source.PLACED: 0.2,
    Source.PHANTOM: 0.15,
    Source.NO_LUNGS: 0.1,
}


def lung_painting() -> LesionPainting:
    """Paint larger lesions than the classifier learns from: what fills a lung must stay lung."""
    few = LesionPainting()
    return LesionPainting(
        covid_19=replace(few.covid_19, most_foci=4),
        cap=replace(few.cap, most_foci=3),
        smallest_radius=5.0,
        largest_radius=28.0,
    )


def gentle_augmentation() -> LungAugmentation:
    """Change place and scanner a little, and nothing inside the body."""
    return LungAugmentation(
        rotation_degrees=8.0,
        zoom_lower=0.9,
        zoom_upper=1.5,
        stretch=0.06,
        shift=0.05,
        upside_down=0.0,
        offset_hu=40.0,
        noise_hu=40.0,
        blur_pixels=0.7,
    )


@dataclass(frozen=True, slots=True)
class LungRecipe:
    """Every number of a lung training, with its reason."""

    seed: int = 20
    widths: tuple[int, ...] = (32, 56, 80, 112, 144)  #: 1.4 M parameters
    grid: InputGrid = field(default_factory=lambda: InputGrid(LUNG_WINDOW, 256))  #: that of LCTSC
    n_steps: int = 1322  #: six minutes of a part of one large GPU
    batch_size: int = 24
    learning_rate: float = 3e-3  #: peak of one cycle; batch norm bears it
    weight_decay: float = 1e-4
    cross_entropy_weight: float = 0.5  #: focal Tversky alone leaves logits uncalibrated
    thick: float = 0.2  #: slices averaged with a part of their neighbour
    painted: float = 0.35  #: slices with painted lesions, besides the placed ones
    decay: float = 0.998  #: of the average of weights that is kept
    alpha: float = 0.7  #: weight of missed lung in the focal Tversky loss; beta is the rest
    hard_every: int = 1  #: every so many batches one with painted lesions and all changes
    solid: float = 0.0  #: slices of the other batches with solid lobes or lungs
    source_shares: Mapping[Source, float] = field(default_factory=lambda: SOURCE_SHARES)
    augmentation: LungAugmentation = field(default_factory=LungAugmentation)
    gentle: LungAugmentation = field(default_factory=gentle_augmentation)  #: of the other batches
    painting: LesionPainting = field(default_factory=lung_painting)
    solid_painting: SolidPainting = field(default_factory=SolidPainting)


def finishing_recipe() -> LungRecipe:
    """Sharpen the outline after the hard course: mostly whole, barely changed real slices.

    The published loss favours masks that are too large; here both errors weigh alike.
    """
    return LungRecipe(
        seed=22,
        n_steps=1652,
        batch_size=16,
        learning_rate=2e-3,
        cross_entropy_weight=1.0,
        thick=0.1,
        alpha=0.5,
        hard_every=3,
        source_shares={
            Source.REAL: 0.65,
            Source.PLACED: 0.2,
            Source.PHANTOM: 0.1,
            Source.NO_LUNGS: 0.05,
        },
    )


def solid_lung_recipe() -> LungRecipe:
    """Teach that a solid lobe, and a solid lung, are lung, on whole slices.

    Half of the slices stay as they are, so that the plain outline is not forgotten. Slices whose
    lungs are filled and whose mask is emptied, as in the first course, would teach the opposite.
    """
    return replace(
        finishing_recipe(),
        seed=26,
        n_steps=3900,
        learning_rate=2e-3,
        hard_every=5,
        solid=0.5,
        source_shares={
            Source.REAL: 0.62,
            Source.PLACED: 0.12,
            Source.PHANTOM: 0.18,
            Source.NO_LUNGS: 0.08,
        },
        augmentation=LungAugmentation(emptied=0.0, bend=0.02),
        gentle=replace(gentle_augmentation(), bend=0.02),
    )


def sharpening_recipe() -> LungRecipe:
    """Sharpen both answers at a lower rate: with lungs as they are once more in the majority."""
    return replace(
        solid_lung_recipe(), seed=28, n_steps=1823, learning_rate=1.2e-3, decay=0.995, solid=0.4
    )


def train_lungs(
    slices: LabelledSlices,
    patients_of: Mapping[str, frozenset[str]],
    recipe: LungRecipe,
    out: Path,
    *,
    device: torch.device,
    start: Mapping[str, TwoAnswerUNet] | None = None,
    seconds: float | None = None,
    save_every_s: float = 30.0,
) -> dict[str, TwoAnswerUNet]:
    """Train one network per fold, print the loss now and then, leave ``FOLD/lungs.pt`` in ``out``.

    Parameters
    ----------
    slices
        All slices on the recipe's grid.
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
    training = of_training(slices, frozenset().union(*patients_of.values()))
    weights = torch.from_numpy(source_weights(training, recipe.source_shares)).to(device)
    drawn = to_device(training, device)
    folds = make_folds(training, patients_of, device)
    learners = enrol(
        {fold: start[fold] if start else TwoAnswerUNet(recipe.widths) for fold in patients_of},
        device,
        weight_decay=recipe.weight_decay,
        decay=recipe.decay,
    )
    n_drawn = recipe.batch_size * (1 if len(learners) == 1 else 4)

    def loss_of(number: int, network: TwoAnswerUNet, batch: LungBatch) -> Tensor:
        own = folds.choose(number, batch.chosen, recipe.batch_size, generator)
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
            logits = network(normalise_hu(batch.hu[own], recipe.grid.window))
        mask, solid = batch.mask[own], batch.solid[own]
        first, second = logits.float().split(1, dim=1)
        return lung_loss(first, mask * (1.0 - solid), recipe) + lung_loss(second, mask, recipe)

    return train_side_by_side(
        learners,
        Course(recipe.n_steps, seconds),
        recipe.learning_rate,
        lambda step: lung_batch(
            drawn, weights, n_drawn, recipe, generator, hard=step % recipe.hard_every == 0
        ),
        loss_of,
        out=out,
        name="lungs",
        save_every_s=save_every_s,
    )


@dataclass(frozen=True, slots=True)
class LungBatch:
    """What one step sees: HU and masks ``(n, 1, rows, columns)``, numbers of the slices."""

    hu: Tensor
    mask: Tensor
    solid: Tensor  #: part of the mask that is solid
    chosen: Tensor


def lung_batch(
    drawn: DeviceSlices,
    weights: Tensor,
    n: int,
    recipe: LungRecipe,
    generator: torch.Generator,
    *,
    hard: bool = True,
) -> LungBatch:
    """Draw and change a batch; a hard one in every way that the recipe knows."""
    hu, masks, chosen = drawn.draw(weights, n, generator, thick=recipe.thick)
    if not hard:
        hu, mask = move(hu, masks[:, :1], recipe.gentle, generator)
        solid = torch.zeros_like(mask)
        if recipe.solid > 0.0:
            painting = recipe.solid_painting
            hu, solid = fill_solid(hu, mask, painting, generator, share=recipe.solid)
        return LungBatch(change_scanner(hu, recipe.gentle, generator), mask, solid, chosen)
    hu, mask = move(hu, masks[:, :1], recipe.augmentation, generator)
    # One class in three is COVID-19: what is dense and large matters most for the outline.
    classes = chance(generator, n, recipe.painted) * (2.0 - chance(generator, n, 0.33))
    painted = paint_lesions(hu, mask, classes.flatten().to(torch.int64), recipe.painting, generator)
    hu, mask = augment_lungs(painted.hu, mask, recipe.augmentation, generator)
    hu = add_motion(hu, generator, probability=0.1)
    return LungBatch(hu, mask, torch.zeros_like(mask), chosen)


def lung_loss(logits: Tensor, mask: Tensor, recipe: LungRecipe) -> Tensor:
    """Give focal Tversky plus a share of cross entropy."""
    entropy = functional.binary_cross_entropy_with_logits(logits, mask)
    overlap = focal_tversky(logits, mask, alpha=recipe.alpha, beta=1.0 - recipe.alpha)
    return overlap + recipe.cross_entropy_weight * entropy


def source_weights(slices: LabelledSlices, shares: Mapping[Source, float]) -> NDArray[np.float32]:
    """Weigh each slice so that its source is drawn as often as told."""
    weights = np.zeros(len(slices.sources), dtype=np.float32)
    for source, share in shares.items():
        of_source = slices.sources == source
        weights[of_source] = share / max(int(of_source.sum()), 1)
    return weights
