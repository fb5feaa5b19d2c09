"""The networks that ship: an Attention U-Net for lungs, a joint lesion and class network.

Both take HU as they come and hold their preprocessing (window, crop, resize, normalise) inside, so
that the exported graph cannot drift apart from training. Tensors are ``(batch, channels, rows,
columns)``.
"""

from dataclasses import dataclass
from itertools import pairwise
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.manifest import HuWindow


@dataclass(frozen=True, slots=True)
class InputGrid:
    """The window and the square grid, in pixels, on which a network works."""

    window: HuWindow
    size: int


def normalise_hu(hu: Tensor, window: HuWindow) -> Tensor:
    """Clip HU to the window and map it to -1 (lower end) to 1 (upper end)."""
    middle = 0.5 * (window.upper_hu + window.lower_hu)
    half = 0.5 * (window.upper_hu - window.lower_hu)
    return (hu.clamp(window.lower_hu, window.upper_hu) - middle) / half


def lay_channels_last(network: nn.Module) -> None:
    """Lay the weights out channels last in place: half again as fast on CPUs, the same numbers."""
    for parameter in network.parameters():
        if parameter.dim() == 4:  # noqa: PLR2004  the weight of a convolution
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)


class ConvPair(nn.Sequential):
    """Two 3 by 3 convolutions with batch norm and ReLU; the first may halve the grid."""

    def __init__(self, n_in: int, n_out: int, *, stride: int = 1) -> None:
        super().__init__(
            nn.Conv2d(n_in, n_out, 3, stride=stride, padding=1, bias=False),
            nn.BatchNorm2d(n_out),
            nn.ReLU(inplace=True),
            nn.Conv2d(n_out, n_out, 3, padding=1, bias=False),
            nn.BatchNorm2d(n_out),
            nn.ReLU(inplace=True),
        )


class AttentionGate(nn.Module):
    """Weigh a skip connection by where the coarser signal looks.

    References
    ----------
    Oktay et al. 2018, Attention U-Net, arXiv:1804.03999: additive attention, equation 1.
    """

    def __init__(self, n_skip: int, n_gate: int, n_between: int) -> None:
        super().__init__()
        self.skip = nn.Conv2d(n_skip, n_between, 1, bias=False)
        self.gate = nn.Conv2d(n_gate, n_between, 1)
        self.weight = nn.Conv2d(n_between, 1, 1)

    def forward(self, skip: Tensor, gate: Tensor) -> Tensor:
        """Give the skip connection, each pixel scaled by a weight from 0 to 1."""
        return skip * torch.sigmoid(self.weight(torch.relu(self.skip(skip) + self.gate(gate))))


