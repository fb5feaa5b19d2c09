"""Make other scanners, other patients and other lungs out of a batch of slices.

Everything works on whole batches, ``(batch, 1, rows, columns)``, HU as float32 and masks as 0 or
1, and draws from one generator, so that a seed repeats a training run. The reasons stand beside
the numbers: the LCTSC slices come from few scanners, all lie supine in a wide field of view, and
almost all contain aerated lungs.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

#: HU outside the reconstructed field; also what an empty corner is filled with.
OUTSIDE_HU = -1024.0


@dataclass(frozen=True, slots=True)
class LungAugmentation:
    """How strongly each change is made; probabilities from 0 to 1, ranges plus or minus."""

    rotation_degrees: float = 15.0  #: patients lie askew
    zoom_lower: float = 0.75  #: below 1 shows more surroundings than the slice has
    zoom_upper: float = 1.7  #: other sites reconstruct tight fields of view
    stretch: float = 0.12  #: body shapes
    shift: float = 0.15  #: share of the field; patients lie off centre
    bend: float = 0.0  #: share of the field that points move on their own: other chests
    upside_down: float = 0.12  #: prone patients and flipped exports
    offset_hu: float = 150.0  #: scanners and calibrations differ
    lung_density_lower: float = 0.35  #: emphysema and deep inspiration: lung near -950 HU
    lung_density_upper: float = 1.5  #: expiration and children
    noise_hu: float = 90.0  #: thin slices with sharp kernels
    blur_pixels: float = 1.4  #: thick slices and soft kernels
    opacity: float = 0.35  #: lungs with ground glass or consolidation stay lungs
    one_lung_filled: float = 0.10  #: a whole lung can be consolidated
    emptied: float = 0.14  #: bodies without any aerated lung: abdomen, shoulders, neck
    gas: float = 0.25  #: bowel, stomach, oesophagus: dark, and no lung


def uniform(generator: torch.Generator, n: int, lower: float, upper: float) -> Tensor:
    """Draw ``(n, 1, 1, 1)`` values."""
    drawn = torch.rand(n, 1, 1, 1, generator=generator, device=generator.device)
    return drawn * (upper - lower) + lower


def chance(generator: torch.Generator, n: int, probability: float) -> Tensor:
    """Draw ``(n, 1, 1, 1)`` zeros and ones."""
    drawn = torch.rand(n, 1, 1, 1, generator=generator, device=generator.device)
    return (drawn < probability).to(torch.float32)


def augment_lungs(
    hu: Tensor, mask: Tensor, settings: LungAugmentation, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Change lungs, surroundings and scanner of a batch, which `move` has moved already."""
    hu = change_lung_density(hu, mask, settings, generator)
    hu = fill_lungs(hu, mask, settings, generator)
    hu, mask = empty_lungs(hu, mask, settings, generator)
    hu = add_gas(hu, mask, settings, generator)
    return change_scanner(hu, settings, generator), mask


