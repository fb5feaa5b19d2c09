"""Figures against hand-worked values and scikit-learn; intervals that know patients."""

import numpy as np
import pytest
from sklearn import metrics

from models.errors import DatasetInvalid
from models.evaluation.bootstrap import (
    Resampling,
    ResamplingUnit,
    choose_resampling,
    draw_weights,
    mean_interval,
)
from models.evaluation.classification import (
    Decided,
    area_under_curve,
    measure_classification,
    resample_figures,
)

BY_IMAGE = Resampling(ResamplingUnit.IMAGE, 4, 200, 0)


def decided_of(
    labels: list[int], scores: list[list[float]], patients: list[str] | None = None
) -> Decided:
    table = np.array(scores, dtype=np.float64)
    return Decided(
        classes=("no", "yes", "other")[: table.shape[1]],
        labels=np.array(labels, dtype=np.int64),
        probabilities=table,
        decisions=table.argmax(axis=1).astype(np.int64),
        patients=tuple(patients or [str(n) for n in range(len(labels))]),
    )


def random_decided(n: int = 90, seed: int = 3) -> Decided:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 3, n)
    table = rng.dirichlet(np.ones(3), n) + 0.4 * np.eye(3)[labels]
    table = np.round(table / table.sum(axis=1, keepdims=True), 2)  # ties
    table[:, 0] += 1.0 - table.sum(axis=1)
    return decided_of(labels.tolist(), table.tolist(), [f"p{k // 5}" for k in range(n)])


def test_figures_of_four_images_equal_hand_worked() -> None:
    """Of two positives one is found; of two negatives one is called positive."""
    one = decided_of([1, 1, 0, 0], [[0.2, 0.8], [0.6, 0.4], [0.3, 0.7], [0.9, 0.1]])
    figures = measure_classification(one, BY_IMAGE)
    yes = figures.classes[1]
    counts = (yes.true_positive, yes.false_positive, yes.true_negative, yes.false_negative)
    assert counts == (1, 1, 1, 1)
    assert figures.confusion == ((1, 1), (1, 1))
    for name in ("precision", "recall", "f1", "specificity"):
        assert getattr(yes, name).value == pytest.approx(0.5)
    # pairs: 0.8 above 0.7 and 0.1, 0.4 above 0.1: three of four
    assert yes.auc.value == pytest.approx(0.75)
    assert figures.accuracy.value == pytest.approx(0.5)


def test_resampled_figures_equal_scikit_learn_on_repeated_images() -> None:
    """Counting an image twice is the same as having it twice, for every figure."""
    one = random_decided()
    weights = np.random.default_rng(8).integers(0, 3, (4, len(one.labels))).astype(np.float64)
    resampled = resample_figures(one, weights)
    for row, times in enumerate(weights.astype(int)):
        repeated = np.repeat(np.arange(len(times)), times)
        labels, said = one.labels[repeated], one.decisions[repeated]
        expected = metrics.precision_recall_fscore_support(labels, said, zero_division=0)
        assert resampled["precision"][row] == pytest.approx(expected[0])
        assert resampled["recall"][row] == pytest.approx(expected[1])
        assert resampled["f1"][row] == pytest.approx(expected[2])
        assert resampled["accuracy"][row, 0] == pytest.approx((labels == said).mean())
        for number in range(3):
            auc = metrics.roc_auc_score(labels == number, one.probabilities[repeated, number])
            assert resampled["auc"][row, number] == pytest.approx(auc)
            negative = labels != number
            specificity = (said[negative] != number).mean()
            assert resampled["specificity"][row, number] == pytest.approx(specificity)


def test_macro_figures_equal_scikit_learn() -> None:
    """Over all classes: the mean over the classes, one against the rest."""
    one = random_decided()
    figures = measure_classification(one, choose_resampling(one.patients, are_patients_known=True))
    assert figures.f1.value == pytest.approx(
        metrics.f1_score(one.labels, one.decisions, average="macro")
    )
    assert figures.auc.value == pytest.approx(
        metrics.roc_auc_score(one.labels, one.probabilities, multi_class="ovr", average="macro")
    )
    for interval in (figures.accuracy, figures.auc, *(one.recall for one in figures.classes)):
        assert interval.lower <= interval.value <= interval.upper
        assert interval.lower < interval.upper


