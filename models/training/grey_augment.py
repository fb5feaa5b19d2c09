"""Random changes of grey images as whole batches: one resampling per image, then grey values."""

import math

import torch
from torch import Tensor
from torch.nn import functional

from models.training.recipe import Augmentation

#: White in grey values.
_WHITE = 255.0


def augment(
    images: Tensor, masks: Tensor | None, settings: Augmentation, generator: torch.Generator
) -> tuple[Tensor, Tensor | None]:
    """Move and change images; move their masks along.

    Parameters
    ----------
    images
        Shape ``(batch, 1, rows, columns)``, float32, 0 to 255.
    masks
        The same shape, 0 or 1, or None.
    generator
        Of the CPU, so that one seed gives the same changes on every device.
    """
    if _moves(settings):
        grid = _grid(images, settings, generator)
        images = functional.grid_sample(images, grid, padding_mode="border", align_corners=False)
        if masks is not None:
            masks = functional.grid_sample(
                masks, grid, mode="nearest", padding_mode="border", align_corners=False
            )
    return _change_grey(images, settings, generator), masks


def _moves(settings: Augmentation) -> bool:
    return any(
        (
            settings.rotation_degrees,
            settings.scale,
            settings.shift,
            settings.horizontal_flip,
            settings.vertical_flip,
        )
    )


def _grid(images: Tensor, settings: Augmentation, generator: torch.Generator) -> Tensor:
    """Give the sampling grid ``(batch, rows, columns, 2)`` of random affine moves."""
    n, _, rows, columns = images.shape
    angle = _spread(generator, n, math.radians(settings.rotation_degrees))
    # Sampling at z times the distance from the middle shrinks the image by z.
    zoom = 1.0 / (1.0 + _spread(generator, n, settings.scale))
    flip_x = _sign(generator, n, settings.horizontal_flip)
    flip_y = _sign(generator, n, settings.vertical_flip)
    aspect = rows / columns
    theta = torch.empty(n, 2, 3)
    theta[:, 0, 0] = zoom * angle.cos() * flip_x
    theta[:, 0, 1] = -zoom * angle.sin() * flip_y * aspect
    theta[:, 1, 0] = zoom * angle.sin() * flip_x / aspect
    theta[:, 1, 1] = zoom * angle.cos() * flip_y
    # Two units of the grid are one side of the image.
    theta[:, 0, 2] = 2.0 * _spread(generator, n, settings.shift)
    theta[:, 1, 2] = 2.0 * _spread(generator, n, settings.shift)
    return functional.affine_grid(theta.to(images.device), list(images.shape), align_corners=False)


def _change_grey(images: Tensor, settings: Augmentation, generator: torch.Generator) -> Tensor:
    """Change gamma, contrast about the middle, brightness; add noise; stay within 0 and 255."""
    n = len(images)
    if settings.gamma:
        gamma = 1.0 + _spread(generator, n, settings.gamma)
        share = (images / _WHITE).clamp(0.0, 1.0)
        images = _WHITE * share ** gamma.view(n, 1, 1, 1).to(images.device)
    if settings.window:
        images = _change_window(images, settings.window, generator)
    if settings.contrast:
        factor = 1.0 + _spread(generator, n, settings.contrast)
        middle = images.mean(dim=(2, 3), keepdim=True)
        images = middle + (images - middle) * factor.view(n, 1, 1, 1).to(images.device)
    if settings.brightness:
        offset = _WHITE * _spread(generator, n, settings.brightness)
        images = images + offset.view(n, 1, 1, 1).to(images.device)
    if settings.blur:
        mix = _spread(generator, n, settings.blur).view(n, 1, 1, 1).to(images.device)
        images = images + (_blurred(images) - images) * mix
    if settings.noise:
        images = _with_noise(images, settings.noise, generator)
    return images.clamp(0.0, _WHITE)


def _change_window(images: Tensor, most: float, generator: torch.Generator) -> Tensor:
    """Cut off up to ``most`` of either end of the grey range; half of the ends stay as they are."""
    n = len(images)
    cut = [(torch.rand(n, generator=generator) * 2.0 - 1.0).clamp_min(0.0) * most for _ in range(2)]
    lower, upper = (one.view(n, 1, 1, 1).to(images.device) * _WHITE for one in cut)
    return (images - lower) * (_WHITE / (_WHITE - lower - upper))


def _with_noise(images: Tensor, most: float, generator: torch.Generator) -> Tensor:
    """Add noise of a deviation up to ``most`` of the grey range to half of the images.

    Noise on every image is no variety: networks that never saw a quiet picture in training lost
    0.03 to 0.06 of AUC on quiet ones (docs/reference/research-figures.md).
    """
    n = len(images)
    deviation = (torch.rand(n, generator=generator) * 2.0 - 1.0).clamp_min(0.0) * (most * _WHITE)
    noise = torch.randn(images.shape, generator=generator) * deviation.view(n, 1, 1, 1)
    return images + noise.to(images.device)


def _blurred(images: Tensor) -> Tensor:
    """Smooth with the binomial kernel of five pixels along each axis."""
    weights = torch.tensor([1.0, 4.0, 6.0, 4.0, 1.0], device=images.device) / 16.0
    padded = functional.pad(images, (2, 2, 2, 2), mode="replicate")
    along = functional.conv2d(padded, weights.view(1, 1, 1, 5))
    return functional.conv2d(along, weights.view(1, 1, 5, 1))


def _spread(generator: torch.Generator, n: int, most: float) -> Tensor:
    """Draw n numbers evenly from -most to most."""
    return (torch.rand(n, generator=generator) * 2.0 - 1.0) * most


def _sign(generator: torch.Generator, n: int, probability: float) -> Tensor:
    """Draw -1 with a probability, else 1."""
    return 1.0 - 2.0 * (torch.rand(n, generator=generator) < probability).to(torch.float32)
