"""Stand-ins for the models, and a chest drawn with a few ellipses. For tests only."""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from models.lung_answers import LungAnswers, one_answer
from models.manifest import Manifest
from models.registry import find_model
from screener.domain import HuArray


def chest_hu(n_slices: int = 48, size: int = 64) -> HuArray:
    """Draw a chest: body, two lungs of different size, a spine; ``(slices, rows, columns)``."""
    z, y, x = np.meshgrid(
        np.linspace(-1, 1, n_slices), np.linspace(-1, 1, size), np.linspace(-1, 1, size),
        indexing="ij",
    )  # fmt: skip

    def ellipse(cy: float, cx: float, ry: float, rx: float) -> NDArray[np.bool_]:
        return np.asarray(((y - cy) / ry) ** 2 + ((x - cx) / rx) ** 2 < 1)

    hu = np.full(x.shape, -1000, dtype=np.int16)
    hu[ellipse(0, 0, 0.8, 0.92)] = 40
    taper = np.sqrt(np.clip(1 - z**2, 0.05, None))
    for cx, rx in ((-0.42, 0.34), (0.42, 0.28)):
        inside = ((y / (0.55 * taper)) ** 2 + ((x - cx) / (rx * taper)) ** 2) < 1
        hu[inside & (np.abs(z) < 0.95)] = -850
    hu[ellipse(0.62, 0, 0.14, 0.12)] = 500
    return hu


class ThresholdSegmenter:
    """Air inside the body: what is below -400 HU and not joined to the border of its slice."""

    def logits(self, hu: HuArray) -> NDArray[np.float32]:
        """Give 1 inside, -1 outside."""
        from scipy import ndimage

        logits = np.full(hu.shape, -1.0, dtype=np.float32)
        for index, one in enumerate(hu):
            parts, _ = ndimage.label(one < -400)
            border = np.unique(np.concatenate([parts[0], parts[-1], parts[:, 0], parts[:, -1]]))
            logits[index][(parts > 0) & ~np.isin(parts, border)] = 1.0
        return logits

    def mask(self, logits: NDArray[np.float32]) -> NDArray[np.bool_]:
        """Cut at 0."""
        return np.asarray(logits > 0)

    def answers(self, images: HuArray) -> LungAnswers:
        """Know nothing of solid lung."""
        return one_answer(self.mask(self.logits(images)))


def cells(part: HuArray, axis: int = 0) -> list[HuArray]:
    """Divide a part of a slice into four; each holds a pixel at least."""
    n_pixels = part.shape[axis]
    edges = [n_pixels * k // 4 for k in range(5)]
    return [
        part.take(range(low, max(high, low + 1)), axis=axis, mode="clip")
        for low, high in pairwise(edges)
    ]


@dataclass
class MeanHuClassifier:
    """Calls a slice COVID-19 when the mean of its box is dense; keeps what it was given."""

    dense_hu: float = -200.0

    @property
    def manifest(self) -> Manifest:
        """The shipped classifier's manifest: for the class names."""
        return find_model("slice_classifier").manifest

    def predict(
        self, hu: HuArray, boxes: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32] | None]:
        """Give the logits, and a map that is high where a part of the box is dense."""
        maps = [
            [[float(cell.mean() > self.dense_hu) for cell in cells(row, 1)] for row in cells(part)]
            for part in (
                one[int(r0) : int(r1), int(c0) : int(c1)]
                for one, (r0, c0, r1, c1) in zip(hu, boxes, strict=True)
            )
        ]
        return self.logits(hu, boxes), np.array(maps, dtype=np.float32).reshape(-1, 4, 4)

    def logits(self, hu: HuArray, boxes: NDArray[np.float32]) -> NDArray[np.float32]:
        """Give logits from the mean HU inside each box."""
        means = [
            one[int(r0) : int(r1), int(c0) : int(c1)].mean()
            for one, (r0, c0, r1, c1) in zip(hu, boxes, strict=True)
        ]
        dense = np.array(means, dtype=np.float32) > self.dense_hu
        return np.stack([np.where(dense, 0, 4), np.where(dense, 4, 0), 0 * dense], axis=1).astype(
            np.float32
        )

    def probabilities(self, logits: NDArray[np.float32]) -> NDArray[np.float32]:
        """Softmax."""
        powers = np.exp(logits)
        return np.asarray(powers / powers.sum(axis=1, keepdims=True), dtype=np.float32)
