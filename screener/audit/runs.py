"""Making runs and ringing for them: new study, late instances, reprocess, retry by a person.

At most one run of a study waits, and at most one of a generation waits or works: a newer run
supersedes an older one that still waits. Working on runs is in `claims`, finishing in `results`.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, cast

from sqlalchemy import ColumnElement, func, literal, or_, select, update

from screener.audit.events import EventKind, append_event
from screener.audit.inputs import lock_studies, lock_study, read_inputs
from screener.audit.tables import Run, Study
from screener.audit.tolerant_types import UtcDateTime
from screener.domain import RunReason, RunState, StudyState
from screener.errors import WrongUse

if TYPE_CHECKING:
    from collections.abc import Collection
    from datetime import datetime

    from sqlalchemy import CursorResult
    from sqlalchemy.orm import Session

    from screener.audit.database import Database

#: Reasons for which a run is stored and supersedes the one before.
STORED_REASONS = (RunReason.NEW_STUDY, RunReason.LATE_INSTANCES, RunReason.REPROCESS)

ACTIVE = (RunState.QUEUED, RunState.RUNNING)


@dataclass(frozen=True, slots=True)
class RunToRing:
    """A waiting run that nobody took yet."""

    run_id: str
    is_stat: bool


def create_run(
    session: Session, study: Study, reason: RunReason, now: datetime, *, is_stat: bool = False
) -> Run:
    """Queue a run for the newest generation of a locked study.

    Parameters
    ----------
    study
        Locked by the caller.
    is_stat
        Ahead of routine runs, in addition to studies that came as STAT.

    Returns
    -------
    :
        The new run, or the one of this generation that already waits or works.
    """
    if reason not in STORED_REASONS:
        raise ValueError(f"runs with reason {reason.value} are not stored")
    active = _active_run(session, study)
    if active is not None:
        return active
    inputs = read_inputs(session, study.study_instance_uid, study.generation)
    run = Run(
        run_id=str(uuid.uuid4()),
        study_instance_uid=study.study_instance_uid,
        generation=study.generation,
        version=_newest_version(session, study.study_instance_uid) + 1,
        reason=reason,
        state=RunState.QUEUED,
        is_stat=study.is_stat or is_stat,
        input_digest=inputs.input_digest,
        n_instances=len(inputs.instances),
        queued_at=now,
        not_before_at=now,
        attempt=0,
        attempts_forgiven=0,
    )
    session.add(run)
    session.flush()
    _record_queued(session, run, now)
    supersede(session, run, (RunState.QUEUED,), now)
    return run


def supersede(session: Session, newer: Run, states: Collection[RunState], now: datetime) -> None:
    """Mark older runs of the study in these states as replaced by a newer one."""
    statement = (
        update(Run)
        .where(
            Run.study_instance_uid == newer.study_instance_uid,
            Run.version < newer.version,
            Run.state.in_(states),
        )
        .values(
            state=RunState.SUPERSEDED,
            superseded_by_run_id=newer.run_id,
            # the time of a report that stood stays what it was
            finished_at=func.coalesce(Run.finished_at, literal(now, UtcDateTime())),
        )
        .returning(Run.run_id)
        .execution_options(synchronize_session=False)
    )
    for run_id in session.scalars(statement).all():
        append_event(
            session,
            EventKind.RUN_SUPERSEDED,
            now,
            study_instance_uid=newer.study_instance_uid,
            run_id=run_id,
            payload={"by_run_id": newer.run_id},
        )


def has_runs(session: Session, study_instance_uid: str) -> bool:
    """Say whether the study ever had a run."""
    return _newest_version(session, study_instance_uid) > 0


def has_newer_run(session: Session, run: Run) -> bool:
    """Say whether a later run of the same study exists."""
    return _newest_version(session, run.study_instance_uid) > run.version


def request_reprocess(
    database: Database, study_instance_uid: str, now: datetime, *, is_stat: bool = False
) -> str:
    """Queue one more run of a complete study; its report will name the one before.

    Returns
    -------
    :
        The new run, or the one that already waits or works.

    Raises
    ------
    WrongUse
        The study is unknown, still being received, or holds nothing but our own results.
    """
    with database.begin() as session:
        study = lock_study(session, study_instance_uid)
        if study is None:
            raise WrongUse(
                f"study {study_instance_uid} is not in the audit database; "
                "`screener status` lists what is"
            )
        if study.state is StudyState.RECEIVING:
            raise WrongUse(
                f"study {study_instance_uid} is still being received; its run follows by itself"
            )
        return create_run(session, study, RunReason.REPROCESS, now, is_stat=is_stat).run_id


def revive_runs(database: Database, identifier: str, now: datetime) -> tuple[str, ...]:
    """Queue failed runs again, with their attempts forgiven.

    Parameters
    ----------
    identifier
        Run id, or Study Instance UID: the newest run of that study.

    Returns
    -------
    :
        Run ids; a run that a newer one replaces stays as it is.
    """
    with database.begin() as session:
        failed = (Run.state == RunState.FAILED) & (
            (Run.run_id == identifier) | (Run.study_instance_uid == identifier)
        )
        lock_studies(session, select(Run.study_instance_uid).where(failed).distinct())
        candidates = session.scalars(select(Run).where(failed).order_by(Run.run_id)).all()
        revived = [run for run in candidates if not has_newer_run(session, run)]
        for run in revived:
            _revive(session, run, now)
        return tuple(run.run_id for run in revived)


def unrung_runs(database: Database, now: datetime, older_than_s: float) -> tuple[RunToRing, ...]:
    """Give waiting runs whose last ring is older than this, STAT first."""
    statement = (
        select(Run.run_id, Run.is_stat)
        .where(
            Run.state == RunState.QUEUED,
            Run.not_before_at <= now,
            or_(Run.rung_at.is_(None), Run.rung_at <= now - timedelta(seconds=older_than_s)),
        )
        .order_by(Run.is_stat.desc(), Run.queued_at, Run.run_id)
    )
    with database.session() as session:
        return tuple(RunToRing(run_id, is_stat) for run_id, is_stat in session.execute(statement))


def mark_rung(database: Database, run_ids: Collection[str], now: datetime) -> int:
    """Note that the doorbell was rung for these runs; give how many still wait."""
    if not run_ids:
        return 0
    return _note_ring(database, Run.run_id.in_(run_ids), now)


def _note_ring(database: Database, which: ColumnElement[bool], now: datetime) -> int:
    statement = update(Run).where(which, Run.state == RunState.QUEUED).values(rung_at=now)
    with database.begin() as session:
        result = cast("CursorResult[Any]", session.execute(statement))
        return result.rowcount


def _active_run(session: Session, study: Study) -> Run | None:
    statement = select(Run).where(
        Run.study_instance_uid == study.study_instance_uid,
        Run.generation == study.generation,
        Run.state.in_(ACTIVE),
    )
    return session.scalars(statement.order_by(Run.version.desc())).first()


def _newest_version(session: Session, study_instance_uid: str) -> int:
    statement = select(func.max(Run.version)).where(Run.study_instance_uid == study_instance_uid)
    return session.scalar(statement) or 0


def _record_queued(session: Session, run: Run, now: datetime) -> None:
    append_event(
        session,
        EventKind.RUN_QUEUED,
        now,
        study_instance_uid=run.study_instance_uid,
        run_id=run.run_id,
        payload={
            "version": run.version,
            "generation": run.generation,
            "reason": run.reason.value,
            "is_stat": run.is_stat,
            "input_digest": run.input_digest,
            "n_instances": run.n_instances,
        },
    )


def _revive(session: Session, run: Run, now: datetime) -> None:
    run.state = RunState.QUEUED
    run.attempts_forgiven = run.attempt
    run.not_before_at = now
    run.rung_at = None
    run.finished_at = None
    append_event(
        session,
        EventKind.RUN_REVIVED,
        now,
        study_instance_uid=run.study_instance_uid,
        run_id=run.run_id,
        payload={"attempt": run.attempt},
    )
