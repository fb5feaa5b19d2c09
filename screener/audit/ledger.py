"""What came in, and when a study is complete.

A study is opened by its first instance (`registration`), completed by a verdict, which queues its
run in the same transaction, and opened again, as a new generation, by late instances.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import func, select

from screener.audit.events import EventKind, JsonValue, append_event
from screener.audit.inputs import IS_OPEN, lock_study, read_inputs
from screener.audit.registration import ReceivedInstance, Registration, register_all
from screener.audit.runs import create_run, has_runs
from screener.audit.tables import Instance, Series, Study
from screener.domain import CompletionReason, RunReason, SpooledStudy, StudyState
from screener.errors import WrongUse

if TYPE_CHECKING:
    from collections.abc import Collection
    from datetime import datetime

    from sqlalchemy.orm import Session

    from screener.audit.database import Database

#: How many digests one question to the database names.
DIGESTS_PER_QUERY = 500

_COMPLETED = (StudyState.VERIFIED, StudyState.UNVERIFIED, StudyState.PARTIAL)


__all__ = [
    "OpenSeries",
    "OpenStudy",
    "ReceivedInstance",
    "Registration",
    "UncountedStudy",
    "complete_study",
    "expect_instances",
    "known_digests",
    "load_study",
    "open_studies",
    "register_instance",
    "uncounted_studies",
]


@dataclass(frozen=True, slots=True)
class OpenSeries:
    """What has arrived of one series of an open study."""

    series_instance_uid: str
    modality: str
    n_instances: int
    last_arrival_at: datetime


@dataclass(frozen=True, slots=True)
class OpenStudy:
    """What has arrived of a study that is still being received."""

    study_instance_uid: str
    generation: int
    is_stat: bool
    opened_at: datetime  #: first arrival of this generation
    last_arrival_at: datetime
    expected_n_instances: int | None
    series: tuple[OpenSeries, ...]

    @property
    def n_instances(self) -> int:
        """Instances of all series, without our own results."""
        return sum(series.n_instances for series in self.series)


@dataclass(frozen=True, slots=True)
class UncountedStudy:
    """A study that is being received, and nobody said how many instances it has."""

    study_instance_uid: str
    last_arrival_at: datetime
    calling_ae_titles: tuple[str, ...]  #: who sent it


def register_instance(
    database: Database, received: ReceivedInstance, now: datetime
) -> Registration:
    """Commit the row of a durable instance; only then may the sender hear success.

    Raises
    ------
    DatabaseUnavailable
        Nothing was committed: answer 0xA700, the janitor adopts the file later.
    """
    return register_all(database, [received], now)[0]


def known_digests(database: Database, digests: Collection[str]) -> frozenset[str]:
    """Give those of the content digests that have a row; the janitor adopts the others."""
    found: set[str] = set()
    ordered = sorted(digests)
    with database.session() as session:
        for start in range(0, len(ordered), DIGESTS_PER_QUERY):
            part = ordered[start : start + DIGESTS_PER_QUERY]
            found.update(
                session.scalars(
                    select(Instance.content_digest).where(Instance.content_digest.in_(part))
                )
            )
    return frozenset(found)


def open_studies(database: Database) -> tuple[OpenStudy, ...]:
    """Give the studies that are being received, longest quiet first."""
    statement = select(Study).where(IS_OPEN).order_by(Study.last_arrival_at)
    with database.session() as session:
        return tuple(_open_study(session, study) for study in session.scalars(statement))


def uncounted_studies(database: Database, quiet_since: datetime) -> tuple[UncountedStudy, ...]:
    """Give the open studies of unknown number that are quiet since then, longest quiet first."""
    statement = (
        select(Study.study_instance_uid, Study.last_arrival_at)
        .where(IS_OPEN, Study.expected_n_instances.is_(None))
        .where(Study.last_arrival_at <= quiet_since)
        .order_by(Study.last_arrival_at)
    )
    with database.session() as session:
        return tuple(
            UncountedStudy(uid, last_arrival_at, tuple(sorted(_count_sources(session, uid))))
            for uid, last_arrival_at in session.execute(statement).all()
        )


def expect_instances(
    database: Database,
    study_instance_uid: str,
    n_instances: int,
    *,
    last_arrival_at: datetime | None = None,
) -> bool:
    """Keep how many instances the source says the study has.

    Parameters
    ----------
    last_arrival_at
        Newest arrival when the source was asked; a newer one makes the answer void.

    Returns
    -------
    :
        False where the study is no longer open, or an instance came in between.
    """
    with database.begin() as session:
        study = lock_study(session, study_instance_uid)
        if study is None:
            raise _unknown(study_instance_uid)
        if not _is_still_open(study, last_arrival_at):
            return False
        study.expected_n_instances = n_instances
        return True


def complete_study(
    database: Database,
    study_instance_uid: str,
    state: StudyState,
    reason: CompletionReason,
    now: datetime,
    *,
    detail: str = "",
    last_arrival_at: datetime | None = None,
) -> str | None:
    """Close the open generation of a study and queue its run, in one transaction.

    Parameters
    ----------
    state
        The verdict: verified, unverified or partial.
    detail
        One sentence with the numbers behind the verdict.
    last_arrival_at
        Newest arrival that the verdict knew; a newer one makes it void.

    Returns
    -------
    :
        The run, or None where the study is not open or an instance came in between.
    """
    if state not in _COMPLETED:
        raise ValueError(f"a study is completed as verified, unverified or partial, not {state}")
    with database.begin() as session:
        study = lock_study(session, study_instance_uid)
        if study is None or not _is_still_open(study, last_arrival_at):
            return None
        study.state = state
        study.completed_at = now
        study.completion_reason = reason
        _record_completion(session, study, now, detail)
        late = has_runs(session, study_instance_uid)
        run_reason = RunReason.LATE_INSTANCES if late else RunReason.NEW_STUDY
        return create_run(session, study, run_reason, now).run_id


def load_study(
    database: Database, study_instance_uid: str, generation: int | None = None
) -> SpooledStudy:
    """Give what a run screens; without a generation, what the newest would.

    Raises
    ------
    WrongUse
        The study is not known here.
    """
    with database.session() as session:
        study = session.get(Study, study_instance_uid)
        if study is None:
            raise _unknown(study_instance_uid)
        return read_inputs(session, study_instance_uid, generation or study.generation)


def _is_still_open(study: Study, last_arrival_at: datetime | None) -> bool:
    """Whether a study is being received and nothing came since `last_arrival_at`."""
    if study.state is not StudyState.RECEIVING or study.generation < 1:
        return False
    return last_arrival_at is None or study.last_arrival_at <= last_arrival_at


# ── completing ───────────────────────────────────────────────────────────────────────────────


def _record_completion(session: Session, study: Study, now: datetime, detail: str) -> None:
    inputs = read_inputs(session, study.study_instance_uid, study.generation)
    append_event(
        session,
        EventKind.STUDY_COMPLETED,
        now,
        study_instance_uid=study.study_instance_uid,
        payload={
            "generation": study.generation,
            "state": study.state.value,
            "reason": study.completion_reason.value if study.completion_reason else None,
            "detail": detail,
            "n_instances": len(inputs.instances),
            "input_digest": inputs.input_digest,
            "sources": _count_sources(session, study.study_instance_uid),
        },
    )


def _count_sources(session: Session, study_instance_uid: str) -> dict[str, JsonValue]:
    statement = (
        select(Instance.calling_ae_title, func.count())
        .where(Instance.study_instance_uid == study_instance_uid, Instance.is_own_result.is_(False))
        .group_by(Instance.calling_ae_title)
    )
    return {title or "(folder)": count for title, count in session.execute(statement)}


def _open_study(session: Session, study: Study) -> OpenStudy:
    uid = study.study_instance_uid
    series = session.scalars(
        select(Series)
        .where(Series.study_instance_uid == uid, Series.n_instances > 0)
        .order_by(Series.first_arrival_at, Series.series_instance_uid)
    )
    return OpenStudy(
        study_instance_uid=uid,
        generation=study.generation,
        is_stat=study.is_stat,
        opened_at=study.opened_at,
        last_arrival_at=study.last_arrival_at,
        expected_n_instances=study.expected_n_instances,
        series=tuple(
            OpenSeries(row.series_instance_uid, row.modality, row.n_instances, row.last_arrival_at)
            for row in series
        ),
    )


def _unknown(study_instance_uid: str) -> WrongUse:
    return WrongUse(
        f"study {study_instance_uid} is not in the audit database; `screener status` lists what is"
    )
