"""What healthy lungs show and no lesion is: lines, dots, uneven aeration, motion.

Painted into slices of every class, so that none of it tells a lesion. Batches are
``(batch, 1, rows, columns)``, HU as float32, lung masks 0 or 1.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional

from models.training.augment import chance, smooth_field, uniform

#: Lines and dots painted into a slice at most.
_N_LINES, _N_DOTS = 3, 4
#: How often a dome is painted into a slice near the base.
_DOMES = 0.25
#: Middle and width of the step from aerated lung to vessels, in HU.
_AERATED_HU, _STEP_HU = -500.0, 60.0


def add_decoys(hu: Tensor, lung: Tensor, generator: torch.Generator) -> Tensor:
    """Paint uneven aeration, dependent rims, scars, fissures, and dots like vessels seen end on."""
    hu = add_uneven_aeration(hu, lung, generator)
    hu = add_dependent_rim(hu, lung, generator)
    hu = add_lines(hu, lung, generator)
    return add_dots(hu, lung, generator)


def add_uneven_aeration(hu: Tensor, lung: Tensor, generator: torch.Generator) -> Tensor:
    """Let the density of aerated lung vary slowly, as perfusion and expiration make it."""
    n, _, rows, columns = hu.shape
    field = smooth_field(generator, n, (rows, columns), n_cells=7)
    strength = uniform(generator, n, 0.0, 35.0) * chance(generator, n, 0.7)
    aerated = torch.sigmoid((_AERATED_HU - hu) / _STEP_HU) * lung
    return hu + aerated * field * strength


def add_dependent_rim(hu: Tensor, lung: Tensor, generator: torch.Generator) -> Tensor:
    """Collapse the last few millimetres of lung at the back, as lying on it does."""
    n, _, rows, _ = hu.shape
    row = torch.arange(rows, dtype=torch.float32, device=hu.device).view(1, 1, rows, 1)
    last = (lung * row).amax(dim=2, keepdim=True)
    lowest = last.amax(dim=3, keepdim=True)
    depth = uniform(generator, n, 1.0, 3.0)
    rim = torch.exp((row - last).clamp_max(0.0) / depth)
    back = torch.sigmoid((last - lowest + uniform(generator, n, 8.0, 40.0)) / 4.0)
    rise = uniform(generator, n, 0.0, 280.0) * chance(generator, n, 0.4)
    aerated = torch.sigmoid((_AERATED_HU - hu) / _STEP_HU) * lung
    return hu + rim * back * rise * aerated


def add_domes(
    hu: Tensor, lung: Tensor, is_base: Tensor, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Let a dome of the diaphragm rise into a lung, half in the slice or whole.

    Parameters
    ----------
    is_base
        ``(batch,)``, 1 where the slice lies near the base of the lungs, 0 elsewhere: a dome at the
        apex would teach that nothing round is a lesion.

    Returns
    -------
    :
        The slices and their lungs without what the dome fills.
    """
    n, _, rows, columns = hu.shape
    row = torch.arange(rows, dtype=torch.float32, device=hu.device).view(1, 1, rows, 1)
    column = torch.arange(columns, dtype=torch.float32, device=hu.device).view(1, 1, 1, columns)
    centre = torch.multinomial(lung.flatten(1) + 1e-8, 1, generator=generator).view(n, 1, 1, 1)
    radius = uniform(generator, n, 9.0, 26.0)
    stretch = torch.exp(uniform(generator, n, -0.4, 0.4))
    rough = smooth_field(generator, n, (rows, columns), n_cells=9)
    away = torch.sqrt(
        ((row - centre // columns) / (radius * stretch)) ** 2
        + ((column - centre % columns) / (radius / stretch)) ** 2
    )
    softness = uniform(generator, n, 0.1, 1.3)
    share = torch.sigmoid((1.0 - away + 0.15 * rough) * 4.0 / softness)
    share = share * uniform(generator, n, 0.7, 1.0)
    share = share * chance(generator, n, _DOMES) * is_base.view(n, 1, 1, 1)
    inside = share * functional.max_pool2d(lung, 3, stride=1, padding=1)
    tissue = uniform(generator, n, 0.0, 80.0)
    return hu + (tissue - hu) * inside, lung * (share < 0.5).to(torch.float32)  # noqa: PLR2004


def add_lines(hu: Tensor, lung: Tensor, generator: torch.Generator) -> Tensor:
    """Draw scars and fissures: slightly bent lines one or two pixels wide."""
    n, _, rows, columns = hu.shape
    row = torch.linspace(-1.0, 1.0, rows, device=hu.device).view(1, 1, rows, 1)
    column = torch.linspace(-1.0, 1.0, columns, device=hu.device).view(1, 1, 1, columns)
    for _ in range(_N_LINES):
        angle = uniform(generator, n, -math.pi, math.pi)
        down = row - uniform(generator, n, -0.6, 0.6)
        across = column - uniform(generator, n, -0.6, 0.6)
        along = down * angle.sin() + across * angle.cos()
        beside = across * angle.sin() - down * angle.cos()
        beside = beside + uniform(generator, n, -0.5, 0.5) * along**2
        width = uniform(generator, n, 0.5, 1.3) * 2.0 / rows
        reach = uniform(generator, n, 0.05, 0.6)
        line = torch.exp(-((beside / width) ** 2)) * torch.sigmoid((reach - along.abs()) * 60.0)
        strength = uniform(generator, n, 60.0, 450.0) * chance(generator, n, 0.35)
        aerated = torch.sigmoid((_AERATED_HU - hu) / _STEP_HU) * lung
        hu = hu + line * strength * aerated
    return hu


def add_dots(hu: Tensor, lung: Tensor, generator: torch.Generator) -> Tensor:
    """Draw round dense dots of at most 6 mm: vessels across the slice, granulomas."""
    n, _, rows, columns = hu.shape
    row = torch.arange(rows, dtype=torch.float32, device=hu.device).view(1, 1, rows, 1)
    column = torch.arange(columns, dtype=torch.float32, device=hu.device).view(1, 1, 1, columns)
    weight = lung.flatten(1) + 1e-8
    centres = torch.multinomial(weight, _N_DOTS, replacement=True, generator=generator)
    for number in range(_N_DOTS):
        centre = centres[:, number].view(n, 1, 1, 1)
        away = (row - centre // columns) ** 2 + (column - centre % columns) ** 2
        dot = torch.exp(-away / (2.0 * uniform(generator, n, 0.5, 1.1) ** 2))
        strength = uniform(generator, n, 100.0, 900.0) * chance(generator, n, 0.4)
        hu = torch.maximum(hu, (hu + dot * strength).clamp_max(60.0) * lung + hu * (1.0 - lung))
    return hu


def add_motion(hu: Tensor, generator: torch.Generator, *, probability: float = 0.2) -> Tensor:
    """Show the patient twice, a few pixels apart, as breathing and the heart beat do."""
    n, _, rows, columns = hu.shape
    shift = torch.cat(
        [
            uniform(generator, n, -3.0, 3.0) * 2.0 / columns,
            uniform(generator, n, -3.0, 3.0) * 2.0 / rows,
        ],
        dim=1,
    ).view(n, 2)
    theta = torch.zeros(n, 2, 3, device=hu.device)
    theta[:, 0, 0] = 1.0
    theta[:, 1, 1] = 1.0
    theta[:, :, 2] = shift
    grid = functional.affine_grid(theta, list(hu.shape), align_corners=False)
    moved = functional.grid_sample(hu, grid, padding_mode="border", align_corners=False)
    share = uniform(generator, n, 0.2, 0.5) * chance(generator, n, probability)
    return hu * (1.0 - share) + moved * share
