"""Maps of the classifier on the grid of a picture or of an object.

A map is coarse and spans the lung box of its slice. Between its cells it is interpolated; outside
the box it is 0, because the classifier did not look there.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from screener.domain import Screening


@dataclass(frozen=True, slots=True)
class Extent:
    """Part of a plane in fractional pixel edges: the first pixel reaches from 0 to 1."""

    left: float
    top: float
    right: float
    bottom: float


@dataclass(frozen=True, slots=True)
class SliceLesions:
    """The map of one slice."""

    extent: Extent  #: what it spans
    probabilities: NDArray[np.float32]  #: (map rows, map columns), 0 to 1

    def resample(self, extent: Extent, size: tuple[int, int]) -> NDArray[np.float32]:
        """Give the map on a part of the plane, ``size`` is columns and rows."""
        rows, columns = self.probabilities.shape
        column_scale = columns / (self.extent.right - self.extent.left)
        row_scale = rows / (self.extent.bottom - self.extent.top)
        box = (
            (extent.left - self.extent.left) * column_scale,
            (extent.top - self.extent.top) * row_scale,
            (extent.right - self.extent.left) * column_scale,
            (extent.bottom - self.extent.top) * row_scale,
        )
        picture = Image.fromarray(np.ascontiguousarray(self.probabilities))
        part = picture.transform(size, Image.Transform.EXTENT, box, Image.Resampling.BILINEAR)
        return np.asarray(part, np.float32)


def lesions_of(screening: Screening, slice_index: int) -> SliceLesions | None:
    """Give the map of a slice, None where it was not classified or the model gives no maps."""
    said = screening.probabilities
    if said is None or said.lesions is None:
        return None
    rows = np.flatnonzero(said.slice_indices == slice_index)
    if not rows.size:
        return None
    top, left, bottom, right = (float(edge) for edge in said.lesions.boxes[rows[0]])
    return SliceLesions(Extent(left, top, right, bottom), said.lesions.probabilities[rows[0]])
