"""When is a study complete? A story told with a clock that is moved by hand."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from screener.assemble.stability import (
    CompletionRules,
    SeriesArrivals,
    StudyArrivals,
    judge_stability,
    next_check_at,
)
from screener.domain import CompletionReason, StudyState

START = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
RULES = CompletionRules(series_quiet_s=60, study_quiet_s=600, hard_cap_s=5400)


def after(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def arrivals(
    n: int = 10, last_s: float = 0.0, expected: int | None = None, *, forced: bool = False
) -> StudyArrivals:
    series = (SeriesArrivals("1.1", n - 1, START), SeriesArrivals("1.2", 1, after(last_s)))
    return StudyArrivals("1", START, series, expected, forced)


def test_study_still_arriving_is_not_complete() -> None:
    """Quiet for less than the study's quiet time, nobody knows how many to expect: wait."""
    assert judge_stability(arrivals(), RULES, after(599.9)) is None


def test_study_quiet_without_expected_count_is_unverified() -> None:
    """Quiet time alone completes a study, but nobody vouches for it."""
    completion = judge_stability(arrivals(), RULES, after(600))
    assert completion is not None
    assert completion.state is StudyState.UNVERIFIED
    assert completion.reason is CompletionReason.QUIET
    assert "10 instances in 2 series" in completion.detail


def test_expected_count_ends_the_wait_after_series_quiet_time() -> None:
    """All expected instances are there: a minute of silence is enough."""
    study = arrivals(n=10, expected=10)
    assert judge_stability(study, RULES, after(59)) is None
    completion = judge_stability(study, RULES, after(60))
    assert completion is not None
    assert (completion.state, completion.reason) == (
        StudyState.VERIFIED,
        CompletionReason.EXPECTED_COUNT,
    )


def test_fewer_than_expected_waits_and_then_is_partial() -> None:
    """A lost slice does not hold the study up for ever, and is not hidden."""
    study = arrivals(n=10, expected=11)
    assert judge_stability(study, RULES, after(60)) is None
    completion = judge_stability(study, RULES, after(600))
    assert completion is not None
    assert completion.state is StudyState.PARTIAL
    assert "11 expected" in completion.detail


def test_trickling_study_ends_at_the_hard_cap() -> None:
    """One instance every few minutes: the cap counts from the first."""
    study = arrivals(last_s=5390)
    assert judge_stability(study, RULES, after(5399)) is None
    completion = judge_stability(study, RULES, after(5400))
    assert completion is not None
    assert completion.reason is CompletionReason.HARD_CAP


def test_forced_study_is_complete_at_once() -> None:
    """A person may decide; the state still says what is known about the number."""
    completion = judge_stability(arrivals(expected=99, forced=True), RULES, START)
    assert completion is not None
    assert (completion.state, completion.reason) == (StudyState.PARTIAL, CompletionReason.FORCED)


def test_study_without_instances_is_never_complete() -> None:
    """Nothing arrived, nothing to screen, however long ago."""
    assert judge_stability(StudyArrivals("1", START, ()), RULES, after(1e6)) is None


def test_rules_in_the_wrong_order_are_refused() -> None:
    """A study quiet time below the series quiet time contradicts itself."""
    with pytest.raises(ValueError, match="series_quiet_s <= study_quiet_s"):
        CompletionRules(series_quiet_s=60, study_quiet_s=10, hard_cap_s=100)


@given(
    last_s=st.floats(0, 6000),
    now_s=st.floats(0, 7000),
    expected=st.none() | st.integers(1, 20),
)
def test_verdict_changes_exactly_when_announced(
    last_s: float, now_s: float, expected: int | None
) -> None:
    """Waiting as long as announced gives a verdict, unless something new arrives."""
    study, now = arrivals(last_s=last_s, expected=expected), after(max(now_s, last_s))
    wait_s = next_check_at(study, RULES, now)
    assert judge_stability(study, RULES, now + timedelta(seconds=wait_s + 1e-3)) is not None
    assert (wait_s == 0.0) == (judge_stability(study, RULES, now) is not None)
