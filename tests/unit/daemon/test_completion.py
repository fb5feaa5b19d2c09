"""When a study is thought complete, through sweep and command: every way it can come about.

The clock of the rows is set by hand; the sweep reads the real one. Without sockets: the count of
the source is put into its row, as the sweep does after a C-FIND.
"""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from screener.audit.accounting import accounting
from screener.audit.events import EventKind
from screener.audit.ledger import expect_instances, open_studies, register_instance
from screener.audit.queries import StudyStatus, study_status
from screener.audit.tables import Event
from screener.daemon.reprocess import complete_now
from screener.daemon.site import Site, open_site, utc_now
from screener.daemon.sweep import sweep
from screener.domain import CompletionReason, StudyState
from screener.errors import WrongUse
from screener.settings import Settings
from tests.audit_factories import (
    COMPREHENSIVE_3D_SR,
    STUDY,
    claim,
    make_instance,
    make_received,
    report,
)

OTHER = STUDY + ".77"


def open_node(folder: Path, **completion: Any) -> Site:
    return open_site(Settings.model_validate({"data_dir": folder, "completion": completion}))


@pytest.fixture
def site(node_folder: Path) -> Site:
    """Give a node with the times of the default: 60 s, 600 s, 5400 s."""
    return open_node(node_folder)


def receive(site: Site, *numbers: int, ago_s: float, **changes: Any) -> None:
    """Receive instances of a study so many seconds ago."""
    at: datetime = utc_now() - timedelta(seconds=ago_s)
    received = {key: changes.pop(key) for key in ("modality", "is_own_result") if key in changes}
    for number in numbers:
        instance = make_instance(number, **changes)
        register_instance(site.database, make_received(instance, **received), at)


def swept(site: Site, study: str = STUDY) -> StudyStatus:
    sweep(site)
    status = study_status(site.database, study)
    assert status is not None
    return status


def detail_of(site: Site, study: str = STUDY) -> str:
    with site.database.session() as session:
        statement = select(Event.payload).where(
            Event.kind == "study_completed", Event.study_instance_uid == study
        )
        payloads = session.scalars(statement.order_by(Event.event_id.desc())).all()
    return str(json.loads(payloads[0])["detail"])


def outcome(status: StudyStatus) -> tuple[StudyState, CompletionReason | None]:
    return status.state, status.completion_reason


@pytest.mark.parametrize(
    ("ago_s", "expected", "required", "state", "reason"),
    [
        (61, None, (), StudyState.RECEIVING, None),
        (601, None, (), StudyState.UNVERIFIED, CompletionReason.QUIET),
        (61, 3, (), StudyState.VERIFIED, CompletionReason.EXPECTED_COUNT),
        (59, 3, (), StudyState.RECEIVING, None),
        (61, 4, (), StudyState.RECEIVING, None),
        (601, 4, (), StudyState.PARTIAL, CompletionReason.QUIET),
        (61, None, ("CT:3",), StudyState.UNVERIFIED, CompletionReason.REQUIRED_SERIES),
        (59, None, ("CT:3",), StudyState.RECEIVING, None),
        (61, None, ("CT:4",), StudyState.RECEIVING, None),
        (601, None, ("CT:4",), StudyState.PARTIAL, CompletionReason.QUIET),
        (61, 3, ("CT:4",), StudyState.RECEIVING, None),
        (601, None, ("CT", "PT"), StudyState.PARTIAL, CompletionReason.QUIET),
    ],
)
def test_wait_ends_for_the_reason_that_is_stored(  # noqa: PLR0917
    node_folder: Path, ago_s: float, expected: int | None, required: tuple[str, ...],
    state: StudyState, reason: CompletionReason | None,
) -> None:  # fmt: skip
    """Quiet time, the count of the source, required series: each alone and against each other."""
    site = open_node(node_folder, required_series=required)
    receive(site, 1, 2, 3, ago_s=ago_s)
    if expected is not None:
        expect_instances(site.database, STUDY, expected)
    status = swept(site)
    assert outcome(status) == (state, reason)
    assert (status.run is not None) == (reason is not None)
    if reason is not None:
        assert "3 instances in 1 series" in detail_of(site)


def test_lacking_series_is_named(node_folder: Path) -> None:
    """The verdict says which series did not come."""
    site = open_node(node_folder, required_series=("CT:30",))
    receive(site, 1, ago_s=700)
    swept(site)
    assert "required series not there: CT:30" in detail_of(site)


def test_sender_that_never_pauses_meets_the_hard_cap(site: Site) -> None:
    """An instance a minute for ever does not keep a study from being screened."""
    for minutes in range(91, 0, -1):
        receive(site, minutes, ago_s=60 * minutes - 30)
    status = swept(site)
    assert outcome(status) == (StudyState.UNVERIFIED, CompletionReason.HARD_CAP)


