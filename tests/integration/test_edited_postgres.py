"""PostgreSQL edited by hand: a time that Python does not have costs its own row, nobody else's.

Covered: endless times and times before Christ in every row of one study, and in what every study
needs; JSON that is no object. Not covered: rows that the keys of the tables refuse.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import DateTime, text

from screener.audit.accounting import AccountingRule, accounting
from screener.audit.alerts import AlertKind, Condition, list_alerts, settle_alerts
from screener.audit.backlog import measure_backlog
from screener.audit.claims import claim_run, expire_leases
from screener.audit.database import Database
from screener.audit.deliveries import claim_delivery
from screener.audit.delivery_sweep import expire_delivery_leases
from screener.audit.ledger import open_studies, register_instance
from screener.audit.queries import list_studies
from screener.audit.story import why
from screener.audit.table_types import Row
from screener.audit.telling import render_story
from screener.audit.tolerant_types import UtcDateTime
from screener.audit.waits import LongestWaits, mend_lost_times, mend_waits
from screener.daemon.site import open_site
from screener.daemon.sweep import sweep
from screener.domain import StudyState
from screener.errors import DamagedRow, DatabaseUnavailable
from screener.settings import Settings
from tests.audit_factories import (
    LEASE_S,
    POLICY,
    STUDY,
    after,
    claim,
    make_instance,
    make_received,
    queue_run,
    receive_study,
    report,
)
from tests.integration.databases import fresh_database

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.integration

OTHER = STUDY + "9"
LONGEST = LongestWaits(LEASE_S, 60.0, LEASE_S, 60.0)
TIMES = [
    ("infinity", "queued"),
    ("-infinity", "running"),
    ("0044-03-15 BC", "reported"),
    ("20000-01-01", "running"),
    ("9999-12-31 23:59:59-12", "queued"),
]


@pytest.fixture(scope="module")
def reported_url(postgres_server_url: str) -> Iterator[str]:
    """Give the URL of a database with two reported studies, from which others are copied."""
    with fresh_database(postgres_server_url) as url:
        opened = Database(url)
        opened.upgrade()
        report(opened, claim(opened, queue_run(opened)))
        report(opened, claim(opened, queue_run(opened, study=OTHER)))
        opened.dispose()
        yield url


@pytest.fixture
def database(postgres_server_url: str, reported_url: str) -> Iterator[Database]:
    """Give a copy of that database."""
    template = reported_url.rsplit("/", 1)[1]
    with fresh_database(postgres_server_url, template) as url:
        opened = Database(url)
        yield opened
        opened.dispose()


def edit(database: Database, *statements: str) -> None:
    """Edit as an administrator does who knows what a trigger is."""
    with database.engine.begin() as connection:
        connection.execute(text("SET LOCAL session_replication_role = replica"))
        for statement in statements:
            connection.execute(text(statement))


def set_of_study(table: str, column: str, value: str) -> str:
    """Give the statement that puts a value into the rows of one study."""
    return f"UPDATE {table} SET {column} = '{value}' WHERE study_instance_uid = '{STUDY}'"  # noqa: S608  of a test


def times_of_study(value: str) -> list[str]:
    """Give the statements that put a time into every column of times in the rows of one study."""
    return [
        set_of_study(table.name, column.name, value)
        for table in Row.metadata.sorted_tables
        for column in table.columns
        if isinstance(column.type, UtcDateTime | DateTime) and "study_instance_uid" in table.columns
    ]


@pytest.mark.parametrize(("value", "state"), TIMES)
def test_endless_times_stop_nobody_else(database: Database, value: str, state: str) -> None:
    """All is listed and told, the other study is sent, a new one claimed, and the books name it."""
    edit(database, set_of_study("runs", "state", state), *times_of_study(value))
    names = {one.rule for one in accounting(database, after(900)).violations}
    assert AccountingRule.VALUE_IS_READABLE in names
    waiting = queue_run(database, study=STUDY + "8")
    mend_waits(database, LONGEST, after(900))
    mend_lost_times(database, LONGEST, after(900))
    assert {STUDY, OTHER} <= {one.study_instance_uid for one in list_studies(database)}
    assert render_story(why(database, STUDY))
    measure_backlog(database, after(900))
    open_studies(database)
    claimed, sent = set(), set()
    while (run := claim_run(database, None, "w1", LEASE_S, after(2000))) is not None:
        claimed.add(run.run_id)
    while (one := claim_delivery(database, None, "s1", LEASE_S, after(2000))) is not None:
        sent.add(one.study_instance_uid)
    assert waiting in claimed
    assert OTHER in sent


def test_endless_time_of_an_alert_stops_no_other(database: Database) -> None:
    """The alerts of all others are settled and listed."""
    found = [Condition(kind, "", "detail") for kind in (AlertKind.RUNS_WAIT, AlertKind.DISK_LOW)]
    settle_alerts(database, found[:1], after(0))
    edit(database, "UPDATE alerts SET raised_at = 'infinity', last_seen_at = '-infinity'")
    settle_alerts(database, found, after(60))
    alerts = list_alerts(database, is_open_only=True)
    assert {one.kind for one in alerts} == {"runs-wait", "disk-low"}
    assert datetime(1970, 1, 1, tzinfo=UTC) in {one.raised_at for one in alerts}


def test_generation_beyond_counting_costs_its_own_study(database: Database) -> None:
    """Nothing more comes into that study, with a word why; others arrive, books are made."""
    edit(database, set_of_study("studies", "generation", str(2**31 - 1)))
    with pytest.raises(DamagedRow, match="a row was edited"):
        register_instance(database, make_received(make_instance(99)), after(900))
    register_instance(database, make_received(make_instance(99, study=OTHER)), after(900))
    violations = accounting(database, after(900)).violations
    assert STUDY in {example for one in violations for example in one.examples}


def test_counts_at_their_end_stop_no_claim(database: Database) -> None:
    """The edited run and delivery are the first in the queue; whoever comes next is not held up."""
    for table, state in (("runs", "queued"), ("deliveries", "retrying")):
        edit(database, set_of_study(table, "state", state))
        edit(database, set_of_study(table, "attempt", str(2**31 - 1)))
    edit(database, set_of_study("deliveries", "n_failures", str(2**31 - 1)))
    waiting = queue_run(database, study=STUDY + "8")
    names = {one.rule for one in accounting(database, after(900)).violations}
    assert AccountingRule.COUNT_IS_POSSIBLE in names
    claimed, sent = set(), set()
    while (run := claim_run(database, None, "w1", LEASE_S, after(2000))) is not None:
        claimed.add(run.run_id)
    while (one := claim_delivery(database, None, "s1", LEASE_S, after(2000))) is not None:
        sent.add(one.study_instance_uid)
    assert waiting in claimed
    assert sent == {STUDY, OTHER}
    assert len(expire_leases(database, after(9000), POLICY)) == 2
    assert len(expire_delivery_leases(database, after(9000), POLICY)) == 2


def test_study_that_cannot_be_completed_holds_up_no_other(
    database: Database, tmp_path: Path
) -> None:
    """Its newest run has the last version there is; the study after it is completed."""
    edit(database, set_of_study("runs", "version", str(2**31 - 1)))
    register_instance(database, make_received(make_instance(99)), after(900))
    receive_study(database, study=STUDY + "8")
    url = database.engine.url.render_as_string(hide_password=False)
    site = open_site(Settings.model_validate({"data_dir": tmp_path, "database": {"url": url}}))
    sweep(site)
    site.database.dispose()
    states = {one.study_instance_uid: one.state for one in list_studies(database)}
    assert states[STUDY] is StudyState.RECEIVING
    assert states[STUDY + "8"] is StudyState.UNVERIFIED


@pytest.mark.parametrize(
    "change", ["ALTER TABLE alerts RENAME TO elsewhere", "ALTER TABLE alerts DROP COLUMN detail"]
)
def test_schema_that_a_person_changed_is_named(database: Database, change: str) -> None:
    """An error of ours with the mend, whoever asks; what needs it not goes on."""
    edit(database, change)
    with pytest.raises(DatabaseUnavailable, match="were changed: restore them"):
        list_alerts(database, is_open_only=True)
    assert {STUDY, OTHER} == {one.study_instance_uid for one in list_studies(database)}


def test_account_without_rights_is_named(database: Database) -> None:
    """Whether it reads by the mapper or writes by the driver's own cursor."""
    edit(database, "DROP ROLE IF EXISTS stranger", "CREATE ROLE stranger LOGIN")
    url = database.engine.url.set(username="stranger")
    stranger = Database(url.render_as_string(hide_password=False))
    for ask in (
        lambda: list_studies(stranger),
        lambda: register_instance(stranger, make_received(make_instance(99)), after(900)),
    ):
        with pytest.raises(DatabaseUnavailable, match="permission denied"):
            ask()
    stranger.dispose()


def test_json_that_is_no_object_reads_as_empty(database: Database) -> None:
    """As on SQLite: evidence and payloads that are lists, numbers or nothing."""
    edit(database, set_of_study("runs", "evidence", "[1]"), "UPDATE events SET payload = '1'")
    assert {str(event.payload) for event in why(database, STUDY).events} == {"{}"}
    assert why(database, OTHER).runs
