"""One typed class per table. No names, no birth dates: a patient is a salted digest at most.

States change in `ledger`, `claims`, `results` and `deliveries` only, each by one conditional
UPDATE. Annotations are evaluated at run time, so this module has no postponed annotations.
"""

from datetime import date, datetime
from typing import Any

from sqlalchemy import (
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.orm import Mapped, mapped_column

from screener.audit.table_types import Row, RunningNumber
from screener.audit.tolerant_types import LargeNumber
from screener.domain import (
    CompletionReason,
    DeliveryState,
    PatientClass,
    ResultKind,
    RunReason,
    RunState,
    StudyState,
)

#: At most one run of a study generation may wait or work.
ACTIVE_RUN = text("state IN ('queued', 'running')")


#: Few instances are in quarantine; listing them must not read all others.
IN_QUARANTINE = text("quarantine_reason IS NOT NULL")


# ── what came in ─────────────────────────────────────────────────────────────────────────────


class Study(Row):
    """One study; its generation counts how often it was opened."""

    __tablename__ = "studies"
    __table_args__ = (Index(None, "state", "last_arrival_at"), Index(None, "study_date"))

    study_instance_uid: Mapped[str] = mapped_column(primary_key=True)
    state: Mapped[StudyState]
    #: 0: only our own results came; 1: first opening; each reopening by late instances adds 1.
    generation: Mapped[int]
    study_date: Mapped[str]  #: DICOM DA as received, may be empty
    patient_id_digest: Mapped[str]
    is_stat: Mapped[bool]
    first_arrival_at: Mapped[datetime]
    last_arrival_at: Mapped[datetime]
    opened_at: Mapped[datetime]  #: start of this generation: the hard cap counts from here
    completed_at: Mapped[datetime | None]
    completion_reason: Mapped[CompletionReason | None]
    expected_n_instances: Mapped[int | None]
    has_conflict: Mapped[bool]  #: several contents under one SOP Instance UID
    has_non_conformant: Mapped[bool]
    has_several_patients: Mapped[bool]


class Series(Row):
    """One series of a study."""

    __tablename__ = "series"
    __table_args__ = (Index(None, "series_instance_uid"),)  # one may be in two studies by mistake

    study_instance_uid: Mapped[str] = mapped_column(
        ForeignKey("studies.study_instance_uid"), primary_key=True
    )
    series_instance_uid: Mapped[str] = mapped_column(primary_key=True)
    modality: Mapped[str]
    n_instances: Mapped[int]  #: kept instances; a duplicate does not count
    first_arrival_at: Mapped[datetime]
    last_arrival_at: Mapped[datetime]
    has_conflict: Mapped[bool]


class Instance(Row):
    """One kept instance, identified by SOP Instance UID and content digest (design 3.1)."""

    __tablename__ = "instances"
    __table_args__ = (
        UniqueConstraint(
            "study_instance_uid",
            "series_instance_uid",
            "sop_instance_uid",
            "content_digest",
            name="uq_instances_identity",
        ),
        ForeignKeyConstraint(
            ["study_instance_uid", "series_instance_uid"],
            ["series.study_instance_uid", "series.series_instance_uid"],
            name="fk_instances_series",
        ),
        Index(None, "content_digest"),
        Index(
            "ix_instances_quarantined",
            "received_at",
            sqlite_where=IN_QUARANTINE,
            postgresql_where=IN_QUARANTINE,
        ),
    )

    instance_id: Mapped[int] = mapped_column(RunningNumber, primary_key=True)
    study_instance_uid: Mapped[str]
    series_instance_uid: Mapped[str]
    sop_instance_uid: Mapped[str]
    sop_class_uid: Mapped[str]
    transfer_syntax_uid: Mapped[str]
    content_digest: Mapped[str]
    path: Mapped[str]
    n_bytes: Mapped[int] = mapped_column(LargeNumber)
    received_at: Mapped[datetime]
    calling_ae_title: Mapped[str | None]
    #: Generation the instance belongs to; beyond the study's: it waits for the next opening.
    generation: Mapped[int]
    n_duplicates: Mapped[int]  #: how often the same bytes came again
    is_conflict: Mapped[bool]
    is_non_conformant: Mapped[bool]
    is_own_result: Mapped[bool]
    quarantine_reason: Mapped[str | None]
    purged_at: Mapped[datetime | None]  #: the file is gone by rule; the row stays


# ── runs and their results ───────────────────────────────────────────────────────────────────


class Run(Row):
    """One screening of one study generation; appended, never overwritten (design 3.4)."""

    __tablename__ = "runs"
    __table_args__ = (
        UniqueConstraint("study_instance_uid", "version"),
        Index(
            "uq_runs_active_generation",
            "study_instance_uid",
            "generation",
            unique=True,
            sqlite_where=ACTIVE_RUN,
            postgresql_where=ACTIVE_RUN,
        ),
        Index(None, "state", "is_stat", "queued_at"),
    )

    run_id: Mapped[str] = mapped_column(primary_key=True)
    study_instance_uid: Mapped[str] = mapped_column(ForeignKey("studies.study_instance_uid"))
    generation: Mapped[int]
    version: Mapped[int]
    reason: Mapped[RunReason]
    state: Mapped[RunState]
    is_stat: Mapped[bool]
    input_digest: Mapped[str]
    n_instances: Mapped[int]
    queued_at: Mapped[datetime]
    not_before_at: Mapped[datetime]
    rung_at: Mapped[datetime | None]
    attempt: Mapped[int]  #: fencing token: only ever grows
    attempts_forgiven: Mapped[int]  #: attempts before the last retry by a person
    lease_owner: Mapped[str | None]
    lease_expires_at: Mapped[datetime | None]
    started_at: Mapped[datetime | None]  #: start of the first attempt; frozen
    finished_at: Mapped[datetime | None]
    delivered_at: Mapped[datetime | None]
    confirmed_at: Mapped[datetime | None]
    predecessor_run_id: Mapped[str | None] = mapped_column(ForeignKey("runs.run_id"))
    superseded_by_run_id: Mapped[str | None] = mapped_column(ForeignKey("runs.run_id"))
    last_error: Mapped[str | None]
    pipeline: Mapped[str | None]
    code_version: Mapped[str | None]
    settings_digest: Mapped[str | None]
    host: Mapped[str | None]
    device: Mapped[str | None]
    patient_class: Mapped[PatientClass | None]
    certainty: Mapped[float | None]
    not_analysed_reason: Mapped[str | None]
    selected_series_instance_uid: Mapped[str | None]
    #: Decision or NotAnalysed, ranking, geometry, defects, seconds by step: as plain JSON.
    evidence: Mapped[dict[str, Any] | None]
    n_deliveries: Mapped[int | None]  #: destinations it was reported for; None before


class SliceResult(Row):
    """What the classifier said of one slice."""

    __tablename__ = "slice_results"

    run_id: Mapped[str] = mapped_column(ForeignKey("runs.run_id"), primary_key=True)
    slice_index: Mapped[int] = mapped_column(primary_key=True)
    sop_instance_uid: Mapped[str]
    content_digest: Mapped[str]
    frame_number: Mapped[int | None]
    location_mm: Mapped[float]
    label: Mapped[str]  #: the class with the highest probability
    is_affected: Mapped[bool]
    probabilities: Mapped[dict[str, Any]]  #: class name to probability


class ResultObjectRow(Row):
    """One encoded result object, stored as a file before it is sent."""

    __tablename__ = "result_objects"

    sop_instance_uid: Mapped[str] = mapped_column(primary_key=True)
    run_id: Mapped[str] = mapped_column(ForeignKey("runs.run_id"), index=True)
    kind: Mapped[ResultKind]
    sop_class_uid: Mapped[str]
    series_instance_uid: Mapped[str]
    path: Mapped[str]
    digest: Mapped[str]
    n_bytes: Mapped[int] = mapped_column(LargeNumber)
    variant_of: Mapped[str | None]  #: the report that it stands for in another SOP class
    purged_at: Mapped[datetime | None]


class Model(Row):
    """A model that some run used, by content."""

    __tablename__ = "models"

    digest: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str]
    version: Mapped[str]
    task: Mapped[str]
    first_used_at: Mapped[datetime]


