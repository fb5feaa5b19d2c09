"""Which of two answers holds, where solid lung ends, and when a closer look is taken."""

import numpy as np
import pytest

from models.lung_answers import (
    CLOSER_MARGIN_MM,
    SOLID_PROBABILITY,
    LungAnswers,
    choose_answer,
    choose_lungs,
    one_answer,
    two_answers,
)

SURE, UNLIKELY = 5.0, -5.0
#: Sums of a slice in which nothing is solid.
NOTHING = np.array([[0.0, 100.0]], dtype=np.float32)


def answers_of(added: list[float], found: list[float]) -> list[LungAnswers]:
    """Give one batch per slice: row 0 is lung, row 1 only the answer with solid lung finds."""
    lung = np.zeros((1, 4, 4), dtype=bool)
    lung[:, 0] = True
    with_solid = np.full((1, 4, 4), UNLIKELY, dtype=np.float32)
    with_solid[:, :2] = SURE
    sums = np.array([added, found], dtype=np.float32).T
    return [two_answers(lung, with_solid, one[np.newaxis]) for one in sums]


def test_solid_lung_of_a_volume_is_taken_in_every_slice() -> None:
    """Slices at the edge of a consolidation show little of it, and follow the others."""
    chosen = choose_answer(answers_of([0.0, 20.0, 50.0], [100.0, 100.0, 100.0]), 5.0)
    assert chosen.shape == (3, 4, 4)
    assert chosen[:, :2].all()
    assert not chosen[:, 2:].any()


def test_little_solid_lung_in_a_volume_is_left_to_each_slice() -> None:
    """A fifth must be exceeded; below, heart and liver would be taken for lung."""
    chosen = choose_answer(answers_of([0.0, 10.0, 40.0], [100.0, 100.0, 100.0]), 5.0)
    assert chosen[:, 0].all()
    assert not chosen[:, 1:].any()


def test_network_with_one_answer_keeps_it() -> None:
    """Also where it finds nothing at all."""
    mask = np.zeros((2, 4, 4), dtype=bool)
    assert not choose_answer([one_answer(mask)], 5.0).any()
    mask[1, 2] = True
    np.testing.assert_array_equal(choose_answer([one_answer(mask)], 5.0), mask)


def solid_volume(logits: list[float], rows: int = 4) -> list[LungAnswers]:
    """Give slices of one logit each in a volume whose lungs are mostly solid."""
    solid = np.tile(np.array(logits, dtype=np.float32)[:, np.newaxis, np.newaxis], (1, rows, 3))
    sums = np.tile(np.array([[50.0, 100.0]], dtype=np.float32), (len(logits), 1))
    return [two_answers(np.zeros(solid.shape, dtype=bool), solid, sums)]


def test_solid_slice_that_the_network_missed_follows_its_neighbours() -> None:
    """And a slice that it alone calls solid does not stay."""
    missed = choose_answer(solid_volume([3.0, 3.0, 3.0, -2.0, 3.0, 3.0, 3.0]), 6.0)
    assert missed.all()
    alone = choose_answer(solid_volume([-3.0, -3.0, -3.0, 2.0, -3.0, -3.0, -3.0]), 6.0)
    assert not alone.any()


def test_average_over_slices_has_a_length_and_no_number_of_slices() -> None:
    """Thick slices stand for themselves; of thin ones a whole run is closed."""
    one_of_seven = [3.0, 3.0, 3.0, -2.0, 3.0, 3.0, 3.0]
    thick = choose_answer(solid_volume(one_of_seven), 30.0)
    np.testing.assert_array_equal(thick[:, 0, 0], np.array(one_of_seven) > 0)
    thin = [logit for logit in one_of_seven for _ in range(6)]
    assert choose_answer(solid_volume(thin), 1.0).all()


@pytest.mark.parametrize("logit", [-40.0, -1.0, -0.75, 0.0, 0.25, 40.0])
def test_answer_with_solid_lung_is_cut_at_its_probability(logit: float) -> None:
    """Logits beyond the seven bits stay what they are, and never touch the other answer."""
    expected = 1.0 / (1.0 + np.exp(-logit)) > SOLID_PROBABILITY
    chosen = choose_answer(solid_volume([logit] * 3, rows=70), 5.0)
    assert chosen.all() if expected else not chosen.any()
    kept = two_answers(
        np.ones((1, 2, 2), dtype=bool), np.full((1, 2, 2), logit, np.float32), NOTHING
    )
    assert choose_answer([kept], 5.0).all()


