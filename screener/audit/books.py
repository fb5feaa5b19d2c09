"""The newest accounting, kept for who asks: health, metrics, pages."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from sqlalchemy import update

from screener.audit.database import insert_if_absent
from screener.audit.plain import to_plain
from screener.audit.upkeep_tables import Books

if TYPE_CHECKING:
    from screener.audit.accounting import AccountingReport
    from screener.audit.database import Database

_BOOKS_ID = 1
#: So long the books must have been counted without a gap as long, before anything is deleted by the
#: clock: a clock that jumped years ahead would let go of all that there is.
PROVED_AFTER = timedelta(days=1)
#: Key in the content of the books.
_COUNTED_SINCE = "counted_since"


@dataclass(frozen=True, slots=True)
class KeptBooks:
    """What the newest accounting found, and when."""

    checked_at: datetime
    is_balanced: bool
    content: dict[str, Any]  #: the report as plain JSON
    counted_since: datetime  #: no gap, and no clock that went back, as long as `PROVED_AFTER`

    def prove(self, now: datetime) -> bool:
        """Say whether this is the time: for so long it has passed as it should."""
        is_newest = _is_step(self.checked_at, now)
        return is_newest and now - self.counted_since >= PROVED_AFTER


def keep_books(database: Database, report: AccountingReport, now: datetime) -> None:
    """Put this accounting in the place of the one before."""
    with database.begin() as session:
        before = session.get(Books, _BOOKS_ID)
        is_step = before is not None and _is_step(before.checked_at, now)
        since = _counted_since(before, now) if before is not None and is_step else now
        content = {**to_plain(report), _COUNTED_SINCE: since.isoformat()}
        values = {"checked_at": now, "is_balanced": report.is_balanced, "content": content}
        if not insert_if_absent(session, Books, {"books_id": _BOOKS_ID, **values}):
            session.execute(update(Books).where(Books.books_id == _BOOKS_ID).values(**values))


def newest_books(database: Database) -> KeptBooks | None:
    """Give the newest accounting; None before the first."""
    with database.session() as session:
        row = session.get(Books, _BOOKS_ID)
        if row is None:
            return None
        since = _counted_since(row, row.checked_at)
        return KeptBooks(row.checked_at, row.is_balanced, row.content, since)


def _is_step(before: datetime, now: datetime) -> bool:
    """Say whether time passed between two counts as it does on a node that runs."""
    return timedelta(minutes=-1) <= now - before <= PROVED_AFTER


def _counted_since(row: Books, otherwise: datetime) -> datetime:
    """Read since when the books are counted; what is no such time proves nothing."""
    try:
        since = datetime.fromisoformat(row.content[_COUNTED_SINCE])
    except (KeyError, TypeError, ValueError):
        return otherwise
    return since if since.tzinfo is not None else otherwise