class RunModel(Row):
    """A model as one run used it."""

    __tablename__ = "run_models"

    run_id: Mapped[str] = mapped_column(ForeignKey("runs.run_id"), primary_key=True)
    digest: Mapped[str] = mapped_column(ForeignKey("models.digest"), primary_key=True)
    provider: Mapped[str]
    fallback_reason: Mapped[str | None]


class Delivery(Row):
    """One destination of one run."""

    __tablename__ = "deliveries"
    __table_args__ = (
        UniqueConstraint("run_id", "destination"),
        Index(None, "state", "not_before_at"),
        Index(None, "study_instance_uid", "destination"),
    )

    delivery_id: Mapped[str] = mapped_column(primary_key=True)
    run_id: Mapped[str] = mapped_column(ForeignKey("runs.run_id"))
    study_instance_uid: Mapped[str] = mapped_column(ForeignKey("studies.study_instance_uid"))
    run_version: Mapped[int]  #: reports of one study are sent in this order
    destination: Mapped[str]
    state: Mapped[DeliveryState]
    is_stat: Mapped[bool]
    attempt: Mapped[int]  #: fencing token
    n_failures: Mapped[int]  #: in a row; sets the back-off
    pending_since_at: Mapped[datetime]  #: patience counts from here
    not_before_at: Mapped[datetime]
    rung_at: Mapped[datetime | None]
    lease_owner: Mapped[str | None]
    lease_expires_at: Mapped[datetime | None]
    sent_at: Mapped[datetime | None]
    confirmed_at: Mapped[datetime | None]
    last_detail: Mapped[str | None]
    commitment_uid: Mapped[str | None] = mapped_column(index=True)  #: transaction asked last
    n_denials: Mapped[int] = mapped_column(default=0)  #: times it took objects and then disowned


