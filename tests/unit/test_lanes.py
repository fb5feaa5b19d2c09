"""Batches in lanes: in order, really at the same time, and ended by the first error."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest

from screener.errors import ModelFailure
from screener.lanes import in_lanes

if TYPE_CHECKING:
    from collections.abc import Iterator

#: Longest wait for another thread, in seconds.
PATIENCE_S = 60.0


def test_two_lanes_work_at_the_same_time_and_keep_the_order() -> None:
    """Each call meets another one before it ends; with one lane they would wait for ever."""
    meeting = threading.Barrier(2)

    def call(number: int) -> int:
        meeting.wait(PATIENCE_S)
        return number * number

    assert in_lanes(call, range(6), 2) == [0, 1, 4, 9, 16, 25]


def test_one_lane_takes_an_item_when_the_last_is_done() -> None:
    """Without lanes nothing is taken ahead."""
    taken: list[int] = []

    def items() -> Iterator[int]:
        for number in range(3):
            taken.append(number)
            yield number

    assert in_lanes(lambda number: (number, len(taken)), items(), 1) == [(0, 1), (1, 2), (2, 3)]


@pytest.mark.parametrize("n_lanes", [1, 2])
def test_first_error_ends_it(n_lanes: int) -> None:
    """An error of a call, or of whatever gives the items, comes out as it is."""

    def fail(number: int) -> int:
        if number == 1:
            raise ModelFailure("broken")
        return number

    def items() -> Iterator[int]:
        yield 0
        raise ModelFailure("no more")

    with pytest.raises(ModelFailure, match="broken"):
        in_lanes(fail, range(100), n_lanes)
    with pytest.raises(ModelFailure, match="no more"):
        in_lanes(fail, items(), n_lanes)
