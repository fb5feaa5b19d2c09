"""Rows of a study that the ledger and the runs share: lock it, read what a run screens."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import select

from screener.audit.events import EventKind
from screener.audit.tables import Event, Instance, Study
from screener.audit.tolerant_types import read_object
from screener.domain import SpooledInstance, SpooledStudy, StudyState

if TYPE_CHECKING:
    from sqlalchemy import Select
    from sqlalchemy.orm import Session


#: A study is being received. Generation 0 holds only what no run reads, and waits for nothing.
IS_OPEN = (Study.state == StudyState.RECEIVING) & (Study.generation >= 1)


def lock_study(session: Session, study_instance_uid: str) -> Study | None:
    """Read a study and keep every other writer of it waiting until this transaction ends.

    All that changes a study, or several of its runs, locks it first: that order rules out
    deadlocks. On SQLite the whole write transaction already excludes others.
    """
    statement = select(Study).where(Study.study_instance_uid == study_instance_uid)
    return session.scalars(
        statement.with_for_update(), execution_options={"populate_existing": True}
    ).one_or_none()


def lock_studies(session: Session, study_instance_uids: Select[str]) -> None:
    """Lock several studies, always in the same order."""
    for study_instance_uid in sorted(session.scalars(study_instance_uids)):
        lock_study(session, study_instance_uid)


def read_inputs(session: Session, study_instance_uid: str, generation: int) -> SpooledStudy:
    """Give the instances that a run of this generation screens, in order of arrival.

    Our own results, quarantined instances and those that wait for the next opening are left out.
    """
    statement = (
        select(Instance)
        .where(
            Instance.study_instance_uid == study_instance_uid,
            Instance.generation.between(1, generation),
            Instance.is_own_result.is_(False),
            Instance.quarantine_reason.is_(None),
        )
        .order_by(Instance.received_at, Instance.instance_id)
    )
    rows = session.scalars(statement)
    return SpooledStudy(study_instance_uid, tuple(_spooled(row) for row in rows))


def read_shortfall(session: Session, study_instance_uid: str, generation: int) -> str | None:
    """Give what was known to be missing when a generation was closed, None where nothing was.

    Read from the event and not from the study, whose row goes on changing: a retry builds the same
    bytes as the first attempt.
    """
    statement = (
        select(Event.payload)
        .where(
            Event.study_instance_uid == study_instance_uid,
            Event.kind == EventKind.STUDY_COMPLETED,
        )
        .order_by(Event.event_id.desc())
    )
    for payload in map(read_object, session.scalars(statement)):
        if payload.get("generation") == generation:
            is_partial = payload.get("state") == StudyState.PARTIAL
            return str(payload.get("detail")) if is_partial else None
    return None


def _spooled(row: Instance) -> SpooledInstance:
    return SpooledInstance(
        study_instance_uid=row.study_instance_uid,
        series_instance_uid=row.series_instance_uid,
        sop_instance_uid=row.sop_instance_uid,
        sop_class_uid=row.sop_class_uid,
        transfer_syntax_uid=row.transfer_syntax_uid,
        content_digest=row.content_digest,
        path=Path(row.path),
        received_at=row.received_at,
        calling_ae_title=row.calling_ae_title,
    )
