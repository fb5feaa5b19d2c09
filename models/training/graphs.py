"""From images of any size to logits: the one preprocessing of training and of exported graphs.

`sample_box` and `lung_boxes` run once per image while data are prepared and again as operators of
the exported graph. Boxes are row0, column0, row1, column1, edges in pixels, upper edges exclusive.
"""

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.manifest import HuWindow

#: White in grey values.
WHITE = 255.0
#: Samples along each side of one cell of the network's grid; their mean is the cell.
_SAMPLES = 2
#: A row or column belongs to the lungs where at least this share of it does: specks do not count.
_LEAST_SHARE = 0.02
#: A box narrower than this share of its image is no chest.
_LEAST_SIDE = 0.15


def hu_to_grey(hu: Tensor, window: HuWindow) -> Tensor:
    """Map HU to grey values, 0 at the lower end of the window and 255 at the upper."""
    share = (hu.to(torch.float32) - window.lower_hu) / (window.upper_hu - window.lower_hu)
    return WHITE * share.clamp(0.0, 1.0)


def grey_to_hu(grey: Tensor, window: HuWindow) -> Tensor:
    """Map grey values to the HU that they would be if the window were this one, as int16."""
    share = grey.clamp(0.0, WHITE) / WHITE
    hu = window.lower_hu + share * (window.upper_hu - window.lower_hu)
    return hu.round().to(torch.int16)


def whole_boxes(images: Tensor) -> Tensor:
    """Give the box of each whole image ``(batch, rows, columns)``, shape ``(batch, 4)``."""
    rows, columns = images.shape[1], images.shape[2]
    edges = torch.zeros(images.shape[0], 4, dtype=torch.float32, device=images.device)
    far = torch.tensor([0.0, 0.0, 1.0, 1.0], device=images.device)
    scale = torch.stack([far[0], far[1], far[2] * rows, far[3] * columns])
    return edges + scale


def lung_boxes(lung_mask: Tensor, shrink_pixels: float) -> Tensor:
    """Give the box around the lungs of each image, each side moved inwards.

    Parameters
    ----------
    lung_mask
        Shape ``(batch, rows, columns)``, bool.
    shrink_pixels
        Cut off each side, in pixels of the image.

    Returns
    -------
    :
        Shape ``(batch, 4)``; the whole image where there are no lungs worth the name.
    """
    inside = lung_mask.to(torch.float32)
    row0, row1 = _extent(inside.mean(dim=2))
    column0, column1 = _extent(inside.mean(dim=1))
    shrink = shrink_pixels
    boxes = torch.stack([row0 + shrink, column0 + shrink, row1 - shrink, column1 - shrink], dim=1)
    whole = whole_boxes(lung_mask)
    least = _LEAST_SIDE * whole[:, 2:]
    is_chest = (boxes[:, 2:] - boxes[:, :2] >= least).all(dim=1, keepdim=True)
    return torch.where(is_chest, boxes, whole)


def _extent(share: Tensor) -> tuple[Tensor, Tensor]:
    """Give the first index, and one past the last, where the share is large enough."""
    n = share.shape[1]
    index = torch.arange(n, dtype=torch.float32, device=share.device).unsqueeze(0)
    is_lung = share >= _LEAST_SHARE
    first = torch.where(is_lung, index, torch.full_like(index, float(2**20))).amin(dim=1)
    last = torch.where(is_lung, index, torch.full_like(index, -1.0)).amax(dim=1)
    return first, last + 1.0


def sample_box(images: Tensor, boxes: Tensor, rows: int, columns: int) -> Tensor:
    """Resample the box of each image bilinearly to a grid, each cell the mean of 2 by 2 samples.

    Parameters
    ----------
    images
        Shape ``(batch, rows, columns)``, float32.
    boxes
        Shape ``(batch, 4)``.
    rows, columns
        Of the result ``(batch, 1, rows, columns)``.
    """
    along_rows = _positions(boxes[:, 0:1], boxes[:, 2:3], rows, images.shape[1])
    along_columns = _positions(boxes[:, 1:2], boxes[:, 3:4], columns, images.shape[2])
    n_rows, n_columns = _SAMPLES * rows, _SAMPLES * columns
    grid = torch.stack(
        [
            along_columns.unsqueeze(1).expand(-1, n_rows, -1),
            along_rows.unsqueeze(2).expand(-1, -1, n_columns),
        ],
        dim=3,
    )
    fine = functional.grid_sample(
        images.unsqueeze(1), grid, padding_mode="border", align_corners=False
    )
    return functional.avg_pool2d(fine, _SAMPLES)


