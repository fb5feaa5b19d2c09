"""Turn lobes and whole lungs of a batch of slices solid; the lung mask stays.

Where soft tissue lies beside soft tissue, only ribs, spine, the outline of the heart, open bronchi
and what air is left tell where lung ends. Shapes here are half-planes and whole sides of one slice
with wavy edges: another family than the lobes of a volume (``models.phantom.consolidation``) that
the networks are measured on.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from models.training.augment import blur, chance, smooth_field, uniform

#: Air in open bronchi, seen through a slice thicker than they are.
_BRONCHUS_HU = -750.0


@dataclass(frozen=True, slots=True)
class SolidPainting:
    """How solid lung looks; probabilities from 0 to 1 of a slice that is changed."""

    both_sides: float = 0.55  #: otherwise one lung
    whole_side: float = 0.4  #: of each such lung; otherwise one side of a fissure
    islands: float = 0.3  #: aerated islands are left
    bronchograms: float = 0.7
    lower_hu: float = -20.0  #: blood, pus and water, with some air left
    upper_hu: float = 75.0  #: with contrast medium
    texture_hu: float = 22.0  #: of coarse unevenness at most


def fill_solid(
    hu: Tensor, mask: Tensor, settings: SolidPainting, generator: torch.Generator, *, share: float
) -> tuple[Tensor, Tensor]:
    """Fill lobes and lungs with soft tissue; give the slices, and where they are solid, 0 or 1.

    Parameters
    ----------
    hu, mask
        ``(batch, 1, rows, columns)``, HU and 0 or 1.
    share
        How often a slice is changed, 0 to 1.
    """
    n, _, rows, columns = hu.shape
    size = (rows, columns)
    wide = smooth_field(generator, n, size, n_cells=8)
    middle = smooth_field(generator, n, size, n_cells=24)
    fine = smooth_field(generator, n, size, n_cells=60)
    region = _regions(mask, middle, settings, generator)
    kept = torch.sigmoid((wide - uniform(generator, n, 0.6, 2.0)) * uniform(generator, n, 3.0, 9.0))
    region = region * (1.0 - kept * chance(generator, n, settings.islands))
    tissue = uniform(generator, n, settings.lower_hu, settings.upper_hu)
    tissue = tissue + middle * uniform(generator, n, 0.0, settings.texture_hu)
    tissue = tissue + fine * uniform(generator, n, 0.0, settings.texture_hu)
    # The noise of the image stays what it was; vessels drown.
    grain = (hu - blur(hu, torch.ones(n, 1, 1, 1, device=hu.device))).clamp(-60.0, 60.0)
    tissue = tissue + grain * uniform(generator, n, 0.0, 1.3)
    tissue = tissue + _bronchi(mask, (wide, middle, fine), settings, generator, tissue)
    # Pixels at the surface hold some air too.
    alpha = region * functional.max_pool2d(mask, 3, stride=1, padding=1)
    alpha = alpha * uniform(generator, n, 0.92, 1.0) * chance(generator, n, share)
    solid = ((alpha > 0.5) & (mask > 0)).to(torch.float32)  # noqa: PLR2004  mostly soft tissue
    return hu + (tissue - hu).clamp_min(0.0) * alpha, solid


def _regions(
    mask: Tensor, rough: Tensor, settings: SolidPainting, generator: torch.Generator
) -> Tensor:
    """Say where the lungs turn solid, 0 to 1."""
    n, _, rows, columns = mask.shape
    row = torch.arange(rows, dtype=torch.float32, device=mask.device).view(1, 1, rows, 1)
    column = torch.arange(columns, dtype=torch.float32, device=mask.device).view(1, 1, 1, columns)
    weight = mask.sum(dim=(2, 3), keepdim=True).clamp_min(1.0)
    centre = (mask * column).sum(dim=(2, 3), keepdim=True) / weight
    low = (column < centre).to(torch.float32)
    both = chance(generator, n, settings.both_sides)
    first = chance(generator, n, 0.5)
    region = torch.zeros_like(mask)
    for side, chosen in ((low, first), (1.0 - low, 1.0 - first)):
        odds = (mask * side).flatten(1) + 1e-8
        through = torch.multinomial(odds, 1, generator=generator).view(n, 1, 1, 1)
        angle = uniform(generator, n, -torch.pi, torch.pi)
        beyond = (row - through // columns) * angle.cos()
        beyond = beyond + (column - through % columns) * angle.sin()
        wavy = beyond + rough * uniform(generator, n, 0.5, 4.0)
        lobe = torch.sigmoid(wavy * uniform(generator, n, 0.5, 3.0))
        whole = chance(generator, n, settings.whole_side)
        region = region + side * torch.maximum(both, chosen) * torch.maximum(lobe, whole)
    return region


def _bronchi(
    mask: Tensor,
    fields: tuple[Tensor, Tensor, Tensor],
    settings: SolidPainting,
    generator: torch.Generator,
    tissue: Tensor,
) -> Tensor:
    """Give what short dark pieces and dots take from the tissue: open bronchi, along and across."""
    wide, middle, fine = fields
    n = mask.shape[0]
    curve = smooth_field(generator, n, (mask.shape[2], mask.shape[3]), n_cells=26)
    width = uniform(generator, n, 0.06, 0.16)
    along = torch.exp(-((curve / width) ** 2)) * (middle > uniform(generator, n, 0.0, 0.8))
    across = torch.sigmoid((fine - uniform(generator, n, 1.8, 2.8)) * 8.0) * (wide > 0.0)
    open_share = torch.maximum(along, across) * uniform(generator, n, 0.3, 1.0)
    return open_share * chance(generator, n, settings.bronchograms) * (_BRONCHUS_HU - tissue)
