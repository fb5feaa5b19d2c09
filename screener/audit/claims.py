"""Working on runs: claim, heartbeat, fail, expired leases.

A claim is one conditional UPDATE. Its attempt number is the fencing token: everything a worker
writes later demands that the row still carries it, so a worker that was away too long finds its
claim lost instead of overwriting the result of another. The attempt is counted before the work
starts, so that a process that dies without a word counts too.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, cast

from sqlalchemy import ColumnElement, exists, select, update
from sqlalchemy.orm import aliased

from screener.audit.events import EventKind, JsonValue, append_event
from screener.audit.inputs import lock_study, read_inputs, read_shortfall
from screener.audit.runs import has_newer_run
from screener.audit.tables import ResultObjectRow, Run
from screener.audit.tolerant_types import one_more_of
from screener.domain import PredecessorReport, ResultKind, RunIdentity, RunReason, RunState
from screener.errors import LostClaim

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy import CursorResult, Select
    from sqlalchemy.orm import Session

    from screener.audit.backoff import RetryPolicy
    from screener.audit.database import Database
    from screener.domain import ModelIdentity, SpooledStudy

#: A run whose report stands.
REPORTED = (RunState.REPORTED, RunState.DELIVERED, RunState.CONFIRMED)


@dataclass(frozen=True, slots=True)
class ClaimedRun:
    """A run that this worker holds as long as its attempt is the newest."""

    run_id: str
    study_instance_uid: str
    generation: int
    version: int
    reason: RunReason
    is_stat: bool
    input_digest: str
    attempt: int  #: fencing token
    owner: str
    started_at: datetime  #: start of the first attempt
    predecessor: PredecessorReport | None
    shortfall: str | None = None  #: what is known to be missing of the study

    def identity(
        self,
        *,
        pipeline: str,
        code_version: str,
        settings_digest: str,
        models: tuple[ModelIdentity, ...],
    ) -> RunIdentity:
        """Give all that the derived UIDs and the report say about the run."""
        return RunIdentity(
            run_id=self.run_id,
            study_instance_uid=self.study_instance_uid,
            reason=self.reason,
            input_digest=self.input_digest,
            pipeline=pipeline,
            code_version=code_version,
            settings_digest=settings_digest,
            version=self.version,
            started_at=self.started_at,
            models=models,
            predecessor=self.predecessor,
            shortfall=self.shortfall,
        )


def claim_run(
    database: Database, run_id: str | None, owner: str, lease_s: float, now: datetime
) -> ClaimedRun | None:
    """Take a waiting run: this one, or without an id the most urgent.

    Parameters
    ----------
    owner
        Who works: host and process, for people.
    lease_s
        How long the claim holds without a heartbeat.

    Returns
    -------
    :
        None where nothing waits or another was faster.
    """
    with database.session() as session:  # a poll that finds nothing must not lock out writers
        if session.execute(_claimable(run_id, now)).first() is None:
            return None
    candidate = _claimable(run_id, now).with_for_update(skip_locked=True)
    statement = (
        update(Run)
        .where(Run.run_id == candidate.scalar_subquery(), Run.state == RunState.QUEUED)
        .values(
            state=RunState.RUNNING,
            attempt=one_more_of(Run.attempt),
            lease_owner=owner,
            lease_expires_at=now + timedelta(seconds=lease_s),
        )
        .returning(Run)
        .execution_options(synchronize_session=False)
    )
    with database.begin() as session:
        run = session.scalars(statement).one_or_none()
        return None if run is None else _start(session, run, owner, now)


def heartbeat(database: Database, claim: ClaimedRun, lease_s: float, now: datetime) -> None:
    """Extend the lease.

    Raises
    ------
    LostClaim
        Another holds the run now, or it was stopped: put the work down.
    """
    statement = (
        update(Run)
        .where(is_mine(claim))
        .values(lease_expires_at=now + timedelta(seconds=lease_s))
        .execution_options(synchronize_session=False)
    )
    with database.begin() as session:
        if cast("CursorResult[Any]", session.execute(statement)).rowcount == 0:
            raise lost(claim)


def fail_run(
    database: Database,
    claim: ClaimedRun,
    detail: str,
    now: datetime,
    *,
    is_transient: bool,
    policy: RetryPolicy,
) -> RunState:
    """End an attempt without a result.

    Parameters
    ----------
    detail
        What went wrong, for people; no value of a data set.
    is_transient
        Trying again can help, as long as attempts are left.

    Returns
    -------
    :
        Queued again after a pause, failed, or superseded where a newer run waits.

    Raises
    ------
    LostClaim
        Another holds the run now; nothing was written.
    """
    with database.begin() as session:
        lock_study(session, claim.study_instance_uid)
        run = session.scalars(select(Run).where(is_mine(claim)).with_for_update()).one_or_none()
        if run is None:
            raise lost(claim)
        _end_attempt(session, run, detail, now, policy, is_transient=is_transient)
        return run.state


def return_run(database: Database, claim: ClaimedRun, now: datetime) -> None:
    """Put a run back into the queue because its worker is told to stop; no attempt is counted.

    Raises
    ------
    LostClaim
        Another holds the run now, or it has ended.
    """
    statement = (
        update(Run)
        .where(is_mine(claim))
        .values(
            state=RunState.QUEUED,
            attempts_forgiven=one_more_of(Run.attempts_forgiven),
            not_before_at=now,
            rung_at=None,
            lease_owner=None,
            lease_expires_at=None,
        )
        .returning(Run)
        .execution_options(synchronize_session=False)
    )
    with database.begin() as session:
        lock_study(session, claim.study_instance_uid)
        run = session.scalars(statement).one_or_none()
        if run is None:
            raise lost(claim)
        _tell(session, run, EventKind.RUN_RETURNED, now, {"owner": claim.owner})


def expire_leases(database: Database, now: datetime, policy: RetryPolicy) -> tuple[str, ...]:
    """End the attempts of workers that went silent; give the runs it happened to."""
    expired = (Run.state == RunState.RUNNING) & (Run.lease_expires_at <= now)
    with database.session() as session:
        found = session.execute(select(Run.run_id, Run.study_instance_uid).where(expired)).all()
    return tuple(
        run_id for run_id, study_uid in found if _expire(database, run_id, study_uid, now, policy)
    )


def load_inputs(database: Database, claim: ClaimedRun) -> SpooledStudy:
    """Give exactly the instances that the run was made for."""
    with database.session() as session:
        return read_inputs(session, claim.study_instance_uid, claim.generation)


def is_mine(claim: ClaimedRun) -> ColumnElement[bool]:
    """Give the condition under which a claim may still write."""
    return (
        (Run.run_id == claim.run_id)
        & (Run.attempt == claim.attempt)
        & (Run.state == RunState.RUNNING)
    )


def lost(claim: ClaimedRun) -> LostClaim:
    """Give the error of a worker that comes too late."""
    return LostClaim(
        f"run {claim.run_id}: attempt {claim.attempt} is no longer the one that counts"
    )


def _claimable(run_id: str | None, now: datetime) -> Select[str]:
    """Waiting runs of studies that nobody works on: an older run ends before a newer starts."""
    waiting, other = aliased(Run), aliased(Run)
    is_worked_on = exists().where(
        other.study_instance_uid == waiting.study_instance_uid, other.state == RunState.RUNNING
    )
    statement = select(waiting.run_id).where(
        waiting.state == RunState.QUEUED, waiting.not_before_at <= now, ~is_worked_on
    )
    if run_id is not None:
        statement = statement.where(waiting.run_id == run_id)
    return statement.order_by(waiting.is_stat.desc(), waiting.queued_at, waiting.run_id).limit(1)


def _start(session: Session, run: Run, owner: str, now: datetime) -> ClaimedRun:
    if run.started_at is None:  # frozen, with the predecessor: a retry builds the same bytes
        run.started_at = now
        run.predecessor_run_id = session.scalars(_standing_run(run)).first()
    append_event(
        session,
        EventKind.RUN_STARTED,
        now,
        study_instance_uid=run.study_instance_uid,
        run_id=run.run_id,
        payload={
            "attempt": run.attempt,
            "owner": owner,
            "predecessor_run_id": run.predecessor_run_id,
        },
    )
    return ClaimedRun(
        run_id=run.run_id,
        study_instance_uid=run.study_instance_uid,
        generation=run.generation,
        version=run.version,
        reason=run.reason,
        is_stat=run.is_stat,
        input_digest=run.input_digest,
        attempt=run.attempt,
        owner=owner,
        started_at=run.started_at,
        predecessor=_predecessor(session, run),
        shortfall=read_shortfall(session, run.study_instance_uid, run.generation),
    )


def _standing_run(run: Run) -> Select[str]:
    return (
        select(Run.run_id)
        .where(
            Run.study_instance_uid == run.study_instance_uid,
            Run.version < run.version,
            Run.state.in_(REPORTED),
        )
        .order_by(Run.version.desc())
    )


def _predecessor(session: Session, run: Run) -> PredecessorReport | None:
    if run.predecessor_run_id is None:
        return None
    reports = session.scalars(
        select(ResultObjectRow).where(
            ResultObjectRow.run_id == run.predecessor_run_id,
            ResultObjectRow.kind == ResultKind.STRUCTURED_REPORT,
            ResultObjectRow.variant_of.is_(None),
        )
    ).all()
    if len(reports) != 1:  # somebody edited the table, which the accounting tells; no claim fails
        return None
    report = reports[0]
    return PredecessorReport(
        run_id=run.predecessor_run_id,
        study_instance_uid=run.study_instance_uid,
        series_instance_uid=report.series_instance_uid,
        sop_class_uid=report.sop_class_uid,
        sop_instance_uid=report.sop_instance_uid,
    )


def _expire(
    database: Database, run_id: str, study_uid: str, now: datetime, policy: RetryPolicy
) -> bool:
    with database.begin() as session:
        lock_study(session, study_uid)
        still = (
            select(Run)
            .where(Run.run_id == run_id, Run.state == RunState.RUNNING, Run.lease_expires_at <= now)
            .with_for_update()
        )
        run = session.scalars(still).one_or_none()
        if run is None:
            return False
        _tell(session, run, EventKind.RUN_LEASE_EXPIRED, now, {"owner": run.lease_owner})
        _end_attempt(
            session, run, "the worker went silent: its lease expired", now, policy,
            is_transient=True,
        )  # fmt: skip
        return True


def _end_attempt(
    session: Session,
    run: Run,
    detail: str,
    now: datetime,
    policy: RetryPolicy,
    *,
    is_transient: bool,
) -> None:
    n_attempts = run.attempt - run.attempts_forgiven
    has_attempts = policy.max_attempts is None or n_attempts < policy.max_attempts
    if not 0 <= run.attempts_forgiven < run.attempt:  # edited: it would be tried for ever
        detail, has_attempts = f"{detail}; the count of attempts was edited", False
    run.last_error = detail
    run.lease_owner = run.lease_expires_at = None
    if is_transient and has_newer_run(session, run):
        run.state = RunState.SUPERSEDED
        run.superseded_by_run_id = _newer_run_id(session, run)
        run.finished_at = now
        by = {"by_run_id": run.superseded_by_run_id}
        append_event(
            session, EventKind.RUN_SUPERSEDED, now, run_id=run.run_id,
            study_instance_uid=run.study_instance_uid, payload=by,
        )  # fmt: skip
    elif is_transient and has_attempts:
        delay_s = policy.delay_s(n_attempts, run.run_id)
        run.state = RunState.QUEUED
        run.not_before_at = now + timedelta(seconds=delay_s)
        run.rung_at = None
        payload: dict[str, JsonValue] = {"detail": detail, "delay_s": round(delay_s, 3)}
        _tell(session, run, EventKind.RUN_POSTPONED, now, payload)
    else:
        run.state = RunState.FAILED
        run.finished_at = now
        _tell(session, run, EventKind.RUN_FAILED, now, {"detail": detail})


def _newer_run_id(session: Session, run: Run) -> str | None:
    statement = (
        select(Run.run_id)
        .where(Run.study_instance_uid == run.study_instance_uid, Run.version > run.version)
        .order_by(Run.version.desc())
    )
    return session.scalars(statement).first()


def _tell(
    session: Session, run: Run, kind: EventKind, now: datetime, payload: dict[str, JsonValue]
) -> None:
    append_event(
        session,
        kind,
        now,
        study_instance_uid=run.study_instance_uid,
        run_id=run.run_id,
        payload={"attempt": run.attempt, **payload},
    )
