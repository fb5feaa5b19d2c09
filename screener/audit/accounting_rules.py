"""What must hold for every row, and the question that finds the rows for which it does not."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Any

from sqlalchemy import BigInteger, String, cast, exists, func, or_, select

from screener.audit.deliveries import ARRIVED
from screener.audit.events import EventKind
from screener.audit.tables import (
    Delivery,
    DeliveryObject,
    Event,
    Instance,
    ResultObjectRow,
    Run,
    Series,
    Study,
)
from screener.audit.tolerant_types import LAST_NUMBER, is_unreadable
from screener.domain import DeliveryState, ResultKind, RunState, StudyState

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import datetime

    from sqlalchemy import ColumnElement, Select

_WITH_REPORT = (RunState.REPORTED, RunState.DELIVERED, RunState.CONFIRMED)
_WITHOUT_REPORT = (RunState.QUEUED, RunState.RUNNING, RunState.FAILED)


class AccountingRule(StrEnum):
    """What must hold for every row."""

    STATE_IS_KNOWN = "a study, run or delivery is in a state that exists"
    VALUE_IS_READABLE = "every word, number and time of a row is one"
    COUNT_IS_POSSIBLE = "attempts are counted from 0 and forgiven ones are among them"
    STATE_WAS_TOLD = "the trail tells of the state that a run or delivery has come to"
    INSTANCE_HAS_GENERATION = "an instance belongs to a generation of its study"
    STUDY_HAS_INSTANCES = "a study that is still received has instances"
    SERIES_IS_WHOLE = "a series has as many instances as were counted when they came"
    COMPLETION_HAS_REASON = "a completed generation says when and why"
    GENERATION_HAS_RUN = "every completed generation has a run"
    RUN_HAS_INPUTS = "a run still has the instances that it was made for"
    LEASE_IS_LIVE = "a running run is held by a live lease"
    SENDING_IS_LIVE = "a delivery under way is held by a live lease"
    ONE_REPORT = "a reported run has exactly one structured report"
    FAILURE_HAS_REASON = "a failed run says why"
    SUPERSEDED_BY_RUN = "a superseded run names the run that replaced it"
    EVERY_DESTINATION = "a reported run has a delivery for each destination it was reported for"
    DELIVERY_HAS_OBJECTS = "a delivery has objects, all of them of its own run"
    ROLLED_UP = "a run is delivered or confirmed exactly when its destinations are"
    ARRIVAL_HAS_TIME = "a sent or confirmed delivery says since when"
    DEATH_HAS_REASON = "a dead delivery says why"
    ROW_HAS_FILE = "an instance or a result that was not purged lies whole in its file"
    FILE_HAS_ROW = "a file of the spool has its row"


def broken_rows(
    late_at: datetime, dialect: str, shards: Sequence[str] | None = None
) -> dict[AccountingRule, Select[Any]]:
    """Give for each rule the ids of the rows that break it; rules about files are elsewhere.

    Parameters
    ----------
    late_at
        A lease that expired before this should have been taken back.
    dialect
        Of the database: SQLite keeps any value in any column.
    shards
        Compare with the trail only runs whose id begins so; None compares all.
    """
    return {
        AccountingRule.STATE_IS_KNOWN: _unknown_states(),
        AccountingRule.VALUE_IS_READABLE: _unreadable_rows(dialect),
        AccountingRule.COUNT_IS_POSSIBLE: _impossible_counts(),
        AccountingRule.STATE_WAS_TOLD: _untold_states(shards),
        AccountingRule.INSTANCE_HAS_GENERATION: _lost_instances(),
        # It would wait for ever: quiet time is counted from the last instance that came.
        AccountingRule.STUDY_HAS_INSTANCES: select(Study.study_instance_uid).where(
            Study.state == StudyState.RECEIVING,
            ~exists().where(Instance.study_instance_uid == Study.study_instance_uid),
        ),
        AccountingRule.SERIES_IS_WHOLE: _thinned_series(),
        AccountingRule.COMPLETION_HAS_REASON: select(Study.study_instance_uid).where(
            _is_not(Study.state, [StudyState.RECEIVING]),
            Study.completed_at.is_(None) | Study.completion_reason.is_(None),
        ),
        AccountingRule.GENERATION_HAS_RUN: _forgotten_studies(),
        AccountingRule.RUN_HAS_INPUTS: _thinned_runs(),
        AccountingRule.LEASE_IS_LIVE: select(Run.run_id).where(
            Run.state == RunState.RUNNING,
            Run.lease_expires_at.is_(None) | (Run.lease_expires_at <= late_at),
        ),
        AccountingRule.SENDING_IS_LIVE: select(Delivery.delivery_id).where(
            Delivery.state == DeliveryState.SENDING,
            Delivery.lease_expires_at.is_(None) | (Delivery.lease_expires_at <= late_at),
        ),
        AccountingRule.ONE_REPORT: _badly_reported(),
        AccountingRule.FAILURE_HAS_REASON: select(Run.run_id).where(
            Run.state == RunState.FAILED, Run.last_error.is_(None)
        ),
        AccountingRule.SUPERSEDED_BY_RUN: select(Run.run_id).where(
            Run.state == RunState.SUPERSEDED, Run.superseded_by_run_id.is_(None)
        ),
        AccountingRule.EVERY_DESTINATION: select(Run.run_id).where(
            Run.n_deliveries.is_not(None), Run.n_deliveries != _n_deliveries()
        ),
        AccountingRule.DELIVERY_HAS_OBJECTS: _empty_deliveries(),
        AccountingRule.ROLLED_UP: _badly_rolled_up(),
        AccountingRule.ARRIVAL_HAS_TIME: select(Delivery.delivery_id).where(
            (Delivery.state.in_(ARRIVED) & Delivery.sent_at.is_(None))
            | ((Delivery.state == DeliveryState.CONFIRMED) & Delivery.confirmed_at.is_(None))
        ),
        AccountingRule.DEATH_HAS_REASON: select(Delivery.delivery_id).where(
            Delivery.state == DeliveryState.DEAD, Delivery.last_detail.is_(None)
        ),
    }


def _is_not(column: Any, states: Iterable[StrEnum]) -> ColumnElement[bool]:
    """Compare as text: a state that nobody knows must not stop the question."""
    return cast(column, String).not_in([state.value for state in states])


def _unknown_states() -> Select[Any]:
    studies = select(Study.study_instance_uid).where(_is_not(Study.state, StudyState))
    runs = select(Run.run_id).where(_is_not(Run.state, RunState))
    deliveries = select(Delivery.delivery_id).where(_is_not(Delivery.state, DeliveryState))
    return select(studies.union_all(runs, deliveries).subquery().c[0])


#: States of their own rule.
_STATES = (Study.state, Run.state, Delivery.state)


def _unreadable_rows(dialect: str) -> Select[Any]:
    found = []
    for table in (Study, Series, Instance, Run, ResultObjectRow, Delivery):
        key = next(iter(table.__table__.primary_key))
        columns = [getattr(table, column.key) for column in table.__table__.columns]
        judged = [one for one in columns if not any(one is state for state in _STATES)]
        is_broken = or_(*(is_unreadable(one, dialect) for one in judged))
        found.append(select(cast(key, String)).where(is_broken))
    return select(found[0].union_all(*found[1:]).subquery().c[0])


def _impossible_counts() -> Select[Any]:
    runs = select(Run.run_id).where(
        (Run.attempts_forgiven < 0)
        | (Run.attempts_forgiven > Run.attempt)
        | (Run.attempt == LAST_NUMBER)
    )
    deliveries = select(Delivery.delivery_id).where(
        or_(
            *(
                (count < 0) | (count == LAST_NUMBER)
                for count in (Delivery.attempt, Delivery.n_failures, Delivery.n_denials)
            )
        )
    )
    return select(runs.union_all(deliveries).subquery().c[0])


#: What the trail must hold once a row has come to a state.
_TOLD_OF_RUN = (
    ((RunState.REPORTED, RunState.DELIVERED, RunState.CONFIRMED), EventKind.RUN_REPORTED),
    ((RunState.FAILED,), EventKind.RUN_FAILED),
    ((RunState.SUPERSEDED,), EventKind.RUN_SUPERSEDED),
)
_TOLD_OF_DELIVERY = (
    ((DeliveryState.SENT, DeliveryState.CONFIRMED), EventKind.DELIVERY_SENT),
    ((DeliveryState.CONFIRMED,), EventKind.DELIVERY_CONFIRMED),
    ((DeliveryState.DEAD,), EventKind.DELIVERY_DIED),
)


def _untold_states(shards: Sequence[str] | None) -> Select[Any]:
    def is_untold(table: Any, told: Any) -> ColumnElement[bool]:
        return or_(
            *(
                table.state.in_(states)
                & ~exists().where(
                    # by the study: the trail has an index for it
                    Event.study_instance_uid == table.study_instance_uid,
                    Event.run_id == table.run_id,
                    Event.kind == kind,
                )
                for states, kind in told
            )
        )

    runs = select(Run.run_id).where(is_untold(Run, _TOLD_OF_RUN))
    deliveries = select(Delivery.delivery_id).where(is_untold(Delivery, _TOLD_OF_DELIVERY))
    if shards is not None:
        runs = runs.where(func.substr(Run.run_id, 1, 2).in_(shards))
        deliveries = deliveries.where(func.substr(Delivery.run_id, 1, 2).in_(shards))
    return select(runs.union_all(deliveries).subquery().c[0])


def _lost_instances() -> Select[Any]:
    return (
        select(Instance.instance_id)
        .join(Study, Study.study_instance_uid == Instance.study_instance_uid, isouter=True)
        .where(
            Instance.is_own_result.is_(False),
            Study.generation.is_(None)
            | (Instance.generation < 1)
            | (Instance.generation > cast(Study.generation, BigInteger) + 1),
        )
    )


def _thinned_series() -> Select[Any]:
    n_rows = (
        select(func.count())
        .select_from(Instance)
        .where(
            Instance.study_instance_uid == Series.study_instance_uid,
            Instance.series_instance_uid == Series.series_instance_uid,
            Instance.is_own_result.is_(False),
        )
        .correlate(Series)
        .scalar_subquery()
    )
    return select(Series.series_instance_uid).where(Series.n_instances != n_rows)


def _forgotten_studies() -> Select[Any]:
    n_with_run = (
        select(func.count(func.distinct(Run.generation)))
        .where(Run.study_instance_uid == Study.study_instance_uid)
        .correlate(Study)
        .scalar_subquery()
    )
    is_open = Study.state == StudyState.RECEIVING
    return select(Study.study_instance_uid).where(
        or_(
            is_open & (Study.generation > 1) & (n_with_run + 1 < Study.generation),
            ~is_open & (n_with_run < Study.generation),
        )
    )


def _thinned_runs() -> Select[Any]:
    # Instances that were quarantined since then count: they were there.
    n_rows = (
        select(func.count())
        .select_from(Instance)
        .where(
            Instance.study_instance_uid == Run.study_instance_uid,
            Instance.generation.between(1, Run.generation),
            Instance.is_own_result.is_(False),
        )
        .correlate(Run)
        .scalar_subquery()
    )
    return select(Run.run_id).where(n_rows < Run.n_instances)


def _badly_reported() -> Select[Any]:
    n_reports = (
        select(func.count())
        .select_from(ResultObjectRow)
        .where(
            ResultObjectRow.run_id == Run.run_id,
            ResultObjectRow.kind == ResultKind.STRUCTURED_REPORT,
            ResultObjectRow.variant_of.is_(None),
        )
        .correlate(Run)
        .scalar_subquery()
    )
    was_reported = Run.state.in_(_WITH_REPORT) | (
        (Run.state == RunState.SUPERSEDED) & Run.pipeline.is_not(None)
    )
    return select(Run.run_id).where(
        (was_reported & (n_reports != 1)) | (Run.state.in_(_WITHOUT_REPORT) & (n_reports != 0))
    )


def _n_deliveries() -> Any:
    return (
        select(func.count())
        .select_from(Delivery)
        .where(Delivery.run_id == Run.run_id)
        .correlate(Run)
        .scalar_subquery()
    )


def _empty_deliveries() -> Select[Any]:
    has_objects = exists().where(DeliveryObject.delivery_id == Delivery.delivery_id)
    has_strangers = exists().where(
        DeliveryObject.delivery_id == Delivery.delivery_id,
        ResultObjectRow.sop_instance_uid == DeliveryObject.sop_instance_uid,
        ResultObjectRow.run_id != Delivery.run_id,
    )
    has_run = exists().where(Run.run_id == Delivery.run_id)
    return select(Delivery.delivery_id).where(~has_objects | has_strangers | ~has_run)


def _badly_rolled_up() -> Select[Any]:
    def some(*states: DeliveryState) -> Any:
        return exists().where(Delivery.run_id == Run.run_id, Delivery.state.in_(states))

    outside = [state for state in DeliveryState if state not in ARRIVED]
    unconfirmed = [state for state in DeliveryState if state is not DeliveryState.CONFIRMED]
    any_at_all = some(*DeliveryState)
    return select(Run.run_id).where(
        ((Run.state == RunState.CONFIRMED) & some(*unconfirmed))
        | ((Run.state == RunState.DELIVERED) & some(*outside))
        | ((Run.state == RunState.REPORTED) & any_at_all & ~some(*outside))
        | ((Run.state == RunState.DELIVERED) & ~some(*unconfirmed))
    )
