"""The schema of the audit database: which revision it is, and the way to the newest.

Works on a connection that `Database` opens; the migrations themselves are in `migrations/`.
"""

from __future__ import annotations

import re
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import text
from sqlalchemy.exc import OperationalError, ProgrammingError

from screener.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import Connection

#: PostgreSQL advisory lock held while migrating, so that two starting processes queue.
MIGRATION_LOCK = 0x5C2EE4E2
#: What SQLite and PostgreSQL say of a migration whose tables are others than it was written for.
_OTHER_SCHEMA = re.compile(r"duplicate column|already exists|no such (table|column)|does not exist")


def migrate(connection: Connection, revision: str = "head") -> None:
    """Bring the schema to a revision, in the transaction of the connection.

    Raises
    ------
    ConfigError
        The schema was made by a newer version of the screener, or is not what it says it is.
    """
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": MIGRATION_LOCK})
    _refuse_newer(connection)
    with _refusing_another_schema(connection):
        command.upgrade(_alembic_config(connection), revision)


def revisions(connection: Connection) -> tuple[str, ...]:
    """Give what the schema says that it is; none before the first migration."""
    return MigrationContext.configure(connection).get_current_heads()


def newest_revisions() -> tuple[str, ...]:
    """Give what this version of the screener brings the schema to."""
    return tuple(_scripts().get_heads())


def one_line(error: Exception) -> str:
    """Give the first line of what a driver says, without SQLAlchemy's additions."""
    cause = getattr(error, "orig", None) or error
    return (str(cause).strip() or type(cause).__name__).splitlines()[0]


def _refuse_newer(connection: Connection) -> None:
    unknown = set(revisions(connection)) - {one.revision for one in _scripts().walk_revisions()}
    if unknown:
        raise ConfigError(
            f"database.url: the schema is at revision {', '.join(sorted(unknown))}, which this "
            "version does not know; install the newer screener again or restore a backup"
        )


@contextmanager
def _refusing_another_schema(connection: Connection) -> Iterator[None]:
    """Name a schema that is not what its own revision says: somebody changed one of the two."""
    revision = ", ".join(revisions(connection)) or "none"
    try:
        yield
    except (OperationalError, ProgrammingError) as error:
        if not _OTHER_SCHEMA.search(str(error.orig)):
            raise
        raise ConfigError(
            f"database.url: the schema says that it is at revision {revision} and is not "
            f"({one_line(error)}); restore a backup, or the revision that somebody changed"
        ) from error


def _alembic_config(connection: Connection | None = None) -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    return config


def _scripts() -> ScriptDirectory:
    return ScriptDirectory.from_config(_alembic_config())
