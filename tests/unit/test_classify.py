"""Which slices are classified, with which boxes, and what no model may give."""

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from models.errors import InferenceFailed
from screener.classify import ClassifyRules, classify_slices, lung_bearing_slices, lung_boxes
from screener.domain import HuArray, LungMask
from screener.errors import ModelFailure
from tests.chest_models import MeanHuClassifier
from tests.ct_factories import volume_of

SPACING_MM = (5.0, 2.0, 2.0)
RULES = ClassifyRules(least_lung_area_mm2=100.0, batch_size=4)


def labels_with(*areas: int) -> NDArray[np.uint8]:
    """Give one slice per entry with so many lung pixels in a row."""
    labels = np.zeros((len(areas), 20, 40), dtype=np.uint8)
    for index, n_pixels in enumerate(areas):
        labels[index, 5, 3 : 3 + n_pixels] = 1 + index % 2
    return labels


def masked(labels: NDArray[np.uint8]) -> LungMask:
    return LungMask(labels, 1.0, 1.0)


def test_slices_with_little_lung_are_left_out() -> None:
    """4 mm2 per pixel: 25 pixels are 100 mm2, 24 are not."""
    labels = labels_with(0, 24, 25, 30)
    volume = volume_of(np.zeros(labels.shape, dtype=np.int16), SPACING_MM)
    assert lung_bearing_slices(volume, masked(labels), RULES).tolist() == [2, 3]


def test_box_is_the_tightest_in_pixel_edges() -> None:
    """Rows 2 to 4 and columns 7 to 9 are the box 2, 7, 5, 10: upper edges exclusive."""
    labels = np.zeros((1, 20, 40), dtype=np.uint8)
    labels[0, 2, 7] = 1
    labels[0, 4, 9] = 2
    boxes = lung_boxes(labels)
    assert boxes.dtype == np.float32
    assert boxes.tolist() == [[2.0, 7.0, 5.0, 10.0]]


def test_probabilities_belong_to_their_slices() -> None:
    """Only the dense slice is called COVID-19, across the edge of batches."""
    labels = labels_with(*[30] * 7)
    hu = np.full(labels.shape, -800, dtype=np.int16)
    hu[5] = 0
    found = classify_slices(volume_of(hu, SPACING_MM), masked(labels), MeanHuClassifier(), RULES)
    assert found.slice_indices.tolist() == list(range(7))
    assert found.class_names[found.probabilities[5].argmax()] == "covid-19"
    assert found.probabilities.argmax(axis=1).tolist() == [0, 0, 0, 0, 0, 1, 0]
    assert found.probabilities.sum(axis=1) == pytest.approx(np.ones(7), abs=1e-6)
    again = classify_slices(
        volume_of(hu, SPACING_MM),
        masked(labels),
        MeanHuClassifier(),
        replace(RULES, batch_size=2),
        n_lanes=2,
    )
    assert (again.probabilities == found.probabilities).all()
    assert again.lesions is not None
    assert found.lesions is not None
    assert (again.lesions.boxes == found.lesions.boxes).all()


def test_prone_slices_are_shown_as_the_model_knows_them() -> None:
    """The box is dense at one end only: flipped slices must bring it to the same place."""
    labels = labels_with(*[30] * 3)
    hu = np.full(labels.shape, -800, dtype=np.int16)
    hu[:, 5, 3:6] = 3000
    upright = classify_slices(volume_of(hu, SPACING_MM), masked(labels), Recorder(), RULES)
    prone = classify_slices(
        volume_of(hu[:, ::-1, ::-1].copy(), SPACING_MM, (-1.0, 0.0, 0.0, 0.0, -1.0, 0.0)),
        masked(labels[:, ::-1, ::-1].copy()),
        Recorder(),
        RULES,
    )
    assert (upright.probabilities == prone.probabilities).all()
    assert len(np.unique(upright.probabilities)) > 1


