"""Rows against files: what the rows name must lie there, what lies there must have its row."""

from __future__ import annotations

import stat
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import or_, select

from screener.audit.tables import Instance, ResultObjectRow

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from sqlalchemy import ColumnElement, Select

    from screener.audit.database import Database

#: Rows read at once.
ROWS_AT_ONCE = 1000
#: End of the name of a file that a purge set aside.
ASIDE_SUFFIX = ".purging"
#: Every shard of the spool: the first two digits of a digest.
ALL_SHARDS = tuple(f"{number:02x}" for number in range(256))


@dataclass(frozen=True, slots=True)
class FileFindings:
    """What does not fit together; names of files, never of people."""

    n_looked_for: int = 0
    missing: tuple[str, ...] = ()  #: named by a row, not there or of another length
    stray: tuple[str, ...] = ()  #: there, named by no row


def look_at_files(
    database: Database, store: Path, shards: Sequence[str] | None, late_at: datetime
) -> FileFindings:
    """Compare rows and files of these shards, both ways.

    Parameters
    ----------
    store
        Folder of kept instances, ``store/ab/<digest>.dcm``.
    shards
        Two hexadecimal digits each; None takes all.
    late_at
        A younger file may still get its row.

    Raises
    ------
    DatabaseUnavailable
        The database cannot be read.
    """
    n_looked_for = 0
    missing: list[str] = []
    for columns, prefix in (
        ((Instance.path, Instance.n_bytes), Instance.content_digest),
        ((ResultObjectRow.path, ResultObjectRow.n_bytes), ResultObjectRow.run_id),
    ):
        statement = select(*columns).where(_of(prefix, shards))
        n_rows, gone = _missing(database, statement)
        n_looked_for += n_rows
        missing += gone
    stray = [
        name for shard in shards or ALL_SHARDS for name in _stray(database, store / shard, late_at)
    ]
    return FileFindings(n_looked_for, tuple(missing), tuple(stray))


def _of(prefix: Any, shards: Sequence[str] | None) -> ColumnElement[bool]:
    if shards is None:
        return prefix.is_not(None)  # type: ignore[no-any-return]
    return or_(*(prefix.like(f"{shard}%") for shard in shards))


def _missing(database: Database, statement: Select[Any, Any]) -> tuple[int, list[str]]:
    """Give how many rows were looked at, and the paths of those that have no file.

    Looked at again before it counts: a purge marks its rows first, and may have come in between.
    """
    table = statement.get_final_froms()[0]
    kept = statement.where(table.c.purged_at.is_(None))
    n_rows, suspects = 0, []
    with database.session() as session:
        for path, n_bytes in session.execute(kept.execution_options(yield_per=ROWS_AT_ONCE)):
            n_rows += 1
            if not _is_there(path, n_bytes):
                suspects.append((path, n_bytes))
    gone = []
    with database.session() as session:
        for path, n_bytes in suspects:
            again = session.execute(kept.where(table.c.path == path)).first()
            if again is not None and not _is_there(path, n_bytes):
                gone.append(Path(path).name)
    return n_rows, gone


def _is_there(path: str, n_bytes: int) -> bool:
    # What a purge has in hand is there until its transaction says otherwise.
    return any(
        _has_length(one, n_bytes) for one in (Path(path), Path(path).with_suffix(ASIDE_SUFFIX))
    )


def _has_length(path: Path, n_bytes: int) -> bool:
    """Say whether a plain file of so many bytes is there; a link leads who knows where."""
    try:
        found = path.lstat()
    except OSError:
        return False
    return stat.S_ISREG(found.st_mode) and found.st_size == n_bytes


def _stray(database: Database, folder: Path, late_at: datetime) -> list[str]:
    if not folder.is_dir():
        return []
    old = [path for path in sorted(folder.glob("*.dcm")) if _is_older(path, late_at)]
    known: set[str] = set()
    with database.session() as session:
        for start in range(0, len(old), ROWS_AT_ONCE // 2):
            digests = [path.stem for path in old[start : start + ROWS_AT_ONCE // 2]]
            statement = select(Instance.content_digest).where(
                Instance.content_digest.in_(digests), Instance.purged_at.is_(None)
            )
            known.update(session.scalars(statement))
    return [path.name for path in old if path.stem not in known and path.exists()]


def _is_older(path: Path, late_at: datetime) -> bool:
    try:
        return path.stat().st_mtime < late_at.timestamp()
    except FileNotFoundError:
        return False  # purged meanwhile