def move(
    hu: Tensor, mask: Tensor, settings: LungAugmentation, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Rotate, zoom, stretch, shift and flip image and masks (any number of channels) alike."""
    n = hu.shape[0]
    limit = math.radians(settings.rotation_degrees)
    angle = uniform(generator, n, -limit, limit).flatten()
    zoom = uniform(generator, n, math.log(settings.zoom_lower), math.log(settings.zoom_upper))
    stretch = uniform(generator, n, -settings.stretch, settings.stretch).flatten()
    flip_columns = 1.0 - 2.0 * chance(generator, n, 0.5).flatten()
    flip_rows = 1.0 - 2.0 * chance(generator, n, settings.upside_down).flatten()
    inverse = torch.exp(-zoom).flatten()
    along_columns = inverse * (1.0 + stretch) * flip_columns
    along_rows = inverse * (1.0 - stretch) * flip_rows
    drawn = torch.rand(n, 2, generator=generator, device=generator.device)
    shift = 2.0 * settings.shift * (2.0 * drawn - 1.0)
    theta = torch.stack(
        [
            torch.stack([angle.cos() * along_columns, -angle.sin() * along_rows, shift[:, 0]], 1),
            torch.stack([angle.sin() * along_columns, angle.cos() * along_rows, shift[:, 1]], 1),
        ],
        dim=1,
    )
    grid = functional.affine_grid(theta, [n, 1, *hu.shape[2:]], align_corners=False)
    if settings.bend > 0.0:
        bends = [smooth_field(generator, n, (hu.shape[2], hu.shape[3]), n_cells=6) for _ in "xy"]
        strength = uniform(generator, n, 0.0, 2.0 * settings.bend)
        grid = grid + (torch.cat(bends, dim=1) * strength).permute(0, 2, 3, 1)
    both = torch.cat([hu - OUTSIDE_HU, mask], dim=1)
    moved = functional.grid_sample(both, grid, padding_mode="zeros", align_corners=False)
    return moved[:, :1] + OUTSIDE_HU, (moved[:, 1:] > 0.5).to(torch.float32)  # noqa: PLR2004


def change_lung_density(
    hu: Tensor, mask: Tensor, settings: LungAugmentation, generator: torch.Generator
) -> Tensor:
    """Scale the density of aerated lung; soft tissue, the vessels among it, stays."""
    factor = uniform(
        generator, hu.shape[0], settings.lung_density_lower, settings.lung_density_upper
    )
    aerated = torch.sigmoid((-450.0 - hu) / 60.0) * mask
    return hu + aerated * (hu + 1000.0).clamp_min(0.0) * (factor - 1.0)


def add_gravity(hu: Tensor, mask: Tensor, generator: torch.Generator) -> Tensor:
    """Make the dependent (posterior) lung denser, as it is in every supine patient."""
    n, _, rows, _ = hu.shape
    row = torch.arange(rows, dtype=torch.float32, device=hu.device).view(1, 1, rows, 1)
    lowest = (mask * row).amax(dim=(2, 3), keepdim=True)
    depth = uniform(generator, n, 8.0, 60.0)
    ramp = torch.exp((row - lowest).clamp_max(0.0) / depth)
    rise = uniform(generator, n, 0.0, 160.0) * chance(generator, n, 0.7)
    aerated = torch.sigmoid((-500.0 - hu) / 60.0) * mask
    return hu + ramp * rise * aerated


def smooth_field(
    generator: torch.Generator, n: int, size: tuple[int, int], *, n_cells: int
) -> Tensor:
    """Draw smooth noise of mean 0 and standard deviation about 1, ``(n, 1, rows, columns)``."""
    coarse = torch.randn(n, 1, n_cells, n_cells, generator=generator, device=generator.device)
    field = functional.interpolate(coarse, size=size, mode="bicubic", align_corners=False)
    return field / field.std(dim=(2, 3), keepdim=True)


def fill_lungs(
    hu: Tensor, mask: Tensor, settings: LungAugmentation, generator: torch.Generator
) -> Tensor:
    """Put opacities, up to a whole lung, inside the mask; the mask itself stays."""
    n, _, rows, columns = hu.shape
    wide = smooth_field(generator, n, (rows, columns), n_cells=5)
    narrow = smooth_field(generator, n, (rows, columns), n_cells=18)
    turn = uniform(generator, n, 0.0, 0.5 * math.pi)
    field = wide * turn.cos() + narrow * turn.sin()
    cut = uniform(generator, n, -0.3, 1.6)
    sharpness = uniform(generator, n, 2.0, 12.0)
    alpha = torch.sigmoid((field - cut) * sharpness) * chance(generator, n, settings.opacity)
    side = _one_side(mask, generator) * chance(generator, n, settings.one_lung_filled)
    alpha = torch.maximum(alpha * uniform(generator, n, 0.5, 1.0), side)
    texture = smooth_field(generator, n, (rows, columns), n_cells=64)
    target = uniform(generator, n, -650.0, 60.0) + texture * uniform(generator, n, 5.0, 40.0)
    alpha = alpha * blur(mask, torch.full((n, 1, 1, 1), 0.7, device=hu.device))
    return torch.maximum(hu, hu * (1.0 - alpha) + target * alpha)


def _one_side(mask: Tensor, generator: torch.Generator) -> Tensor:
    """Mark all columns left or right of the middle of the lungs."""
    n, _, rows, columns = mask.shape
    position = torch.arange(columns, dtype=torch.float32, device=mask.device).view(1, 1, 1, columns)
    weight = mask.sum(dim=(2, 3), keepdim=True).clamp_min(1.0)
    middle = (mask * position).sum(dim=(2, 3), keepdim=True) / weight
    sign = 1.0 - 2.0 * chance(generator, n, 0.5)
    return ((position - middle) * sign > 0).to(torch.float32).expand(n, 1, rows, columns)


def empty_lungs(
    hu: Tensor, mask: Tensor, settings: LungAugmentation, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Turn some slices into bodies without lungs: solid tissue where lungs were, an empty mask."""
    n, _, rows, columns = hu.shape
    chosen = chance(generator, n, settings.emptied)
    texture = smooth_field(generator, n, (rows, columns), n_cells=16)
    tissue = uniform(generator, n, -80.0, 90.0) + texture * uniform(generator, n, 5.0, 60.0)
    wide = functional.max_pool2d(mask, 5, stride=1, padding=2)
    filled = torch.where((wide > 0) & (hu < tissue), tissue, hu)
    return hu + (filled - hu) * chosen, mask * (1.0 - chosen)


def add_gas(
    hu: Tensor, mask: Tensor, settings: LungAugmentation, generator: torch.Generator
) -> Tensor:
    """Put dark pockets with sharp edges into soft tissue outside the lungs."""
    n, _, rows, columns = hu.shape
    row = torch.linspace(-1.0, 1.0, rows, device=hu.device).view(1, 1, rows, 1)
    column = torch.linspace(-1.0, 1.0, columns, device=hu.device).view(1, 1, 1, columns)
    field = smooth_field(generator, n, (rows, columns), n_cells=12)
    inside = torch.zeros_like(hu)
    for _ in range(4):
        radius = uniform(generator, n, 0.02, 0.16)
        away_rows = (row - uniform(generator, n, -0.6, 0.6)) / radius
        away_columns = (column - uniform(generator, n, -0.6, 0.6)) / radius
        inside = torch.maximum(inside, (away_rows**2 + away_columns**2 + field < 1.0).float())
    tissue = (hu > -200.0).to(torch.float32) * (1.0 - mask)  # noqa: PLR2004  fat and denser
    alpha = inside * tissue * chance(generator, n, settings.gas)
    return hu + (uniform(generator, n, -1010.0, -850.0) - hu) * alpha


def change_scanner(hu: Tensor, settings: LungAugmentation, generator: torch.Generator) -> Tensor:
    """Blur or sharpen, add noise as that kernel would show it, and shift the scale."""
    n = hu.shape[0]
    width = uniform(generator, n, 0.0, settings.blur_pixels) * chance(generator, n, 0.5)
    soft = blur(hu, width)
    sharp = hu + (hu - blur(hu, torch.full((n, 1, 1, 1), 0.9, device=hu.device))) * uniform(
        generator, n, 0.0, 1.2
    )
    is_sharp = chance(generator, n, 0.3)
    noise = torch.randn(hu.shape, generator=generator, device=generator.device)
    noise = blur(noise, uniform(generator, n, 0.0, 1.2))
    noise = noise / noise.std(dim=(2, 3), keepdim=True)
    strength = uniform(generator, n, 0.0, 1.0) ** 2 * settings.noise_hu
    offset = uniform(generator, n, -settings.offset_hu, settings.offset_hu)
    offset = offset * chance(generator, n, 0.6)
    return soft * (1.0 - is_sharp) + sharp * is_sharp + noise * strength + offset


def blur(image: Tensor, width: Tensor) -> Tensor:
    """Blur each image ``(batch, 1, rows, columns)`` by a Gaussian of its own width in pixels."""
    reach = 4
    offsets = torch.arange(-reach, reach + 1, dtype=torch.float32, device=image.device)
    kernel = torch.exp(-0.5 * (offsets.view(1, -1) / width.view(-1, 1).clamp_min(0.05)) ** 2)
    kernel = kernel / kernel.sum(dim=1, keepdim=True)
    n, _, rows, columns = image.shape
    padded = functional.pad(image.view(1, n, rows, columns), (reach,) * 4, mode="replicate")
    across = functional.conv2d(padded, kernel.view(n, 1, 1, -1), groups=n)
    return functional.conv2d(across, kernel.view(n, 1, -1, 1), groups=n).view(image.shape)
