"""One URL to one database: engine and transactions; SQLite by default, PostgreSQL by URL.

Both engines run the same code. SQLite gets WAL, full synchronisation and BEGIN IMMEDIATE for
writers, so that a committed row survives a power cut and two writers queue instead of failing.
Errors of the driver become `DatabaseUnavailable` here and nowhere else; statement parameters are
kept out of their text.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import URL, Engine, create_engine, event, make_url, text, update
from sqlalchemy import exc as sqlalchemy_errors
from sqlalchemy.dialects.postgresql import insert as postgresql_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert
from sqlalchemy.exc import ArgumentError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.orm import Session

from screener.audit.schema import migrate, newest_revisions, one_line, revisions
from screener.audit.tolerant_types import read_object
from screener.audit.upkeep_tables import TrailCount
from screener.errors import ConfigError, DamagedRow, DatabaseUnavailable

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from sqlalchemy import Connection
    from sqlalchemy.pool import PoolProxiedConnection

    from screener.audit.table_types import Row

#: How long a writer waits for another on SQLite.
BUSY_TIMEOUT_S = 10.0
#: How long one that cannot wait within SQLite waits before it tries again.
_LOOK_AGAIN_S = 0.05
#: How long a connection to PostgreSQL may take.
CONNECT_TIMEOUT_S = 5
#: A PostgreSQL server whose machine vanished is given up after a minute, not after the two hours of
#: the kernel: whoever waits for its answer holds a sender, a lease, a worker.
_VANISHED_SERVER = {
    "keepalives_idle": 30,  # s
    "keepalives_interval": 10,  # s
    "keepalives_count": 3,
    "tcp_user_timeout": 60_000,  # ms
}
#: Bytes that are no UTF-8 must not make a table unreadable; the chain sees that they were changed.
_READABLE_TEXT = partial(str, encoding="utf-8", errors="replace")
#: What PostgreSQL answers where a person took away a schema, table, column or right; SQLite says
#: the same as an operational error.
_OF_SCHEMA = {"3F000", "42P01", "42703", "42501"}
_BEGIN_OPTION = "screener_begin"
_BEGIN_WRITING = "BEGIN IMMEDIATE"
#: Under this key a session counts the events that it is about to write.
N_EVENTS = "n_events"


class Database:
    """The audit database.

    Parameters
    ----------
    url
        SQLAlchemy URL: ``sqlite:////path/file`` or ``postgresql://user@host/name``.

    Raises
    ------
    ConfigError
        The URL names no database that the screener can use.
    """

    def __init__(self, url: str) -> None:
        parsed = _parse_url(url)
        self._engine = _make_engine(parsed)
        self._writing_engine = self._engine.execution_options(**{_BEGIN_OPTION: _BEGIN_WRITING})
        self.dialect = parsed.get_backend_name()
        self._turn = threading.Lock()
        self._connection: PoolProxiedConnection | None = None  # see `_held`

    @contextmanager
    def session(self) -> Iterator[Session]:
        """Open a session for reading; nothing it changes is committed.

        Raises
        ------
        DatabaseUnavailable
            The database cannot be reached.
        """
        with _translated(), Session(self._engine) as session:
            yield session

    @contextmanager
    def begin(self) -> Iterator[Session]:
        """Open a session for writing; commits at the end, rolls back on any error.

        Raises
        ------
        DatabaseUnavailable
            The database cannot be reached, is locked, full or read-only.
        """
        with (
            _translated(),
            Session(self._writing_engine, expire_on_commit=False) as session,
            session.begin(),
        ):
            yield session
            _count_events(session)

    @contextmanager
    def cursor(self) -> Iterator[Any]:
        """Open the driver's own cursor for writing, for `Prepared` statements.

        Commits at the end, rolls back on any error. Writes no events by itself: who tells one
        through this door counts it too.

        Raises
        ------
        DatabaseUnavailable
            The database cannot be reached, is locked, full or read-only.
        """
        hold = self._held if self.dialect == "sqlite" else self._pooled
        with _translated(), _translated(self._engine.dialect.loaded_dbapi), hold() as connection:
            cursor = connection.cursor()
            if self.dialect == "sqlite":
                cursor.execute(_BEGIN_WRITING)
            yield cursor
            connection.commit()

    @contextmanager
    def _held(self) -> Iterator[PoolProxiedConnection]:
        """Give the one connection to SQLite that stays open for writing rows, to one at a time.

        SQLite lets one write at a time anyway; a way through the pool takes a fifteenth of the
        interpreter's time that an instance costs the listener.
        """
        with self._turn:
            connection = self._connection or self._engine.raw_connection()
            self._connection = None
            try:
                yield connection
            except BaseException:
                self._roll_back(connection)
                connection.close()
                raise
            self._connection = connection

    @contextmanager
    def _pooled(self) -> Iterator[PoolProxiedConnection]:
        """Give a connection of the pool, which knows when a server was restarted."""
        with closing(self._engine.raw_connection()) as connection:
            try:
                yield connection
            except BaseException:
                self._roll_back(connection)
                raise

    def _roll_back(self, connection: PoolProxiedConnection) -> None:
        try:
            connection.rollback()
        except self.driver_error:
            connection.invalidate()  # it is lost, and nothing of it was committed

    @contextmanager
    def alone(self, lock: int) -> Iterator[bool]:
        """Say whether nobody else is in a block of this lock; nobody enters while we are in it.

        No transaction stays open, and the end of the process is the end of the lock. A SQLite node
        has one process for each chore: it is always alone.

        Raises
        ------
        DatabaseUnavailable
            The database cannot be reached.
        """
        if self.dialect != "postgresql":
            yield True
            return
        with _translated(), self._engine.connect() as pooled:
            connection = pooled.execution_options(isolation_level="AUTOCOMMIT")
            key = {"key": lock}
            is_alone = bool(connection.scalar(text("SELECT pg_try_advisory_lock(:key)"), key))
            try:
                yield is_alone
            finally:
                if is_alone:
                    connection.execute(text("SELECT pg_advisory_unlock(:key)"), key)

    def upgrade(self) -> None:
        """Bring the schema to the newest version; safe in several processes at once.

        Raises
        ------
        DatabaseUnavailable
            The database cannot be reached.
        ConfigError
            The schema was made by a newer version of the screener, or is not what it says it is.
        """
        with _translated(), self._writing_engine.begin() as connection:
            migrate(connection)

    def is_current(self) -> bool:
        """Say whether the schema is the newest this version knows."""
        with _translated(), self._engine.connect() as connection:
            return set(revisions(connection)) == set(newest_revisions())

    def revision(self) -> str:
        """Give the schema version; empty before the first `upgrade`."""
        with _translated(), self._engine.connect() as connection:
            return ", ".join(revisions(connection))

    def dispose(self) -> None:
        """Close every connection; do this in a child after a fork."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()
        self._engine.dispose()

    @property
    def driver_error(self) -> type[Exception]:
        """Base of all errors that the driver's own cursor raises."""
        error: type[Exception] = self._engine.dialect.loaded_dbapi.Error
        return error

    @property
    def engine(self) -> Engine:
        """The engine, for tests that look under the tables."""
        return self._engine


