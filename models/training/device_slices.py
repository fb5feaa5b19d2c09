"""Slices on the device that trains, drawn in batches.

All slices of a training fit into the memory of one GPU (a few GB), so nothing is copied while it
runs. On a CPU the same code serves small runs.
"""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from models.training.augment import chance, uniform
from models.training.slice_data import LabelledSlices


@dataclass(frozen=True, slots=True)
class DeviceSlices:
    """``LabelledSlices`` as tensors: HU int16, masks uint8 (lung, lesion), classes int64."""

    hu: Tensor = field(repr=False)  #: (slices, rows, columns)
    masks: Tensor = field(repr=False)  #: (slices, 2, rows, columns)
    classes: Tensor = field(repr=False)  #: (slices,)
    has_next: Tensor = field(repr=False)  #: (slices,) float32, 0 or 1

    @property
    def device(self) -> torch.device:
        """Where they are."""
        return self.hu.device

    def draw(
        self, weights: Tensor, n: int, generator: torch.Generator, *, thick: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Draw a batch by weight.

        Parameters
        ----------
        weights
            ``(slices,)``, not negative.
        thick
            How often a slice is averaged with a part of the next, as a thick slice would be; the
            masks are those of the larger part.

        Returns
        -------
        :
            HU ``(n, 1, rows, columns)`` and masks ``(n, 2, ...)`` as float32, numbers ``(n,)``.
        """
        chosen = torch.multinomial(weights, n, replacement=True, generator=generator)
        above = chosen + self.has_next[chosen].to(torch.int64)
        share = uniform(generator, n, 0.0, 0.5) * chance(generator, n, thick)
        hu = self.hu[chosen].to(torch.float32).unsqueeze(1)
        hu = hu * (1.0 - share) + self.hu[above].to(torch.float32).unsqueeze(1) * share
        return hu, self.masks[chosen].to(torch.float32), chosen


def to_device(slices: LabelledSlices, device: torch.device) -> DeviceSlices:
    """Copy slices to a device."""
    masks = torch.stack([torch.from_numpy(slices.lung), torch.from_numpy(slices.lesion)], dim=1)
    return DeviceSlices(
        hu=torch.from_numpy(slices.hu).to(device),
        masks=masks.to(torch.uint8).to(device),
        classes=torch.from_numpy(slices.classes).to(device),
        has_next=torch.from_numpy(slices.has_next).to(torch.float32).to(device),
    )
