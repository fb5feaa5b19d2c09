"""The audit database on a real PostgreSQL, and simultaneous claims on both databases.

Covered: every test of ledger, runs, deliveries and chain again on PostgreSQL; migrations from
empty, by several processes at once, without drift; threads and processes that claim, register and
seal at the same time, where each must be given once; a server that goes away. Not covered: a
fail-over to a replica, a power cut.
"""

from __future__ import annotations

import multiprocessing
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from screener.audit.accounting import accounting
from screener.audit.chain import seal
from screener.audit.claims import claim_run, expire_leases
from screener.audit.database import Database
from screener.audit.deliveries import claim_delivery, finish_delivery, held
from screener.audit.events import EventKind, append_event
from screener.audit.ledger import complete_study, open_studies, register_instance
from screener.audit.registration import Registration
from screener.audit.story import why
from screener.audit.table_types import Row
from screener.audit.verification import verify_chain
from screener.domain import CompletionReason, RunState, StudyState
from screener.errors import DatabaseUnavailable
from tests.audit_factories import (
    LEASE_S,
    NOW,
    POLICY,
    STUDY,
    after,
    claim,
    make_instance,
    make_received,
    queue_run,
    report,
)
from tests.integration.databases import fresh_database
from tests.unit.audit.test_alerts import *  # noqa: F403
from tests.unit.audit.test_chain import *  # noqa: F403 - the same tests on the other database
from tests.unit.audit.test_deliveries import *  # noqa: F403
from tests.unit.audit.test_ledger import *  # noqa: F403
from tests.unit.audit.test_purging import (  # noqa: F401
    test_confirmed_study_goes_after_its_days,
    test_late_generation_that_was_not_screened_keeps_all,
    test_purge_marks_rows_and_tells_once,
    test_quarantined_and_own_results_have_their_own_days,
)
from tests.unit.audit.test_runs import *  # noqa: F403
from tests.unit.audit.test_waits import *  # noqa: F403

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from sqlalchemy import TextClause

pytestmark = pytest.mark.integration

KEY = bytes(range(32))
N_STUDIES = 12
N_WORKERS = 4


@pytest.fixture(scope="module")
def postgres(postgres_server_url: str) -> Iterator[Database]:
    """Give one migrated PostgreSQL database for this module."""
    with fresh_database(postgres_server_url) as url:
        opened = Database(url)
        opened.upgrade()
        yield opened
        opened.dispose()


@pytest.fixture
def database(postgres: Database) -> Database:
    """Empty every table; hides the SQLite database of the unit tests."""
    names = ", ".join(table.name for table in Row.metadata.sorted_tables)
    with postgres.engine.begin() as connection:
        for name in ("events", "trail_counts"):
            connection.execute(text(f"ALTER TABLE {name} DISABLE TRIGGER ALL"))
        connection.execute(text(f"TRUNCATE {names} RESTART IDENTITY CASCADE"))
        for name in ("events", "trail_counts"):
            connection.execute(text(f"ALTER TABLE {name} ENABLE TRIGGER ALL"))
        connection.execute(text("INSERT INTO trail_counts VALUES (1, 0)"))
    return postgres


