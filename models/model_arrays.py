"""Arrays on their way into a model and out of it: what is refused, and logits as probabilities."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.errors import ModelInputInvalid
from models.manifest import InputUnit

#: Axes of a stack of slices, and of lung boxes (row0, column0, row1, column1).
_STACK_AXES, _BOX_EDGES = 3, 4


def check_stack(images: NDArray[Any], unit: InputUnit) -> None:
    """Refuse anything but a non-empty stack of images of the unit's type."""
    wanted = np.dtype(np.int16 if unit is InputUnit.HU else np.float32)
    if images.dtype != wanted or images.ndim != _STACK_AXES or 0 in images.shape:
        name = "HU" if unit is InputUnit.HU else "grey values"
        raise ModelInputInvalid(
            f"{name} of type {images.dtype} and shape {images.shape}: "
            f"must be {wanted} (batch, rows, columns)"
        )


def check_boxes(boxes: NDArray[np.float32], *, n_slices: int) -> None:
    """Refuse boxes that do not belong to the slices or have no area."""
    if boxes.dtype != np.float32 or boxes.shape != (n_slices, _BOX_EDGES):
        raise ModelInputInvalid(
            f"boxes of type {boxes.dtype} and shape {boxes.shape}: must be float32 ({n_slices}, 4)"
        )
    extents = boxes[:, 2:] - boxes[:, :2]
    if not bool(np.all(np.isfinite(boxes))) or bool(np.any(extents <= 0)):
        raise ModelInputInvalid("a lung box has no area; leave out slices without lungs")


def sigmoid(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """Turn each logit into a probability, 0 to 1, without overflow."""
    return np.asarray(0.5 * (1.0 + np.tanh(0.5 * logits)), dtype=np.float32)


def softmax(logits: NDArray[np.float32], temperature: float) -> NDArray[np.float32]:
    """Turn logits into probabilities that sum to 1 in each row, whatever their size."""
    scaled = logits / np.float32(temperature)
    powers = np.exp(scaled - scaled.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True), dtype=np.float32)