SPACING_MM = (6.0, 2.0, 2.0)


def look_at_nothing(rows: slice, columns: slice) -> list[LungAnswers]:
    raise AssertionError(f"nothing is solid, but {rows} and {columns} were looked at")


def test_lungs_that_hold_air_are_looked_at_once() -> None:
    """The closer look costs time, and gains nothing there."""
    answers = answers_of([0.0, 10.0, 10.0], [100.0, 100.0, 100.0])
    chosen = choose_lungs(answers, SPACING_MM, look_at_nothing)
    np.testing.assert_array_equal(chosen, choose_answer(answers, 6.0))


def solid_square(rows: slice, columns: slice, size: int = 100) -> list[LungAnswers]:
    """Give three slices with solid lung in a rectangle, and a stray pixel in a corner."""
    logits = np.full((3, size, size), UNLIKELY, dtype=np.float32)
    logits[:, rows, columns] = SURE
    logits[1, -1, -1] = SURE
    sums = np.array([[50.0, 100.0]] * 3, dtype=np.float32)
    return [two_answers(np.zeros(logits.shape, dtype=bool), logits, sums)]


def test_closer_look_takes_a_square_around_solid_lungs() -> None:
    """It reaches a margin beyond them, leaves stray pixels out, and the surer look decides."""
    asked = []
    margin = round(CLOSER_MARGIN_MM / 2.0)

    def look_closer(rows: slice, columns: slice) -> list[LungAnswers]:
        asked.append((rows, columns))
        n_rows, n_columns = rows.stop - rows.start, columns.stop - columns.start
        logits = np.full((3, n_rows, n_columns), UNLIKELY, dtype=np.float32)
        # Surer than the first look, in what it denies and in what it finds.
        logits[:] = 2.0 * UNLIKELY
        logits[:, :, :4] = 2.0 * SURE
        sums = np.zeros((3, 2), dtype=np.float32)
        return [two_answers(np.zeros(logits.shape, dtype=bool), logits, sums)]

    answers = solid_square(slice(30, 60), slice(40, 80))
    chosen = choose_lungs(answers, SPACING_MM, look_closer)
    ((rows, columns),) = asked
    side = 40 + 2 * margin
    assert (rows.stop - rows.start, columns.stop - columns.start) == (side, side)
    assert rows.start <= 30 - margin < 60 + margin <= rows.stop
    assert columns.start <= 40 - margin < 80 + margin <= columns.stop
    expected = np.zeros((3, 100, 100), dtype=bool)
    expected[:, rows, columns.start : columns.start + 4] = True
    np.testing.assert_array_equal(chosen, expected)


def test_two_looks_that_disagree_alike_leave_lung() -> None:
    """The mean of a sure yes and a sure no lies above the cut."""

    def look_closer(rows: slice, columns: slice) -> list[LungAnswers]:
        shape = (3, rows.stop - rows.start, columns.stop - columns.start)
        logits = np.full(shape, UNLIKELY, dtype=np.float32)
        sums = np.zeros((3, 2), dtype=np.float32)
        return [two_answers(np.zeros(shape, dtype=bool), logits, sums)]

    chosen = choose_lungs(solid_square(slice(30, 60), slice(40, 80)), SPACING_MM, look_closer)
    assert chosen[:, 30:60, 40:80].all()
    assert np.count_nonzero(chosen) == 3 * 30 * 40


def test_lungs_that_fill_the_slice_need_no_closer_look() -> None:
    """Nothing would be larger on the grid of the network."""
    answers = solid_square(slice(10, 90), slice(10, 95))
    chosen = choose_lungs(answers, SPACING_MM, look_at_nothing)
    np.testing.assert_array_equal(chosen, choose_answer(answers, 6.0))


def test_solid_volume_without_any_lung_stays_empty() -> None:
    """Sums may be of probabilities that are all below the cut."""
    chosen = choose_lungs(solid_volume([-4.0] * 3), SPACING_MM, look_at_nothing)
    assert not chosen.any()
