"""Retention by rule: which files may go, and the rows and events that say that they went.

Rows stay for ever; only files go. Nothing that a destination has not answered for is ever purged,
whatever its age: the conditions look at the newest run and at each of its deliveries.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import ColumnElement, func, literal, select
from sqlalchemy.orm import aliased

from screener.audit.events import EventKind, JsonValue, append_event
from screener.audit.inputs import lock_study
from screener.audit.tables import Delivery, Instance, ResultObjectRow, Run, Study
from screener.domain import DeliveryState, RunState, StudyState

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime

    from sqlalchemy import Select
    from sqlalchemy.orm import Session

    from screener.audit.database import Database

_ENDED = (RunState.CONFIRMED, RunState.SUPERSEDED)
_UNCONFIRMED = [state for state in DeliveryState if state is not DeliveryState.CONFIRMED]


class PurgeRule(StrEnum):
    """Why a file may go."""

    CONFIRMED = "confirmed"  #: every destination answers for the newest report of the study
    OWN_RESULT = "own-result"  #: a result of ours that came back
    QUARANTINE = "quarantine"  #: kept for people to look at, for so long
    RESULTS = "results"  #: every destination answers for the results of the run


@dataclass(frozen=True, slots=True)
class RetentionRules:
    """For how many days files stay; None keeps them for ever."""

    spool_days: float | None
    quarantine_days: float | None
    results_days: float | None


@dataclass(frozen=True, slots=True)
class PurgeItem:
    """What one rule lets go of one study."""

    rule: PurgeRule
    study_instance_uid: str
    n_files: int
    n_bytes: int


def plan_purge(database: Database, rules: RetentionRules, now: datetime) -> tuple[PurgeItem, ...]:
    """Say what the rules let go now; nothing is changed.

    Raises
    ------
    DatabaseUnavailable
        The database cannot be read.
    """
    items: list[PurgeItem] = []
    with database.session() as session:
        for rule in PurgeRule:
            condition = _condition(rule, rules, now)
            if condition is not None:
                items += _sums(session, rule, condition)
    return tuple(items)


def purge_item(
    database: Database,
    item: PurgeItem,
    rules: RetentionRules,
    now: datetime,
    set_aside: Callable[[Path], bool],
) -> tuple[Path, ...]:
    """Mark the files of one item as gone, with their event, in one transaction.

    The conditions are asked again under the lock of the study: what was planned minutes ago may
    hold no more.

    Parameters
    ----------
    set_aside
        Takes a file out of its place, so that nobody finds it and a new one of the same name is
        not mixed up with it; False where it must stay.

    Returns
    -------
    :
        Files that may be deleted once this returns.
    """
    condition = _condition(item.rule, rules, now)
    if condition is None:
        return ()
    with database.begin() as session:
        lock_study(session, item.study_instance_uid)
        rows = session.scalars(_of_study(item, condition)).all()
        gone = [row for row in rows if set_aside(Path(row.path))]
        for row in gone:
            row.purged_at = now
        if gone:
            _tell(session, item, len(gone), sum(row.n_bytes for row in gone), now)
        return tuple(Path(row.path) for row in gone)


def is_purged(database: Database, content_digest: str) -> bool:
    """Say whether an instance has its row, and every such row says that the file is gone."""
    with database.session() as session:
        rows = select(Instance.purged_at).where(Instance.content_digest == content_digest)
        purged_at = session.scalars(rows).all()
        return bool(purged_at) and None not in purged_at


def files_of_ended_runs(database: Database, run_ids: Sequence[str]) -> dict[str, frozenset[str]]:
    """Give the names of the files that the rows of each of these runs name, purged or not.

    A run that is unknown, or not at its end, is not in the answer: it may still write.

    Raises
    ------
    DatabaseUnavailable
        The database cannot be read.
    """
    ended = select(Run.run_id).where(
        Run.run_id.in_(run_ids), Run.state.in_((*_ENDED, RunState.FAILED))
    )
    named = select(ResultObjectRow.run_id, ResultObjectRow.path).where(
        ResultObjectRow.run_id.in_(ended)
    )
    with database.session() as session:
        found: dict[str, set[str]] = {run_id: set() for run_id in session.scalars(ended)}
        for run_id, path in session.execute(named):
            found.setdefault(run_id, set()).add(Path(path).name)
    return {run_id: frozenset(names) for run_id, names in found.items()}


def _condition(rule: PurgeRule, rules: RetentionRules, now: datetime) -> ColumnElement[bool] | None:
    """Give the condition on instances, or on result objects; None where the rule is off."""
    days = {
        PurgeRule.CONFIRMED: rules.spool_days,
        PurgeRule.OWN_RESULT: rules.spool_days,
        PurgeRule.QUARANTINE: rules.quarantine_days,
        PurgeRule.RESULTS: rules.results_days,
    }[rule]
    if days is None:
        return None
    before = now - timedelta(days=days)
    if rule is PurgeRule.RESULTS:
        return ResultObjectRow.purged_at.is_(None) & _is_settled(before)
    is_old = Instance.purged_at.is_(None) & (Instance.received_at <= before)
    is_quarantined = Instance.quarantine_reason.is_not(None)
    if rule is PurgeRule.QUARANTINE:
        return is_old & is_quarantined
    if rule is PurgeRule.OWN_RESULT:
        return is_old & ~is_quarantined & Instance.is_own_result.is_(True)
    is_ours = Instance.is_own_result.is_(True)
    return is_old & ~is_quarantined & ~is_ours & _is_confirmed(before)


def _some(entity: Any, *where: ColumnElement[bool]) -> ColumnElement[bool]:
    """Some row of this table; every other table in the conditions is the enclosing question's."""
    return select(literal(1)).select_from(entity).where(*where).correlate_except(entity).exists()