def test_map_lies_on_the_stored_slice_whichever_way_it_was_shown() -> None:
    """The dense end of the box is the dense end of the map, upright and prone."""
    labels = labels_with(*[30] * 3)
    hu = np.full(labels.shape, -800, dtype=np.int16)
    hu[:, 5, 3:11] = 3000
    upright = classify_slices(volume_of(hu, SPACING_MM), masked(labels), MeanHuClassifier(), RULES)
    prone = classify_slices(
        volume_of(hu[:, ::-1, ::-1].copy(), SPACING_MM, (-1.0, 0.0, 0.0, 0.0, -1.0, 0.0)),
        masked(labels[:, ::-1, ::-1].copy()),
        MeanHuClassifier(),
        RULES,
    )
    assert upright.lesions is not None
    assert prone.lesions is not None
    assert upright.lesions.boxes[0].tolist() == [5.0, 3.0, 6.0, 33.0]
    assert prone.lesions.boxes[0].tolist() == [14.0, 7.0, 15.0, 37.0]
    assert (upright.lesions.probabilities[:, :, 0] == 1.0).all()
    assert (upright.lesions.probabilities[:, :, -1] == 0.0).all()
    assert (upright.lesions.probabilities[:, ::-1, ::-1] == prone.lesions.probabilities).all()


def test_no_lung_bearing_slice_gives_an_empty_table() -> None:
    """The vote will say that there are too few."""
    labels = labels_with(0, 0)
    volume = volume_of(np.zeros(labels.shape, dtype=np.int16), SPACING_MM)
    found = classify_slices(volume, masked(labels), MeanHuClassifier(), RULES)
    assert found.probabilities.shape == (0, 3)


class Recorder(MeanHuClassifier):
    """Turns the first corner of the box into a probability."""

    def logits(self, hu: HuArray, boxes: NDArray[np.float32]) -> NDArray[np.float32]:
        corner = [one[int(r0), int(c0)] for one, (r0, c0, _, _) in zip(hu, boxes, strict=True)]
        return np.stack([np.array(corner) / 1000.0, np.zeros(len(hu)), np.ones(len(hu))], 1).astype(
            np.float32
        )


class Failing(MeanHuClassifier):
    """Runs out of memory."""

    def logits(self, hu: HuArray, boxes: NDArray[np.float32]) -> NDArray[np.float32]:
        raise InferenceFailed("out of memory")


class Overconfident(MeanHuClassifier):
    """Gives rows that do not sum to 1."""

    def probabilities(self, logits: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.ones_like(logits)


class NotANumber(MeanHuClassifier):
    """Gives NaN."""

    def probabilities(self, logits: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.full_like(logits, np.nan)


class Mapless(MeanHuClassifier):
    """Knows no maps."""

    def predict(self, hu: HuArray, boxes: NDArray[np.float32]) -> tuple[NDArray[np.float32], None]:
        return self.logits(hu, boxes), None


def test_model_without_maps_serves_all_the_same() -> None:
    """Only the pictures have less to show."""
    labels = labels_with(30)
    volume = volume_of(np.zeros(labels.shape, dtype=np.int16), SPACING_MM)
    found = classify_slices(volume, masked(labels), Mapless(), RULES)
    assert found.lesions is None
    assert found.probabilities.shape == (1, 3)


class OutOfRange(MeanHuClassifier):
    """Gives maps that are no probabilities."""

    def predict(
        self, hu: HuArray, boxes: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        return self.logits(hu, boxes), np.full((len(hu), 2, 2), 3.0, np.float32)


@pytest.mark.parametrize("classifier", [Failing(), Overconfident(), NotANumber(), OutOfRange()])
def test_model_that_gives_no_probabilities_is_a_named_failure(
    classifier: MeanHuClassifier,
) -> None:
    """Nothing is renormalised, nothing goes on."""
    labels = labels_with(30)
    volume = volume_of(np.zeros(labels.shape, dtype=np.int16), SPACING_MM)
    with pytest.raises(ModelFailure):
        classify_slices(volume, masked(labels), classifier, RULES)
