"""Instances into the ledger: new, duplicate or conflict; and whether they open their study.

An instance is its SOP Instance UID *and* its content digest within study and series. The same
bytes again are a duplicate, other bytes under the same UID a conflict: both are kept. Our own
results coming back are kept and never open a study.

This is done while senders wait, so it costs little: statements that are prepared once
(`prepared`), and one transaction for all that wait at the same time (`group_commit`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, NamedTuple

from screener.audit.events import EventKind, JsonValue, event_row
from screener.audit.registration_statements import Statements, statements_for
from screener.domain import QuarantineReason, SpooledInstance, StudyState

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from screener.audit.database import Database

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


def register_all(
    database: Database, batch: Sequence[ReceivedInstance], now: datetime
) -> list[Registration]:
    """Commit the rows of durable instances in one transaction; only then is any of them known.

    Raises
    ------
    DatabaseUnavailable
        Nothing was committed.
    """
    outcomes: dict[int, Registration] = {}
    # Rows of studies are locked one after another: in one order, so that two listeners whose
    # batches share studies cannot wait for each other.
    order = sorted(range(len(batch)), key=lambda at: batch[at].instance.study_instance_uid)
    with database.cursor() as cursor:
        ledger = _OpenLedger(cursor, statements_for(database.engine.dialect), now)
        for at in order:
            outcomes[at] = _Registering(ledger, batch[at]).register()
        ledger.write()
    return [outcomes[at] for at in range(len(batch))]


class _Namesake(NamedTuple):
    instance_id: int
    content_digest: str
    calling_ae_title: str | None


@dataclass(slots=True)
class _StudyRow:
    """A locked row of a study, and what of it is to be written."""

    state: str
    generation: int
    patient_id_digest: str
    is_stat: bool
    has_conflict: bool
    has_non_conformant: bool
    has_several_patients: bool
    is_opened: bool = False
    is_flagged: bool = False
    is_touched: bool = False

    @property
    def is_receiving(self) -> bool:
        return self.state == StudyState.RECEIVING.value


@dataclass(slots=True)
class _SeriesRow:
    n_instances: int
    has_conflict: bool
    is_elsewhere: bool  #: in another study too
    is_changed: bool = False


@dataclass(slots=True)
class _OpenLedger:
    """What one transaction knows: the rows it holds, written once each at its end."""

    cursor: Any
    statements: Statements
    now: datetime
    n_events: int = 0
    studies: dict[str, _StudyRow] = field(default_factory=dict)
    series: dict[tuple[str, str], _SeriesRow] = field(default_factory=dict)

    def study(self, received: ReceivedInstance) -> _StudyRow:
        """Give the locked row of the study, made where it is new; generation 0 until it opens."""
        uid = received.instance.study_instance_uid
        row = self.studies.get(uid) or self._locked_study(uid)
        if row is None:
            self.statements.insert_study.run(self.cursor, _new_study(received, self.now))
            row = self._locked_study(uid)
        if row is None:  # rows of studies are never deleted
            raise RuntimeError("a study vanished between two statements")
        self.studies[uid] = row
        return row

    def _locked_study(self, study_uid: str) -> _StudyRow | None:
        row = self.statements.lock_study.run(self.cursor, {"study_uid": study_uid}).fetchone()
        return None if row is None else _StudyRow(*row)

    def series_of(self, received: ReceivedInstance) -> _SeriesRow:
        """Give the row of the series, made where it is new."""
        study_uid = received.instance.study_instance_uid
        series_uid = received.instance.series_instance_uid
        known = self.series.get((study_uid, series_uid))
        if known is not None:
            return known
        found = self.statements.find_series.run(self.cursor, {"series_uid": series_uid}).fetchall()
        is_elsewhere = any(study != study_uid for study, _, _ in found)
        row = _SeriesRow(0, has_conflict=False, is_elsewhere=is_elsewhere)
        mine = [counted for study, *counted in found if study == study_uid]
        if mine:
            row.n_instances, row.has_conflict = mine[0][0], bool(mine[0][1])
        else:
            self.statements.insert_series.run(self.cursor, _new_series(received, self.now))
        self.series[study_uid, series_uid] = row
        return row

    def tell(self, kind: EventKind, study_uid: str, payload: dict[str, JsonValue]) -> None:
        """Write an event now, count it at the end."""
        row = event_row(kind, self.now, study_uid, payload=payload)
        self.statements.insert_event.run(self.cursor, row)
        self.n_events += 1

    def write(self) -> None:
        """Write what changed of the rows that are held."""
        for (study_uid, series_uid), series in self.series.items():
            if series.is_changed:
                values = {
                    "study_uid": study_uid,
                    "series_uid": series_uid,
                    "n_instances": series.n_instances,
                    "has_conflict": series.has_conflict,
                    "last_arrival_at": self.now,
                }
                self.statements.update_series.run(self.cursor, values)
        for study_uid, study in self.studies.items():
            self._write_study({"study_uid": study_uid}, study)
        if self.n_events:
            # Last before the commit: whoever waits for this row holds all others it needs.
            self.statements.count_events.run(self.cursor, {"n_events": self.n_events})

    def _write_study(self, key: dict[str, Any], study: _StudyRow) -> None:
        if study.is_opened:
            values = {
                "state": StudyState.RECEIVING,
                "generation": study.generation,
                "opened_at": self.now,
                "last_arrival_at": self.now,
                "completed_at": None,
                "completion_reason": None,
                "expected_n_instances": None,  # the source may have more now: it is asked again
            }
            self.statements.open_study.run(self.cursor, key | values)
        elif study.is_touched:
            self.statements.touch_study.run(self.cursor, key | {"last_arrival_at": self.now})
        if study.is_flagged:
            values = {
                "is_stat": study.is_stat,
                "has_conflict": study.has_conflict,
                "has_non_conformant": study.has_non_conformant,
                "has_several_patients": study.has_several_patients,
            }
            self.statements.flag_study.run(self.cursor, key | values)


class _Registering:
    """One registration: what the ledger says of the instance, and what it changes there."""

    def __init__(self, ledger: _OpenLedger, received: ReceivedInstance) -> None:
        self._ledger = ledger
        self._received = received
        self._instance = received.instance

    def register(self) -> Registration:
        study = self._ledger.study(self._received)
        namesake = self._namesake()
        if namesake is not None and namesake.content_digest == self._instance.content_digest:
            return self._count_duplicate(study, namesake)
        generation, is_receiving = self._place(study)
        series = self._ledger.series_of(self._received)
        quarantine_reason = self._quarantine_reason(namesake, series)
        is_conflict = namesake is not None
        row = _instance_row(self._received, generation, quarantine_reason, is_conflict=is_conflict)
        self._ledger.statements.insert_instance.run(self._ledger.cursor, row)
        if self._received.is_own_result:
            self._tell(
                EventKind.OWN_RESULT_RECEIVED, sop_instance_uid=self._instance.sop_instance_uid
            )
        else:
            self._flag(study, series, quarantine_reason, is_conflict=is_conflict)
            series.n_instances += 1
            series.is_changed = True
            study.is_touched = study.is_touched or is_receiving
        return Registration.CONFLICT if is_conflict else Registration.NEW

    def _namesake(self) -> _Namesake | None:
        instance = self._instance
        values = {
            "study_uid": instance.study_instance_uid,
            "series_uid": instance.series_instance_uid,
            "sop_uid": instance.sop_instance_uid,
            "digest": instance.content_digest,
        }
        ledger = self._ledger
        row = ledger.statements.find_namesake.run(ledger.cursor, values).fetchone()
        return None if row is None else _Namesake(*row)

    def _quarantine_reason(self, namesake: _Namesake | None, series: _SeriesRow) -> str | None:
        """Give what keeps the instance out of screenings, None where nothing does."""
        if self._received.quarantine_reason is not None or self._received.is_own_result:
            return self._received.quarantine_reason
        if namesake is not None and namesake.calling_ae_title != self._instance.calling_ae_title:
            return QuarantineReason.SENT_BY_ANOTHER.value
        return QuarantineReason.SERIES_IN_TWO_STUDIES.value if series.is_elsewhere else None

    def _count_duplicate(self, study: _StudyRow, namesake: _Namesake) -> Registration:
        ledger = self._ledger
        ledger.statements.count_duplicate.run(ledger.cursor, {"known_id": namesake.instance_id})
        if study.is_receiving and not self._received.is_own_result:
            study.is_touched = True  # the sender is still at work
        return Registration.DUPLICATE

    def _place(self, study: _StudyRow) -> tuple[int, bool]:
        """Decide which generation the instance belongs to; open the study where it must be.

        Gives the generation, and whether the study is being received now.
        """
        received = self._received
        is_read = not self._instance.sop_class_uid.startswith(NEVER_SCREENED_PREFIXES)
        is_first = study.generation == 0
        if received.is_own_result or (study.is_receiving and not is_first):
            return study.generation, study.is_receiving
        if not (is_read and (is_first or received.quarantine_reason is None)):
            return study.generation + 1, study.is_receiving
        study.generation += 1
        study.state = StudyState.RECEIVING.value
        study.is_opened = True
        kind = EventKind.STUDY_OPENED if is_first else EventKind.STUDY_REOPENED
        self._tell(kind, generation=study.generation)
        return study.generation, True

    def _flag(
        self,
        study: _StudyRow,
        series: _SeriesRow,
        quarantine_reason: str | None,
        *,
        is_conflict: bool,
    ) -> None:
        received, instance = self._received, self._instance
        if received.is_stat and not study.is_stat:
            study.is_stat = study.is_flagged = True
        if received.is_non_conformant and not study.has_non_conformant:
            study.has_non_conformant = study.is_flagged = True
        where: dict[str, JsonValue] = {"series_instance_uid": instance.series_instance_uid}
        which: dict[str, JsonValue] = {
            **where,
            "sop_instance_uid": instance.sop_instance_uid,
            "content_digest": instance.content_digest,
        }
        # Once per series: 130 slices may share one UID.
        if is_conflict and not series.has_conflict:
            series.has_conflict = study.has_conflict = study.is_flagged = True
            self._tell(EventKind.INSTANCE_CONFLICTED, **which)
        is_other_patient = received.patient_id_digest != study.patient_id_digest
        if is_other_patient and not study.has_several_patients:
            study.has_several_patients = study.is_flagged = True
            self._tell(EventKind.PATIENTS_CONFLICTED, **where)
        if quarantine_reason is not None:
            self._tell(EventKind.INSTANCE_QUARANTINED, **which, reason=quarantine_reason)

    def _tell(self, kind: EventKind, **payload: JsonValue) -> None:
        content = {"calling_ae_title": self._instance.calling_ae_title, **payload}
        self._ledger.tell(kind, self._instance.study_instance_uid, content)


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


def _new_series(received: ReceivedInstance, now: datetime) -> dict[str, Any]:
    return {
        "study_instance_uid": received.instance.study_instance_uid,
        "series_instance_uid": received.instance.series_instance_uid,
        "modality": _shown(received.modality),
        "n_instances": 0,
        "first_arrival_at": now,
        "last_arrival_at": now,
        "has_conflict": False,
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
        "purged_at": None,
    }


def _shown(value: str) -> str:
    """Cut a display value and replace control characters, which PostgreSQL may refuse."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in value)[
        :MAX_VALUE_LENGTH
    ]
