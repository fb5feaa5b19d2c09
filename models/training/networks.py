"""The networks that ship: an Attention U-Net for lungs, a joint lesion and class network.

Both take HU as they come and hold their preprocessing (window, crop, resize, normalise) inside, so
that the exported graph cannot drift apart from training. Tensors are ``(batch, channels, rows,
columns)``.
"""

import math
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


class AttentionBody(nn.Module):
    """The Attention U-Net up to its finest features.

    The first layer exchanges 2 by 2 pixels for channels, so that no convolution runs on the full
    grid: three times faster on a CPU at the same outline.

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

    def features(self, image: Tensor) -> Tensor:
        """Map a normalised image ``(batch, 1, n, n)`` to ``(batch, widths[0], n / 2, n / 2)``."""
        levels = [self.stem(image)]
        for step in self.down:
            levels.append(step(levels[-1]))
        signal = levels.pop()
        for step in self.up:
            signal = step(signal, levels.pop())
        return cast("Tensor", signal)


class AttentionUNet(AttentionBody):
    """Attention U-Net with one logit per pixel, thin enough for a CPU.

    Parameters
    ----------
    widths
        Channels per level, as in ``AttentionBody``.
    """

    def __init__(self, widths: tuple[int, ...]) -> None:
        super().__init__(widths)
        self.head = nn.Sequential(nn.Conv2d(widths[0], 4, 1), nn.PixelShuffle(2))

    def forward(self, image: Tensor) -> Tensor:
        """Map a normalised image ``(batch, 1, n, n)`` to logits of the same shape."""
        return cast("Tensor", self.head(self.features(image)))


class TwoAnswerUNet(AttentionBody):
    """Attention U-Net with two logits per pixel: lung as experts outline it, and with solid lung.

    Where a lobe is solid the two differ. On lungs that hold air the first is the better outline,
    since the second must guess where soft tissue ends beside soft tissue.
    """

    def __init__(self, widths: tuple[int, ...]) -> None:
        super().__init__(widths)
        self.head = nn.Sequential(nn.Conv2d(widths[0], 8, 1), nn.PixelShuffle(2))

    def forward(self, image: Tensor) -> Tensor:
        """Map a normalised image ``(batch, 1, n, n)`` to logits ``(batch, 2, n, n)``."""
        return cast("Tensor", self.head(self.features(image)))


#: Share of a slice's lungs that only the answer with solid lung finds, from which it is believed.
SOLID_SHARE = 0.4


def choose_answer(logits: Tensor, solid_share: float = SOLID_SHARE) -> Tensor:
    """Choose slice by slice between two answers ``(batch, 2, n, n)``; gives ``(batch, 1, n, n)``.

    Little that is solid is left to the first answer: what the second adds there is as often heart
    or liver as it is lung.
    """
    sums = answer_sums(logits).unsqueeze(2).unsqueeze(3)
    is_solid = (sums[:, :1] > solid_share * sums[:, 1:]).to(logits.dtype)
    both = torch.maximum(logits[:, :1], logits[:, 1:])
    return logits[:, :1] + is_solid * (both - logits[:, :1])


def answer_sums(logits: Tensor) -> Tensor:
    """Give what only the second of two answers finds, and all that it finds, ``(batch, 2)``."""
    found = torch.sigmoid(logits)
    added = (found[:, 1] - found[:, 0]).clamp_min(0.0).sum(dim=(1, 2))
    return torch.stack([added, found[:, 1].sum(dim=(1, 2))], dim=1)


class LungGraph(nn.Module):
    """What is exported for lungs: HU slices in, logits at the slices' own size out."""

    def __init__(self, network: TwoAnswerUNet, grid: InputGrid) -> None:
        super().__init__()
        self.network = network
        self.grid = grid

    def forward(self, hu: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Map HU ``(batch, rows, columns)`` to two answers and how far they differ.

        Returns
        -------
        :
            Logits of the shape given, the answer chosen slice by slice; logits with all that is
            solid; sums ``(batch, 2)`` as :class:`models.lung_answers.LungAnswers` has them.
        """
        image = normalise_hu(hu.to(torch.float32), self.grid.window).unsqueeze(1)
        size = (self.grid.size, self.grid.size)
        image = functional.interpolate(image, size=size, mode="bilinear", align_corners=False)
        logits = self.network(image)
        with_solid = torch.maximum(logits[:, :1], logits[:, 1:])
        raised = functional.interpolate(
            torch.cat([choose_answer(logits), with_solid], dim=1),
            size=(hu.shape[1], hu.shape[2]),
            mode="bilinear",
            align_corners=False,
        )
        return raised[:, 0], raised[:, 1], answer_sums(logits)


class SliceNetwork(AttentionBody):
    """Joint network: maps of lesion, consolidation and lung; classes from what the maps measure.

    The class head sees no texture, only a few quantities a reader could name (how much, how dense,
    where, on which sides), so that it has little to learn from how synthetic lesions are drawn.

    Parameters
    ----------
    widths
        Channels at 1/2, 1/4, 1/8, ... of the input grid.
    """

    def __init__(self, widths: tuple[int, ...]) -> None:
        super().__init__(widths)
        self.maps = nn.Conv2d(widths[0], 3, 1)
        self.affected = _head()
        self.cause = _head()

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Map normalised boxes ``(batch, 1, n, n)`` to class and map logits.

        Returns
        -------
        :
            Class logits ``(batch, 3)``: normal, COVID-19, community-acquired pneumonia; map logits
            ``(batch, 3, n / 2, n / 2)``: lesion, of a lesion what is consolidated, lung.
        """
        maps = self.maps(self.features(image))
        # Maps are taught by masks alone; the classes may read them, not bend them.
        evidence = measure_maps(torch.sigmoid(maps.float()).detach())
        affected = self.affected(evidence)
        cause = self.cause(evidence)
        # P(affected) is one question, P(cause, given affected) another.
        covid = affected + functional.logsigmoid(cause)
        cap = affected + functional.logsigmoid(-cause)
        return torch.cat([torch.zeros_like(affected), covid, cap], dim=1), maps

    @torch.no_grad()
    def expect_prevalence(self, expected: float, *, trained: float) -> None:
        """Shift the odds of an affected slice from those of training to those of practice.

        Parameters
        ----------
        expected, trained
            Share of affected slices there, between 0 and 1. Bayes' rule for another prior: the
            logit moves by the difference of the prior logits, nothing else changes.
        """
        shift = math.log(expected / (1.0 - expected)) - math.log(trained / (1.0 - trained))
        last = cast("nn.Linear", self.affected[-1])
        last.bias.add_(shift)


#: Quantities that ``measure_maps`` gives.
N_QUANTITIES = 15


def _head() -> nn.Sequential:
    return nn.Sequential(
        nn.BatchNorm1d(N_QUANTITIES),
        nn.Linear(N_QUANTITIES, 24),
        nn.ReLU(inplace=True),
        nn.Dropout(0.1),
        nn.Linear(24, 1),
    )


def measure_maps(maps: Tensor) -> Tensor:
    """Measure how much is affected, how dense, where, and on which sides.

    Parameters
    ----------
    maps
        ``(batch, 3, rows, columns)``, 0 to 1: lesion, consolidation, lung.

    Returns
    -------
    :
        ``(batch, N_QUANTITIES)``, each of the order of 1.
    """
    lesion, solid, lung = maps[:, :1], maps[:, 1:2], maps[:, 2:]
    # The dome of the diaphragm looks like consolidation, but is no lung.
    lesion = lesion * lung
    axes = (2, 3)
    n_lung = lung.sum(axes) + 20.0
    n_lesion = lesion.sum(axes) + 0.5
    half = lesion.shape[3] // 2
    low = lesion[..., :half].sum(axes) / (lung[..., :half].sum(axes) + 20.0)
    high = lesion[..., half:].sum(axes) / (lung[..., half:].sum(axes) + 20.0)
    # Depth below the surface of the lungs: the share of lung around a pixel.
    inner = functional.avg_pool2d(lung, 11, stride=1, padding=5)
    rows = torch.linspace(-1.0, 1.0, lesion.shape[2], device=maps.device).view(1, 1, -1, 1)
    columns = torch.linspace(-1.0, 1.0, lesion.shape[3], device=maps.device).view(1, 1, 1, -1)
    near = functional.avg_pool2d(lesion, 5, stride=1, padding=2)
    far = functional.avg_pool2d(lesion, 13, stride=1, padding=6)
    highest = lesion.flatten(1).topk(120, dim=1).values
    return torch.cat(
        [
            torch.log(lesion.sum(axes) / n_lung + 1e-3),
            # Which lung is affected is no hint at the cause: larger and smaller share.
            torch.log(torch.maximum(low, high) + 1e-3),
            torch.log(torch.minimum(low, high) + 1e-3),
            highest[:, :8].mean(dim=1, keepdim=True),
            highest[:, :30].mean(dim=1, keepdim=True),
            highest.mean(dim=1, keepdim=True),
            near.amax(dim=axes),
            far.amax(dim=axes),
            (lesion * solid).sum(axes) / n_lesion,
            torch.log((lesion * solid).sum(axes) / n_lung + 1e-3),
            (lesion * inner).sum(axes) / n_lesion,
            (lesion * rows).sum(axes) / n_lesion,
            (lesion * columns.abs()).sum(axes) / n_lesion,
            (lesion * near).sum(axes) / n_lesion,
            (lesion * far).sum(axes) / n_lesion,
        ],
        dim=1,
    )


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
            Class logits ``(batch, 3)`` and lesion logits ``(batch, n / 2, n / 2)``.
        """
        image = normalise_hu(hu.to(torch.float32), self.grid.window).unsqueeze(1)
        classes, maps = self.network(crop_boxes(image, boxes, self.grid.size))
        return classes, maps[:, 0]


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
