"""What the rules of retention let go, and above all what they do not."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import select, text

from screener.audit.accounting import accounting
from screener.audit.books import keep_books
from screener.audit.database import Database
from screener.audit.deliveries import (
    ObjectStatus,
    claim_delivery,
    confirm_delivery,
    finish_delivery,
)
from screener.audit.ledger import complete_study, register_instance
from screener.audit.purging import PurgeRule, RetentionRules, plan_purge, purge_item
from screener.audit.registration import Registration
from screener.audit.tables import Delivery, Event, Instance, Run
from screener.daemon import purging
from screener.daemon.purging import plan, purge_by_proved_clock, purge_by_rule
from screener.daemon.site import Site, open_site, utc_now
from screener.domain import CompletionReason, DeliveryState, RunState, StudyState
from screener.settings import Settings
from tests.audit_factories import (
    COMPREHENSIVE_3D_SR,
    LEASE_S,
    STUDY,
    after,
    claim,
    complete,
    make_instance,
    make_received,
    receive_study,
    report,
)

DAY_S = 86400.0
RULES = RetentionRules(spool_days=7, quarantine_days=30, results_days=2196)


def confirm(database: Database, seconds: float = 900.0) -> None:
    """Deliver and confirm whatever waits."""
    while (sent := claim_delivery(database, None, "s1", LEASE_S, after(seconds))) is not None:
        statuses = [ObjectStatus(one.sop_instance_uid, 0, "stored") for one in sent.objects]
        finish_delivery(database, sent, statuses, after(seconds))
        confirm_delivery(database, sent, "C-FIND lists all", after(seconds + 1))


def screened(database: Database) -> None:
    """One study, reported at 830 s; nothing confirmed."""
    receive_study(database)
    report(database, claim(database, complete(database)))


def planned(database: Database, days: float, rules: RetentionRules = RULES) -> dict[str, int]:
    items = plan_purge(database, rules, after(days * DAY_S + 1000))
    return {item.rule.value: item.n_files for item in items}


def test_confirmed_study_goes_after_its_days(database: Database) -> None:
    """Seven days count from the confirmation."""
    screened(database)
    confirm(database)
    assert planned(database, 6.9) == {}
    assert planned(database, 7) == {"confirmed": 3}
    assert planned(database, 2200) == {"confirmed": 3, "results": 2}


def test_rule_that_is_off_lets_nothing_go(database: Database) -> None:
    """None keeps for ever."""
    screened(database)
    confirm(database)
    assert planned(database, 9999, RetentionRules(None, None, None)) == {}


def test_nothing_unconfirmed_goes_however_old(database: Database) -> None:
    """Reported, but no destination has answered."""
    screened(database)
    assert planned(database, 9999) == {}


def test_late_generation_that_was_not_screened_keeps_all(database: Database) -> None:
    """A study that opened again waits for its new run."""
    screened(database)
    confirm(database)
    register_instance(database, make_received(make_instance(9)), after(1000))
    assert planned(database, 9999) == {"results": 2}
    complete_study(database, STUDY, StudyState.UNVERIFIED, CompletionReason.QUIET, after(2000))
    assert planned(database, 9999) == {"results": 2}


def test_quarantined_and_own_results_have_their_own_days(database: Database) -> None:
    """Neither was ever to be screened."""
    screened(database)
    own = make_instance(50, sop_class=COMPREHENSIVE_3D_SR)
    register_instance(database, make_received(own, is_own_result=True), after(860))
    bad = make_received(make_instance(51), quarantine_reason="no-patient-id")
    register_instance(database, bad, after(870))
    assert planned(database, 8) == {"own-result": 1}
    assert planned(database, 31) == {"own-result": 1, "quarantine": 1}


def test_purge_marks_rows_and_tells_once(database: Database) -> None:
    """One event for a study and rule; a second purge finds nothing."""
    screened(database)
    confirm(database)
    now = after(8 * DAY_S)
    (item,) = plan_purge(database, RULES, now)
    assert len(purge_item(database, item, RULES, now, lambda _: True)) == 3
    assert purge_item(database, item, RULES, now, lambda _: True) == ()
    with database.session() as session:
        kinds = session.scalars(select(Event.kind).where(Event.kind == "instances_purged")).all()
        assert len(kinds) == 1
        assert all(row.purged_at == now for row in session.scalars(select(Instance)))
    assert accounting(database, now).is_balanced


def test_what_was_planned_is_asked_again(database: Database) -> None:
    """Between plan and purge the study opened again: nothing goes."""
    screened(database)
    confirm(database)
    now = after(8 * DAY_S)
    (item,) = plan_purge(database, RULES, now)
    register_instance(database, make_received(make_instance(9)), now)
    assert purge_item(database, item, RULES, now, lambda _: True) == ()


# ── whatever the rows say ────────────────────────────────────────────────────────────────────


@contextmanager
def copy_of(template: Path, folder: Path) -> Iterator[Database]:
    path = folder / "case.sqlite3"
    shutil.copyfile(template, path)
    opened = Database(f"sqlite:///{path}")
    try:
        yield opened
    finally:
        opened.dispose()
        for leftover in folder.glob("case.sqlite3*"):
            leftover.unlink()


@pytest.fixture
def confirmed_file(database: Database, tmp_path: Path) -> Path:
    """Give a database with one study, reported to two destinations that both confirmed."""
    receive_study(database)
    report(database, claim(database, complete(database)), destinations=("pacs", "late"))
    confirm(database)
    database.dispose()
    return tmp_path / "audit.sqlite3"


CHANGES = st.fixed_dictionaries(
    {
        "run": st.sampled_from(list(RunState)),
        "study": st.sampled_from(list(StudyState)),
        "first": st.sampled_from(list(DeliveryState)),
        "second": st.sampled_from(list(DeliveryState)),
        "generation": st.integers(1, 2),
        "days": st.floats(0, 5000),
    }
)


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(changes=CHANGES)
def test_nothing_unconfirmed_is_ever_purged(
    confirmed_file: Path, tmp_path: Path, changes: dict[str, Any]
) -> None:
    """Whatever states stand in the rows: what goes was confirmed by every destination, long ago."""
    with copy_of(confirmed_file, tmp_path) as database:
        with database.begin() as session:
            run = session.scalars(select(Run)).one()
            run.state = changes["run"]
            session.execute(
                text("UPDATE studies SET state = :state, generation = :generation"),
                {"state": changes["study"].value, "generation": changes["generation"]},
            )
            rows = session.scalars(select(Delivery).order_by(Delivery.destination)).all()
            for row, state in zip(rows, (changes["first"], changes["second"]), strict=True):
                row.state = state
        rules = planned(database, changes["days"])
        is_all_confirmed = {changes["first"], changes["second"]} == {DeliveryState.CONFIRMED}
        is_whole = changes["study"] is not StudyState.RECEIVING and changes["generation"] == 1
        may_go = is_all_confirmed and changes["run"] is RunState.CONFIRMED and is_whole
        assert ("confirmed" in rules) == (may_go and changes["days"] * DAY_S + 99 >= 7 * DAY_S)
        assert "results" not in rules or is_all_confirmed


# ── files ────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def site(node_folder: Path) -> Site:
    """Give a node whose confirmed study has been here for years."""
    node = open_site(Settings.model_validate({"data_dir": node_folder}))
    store = node.settings.spool_path / "store"
    for number in (1, 2, 3):
        instance = make_instance(number)
        path = store / instance.content_digest[:2] / f"{instance.content_digest}.dcm"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"slice")
        os.utime(path, (0, 0))
        received = make_received(replace(instance, path=path), n_bytes=5)
        register_instance(node.database, received, after(number))
    report(node.database, claim(node.database, complete(node.database)))
    confirm(node.database)
    return node


def files_of(site: Site) -> list[Path]:
    return sorted(path for path in site.settings.spool_path.rglob("*") if path.is_file())


def unbalanced(site: Site) -> list[str]:
    """Give what does not hold in the spool; results of the factories have no files."""
    books = accounting(site.database, utc_now(), store=site.settings.spool_path / "store")
    return [name for one in books.violations for name in one.examples if ".9." not in name]


def test_purge_deletes_files_and_keeps_the_books(site: Site) -> None:
    """Dry run says it, purge does it, the accounting agrees."""
    assert plan(site.settings).n_files == 3
    assert len(files_of(site)) == 3
    report_of_purge = purge_by_rule(site)
    assert (report_of_purge.n_files, report_of_purge.n_bytes) == (3, 15)
    assert files_of(site) == []
    assert unbalanced(site) == []
    assert purge_by_rule(site).items == ()


def test_file_that_was_just_sent_again_stays(site: Site) -> None:
    """A purge and a sender meet: the young file and its row stay, the others go."""
    young = files_of(site)[0]
    os.utime(young)
    assert purge_by_rule(site).n_files == 2
    assert files_of(site) == [young]
    assert unbalanced(site) == []


def test_instance_that_comes_again_after_the_purge_is_here_again(site: Site) -> None:
    """The same content is a duplicate whose row has a file again; no run follows from it."""
    purge_by_rule(site)
    instance = make_instance(1)
    path = site.settings.spool_path / "store" / instance.content_digest[:2]
    path.mkdir(exist_ok=True)
    kept = path / f"{instance.content_digest}.dcm"
    kept.write_bytes(b"slice")
    os.utime(kept, (0, 0))
    received = make_received(replace(instance, path=kept))
    assert register_instance(site.database, received, utc_now()) is Registration.DUPLICATE
    assert unbalanced(site) == []
    assert purge_by_rule(site).n_files == 1


def test_purge_that_was_broken_off_is_finished(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed between commit and deletion: the next purge deletes what was set aside."""

    def be_killed(_path: Path) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(purging, "_delete_aside", be_killed)
    with pytest.raises(KeyboardInterrupt):
        purge_by_rule(site)
    assert {path.suffix for path in files_of(site)} == {".purging"}
    assert unbalanced(site) == []
    monkeypatch.undo()
    purge_by_rule(site)
    assert files_of(site) == []


