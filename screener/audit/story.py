"""Why: everything about one study, from the database alone.

What came when from whom, why it was thought complete, which series and why, what each model said,
how the vote fell, what was sent where and who confirmed it, and what replaced what.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import func, select

from screener.audit.queries import RunStatus, StudyStatus, describe_run, study_status
from screener.audit.tables import (
    DeliveryObject,
    Event,
    Instance,
    Model,
    ResultObjectRow,
    Run,
    RunModel,
    Series,
    SliceResult,
)
from screener.audit.tolerant_types import read_object
from screener.errors import WrongUse

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy.orm import Session

    from screener.audit.database import Database
    from screener.domain import ResultKind


@dataclass(frozen=True, slots=True)
class SourceArrivals:
    """What one node sent of the study."""

    calling_ae_title: str | None
    n_instances: int
    n_bytes: int
    n_duplicates: int
    n_quarantined: int
    first_arrival_at: datetime
    last_arrival_at: datetime


@dataclass(frozen=True, slots=True)
class SeriesArrived:
    """One series as it came."""

    series_instance_uid: str
    modality: str
    n_instances: int
    has_conflict: bool


@dataclass(frozen=True, slots=True)
class Quarantined:
    """One instance that is kept and not screened."""

    sop_instance_uid: str
    reason: str


@dataclass(frozen=True, slots=True)
class ModelUsed:
    """One model as a run used it."""

    name: str
    version: str
    task: str
    digest: str
    provider: str
    fallback_reason: str | None


@dataclass(frozen=True, slots=True)
class SliceVote:
    """What the classifier said of one slice."""

    slice_index: int
    location_mm: float
    sop_instance_uid: str
    label: str
    is_affected: bool
    probabilities: dict[str, float]


@dataclass(frozen=True, slots=True)
class ObjectStory:
    """One result object, and what each destination answered for it."""

    kind: ResultKind
    sop_instance_uid: str
    digest: str
    n_bytes: int
    path: str
    answers: tuple[ObjectAnswer, ...]
    sop_class_uid: str
    variant_of: str | None  #: the report that it stands for in another SOP class


@dataclass(frozen=True, slots=True)
class ObjectAnswer:
    """What one destination answered for one object."""

    destination: str
    status: int | None
    outcome: str | None
    comment: str | None


@dataclass(frozen=True, slots=True)
class RunStory:
    """One run with its evidence."""

    status: RunStatus
    generation: int
    input_digest: str
    n_instances: int
    pipeline: str | None
    code_version: str | None
    settings_digest: str | None
    host: str | None
    device: str | None
    selected_series_instance_uid: str | None
    evidence: dict[str, Any] | None  #: decision, ranking, geometry, defects, seconds by step
    models: tuple[ModelUsed, ...]
    slices: tuple[SliceVote, ...]
    objects: tuple[ObjectStory, ...]


@dataclass(frozen=True, slots=True)
class StoryEvent:
    """One event of the study."""

    occurred_at: datetime
    kind: str
    run_id: str | None
    payload: dict[str, Any]
    sequence: int | None  #: None until the sealer came by


@dataclass(frozen=True, slots=True)
class StudyStory:
    """All that the database knows about a study."""

    status: StudyStatus
    sources: tuple[SourceArrivals, ...]
    series: tuple[SeriesArrived, ...]
    quarantined: tuple[Quarantined, ...]
    n_own_results: int
    runs: tuple[RunStory, ...]  #: oldest first
    events: tuple[StoryEvent, ...]  #: oldest first


def why(database: Database, study_instance_uid: str) -> StudyStory:
    """Tell the story of a study.

    Raises
    ------
    WrongUse
        The study is not known here.
    """
    status = study_status(database, study_instance_uid)
    if status is None:
        raise WrongUse(
            f"study {study_instance_uid} is not in the audit database; "
            "`screener status` lists what is"
        )
    with database.session() as session:
        runs = session.scalars(
            select(Run).where(Run.study_instance_uid == study_instance_uid).order_by(Run.version)
        ).all()
        return StudyStory(
            status=status,
            sources=_sources(session, study_instance_uid),
            series=_series(session, study_instance_uid),
            quarantined=_quarantined(session, study_instance_uid),
            n_own_results=_count_own_results(session, study_instance_uid),
            runs=tuple(_run_story(session, run) for run in runs),
            events=_events(session, study_instance_uid),
        )


def _sources(session: Session, uid: str) -> tuple[SourceArrivals, ...]:
    statement = (
        select(
            Instance.calling_ae_title,
            func.count(),
            func.sum(Instance.n_bytes),
            func.sum(Instance.n_duplicates),
            func.count(Instance.quarantine_reason),
            func.min(Instance.received_at),
            func.max(Instance.received_at),
        )
        .where(Instance.study_instance_uid == uid, Instance.is_own_result.is_(False))
        .group_by(Instance.calling_ae_title)
        .order_by(Instance.calling_ae_title)
    )
    return tuple(
        SourceArrivals(title, n_instances, int(n_bytes), int(n_twice), n_quarantined, first, last)
        for title, n_instances, n_bytes, n_twice, n_quarantined, first, last in session.execute(
            statement
        )
    )


def _series(session: Session, uid: str) -> tuple[SeriesArrived, ...]:
    statement = (
        select(Series)
        .where(Series.study_instance_uid == uid, Series.n_instances > 0)
        .order_by(Series.first_arrival_at, Series.series_instance_uid)
    )
    return tuple(
        SeriesArrived(row.series_instance_uid, row.modality, row.n_instances, row.has_conflict)
        for row in session.scalars(statement)
    )


def _quarantined(session: Session, uid: str) -> tuple[Quarantined, ...]:
    statement = (
        select(Instance.sop_instance_uid, Instance.quarantine_reason)
        .where(Instance.study_instance_uid == uid, Instance.quarantine_reason.is_not(None))
        .order_by(Instance.instance_id)
    )
    return tuple(Quarantined(sop, reason or "") for sop, reason in session.execute(statement))


def _count_own_results(session: Session, uid: str) -> int:
    statement = (
        select(func.count())
        .select_from(Instance)
        .where(Instance.study_instance_uid == uid, Instance.is_own_result.is_(True))
    )
    return session.scalar(statement) or 0


def _run_story(session: Session, run: Run) -> RunStory:
    return RunStory(
        status=describe_run(session, run),
        generation=run.generation,
        input_digest=run.input_digest,
        n_instances=run.n_instances,
        pipeline=run.pipeline,
        code_version=run.code_version,
        settings_digest=run.settings_digest,
        host=run.host,
        device=run.device,
        selected_series_instance_uid=run.selected_series_instance_uid,
        evidence=run.evidence,
        models=_models(session, run.run_id),
        slices=_slices(session, run.run_id),
        objects=_objects(session, run),
    )


def _models(session: Session, run_id: str) -> tuple[ModelUsed, ...]:
    statement = (
        select(Model, RunModel)
        .join(RunModel, RunModel.digest == Model.digest)
        .where(RunModel.run_id == run_id)
        .order_by(Model.name)
    )
    return tuple(
        ModelUsed(
            model.name, model.version, model.task, model.digest, used.provider, used.fallback_reason
        )
        for model, used in session.execute(statement)
    )


def _slices(session: Session, run_id: str) -> tuple[SliceVote, ...]:
    statement = (
        select(SliceResult).where(SliceResult.run_id == run_id).order_by(SliceResult.slice_index)
    )
    return tuple(
        SliceVote(
            row.slice_index,
            row.location_mm,
            row.sop_instance_uid,
            row.label,
            row.is_affected,
            row.probabilities,
        )
        for row in session.scalars(statement)
    )


def _objects(session: Session, run: Run) -> tuple[ObjectStory, ...]:
    destinations = {
        one.delivery_id: one.destination for one in describe_run(session, run).deliveries
    }
    answers: dict[str, list[ObjectAnswer]] = {}
    statement = select(DeliveryObject).where(DeliveryObject.delivery_id.in_(destinations))
    for row in session.scalars(statement):
        answer = ObjectAnswer(destinations[row.delivery_id], row.status, row.outcome, row.comment)
        answers.setdefault(row.sop_instance_uid, []).append(answer)
    objects = session.scalars(
        select(ResultObjectRow)
        .where(ResultObjectRow.run_id == run.run_id)
        .order_by(ResultObjectRow.kind, ResultObjectRow.sop_instance_uid)
    )
    return tuple(
        ObjectStory(
            kind=row.kind,
            sop_instance_uid=row.sop_instance_uid,
            digest=row.digest,
            n_bytes=row.n_bytes,
            path=row.path,
            answers=tuple(
                sorted(answers.get(row.sop_instance_uid, ()), key=lambda one: one.destination)
            ),
            sop_class_uid=row.sop_class_uid,
            variant_of=row.variant_of,
        )
        for row in objects
    )


def _events(session: Session, uid: str) -> tuple[StoryEvent, ...]:
    statement = (
        select(Event)
        .where(Event.study_instance_uid == uid)
        .order_by(Event.occurred_at, Event.event_id)
    )
    return tuple(
        StoryEvent(row.occurred_at, row.kind, row.run_id, read_object(row.payload), row.sequence)
        for row in session.scalars(statement)
    )
