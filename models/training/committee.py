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
        """Map grey images to one logit per class.

        Mirror images go through with the others as one batch: the graph holds each network once.
        """
        views = torch.cat([grey, grey.flip(3)]) if self.is_mirrored else grey
        found = torch.stack([class_logits(member(views)) for member in self.members]).mean(dim=0)
        return found.reshape(2, -1, found.shape[1]).mean(dim=0) if self.is_mirrored else found
