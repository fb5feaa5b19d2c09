"""Open a model for measuring: what predicts, what finds lungs, what is timed."""

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.datasets import LabelledImages, Unit
from models.errors import DatasetInvalid
from models.evaluation.cost import Cost, count_cost, example_feed, measure_speed
from models.evaluation.masks import (
    MaskFigures,
    PatientDice,
    measure_masks,
    measure_picture_masks,
    pool_patients,
)
from models.evaluation.prediction import (
    Predictions,
    adapter,
    classify_pictures,
    classify_slices,
)
from models.evaluation.volumes import has_volumes, segment_volume, threshold_lungs
from models.manifest import HuWindow, InputUnit, Task
from models.registry import ModelFolder
from models.session import ImageClassifier, LungSegmenter, Provider, SliceClassifier

Predict = Callable[[LabelledImages], Predictions]
Track = Callable[[Sequence[int]], Iterable[int]]
_LUNG = "lung"


def open_predictor(
    folder: ModelFolder,
    lungs: ModelFolder | None,
    window: HuWindow | None,
    threads: int,
    track: Track,
) -> Predict:
    """Open a classifier, and the lung model whose boxes it looks into."""
    if folder.manifest.task is Task.IMAGE_CLASSIFICATION:
        pictures = ImageClassifier(folder, provider=Provider.CPU, threads=threads)
        return partial(_pictures, pictures, window, track)
    slices = SliceClassifier(folder, provider=Provider.CPU, threads=threads)
    segmenter = (
        None if lungs is None else LungSegmenter(lungs, provider=Provider.CPU, threads=threads)
    )
    return partial(_slices, slices, segmenter, window, track)


def measure_lungs(
    folder: ModelFolder,
    data: LabelledImages,
    window: HuWindow | None,
    threads: int,
    track: Track,
) -> tuple[MaskFigures, MaskFigures | None]:
    """Measure a segmentation, and the threshold method beside it for lungs of volumes in HU."""
    segmenter = LungSegmenter(folder, provider=Provider.CPU, threads=threads)
    adapt = adapter(data.unit, _unit(folder), window)
    structure = folder.manifest.class_names[0]
    if not has_volumes(data) or structure != _LUNG:
        # The clean-up of volumes knows two lungs and nothing else.
        return measure_picture_masks(data, partial(_find, segmenter, adapt), structure, track), None
    found = measure_masks(
        data,
        lambda one: (
            segment_volume(segmenter, _typed(folder, adapt(one.images)), one.spacing_mm) > 0
        ),
        _LUNG,
    )
    if data.unit is not Unit.HU:
        return found, None
    baseline = measure_masks(data, lambda one: threshold_lungs(one.images, one.spacing_mm), _LUNG)
    return found, baseline


def measure_lung_folds(
    folds: Sequence[tuple[ModelFolder, Sequence[str]]],
    data: LabelledImages,
    window: HuWindow | None,
    threads: int,
    track: Track,
) -> tuple[MaskFigures, MaskFigures | None]:
    """Measure the models of a cross-validation, each on the patients it has not learnt from.

    Parameters
    ----------
    folds
        Each model with its patients; a patient stands in one fold.
    data
        Holds these patients and maybe others, which are not measured.

    Raises
    ------
    DatasetInvalid
        A patient is in two folds, or not in the data.
    """
    patients = [patient for _, of_fold in folds for patient in of_fold]
    wrong = sorted(
        one for one in set(patients) if patients.count(one) > 1 or one not in data.patients()
    )
    if wrong:
        raise DatasetInvalid(
            f"patient {wrong[0]} is in two folds or not in {data.name}; correct --fold"
        )
    found: list[PatientDice] = []
    beside: list[PatientDice] = []
    for folder, of_fold in folds:
        indices = [n for n, sample in enumerate(data.samples) if sample.patient in of_fold]
        masks, baseline = measure_lungs(folder, data.subset(indices), window, threads, track)
        found += masks.patients
        beside += baseline.patients if baseline is not None else ()
    return pool_patients(_LUNG, found), pool_patients(_LUNG, beside) if beside else None


def measure_cost(
    folder: ModelFolder, data: LabelledImages, window: HuWindow | None, threads: int
) -> Cost:
    """Count and time a model on the first image of the data, its whole area as lung box."""
    image = _typed(folder, adapter(data.unit, _unit(folder), window)(data.image(0)))
    feed = example_feed(folder, image)
    run = _runner(folder, feed, threads)
    return Cost(count_cost(folder.graph, feed), measure_speed(run, threads=threads))


def _runner(
    folder: ModelFolder, feed: dict[str, NDArray[Any]], threads: int
) -> Callable[[], object]:
    values = list(feed.values())
    match folder.manifest.task:
        case Task.LUNG_SEGMENTATION:
            lungs = LungSegmenter(folder, provider=Provider.CPU, threads=threads)
            return lambda: lungs.logits(values[0])
        case Task.SLICE_CLASSIFICATION:
            slices = SliceClassifier(folder, provider=Provider.CPU, threads=threads)
            return lambda: slices.logits(values[0], values[1])
        case Task.IMAGE_CLASSIFICATION:
            pictures = ImageClassifier(folder, provider=Provider.CPU, threads=threads)
            return lambda: pictures.logits(values[0])


def _pictures(
    model: ImageClassifier, window: HuWindow | None, track: Track, data: LabelledImages
) -> Predictions:
    return classify_pictures(model, data, window, track)


def _slices(
    model: SliceClassifier,
    segmenter: LungSegmenter | None,
    window: HuWindow | None,
    track: Track,
    data: LabelledImages,
) -> Predictions:
    return classify_slices(model, segmenter, data, window, track)


def _find(
    segmenter: LungSegmenter,
    adapt: Callable[[NDArray[Any]], NDArray[Any]],
    image: NDArray[Any],
) -> NDArray[np.bool_]:
    stack: NDArray[Any] = adapt(image)[None]
    if segmenter.manifest.unit is InputUnit.GREY:
        masks = segmenter.mask(segmenter.logits(stack.astype(np.float32)))
    else:
        masks = segmenter.mask(segmenter.logits(stack.astype(np.int16)))
    return np.asarray(masks[0], dtype=np.bool_)


def _unit(folder: ModelFolder) -> Unit:
    return Unit.GREY if folder.manifest.unit is InputUnit.GREY else Unit.HU


def _typed(folder: ModelFolder, images: NDArray[Any]) -> NDArray[Any]:
    return images.astype(np.float32 if _unit(folder) is Unit.GREY else np.int16)
