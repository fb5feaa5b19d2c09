"""The two convolutional networks that their authors drew themselves; everything else is timm's.

Neither publication's code is used. Where a publication gives totals and no table, the layers here
are a reconstruction, and the docstring says so. Layers and their defaults are those of Keras, with
which both were trained: batch norm with epsilon 0.001 and momentum 0.99 (0.01 in torch's words).
"""

from itertools import pairwise
from typing import cast

from torch import Tensor, nn


def _batch_norm_2d(n: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(n, eps=1e-3, momentum=0.01)


def _batch_norm_1d(n: int) -> nn.BatchNorm1d:
    return nn.BatchNorm1d(n, eps=1e-3, momentum=0.01)


class SeparableConv(nn.Sequential):
    """Depthwise 3 by 3 without bias, pointwise with bias, ReLU: Keras' ``SeparableConv2D``."""

    def __init__(self, n_in: int, n_out: int) -> None:
        super().__init__(
            nn.Conv2d(n_in, n_in, 3, padding=1, groups=n_in, bias=False),
            nn.Conv2d(n_in, n_out, 1),
            nn.ReLU(inplace=True),
        )


class SeparableCnn(nn.Module):
    """The separable network for CT slices: 616,739 parameters, 614,435 of them trainable.

    The published totals count the running mean and variance of batch norm as parameters that are
    not trained: 616,739 - 614,435 = 2,304, so 1,152 channels are normalised. No table of the layers
    could be found. **This is a reconstruction from the totals**: of the plain designs that were
    enumerated (a stem of full convolutions, blocks of separable ones whose width doubles, a dense
    head; ReLU throughout), five meet both numbers exactly, and this is the most natural of them.

    | layer | output | parameters |
    | --- | --- | --- |
    | convolution 3 by 3, 32, pool | 128 x 128 x 32 | 896 |
    | separable 64, separable 64, batch norm, pool | 64 x 64 x 64 | 2,400 + 4,736 + 256 |
    | separable 128, separable 128, batch norm, pool | 32 x 32 x 128 | 8,896 + 17,664 + 512 |
    | separable 256, separable 256, batch norm, pool | 16 x 16 x 256 | 34,176 + 68,096 + 1,024 |
    | separable 512, separable 512, batch norm, pool | 8 x 8 x 512 | 133,888 + 267,264 + 2,048 |
    | mean over the image | 512 | 0 |
    | dense 128, batch norm, dropout 0.5 | 128 | 65,664 + 512 |
    | dense 64, batch norm, dropout 0.3 | 64 | 8,256 + 256 |
    | dense, softmax | 3 | 195 |

    Softmax belongs to the loss here; the forward pass gives logits. Pooling and dropout have no
    parameters, so the totals cannot tell where they stood.

    Parameters
    ----------
    n_outputs
        Length of the logits; 3 in the publication.
    channels
        Of the input; 3 in the publication.
    """

    def __init__(self, n_outputs: int, channels: int) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(channels, 32, 3, padding=1), nn.ReLU(inplace=True), nn.MaxPool2d(2)
        )
        self.blocks = nn.Sequential(
            *(self._block(n_in, n_out) for n_in, n_out in pairwise((32, 64, 128, 256, 512)))
        )
        self.pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.dense = nn.Sequential(
            nn.Linear(512, 128), nn.ReLU(inplace=True), _batch_norm_1d(128), nn.Dropout(0.5),
            nn.Linear(128, 64), nn.ReLU(inplace=True), _batch_norm_1d(64), nn.Dropout(0.3),
        )  # fmt: skip
        self.head = nn.Linear(64, n_outputs)

    @staticmethod
    def _block(n_in: int, n_out: int) -> nn.Sequential:
        return nn.Sequential(
            SeparableConv(n_in, n_out),
            SeparableConv(n_out, n_out),
            _batch_norm_2d(n_out),
            nn.MaxPool2d(2),
        )

    def forward(self, image: Tensor) -> Tensor:
        """Map images ``(batch, channels, rows, columns)`` to logits ``(batch, n_outputs)``."""
        features = self.pool(self.blocks(self.stem(image)))
        return cast("Tensor", self.head(self.dense(features)))


class RadiographCnn(nn.Module):
    """The convolutional network with batch norm for chest radiographs, 299 by 299, four classes.

    No table of the publication's own network could be found and no total is known: this is a
    network of the kind it describes, **not a copy**. Four steps of convolution, batch norm, ReLU
    and pool, then a dense head.

    | layer | output | parameters |
    | --- | --- | --- |
    | convolution 3 by 3, 32, batch norm, pool | 149 x 149 x 32 | 896 + 128 |
    | convolution 3 by 3, 64, batch norm, pool | 74 x 74 x 64 | 18,496 + 256 |
    | convolution 3 by 3, 128, batch norm, pool | 37 x 37 x 128 | 73,856 + 512 |
    | convolution 3 by 3, 256, batch norm, pool | 18 x 18 x 256 | 295,168 + 1,024 |
    | mean over the image | 256 | 0 |
    | dense 128, batch norm, dropout 0.5 | 128 | 32,896 + 512 |
    | dense, softmax | 4 | 516 |
    """

    def __init__(self, n_outputs: int, channels: int) -> None:
        super().__init__()
        widths = (channels, 32, 64, 128, 256)
        self.blocks = nn.Sequential(*(self._block(*pair) for pair in pairwise(widths)))
        self.pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.dense = nn.Sequential(
            nn.Linear(256, 128), nn.ReLU(inplace=True), _batch_norm_1d(128), nn.Dropout(0.5)
        )
        self.head = nn.Linear(128, n_outputs)

    @staticmethod
    def _block(n_in: int, n_out: int) -> nn.Sequential:
        return nn.Sequential(
            nn.Conv2d(n_in, n_out, 3, padding=1),
            _batch_norm_2d(n_out),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(2),
        )

    def forward(self, image: Tensor) -> Tensor:
        """Map images ``(batch, channels, rows, columns)`` to logits ``(batch, n_outputs)``."""
        return cast("Tensor", self.head(self.dense(self.pool(self.blocks(image)))))
