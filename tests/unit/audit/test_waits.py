"""A clock that jumps: what waited goes on, live claims stay, dead ones end; both databases."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from sqlalchemy import func, select, text

from screener.audit.claims import claim_run, expire_leases, fail_run, heartbeat
from screener.audit.deliveries import claim_delivery, retry_delivery
from screener.audit.delivery_sweep import (
    due_deliveries,
    expire_delivery_leases,
    mark_deliveries_rung,
)
from screener.audit.events import EventKind
from screener.audit.ledger import open_studies, register_instance
from screener.audit.queries import run_status
from screener.audit.runs import mark_rung, unrung_runs
from screener.audit.tables import Event
from screener.audit.waits import LongestWaits, mend_lost_times, mend_waits, spare_overdue_leases
from screener.domain import RunState
from tests.audit_factories import (
    LEASE_S,
    PATIENCE,
    POLICY,
    STUDY,
    after,
    claim,
    make_instance,
    make_received,
    queue_run,
    report,
)

if TYPE_CHECKING:
    from screener.audit.database import Database

DAY_S = 86_400.0
LONGEST = LongestWaits(
    run_lease_s=LEASE_S,
    run_retry_s=POLICY.retry_cap_s,
    delivery_lease_s=LEASE_S,
    delivery_retry_s=PATIENCE.retry_cap_s,
)


def n_told(database: Database) -> int:
    with database.session() as session:
        of_clock = Event.kind == EventKind.CLOCK_WENT_BACK
        return session.scalar(select(func.count()).select_from(Event).where(of_clock)) or 0


def test_study_of_tomorrow_counts_from_now(database: Database) -> None:
    """Instances came while the clock was a day ahead: their study waits from now, not tomorrow."""
    register_instance(database, make_received(make_instance(1)), after(DAY_S))
    assert mend_waits(database, LONGEST, after(0)) == pytest.approx(DAY_S)
    (study,) = open_studies(database)
    assert study.last_arrival_at == study.opened_at == after(0)
    assert [one.last_arrival_at for one in study.series] == [after(0)]
    assert mend_waits(database, LONGEST, after(1)) == 0  # once
    assert n_told(database) == 1


def test_run_held_until_tomorrow_ends_with_its_holder(database: Database) -> None:
    """A worker that died while the clock was ahead loses its run after one lease, not tomorrow."""
    run_id = queue_run(database)
    claim(database, run_id, seconds=DAY_S)
    mend_waits(database, LONGEST, after(900))
    assert expire_leases(database, after(900), POLICY) == ()
    assert expire_leases(database, after(900 + LEASE_S), POLICY) == (run_id,)


def test_run_postponed_until_tomorrow_is_due(database: Database) -> None:
    """A retry and a ring of tomorrow do not keep a run from its workers."""
    run_id = queue_run(database)
    claimed = claim(database, run_id, seconds=DAY_S)
    fail_run(database, claimed, "disk", after(DAY_S), is_transient=True, policy=POLICY)
    mark_rung(database, [run_id], after(DAY_S))
    assert claim_run(database, None, "w2", LEASE_S, after(900)) is None
    mend_waits(database, LONGEST, after(900))
    assert [one.run_id for one in unrung_runs(database, after(903), 2.0)] == [run_id]
    assert claim_run(database, None, "w2", LEASE_S, after(900)) is not None


def test_delivery_of_tomorrow_is_due(database: Database) -> None:
    """A delivery that was postponed and rung tomorrow is sent today, with its patience from now."""
    (delivery_id,) = report(database, claim(database, queue_run(database)))
    taken = claim_delivery(database, delivery_id, "s1", LEASE_S, after(DAY_S))
    assert taken is not None
    retry_delivery(database, taken, "away", after(DAY_S), PATIENCE)
    mark_deliveries_rung(database, [delivery_id], after(DAY_S))
    assert due_deliveries(database, after(903), 2.0) == ()
    mend_waits(database, LONGEST, after(900))
    assert [one.delivery_id for one in due_deliveries(database, after(903), 2.0)] == [delivery_id]
    assert claim_delivery(database, None, "s2", LEASE_S, after(900)) is not None


def test_sender_of_tomorrow_ends_with_its_holder(database: Database) -> None:
    """A sender that died while the clock was ahead loses its delivery after one lease."""
    (delivery_id,) = report(database, claim(database, queue_run(database)))
    assert claim_delivery(database, delivery_id, "s1", LEASE_S, after(DAY_S)) is not None
    mend_waits(database, LONGEST, after(900))
    assert expire_delivery_leases(database, after(900 + LEASE_S), PATIENCE) == (delivery_id,)


def test_ordinary_waits_stay(database: Database) -> None:
    """Leases, retries and clocks that differ by half a minute are no jump: nothing is written."""
    register_instance(database, make_received(make_instance(1)), after(30))
    claimed = claim(database, queue_run(database, study=STUDY + ".2"), seconds=900)
    fail_run(database, claimed, "disk", after(900), is_transient=True, policy=POLICY)
    assert mend_waits(database, LONGEST, after(900)) == 0
    assert mend_waits(database, LONGEST, after(870)) == 0
    assert n_told(database) == 0


def test_holder_that_could_not_speak_keeps_its_run(database: Database) -> None:
    """The clock jumps an hour ahead: the live worker extends its claim and no attempt is lost."""
    run_id = queue_run(database)
    claimed = claim(database, run_id, seconds=800)
    assert spare_overdue_leases(database, LONGEST, after(4400)) == 1
    assert expire_leases(database, after(4400), POLICY) == ()
    heartbeat(database, claimed, LEASE_S, after(4420))
    assert expire_leases(database, after(4400 + LEASE_S), POLICY) == ()


def test_dead_holder_is_spared_once(database: Database) -> None:
    """Nobody comes back after a long stop: one lease later the claims end, run and delivery."""
    run_id = queue_run(database)
    claim(database, run_id, seconds=800)
    assert spare_overdue_leases(database, LONGEST, after(4400)) == 1
    assert spare_overdue_leases(database, LONGEST, after(4401)) == 0
    assert expire_leases(database, after(4400 + LEASE_S), POLICY) == (run_id,)
    status = run_status(database, run_id)
    assert status is not None
    assert status.state is RunState.QUEUED


def test_lease_just_over_is_not_spared(database: Database) -> None:
    """A worker that died a moment ago is replaced as soon as its lease is over."""
    run_id = queue_run(database)
    claim(database, run_id, seconds=800)
    assert spare_overdue_leases(database, LONGEST, after(800 + LEASE_S + 1)) == 0
    assert expire_leases(database, after(800 + LEASE_S + 1), POLICY) == (run_id,)


def edit(database: Database, statement: str) -> None:
    with database.engine.begin() as connection:
        connection.execute(text(statement))


def only_sqlite(database: Database) -> None:
    if database.dialect != "sqlite":
        pytest.skip("PostgreSQL refuses such values")


@pytest.mark.parametrize("lost", ["NULL", "'never'", "''", "'9999-99-99 00:00:00.000000'"])
def test_lease_that_was_taken_away_ends(database: Database, lost: str) -> None:
    """A running run without a time on its lease would run for ever: it gets one more lease."""
    if lost != "NULL":
        only_sqlite(database)
    run_id = queue_run(database)
    claim(database, run_id, seconds=800)
    edit(database, f"UPDATE runs SET lease_expires_at = {lost}")  # noqa: S608
    assert mend_lost_times(database, LONGEST, after(900)) == 1
    assert mend_lost_times(database, LONGEST, after(901)) == 0
    assert expire_leases(database, after(900 + LEASE_S), POLICY) == (run_id,)


def test_times_that_are_none_do_not_keep_a_study_waiting(database: Database) -> None:
    """Arrivals that somebody edited until they are no times count from now."""
    only_sqlite(database)
    register_instance(database, make_received(make_instance(1)), after(0))
    edit(database, "UPDATE studies SET last_arrival_at = 'x', opened_at = '0000-00-00'")
    edit(database, "UPDATE series SET last_arrival_at = x'ff'")
    assert len(open_studies(database)) == 1  # readable already
    assert mend_lost_times(database, LONGEST, after(60)) == 3
    (study,) = open_studies(database)
    assert study.last_arrival_at == study.opened_at == after(60)
    assert [one.last_arrival_at for one in study.series] == [after(60)]


def test_attempts_that_were_edited_do_not_go_on_for_ever(database: Database) -> None:
    """A run with a thousand forgiven attempts fails, and says why."""
    run_id = queue_run(database)
    claimed = claim(database, run_id, seconds=800)
    edit(database, "UPDATE runs SET attempts_forgiven = 1000")
    state = fail_run(database, claimed, "disk", after(801), is_transient=True, policy=POLICY)
    assert state is RunState.FAILED
    status = run_status(database, run_id)
    assert status is not None
    assert status.last_error == "disk; the count of attempts was edited"