def test_purge_that_never_committed_puts_back(site: Site) -> None:
    """Killed before the commit: files are put back, and the next purge takes them."""
    for path in files_of(site):
        path.rename(path.with_suffix(".purging"))
    assert unbalanced(site) == []
    assert purge_by_rule(site).n_files == 3
    assert files_of(site) == []


def test_results_go_with_their_folder(site: Site) -> None:
    """Objects, picture and folder of an old run."""
    folder = site.settings.results_path / "run"
    folder.mkdir(parents=True)
    with site.database.begin() as session:
        rows = session.execute(text("SELECT sop_instance_uid FROM result_objects")).scalars().all()
        for uid in rows:
            (folder / f"{uid}.dcm").write_bytes(b"report")
            session.execute(
                text("UPDATE result_objects SET path = :path WHERE sop_instance_uid = :uid"),
                {"path": str(folder / f"{uid}.dcm"), "uid": uid},
            )
        old = utc_now() - timedelta(days=3000)
        session.scalars(select(Run)).one().finished_at = old
    (folder / "overlay.png").write_bytes(b"picture")
    rules = {item.rule: item.n_files for item in purge_by_rule(site).items}
    assert rules[PurgeRule.RESULTS] == 2
    assert not folder.exists()


# ── the clock ────────────────────────────────────────────────────────────────────────────────


