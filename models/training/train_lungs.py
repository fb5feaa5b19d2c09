"""Train the Attention U-Net that finds lungs; one readable file.

``python -m models.training lungs --data DIR --out DIR``
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from rich.progress import track
from torch import Tensor
from torch.nn import functional

from models.datasets.lung_slices import PatientSplit
from models.manifest import HuWindow
from models.training.augment import LungAugmentation, augment_lungs
from models.training.losses import focal_tversky
from models.training.networks import AttentionUNet, InputGrid, lay_channels_last, normalise_hu
from models.training.slice_data import LabelledSlices, Source, training_slices

#: What the LCTSC images keep; wider would be invented, narrower would lose bone.
LUNG_WINDOW = HuWindow(lower_hu=-1024.0, upper_hu=400.0)


#: How often a slice of each source is drawn: real ones lead, since real lungs are the aim.
SOURCE_SHARES = {
    Source.REAL: 0.5,
    Source.PLACED: 0.2,
    Source.PHANTOM: 0.2,
    Source.NO_LUNGS: 0.1,
}


@dataclass(frozen=True, slots=True)
class LungRecipe:
    """Every number of a lung training, with its reason."""

    seed: int = 20
    widths: tuple[int, ...] = (20, 40, 64, 96, 96)  #: 0.8 M parameters, ten ms a slice on a CPU
    grid: InputGrid = field(default_factory=lambda: InputGrid(LUNG_WINDOW, 256))  #: that of LCTSC
    n_steps: int = 1800  #: about 25 minutes on two free CPU cores
    batch_size: int = 8
    learning_rate: float = 3e-3  #: peak of one cycle; batch norm bears it
    warm_up: float = 0.15  #: share of the steps until the peak
    weight_decay: float = 1e-4
    cross_entropy_weight: float = 0.5  #: focal Tversky alone leaves logits uncalibrated
    augmentation: LungAugmentation = field(default_factory=LungAugmentation)


def train_lungs(
    slices: LabelledSlices,
    split: PatientSplit,
    recipe: LungRecipe,
    out: Path,
    start: AttentionUNet | None = None,
) -> AttentionUNet:
    """Train, print the validation Dice now and then, leave ``lungs.pt`` in ``out``.

    Parameters
    ----------
    slices
        All slices on the recipe's grid. Real patients outside ``split.training`` are not learnt
        from, nor are lesions placed in them.
    start
        Weights to go on from; None starts afresh.
    """
    torch.manual_seed(recipe.seed)
    generator = torch.Generator().manual_seed(recipe.seed)
    network = start if start is not None else AttentionUNet(recipe.widths)
    lay_channels_last(network)
    optimiser = torch.optim.AdamW(
        network.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, recipe.learning_rate, total_steps=recipe.n_steps, pct_start=recipe.warm_up
    )
    batches = batches_of(training_slices(slices, split), recipe, generator)
    validation = slices.where(
        np.isin(slices.patients, sorted(split.validation)) & (slices.sources == Source.REAL)
    )
    out.mkdir(parents=True, exist_ok=True)
    started_s = time.monotonic()
    for step in track(range(recipe.n_steps), description="lungs"):
        hu, mask = augment_lungs(*next(batches), recipe.augmentation, generator)
        logits = network(normalise_hu(hu, recipe.grid.window))
        loss = lung_loss(logits, mask, recipe)
        optimiser.zero_grad()
        torch.autograd.backward(loss)
        optimiser.step()
        schedule.step()
        if step % 100 == 0 or step == recipe.n_steps - 1:
            torch.save(network.state_dict(), out / "lungs.pt")
            dice = validation_dice(network, validation, recipe)
            taken_s = time.monotonic() - started_s
            print(f"step {step} loss {loss.item():.4f} dice {dice:.4f} {taken_s:.0f} s", flush=True)
    return network


def lung_loss(logits: Tensor, mask: Tensor, recipe: LungRecipe) -> Tensor:
    """Give focal Tversky plus a share of cross entropy."""
    entropy = functional.binary_cross_entropy_with_logits(logits, mask)
    return focal_tversky(logits, mask) + recipe.cross_entropy_weight * entropy


def batches_of(
    slices: LabelledSlices, recipe: LungRecipe, generator: torch.Generator
) -> Iterator[tuple[Tensor, Tensor]]:
    """Give batches without end: HU and masks, ``(batch, 1, rows, columns)`` float32."""
    weights = source_weights(slices)
    while True:
        chosen = torch.multinomial(weights, recipe.batch_size, generator=generator).numpy()
        hu = torch.from_numpy(slices.hu[chosen]).to(torch.float32).unsqueeze(1)
        mask = torch.from_numpy(slices.lung[chosen]).to(torch.float32).unsqueeze(1)
        yield hu, mask


def source_weights(slices: LabelledSlices) -> Tensor:
    """Weigh each slice so that its source is drawn as often as ``SOURCE_SHARES`` says."""
    weights = torch.zeros(len(slices.sources), dtype=torch.float64)
    for source, share in SOURCE_SHARES.items():
        of_source = torch.from_numpy(slices.sources == source)
        weights[of_source] = share / max(int(of_source.sum()), 1)
    return weights


def validation_dice(network: AttentionUNet, slices: LabelledSlices, recipe: LungRecipe) -> float:
    """Give the Dice over all validation slices together; not a number when there are none."""
    if len(slices.hu) == 0:
        return float("nan")
    network.eval()
    both = total = 0
    with torch.inference_mode():
        for begin in range(0, len(slices.hu), recipe.batch_size):
            chosen = slice(begin, begin + recipe.batch_size)
            hu = torch.from_numpy(slices.hu[chosen]).unsqueeze(1).to(torch.float32)
            found = network(normalise_hu(hu, recipe.grid.window))[:, 0] > 0
            truth = torch.from_numpy(slices.lung[chosen])
            both += int((found & truth).sum())
            total += int(found.sum()) + int(truth.sum())
    network.train()
    return 2.0 * both / max(total, 1)
