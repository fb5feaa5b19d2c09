"""Runs from queue to report: claims, fencing, leases, retries, predecessors; also on PostgreSQL."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import pytest

from screener.audit.accounting import accounting
from screener.audit.backlog import measure_backlog
from screener.audit.backoff import RetryPolicy
from screener.audit.claims import (
    claim_run,
    expire_leases,
    fail_run,
    heartbeat,
    load_inputs,
    return_run,
)
from screener.audit.events import PendingEvent, event_of
from screener.audit.ledger import complete_study, register_instance
from screener.audit.quarantine import list_quarantined
from screener.audit.queries import run_status, study_status
from screener.audit.results import finish_run
from screener.audit.runs import mark_rung, request_reprocess, revive_runs, unrung_runs
from screener.audit.story import why
from screener.domain import (
    CompletionReason,
    NotAnalysedReason,
    QuarantineReason,
    ResultKind,
    RunReason,
    RunState,
    StudyState,
)
from screener.errors import LostClaim, ReportError, WrongUse
from screener.facts import LungsSegmented, SlicesClassified
from tests.audit_factories import (
    LEASE_S,
    POLICY,
    STUDY,
    after,
    claim,
    complete,
    make_instance,
    make_models,
    make_received,
    make_refusal,
    make_results,
    queue_run,
    receive_study,
    report,
)

if TYPE_CHECKING:
    from screener.audit.database import Database
    from screener.audit.queries import RunStatus

OTHER_STUDY = STUDY + "99"


def status_of(database: Database, run_id: str) -> RunStatus:
    status = run_status(database, run_id)
    assert status is not None
    return status


def fail(database: Database, run_id: str, seconds: float, *, is_transient: bool = True) -> RunState:
    claimed = claim(database, run_id, seconds=seconds)
    return fail_run(
        database, claimed, "the GPU is away", after(seconds + 1),
        is_transient=is_transient, policy=POLICY,
    )  # fmt: skip


# ── claiming ─────────────────────────────────────────────────────────────────────────────────


def test_claim_counts_the_attempt_before_the_work(database: Database) -> None:
    """A claim sets state, attempt and start, so a process that dies without a word counts."""
    run_id = queue_run(database)
    claimed = claim(database)
    assert (claimed.run_id, claimed.attempt, claimed.version) == (run_id, 1, 1)
    status = status_of(database, run_id)
    assert (status.state, status.attempt) == (RunState.RUNNING, 1)
    assert status.started_at == after(800)


def test_claim_is_given_once(database: Database) -> None:
    """The loser of a race gets nothing, by id or without."""
    run_id = queue_run(database)
    claim(database, run_id)
    assert claim_run(database, run_id, "w2", LEASE_S, after(801)) is None
    assert claim_run(database, None, "w2", LEASE_S, after(801)) is None


def test_run_that_is_returned_waits_again_and_counts_no_attempt(database: Database) -> None:
    """A worker that is told to stop gives its run back; ten restarts do not fail a study."""
    run_id = queue_run(database)
    for number in range(10):
        claimed = claim(database, run_id, seconds=800 + number)
        return_run(database, claimed, after(800.5 + number))
        with pytest.raises(LostClaim):
            return_run(database, claimed, after(800.6 + number))
    last = claim(database, run_id, seconds=900)
    state = fail_run(database, last, "no", after(901), is_transient=True, policy=POLICY)
    assert state is RunState.QUEUED
    assert accounting(database, after(902)).is_balanced


@pytest.mark.parametrize("state", [StudyState.PARTIAL, StudyState.VERIFIED])
def test_claim_knows_what_was_missing(database: Database, state: StudyState) -> None:
    """A run of a partial study carries the numbers of the verdict, and a retry the same."""
    receive_study(database)
    detail = "3 instances in 1 series, 5 expected"
    complete_study(database, STUDY, state, CompletionReason.QUIET, after(700), detail=detail)
    first = claim(database)
    expected = detail if state is StudyState.PARTIAL else None
    assert first.shortfall == expected
    return_run(database, first, after(801))
    second = claim(database, seconds=900)
    identity = second.identity(
        pipeline="chest-ct", code_version="1", settings_digest="c", models=make_models()
    )
    assert identity.shortfall == expected


def test_claim_unknown_run(database: Database) -> None:
    """A message with an id that does not exist is no error."""
    assert claim_run(database, "nonsense", "w1", LEASE_S, after(0)) is None


def test_claim_takes_stat_before_routine(database: Database) -> None:
    """An urgent study that came later is screened first."""
    routine = queue_run(database)
    urgent = queue_run(database, study=OTHER_STUDY, is_stat=True)
    assert [claim(database).run_id, claim(database).run_id] == [urgent, routine]


def test_heartbeat_keeps_a_run(database: Database) -> None:
    """A run whose worker speaks is not taken away."""
    claimed = claim(database, queue_run(database))
    heartbeat(database, claimed, LEASE_S, after(850))
    assert expire_leases(database, after(909), POLICY) == ()
    assert expire_leases(database, after(911), POLICY) == (claimed.run_id,)


def test_fencing_discards_everything_late(database: Database) -> None:
    """A worker that was away too long can neither speak, fail nor finish; the second one can."""
    late = claim(database, queue_run(database))
    expire_leases(database, after(900), POLICY)
    second = claim(database, seconds=920, owner="w2")
    assert second.attempt == 2
    with pytest.raises(LostClaim):
        heartbeat(database, late, LEASE_S, after(921))
    with pytest.raises(LostClaim):
        fail_run(database, late, "late", after(921), is_transient=True, policy=POLICY)
    with pytest.raises(LostClaim):
        finish_run(database, late, make_results(late), after(921))
    assert why(database, STUDY).runs[0].objects == ()
    report(database, second, seconds=930)
    assert status_of(database, second.run_id).state is RunState.REPORTED


def test_finish_twice_writes_once(database: Database) -> None:
    """The same claim cannot hand in a second result."""
    claimed = claim(database, queue_run(database))
    report(database, claimed)
    with pytest.raises(LostClaim):
        report(database, claimed, seconds=840)
    assert len(why(database, STUDY).runs[0].objects) == 2


def test_start_is_frozen_at_the_first_attempt(database: Database) -> None:
    """A retry builds the same bytes: content date and time come from the first attempt."""
    run_id = queue_run(database)
    first = claim(database, run_id)
    fail_run(database, first, "away", after(810), is_transient=True, policy=POLICY)
    assert claim(database, run_id, seconds=900).started_at == first.started_at


# ── failing ──────────────────────────────────────────────────────────────────────────────────


def test_transient_failure_waits_longer_each_time(database: Database) -> None:
    """A run comes back after a pause that grows, and not before."""
    run_id = queue_run(database)
    assert fail(database, run_id, 800) is RunState.QUEUED
    assert claim_run(database, run_id, "w1", LEASE_S, after(801)) is None
    assert fail(database, run_id, 806) is RunState.QUEUED
    pauses = [
        event.payload["delay_s"]
        for event in why(database, STUDY).events
        if event.kind == "run_postponed"
    ]
    assert 2.5 <= pauses[0] <= 5 <= pauses[1] <= 10


def test_attempts_used_up(database: Database) -> None:
    """After the last attempt the run is failed, visible, and taken by nobody."""
    run_id = queue_run(database)
    states = [fail(database, run_id, seconds) for seconds in (800, 900, 1000)]
    assert states == [RunState.QUEUED, RunState.QUEUED, RunState.FAILED]
    status = status_of(database, run_id)
    assert (status.last_error, status.attempt) == ("the GPU is away", 3)
    assert claim_run(database, None, "w1", LEASE_S, after(9000)) is None
    assert why(database, STUDY).events[-1].kind == "run_failed"


def test_silent_workers_use_attempts_up_too(database: Database) -> None:
    """A study that kills its worker each time cannot take the queue down."""
    run_id = queue_run(database)
    for seconds in (800, 1000, 1200):
        claim(database, run_id, seconds=seconds)
        expire_leases(database, after(seconds + LEASE_S), POLICY)
    status = status_of(database, run_id)
    assert status.state is RunState.FAILED
    assert status.last_error == "the worker went silent: its lease expired"


def test_permanent_failure_stops_at_once(database: Database) -> None:
    """What trying again cannot help is not tried again."""
    run_id = queue_run(database)
    assert fail(database, run_id, 800, is_transient=False) is RunState.FAILED


def test_revived_run_has_all_its_attempts_again(database: Database) -> None:
    """A person who retries forgives the attempts; the fencing token keeps growing."""
    run_id = queue_run(database)
    fail(database, run_id, 800, is_transient=False)
    assert revive_runs(database, STUDY, after(1000)) == (run_id,)
    assert claim(database, run_id, seconds=1000).attempt == 2
    expire_leases(database, after(1100), POLICY)
    assert fail(database, run_id, 1200) is RunState.QUEUED
    assert fail(database, run_id, 1300) is RunState.FAILED


def test_revive_leaves_replaced_runs_alone(database: Database) -> None:
    """A failed run that a newer one replaced is not screened again."""
    first = queue_run(database)
    fail(database, first, 800, is_transient=False)
    second = request_reprocess(database, STUDY, after(900))
    assert revive_runs(database, first, after(901)) == ()
    assert status_of(database, second).state is RunState.QUEUED


# ── finishing ────────────────────────────────────────────────────────────────────────────────


def test_finish_stores_everything_at_once(database: Database) -> None:
    """Slices, models, objects, evidence and one delivery per destination come with the run."""
    claimed = claim(database, queue_run(database))
    deliveries = report(database, claimed, destinations=("pacs", "archive"))
    (run,) = why(database, STUDY).runs
    assert run.status.state is RunState.REPORTED
    assert (run.status.patient_class, run.status.certainty) == ("covid-19", 0.875)
    assert [one.label for one in run.slices] == ["normal", "covid-19", "normal"]
    assert [one.is_affected for one in run.slices] == [False, True, False]
    assert run.slices[1].probabilities["covid-19"] == pytest.approx(0.875)
    assert [(one.name, one.fallback_reason) for one in run.models] == [
        ("lung_segmentation", None),
        ("slice_classifier", "no CUDA device"),
    ]
    assert {one.kind for one in run.objects} == {
        ResultKind.STRUCTURED_REPORT,
        ResultKind.SEGMENTATION,
    }
    assert {one.delivery_id for one in run.status.deliveries} == set(deliveries)
    assert run.evidence is not None
    assert run.evidence["ranking"]["selected_series_instance_uid"] == STUDY + ".1"
    assert run.evidence["seconds_by_step"] == {"assemble": 0.25, "segment": None}


def test_finish_not_analysed_is_a_result(database: Database) -> None:
    """A refusal is reported with its reason and delivered like any other result."""
    claimed = claim(database, queue_run(database))
    (delivery,) = report(database, claimed, outcome=make_refusal())
    (run,) = why(database, STUDY).runs
    assert run.status.state is RunState.REPORTED
    assert run.status.not_analysed_reason == NotAnalysedReason.LOCALIZER_ONLY.value
    assert run.status.patient_class is None
    assert run.slices == ()
    assert run.status.deliveries[0].delivery_id == delivery


def test_finish_without_destination(database: Database) -> None:
    """A site without destinations keeps its reports."""
    claimed = claim(database, queue_run(database))
    assert report(database, claimed, destinations=()) == ()
    assert status_of(database, claimed.run_id).state is RunState.REPORTED


def test_results_need_exactly_one_report(database: Database) -> None:
    """A run without its structured report cannot be handed in."""
    results = make_results(claim(database, queue_run(database)))
    with pytest.raises(ReportError, match="not 0"):
        dataclasses.replace(results, objects=results.objects[1:])


def test_facts_become_events_of_the_run(database: Database) -> None:
    """What the pipeline told on the way stands in the story, at its own time."""
    claimed = claim(database, queue_run(database))
    facts = (
        LungsSegmented(STUDY + ".1", 2400.0, 2100.5, 3),
        SlicesClassified(3, (("normal", 0.6), ("covid-19", float("nan")))),
    )
    events: tuple[PendingEvent, ...] = tuple(event_of(fact, after(805)) for fact in facts)
    results = dataclasses.replace(make_results(claimed), events=events)
    finish_run(database, claimed, results, after(830))
    told = {event.kind: event for event in why(database, STUDY).events}
    assert told["lungs_segmented"].payload["left_volume_ml"] == 2100.5
    assert told["lungs_segmented"].occurred_at == after(805)
    assert told["slices_classified"].payload["mean_probabilities"] == [
        ["normal", 0.6],
        ["covid-19", None],
    ]


# ── again ────────────────────────────────────────────────────────────────────────────────────


def test_reprocess_names_its_predecessor(database: Database) -> None:
    """A second run knows the report it replaces, and the first becomes superseded by it."""
    first = claim(database, queue_run(database))
    report(database, first)
    run_id = request_reprocess(database, STUDY, after(1000))
    second = claim(database, run_id, seconds=1001)
    assert (second.version, second.reason) == (2, RunReason.REPROCESS)
    assert second.predecessor is not None
    assert second.predecessor.run_id == first.run_id
    assert second.predecessor.sop_instance_uid == f"{STUDY}.9.1.1.1"
    assert status_of(database, first.run_id).state is RunState.REPORTED
    report(database, second, seconds=1030)
    old = status_of(database, first.run_id)
    assert (old.state, old.superseded_by_run_id) == (RunState.SUPERSEDED, second.run_id)


def test_reprocess_twice_makes_one_run(database: Database) -> None:
    """An impatient person does not screen a study twice."""
    report(database, claim(database, queue_run(database)))
    first = request_reprocess(database, STUDY, after(1000))
    assert request_reprocess(database, STUDY, after(1001)) == first
    claim(database, first, seconds=1002)
    assert request_reprocess(database, STUDY, after(1003)) == first


def test_reprocess_of_a_failed_study(database: Database) -> None:
    """A study that failed can be screened again; there is no report to replace."""
    fail(database, queue_run(database), 800, is_transient=False)
    second = claim(database, request_reprocess(database, STUDY, after(1000)), seconds=1000)
    assert second.predecessor is None


@pytest.mark.parametrize("is_known", [False, True])
def test_reprocess_refused(database: Database, is_known: bool) -> None:
    """A study that is unknown or still comes in cannot be screened again."""
    if is_known:
        receive_study(database)
    with pytest.raises(WrongUse, match="still being received" if is_known else "not in the audit"):
        request_reprocess(database, STUDY, after(100))


def test_newer_run_waits_for_the_older(database: Database) -> None:
    """Late slices during a run: the second run starts after the first and replaces its report."""
    first = claim(database, queue_run(database))
    register_instance(database, make_received(make_instance(4)), after(810))
    run_id = complete(database, seconds=1500)
    assert claim_run(database, run_id, "w2", LEASE_S, after(1500)) is None
    report(database, first, seconds=1501)
    second = claim(database, run_id, seconds=1502)
    assert second.predecessor is not None
    assert second.predecessor.run_id == first.run_id


def test_older_run_that_dies_is_superseded(database: Database) -> None:
    """A run whose worker died is not repeated when a newer one waits for the same study."""
    first = claim(database, queue_run(database))
    register_instance(database, make_received(make_instance(4)), after(810))
    run_id = complete(database, seconds=1500)
    expire_leases(database, after(1501), POLICY)
    old = status_of(database, first.run_id)
    assert (old.state, old.superseded_by_run_id) == (RunState.SUPERSEDED, run_id)
    assert claim(database, seconds=1502).run_id == run_id


# ── ringing ──────────────────────────────────────────────────────────────────────────────────


def test_runs_are_rung_for_until_taken(database: Database) -> None:
    """A lost message costs one interval: the dispatcher rings again for what nobody took."""
    run_id = queue_run(database)
    assert [one.run_id for one in unrung_runs(database, after(700), 2.0)] == [run_id]
    assert mark_rung(database, [run_id], after(700)) == 1
    assert unrung_runs(database, after(701), 2.0) == ()
    assert [one.run_id for one in unrung_runs(database, after(702), 2.0)] == [run_id]
    claim(database, run_id)
    assert unrung_runs(database, after(900), 2.0) == ()
    assert mark_rung(database, [], after(900)) == 0


def test_runs_that_pause_are_not_rung_for(database: Database) -> None:
    """Nobody rings for a run before its pause is over."""
    run_id = queue_run(database)
    slow = RetryPolicy(first_retry_s=100.0, retry_cap_s=100.0, max_attempts=3)
    fail_run(database, claim(database, run_id), "away", after(801), is_transient=True, policy=slow)
    assert unrung_runs(database, after(810), 2.0) == ()
    assert len(unrung_runs(database, after(902), 2.0)) == 1


def test_status_names_the_newest_run(database: Database) -> None:
    """The status of a study is that of its newest run."""
    report(database, claim(database, queue_run(database)))
    run_id = request_reprocess(database, STUDY, after(1000))
    status = study_status(database, STUDY)
    assert status is not None
    assert status.run is not None
    assert (status.run.run_id, status.run.state) == (run_id, RunState.QUEUED)


def test_run_that_was_set_back_keeps_its_report(database: Database) -> None:
    """Somebody edited the state of a reported run: it is screened again and reported once."""
    claimed = claim(database, queue_run(database))
    (delivery_id,) = finish_run(database, claimed, make_results(claimed), after(800))
    with database.engine.begin() as connection:
        connection.exec_driver_sql("UPDATE runs SET state = 'queued'")
    again = claim(database, claimed.run_id, seconds=900)
    assert finish_run(database, again, make_results(again), after(901)) == ()
    status = run_status(database, claimed.run_id)
    assert status is not None
    assert status.state is RunState.REPORTED
    assert [one.delivery_id for one in status.deliveries] == [delivery_id]
    assert accounting(database, after(902)).is_balanced


def test_input_32_goes_into_quarantine_with_the_report(database: Database) -> None:
    """A value that cannot be is found at screening: one transaction with what it led to."""
    claimed = claim(database, queue_run(database))
    (first, *_) = load_inputs(database, claimed).instances
    results = dataclasses.replace(make_results(claimed), impossible=(first.content_digest,))
    finish_run(database, claimed, results, after(800))
    (found,) = list_quarantined(database)
    assert found.content_digest == first.content_digest
    assert found.reason == QuarantineReason.IMPOSSIBLE_VALUES
    assert accounting(database, after(801)).is_balanced
    assert measure_backlog(database, after(801)).n_quarantined_studies == 1