def count(site: Site, at: datetime, *hours: float) -> None:
    """Count the books so many hours after a moment."""
    for hour in hours:
        now = at + timedelta(hours=hour)
        keep_books(site.database, accounting(site.database, now), now)


def test_scheduler_purges_once_a_day_has_proved_the_time(site: Site) -> None:
    """Before the books were counted for a day nothing goes, then what the rules say."""
    assert purge_by_proved_clock(site).items == ()
    now = utc_now()
    count(site, now, -23, -10, 0)
    assert purge_by_proved_clock(site).items == ()
    count(site, now, -12, 0)  # the clock went back: it begins anew
    assert purge_by_proved_clock(site).items == ()
    with site.database.begin() as session:
        session.execute(text("DELETE FROM books"))
    count(site, now, -25, -10, 0)
    assert purge_by_proved_clock(site).n_files == 3


@pytest.mark.parametrize("days_ahead", [2, 4000])
def test_clock_that_jumped_ahead_lets_nothing_go(
    site: Site, monkeypatch: pytest.MonkeyPatch, days_ahead: int
) -> None:
    """Neither at once, nor after the books were counted in that time, nor for want of a word."""
    now = utc_now()
    count(site, now, -30, -10, 0)
    later = now + timedelta(days=days_ahead)
    monkeypatch.setattr(purging, "utc_now", lambda: later)
    assert purge_by_proved_clock(site).items == ()
    count(site, later, 0, 1)
    assert purge_by_proved_clock(site).items == ()
    with site.database.begin() as session:
        session.execute(text("UPDATE books SET content = '{}'"))
    assert purge_by_proved_clock(site).items == ()