def _positions(start: Tensor, end: Tensor, n: int, size: int) -> Tensor:
    """Give sample positions from -1 (first edge of the image) to 1 (last edge)."""
    n_samples = _SAMPLES * n
    steps = torch.arange(n_samples, dtype=torch.float32, device=start.device)
    position = start + (end - start) * ((steps + 0.5) / n_samples)
    return 2.0 * position / size - 1.0


class GreyNetwork(nn.Module):
    """A network behind its normalisation: grey images on the network's grid in, logits out.

    Parameters
    ----------
    network
        Takes ``(batch, channels, rows, columns)``.
    mean, deviation
        Per channel, of values from 0 to 1; their number is the number of channels.
    """

    def __init__(
        self, network: nn.Module, mean: tuple[float, ...], deviation: tuple[float, ...]
    ) -> None:
        super().__init__()
        self.network = network
        shape = (1, len(mean), 1, 1)
        self.register_buffer("mean", torch.tensor(mean).view(shape) * WHITE)
        self.register_buffer("deviation", torch.tensor(deviation).view(shape) * WHITE)

    def forward(self, grey: Tensor) -> Tensor:
        """Map grey images ``(batch, 1, rows, columns)``, 0 to 255, to what the network gives."""
        image = (grey - cast("Tensor", self.mean)) / cast("Tensor", self.deviation)
        return cast("Tensor", self.network(image))


def class_logits(logits: Tensor) -> Tensor:
    """Give one logit per class; one logit alone is that of the second of two classes."""
    if logits.shape[1] > 1:
        return logits
    return torch.cat([torch.zeros_like(logits), logits], dim=1)


class GreyImageGraph(nn.Module):
    """Exported for pictures: grey images of any size in, class logits out."""

    def __init__(self, network: nn.Module, rows: int, columns: int) -> None:
        super().__init__()
        self.network = network
        self.size = (rows, columns)

    def forward(self, grey: Tensor) -> Tensor:
        """Map grey values ``(batch, rows, columns)`` to class logits."""
        return class_logits(self.network(sample_box(grey, whole_boxes(grey), *self.size)))


class LungCropGraph(nn.Module):
    """Exported behind a lung model: pictures and their lung logits in, class logits out."""

    def __init__(
        self, network: nn.Module, rows: int, columns: int, *, shrink_pixels: float, cut: float
    ) -> None:
        super().__init__()
        self.network = network
        self.size = (rows, columns)
        self.shrink_pixels = shrink_pixels
        self.cut = cut

    def forward(self, grey: Tensor, lung_logits: Tensor) -> Tensor:
        """Map grey values and lung logits, both ``(batch, rows, columns)``, to class logits."""
        boxes = lung_boxes(lung_logits > self.cut, self.shrink_pixels)
        return class_logits(self.network(sample_box(grey, boxes, *self.size)))


class HuSliceGraph(nn.Module):
    """Exported for CT slices: HU and lung boxes in, class logits out.

    Parameters
    ----------
    uses_boxes
        False where the network was trained on whole slices; the boxes then change nothing.
    """

    def __init__(
        self, network: nn.Module, rows: int, columns: int, *, window: HuWindow, uses_boxes: bool
    ) -> None:
        super().__init__()
        self.network = network
        self.size = (rows, columns)
        self.window = window
        self.uses_boxes = uses_boxes

    def forward(self, hu: Tensor, boxes: Tensor) -> Tensor:
        """Map HU ``(batch, rows, columns)`` and boxes ``(batch, 4)`` to class logits."""
        if not self.uses_boxes:
            # The input stays part of the contract; a clamp to nothing keeps it in the graph.
            boxes = whole_boxes(hu) + boxes.clamp(0.0, 0.0)
        return class_logits(
            self.network(sample_box(hu_to_grey(hu, self.window), boxes, *self.size))
        )


class MaskGraph(nn.Module):
    """Exported for masks: images of any size in, one logit per pixel of that size out.

    Parameters
    ----------
    window
        Of HU; None for pictures.
    """

    def __init__(
        self, network: nn.Module, rows: int, columns: int, *, window: HuWindow | None
    ) -> None:
        super().__init__()
        self.network = network
        self.size = (rows, columns)
        self.window = window

    def forward(self, images: Tensor) -> Tensor:
        """Map HU or grey values ``(batch, rows, columns)`` to logits of the same shape."""
        grey = images if self.window is None else hu_to_grey(images, self.window)
        logits = self.network(sample_box(grey, whole_boxes(grey), *self.size))
        raised = functional.interpolate(
            logits, size=(images.shape[1], images.shape[2]), mode="bilinear", align_corners=False
        )
        return raised.squeeze(1)