@pytest.fixture(params=["sqlite", "postgresql"])
def shared_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Give the URL of an empty, migrated database of each kind, for several connections."""
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path / 'shared.sqlite3'}"
        opened = Database(url)
        opened.upgrade()
        opened.dispose()
        return url
    opened = request.getfixturevalue("database")
    return str(opened.engine.url.render_as_string(hide_password=False))


@pytest.fixture
def shared(shared_url: str) -> Iterator[Database]:
    """Open the shared database."""
    opened = Database(shared_url)
    yield opened
    opened.dispose()


def test_postgres_migrations_make_what_the_tables_say(postgres: Database) -> None:
    """The migrated schema and the declared tables do not drift apart on PostgreSQL either."""
    with postgres.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, Row.metadata) == []


def test_postgres_upgrade_by_several_at_once(postgres_url: str) -> None:
    """Processes that start together migrate once and all go on."""
    databases = [Database(postgres_url) for _ in range(N_WORKERS)]
    with ThreadPoolExecutor(N_WORKERS) as pool:
        list(pool.map(Database.upgrade, databases))
    assert all(database.is_current() for database in databases)
    for database in databases:
        database.dispose()


def test_postgres_truncate_is_refused(database: Database) -> None:
    """Emptying the events in one go is refused like any other deletion."""
    with pytest.raises(DBAPIError, match="append only"), database.begin() as session:
        session.execute(text("TRUNCATE events"))


def test_postgres_count_of_events_cannot_be_emptied(database: Database) -> None:
    """The row that counts the events is protected like the events."""
    with pytest.raises(DBAPIError, match="only grows"), database.begin() as session:
        session.execute(text("TRUNCATE trail_counts"))


def test_postgres_gone_is_unavailable() -> None:
    """A server that is not there gives our transient error."""
    nowhere = Database("postgresql://screener@127.0.0.1:1/none")
    with pytest.raises(DatabaseUnavailable):
        register_instance(nowhere, make_received(), NOW)
    nowhere.dispose()


def test_postgres_server_that_vanishes_is_given_up(postgres: Database) -> None:
    """Its machine sends no farewell: the kernel asks, and a minute without an answer is the end."""
    with postgres.session() as session:
        driver: Any = session.connection().connection.driver_connection
        told = {one.keyword: one.val for one in driver.pgconn.info}
    asked_s = int(told[b"keepalives_interval"]) * int(told[b"keepalives_count"])
    assert int(told[b"keepalives_idle"]) + asked_s <= 60
    assert int(told[b"tcp_user_timeout"]) == 60_000


def test_postgres_lets_one_in_at_a_time(postgres: Database) -> None:
    """Two schedulers, one nightly audit: the second is told so and does not wait."""
    other = Database(postgres.engine.url.render_as_string(hide_password=False))
    with postgres.alone(1) as first, other.alone(1) as second, other.alone(2) as elsewhere:
        assert (first, second, elsewhere) == (True, False, True)
    with other.alone(1) as afterwards:
        assert afterwards
    other.dispose()


def test_postgres_connection_cut_is_survived(database: Database) -> None:
    """After the server dropped every connection the next call works again."""
    register_instance(database, make_received(), NOW)
    with database.session() as session:
        session.execute(
            text(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
        )
    assert len(open_studies(database)) == 1


def test_threads_claim_each_run_once(shared: Database) -> None:
    """Many workers in a hurry: every run is given to exactly one of them."""
    expected = {queue_run(shared, study=f"{STUDY}.{number}") for number in range(N_STUDIES)}
    barrier = threading.Barrier(N_WORKERS)

    def take_all(owner: str) -> list[str]:
        barrier.wait(30)
        taken = []
        misses = 0
        while misses < 3:  # SKIP LOCKED may show an empty queue while others hold the rest
            claimed = claim_run(shared, None, owner, LEASE_S, after(800))
            misses += claimed is None
            if claimed is not None:
                taken.append(claimed.run_id)
        return taken

    with ThreadPoolExecutor(N_WORKERS) as pool:
        taken = [run for runs in pool.map(take_all, "abcd") for run in runs]
    assert sorted(taken) == sorted(expected)


def _work_in_process(url: str, owner: str) -> None:
    """Claim and report until nothing is left; every third run dies without a word."""
    database = Database(url)
    n_misses = n_taken = 0
    while n_misses < 3:
        claimed = claim_run(database, None, owner, LEASE_S, after(800))
        if claimed is None:
            n_misses += 1
            continue
        n_taken += 1
        if n_taken % 3:
            report(database, claimed)
    database.dispose()


def test_processes_report_each_run_once(shared: Database, shared_url: str) -> None:
    """Worker processes, some of which drop their run: every study is reported exactly once."""
    for number in range(N_STUDIES):
        queue_run(shared, study=f"{STUDY}.{number}")
    context = multiprocessing.get_context("spawn")
    processes = [
        context.Process(target=_work_in_process, args=(shared_url, owner)) for owner in "abc"
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
        assert process.exitcode == 0
    dropped = expire_leases(shared, after(900), POLICY)
    assert dropped
    for _ in dropped:
        report(shared, claim(shared, seconds=1000), seconds=1001)
    books = accounting(shared, after(1001))
    assert books.is_balanced, books.text()
    assert dict(books.runs_by_state) == {RunState.REPORTED.value: N_STUDIES}
    for number in range(N_STUDIES):
        (run,) = why(shared, f"{STUDY}.{number}").runs
        assert len(run.objects) == 2


def test_same_instance_from_two_nodes_at_once(shared: Database) -> None:
    """A study that two nodes send at the same time is kept once, in one study row."""
    barrier = threading.Barrier(2)

    def send(calling_ae_title: str) -> list[Registration]:
        barrier.wait(30)
        return [
            register_instance(
                shared,
                make_received(make_instance(number, calling_ae_title=calling_ae_title)),
                after(number),
            )
            for number in range(1, 16)
        ]

    with ThreadPoolExecutor(2) as pool:
        answers = [answer for answers in pool.map(send, ["A", "B"]) for answer in answers]
    assert answers.count(Registration.NEW) == 15
    assert answers.count(Registration.DUPLICATE) == 15
    (study,) = open_studies(shared)
    assert study.n_instances == 15


def test_late_slices_and_completion_at_once(shared: Database) -> None:
    """Completing while instances come in loses none and forgets no generation."""
    register_instance(shared, make_received(make_instance(1)), NOW)
    barrier = threading.Barrier(2)

    def send() -> None:
        barrier.wait(30)
        for number in range(2, 22):
            register_instance(shared, make_received(make_instance(number)), after(number))

    def dispatch() -> None:
        barrier.wait(30)
        for seconds in range(20):
            complete_study(
                shared, STUDY, StudyState.UNVERIFIED, CompletionReason.QUIET, after(seconds)
            )

    with ThreadPoolExecutor(2) as pool:
        for future in [pool.submit(send), pool.submit(dispatch)]:
            future.result(60)
    complete_study(shared, STUDY, StudyState.UNVERIFIED, CompletionReason.QUIET, after(100))
    books = accounting(shared, after(100))
    assert books.is_balanced, books.text()
    newest = claim(shared, seconds=101)
    report(shared, newest, seconds=102)
    assert why(shared, STUDY).runs[-1].n_instances == 21


def test_senders_at_two_destinations_roll_up(shared: Database) -> None:
    """The last of two deliveries that end at the same time advances the run."""
    for number in range(6):
        study = f"{STUDY}.{number}"
        report(shared, claim(shared, queue_run(shared, study=study)),
               destinations=("archive", "pacs"))  # fmt: skip
    barrier = threading.Barrier(2)

    def send_all(destination: str) -> None:
        for _ in range(6):
            claimed = claim_delivery(
                shared, None, destination, LEASE_S, after(840), destinations=[destination]
            )
            assert claimed is not None
            barrier.wait(30)
            finish_delivery(shared, claimed, [], after(841))

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(send_all, ["archive", "pacs"]))
    books = accounting(shared, after(900))
    assert books.is_balanced, books.text()
    assert dict(books.runs_by_state) == {RunState.DELIVERED.value: 6}


def test_postgres_every_writer_of_a_study_holds_its_lock(database: Database) -> None:
    """Whoever writes about a study keeps the others waiting, so that sums over rows are right."""
    report(database, claim(database, queue_run(database)))
    claimed = claim_delivery(database, None, "s", LEASE_S, after(840))
    assert claimed is not None
    other = text("SELECT 1 FROM studies FOR UPDATE NOWAIT")
    with held(database, claimed), pytest.raises(DatabaseUnavailable, match="could not obtain lock"):
        _execute(database, other)
    _execute(database, other)


def _execute(database: Database, statement: TextClause) -> None:
    with database.begin() as session:
        session.execute(statement)


def test_sealers_and_writers_at_once(shared: Database, tmp_path: Path) -> None:
    """Two sealers and three writers make one chain without a hole."""
    path = tmp_path / "checkpoints"
    barrier = threading.Barrier(5)

    def write(number: int) -> None:
        barrier.wait(30)
        for count in range(20):
            with shared.begin() as session:
                append_event(
                    session, EventKind.RUN_SUPERSEDED, after(count),
                    run_id=f"{number}", payload={"by_run_id": f"{count}"},
                )  # fmt: skip

    def seal_often(_number: int) -> None:
        barrier.wait(30)
        for _ in range(10):
            seal(shared, KEY, NOW, path)

    with ThreadPoolExecutor(5) as pool:
        jobs = [pool.submit(write, number) for number in range(3)]
        jobs += [pool.submit(seal_often, number) for number in range(2)]
        for job in jobs:
            job.result(60)
    seal(shared, KEY, NOW, path)
    found = verify_chain(shared, KEY, path)
    assert found.is_intact, found.text()
    assert (found.n_events, found.n_unsealed) == (60, 0)
