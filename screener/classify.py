"""Volume and lung mask to one probability per class for each lung-bearing slice."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from models.errors import ModelError
from models.manifest import Manifest
from screener.domain import (
    HuArray,
    LabelArray,
    LesionMaps,
    LungMask,
    SliceProbabilities,
    Volume,
)
from screener.errors import ModelFailure
from screener.lanes import in_lanes

#: Rows of a probability table must sum to 1 within this.
_SUM_TOLERANCE = 1e-3


class Classifier(Protocol):
    """What a slice model must do; :class:`models.session.SliceClassifier` does."""

    @property
    def manifest(self) -> Manifest:
        """The manifest, for the names of the classes."""
        ...

    def predict(
        self, hu: HuArray, boxes: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32] | None]:
        """Give logits ``(batch, classes)`` for slices and their lung boxes, and lesion maps."""
        ...

    def probabilities(self, logits: NDArray[np.float32]) -> NDArray[np.float32]:
        """Calibrate logits into probabilities."""
        ...


@dataclass(frozen=True, slots=True)
class ClassifyRules:
    """Which slices are classified, and how many at a time."""

    least_lung_area_mm2: float = 1_500.0  #: tips of the lungs show too little to judge
    batch_size: int = 8


def classify_slices(
    volume: Volume,
    lungs: LungMask,
    classifier: Classifier,
    rules: ClassifyRules,
    n_lanes: int = 1,
) -> SliceProbabilities:
    """Classify every slice with enough lung.

    Parameters
    ----------
    volume
        The volume in HU.
    lungs
        Its labelled lungs.
    classifier
        The open slice model.
    rules
        What enough is.
    n_lanes
        Batches at a time.

    Raises
    ------
    ModelFailure
        The model failed, or gave something that is no probability.
    """
    class_names = classifier.manifest.class_names
    indices = lung_bearing_slices(volume, lungs, rules)
    table = np.empty((len(indices), len(class_names)), dtype=np.float32)
    flips = _flips(volume)

    def classify(start: int) -> tuple[NDArray[np.float32], NDArray[np.float32]] | None:
        chosen = indices[start : start + rules.batch_size]
        hu = np.ascontiguousarray(volume.volume_hu[chosen][:, :: flips[0], :: flips[1]])
        boxes = lung_boxes(lungs.labels[chosen][:, :: flips[0], :: flips[1]])
        try:
            logits, maps = classifier.predict(hu, boxes)
            probabilities = classifier.probabilities(logits)
        except ModelError as error:
            raise ModelFailure(str(error)) from error
        table[start : start + len(chosen)] = _checked(probabilities, len(chosen), len(class_names))
        if maps is None:
            return None
        shown = _checked_maps(maps, len(chosen))[:, :: flips[0], :: flips[1]]
        return lung_boxes(lungs.labels[chosen]), shown

    batches = in_lanes(classify, range(0, len(indices), rules.batch_size), n_lanes)
    found = [one for one in batches if one is not None]
    lesions = None
    if found:
        boxes, maps = zip(*found, strict=True)
        lesions = LesionMaps(np.concatenate(boxes), np.concatenate(maps))
    return SliceProbabilities(class_names, indices, table, lesions)


def lung_bearing_slices(volume: Volume, lungs: LungMask, rules: ClassifyRules) -> NDArray[np.int64]:
    """Give the indices of the slices with enough lung, ascending."""
    pixel_mm2 = volume.spacing_mm[1] * volume.spacing_mm[2]
    # Slice by slice: along axes it would first make an integer of every voxel.
    areas_mm2 = np.array([np.count_nonzero(one) for one in lungs.labels]) * pixel_mm2
    return np.flatnonzero(areas_mm2 >= rules.least_lung_area_mm2)


def lung_boxes(labels: LabelArray) -> NDArray[np.float32]:
    """Give the smallest box around both lungs of each slice.

    Parameters
    ----------
    labels
        ``(batch, rows, columns)``; each slice contains lung.

    Returns
    -------
    :
        ``(batch, 4)``: row0, column0, row1, column1 as pixel edges, upper edges exclusive.
    """
    boxes = np.empty((labels.shape[0], 4), dtype=np.float32)
    for index, slice_labels in enumerate(labels):
        rows = np.flatnonzero(slice_labels.any(axis=1))
        columns = np.flatnonzero(slice_labels.any(axis=0))
        boxes[index] = rows[0], columns[0], rows[-1] + 1, columns[-1] + 1
    return boxes


def _flips(volume: Volume) -> tuple[int, int]:
    """Give the steps (1 or -1) that show rows and columns as the model knows them."""
    orientation = volume.slices[0].orientation
    return (-1 if orientation[4] < 0 else 1), (-1 if orientation[0] < 0 else 1)


def _checked_maps(maps: NDArray[np.float32], n_slices: int) -> NDArray[np.float32]:
    """Refuse maps that are none: one per slice, values of 0 to 1."""
    is_right = maps.ndim == 3 and len(maps) == n_slices and maps.size > 0  # noqa: PLR2004
    if not is_right or not bool(((maps >= 0) & (maps <= 1)).all()):
        raise ModelFailure(
            f"the slice model gave lesion maps of {maps.shape} for {n_slices} slices, or values "
            "outside 0 to 1"
        )
    return maps


def _checked(
    probabilities: NDArray[np.float32], n_slices: int, n_classes: int
) -> NDArray[np.float32]:
    """Refuse what cannot be probabilities; nothing is renormalised in silence."""
    is_right = (
        probabilities.shape == (n_slices, n_classes)
        and bool(np.isfinite(probabilities).all())
        and bool((probabilities >= 0).all())
        and bool((np.abs(probabilities.sum(axis=1) - 1.0) < _SUM_TOLERANCE).all())
    )
    if not is_right:
        raise ModelFailure(
            f"the slice model gave {probabilities.shape} for {n_slices} slices, or values that "
            "are no probabilities"
        )
    return probabilities