def test_person_ends_the_wait(site: Site) -> None:
    """`screener complete` queues the run at once, once."""
    receive(site, 1, 2, ago_s=1)
    run_id = complete_now(site.settings, STUDY)
    status = study_status(site.database, STUDY)
    assert status is not None
    assert outcome(status) == (StudyState.UNVERIFIED, CompletionReason.FORCED)
    assert status.run is not None
    assert status.run.run_id == run_id
    for uid in (STUDY, "1.2.3"):
        with pytest.raises(WrongUse, match="not being received"):
            complete_now(site.settings, uid)


def test_release_of_an_association_says_nothing(site: Site) -> None:
    """A study over five associations, with pauses in between, is one generation and one run."""
    for number, ago_s in enumerate((900, 700, 500, 300, 100), start=1):
        receive(site, number, ago_s=ago_s, calling_ae_title=f"SCANNER{number}")
    status = swept(site)
    assert (status.state, status.generation) == (StudyState.RECEIVING, 1)
    assert status.n_instances == 5


def test_two_studies_in_one_association_are_two(site: Site) -> None:
    """Interleaved slices go to their own studies, each with its own verdict."""
    for number in (1, 2, 3):
        receive(site, number, ago_s=700)
        receive(site, number, ago_s=30, study=OTHER)
    assert outcome(swept(site)) == (StudyState.UNVERIFIED, CompletionReason.QUIET)
    assert swept(site, OTHER).state is StudyState.RECEIVING
    assert swept(site).n_instances == swept(site, OTHER).n_instances == 3


def test_late_slices_make_a_new_run_that_supersedes(site: Site) -> None:
    """The old report stands until the new one is written; both generations have their run."""
    receive(site, 1, 2, ago_s=1400)
    swept(site)
    report(site.database, claim(site.database, seconds=2e9))
    receive(site, 3, ago_s=700)
    reopened = study_status(site.database, STUDY)
    assert reopened is not None
    assert (reopened.state, reopened.generation) == (StudyState.RECEIVING, 2)
    status = swept(site)
    assert status.run is not None
    assert (status.run.version, status.run.reason.value) == (2, "late-instances")
    newer = claim(site.database, seconds=2e9)
    assert newer.predecessor is not None
    assert accounting(site.database, utc_now()).is_balanced


def test_count_of_the_source_holds_for_one_generation(site: Site) -> None:
    """What the source had before late slices came does not verify the study with them."""
    receive(site, 1, 2, ago_s=1400)
    expect_instances(site.database, STUDY, 2)
    assert swept(site).state is StudyState.VERIFIED
    receive(site, 3, ago_s=61)
    assert swept(site).state is StudyState.RECEIVING
    expect_instances(site.database, STUDY, 3)
    assert outcome(swept(site)) == (StudyState.VERIFIED, CompletionReason.EXPECTED_COUNT)


def test_study_that_is_sent_again_makes_nothing(site: Site) -> None:
    """The same bytes again: success to the sender, no generation, no run."""
    receive(site, 1, 2, ago_s=1400)
    before = swept(site)
    receive(site, 1, 2, ago_s=700)
    after = swept(site)
    assert (after.generation, after.run) == (before.generation, before.run)
    assert after.n_instances == 2


def test_own_results_that_come_back_make_nothing(site: Site) -> None:
    """The loop guard: a PACS that routes our report back to us starts no screening."""
    receive(site, 1, 2, ago_s=1400)
    before = swept(site)
    for number in (90, 91):
        receive(site, number, ago_s=700, sop_class=COMPREHENSIVE_3D_SR, is_own_result=True)
    after = swept(site)
    assert (after.generation, after.run, after.n_instances) == (1, before.run, 2)
    receive(site, 92, ago_s=700, study=OTHER, sop_class=COMPREHENSIVE_3D_SR, is_own_result=True)
    assert swept(site, OTHER).run is None
    assert accounting(site.database, utc_now()).is_balanced


def test_one_series_uid_in_two_studies_stays_two_series(site: Site) -> None:
    """Neither study takes slices of the other."""
    shared = STUDY + ".5"
    receive(site, 1, 2, ago_s=700, series=shared)
    receive(site, 3, ago_s=700, series=shared, study=OTHER)
    sweep(site)
    assert [swept(site, uid).n_instances for uid in (STUDY, OTHER)] == [2, 1]
    assert accounting(site.database, utc_now()).is_balanced


def test_sweep_after_the_clock_went_back(site: Site) -> None:
    """What came while the clock was a day ahead waits from now on, and the trail tells of it."""
    receive(site, 1, ago_s=-86_400)
    sweep(site)
    (study,) = open_studies(site.database)
    assert study.last_arrival_at <= utc_now()
    with site.database.session() as session:
        assert EventKind.CLOCK_WENT_BACK in session.scalars(select(Event.kind)).all()
