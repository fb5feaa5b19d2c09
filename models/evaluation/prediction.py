"""Run a model over a data set: grey or HU, pictures or volumes, with or without lung boxes."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.datasets import LabelledImages, Unit
from models.errors import DatasetInvalid
from models.evaluation.volumes import (
    BATCH_SIZE,
    Segmenter,
    has_volumes,
    lung_bearing,
    lung_boxes,
    read_volumes,
    segment_volume,
)
from models.manifest import HuWindow
from models.session import ImageClassifier, SliceClassifier

#: Share of a picture that must be lung before the box around it is believed.
_LEAST_LUNG_SHARE = 0.02
_GREY_MAX = 255.0

Track = Callable[[Sequence[int]], Iterable[int]]


@dataclass(frozen=True, slots=True)
class Predictions:
    """Logits of the samples that were classified.

    ``indices`` are those of the samples in the data set, ``logits`` float64 ``(images, classes)``
    before any temperature. ``without_lungs`` are samples that showed too little lung to be judged.
    ``lesion_shares`` is the mean of the lesion map of each image, 0 to 1, where the model has one.
    """

    classes: tuple[str, ...]
    indices: tuple[int, ...]
    logits: NDArray[np.float64]
    without_lungs: tuple[int, ...] = ()
    lesion_shares: NDArray[np.float64] | None = None


def classify_pictures(
    classifier: ImageClassifier, data: LabelledImages, window: HuWindow | None, track: Track = iter
) -> Predictions:
    """Classify each image by itself; HU become grey through the window."""
    adapt = adapter(data.unit, Unit.GREY, window)
    indices = range(len(data))
    logits = [
        classifier.logits(np.stack(batch).astype(np.float32))
        for batch, _ in _batches(data, adapt, track(indices))
    ]
    return Predictions(
        classifier.manifest.class_names,
        tuple(indices),
        np.concatenate(logits).astype(np.float64),
    )


def classify_slices(
    classifier: SliceClassifier,
    segmenter: Segmenter | None,
    data: LabelledImages,
    window: HuWindow | None,
    track: Track = iter,
) -> Predictions:
    """Classify slices inside the box around their lungs.

    Parameters
    ----------
    classifier
        A slice model; it wants HU.
    segmenter
        Finds the lungs: in the volume of each patient where slices form volumes, else in each
        picture. None uses the whole image.
    data
        The data set.
    window
        What grey pictures were made with; needed for them alone.
    track
        Wraps the indices for a progress bar.
    """
    adapt = adapter(data.unit, Unit.HU, window)
    if segmenter is not None and has_volumes(data) and data.unit is Unit.HU:
        return _classify_volumes(classifier, segmenter, data)
    answers = _Answers(classifier)
    for batch, _ in _batches(data, adapt, track(range(len(data)))):
        hu = np.stack(batch).astype(np.int16)
        answers.add(hu, _picture_boxes(segmenter, hu))
    return answers.predictions(tuple(range(len(data))))


def _classify_volumes(
    classifier: SliceClassifier, segmenter: Segmenter, data: LabelledImages
) -> Predictions:
    indices: list[int] = []
    without: list[int] = []
    answers = _Answers(classifier)
    for volume in read_volumes(data):
        masks = segment_volume(segmenter, volume.images, volume.spacing_mm) > 0
        bearing = lung_bearing(masks, volume.spacing_mm)
        for begin in range(0, len(bearing), BATCH_SIZE):
            chosen = bearing[begin : begin + BATCH_SIZE]
            answers.add(volume.images[chosen], lung_boxes(masks[chosen]))
        seen = set(bearing.tolist())
        indices += [volume.indices[n] for n in bearing]
        without += [index for n, index in enumerate(volume.indices) if n not in seen]
    if not indices:
        raise DatasetInvalid(f"no slice of {data.name} shows lungs; is this chest CT in HU?")
    return answers.predictions(tuple(indices), tuple(without))


class _Answers:
    """Gathers what a slice model says of batches: class logits and, with a map, lesion shares."""

    def __init__(self, classifier: SliceClassifier) -> None:
        self._classifier = classifier
        self._logits: list[NDArray[np.float32]] = []
        self._shares: list[NDArray[np.float32]] = []

    def add(self, hu: NDArray[np.int16], boxes: NDArray[np.float32]) -> None:
        """Run a batch once; the share of a slice is the mean probability of lesion of its map."""
        logits, lesions = self._classifier.predict(hu, boxes)
        self._logits.append(logits)
        if lesions is not None:
            self._shares.append(lesions.mean(axis=(1, 2)))

    def predictions(self, indices: tuple[int, ...], without: tuple[int, ...] = ()) -> Predictions:
        """Give all batches as one, for the images of these indices."""
        return Predictions(
            self._classifier.manifest.class_names,
            indices,
            np.concatenate(self._logits).astype(np.float64),
            without,
            np.concatenate(self._shares).astype(np.float64) if self._shares else None,
        )


def _batches(
    data: LabelledImages,
    adapt: Callable[[NDArray[Any]], NDArray[Any]],
    indices: Iterable[int],
) -> Iterator[tuple[list[NDArray[Any]], list[int]]]:
    """Give runs of images of one size, at most ``BATCH_SIZE`` long."""
    batch: list[NDArray[Any]] = []
    numbers: list[int] = []
    for index in indices:
        image = adapt(data.image(index))
        if batch and (image.shape != batch[0].shape or len(batch) == BATCH_SIZE):
            yield batch, numbers
            batch, numbers = [], []
        batch.append(image)
        numbers.append(index)
    if batch:
        yield batch, numbers


def adapter(
    have: Unit, want: Unit, window: HuWindow | None
) -> Callable[[NDArray[Any]], NDArray[Any]]:
    """Give the step from the unit of the data to the unit of the model.

    Raises
    ------
    DatasetInvalid
        The units differ and no window says how they relate.
    """
    if have is want:
        return lambda image: image
    if window is None:
        raise DatasetInvalid(
            f"the images are {have.value} and the model wants {want.value}: give --window LOWER "
            "UPPER in HU, the window the pictures were made with (or are to be made with)"
        )
    lower, span = window.lower_hu, window.upper_hu - window.lower_hu
    if want is Unit.HU:
        return lambda grey: np.rint(grey.astype(np.float32) / _GREY_MAX * span + lower)
    return lambda hu: np.clip((hu.astype(np.float32) - lower) / span, 0.0, 1.0) * _GREY_MAX


def _picture_boxes(segmenter: Segmenter | None, hu: NDArray[np.int16]) -> NDArray[np.float32]:
    """Give the box around the lungs of each picture, the whole picture where none are found."""
    whole = np.array([0.0, 0.0, hu.shape[1], hu.shape[2]], dtype=np.float32)
    boxes = np.tile(whole, (len(hu), 1))
    if segmenter is None:
        return boxes
    masks = segmenter.mask(segmenter.logits(hu))
    shown = masks.mean(axis=(1, 2)) >= _LEAST_LUNG_SHARE
    if shown.any():
        boxes[shown] = lung_boxes(masks[shown])
    return boxes