def _count_events(session: Session) -> None:
    # Last before the commit: whoever waits for this row holds all others it needs.
    n_events = session.info.pop(N_EVENTS, 0)
    if n_events:
        grown = TrailCount.n_written + n_events
        session.execute(update(TrailCount).values(n_written=grown))


def _parse_url(url: str) -> URL:
    try:
        parsed = make_url(url)
    except ArgumentError as error:
        raise ConfigError(
            "database.url: not a URL; write sqlite:////path/file or postgresql://user@host/name"
        ) from error
    backend = parsed.get_backend_name()
    if backend == "postgresql":
        return parsed.set(drivername="postgresql+psycopg")
    if backend != "sqlite":
        raise ConfigError(f"database.url: {backend} is not supported; use sqlite or postgresql")
    if not parsed.database or parsed.database == ":memory:":
        raise ConfigError("database.url: SQLite needs a file; write sqlite:////path/file")
    return parsed


def _make_engine(url: URL) -> Engine:
    # Parameters stay out of error texts: they carry identifiers.
    if url.get_backend_name() == "postgresql":
        return _make_postgres_engine(url)
    folder = Path(str(url.database)).parent
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise ConfigError(
            f"database.url: {folder} cannot be a folder ({error.strerror}); name another"
        ) from error
    engine = create_engine(
        url,
        hide_parameters=True,
        connect_args={"timeout": BUSY_TIMEOUT_S, "check_same_thread": False},
        json_deserializer=read_object,
    )
    event.listen(engine, "connect", _prepare_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def _make_postgres_engine(url: URL) -> Engine:
    # A node on SQLite does without the driver and its memory.
    from screener.audit.tolerant_postgres import read_any_time  # noqa: PLC0415

    engine = create_engine(
        url,
        hide_parameters=True,
        pool_pre_ping=True,  # a server that restarted costs no error
        connect_args={"connect_timeout": CONNECT_TIMEOUT_S, **_VANISHED_SERVER},
        json_deserializer=read_object,
    )
    event.listen(engine, "connect", read_any_time)
    return engine


def _prepare_sqlite(connection: Any, _record: object) -> None:
    connection.text_factory = _READABLE_TEXT
    connection.isolation_level = None  # transactions are begun by `_begin_sqlite`
    _write_ahead(connection)
    for pragma in (
        "synchronous = FULL",
        "foreign_keys = ON",
        f"busy_timeout = {int(BUSY_TIMEOUT_S * 1000)}",
    ):
        connection.execute(f"PRAGMA {pragma}")


def _write_ahead(connection: Any) -> None:
    """Use write-ahead logging; SQLite does not wait for a lock here, so this does."""
    end_s = time.monotonic() + BUSY_TIMEOUT_S
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError:
            if time.monotonic() > end_s:
                raise
            time.sleep(_LOOK_AGAIN_S)
        else:
            return


def _begin_sqlite(connection: Connection) -> None:
    # A deferred writer would fail at its first write when another got in between.
    connection.exec_driver_sql(connection.get_execution_options().get(_BEGIN_OPTION, "BEGIN"))


@contextmanager
def _translated(driver: Any = sqlalchemy_errors) -> Iterator[None]:
    """Turn errors of a driver, or SQLAlchemy's wrapping of them, into ours.

    Both have the names of PEP 249.
    """
    unavailable = (driver.OperationalError, driver.InterfaceError, driver.InternalError)
    try:
        yield
    except (*unavailable, PoolTimeoutError) as error:
        raise DatabaseUnavailable(f"audit database: {one_line(error)}") from error
    except driver.DataError as error:
        # What we write fits; what somebody edited may be a number beyond the end of its kind.
        raise DamagedRow(
            f"audit database: {one_line(error)}; a row was edited so that nobody can work with it: "
            "see `screener doctor --accounting`"
        ) from error
    except driver.ProgrammingError as error:
        if getattr(getattr(error, "orig", error), "sqlstate", None) not in _OF_SCHEMA:
            raise
        raise DatabaseUnavailable(
            f"audit database: {one_line(error)}; its schema or the rights of its account were "
            "changed: restore them, or a backup"
        ) from error
    except driver.DatabaseError as error:
        if type(error) is not driver.DatabaseError:  # a broken rule is a mistake of ours
            raise
        raise DatabaseUnavailable(
            f"audit database: {one_line(error)}; restore a backup or name another file"
        ) from error


def insert_if_absent(session: Session, table: type[Row], values: Mapping[str, Any]) -> bool:
    """Insert a row unless its key is taken; say whether it was inserted.

    Two processes that try at once both succeed: one inserts, the other waits and sees it.
    """
    dialect = session.get_bind().dialect.name
    insert = sqlite_insert if dialect == "sqlite" else postgresql_insert
    statement = insert(table).values(**values).on_conflict_do_nothing()
    # Not the row count: a key that the database makes changes what the driver says there.
    key = next(iter(table.__table__.primary_key))
    return session.execute(statement.returning(key)).first() is not None
