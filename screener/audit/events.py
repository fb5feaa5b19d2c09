"""The closed list of events and the one door through which they are written.

An event is a fact in the past tense. It is written in the same transaction as the deed, so that
neither exists without the other; `chain` seals it soon after. Payloads are allow-listed key by
key: identifiers, counts, codes and fixed sentences, never a name or a birth date. Where an event
has a twin in the vocabulary of PS3.15 A.5 its code (DCM) stands beside it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from screener.audit.database import N_EVENTS
from screener.audit.plain import to_plain
from screener.audit.tables import Event
from screener.facts import (
    Fact,
    LungsSegmented,
    NotAnalysedBecause,
    PatientDecided,
    SeriesSelected,
    SlicesClassified,
    StudyAssembled,
    VolumeAssembled,
)

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

JsonValue = None | bool | int | float | str | Sequence["JsonValue"] | Mapping[str, "JsonValue"]

#: Longest text in a payload; longer texts are cut and end with an ellipsis.
MAX_TEXT_LENGTH = 500


class EventKind(StrEnum):
    """Everything that can have happened."""

    NODE_STARTED = "node_started"  #: 110100 Application Activity
    NODE_STOPPED = "node_stopped"  #: 110100 Application Activity
    ASSOCIATION_REFUSED = "association_refused"  #: 110113 Security Alert
    ASSOCIATION_BROKEN = "association_broken"
    CERTIFICATES_RELOADED = "certificates_reloaded"  #: 110113 Security Alert
    CERTIFICATES_REFUSED = "certificates_refused"  #: 110113 Security Alert
    CERTIFICATE_EXPIRING = "certificate_expiring"  #: 110113 Security Alert
    INSTANCE_REFUSED = "instance_refused"  #: 110113 Security Alert
    STUDY_OPENED = "study_opened"  #: 110102 Begin Transferring DICOM Instances
    STUDY_REOPENED = "study_reopened"  #: 110102 Begin Transferring DICOM Instances
    STUDY_COMPLETED = "study_completed"  #: 110104 DICOM Instances Transferred
    INSTANCE_CONFLICTED = "instance_conflicted"  #: 110113 Security Alert
    INSTANCE_QUARANTINED = "instance_quarantined"  #: 110113 Security Alert
    INSTANCE_RELEASED = "instance_released"  #: 110113 Security Alert
    PATIENTS_CONFLICTED = "patients_conflicted"  #: 110113 Security Alert
    OWN_RESULT_RECEIVED = "own_result_received"  #: 110104 DICOM Instances Transferred
    RUN_QUEUED = "run_queued"
    RUN_STARTED = "run_started"  #: 110103 DICOM Instances Accessed
    STUDY_ASSEMBLED = "study_assembled"
    SERIES_SELECTED = "series_selected"
    VOLUME_ASSEMBLED = "volume_assembled"
    LUNGS_SEGMENTED = "lungs_segmented"
    SLICES_CLASSIFIED = "slices_classified"
    PATIENT_DECIDED = "patient_decided"
    NOT_ANALYSED_BECAUSE = "not_analysed_because"
    RUN_REPORTED = "run_reported"
    RUN_POSTPONED = "run_postponed"
    RUN_FAILED = "run_failed"  #: 110113 Security Alert: a study may go unread
    RUN_LEASE_EXPIRED = "run_lease_expired"
    RUN_RETURNED = "run_returned"
    RUN_SUPERSEDED = "run_superseded"
    RUN_REVIVED = "run_revived"
    DELIVERY_STARTED = "delivery_started"  #: 110102 Begin Transferring DICOM Instances
    VARIANT_STORED = "variant_stored"  #: a report in a class that the destination may take
    DELIVERY_SENT = "delivery_sent"  #: 110104 DICOM Instances Transferred
    COMMITMENT_ASKED = "commitment_asked"
    DELIVERY_CONFIRMED = "delivery_confirmed"  #: 110112 Query
    DELIVERY_POSTPONED = "delivery_postponed"
    DELIVERY_DIED = "delivery_died"  #: 110113 Security Alert: a report may go unread
    DELIVERY_LEASE_EXPIRED = "delivery_lease_expired"
    DELIVERY_REVIVED = "delivery_revived"
    DAY_AUDITED = "day_audited"  #: 110101 Audit Log Used
    CHAIN_VERIFIED = "chain_verified"  #: 110101 Audit Log Used
    CHAIN_BROKEN = "chain_broken"  #: 110113 Security Alert
    ALERT_RAISED = "alert_raised"  #: 110113 Security Alert
    ALERT_RESOLVED = "alert_resolved"  #: 110113 Security Alert
    CLOCK_WENT_BACK = "clock_went_back"  #: 110113 Security Alert
    LOST_TIMES_MENDED = "lost_times_mended"  #: 110113 Security Alert: a table was edited
    INSTANCES_PURGED = "instances_purged"  #: 110105 DICOM Study Deleted
    RESULTS_PURGED = "results_purged"  #: 110105 DICOM Study Deleted


#: Facts of the pipeline and the events they become.
KIND_OF_FACT: Mapping[type[Fact], EventKind] = {
    StudyAssembled: EventKind.STUDY_ASSEMBLED,
    SeriesSelected: EventKind.SERIES_SELECTED,
    VolumeAssembled: EventKind.VOLUME_ASSEMBLED,
    LungsSegmented: EventKind.LUNGS_SEGMENTED,
    SlicesClassified: EventKind.SLICES_CLASSIFIED,
    PatientDecided: EventKind.PATIENT_DECIDED,
    NotAnalysedBecause: EventKind.NOT_ANALYSED_BECAUSE,
}

_DELIVERY = frozenset({"delivery_id", "destination", "attempt"})

#: What each event may say. A key that is not here cannot be written.
PAYLOAD_KEYS: Mapping[EventKind, frozenset[str]] = {
    EventKind.NODE_STARTED: frozenset({"process", "version", "host"}),
    EventKind.NODE_STOPPED: frozenset({"process", "version", "host", "reason"}),
    EventKind.ASSOCIATION_REFUSED: frozenset(
        {"calling_ae_title", "called_ae_title", "address", "reason", "rejection"}
    ),
    EventKind.ASSOCIATION_BROKEN: frozenset(
        {"calling_ae_title", "called_ae_title", "address", "reason"}
    ),
    EventKind.CERTIFICATES_RELOADED: frozenset({"process", "host"}),
    EventKind.CERTIFICATES_REFUSED: frozenset({"process", "host", "detail"}),
    EventKind.CERTIFICATE_EXPIRING: frozenset({"file", "expires_at", "days_left"}),
    EventKind.INSTANCE_REFUSED: frozenset({"calling_ae_title", "status", "reason"}),
    EventKind.STUDY_OPENED: frozenset({"calling_ae_title", "generation"}),
    EventKind.STUDY_REOPENED: frozenset({"calling_ae_title", "generation"}),
    EventKind.STUDY_COMPLETED: frozenset(
        {"generation", "state", "reason", "detail", "n_instances", "input_digest", "sources"}
    ),
    EventKind.INSTANCE_CONFLICTED: frozenset(
        {"calling_ae_title", "series_instance_uid", "sop_instance_uid", "content_digest"}
    ),
    EventKind.INSTANCE_QUARANTINED: frozenset(
        {"calling_ae_title", "series_instance_uid", "sop_instance_uid", "content_digest", "reason"}
    ),
    EventKind.INSTANCE_RELEASED: frozenset(
        {
            "series_instance_uid",
            "sop_instance_uid",
            "content_digest",
            "reason",
            "generation",
            "is_reopened",
        }
    ),
    EventKind.PATIENTS_CONFLICTED: frozenset({"calling_ae_title", "series_instance_uid"}),
    EventKind.OWN_RESULT_RECEIVED: frozenset({"calling_ae_title", "sop_instance_uid"}),
    EventKind.RUN_QUEUED: frozenset(
        {"version", "generation", "reason", "is_stat", "input_digest", "n_instances"}
    ),
    EventKind.RUN_STARTED: frozenset({"attempt", "owner", "predecessor_run_id"}),
    EventKind.RUN_REPORTED: frozenset(
        {
            "attempt",
            "outcome",
            "patient_class",
            "certainty",
            "reason",
            "pipeline",
            "code_version",
            "settings_digest",
            "input_digest",
            "host",
            "device",
            "models",
            "objects",
            "destinations",
        }
    ),
    EventKind.RUN_POSTPONED: frozenset({"attempt", "detail", "delay_s"}),
    EventKind.RUN_FAILED: frozenset({"attempt", "detail"}),
    EventKind.RUN_LEASE_EXPIRED: frozenset({"attempt", "owner"}),
    EventKind.RUN_RETURNED: frozenset({"attempt", "owner"}),
    EventKind.RUN_SUPERSEDED: frozenset({"by_run_id"}),
    EventKind.RUN_REVIVED: frozenset({"attempt"}),
    EventKind.DELIVERY_STARTED: _DELIVERY,
    EventKind.VARIANT_STORED: _DELIVERY
    | {"sop_instance_uid", "sop_class_uid", "variant_of", "digest", "detail"},
    EventKind.DELIVERY_SENT: _DELIVERY | {"objects"},
    EventKind.COMMITMENT_ASKED: _DELIVERY | {"transaction_uid"},
    EventKind.DELIVERY_CONFIRMED: _DELIVERY | {"detail"},
    EventKind.DELIVERY_POSTPONED: _DELIVERY | {"detail", "delay_s"},
    EventKind.DELIVERY_DIED: _DELIVERY | {"detail"},
    EventKind.DELIVERY_LEASE_EXPIRED: _DELIVERY | {"owner"},
    EventKind.DELIVERY_REVIVED: _DELIVERY,
    EventKind.DAY_AUDITED: frozenset({"day", "is_clean", "content_digest"}),
    EventKind.CHAIN_VERIFIED: frozenset({"n_events", "n_checkpoints"}),
    EventKind.CHAIN_BROKEN: frozenset({"n_events", "n_checkpoints", "findings"}),
    EventKind.ALERT_RAISED: frozenset({"alert", "subject", "detail"}),
    EventKind.ALERT_RESOLVED: frozenset({"alert", "subject", "seconds"}),
    EventKind.CLOCK_WENT_BACK: frozenset({"seconds", "n_rows"}),
    EventKind.LOST_TIMES_MENDED: frozenset({"n_rows"}),
    EventKind.INSTANCES_PURGED: frozenset({"rule", "n_instances", "n_bytes"}),
    EventKind.RESULTS_PURGED: frozenset({"rule", "n_objects", "n_bytes"}),
    # The fields of a fact are its allow-list: facts are defined, and reviewed, in `screener.facts`.
    **{
        kind: frozenset(field.name for field in fields(fact)) for fact, kind in KIND_OF_FACT.items()
    },
}


@dataclass(frozen=True, slots=True)
class PendingEvent:
    """An event that waits for the transaction of its deed."""

    kind: EventKind
    occurred_at: datetime
    payload: Mapping[str, JsonValue]


def append_event(
    session: Session,
    kind: EventKind,
    now: datetime,
    *,
    study_instance_uid: str | None = None,
    run_id: str | None = None,
    payload: Mapping[str, JsonValue] | None = None,
) -> None:
    """Write one event into the transaction of the deed.

    Parameters
    ----------
    payload
        Keys of :data:`PAYLOAD_KEYS` for this kind.

    Raises
    ------
    ValueError
        A key is not allowed for this kind: a mistake in the caller, not in the data.
    """
    session.info[N_EVENTS] = session.info.get(N_EVENTS, 0) + 1
    session.add(Event(**event_row(kind, now, study_instance_uid, run_id, payload)))


def event_row(
    kind: EventKind,
    now: datetime,
    study_instance_uid: str | None = None,
    run_id: str | None = None,
    payload: Mapping[str, JsonValue] | None = None,
) -> dict[str, Any]:
    """Give the columns of one event as it is first written; who inserts it counts it too.

    Raises
    ------
    ValueError
        As `append_event`.
    """
    content = payload or {}
    unknown = set(content) - PAYLOAD_KEYS[kind]
    if unknown:
        raise ValueError(f"{kind.value} may not say {', '.join(sorted(unknown))}")
    text = canonical_json(_shortened(content))
    return {
        "kind": kind.value,
        "occurred_at": now,
        "study_instance_uid": study_instance_uid,
        "run_id": run_id,
        "payload": text,
        "digest": event_digest(kind.value, now, study_instance_uid, run_id, text),
        "sequence": None,
        "seal": None,
        "chain_hash": None,
    }


def event_of(fact: Fact, occurred_at: datetime) -> PendingEvent:
    """Turn a fact of the pipeline into an event: its fields are the payload."""
    return PendingEvent(KIND_OF_FACT[type(fact)], occurred_at, to_plain(fact))


#: The canonical JSON of one text.
json_text = json.encoder.encode_basestring_ascii


def canonical_json(content: object) -> str:
    """Give the one text of a JSON value: sorted keys, no spaces, no NaN."""
    return json.dumps(
        content, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False
    )


def event_digest(
    kind: str,
    occurred_at: datetime,
    study_instance_uid: str | None,
    run_id: str | None,
    payload: str,
) -> str:
    """Give the sha256 of an event as written, before it has a number."""
    at = occurred_at.astimezone(UTC).isoformat(timespec="microseconds")
    return digest_of_texts(kind, at, study_instance_uid, run_id, payload)


def digest_of_texts(
    kind: str, at: str, study_instance_uid: str | None, run_id: str | None, payload: str
) -> str:
    """Give the digest of an event whose time is a text already: ISO 8601, UTC, microseconds."""
    parts = (kind, at, study_instance_uid, run_id, payload)
    # canonical, and quicker: a long trail is millions of these
    listed = ",".join("null" if part is None else json_text(part) for part in parts)
    return hashlib.sha256(f"[{listed}]".encode()).hexdigest()


def _shortened(value: JsonValue) -> JsonValue:
    if isinstance(value, str):
        return value if len(value) <= MAX_TEXT_LENGTH else value[: MAX_TEXT_LENGTH - 1] + "…"
    if isinstance(value, Mapping):
        return {key: _shortened(item) for key, item in value.items()}
    if isinstance(value, Sequence):
        return [_shortened(item) for item in value]
    return value
