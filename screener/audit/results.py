"""Finishing a run: everything it found out, in one transaction, or nothing.

With the run row come its slices, models, result objects, one pending delivery per destination,
the end of the report it replaces, and the events. A worker whose claim was lost writes nothing.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from sqlalchemy import insert, select, update

from screener.audit.claims import REPORTED, ClaimedRun, is_mine, lost
from screener.audit.database import insert_if_absent
from screener.audit.deliveries import roll_up
from screener.audit.events import EventKind, JsonValue, PendingEvent, append_event
from screener.audit.inputs import lock_study
from screener.audit.plain import to_plain
from screener.audit.quarantine import set_aside
from screener.audit.runs import supersede
from screener.audit.tables import (
    Delivery,
    DeliveryObject,
    Model,
    ResultObjectRow,
    Run,
    RunModel,
    SliceResult,
)
from screener.domain import (
    Decision,
    DeliveryState,
    NotAnalysed,
    QuarantineReason,
    ResultKind,
    RunState,
)
from screener.errors import ReportError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime
    from pathlib import Path

    from sqlalchemy import CursorResult
    from sqlalchemy.orm import Session

    from screener.audit.database import Database
    from screener.domain import Recipient, Screening


@dataclass(frozen=True, slots=True)
class StoredObject:
    """One encoded result that lies durably in a file."""

    kind: ResultKind
    sop_class_uid: str
    sop_instance_uid: str
    series_instance_uid: str
    path: Path
    digest: str  #: sha256 of the file, hexadecimal
    n_bytes: int


@dataclass(frozen=True, slots=True)
class RunResults:
    """What a worker hands in for a run.

    Raises
    ------
    ReportError
        There is not exactly one structured report among the objects.
    """

    screening: Screening
    objects: tuple[StoredObject, ...]
    destinations: tuple[Recipient, ...]
    host: str
    device: str  #: processor or GPU that the models ran on
    events: tuple[PendingEvent, ...] = ()
    impossible: tuple[str, ...] = ()  #: content digests that go into quarantine with the report

    def __post_init__(self) -> None:
        n_reports = sum(one.kind is ResultKind.STRUCTURED_REPORT for one in self.objects)
        if n_reports != 1:
            raise ReportError(f"a run ends with one structured report, not {n_reports}")


def finish_run(
    database: Database, claim: ClaimedRun, results: RunResults, now: datetime
) -> tuple[str, ...]:
    """Store the results of a run and queue their delivery.

    Returns
    -------
    :
        Ids of the deliveries, to ring for after this call.

    Raises
    ------
    LostClaim
        Another holds the run now; nothing was written.
    """
    with database.begin() as session:
        lock_study(session, claim.study_instance_uid)
        _close_run(session, claim, results, now)
        if _has_objects(session, claim):
            return _keep_report(session, claim, now)
        _add_models(session, claim, results, now)
        _add_objects(session, claim, results)
        _add_slices(session, claim, results)
        run = session.get_one(Run, claim.run_id)
        supersede(session, run, REPORTED, now)
        delivery_ids = tuple(_add_deliveries(session, run, results, now))
        run.n_deliveries = len(delivery_ids)
        _add_events(session, claim, results, now)
        for content_digest in results.impossible:
            set_aside(session, content_digest, QuarantineReason.IMPOSSIBLE_VALUES, now)
        return delivery_ids


def _has_objects(session: Session, claim: ClaimedRun) -> bool:
    statement = select(ResultObjectRow.run_id).where(ResultObjectRow.run_id == claim.run_id)
    return session.execute(statement.limit(1)).first() is not None


def _keep_report(session: Session, claim: ClaimedRun, now: datetime) -> tuple[str, ...]:
    """Let the report stand that the run has already: somebody set its row back by hand."""
    append_event(
        session,
        EventKind.RUN_RETURNED,
        now,
        study_instance_uid=claim.study_instance_uid,
        run_id=claim.run_id,
        payload={"attempt": claim.attempt, "owner": claim.owner},
    )
    roll_up(session, claim.run_id, now)
    return ()


def _close_run(session: Session, claim: ClaimedRun, results: RunResults, now: datetime) -> None:
    screening = results.screening
    outcome = screening.outcome
    decision = outcome if isinstance(outcome, Decision) else None
    values: dict[str, Any] = {
        "state": RunState.REPORTED,
        "finished_at": now,
        "lease_owner": None,
        "lease_expires_at": None,
        "last_error": None,
        "pipeline": screening.run.pipeline,
        "code_version": screening.run.code_version,
        "settings_digest": screening.run.settings_digest,
        "host": results.host,
        "device": results.device,
        "patient_class": decision.patient_class if decision else None,
        "certainty": float(decision.certainty) if decision else None,
        "not_analysed_reason": outcome.reason.value if isinstance(outcome, NotAnalysed) else None,
        "selected_series_instance_uid": screening.ranking.selected_series_instance_uid,
        "evidence": _evidence(screening),
    }
    statement = (
        update(Run)
        .where(is_mine(claim))
        .values(**values)
        .execution_options(synchronize_session=False)
    )
    if cast("CursorResult[Any]", session.execute(statement)).rowcount == 0:
        raise lost(claim)


def _evidence(screening: Screening) -> dict[str, Any]:
    lungs, volume = screening.lungs, screening.volume
    is_decided = isinstance(screening.outcome, Decision)
    return {
        "outcome": "decided" if is_decided else "not-analysed",
        "decision": to_plain(screening.outcome) if is_decided else None,
        "not_analysed": None if is_decided else to_plain(screening.outcome),
        "n_instances": screening.n_instances,
        "ranking": to_plain(screening.ranking),
        "defects": to_plain(screening.defects),
        "geometry": to_plain(volume.geometry) if volume else None,
        "spacing_mm": to_plain(volume.spacing_mm) if volume else None,
        "lungs": (
            {
                "right_volume_ml": to_plain(lungs.right_volume_ml),
                "left_volume_ml": to_plain(lungs.left_volume_ml),
                "n_lung_slices": len(lungs.lung_slices),
            }
            if lungs
            else None
        ),
        "seconds_by_step": {step: to_plain(s) for step, s in screening.seconds_by_step},
    }


def _add_models(session: Session, claim: ClaimedRun, results: RunResults, now: datetime) -> None:
    for model in results.screening.run.models:
        values = {
            "digest": model.digest,
            "name": model.name,
            "version": model.version,
            "task": model.task,
            "first_used_at": now,
        }
        insert_if_absent(session, Model, values)
        session.add(
            RunModel(
                run_id=claim.run_id,
                digest=model.digest,
                provider=model.provider,
                fallback_reason=model.fallback_reason,
            )
        )


def _add_objects(session: Session, claim: ClaimedRun, results: RunResults) -> None:
    session.add_all(
        ResultObjectRow(
            sop_instance_uid=one.sop_instance_uid,
            run_id=claim.run_id,
            kind=one.kind,
            sop_class_uid=one.sop_class_uid,
            series_instance_uid=one.series_instance_uid,
            path=str(one.path),
            digest=one.digest,
            n_bytes=one.n_bytes,
        )
        for one in results.objects
    )
    session.flush()


def _add_slices(session: Session, claim: ClaimedRun, results: RunResults) -> None:
    rows = list(_slice_rows(claim.run_id, results.screening))
    if rows:
        session.execute(insert(SliceResult), rows)


def _slice_rows(run_id: str, screening: Screening) -> Iterator[dict[str, Any]]:
    said, volume, outcome = screening.probabilities, screening.volume, screening.outcome
    if said is None or volume is None:
        return
    affected = set(outcome.affected_slice_indices) if isinstance(outcome, Decision) else set()
    for position, slice_index in enumerate(said.slice_indices.tolist()):
        source = volume.slices[slice_index]
        row = said.probabilities[position]  # (classes,)
        yield {
            "run_id": run_id,
            "slice_index": slice_index,
            "sop_instance_uid": source.instance.sop_instance_uid,
            "content_digest": source.instance.content_digest,
            "frame_number": source.frame_number,
            "location_mm": source.location_mm,
            "label": said.class_names[int(row.argmax())],
            "is_affected": slice_index in affected,
            "probabilities": {
                name: to_plain(p) for name, p in zip(said.class_names, row, strict=True)
            },
        }


def _add_deliveries(
    session: Session, run: Run, results: RunResults, now: datetime
) -> Iterator[str]:
    for destination in results.destinations:
        wanted = [one for one in results.objects if one.kind in destination.kinds]
        if not wanted:
            continue  # the event names the destinations that get something
        delivery = Delivery(
            delivery_id=str(uuid.uuid4()),
            run_id=run.run_id,
            study_instance_uid=run.study_instance_uid,
            run_version=run.version,
            destination=destination.name,
            state=DeliveryState.PENDING,
            is_stat=run.is_stat,
            attempt=0,
            n_failures=0,
            pending_since_at=now,
            not_before_at=now,
        )
        session.add(delivery)
        session.flush()
        session.add_all(
            DeliveryObject(delivery_id=delivery.delivery_id, sop_instance_uid=one.sop_instance_uid)
            for one in wanted
        )
        yield delivery.delivery_id


def _add_events(session: Session, claim: ClaimedRun, results: RunResults, now: datetime) -> None:
    uid, run_id = claim.study_instance_uid, claim.run_id
    for pending in results.events:
        append_event(
            session, pending.kind, pending.occurred_at,
            study_instance_uid=uid, run_id=run_id, payload=pending.payload,
        )  # fmt: skip
    statement = select(Delivery.destination).where(Delivery.run_id == run_id)
    payload = _reported(claim, results, sorted(session.scalars(statement)))
    append_event(
        session, EventKind.RUN_REPORTED, now, study_instance_uid=uid, run_id=run_id,
        payload=payload,
    )  # fmt: skip


def _reported(
    claim: ClaimedRun, results: RunResults, destinations: list[str]
) -> dict[str, JsonValue]:
    screening = results.screening
    outcome = screening.outcome
    decided = isinstance(outcome, Decision)
    objects: list[dict[str, JsonValue]] = [
        {"kind": one.kind.value, "sop_instance_uid": one.sop_instance_uid, "digest": one.digest}
        for one in results.objects
    ]
    return {
        "attempt": claim.attempt,
        "outcome": "decided" if decided else "not-analysed",
        "patient_class": outcome.patient_class.value if isinstance(outcome, Decision) else None,
        "certainty": to_plain(outcome.certainty) if isinstance(outcome, Decision) else None,
        "reason": outcome.reason.value if isinstance(outcome, NotAnalysed) else None,
        "pipeline": screening.run.pipeline,
        "code_version": screening.run.code_version,
        "settings_digest": screening.run.settings_digest,
        "input_digest": claim.input_digest,
        "host": results.host,
        "device": results.device,
        "models": {model.name: model.digest for model in screening.run.models},
        "objects": objects,
        "destinations": destinations,
    }
