"""Rows of a story by keyword: instances, screenings, results; times count from one fixed moment."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from screener.audit.backoff import RetryPolicy
from screener.audit.claims import ClaimedRun, claim_run
from screener.audit.ledger import complete_study, register_instance
from screener.audit.registration import ReceivedInstance
from screener.audit.results import RunResults, StoredObject, finish_run
from screener.domain import (
    CompletionReason,
    Decision,
    DefectCode,
    LungMask,
    ModelIdentity,
    NotAnalysed,
    NotAnalysedReason,
    PatientClass,
    Recipient,
    ResultKind,
    Screening,
    SeriesCandidate,
    SeriesGeometry,
    SeriesRanking,
    SliceProbabilities,
    SliceSource,
    SourceDefect,
    SpooledInstance,
    StudyState,
    Volume,
)

if TYPE_CHECKING:
    from screener.audit.database import Database

NOW = datetime(2026, 3, 29, 1, 30, tzinfo=UTC)  # within the hour that summer time swallows
STUDY = "1.2.826.0.1.3680043.8.498.1"
SERIES = STUDY + ".1"
CT_IMAGE_STORAGE = "1.2.840.10008.5.1.4.1.1.2"
COMPREHENSIVE_3D_SR = "1.2.840.10008.5.1.4.1.1.88.34"
SEGMENTATION = "1.2.840.10008.5.1.4.1.1.66.4"
CLASSES = ("normal", "covid-19", "community-acquired-pneumonia")
POLICY = RetryPolicy(first_retry_s=5.0, retry_cap_s=300.0, max_attempts=3)
PATIENCE = RetryPolicy(first_retry_s=10.0, retry_cap_s=900.0, give_up_after_s=7 * 86400.0)
LEASE_S = 60.0


def after(seconds: float) -> datetime:
    """Give a moment so many seconds after the beginning."""
    return NOW + timedelta(seconds=seconds)


def make_instance(
    number: int = 1,
    *,
    study: str = STUDY,
    series: str | None = None,
    sop: str | None = None,
    content: str | None = None,
    sop_class: str = CT_IMAGE_STORAGE,
    calling_ae_title: str | None = "SCANNER",
) -> SpooledInstance:
    """Make one spooled instance; its content is its number unless said otherwise."""
    digest = hashlib.sha256((content or f"{study}/{number}").encode()).hexdigest()
    return SpooledInstance(
        study_instance_uid=study,
        series_instance_uid=series or study + ".1",
        sop_instance_uid=sop or f"{study}.1.{number}",
        sop_class_uid=sop_class,
        transfer_syntax_uid="1.2.840.10008.1.2.1",
        content_digest=digest,
        path=Path("/spool") / f"{digest}.dcm",
        received_at=after(number),
        calling_ae_title=calling_ae_title,
    )


def make_received(instance: SpooledInstance | None = None, **changes: object) -> ReceivedInstance:
    """Make one received instance of an ordinary CT."""
    values: dict[str, object] = {
        "instance": instance or make_instance(),
        "modality": "CT",
        "study_date": "20260328",
        "patient_id_digest": "5a17",
        "n_bytes": 526_000,
    }
    return ReceivedInstance(**(values | changes))  # type: ignore[arg-type]


def receive_study(
    database: Database, *, study: str = STUDY, n_instances: int = 3, is_stat: bool = False
) -> None:
    """Receive a study, one instance a second."""
    for number in range(1, n_instances + 1):
        instance = make_instance(number, study=study)
        register_instance(database, make_received(instance, is_stat=is_stat), after(number))


def complete(database: Database, study: str = STUDY, seconds: float = 700.0) -> str:
    """Complete a study by quiet time and give its run."""
    run_id = complete_study(
        database, study, StudyState.UNVERIFIED, CompletionReason.QUIET, after(seconds)
    )
    assert run_id is not None
    return run_id


def queue_run(database: Database, *, study: str = STUDY, is_stat: bool = False) -> str:
    """Receive and complete a study; give its run."""
    receive_study(database, study=study, is_stat=is_stat)
    return complete(database, study)


def claim(
    database: Database, run_id: str | None = None, *, seconds: float = 800.0, owner: str = "w1"
) -> ClaimedRun:
    """Claim a run that is there."""
    claimed = claim_run(database, run_id, owner, LEASE_S, after(seconds))
    assert claimed is not None
    return claimed


def make_destination(name: str = "pacs", *kinds: ResultKind) -> Recipient:
    """Make a destination that takes report and segmentation."""
    return Recipient(name, kinds or (ResultKind.STRUCTURED_REPORT, ResultKind.SEGMENTATION))


def report(
    database: Database,
    claimed: ClaimedRun,
    *,
    seconds: float = 830.0,
    destinations: tuple[str, ...] = ("pacs",),
    outcome: Decision | NotAnalysed | None = None,
) -> tuple[str, ...]:
    """Finish a run; give its deliveries."""
    results = make_results(claimed, destinations=destinations, outcome=outcome)
    return finish_run(database, claimed, results, after(seconds))


def make_results(
    claimed: ClaimedRun,
    *,
    destinations: tuple[str, ...] = ("pacs",),
    outcome: Decision | NotAnalysed | None = None,
) -> RunResults:
    """Make the results of a run: a report, and a segmentation where there is a decision."""
    screening = make_screening(claimed, outcome or make_decision())
    kinds = [(ResultKind.STRUCTURED_REPORT, COMPREHENSIVE_3D_SR)]
    if isinstance(screening.outcome, Decision):
        kinds.append((ResultKind.SEGMENTATION, SEGMENTATION))
    return RunResults(
        screening=screening,
        objects=tuple(
            make_stored(claimed, kind, sop_class, number)
            for number, (kind, sop_class) in enumerate(kinds, start=1)
        ),
        destinations=tuple(make_destination(name) for name in destinations),
        host="node-1",
        device="cpu",
    )


def make_stored(
    claimed: ClaimedRun, kind: ResultKind, sop_class: str, number: int = 1
) -> StoredObject:
    """Make one stored result whose UIDs follow from study, version and kind."""
    uid = f"{claimed.study_instance_uid}.9.{claimed.version}.{number}"
    return StoredObject(
        kind=kind,
        sop_class_uid=sop_class,
        sop_instance_uid=uid + ".1",
        series_instance_uid=uid,
        path=Path("/results") / f"{uid}.dcm",
        digest=hashlib.sha256(uid.encode()).hexdigest(),
        n_bytes=40_000,
    )


def make_decision(patient_class: PatientClass = PatientClass.COVID_19) -> Decision:
    """Make a decision over three slices of which one is affected."""
    return Decision(
        patient_class=patient_class,
        certainty=0.875,
        class_certainties=(("normal", 0.1), ("covid-19", 0.875), (CLASSES[2], 0.025)),
        slice_votes=(("normal", 2), ("covid-19", 1), (CLASSES[2], 0)),
        n_slices_analysed=3,
        affected_slice_indices=(1,),
        policy_name="default",
        explanation="1 of 3 slices is affected, more than a tenth.",
    )


def make_refusal() -> NotAnalysed:
    """Make the other result."""
    return NotAnalysed(NotAnalysedReason.LOCALIZER_ONLY, "All 3 instances are localizers.")


def make_models() -> tuple[ModelIdentity, ...]:
    """Make the two models of a run."""
    return (
        ModelIdentity("lung_segmentation", "1.0", "segmentation", "a" * 64, "cpu"),
        ModelIdentity(
            "slice_classifier", "1.0", "classification", "b" * 64, "cpu", "no CUDA device"
        ),
    )


def make_screening(claimed: ClaimedRun, outcome: Decision | NotAnalysed) -> Screening:
    """Make everything a run found out; without a decision only the ranking."""
    run = claimed.identity(
        pipeline="chest-ct", code_version="0.1.0", settings_digest="c" * 64, models=make_models()
    )
    study = claimed.study_instance_uid
    is_decided = isinstance(outcome, Decision)
    selected = study + ".1" if is_decided else None
    candidate = SeriesCandidate(
        series_instance_uid=study + ".1",
        modality="CT",
        n_instances=3,
        n_slices=3 if is_decided else 0,
        score=0.9 if is_decided else 0.0,
        reasons=("3 axial slices",) if is_decided else ("only localizers",),
        refusal=None if is_decided else NotAnalysedReason.LOCALIZER_ONLY,
    )
    return Screening(
        run=run,
        n_instances=3,
        ranking=SeriesRanking((candidate,), selected),
        defects=(SourceDefect(DefectCode.THICK_SLICES, "Slices are 7.5 mm apart.", 3),),
        outcome=outcome,
        volume=make_volume(study) if is_decided else None,
        lungs=LungMask(np.ones((3, 4, 4), np.uint8), 2400.0, 2100.5) if is_decided else None,
        probabilities=make_probabilities() if is_decided else None,
        seconds_by_step=(("assemble", 0.25), ("segment", float("nan"))),
    )


def make_probabilities() -> SliceProbabilities:
    """Make the probabilities of three slices of which the middle one is affected."""
    rows = [[0.9, 0.06, 0.04], [0.1, 0.875, 0.025], [0.8, 0.1, 0.1]]
    return SliceProbabilities(CLASSES, np.arange(3), np.array(rows, np.float32))


def make_volume(study: str) -> Volume:
    """Make a volume of three slices of four by four voxels."""
    slices = tuple(_make_slice(study, index) for index in range(3))
    geometry = SeriesGeometry(3, 7.5, 15.0, 7.5, 0, 0, 0.0, is_regular=True)
    return Volume(
        series_instance_uid=study + ".1",
        frame_of_reference_uid=study + ".2",
        volume_hu=np.zeros((3, 4, 4), np.int16),
        spacing_mm=(7.5, 0.7, 0.7),
        slices=slices,
        geometry=geometry,
    )


def _make_slice(study: str, index: int) -> SliceSource:
    return SliceSource(
        instance=make_instance(index + 1, study=study),
        frame_number=None,
        position_mm=(0.0, 0.0, 7.5 * index),
        orientation=(1.0, 0.0, 0.0, 0.0, 1.0, 0.0),
        pixel_spacing_mm=(0.7, 0.7),
        rows=4,
        columns=4,
        location_mm=7.5 * index,
        slice_thickness_mm=7.5,
        instance_number=index + 1,
    )