# ── what attempts left ───────────────────────────────────────────────────────────────────────


def left_files(site: Site, run_id: str, age_s: float) -> Path:
    """Give the folder of a run with what a killed attempt leaves."""
    folder = site.settings.results_path / run_id
    folder.mkdir(parents=True)
    for name in ("sr-1234.77.part", "sr-1234.dcm", "overlay.png"):
        (folder / name).write_bytes(b"report")
        os.utime(folder / name, (time.time() - age_s,) * 2)
    return folder


def run_of(site: Site, state: RunState) -> str:
    """Put the only run into a state; its rows name other files than the attempt left."""
    with site.database.begin() as session:
        run = session.scalars(select(Run)).one()
        run.state = state
        return run.run_id


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_files_of_a_killed_attempt_go(site: Site) -> None:
    """A torn file, and an object that no row of the ended run names; the picture is the run's."""
    folder = left_files(site, run_of(site, RunState.CONFIRMED), 4000.0)
    purge_by_rule(site)
    assert names_in(folder) == ["overlay.png"]


def test_files_of_a_run_that_never_reported_go(site: Site) -> None:
    """It failed after every attempt was killed: no row names anything of it."""
    with site.database.begin() as session:
        session.execute(text("DELETE FROM delivery_objects"))
        session.execute(text("DELETE FROM deliveries"))
        session.execute(text("DELETE FROM result_objects"))
    folder = left_files(site, run_of(site, RunState.FAILED), 4000.0)
    purge_by_rule(site)
    assert names_in(folder) == []


def test_files_of_an_attempt_in_hand_stay(site: Site) -> None:
    """Young files of any run, and whatever a run that waits has written but its torn ones."""
    run_id = run_of(site, RunState.QUEUED)
    folder = left_files(site, run_id, 4000.0)
    purge_by_rule(site)
    assert names_in(folder) == ["overlay.png", "sr-1234.dcm"]
    shutil.rmtree(folder)
    folder = left_files(site, run_of(site, RunState.FAILED), 100.0)
    purge_by_rule(site)
    assert names_in(folder) == ["overlay.png", "sr-1234.77.part", "sr-1234.dcm"]


def test_folder_of_a_run_nobody_knows_stays(site: Site) -> None:
    """Whoever restored an older database may still want them."""
    folder = left_files(site, "run-of-another-database", 4000.0)
    purge_by_rule(site)
    assert names_in(folder) == ["overlay.png", "sr-1234.dcm"]
