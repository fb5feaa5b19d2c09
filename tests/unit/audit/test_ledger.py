"""What the ledger makes of instances and when a study closes; also run on PostgreSQL."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from screener.audit.claims import load_inputs
from screener.audit.ledger import (
    complete_study,
    expect_instances,
    known_digests,
    load_study,
    open_studies,
    register_instance,
    uncounted_studies,
)
from screener.audit.queries import run_status, study_status
from screener.audit.registration import Registration
from screener.audit.story import why
from screener.domain import CompletionReason, RunReason, RunState, StudyState
from screener.errors import WrongUse
from tests.audit_factories import (
    COMPREHENSIVE_3D_SR,
    NOW,
    STUDY,
    after,
    claim,
    complete,
    make_instance,
    make_received,
    queue_run,
    receive_study,
    report,
)

if TYPE_CHECKING:
    from screener.audit.database import Database


def kinds_of(database: Database, study: str = STUDY) -> list[str]:
    return [event.kind for event in why(database, study).events]


def test_instance_new(database: Database) -> None:
    """The first instance opens its study and is found again with every field."""
    received = make_received()
    assert register_instance(database, received, NOW) is Registration.NEW
    assert load_study(database, STUDY).instances == (received.instance,)
    assert kinds_of(database) == ["study_opened"]


def test_instance_duplicate(database: Database) -> None:
    """The same bytes again are counted and not kept twice."""
    register_instance(database, make_received(), NOW)
    assert register_instance(database, make_received(), after(5)) is Registration.DUPLICATE
    story = why(database, STUDY)
    assert story.status.n_instances == 1
    assert story.sources[0].n_duplicates == 1


def test_instance_duplicate_extends_the_wait(database: Database) -> None:
    """A sender that repeats is still at work, so the quiet time starts again."""
    register_instance(database, make_received(), NOW)
    register_instance(database, make_received(), after(50))
    assert open_studies(database)[0].last_arrival_at == after(50)


def test_instance_conflict_keeps_both(database: Database) -> None:
    """Other bytes under the same UID are kept beside the first, and the study is flagged."""
    first = make_instance(1, sop="1.2.3", content="first")
    second = make_instance(2, sop="1.2.3", content="second")
    register_instance(database, make_received(first), NOW)
    assert register_instance(database, make_received(second), after(1)) is Registration.CONFLICT
    assert load_study(database, STUDY).instances == (first, second)
    story = why(database, STUDY)
    assert story.status.has_conflict
    assert story.series[0].has_conflict


def test_instances_sharing_one_uid_all_stay(database: Database) -> None:
    """A published series with one SOP Instance UID on 130 slices loses none of them."""
    for number in range(130):
        instance = make_instance(number, sop="1.2.3")
        register_instance(database, make_received(instance), after(number))
    study = load_study(database, STUDY)
    assert len({one.content_digest for one in study.instances}) == 130
    assert kinds_of(database).count("instance_conflicted") == 1


def test_own_result_never_opens_a_study(database: Database) -> None:
    """Our own results coming back neither open nor reopen their study."""
    own = make_received(make_instance(9, sop_class=COMPREHENSIVE_3D_SR), is_own_result=True)
    assert register_instance(database, own, NOW) is Registration.NEW
    assert open_studies(database) == ()
    queue_run(database)
    again = make_received(make_instance(10, sop_class=COMPREHENSIVE_3D_SR), is_own_result=True)
    register_instance(database, again, after(900))
    status = study_status(database, STUDY)
    assert status is not None
    assert (status.state, status.generation) == (StudyState.UNVERIFIED, 1)
    assert len(load_study(database, STUDY).instances) == 3
    assert why(database, STUDY).n_own_results == 2


def test_report_of_others_never_opens_a_study(database: Database) -> None:
    """A structured report of somebody else is kept for the next opening and opens nothing."""
    foreign = make_received(make_instance(9, sop_class=COMPREHENSIVE_3D_SR), modality="SR")
    register_instance(database, foreign, NOW)
    assert open_studies(database) == ()
    run_id = queue_run(database)
    later = make_received(make_instance(10, sop_class=COMPREHENSIVE_3D_SR), modality="SR")
    register_instance(database, later, after(900))
    claimed = claim(database, run_id)
    assert load_inputs(database, claimed).input_digest == claimed.input_digest


def test_quarantined_instance_is_kept_and_not_screened(database: Database) -> None:
    """A quarantined instance opens its study, is shown, and no run reads it."""
    bad = make_received(make_instance(1), quarantine_reason="pixel data too short")
    register_instance(database, bad, NOW)
    register_instance(database, make_received(make_instance(2)), after(1))
    story = why(database, STUDY)
    assert [one.reason for one in story.quarantined] == ["pixel data too short"]
    assert [one.sop_instance_uid for one in load_study(database, STUDY).instances] == [
        make_instance(2).sop_instance_uid
    ]
    assert "instance_quarantined" in kinds_of(database)


def test_several_patients_are_flagged(database: Database) -> None:
    """Two patients under one study are told once, and without a name."""
    register_instance(database, make_received(make_instance(1)), NOW)
    for number in (2, 3):
        other = make_received(make_instance(number), patient_id_digest="0bad")
        register_instance(database, other, after(number))
    status = study_status(database, STUDY)
    assert status is not None
    assert status.has_several_patients
    assert kinds_of(database).count("patients_conflicted") == 1


def test_display_values_lose_control_characters(database: Database) -> None:
    """A modality with NUL and newline is stored on every database and shown harmlessly."""
    hostile = make_received(modality="C\0T\n" + "X" * 100, study_date="2026\0")
    register_instance(database, hostile, NOW)
    modality = open_studies(database)[0].series[0].modality
    assert modality.startswith("C\N{REPLACEMENT CHARACTER}T\N{REPLACEMENT CHARACTER}X")
    assert len(modality) == 64


def test_open_studies_give_the_facts_of_arrival(database: Database) -> None:
    """An open study names its series, counts and newest arrivals."""
    receive_study(database, n_instances=3)
    other = make_instance(4, series=STUDY + ".2", calling_ae_title="PACS")
    register_instance(database, make_received(other, is_stat=True), after(20))
    expect_instances(database, STUDY, 7)
    (study,) = open_studies(database)
    assert study.n_instances == 4
    assert [one.n_instances for one in study.series] == [3, 1]
    assert study.series[0].last_arrival_at == after(3)
    assert study.opened_at == after(1)
    assert study.last_arrival_at == after(20)
    assert study.expected_n_instances == 7
    assert study.is_stat


def test_study_that_nobody_counted_names_its_senders(database: Database) -> None:
    """Who is asked for the number: the senders of what is open, quiet and not yet counted."""
    receive_study(database, n_instances=3)
    other = make_instance(4, series=STUDY + ".2", calling_ae_title="PACS")
    register_instance(database, make_received(other), after(20))
    assert uncounted_studies(database, after(19)) == ()
    (study,) = uncounted_studies(database, after(20))
    assert (study.study_instance_uid, study.last_arrival_at) == (STUDY, after(20))
    assert study.calling_ae_titles == ("PACS", "SCANNER")
    assert expect_instances(database, STUDY, 4)
    assert uncounted_studies(database, after(20)) == ()


def test_count_that_came_too_late_is_void(database: Database) -> None:
    """The source was asked, then an instance came, or the wait ended: its number is not kept."""
    receive_study(database, n_instances=3)
    assert not expect_instances(database, STUDY, 3, last_arrival_at=after(2))
    assert open_studies(database)[0].expected_n_instances is None
    complete_study(database, STUDY, StudyState.UNVERIFIED, CompletionReason.QUIET, after(700))
    assert not expect_instances(database, STUDY, 3, last_arrival_at=after(3))
    assert not expect_instances(database, STUDY, 3)


def test_complete_study_queues_its_run_at_once(database: Database) -> None:
    """Closing a generation and queueing its run are one deed, with the verdict in the events."""
    receive_study(database)
    run_id = complete_study(
        database,
        STUDY,
        StudyState.VERIFIED,
        CompletionReason.EXPECTED_COUNT,
        after(70),
        detail="3 of 3",
    )
    assert run_id is not None
    run = run_status(database, run_id)
    assert run is not None
    assert (run.state, run.reason, run.version) == (RunState.QUEUED, RunReason.NEW_STUDY, 1)
    completed = next(e for e in why(database, STUDY).events if e.kind == "study_completed")
    assert completed.payload["reason"] == "expected-count-met"
    assert completed.payload["sources"] == {"SCANNER": 3}
    assert completed.payload["input_digest"] == load_study(database, STUDY).input_digest


def test_complete_study_twice_makes_one_run(database: Database) -> None:
    """A second dispatcher that comes to the same verdict changes nothing."""
    run_id = queue_run(database)
    again = complete_study(database, STUDY, StudyState.PARTIAL, CompletionReason.QUIET, after(701))
    assert again is None
    status = study_status(database, STUDY)
    assert status is not None
    assert status.run is not None
    assert (status.run.run_id, status.state) == (run_id, StudyState.UNVERIFIED)


def test_complete_study_void_after_a_newer_arrival(database: Database) -> None:
    """An instance between the verdict and its execution makes the verdict void."""
    receive_study(database)
    seen = open_studies(database)[0].last_arrival_at
    register_instance(database, make_received(make_instance(9)), after(650))
    verdict = complete_study(
        database,
        STUDY,
        StudyState.UNVERIFIED,
        CompletionReason.QUIET,
        after(651),
        last_arrival_at=seen,
    )
    assert verdict is None
    assert len(open_studies(database)) == 1


@pytest.mark.parametrize("state", [StudyState.RECEIVING, StudyState.STABLE])
def test_complete_study_refuses_states_that_are_no_verdict(
    database: Database, state: StudyState
) -> None:
    """Only a verdict ends a generation."""
    receive_study(database)
    with pytest.raises(ValueError, match="verified"):
        complete_study(database, STUDY, state, CompletionReason.QUIET, after(700))


def test_late_instance_opens_the_next_generation(database: Database) -> None:
    """A late slice reopens the study, and its new run screens all slices and replaces the old."""
    first = queue_run(database)
    register_instance(database, make_received(make_instance(4)), after(900))
    (study,) = open_studies(database)
    assert (study.generation, study.opened_at) == (2, after(900))
    second = complete(database, seconds=1600)
    old, new = run_status(database, first), run_status(database, second)
    assert old is not None
    assert new is not None
    assert (old.state, old.superseded_by_run_id) == (RunState.SUPERSEDED, second)
    assert (new.reason, new.version) == (RunReason.LATE_INSTANCES, 2)
    assert len(load_study(database, STUDY).instances) == 4
    assert len(load_study(database, STUDY, generation=1).instances) == 3


def test_running_run_keeps_its_inputs_when_instances_come_late(database: Database) -> None:
    """What a run reads is what it was made for, whatever arrives meanwhile."""
    claimed = claim(database, queue_run(database))
    register_instance(database, make_received(make_instance(4)), after(900))
    complete(database, seconds=1600)
    inputs = load_inputs(database, claimed)
    assert len(inputs.instances) == 3
    assert inputs.input_digest == claimed.input_digest


def test_late_quarantined_instance_reopens_nothing(database: Database) -> None:
    """Bytes that no run would read make no new run."""
    report(database, claim(database, queue_run(database)))
    bad = make_received(make_instance(4), quarantine_reason="no patient id")
    register_instance(database, bad, after(900))
    assert open_studies(database) == ()


def test_known_digests_finds_files_without_a_row(database: Database) -> None:
    """The janitor learns which of very many files have no row."""
    receive_study(database)
    kept = {make_instance(number).content_digest for number in (1, 2, 3)}
    strangers = {f"{number:064x}" for number in range(1200)}
    assert known_digests(database, kept | strangers) == kept


def test_load_study_unknown(database: Database) -> None:
    """A study that never came is an error with a hint."""
    with pytest.raises(WrongUse, match="screener status"):
        load_study(database, "1.2.3")
