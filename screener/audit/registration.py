"""One instance into the ledger: new, duplicate or conflict; and whether it opens its study.

An instance is its SOP Instance UID *and* its content digest within study and series. The same
bytes again are a duplicate, other bytes under the same UID a conflict: both are kept. Our own
results coming back are kept and never open a study.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from sqlalchemy import select

from screener.audit.database import insert_if_absent
from screener.audit.events import EventKind, JsonValue, append_event
from screener.audit.inputs import lock_study
from screener.audit.tables import Instance, Series, Study
from screener.domain import SpooledInstance, StudyState

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy import Row
    from sqlalchemy.orm import Session

#: SOP classes that no run reads: their late arrival must not open a study again, nor their arrival
#: alone open one. Prefixes of PS3.6 A: presentation states, structured reports and key objects,
#: registrations and segmentations, encapsulated documents, radiotherapy objects.
NEVER_SCREENED_PREFIXES = (
    "1.2.840.10008.5.1.4.1.1.11.",
    "1.2.840.10008.5.1.4.1.1.88.",
    "1.2.840.10008.5.1.4.1.1.66",
    "1.2.840.10008.5.1.4.1.1.104.",
    "1.2.840.10008.5.1.4.1.1.481.",
)

#: Longest display value that is kept of a data set (modality, date).
MAX_VALUE_LENGTH = 64


class Registration(StrEnum):
    """What the ledger made of an instance. Each is a success to the sender."""

    NEW = "new"
    DUPLICATE = "duplicate"  #: the same bytes were here already
    CONFLICT = "conflict"  #: other bytes under the same SOP Instance UID; both are kept


@dataclass(frozen=True, slots=True)
class ReceivedInstance:
    """A durable instance with what the ledger needs from its header."""

    instance: SpooledInstance
    modality: str
    study_date: str  #: DA as received, may be empty
    patient_id_digest: str  #: salted; empty where there is no Patient ID
    n_bytes: int
    is_non_conformant: bool = False
    is_own_result: bool = False
    quarantine_reason: str | None = None
    is_stat: bool = False


def register(session: Session, received: ReceivedInstance, now: datetime) -> Registration:
    """Do what `register_instance` does inside an open transaction, for group commits."""
    study = _study_of(session, received, now)
    namesake = _namesake(session, received.instance)
    if namesake is not None and namesake.content_digest == received.instance.content_digest:
        session.get_one(Instance, namesake.instance_id).n_duplicates += 1
        if study.state is StudyState.RECEIVING and not received.is_own_result:
            study.last_arrival_at = now  # the sender is still at work
        return Registration.DUPLICATE
    generation = _place(session, study, received, now)
    series = _series_of(session, received, now)
    is_conflict = namesake is not None
    session.add(_instance_row(received, generation, is_conflict=is_conflict))
    _flag(session, study, series, received, now, is_conflict=is_conflict)
    if not received.is_own_result:
        series.n_instances += 1
        series.last_arrival_at = now
        if study.state is StudyState.RECEIVING:
            study.last_arrival_at = now
    return Registration.CONFLICT if is_conflict else Registration.NEW


def _study_of(session: Session, received: ReceivedInstance, now: datetime) -> Study:
    """Give the locked row of the study, made where it is new; generation 0 until it opens."""
    uid = received.instance.study_instance_uid
    study = lock_study(session, uid)
    if study is not None:
        return study
    values: dict[str, Any] = {
        "study_instance_uid": uid,
        "state": StudyState.RECEIVING,
        "generation": 0,
        "study_date": _shown(received.study_date),
        "patient_id_digest": received.patient_id_digest,
        "is_stat": received.is_stat,
        "first_arrival_at": now,
        "last_arrival_at": now,
        "opened_at": now,
        "has_conflict": False,
        "has_non_conformant": False,
        "has_several_patients": False,
    }
    insert_if_absent(session, Study, values)
    study = lock_study(session, uid)
    if study is None:  # rows of studies are never deleted
        raise RuntimeError(f"study {uid} vanished between two statements")
    return study


def _series_of(session: Session, received: ReceivedInstance, now: datetime) -> Series:
    instance = received.instance
    key = (instance.study_instance_uid, instance.series_instance_uid)
    series = session.get(Series, key)
    if series is None:
        series = Series(
            study_instance_uid=key[0],
            series_instance_uid=key[1],
            modality=_shown(received.modality),
            n_instances=0,
            first_arrival_at=now,
            last_arrival_at=now,
            has_conflict=False,
        )
        session.add(series)
        session.flush()
    return series


def _place(session: Session, study: Study, received: ReceivedInstance, now: datetime) -> int:
    """Decide which generation the instance belongs to; open the study where it must be."""
    is_read = not received.instance.sop_class_uid.startswith(NEVER_SCREENED_PREFIXES)
    is_first = study.generation == 0
    if received.is_own_result:
        return study.generation
    if study.state is StudyState.RECEIVING and not is_first:
        return study.generation
    may_open = is_read and (is_first or received.quarantine_reason is None)
    if not may_open:
        return study.generation + 1
    study.state = StudyState.RECEIVING
    study.generation += 1
    study.opened_at = now
    study.last_arrival_at = now
    study.completed_at = None
    study.completion_reason = None
    append_event(
        session,
        EventKind.STUDY_OPENED if is_first else EventKind.STUDY_REOPENED,
        now,
        study_instance_uid=study.study_instance_uid,
        payload={
            "calling_ae_title": received.instance.calling_ae_title,
            "generation": study.generation,
        },
    )
    return study.generation


def _flag(
    session: Session,
    study: Study,
    series: Series,
    received: ReceivedInstance,
    now: datetime,
    *,
    is_conflict: bool,
) -> None:
    instance = received.instance
    source: dict[str, JsonValue] = {"calling_ae_title": instance.calling_ae_title}
    where: dict[str, JsonValue] = {**source, "series_instance_uid": instance.series_instance_uid}
    which: dict[str, JsonValue] = {
        **where,
        "sop_instance_uid": instance.sop_instance_uid,
        "content_digest": instance.content_digest,
    }

    def tell(kind: EventKind, payload: dict[str, JsonValue]) -> None:
        uid = study.study_instance_uid
        append_event(session, kind, now, study_instance_uid=uid, payload=payload)

    if received.is_own_result:
        own = {**source, "sop_instance_uid": instance.sop_instance_uid}
        tell(EventKind.OWN_RESULT_RECEIVED, own)
        return
    study.is_stat = study.is_stat or received.is_stat
    study.has_non_conformant = study.has_non_conformant or received.is_non_conformant
    if is_conflict and not series.has_conflict:  # once per series: 130 slices may share one UID
        series.has_conflict = study.has_conflict = True
        tell(EventKind.INSTANCE_CONFLICTED, which)
    if received.patient_id_digest != study.patient_id_digest and not study.has_several_patients:
        study.has_several_patients = True
        tell(EventKind.PATIENTS_CONFLICTED, where)
    if received.quarantine_reason is not None:
        reason = {"reason": received.quarantine_reason}
        tell(EventKind.INSTANCE_QUARANTINED, {**which, **reason})


def _namesake(session: Session, instance: SpooledInstance) -> Row[int, str] | None:
    """Give an instance of the same UIDs: the one with the same content, if there is one."""
    is_same = Instance.content_digest == instance.content_digest
    statement = select(Instance.instance_id, Instance.content_digest).where(
        Instance.study_instance_uid == instance.study_instance_uid,
        Instance.series_instance_uid == instance.series_instance_uid,
        Instance.sop_instance_uid == instance.sop_instance_uid,
    )
    return session.execute(statement.order_by(is_same.desc()).limit(1)).first()


def _instance_row(received: ReceivedInstance, generation: int, *, is_conflict: bool) -> Instance:
    instance = received.instance
    return Instance(
        study_instance_uid=instance.study_instance_uid,
        series_instance_uid=instance.series_instance_uid,
        sop_instance_uid=instance.sop_instance_uid,
        sop_class_uid=instance.sop_class_uid,
        transfer_syntax_uid=instance.transfer_syntax_uid,
        content_digest=instance.content_digest,
        path=str(instance.path),
        n_bytes=received.n_bytes,
        received_at=instance.received_at,
        calling_ae_title=instance.calling_ae_title,
        generation=generation,
        n_duplicates=0,
        is_conflict=is_conflict,
        is_non_conformant=received.is_non_conformant,
        is_own_result=received.is_own_result,
        quarantine_reason=received.quarantine_reason,
    )


def _shown(value: str) -> str:
    """Cut a display value and replace control characters, which PostgreSQL may refuse."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in value)[
        :MAX_VALUE_LENGTH
    ]
