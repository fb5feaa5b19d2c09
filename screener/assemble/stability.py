"""Is a study stable? Pure: arrival facts, rules and ``now`` in, a verdict with its reason out.

Completeness is a belief (design 3.2): a study arrives over several associations, so the release of
one says nothing. What is left is the time since the last instance, the number that the source says
it holds, a hard cap, and a person who decides.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from screener.domain import CompletionReason, StudyState

if TYPE_CHECKING:
    from datetime import datetime


@dataclass(frozen=True, slots=True)
class SeriesArrivals:
    """What has arrived of one series."""

    series_instance_uid: str
    n_instances: int
    last_arrival_at: datetime
    modality: str = ""


@dataclass(frozen=True, slots=True)
class RequiredSeries:
    """A series without which a study is not thought complete before its long quiet time."""

    modality: str
    least_instances: int = 1

    def is_in(self, arrivals: StudyArrivals) -> bool:
        """Whether the study has such a series."""
        return any(
            series.modality == self.modality and series.n_instances >= self.least_instances
            for series in arrivals.series
        )

    def __str__(self) -> str:
        return f"{self.modality}:{self.least_instances}"


@dataclass(frozen=True, slots=True)
class StudyArrivals:
    """What has arrived of one study, and what is known about the rest."""

    study_instance_uid: str
    first_arrival_at: datetime
    series: tuple[SeriesArrivals, ...]
    n_expected_instances: int | None = None  #: as the source counts them (C-FIND), None if unknown
    is_forced: bool = False  #: a person said that it is complete

    @property
    def n_instances(self) -> int:
        """Instances of all series."""
        return sum(series.n_instances for series in self.series)

    @property
    def last_arrival_at(self) -> datetime:
        """Arrival of the newest instance."""
        return max(
            (series.last_arrival_at for series in self.series), default=self.first_arrival_at
        )


@dataclass(frozen=True, slots=True)
class CompletionRules:
    """How long to wait, in seconds.

    ``series_quiet_s`` ends the wait when the expected number is there: a source that still sends
    may still be counting. ``study_quiet_s`` ends it when nobody knows the number, or too few came.
    ``hard_cap_s`` counts from the first instance and ends it in any case. Where series are
    required, having all of them ends it early like the expected number, and lacking one forbids
    every early end.
    """

    series_quiet_s: float = 60.0
    study_quiet_s: float = 600.0
    hard_cap_s: float = 5400.0
    required_series: tuple[RequiredSeries, ...] = ()

    def __post_init__(self) -> None:
        if not 0 <= self.series_quiet_s <= self.study_quiet_s <= self.hard_cap_s:
            raise ValueError(
                "completion rules must satisfy 0 <= series_quiet_s <= study_quiet_s <= hard_cap_s, "
                f"not {self.series_quiet_s}, {self.study_quiet_s}, {self.hard_cap_s}"
            )


@dataclass(frozen=True, slots=True)
class Completion:
    """The verdict that the wait is over."""

    state: StudyState  #: verified, unverified or partial
    reason: CompletionReason
    detail: str  #: one sentence with the numbers


def judge_stability(
    arrivals: StudyArrivals, rules: CompletionRules, now: datetime
) -> Completion | None:
    """Decide whether a study is complete enough to be screened.

    Parameters
    ----------
    arrivals
        What came so far; times are aware.
    rules
        Waiting times.
    now
        The present, aware.

    Returns
    -------
    :
        None while it is right to wait, or while nothing has come.
    """
    if not arrivals.series:
        return None
    reason = _ending(arrivals, rules, now)
    if reason is None:
        return None
    return Completion(_state(arrivals, rules), reason, _describe(arrivals, rules, now))


def next_check_at(arrivals: StudyArrivals, rules: CompletionRules, now: datetime) -> float:
    """Give the seconds until the verdict can change by time alone; 0 if it is there already."""
    if judge_stability(arrivals, rules, now) is not None:
        return 0.0
    may_end_early = not _lacking(arrivals, rules) and (
        _has_expected(arrivals) or _is_told_by_series(arrivals, rules)
    )
    quiet_s = rules.series_quiet_s if may_end_early else rules.study_quiet_s
    remaining_s = min(
        quiet_s - (now - arrivals.last_arrival_at).total_seconds(),
        rules.hard_cap_s - (now - arrivals.first_arrival_at).total_seconds(),
    )
    return max(0.0, remaining_s)


def _ending(
    arrivals: StudyArrivals, rules: CompletionRules, now: datetime
) -> CompletionReason | None:
    quiet_s = (now - arrivals.last_arrival_at).total_seconds()
    if arrivals.is_forced:
        return CompletionReason.FORCED
    if quiet_s >= rules.series_quiet_s and not _lacking(arrivals, rules):
        if _has_expected(arrivals):
            return CompletionReason.EXPECTED_COUNT
        if _is_told_by_series(arrivals, rules):
            return CompletionReason.REQUIRED_SERIES
    if quiet_s >= rules.study_quiet_s:
        return CompletionReason.QUIET
    if (now - arrivals.first_arrival_at).total_seconds() >= rules.hard_cap_s:
        return CompletionReason.HARD_CAP
    return None


def _has_expected(arrivals: StudyArrivals) -> bool:
    expected = arrivals.n_expected_instances
    return expected is not None and arrivals.n_instances >= expected


def _lacking(arrivals: StudyArrivals, rules: CompletionRules) -> tuple[RequiredSeries, ...]:
    return tuple(one for one in rules.required_series if not one.is_in(arrivals))


def _is_told_by_series(arrivals: StudyArrivals, rules: CompletionRules) -> bool:
    """Nobody counts, and the site says which series make a study."""
    return arrivals.n_expected_instances is None and bool(rules.required_series)


def _state(arrivals: StudyArrivals, rules: CompletionRules) -> StudyState:
    if _lacking(arrivals, rules):
        return StudyState.PARTIAL
    if arrivals.n_expected_instances is None:
        return StudyState.UNVERIFIED
    return StudyState.VERIFIED if _has_expected(arrivals) else StudyState.PARTIAL


def _describe(arrivals: StudyArrivals, rules: CompletionRules, now: datetime) -> str:
    expected = arrivals.n_expected_instances
    of_expected = "nobody said how many to expect" if expected is None else f"{expected} expected"
    lacking = ", ".join(str(one) for one in _lacking(arrivals, rules))
    of_required = f"; required series not there: {lacking}" if lacking else ""
    quiet_s = (now - arrivals.last_arrival_at).total_seconds()
    since_first_s = (now - arrivals.first_arrival_at).total_seconds()
    return (
        f"{arrivals.n_instances} instances in {len(arrivals.series)} series, {of_expected}"
        f"{of_required}; last arrival {quiet_s:.0f} s ago, first {since_first_s:.0f} s ago"
    )
