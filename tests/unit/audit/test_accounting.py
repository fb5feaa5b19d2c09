"""Every accounting rule notices the row that breaks it."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import text

from screener.audit.accounting import AccountingRule, accounting
from screener.audit.deliveries import claim_delivery
from screener.audit.files import ALL_SHARDS
from screener.audit.ledger import register_instance
from tests.audit_factories import (
    LEASE_S,
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

OTHER = STUDY + "9"


@pytest.fixture
def busy(database: Database) -> Database:
    """One study whose report is being sent, one whose run is being worked on."""
    report(database, claim(database, queue_run(database)))
    claim_delivery(database, None, "s1", LEASE_S, after(840))
    claim(database, queue_run(database, study=OTHER), seconds=840)
    return database


def test_busy_database_is_balanced(busy: Database) -> None:
    """Work under live leases is in order, and the counts are right."""
    books = accounting(busy, after(841))
    assert books.is_balanced, books.text()
    assert (books.n_studies, books.n_instances, books.n_open_studies) == (2, 6, 0)
    assert books.runs_by_state == (("reported", 1), ("running", 1))
    assert books.deliveries_by_state == (("sending", 1),)
    assert "6 instances of 2 studies" in books.text()


def test_expired_leases_break_the_books(busy: Database) -> None:
    """Work that nobody took back long after its lease shows that no dispatcher runs."""
    books = accounting(busy, after(840 + LEASE_S + 61))
    assert [one.rule for one in books.violations] == [
        AccountingRule.LEASE_IS_LIVE,
        AccountingRule.SENDING_IS_LIVE,
    ]


FOREIGN_KEYS_OFF = "PRAGMA foreign_keys = OFF"
DAMAGES = [
    ("UPDATE studies SET state = 'lost'", AccountingRule.STATE_IS_KNOWN),
    ("UPDATE runs SET state = 'lost'", AccountingRule.STATE_IS_KNOWN),
    ("UPDATE deliveries SET state = 'lost'", AccountingRule.STATE_IS_KNOWN),
    ("UPDATE runs SET reason = 'lost'", AccountingRule.VALUE_IS_READABLE),
    ("UPDATE runs SET certainty = 'high'", AccountingRule.VALUE_IS_READABLE),
    ("UPDATE runs SET evidence = '{'", AccountingRule.VALUE_IS_READABLE),
    ("UPDATE series SET last_arrival_at = ''", AccountingRule.VALUE_IS_READABLE),
    (
        "UPDATE instances SET received_at = '2026-02-30 10:00:00'",
        AccountingRule.VALUE_IS_READABLE,
    ),
    ("UPDATE result_objects SET n_bytes = 'many'", AccountingRule.VALUE_IS_READABLE),
    ("UPDATE runs SET attempts_forgiven = 99", AccountingRule.COUNT_IS_POSSIBLE),
    ("UPDATE deliveries SET n_failures = -1", AccountingRule.COUNT_IS_POSSIBLE),
    ("UPDATE deliveries SET state = 'confirmed'", AccountingRule.STATE_WAS_TOLD),
    ("UPDATE runs SET state = 'failed', last_error = 'x'", AccountingRule.STATE_WAS_TOLD),
    ("UPDATE runs SET state = 'reported'", AccountingRule.STATE_WAS_TOLD),
    (
        "UPDATE runs SET state = 'superseded', superseded_by_run_id = run_id",
        AccountingRule.STATE_WAS_TOLD,
    ),
    ("UPDATE instances SET generation = 0", AccountingRule.INSTANCE_HAS_GENERATION),
    ("UPDATE instances SET generation = 3", AccountingRule.INSTANCE_HAS_GENERATION),
    ("DELETE FROM studies", AccountingRule.INSTANCE_HAS_GENERATION),
    (
        "UPDATE studies SET state = 'receiving'; DELETE FROM instances",
        AccountingRule.STUDY_HAS_INSTANCES,
    ),
    ("DELETE FROM instances WHERE instance_id = 1", AccountingRule.SERIES_IS_WHOLE),
    ("DELETE FROM instances WHERE instance_id = 1", AccountingRule.RUN_HAS_INPUTS),
    ("UPDATE instances SET generation = 2 WHERE instance_id = 1", AccountingRule.RUN_HAS_INPUTS),
    ("UPDATE studies SET completion_reason = NULL", AccountingRule.COMPLETION_HAS_REASON),
    ("UPDATE studies SET completed_at = NULL", AccountingRule.COMPLETION_HAS_REASON),
    ("UPDATE studies SET generation = 2", AccountingRule.GENERATION_HAS_RUN),
    (
        "UPDATE studies SET generation = 3, state = 'receiving'",
        AccountingRule.GENERATION_HAS_RUN,
    ),
    ("DELETE FROM runs WHERE state = 'running'", AccountingRule.GENERATION_HAS_RUN),
    ("UPDATE result_objects SET kind = 'seg'", AccountingRule.ONE_REPORT),
    ("UPDATE result_objects SET kind = 'sr'", AccountingRule.ONE_REPORT),
    ("UPDATE runs SET state = 'queued'", AccountingRule.ONE_REPORT),
    ("DELETE FROM result_objects", AccountingRule.ONE_REPORT),
    ("UPDATE runs SET state = 'failed'", AccountingRule.FAILURE_HAS_REASON),
    ("UPDATE runs SET state = 'superseded'", AccountingRule.SUPERSEDED_BY_RUN),
    ("DELETE FROM deliveries", AccountingRule.EVERY_DESTINATION),
    ("DELETE FROM delivery_objects", AccountingRule.DELIVERY_HAS_OBJECTS),
    ("DELETE FROM runs WHERE state = 'reported'", AccountingRule.DELIVERY_HAS_OBJECTS),
    (
        "UPDATE deliveries SET run_id = (SELECT run_id FROM runs WHERE state = 'running')",
        AccountingRule.DELIVERY_HAS_OBJECTS,
    ),
    ("UPDATE runs SET state = 'delivered'", AccountingRule.ROLLED_UP),
    ("UPDATE runs SET state = 'confirmed'", AccountingRule.ROLLED_UP),
    ("UPDATE deliveries SET state = 'sent'", AccountingRule.ROLLED_UP),
    ("UPDATE deliveries SET state = 'confirmed'", AccountingRule.ROLLED_UP),
    ("UPDATE deliveries SET state = 'sent'", AccountingRule.ARRIVAL_HAS_TIME),
    ("UPDATE deliveries SET state = 'dead'", AccountingRule.DEATH_HAS_REASON),
    ("UPDATE runs SET lease_expires_at = NULL", AccountingRule.LEASE_IS_LIVE),
    ("UPDATE deliveries SET lease_expires_at = NULL", AccountingRule.SENDING_IS_LIVE),
]


@pytest.mark.parametrize(("damage", "rule"), DAMAGES)
def test_damage_is_noticed(busy: Database, damage: str, rule: AccountingRule) -> None:
    """A row changed or deleted by hand breaks its rule, and the report names it."""
    with busy.engine.connect() as connection:
        connection.exec_driver_sql("COMMIT")
        connection.exec_driver_sql(FOREIGN_KEYS_OFF)
        for statement in damage.split(";"):
            connection.exec_driver_sql(statement)
    books = accounting(busy, after(841))
    broken = {one.rule: one for one in books.violations}
    assert rule in broken
    assert broken[rule].n_rows >= 1
    assert broken[rule].examples
    assert f"BROKEN: {rule.value}" in books.text()


def test_every_rule_has_its_damage() -> None:
    """A rule that no test breaks may be one that cannot break."""
    of_files = {AccountingRule.ROW_HAS_FILE, AccountingRule.FILE_HAS_ROW}
    assert {rule for _, rule in DAMAGES} | of_files == set(AccountingRule)


# ── files ────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """Give the folder of kept instances."""
    folder = tmp_path / "spool" / "store"
    folder.mkdir(parents=True)
    return folder


def keep(database: Database, store: Path, number: int = 1) -> Path:
    """Receive an instance whose file is there."""
    instance = make_instance(number)
    path = store / instance.content_digest[:2] / f"{instance.content_digest}.dcm"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"slice")
    os.utime(path, (0, 0))
    received = make_received(replace(instance, path=path), n_bytes=len(b"slice"))
    register_instance(database, received, after(number))
    return path


def broken_files(database: Database, store: Path, **choice: Any) -> dict[str, tuple[str, ...]]:
    books = accounting(database, after(900), store=store, **choice)
    return {one.rule.name: one.examples for one in books.violations}


def test_rows_and_files_that_agree_are_balanced(database: Database, store: Path) -> None:
    """Every row has its file, every file its row."""
    keep(database, store)
    books = accounting(database, after(900), store=store)
    assert books.is_balanced, books.text()
    assert books.n_files == 1


def test_row_without_file_is_noticed(database: Database, store: Path) -> None:
    """Somebody removed a file; the row says which."""
    path = keep(database, store)
    keep(database, store, 2)
    path.unlink()
    assert broken_files(database, store) == {"ROW_HAS_FILE": (path.name,)}


@pytest.mark.parametrize("damage", ["longer", "link", "folder"])
def test_file_that_cannot_be_what_came_is_noticed(
    database: Database, store: Path, damage: str
) -> None:
    """Another length, a link or a folder is not the file that was received."""
    path = keep(database, store)
    kept = path.rename(path.with_suffix(".kept"))
    if damage == "longer":
        path.write_bytes(b"slice and more")
    elif damage == "link":
        path.symlink_to(kept)
    else:
        path.mkdir()
    os.utime(path, (0, 0), follow_symlinks=False)
    assert broken_files(database, store) == {"ROW_HAS_FILE": (path.name,)}


def test_result_without_file_is_noticed(busy: Database, store: Path) -> None:
    """A stored report that cannot be sent again shows."""
    assert "ROW_HAS_FILE" in broken_files(busy, store)


def test_file_without_row_is_noticed(database: Database, store: Path) -> None:
    """Somebody deleted the row; the file is not forgotten."""
    path = keep(database, store)
    with database.begin() as session:
        session.execute(text("DELETE FROM instances"))
        session.execute(text("UPDATE series SET n_instances = 0"))
    broken = broken_files(database, store)
    assert broken.pop("STUDY_HAS_INSTANCES")
    assert broken == {"FILE_HAS_ROW": (path.name,)}


def test_file_that_came_just_now_may_still_get_its_row(database: Database, store: Path) -> None:
    """Between rename and commit lies a moment that is no fault."""
    path = store / "ab" / ("ab" * 32 + ".dcm")
    path.parent.mkdir()
    path.write_bytes(b"slice")
    os.utime(path, (after(890).timestamp(),) * 2)
    assert broken_files(database, store) == {}


def test_purged_row_needs_no_file_and_its_file_no_row(database: Database, store: Path) -> None:
    """A purge keeps the row and deletes the file; a file that stayed is noticed."""
    path = keep(database, store)
    with database.begin() as session:
        session.execute(text("UPDATE instances SET purged_at = received_at"))
    assert broken_files(database, store) == {"FILE_HAS_ROW": (path.name,)}
    path.unlink()
    assert broken_files(database, store) == {}


def test_shards_are_looked_at_alone(database: Database, store: Path) -> None:
    """The watch looks at a part of the spool each minute and at all of it in turn."""
    path = keep(database, store)
    path.unlink()
    shard = path.name[:2]
    others = tuple(one for one in ALL_SHARDS if one != shard)
    assert broken_files(database, store, shards=others) == {}
    assert "ROW_HAS_FILE" in broken_files(database, store, shards=(shard,))
