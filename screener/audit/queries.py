"""Where studies stand: one row per study with its newest run and its deliveries."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import func, select

from screener.audit.tables import Delivery, Instance, Run, Series, Study

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from sqlalchemy.orm import Session

    from screener.audit.database import Database
    from screener.domain import (
        CompletionReason,
        DeliveryState,
        PatientClass,
        RunReason,
        RunState,
        StudyState,
    )

#: Studies listed at once without a wish.
DEFAULT_LIMIT = 200
#: UIDs read at once.
UIDS_AT_ONCE = 1000


@dataclass(frozen=True, slots=True)
class DeliveryStatus:
    """Where one destination stands."""

    delivery_id: str
    destination: str
    state: DeliveryState
    attempt: int
    detail: str | None  #: why it waits or died
    sent_at: datetime | None
    confirmed_at: datetime | None


@dataclass(frozen=True, slots=True)
class RunStatus:
    """Where one run stands."""

    run_id: str
    version: int
    reason: RunReason
    state: RunState
    is_stat: bool
    attempt: int
    queued_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    delivered_at: datetime | None
    confirmed_at: datetime | None
    patient_class: PatientClass | None
    certainty: float | None
    not_analysed_reason: str | None
    last_error: str | None
    predecessor_run_id: str | None
    superseded_by_run_id: str | None
    deliveries: tuple[DeliveryStatus, ...]


@dataclass(frozen=True, slots=True)
class StudyStatus:
    """Where one study stands."""

    study_instance_uid: str
    study_date: str
    state: StudyState
    generation: int
    completion_reason: CompletionReason | None
    n_series: int
    n_instances: int
    modalities: tuple[str, ...]
    is_stat: bool
    first_arrival_at: datetime
    last_arrival_at: datetime
    completed_at: datetime | None
    has_conflict: bool
    has_non_conformant: bool
    has_several_patients: bool
    n_quarantined: int  #: instances that are kept and not screened
    run: RunStatus | None  #: the newest


def study_status(database: Database, study_instance_uid: str) -> StudyStatus | None:
    """Say where a study stands; None where it is not known."""
    with database.session() as session:
        study = session.get(Study, study_instance_uid)
        return None if study is None else _status(session, study)


def list_studies(
    database: Database, *, limit: int = DEFAULT_LIMIT, offset: int = 0
) -> tuple[StudyStatus, ...]:
    """Say where studies stand, newest arrival first; without those that hold only our results."""
    statement = (
        select(Study)
        .where(Study.generation >= 1)
        .order_by(Study.last_arrival_at.desc(), Study.study_instance_uid)
        .limit(limit)
        .offset(offset)
    )
    with database.session() as session:
        return tuple(_status(session, study) for study in session.scalars(statement).all())


def every_study_uid(database: Database) -> Iterator[str]:
    """Give the UIDs of all studies, in parts, newest first."""
    statement = select(Study.study_instance_uid).order_by(Study.last_arrival_at.desc())
    with database.session() as session:
        yield from session.scalars(statement.execution_options(yield_per=UIDS_AT_ONCE))


def run_status(database: Database, run_id: str) -> RunStatus | None:
    """Say where a run stands; None where it is not known."""
    with database.session() as session:
        run = session.get(Run, run_id)
        return None if run is None else describe_run(session, run)


def describe_run(session: Session, run: Run) -> RunStatus:
    """Read a run with its deliveries inside an open session."""
    statement = select(Delivery).where(Delivery.run_id == run.run_id).order_by(Delivery.destination)
    deliveries = tuple(
        DeliveryStatus(
            delivery_id=row.delivery_id,
            destination=row.destination,
            state=row.state,
            attempt=row.attempt,
            detail=row.last_detail,
            sent_at=row.sent_at,
            confirmed_at=row.confirmed_at,
        )
        for row in session.scalars(statement)
    )
    return RunStatus(
        run_id=run.run_id,
        version=run.version,
        reason=run.reason,
        state=run.state,
        is_stat=run.is_stat,
        attempt=run.attempt,
        queued_at=run.queued_at,
        started_at=run.started_at,
        finished_at=run.finished_at,
        delivered_at=run.delivered_at,
        confirmed_at=run.confirmed_at,
        patient_class=run.patient_class,
        certainty=run.certainty,
        not_analysed_reason=run.not_analysed_reason,
        last_error=run.last_error,
        predecessor_run_id=run.predecessor_run_id,
        superseded_by_run_id=run.superseded_by_run_id,
        deliveries=deliveries,
    )


def _status(session: Session, study: Study) -> StudyStatus:
    uid = study.study_instance_uid
    series = session.scalars(
        select(Series).where(Series.study_instance_uid == uid, Series.n_instances > 0)
    ).all()
    newest = select(Run).where(Run.study_instance_uid == uid).order_by(Run.version.desc()).limit(1)
    run = session.scalars(newest).one_or_none()
    return StudyStatus(
        study_instance_uid=uid,
        study_date=study.study_date,
        state=study.state,
        generation=study.generation,
        completion_reason=study.completion_reason,
        n_series=len(series),
        n_instances=sum(row.n_instances for row in series),
        modalities=tuple(sorted({row.modality for row in series})),
        is_stat=study.is_stat,
        first_arrival_at=study.first_arrival_at,
        last_arrival_at=study.last_arrival_at,
        completed_at=study.completed_at,
        has_conflict=study.has_conflict,
        has_non_conformant=study.has_non_conformant,
        has_several_patients=study.has_several_patients,
        n_quarantined=_n_quarantined(session, uid),
        run=None if run is None else describe_run(session, run),
    )


def _n_quarantined(session: Session, study_instance_uid: str) -> int:
    statement = select(func.count()).where(
        Instance.study_instance_uid == study_instance_uid, Instance.quarantine_reason.is_not(None)
    )
    return session.scalar(statement) or 0
