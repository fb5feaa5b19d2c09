"""Which of two answers holds, where solid lung ends, and when a closer look is taken."""

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from models.lung_answers import (
    CLOSER_MARGIN_MM,
    SOLID_PIECE_SHARE,
    SOLID_PROBABILITY,
    Look,
    LungAnswers,
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


SPACING_MM = (6.0, 2.0, 2.0)


def look_at_nothing(look: Look) -> list[LungAnswers]:
    raise AssertionError(f"nothing is solid, but {look.rows} and {look.columns} were looked at")


def choose_answer(answers: list[LungAnswers], slice_mm: float) -> NDArray[np.bool_]:
    """Choose for slices so small that a closer look would show no less of them."""
    return choose_lungs(answers, (slice_mm, 2.0, 2.0), look_at_nothing)


def test_solid_lung_of_a_volume_is_taken_in_every_slice() -> None:
    """Slices at the edge of a consolidation show little of it, and follow the others."""
    chosen = choose_answer(answers_of([0.0, 20.0, 50.0], [100.0, 100.0, 100.0]), 5.0)
    assert chosen.shape == (3, 4, 4)
    assert chosen[:, :2].all()
    assert not chosen[:, 2:].any()


def test_what_holds_no_air_is_no_solid_lung() -> None:
    """The sinuses of a head: nobody looks closer, and each slice keeps what was chosen for it."""
    answers = answers_of(added=[90.0, 90.0, 10.0], found=[100.0, 100.0, 10.0])
    chosen = choose_answer(answers, 5.0)
    assert chosen[:, 0].all()
    assert not chosen[:, 1:].any()


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
    alone = choose_answer(solid_volume([-4.0, -4.0, -4.0, 2.0, -4.0, -4.0, -4.0]), 6.0)
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


def shown_back(logits: NDArray[np.float32], look: Look) -> list[LungAnswers]:
    """Give what a network answers to a look, from what it says of the square upright."""
    turned = logits[..., ::-1] if look.mirrored else logits
    sums = np.zeros((len(logits), 2), dtype=np.float32)
    return [two_answers(np.zeros(logits.shape, dtype=bool), turned, sums)]


def test_closer_looks_take_a_square_around_solid_lungs() -> None:
    """It reaches a margin beyond them, leaves stray pixels out, and the surer looks decide."""
    asked = []
    margin = round(CLOSER_MARGIN_MM / 2.0)

    def look_closer(look: Look) -> list[LungAnswers]:
        asked.append(look)
        n_rows, n_columns = (one.stop - one.start for one in (look.rows, look.columns))
        logits = np.full((3, n_rows, n_columns), 2.0 * UNLIKELY, dtype=np.float32)
        logits[:, :, :4] = 2.0 * SURE
        return shown_back(logits, look)

    answers = solid_square(slice(30, 60), slice(40, 80))
    chosen = choose_lungs(answers, SPACING_MM, look_closer)
    assert [(one.mirrored, one.darker_hu) for one in asked] == [(False, 0), (True, 0), (False, 40)]
    ((rows, columns),) = {
        ((one.rows.start, one.rows.stop), (one.columns.start, one.columns.stop)) for one in asked
    }
    side = 40 + 2 * margin
    assert (rows[1] - rows[0], columns[1] - columns[0]) == (side, side)
    assert rows[0] <= 30 - margin < 60 + margin <= rows[1]
    assert columns[0] <= 40 - margin < 80 + margin <= columns[1]
    expected = np.zeros((3, 100, 100), dtype=bool)
    expected[:, slice(*rows), columns[0] : columns[0] + 4] = True
    np.testing.assert_array_equal(chosen, expected)


@pytest.mark.parametrize(("denying", "stays"), [(2, True), (3, False)])
def test_looks_that_disagree_are_averaged(denying: int, stays: bool) -> None:
    """The mean of two sure yes and two sure no lies above the cut, that of one and three below."""
    n_asked = 0

    def look_closer(look: Look) -> list[LungAnswers]:
        nonlocal n_asked
        n_asked += 1
        shape = (3, look.rows.stop - look.rows.start, look.columns.stop - look.columns.start)
        found = np.full(shape, SURE if n_asked > denying else UNLIKELY, dtype=np.float32)
        return shown_back(found, look)

    square = solid_square(slice(30, 60), slice(40, 80))
    chosen = choose_lungs(square, SPACING_MM, look_closer)
    assert n_asked == 3
    assert chosen[:, 30:60, 40:80].all() == stays


def test_look_shows_the_square_mirrored_and_darker() -> None:
    """What holds air stays air, and no value wraps around."""
    images = np.array([[[-32768, -1000, 40, 300]]], dtype=np.int16)
    plain = Look(slice(0, 1), slice(1, 4))
    np.testing.assert_array_equal(plain.show(images), [[[-1000, 40, 300]]])
    np.testing.assert_array_equal(replace(plain, mirrored=True).show(images), [[[300, 40, -1000]]])
    darker = Look(slice(0, 1), slice(0, 4), darker_hu=40).show(images)
    np.testing.assert_array_equal(darker, [[[-1064, -1040, 0, 260]]])
    assert darker.dtype == np.int16


def two_lungs(solid_rows: slice, thickness: int) -> list[LungAnswers]:
    """Give two lungs of air, and in the first what only the answer with solid lung finds.

    A voxel is 3 mm wide; nine tenths of each slice hold air, so that the volume is not solid.
    """
    lung = np.zeros((40, 110, 110), dtype=bool)
    lung[5:35, 10:60, 10:40] = lung[5:35, 10:60, 50:80] = True
    with_solid = np.where(lung, SURE, UNLIKELY).astype(np.float32)
    lung[5:35, solid_rows, 20 : 20 + thickness] = False
    sums = np.tile(np.array([[10.0, 100.0]], dtype=np.float32), (40, 1))
    return [two_answers(lung, with_solid, sums)]


SAME_MM = (3.0, 3.0, 3.0)


def test_one_solid_lobe_makes_a_volume_solid() -> None:
    """Though it is little of the volume: it is looked at again, and the lobe is taken."""
    n_asked = 0
    (answers,) = two_lungs(slice(20, 45), 15)

    def look_closer(look: Look) -> list[LungAnswers]:
        nonlocal n_asked
        n_asked += 1
        part = answers.codes[:, look.rows, look.columns]
        return [LungAnswers(part[..., ::-1] if look.mirrored else part, answers.sums)]

    chosen = choose_lungs([answers], SAME_MM, look_closer)
    assert n_asked == 3
    np.testing.assert_array_equal(chosen[8:32], (answers.codes[8:32] & 127) > 64)


@pytest.mark.parametrize(("rows", "thickness"), [(slice(12, 58), 4), (slice(30, 37), 7)])
def test_thin_or_small_solid_parts_are_left_to_each_slice(rows: slice, thickness: int) -> None:
    """A layer at the diaphragm, and a piece that is no lobe, as long as little else is solid."""
    answers = two_lungs(rows, thickness)
    chosen = choose_lungs(answers, SAME_MM, look_at_nothing)
    np.testing.assert_array_equal(chosen, answers[0].codes >= 128)


def test_share_of_a_piece_is_that_of_its_lung() -> None:
    """Just above the limit of one lung, and half of that of both."""
    n_voxels = round(1.2 * SOLID_PIECE_SHARE * 30 * 50 * 30 / (30 * 15))
    answers = two_lungs(slice(20, 20 + n_voxels), 15)
    with pytest.raises(AssertionError, match="were looked at"):
        choose_lungs(answers, SAME_MM, look_at_nothing)


def test_lungs_that_fill_the_slice_need_no_closer_look() -> None:
    """Nothing would be larger on the grid of the network."""
    answers = solid_square(slice(10, 90), slice(10, 95))
    chosen = choose_lungs(answers, SPACING_MM, look_at_nothing)
    np.testing.assert_array_equal(chosen, choose_answer(answers, 6.0))


def test_solid_volume_without_any_lung_stays_empty() -> None:
    """Sums may be of probabilities that are all below the cut."""
    chosen = choose_lungs(solid_volume([-4.0] * 3), SPACING_MM, look_at_nothing)
    assert not chosen.any()
