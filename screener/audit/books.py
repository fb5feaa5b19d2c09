"""The newest accounting, kept for who asks: health, metrics, pages."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import update

from screener.audit.database import insert_if_absent
from screener.audit.plain import to_plain
from screener.audit.upkeep_tables import Books

if TYPE_CHECKING:
    from datetime import datetime

    from screener.audit.accounting import AccountingReport
    from screener.audit.database import Database

_BOOKS_ID = 1


@dataclass(frozen=True, slots=True)
class KeptBooks:
    """What the newest accounting found, and when."""

    checked_at: datetime
    is_balanced: bool
    content: dict[str, Any]  #: the report as plain JSON


def keep_books(database: Database, report: AccountingReport, now: datetime) -> None:
    """Put this accounting in the place of the one before."""
    values = {"checked_at": now, "is_balanced": report.is_balanced, "content": to_plain(report)}
    with database.begin() as session:
        if not insert_if_absent(session, Books, {"books_id": _BOOKS_ID, **values}):
            session.execute(update(Books).where(Books.books_id == _BOOKS_ID).values(**values))


def newest_books(database: Database) -> KeptBooks | None:
    """Give the newest accounting; None before the first."""
    with database.session() as session:
        row = session.get(Books, _BOOKS_ID)
        return None if row is None else KeptBooks(row.checked_at, row.is_balanced, row.content)
