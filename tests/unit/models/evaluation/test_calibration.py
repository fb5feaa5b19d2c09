"""Calibration, temperature, and thresholds that never saw what they are reported on."""

import numpy as np
import pytest

from models.errors import DatasetInvalid
from models.evaluation.calibration import (
    cross_entropy,
    fit_temperature,
    measure_calibration,
    softmax,
)
from models.evaluation.operating_point import OperatingRule, choose_threshold, decide


def test_expected_error_equals_hand_worked() -> None:
    """Two bins: 0.9 sure and half right, 0.6 sure and all right: (2 * 0.4 + 1 * 0.4) / 3."""
    probabilities = np.array([[0.9, 0.1], [0.9, 0.1], [0.4, 0.6]])
    found = measure_calibration(np.array([0, 1, 1]), probabilities, n_bins=10)
    assert found.expected_error == pytest.approx(0.4)
    assert found.brier == pytest.approx((0.02 + 1.62 + 0.32) / 3)
    known = [one for one in found.bins if one.n_images]
    assert [(one.n_images, one.accuracy) for one in known] == [(1, 1.0), (2, 0.5)]


def test_temperature_of_overconfident_logits_is_found() -> None:
    """Logits made three times too large are divided by three."""
    rng = np.random.default_rng(0)
    logits = rng.normal(0.0, 1.5, (4000, 3))
    labels = np.array([rng.choice(3, p=row) for row in softmax(logits)])
    temperature = fit_temperature(labels, 3.0 * logits)
    assert temperature == pytest.approx(3.0, rel=0.1)
    before, after = softmax(3.0 * logits), softmax(3.0 * logits, temperature)
    assert cross_entropy(labels, after) < cross_entropy(labels, before)
    errors = [measure_calibration(labels, one).expected_error for one in (before, after)]
    assert errors[1] < 0.03
    assert errors[0] > 0.1
    with pytest.raises(DatasetInvalid, match="two classes"):
        fit_temperature(np.zeros(5, dtype=np.int64), logits[:5])


SCORES = np.array([0.95, 0.9, 0.6, 0.55, 0.3, 0.2, 0.1, 0.05])
TRUTH = np.array([True, True, True, False, True, False, False, False])


@pytest.mark.parametrize(
    ("rule", "threshold"),
    [
        # from 0.6 on: three of four found, nothing wrong; half way to 0.55
        (OperatingRule.YOUDEN, 0.575),
        (OperatingRule.ACCURACY, 0.575),
        # all four are found from 0.3 on; half way to 0.2
        (OperatingRule.SENSITIVITY_95, 0.25),
    ],
)
def test_threshold_is_best_by_its_rule(rule: OperatingRule, threshold: float) -> None:
    """The threshold lies half way to the next score, and says what it was chosen on."""
    point = choose_threshold(SCORES, TRUTH, rule, "eight images")
    assert point.threshold == pytest.approx(threshold)
    assert (point.rule, point.chosen_on, point.n_images) == (rule.value, "eight images", 8)


def test_threshold_needs_both_classes() -> None:
    """Without negatives every threshold is perfect."""
    with pytest.raises(DatasetInvalid, match="both classes"):
        choose_threshold(SCORES[:3], TRUTH[:3], OperatingRule.YOUDEN, "three images")


def test_decision_by_threshold_reaches_it() -> None:
    """What reaches the threshold is positive; without one the likeliest class wins."""
    probabilities = np.array([[0.7, 0.3], [0.69, 0.31], [0.2, 0.8]])
    assert decide(probabilities, 0.31).tolist() == [0, 1, 1]
    assert decide(probabilities, None).tolist() == [0, 0, 1]
    with pytest.raises(DatasetInvalid, match="two classes"):
        decide(np.full((1, 3), 1 / 3), 0.5)
