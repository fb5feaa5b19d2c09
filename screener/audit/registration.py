"""One instance into the ledger: new, duplicate or conflict; and whether it opens its study.

An instance is its SOP Instance UID *and* its content digest within study and series. The same
bytes again are a duplicate, other bytes under the same UID a conflict: both are kept. Our own
results coming back are kept and never open a study.

This is done for every instance while its sender waits: plain statements on one connection, each
compiled once, instead of objects (measured: a fifth of the processor time).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, cast

from sqlalchemy import Table, bindparam, insert, select, update

from screener.audit.database import insert_if_absent
from screener.audit.events import EventKind, JsonValue, append_event
from screener.audit.tables import Instance, Series, Study
from screener.domain import QuarantineReason, SpooledInstance, StudyState

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy import Row
    from sqlalchemy.orm import Session

    AnyRow = Row[*tuple[Any, ...]]

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

_STUDIES = cast("Table", Study.__table__)
_SERIES = cast("Table", Series.__table__)
_INSTANCES = cast("Table", Instance.__table__)

_LOCK_STUDY = (
    select(_STUDIES)
    .where(_STUDIES.c.study_instance_uid == bindparam("study_uid"))
    .with_for_update()
)
_UPDATE_STUDY = update(_STUDIES).where(_STUDIES.c.study_instance_uid == bindparam("study_uid"))
#: Every row of the series; of another study too, which must not be.
_FIND_SERIES = select(_SERIES).where(_SERIES.c.series_instance_uid == bindparam("series_uid"))
_INSERT_SERIES = insert(_SERIES)
_UPDATE_SERIES = update(_SERIES).where(
    _SERIES.c.study_instance_uid == bindparam("study_uid"),
    _SERIES.c.series_instance_uid == bindparam("series_uid"),
)
_INSERT_INSTANCE = insert(_INSTANCES)
_COUNT_DUPLICATE = (
    update(_INSTANCES)
    .where(_INSTANCES.c.instance_id == bindparam("known_id"))
    # A file that was purged is here again.
    .values(n_duplicates=_INSTANCES.c.n_duplicates + 1, purged_at=None)
)
#: An instance of the same UIDs: the one with the same content, if there is one.
_FIND_NAMESAKE = (
    select(_INSTANCES.c.instance_id, _INSTANCES.c.content_digest, _INSTANCES.c.calling_ae_title)
    .where(
        _INSTANCES.c.study_instance_uid == bindparam("study_uid"),
        _INSTANCES.c.series_instance_uid == bindparam("series_uid"),
        _INSTANCES.c.sop_instance_uid == bindparam("sop_uid"),
    )
    .order_by((_INSTANCES.c.content_digest == bindparam("digest")).desc())
    .limit(1)
)


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
    return _Registering(session, received, now).register()


class _Registering:
    """One registration: what the tables say, what changes, one UPDATE for each row that does."""

    def __init__(self, session: Session, received: ReceivedInstance, now: datetime) -> None:
        self._session = session
        self._connection = session.connection()
        self._received = received
        self._instance = received.instance
        self._now = now
        self._keys = {
            "study_uid": received.instance.study_instance_uid,
            "series_uid": received.instance.series_instance_uid,
        }
        self._study_changes: dict[str, Any] = {}
        self._series_changes: dict[str, Any] = {}

    def register(self) -> Registration:
        study = self._study()
        namesake = self._namesake()
        is_same = namesake is not None and (
            namesake.content_digest == self._instance.content_digest
        )
        if namesake is not None and is_same:
            return self._count_duplicate(study, namesake)
        generation, is_receiving = self._place(study)
        series, is_elsewhere = self._series()
        quarantine_reason = self._quarantine_reason(namesake, is_elsewhere=is_elsewhere)
        is_conflict = namesake is not None
        row = _instance_row(self._received, generation, quarantine_reason, is_conflict=is_conflict)
        self._connection.execute(_INSERT_INSTANCE, row)
        if self._received.is_own_result:
            self._tell(
                EventKind.OWN_RESULT_RECEIVED, sop_instance_uid=self._instance.sop_instance_uid
            )
        else:
            self._flag(study, series, quarantine_reason, is_conflict=is_conflict)
            self._count(series, is_receiving=is_receiving)
        self._write_changes()
        return Registration.CONFLICT if is_conflict else Registration.NEW

    # ── what the tables say ──────────────────────────────────────────────────────────────────

    def _study(self) -> AnyRow:
        """Give the locked row of the study, made where it is new; generation 0 until it opens."""
        study = self._locked_study()
        if study is not None:
            return study
        insert_if_absent(self._session, Study, _new_study(self._received, self._now))
        study = self._locked_study()
        if study is None:  # rows of studies are never deleted
            raise RuntimeError("a study vanished between two statements")
        return study

    def _locked_study(self) -> AnyRow | None:
        return self._connection.execute(_LOCK_STUDY, self._keys).one_or_none()

    def _namesake(self) -> AnyRow | None:
        values = {
            **self._keys,
            "sop_uid": self._instance.sop_instance_uid,
            "digest": self._instance.content_digest,
        }
        return self._connection.execute(_FIND_NAMESAKE, values).first()

    def _series(self) -> tuple[AnyRow | None, bool]:
        """Give the row of the series, None where it was made now; and whether it is elsewhere."""
        rows = self._connection.execute(_FIND_SERIES, self._keys).all()
        study_uid = self._instance.study_instance_uid
        is_elsewhere = any(row.study_instance_uid != study_uid for row in rows)
        for row in rows:
            if row.study_instance_uid == study_uid:
                return row, is_elsewhere
        self._connection.execute(
            _INSERT_SERIES,
            {
                "study_instance_uid": study_uid,
                "series_instance_uid": self._instance.series_instance_uid,
                "modality": _shown(self._received.modality),
                "n_instances": 0,
                "first_arrival_at": self._now,
                "last_arrival_at": self._now,
                "has_conflict": False,
            },
        )
        return None, is_elsewhere

    def _quarantine_reason(self, namesake: AnyRow | None, *, is_elsewhere: bool) -> str | None:
        """Give what keeps the instance out of screenings, None where nothing does."""
        if self._received.quarantine_reason is not None or self._received.is_own_result:
            return self._received.quarantine_reason
        if namesake is not None and namesake.calling_ae_title != self._instance.calling_ae_title:
            return QuarantineReason.SENT_BY_ANOTHER.value
        return QuarantineReason.SERIES_IN_TWO_STUDIES.value if is_elsewhere else None

    # ── what changes ─────────────────────────────────────────────────────────────────────────

    def _count_duplicate(self, study: AnyRow, namesake: AnyRow) -> Registration:
        self._connection.execute(_COUNT_DUPLICATE, {"known_id": namesake.instance_id})
        if study.state is StudyState.RECEIVING and not self._received.is_own_result:
            self._study_changes["last_arrival_at"] = self._now  # the sender is still at work
            self._write_changes()
        return Registration.DUPLICATE

    def _place(self, study: AnyRow) -> tuple[int, bool]:
        """Decide which generation the instance belongs to; open the study where it must be.

        Gives the generation, and whether the study is being received now.
        """
        received = self._received
        is_read = not self._instance.sop_class_uid.startswith(NEVER_SCREENED_PREFIXES)
        is_receiving = study.state is StudyState.RECEIVING
        is_first = study.generation == 0
        if received.is_own_result or (is_receiving and not is_first):
            return study.generation, is_receiving
        if not (is_read and (is_first or received.quarantine_reason is None)):
            return study.generation + 1, is_receiving
        generation = study.generation + 1
        self._study_changes |= {
            "state": StudyState.RECEIVING,
            "generation": generation,
            "opened_at": self._now,
            "last_arrival_at": self._now,
            "completed_at": None,
            "completion_reason": None,
            "expected_n_instances": None,  # the source may have more by now: it is asked again
        }
        kind = EventKind.STUDY_OPENED if is_first else EventKind.STUDY_REOPENED
        self._tell(kind, generation=generation)
        return generation, True

    def _flag(
        self,
        study: AnyRow,
        series: AnyRow | None,
        quarantine_reason: str | None,
        *,
        is_conflict: bool,
    ) -> None:
        received, instance = self._received, self._instance
        if received.is_stat and not study.is_stat:
            self._study_changes["is_stat"] = True
        if received.is_non_conformant and not study.has_non_conformant:
            self._study_changes["has_non_conformant"] = True
        where: dict[str, JsonValue] = {"series_instance_uid": instance.series_instance_uid}
        which: dict[str, JsonValue] = {
            **where,
            "sop_instance_uid": instance.sop_instance_uid,
            "content_digest": instance.content_digest,
        }
        # Once per series: 130 slices may share one UID.
        if is_conflict and not (series is not None and series.has_conflict):
            self._series_changes["has_conflict"] = self._study_changes["has_conflict"] = True
            self._tell(EventKind.INSTANCE_CONFLICTED, **which)
        is_other_patient = received.patient_id_digest != study.patient_id_digest
        if is_other_patient and not study.has_several_patients:
            self._study_changes["has_several_patients"] = True
            self._tell(EventKind.PATIENTS_CONFLICTED, **where)
        if quarantine_reason is not None:
            self._tell(EventKind.INSTANCE_QUARANTINED, **which, reason=quarantine_reason)

    def _count(self, series: AnyRow | None, *, is_receiving: bool) -> None:
        n_before = 0 if series is None else series.n_instances
        self._series_changes |= {"n_instances": n_before + 1, "last_arrival_at": self._now}
        if is_receiving:
            self._study_changes["last_arrival_at"] = self._now

    def _write_changes(self) -> None:
        if self._series_changes:
            self._connection.execute(
                _UPDATE_SERIES.values(self._series_changes),
                self._keys,
            )
        if self._study_changes:
            self._connection.execute(_UPDATE_STUDY.values(self._study_changes), self._keys)

    def _tell(self, kind: EventKind, **payload: JsonValue) -> None:
        append_event(
            self._session,
            kind,
            self._now,
            study_instance_uid=self._instance.study_instance_uid,
            payload={"calling_ae_title": self._instance.calling_ae_title, **payload},
        )


def _new_study(received: ReceivedInstance, now: datetime) -> dict[str, Any]:
    return {
        "study_instance_uid": received.instance.study_instance_uid,
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


def _instance_row(
    received: ReceivedInstance, generation: int, quarantine_reason: str | None, *, is_conflict: bool
) -> dict[str, Any]:
    instance = received.instance
    return {
        "study_instance_uid": instance.study_instance_uid,
        "series_instance_uid": instance.series_instance_uid,
        "sop_instance_uid": instance.sop_instance_uid,
        "sop_class_uid": instance.sop_class_uid,
        "transfer_syntax_uid": instance.transfer_syntax_uid,
        "content_digest": instance.content_digest,
        "path": str(instance.path),
        "n_bytes": received.n_bytes,
        "received_at": instance.received_at,
        "calling_ae_title": instance.calling_ae_title,
        "generation": generation,
        "n_duplicates": 0,
        "is_conflict": is_conflict,
        "is_non_conformant": received.is_non_conformant,
        "is_own_result": received.is_own_result,
        "quarantine_reason": quarantine_reason,
    }


def _shown(value: str) -> str:
    """Cut a display value and replace control characters, which PostgreSQL may refuse."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in value)[
        :MAX_VALUE_LENGTH
    ]
