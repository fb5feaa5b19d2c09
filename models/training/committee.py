"""Several trained networks, and mirror images, behind one answer.

Averaging logits over networks that started or were trained differently removes errors that they do
not share. The exported graph holds all of them, so one file still runs on any picture.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from models.training.graphs import GreyNetwork, class_logits


class Committee(nn.Module):
    """Mean class logits of several networks, of each image and its mirror image if wanted.

    Parameters
    ----------
    members
        Each takes grey images ``(batch, 1, rows, columns)``.
    is_mirrored
        Every member also sees each image with its columns reversed.
    """

    def __init__(self, members: Sequence[GreyNetwork], *, is_mirrored: bool) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)
        self.is_mirrored = is_mirrored

    def forward(self, grey: Tensor) -> Tensor:
        """Map grey images to one logit per class."""
        views = [grey, grey.flip(3)] if self.is_mirrored else [grey]
        found = [class_logits(member(view)) for member in self.members for view in views]
        return torch.stack(found).mean(dim=0)