class UpStep(nn.Module):
    """Double the grid, gate the skip connection, join both."""

    def __init__(self, n_coarse: int, n_skip: int, n_out: int) -> None:
        super().__init__()
        self.narrow = nn.Conv2d(n_coarse, n_out, 1, bias=False)
        self.attention = AttentionGate(n_skip, n_out, max(n_out // 2, 4))
        self.join = ConvPair(n_skip + n_out, n_out)

    def forward(self, coarse: Tensor, skip: Tensor) -> Tensor:
        """Give features on the grid of ``skip``."""
        raised = functional.interpolate(self.narrow(coarse), scale_factor=2.0, mode="bilinear")
        return cast("Tensor", self.join(torch.cat([self.attention(skip, raised), raised], dim=1)))


class AttentionUNet(nn.Module):
    """Attention U-Net with one logit per pixel, thin enough for a CPU.

    The first and last layer exchange 2 by 2 pixels for channels, so that no convolution runs on the
    full grid: three times faster on a CPU at the same outline.

    Parameters
    ----------
    widths
        Channels per level, finest (half the input grid) first; the grid halves at every level.
    """

    def __init__(self, widths: tuple[int, ...]) -> None:
        super().__init__()
        pairs = tuple(pairwise(widths))
        self.stem = nn.Sequential(nn.PixelUnshuffle(2), ConvPair(4, widths[0]))
        self.down = nn.ModuleList(ConvPair(fine, coarse, stride=2) for fine, coarse in pairs)
        self.up = nn.ModuleList(UpStep(coarse, fine, fine) for fine, coarse in reversed(pairs))
        self.head = nn.Sequential(nn.Conv2d(widths[0], 4, 1), nn.PixelShuffle(2))

    def forward(self, image: Tensor) -> Tensor:
        """Map a normalised image ``(batch, 1, n, n)`` to logits of the same shape."""
        levels = [self.stem(image)]
        for step in self.down:
            levels.append(step(levels[-1]))
        signal = levels.pop()
        for step in self.up:
            signal = step(signal, levels.pop())
        return cast("Tensor", self.head(signal))


class LungGraph(nn.Module):
    """What is exported for lungs: HU slices in, logits at the slices' own size out."""

    def __init__(self, network: AttentionUNet, grid: InputGrid) -> None:
        super().__init__()
        self.network = network
        self.grid = grid

    def forward(self, hu: Tensor) -> Tensor:
        """Map HU ``(batch, rows, columns)`` to logits of the same shape."""
        image = normalise_hu(hu.to(torch.float32), self.grid.window).unsqueeze(1)
        size = (self.grid.size, self.grid.size)
        image = functional.interpolate(image, size=size, mode="bilinear", align_corners=False)
        logits = self.network(image)
        raised = functional.interpolate(
            logits, size=(hu.shape[1], hu.shape[2]), mode="bilinear", align_corners=False
        )
        return raised.squeeze(1)


class SliceNetwork(nn.Module):
    """Joint network: a coarse lesion map, and slice classes that look where the map points.

    Parameters
    ----------
    widths
        Channels at 1/2, 1/4, 1/8 and 1/16 of the input grid.
    n_classes
        Length of the class logits.
    """

    def __init__(self, widths: tuple[int, int, int, int], n_classes: int) -> None:
        super().__init__()
        half, quarter, eighth, sixteenth = widths
        self.stem = nn.Sequential(nn.PixelUnshuffle(2), ConvPair(4, half))
        self.down = nn.ModuleList(
            [
                ConvPair(half, quarter, stride=2),
                ConvPair(quarter, eighth, stride=2),
                ConvPair(eighth, sixteenth, stride=2),
            ]
        )
        self.up = nn.ModuleList(
            [UpStep(sixteenth, eighth, eighth), UpStep(eighth, quarter, quarter)]
        )
        self.lesion = nn.Conv2d(quarter, 1, 1)
        # Mean, lesion-weighted mean of fine and of coarse features, and three shares of the map.
        self.classes = nn.Sequential(
            nn.Linear(2 * quarter + 2 * eighth + 3, 48),
            nn.ReLU(inplace=True),
            nn.Dropout(0.2),
            nn.Linear(48, n_classes),
        )

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Map normalised boxes ``(batch, 1, n, n)`` to class and lesion logits.

        Returns
        -------
        :
            Class logits ``(batch, n_classes)`` and lesion logits ``(batch, 1, n / 4, n / 4)``.
        """
        levels = [self.stem(image)]
        for step in self.down:
            levels.append(step(levels[-1]))
        coarse = self.up[0](levels[3], levels[2])
        fine = self.up[1](coarse, levels[1])
        lesion = self.lesion(fine)
        # The map is taught by lesion masks alone; the classes may look through it, not bend it.
        weight = torch.sigmoid(lesion).detach()
        features = torch.cat([pool_at(coarse, weight), pool_at(fine, weight), shares(weight)], 1)
        return self.classes(features), lesion


def pool_at(features: Tensor, weight: Tensor) -> Tensor:
    """Give the plain mean of the features and their mean where the weight is, side by side."""
    ratio = weight.shape[2] // features.shape[2]
    if ratio > 1:
        weight = functional.avg_pool2d(weight, ratio)
    plain = features.mean(dim=(2, 3))
    looked_at = (features * weight).sum(dim=(2, 3)) / (weight.sum(dim=(2, 3)) + 1.0)
    return torch.cat([plain, looked_at], dim=1)


def shares(weight: Tensor) -> Tensor:
    """Give the affected share of the left half, the right half, and the largest weight."""
    middle = weight.shape[3] // 2
    low = weight[:, :, :, :middle].mean(dim=(2, 3))
    high = weight[:, :, :, middle:].mean(dim=(2, 3))
    peak = weight.amax(dim=(2, 3))
    # Symmetric in the two sides: which lung is affected is no hint at the cause.
    both = torch.cat([torch.maximum(low, high), torch.minimum(low, high)], dim=1)
    return torch.cat([10.0 * both, peak], dim=1)


class SliceGraph(nn.Module):
    """What is exported for slices: HU slices and lung boxes in, class and lesion logits out."""

    def __init__(self, network: SliceNetwork, grid: InputGrid) -> None:
        super().__init__()
        self.network = network
        self.grid = grid

    def forward(self, hu: Tensor, boxes: Tensor) -> tuple[Tensor, Tensor]:
        """Map HU ``(batch, rows, columns)`` and boxes ``(batch, 4)`` to logits.

        Returns
        -------
        :
            Class logits ``(batch, n_classes)`` and lesion logits ``(batch, n / 4, n / 4)``.
        """
        image = normalise_hu(hu.to(torch.float32), self.grid.window).unsqueeze(1)
        classes, lesion = self.network(crop_boxes(image, boxes, self.grid.size))
        return classes, lesion.squeeze(1)


def crop_boxes(image: Tensor, boxes: Tensor, size: int) -> Tensor:
    """Resample the box of each image to a square grid, each cell the mean of 2 by 2 samples.

    Parameters
    ----------
    image
        Shape ``(batch, 1, rows, columns)``.
    boxes
        Shape ``(batch, 4)``: row0, column0, row1, column1, edges in pixels.
    size
        Rows and columns of the result.
    """
    n_samples = 2 * size
    steps = (torch.arange(n_samples, dtype=torch.float32, device=image.device) + 0.5) / n_samples
    rows = boxes[:, 0:1] + (boxes[:, 2:3] - boxes[:, 0:1]) * steps
    columns = boxes[:, 1:2] + (boxes[:, 3:4] - boxes[:, 1:2]) * steps
    # Pixel edges 0 to n become -1 to 1, the convention of grid_sample without aligned corners.
    along_rows = (2.0 * rows / image.shape[2] - 1.0).unsqueeze(2).expand(-1, -1, n_samples)
    along_columns = (2.0 * columns / image.shape[3] - 1.0).unsqueeze(1).expand(-1, n_samples, -1)
    grid = torch.stack([along_columns, along_rows], dim=3)
    fine = functional.grid_sample(image, grid, padding_mode="border", align_corners=False)
    return functional.avg_pool2d(fine, 2)