class DeliveryObject(Row):
    """One result object at one destination, with the status that was answered last."""

    __tablename__ = "delivery_objects"

    delivery_id: Mapped[str] = mapped_column(ForeignKey("deliveries.delivery_id"), primary_key=True)
    sop_instance_uid: Mapped[str] = mapped_column(
        ForeignKey("result_objects.sop_instance_uid"), primary_key=True
    )
    status: Mapped[int | None]  #: DIMSE status, None before any answer
    outcome: Mapped[str | None]  #: stored, stored-with-warning, refused, ...
    comment: Mapped[str | None]


# ── the record ───────────────────────────────────────────────────────────────────────────────


class Event(Row):
    """One thing that happened. Triggers forbid UPDATE and DELETE; the sealer may seal once."""

    __tablename__ = "events"
    __table_args__ = (
        UniqueConstraint("sequence"),
        Index(None, "study_instance_uid", "event_id"),
        {"sqlite_autoincrement": True},
    )

    event_id: Mapped[int] = mapped_column(RunningNumber, primary_key=True)
    kind: Mapped[str]
    occurred_at: Mapped[datetime]
    study_instance_uid: Mapped[str | None]
    run_id: Mapped[str | None]
    payload: Mapped[str] = mapped_column(Text)  #: canonical JSON, kept byte for byte
    digest: Mapped[str]  #: sha256 of the row as written
    sequence: Mapped[int | None] = mapped_column(RunningNumber)
    seal: Mapped[str | None]  #: keyed, of this row alone
    chain_hash: Mapped[str | None]  #: keyed, of the previous chain hash, the sequence and the seal


class Checkpoint(Row):
    """How far the checkpoint file got; the file itself lies outside the database."""

    __tablename__ = "checkpoints"

    checkpoint_id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    n_events: Mapped[int] = mapped_column(LargeNumber)
    head_hash: Mapped[str]
    written_at: Mapped[datetime]


class Audit(Row):
    """One nightly audit; the day is unique, so two schedulers make one."""

    __tablename__ = "audits"

    day: Mapped[date] = mapped_column(primary_key=True)
    recorded_at: Mapped[datetime]
    is_clean: Mapped[bool]
    content: Mapped[dict[str, Any]]
