"""Instances that were kept but take no part in a screening: list them, look at one, release it.

A release is a word of a person: it is an event, and the instance then arrives late, which opens
its study again where it was thought complete.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import func, or_, select

from screener.audit.events import EventKind, append_event
from screener.audit.inputs import lock_study
from screener.audit.tables import Instance
from screener.domain import StudyState
from screener.errors import WrongUse

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy import Select
    from sqlalchemy.orm import Session

    from screener.audit.database import Database
    from screener.domain import QuarantineReason

#: Shortest beginning of a content digest that names an instance.
LEAST_DIGEST_LENGTH = 8

#: What was purged is there no more, to be looked at or released.
_IN_QUARANTINE = Instance.quarantine_reason.is_not(None) & Instance.purged_at.is_(None)


@dataclass(frozen=True, slots=True)
class QuarantinedInstance:
    """One instance in quarantine."""

    study_instance_uid: str
    series_instance_uid: str
    sop_instance_uid: str
    sop_class_uid: str
    transfer_syntax_uid: str
    content_digest: str
    reason: str
    calling_ae_title: str | None
    received_at: datetime
    n_bytes: int
    path: str


def list_quarantined(
    database: Database, study_instance_uid: str | None = None
) -> tuple[QuarantinedInstance, ...]:
    """Give the instances in quarantine, newest first."""
    statement = _quarantined().order_by(Instance.received_at.desc(), Instance.instance_id.desc())
    if study_instance_uid is not None:
        statement = statement.where(Instance.study_instance_uid == study_instance_uid)
    with database.session() as session:
        return tuple(_described(row) for row in session.scalars(statement))


def count_quarantined(database: Database) -> int:
    """Give how many instances are in quarantine."""
    statement = select(func.count()).where(_IN_QUARANTINE)
    with database.session() as session:
        return session.scalar(statement) or 0


def find_quarantined(database: Database, name: str) -> tuple[QuarantinedInstance, ...]:
    """Give the instances that a SOP Instance UID or the beginning of a digest names.

    Raises
    ------
    WrongUse
        None in quarantine is named so.
    """
    with database.session() as session:
        return tuple(_described(row) for row in _named(session, name))


def release_quarantined(
    database: Database, name: str, now: datetime
) -> tuple[QuarantinedInstance, ...]:
    """Let instances take part in screenings from now on; opens their studies again.

    Raises
    ------
    WrongUse
        None in quarantine is named so.
    """
    with database.begin() as session:
        rows = _named(session, name)
        released = tuple(_described(row) for row in rows)
        for row in rows:
            _release(session, row, now)
    return released


def quarantine_content(
    database: Database, content_digest: str, reason: QuarantineReason, now: datetime
) -> None:
    """Keep every instance with this content out of later screenings: what was seen too late."""
    with database.begin() as session:
        set_aside(session, content_digest, reason, now)


def set_aside(
    session: Session, content_digest: str, reason: QuarantineReason, now: datetime
) -> None:
    """Do what `quarantine_content` does within a transaction."""
    statement = select(Instance).where(
        Instance.content_digest == content_digest, Instance.quarantine_reason.is_(None)
    )
    for row in session.scalars(statement).all():
        row.quarantine_reason = reason.value
        append_event(
            session,
            EventKind.INSTANCE_QUARANTINED,
            now,
            study_instance_uid=row.study_instance_uid,
            payload={
                "calling_ae_title": row.calling_ae_title,
                "series_instance_uid": row.series_instance_uid,
                "sop_instance_uid": row.sop_instance_uid,
                "content_digest": row.content_digest,
                "reason": reason.value,
            },
        )


def _release(session: Session, row: Instance, now: datetime) -> None:
    study = lock_study(session, row.study_instance_uid)
    if study is None:  # rows of studies are never deleted
        raise RuntimeError("an instance without its study")
    reason, row.quarantine_reason = row.quarantine_reason, None
    is_reopened = study.state is not StudyState.RECEIVING
    if is_reopened:
        study.state = StudyState.RECEIVING
        study.generation += 1
        study.opened_at = now
        study.completed_at = None
        study.completion_reason = None
        study.expected_n_instances = None  # the source may have more by now: it is asked again
    study.last_arrival_at = now
    row.generation = max(study.generation, 1)  # 0: the study was never opened
    append_event(
        session,
        EventKind.INSTANCE_RELEASED,
        now,
        study_instance_uid=row.study_instance_uid,
        payload={
            "series_instance_uid": row.series_instance_uid,
            "sop_instance_uid": row.sop_instance_uid,
            "content_digest": row.content_digest,
            "reason": reason,
            "generation": study.generation,
            "is_reopened": is_reopened,
        },
    )


def _named(session: Session, name: str) -> list[Instance]:
    is_named = Instance.sop_instance_uid == name
    if len(name) >= LEAST_DIGEST_LENGTH:
        is_named = or_(is_named, Instance.content_digest.startswith(name, autoescape=True))
    rows = list(session.scalars(_quarantined().where(is_named).order_by(Instance.instance_id)))
    if not rows:
        raise WrongUse(
            f"{name} is no instance in quarantine; `screener quarantine list` shows them. Give a "
            f"SOP Instance UID or the first {LEAST_DIGEST_LENGTH} or more characters of a digest"
        )
    return rows


def _quarantined() -> Select[Instance]:
    return select(Instance).where(_IN_QUARANTINE)


def _described(row: Instance) -> QuarantinedInstance:
    return QuarantinedInstance(
        study_instance_uid=row.study_instance_uid,
        series_instance_uid=row.series_instance_uid,
        sop_instance_uid=row.sop_instance_uid,
        sop_class_uid=row.sop_class_uid,
        transfer_syntax_uid=row.transfer_syntax_uid,
        content_digest=row.content_digest,
        reason=row.quarantine_reason or "",
        calling_ae_title=row.calling_ae_title,
        received_at=row.received_at,
        n_bytes=row.n_bytes,
        path=row.path,
    )