def test_interval_by_patient_is_wider_where_images_of_a_patient_agree() -> None:
    """Ten patients of twenty equal images are ten observations, not two hundred."""
    labels, scores, patients = [], [], []
    for patient in range(10):
        is_right = patient < 7
        labels += [patient % 2] * 20
        score = [0.9, 0.1] if (patient % 2 == 0) is is_right else [0.1, 0.9]
        scores += [score] * 20
        patients += [f"p{patient}"] * 20
    one = decided_of(labels, scores, patients)
    by_patient = choose_resampling(one.patients, are_patients_known=True)
    by_image = choose_resampling(one.patients, are_patients_known=False)
    assert (by_patient.unit, by_patient.n_units) == (ResamplingUnit.PATIENT, 10)
    assert (by_image.unit, by_image.n_units) == (ResamplingUnit.IMAGE, 200)
    widths = []
    for how in (by_patient, by_image):
        accuracy = measure_classification(one, how).accuracy
        assert accuracy.value == pytest.approx(0.7)
        widths.append(accuracy.upper - accuracy.lower)
    # by theory sqrt(20) = 4.5 times as wide
    assert widths[0] > 3.0 * widths[1]


def test_one_patient_is_resampled_by_image() -> None:
    """There is nobody else to draw; the result says what was drawn."""
    how = choose_resampling(["a"] * 5, are_patients_known=True)
    assert (how.unit, how.n_units) == (ResamplingUnit.IMAGE, 5)
    weights = draw_weights(["a"] * 5, how)
    assert weights.sum(axis=1).tolist() == [5.0] * how.n_resamples


def test_images_of_a_drawn_patient_come_together() -> None:
    """All images of a patient count equally often in every resample."""
    patients = ["a", "b", "a", "c", "b"]
    weights = draw_weights(patients, choose_resampling(patients, are_patients_known=True))
    assert np.array_equal(weights[:, 0], weights[:, 2])
    assert np.array_equal(weights[:, 1], weights[:, 4])
    assert not np.array_equal(weights[:, 0], weights[:, 1])


def test_absent_class_has_no_figures_and_does_not_count() -> None:
    """A class without images cannot be missed; the mean is over the others."""
    one = decided_of([0, 1, 0], [[0.8, 0.1, 0.1], [0.1, 0.8, 0.1], [0.2, 0.1, 0.7]])
    figures = measure_classification(one, Resampling(ResamplingUnit.IMAGE, 3, 100, 0))
    assert np.isnan(figures.classes[2].recall.value)
    assert np.isnan(figures.classes[2].auc.value)
    assert figures.recall.value == pytest.approx(0.75)
    assert figures.classes[2].false_positive == 1


def test_area_under_curve_counts_ties_one_half() -> None:
    """Pairs: 0.9 above both, 0.4 above one and level with one: 3.5 of 4."""
    scores = np.array([0.9, 0.4, 0.4, 0.1])
    assert area_under_curve(scores, np.array([True, True, False, False])) == pytest.approx(3.5 / 4)
    with pytest.raises(DatasetInvalid, match="both classes"):
        area_under_curve(scores, np.ones(4, dtype=bool))


def test_probabilities_that_are_none_are_refused() -> None:
    """Logits handed in by mistake are noticed."""
    with pytest.raises(DatasetInvalid, match="sum to 1"):
        decided_of([0, 1], [[2.0, -0.5], [0.5, 0.5]])
    with pytest.raises(DatasetInvalid, match="none of the 2 classes"):
        decided_of([0, 2], [[0.5, 0.5], [0.5, 0.5]])


def test_mean_interval_of_equal_patients_has_no_width() -> None:
    """Where patients agree there is nothing to be uncertain of."""
    same = mean_interval([0.9, 0.9, 0.9])
    assert (same.lower, same.upper) == pytest.approx((0.9, 0.9))
    other = mean_interval([0.5, 0.9, 0.7, 0.8])
    assert 0.5 <= other.lower < 0.725 < other.upper <= 0.9
