"""Migrations, transactions and errors of the audit database; on SQLite, without sockets."""

from __future__ import annotations

import sqlite3
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import select, text
from sqlalchemy.exc import StatementError

from screener.audit import database as database_module
from screener.audit.database import Database, insert_if_absent
from screener.audit.ledger import register_instance
from screener.audit.table_types import Row
from screener.audit.tables import Model, Study
from screener.errors import ConfigError, DatabaseUnavailable
from tests.audit_factories import NOW, make_received

if TYPE_CHECKING:
    from pathlib import Path

MODEL = {"digest": "a", "name": "lungs", "version": "1", "task": "segmentation"}


def test_migrations_make_what_the_tables_say(database: Database) -> None:
    """The migrated schema and the declared tables do not drift apart."""
    with database.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, Row.metadata) == []


def test_upgrade_from_empty(tmp_path: Path) -> None:
    """An empty file becomes current, and a second upgrade changes nothing."""
    database = Database(f"sqlite:///{tmp_path / 'new' / 'audit.sqlite3'}")
    assert not database.is_current()
    assert database.revision() == ""
    database.upgrade()
    assert database.is_current()
    first = database.revision()
    database.upgrade()
    assert database.revision() == first
    database.dispose()


def test_upgrade_by_several_at_once(tmp_path: Path) -> None:
    """Processes that start together migrate once and all go on."""
    databases = [Database(f"sqlite:///{tmp_path / 'audit.sqlite3'}") for _ in range(4)]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(Database.upgrade, databases))
    assert all(database.is_current() for database in databases)
    for database in databases:
        database.dispose()


def test_upgrade_refuses_a_newer_schema(database: Database) -> None:
    """An older screener does not touch what a newer one made."""
    with database.begin() as session:
        session.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    assert not database.is_current()
    with pytest.raises(ConfigError, match="9999"):
        database.upgrade()


def test_upgrade_names_a_schema_whose_revision_was_changed(database: Database) -> None:
    """A revision set back by hand: the tables are newer than it says, and stay as they are."""
    with database.begin() as session:
        session.execute(text("UPDATE alembic_version SET version_num = '0002'"))
    with pytest.raises(ConfigError, match=r"revision 0002 and is not .*restore a backup"):
        database.upgrade()
    assert database.revision() == "0002"


@pytest.mark.parametrize(
    ("url", "mend"),
    [
        ("nonsense", "write sqlite"),
        ("mysql://host/name", "use sqlite or postgresql"),
        ("sqlite://", "needs a file"),
        ("sqlite:///:memory:", "needs a file"),
    ],
)
def test_url_that_names_no_database(url: str, mend: str) -> None:
    """A wrong URL is refused with its mend."""
    with pytest.raises(ConfigError, match=mend):
        Database(url)


def test_sqlite_is_durable_and_strict(database: Database) -> None:
    """WAL, full synchronisation and foreign keys are on for every connection."""
    with database.engine.connect() as connection:
        values = [
            connection.execute(text(f"PRAGMA {name}")).scalar()
            for name in ("journal_mode", "synchronous", "foreign_keys")
        ]
    assert values == ["wal", 2, 1]


def test_begin_rolls_back_on_any_error(database: Database) -> None:
    """A deed that fails half way leaves nothing."""

    def fail_half_way() -> None:
        with database.begin() as session:
            session.add(Model(**MODEL, first_used_at=NOW))
            session.flush()
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail_half_way()
    with database.session() as session:
        assert session.scalars(select(Model)).all() == []


def test_session_commits_nothing(database: Database) -> None:
    """A session for reading cannot leave a change behind."""
    with database.session() as session:
        session.add(Model(**MODEL, first_used_at=NOW))
        session.flush()
    with database.session() as session:
        assert session.scalars(select(Model)).all() == []


def test_insert_if_absent_inserts_once(database: Database) -> None:
    """The second insert of the same key is no error and changes nothing."""
    with database.begin() as session:
        assert insert_if_absent(session, Model, {**MODEL, "first_used_at": NOW})
        other = {**MODEL, "name": "other", "first_used_at": NOW}
        assert not insert_if_absent(session, Model, other)
        assert session.get_one(Model, "a").name == "lungs"


def test_naive_time_is_refused(database: Database) -> None:
    """A time without a zone is a mistake of the caller."""
    naive = NOW.replace(tzinfo=None)
    with pytest.raises(StatementError, match="aware"), database.begin() as session:
        insert_if_absent(session, Model, {**MODEL, "first_used_at": naive})


def test_cursor_is_there_again_after_an_error_and_after_dispose(database: Database) -> None:
    """What failed is rolled back and holds no lock; a connection that was closed is opened anew."""
    grow = "UPDATE trail_counts SET n_written = n_written + 1"

    def n_written() -> int:
        with database.begin() as session:  # a writer: it would wait for a lock that is left
            return int(session.execute(text("SELECT n_written FROM trail_counts")).scalar_one())

    def execute(*statements: str) -> None:
        with database.cursor() as cursor:
            for statement in statements:
                cursor.execute(statement)

    before = n_written()
    with pytest.raises(DatabaseUnavailable):
        execute(grow, "nonsense")
    assert n_written() == before
    execute(grow)
    assert n_written() == before + 1
    database.dispose()
    execute(grow)
    assert n_written() == before + 2


def test_locked_database_is_unavailable(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A writer that waits in vain gets our transient error, without values of the statement."""
    monkeypatch.setattr(database_module, "BUSY_TIMEOUT_S", 0.05)
    impatient = Database(f"sqlite:///{tmp_path / 'audit.sqlite3'}")
    locked = sqlite3.connect(tmp_path / "audit.sqlite3", isolation_level=None)
    locked.execute("BEGIN IMMEDIATE")
    try:
        with pytest.raises(DatabaseUnavailable, match="locked") as raised:
            register_instance(impatient, make_received(), NOW)
    finally:
        locked.execute("ROLLBACK")
        locked.close()
        impatient.dispose()
    assert make_received().patient_id_digest not in str(raised.value)


def test_missing_schema_is_unavailable(tmp_path: Path) -> None:
    """A database that nobody upgraded yet gives our error, not the driver's."""
    empty = Database(f"sqlite:///{tmp_path / 'empty.sqlite3'}")
    with pytest.raises(DatabaseUnavailable, match="no such table"):
        register_instance(empty, make_received(), NOW)
    empty.dispose()


def test_writers_queue_on_sqlite(database: Database) -> None:
    """Many threads that read and then write at once all succeed."""
    barrier = threading.Barrier(8)

    def count_up(number: int) -> None:
        barrier.wait(10)
        with database.begin() as session:
            n_models = len(session.scalars(select(Model)).all())
            session.add(
                Model(digest=f"{number}-{n_models}", name="m", version="1", task="t",
                      first_used_at=NOW)
            )  # fmt: skip

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(count_up, range(8)))
    with database.session() as session:
        counts = [int(model.digest.split("-")[1]) for model in session.scalars(select(Model))]
    assert sorted(counts) == list(range(8))


def test_rows_hold_no_names(database: Database) -> None:
    """No table has a column that could hold a name or a birth date."""
    forbidden = {"patient_name", "patient_birth_date", "birth_date", "patient_id"}
    columns = {column.name for table in Row.metadata.tables.values() for column in table.columns}
    assert not columns & forbidden
    assert "patient_id_digest" in Study.__table__.columns