def _is_confirmed(before: datetime) -> ColumnElement[bool]:
    """The newest run is of the newest generation, and every destination answers for it since."""
    newest, other = aliased(Run), aliased(Run)
    is_of_study = newest.study_instance_uid == Study.study_instance_uid
    is_same_study = other.study_instance_uid == newest.study_instance_uid
    is_outdone = _some(
        other,
        is_same_study,
        (other.version > newest.version) | other.state.in_((RunState.QUEUED, RunState.RUNNING)),
    )
    is_confirmed = _some(
        newest,
        is_of_study,
        ~is_outdone,
        newest.generation == Study.generation,
        newest.state == RunState.CONFIRMED,
        newest.confirmed_at <= before,
        *_answered_for(newest.run_id),
    )
    return _some(
        Study,
        Study.study_instance_uid == Instance.study_instance_uid,
        Study.state != StudyState.RECEIVING,
        is_confirmed,
    )


def _is_settled(before: datetime) -> ColumnElement[bool]:
    return _some(
        Run,
        Run.run_id == ResultObjectRow.run_id,
        Run.state.in_(_ENDED),
        Run.finished_at <= before,
        *_answered_for(Run.run_id),
    )


def _answered_for(run_id: Any) -> tuple[ColumnElement[bool], ColumnElement[bool]]:
    """Some destination has it, and none has not said so."""
    some, missing = aliased(Delivery), aliased(Delivery)
    return (
        _some(some, some.run_id == run_id, some.state == DeliveryState.CONFIRMED),
        ~_some(missing, missing.run_id == run_id, missing.state.in_(_UNCONFIRMED)),
    )


def _sums(session: Session, rule: PurgeRule, condition: ColumnElement[bool]) -> list[PurgeItem]:
    if rule is PurgeRule.RESULTS:
        uid: Any = Run.study_instance_uid
        statement = select(uid, func.count(), func.sum(ResultObjectRow.n_bytes)).join(
            Run, Run.run_id == ResultObjectRow.run_id
        )
    else:
        uid = Instance.study_instance_uid
        statement = select(uid, func.count(), func.sum(Instance.n_bytes))
    grouped = statement.where(condition).group_by(uid).order_by(uid)
    return [
        PurgeItem(rule, name, n_files, int(size))
        for name, n_files, size in session.execute(grouped)
    ]


def _of_study(item: PurgeItem, condition: ColumnElement[bool]) -> Select[Any]:
    if item.rule is not PurgeRule.RESULTS:
        of_study = Instance.study_instance_uid == item.study_instance_uid
        return select(Instance).where(condition, of_study)
    runs = select(Run.run_id).where(Run.study_instance_uid == item.study_instance_uid)
    return select(ResultObjectRow).where(condition, ResultObjectRow.run_id.in_(runs))


def _tell(session: Session, item: PurgeItem, n_files: int, n_bytes: int, now: datetime) -> None:
    is_results = item.rule is PurgeRule.RESULTS
    payload: dict[str, JsonValue] = {
        "rule": item.rule.value,
        "n_objects" if is_results else "n_instances": n_files,
        "n_bytes": n_bytes,
    }
    append_event(
        session,
        EventKind.RESULTS_PURGED if is_results else EventKind.INSTANCES_PURGED,
        now,
        study_instance_uid=item.study_instance_uid,
        payload=payload,
    )
