"""Tables about the records themselves: sums, alerts, how many events there are, who has them.

Beside `tables`, which holds what happened to studies. Annotations are evaluated at run time, so
this module has no postponed annotations.
"""

from datetime import datetime
from typing import Any

from sqlalchemy import Index, String, text
from sqlalchemy.orm import Mapped, mapped_column

from screener.audit.table_types import Row, RunningNumber
from screener.audit.tolerant_types import LargeNumber

_OPEN = text("resolved_at IS NULL")


class Alert(Row):
    """One cause that needs a person; open until the cause is gone."""

    __tablename__ = "alerts"
    __table_args__ = (
        Index(
            "uq_alerts_open_cause",
            "kind",
            "subject",
            unique=True,
            sqlite_where=_OPEN,
            postgresql_where=_OPEN,
        ),
    )

    alert_id: Mapped[int] = mapped_column(RunningNumber, primary_key=True)
    kind: Mapped[str]
    subject: Mapped[str]  #: what it is about: a destination, a rule; empty where there is but one
    detail: Mapped[str]
    raised_at: Mapped[datetime]
    last_seen_at: Mapped[datetime]
    resolved_at: Mapped[datetime | None]


class Books(Row):
    """The newest accounting, one row; its age tells whether anybody still counts."""

    __tablename__ = "books"

    books_id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    checked_at: Mapped[datetime]
    is_balanced: Mapped[bool]
    content: Mapped[dict[str, Any]]


class TrailCount(Row):
    """How many events were ever written, one row; counted in the transaction that writes them."""

    __tablename__ = "trail_counts"

    trail_count_id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    n_written: Mapped[int] = mapped_column(LargeNumber)


class TrailExport(Row):
    """How far the trail was sent to an outside repository."""

    __tablename__ = "trail_exports"

    sink: Mapped[str] = mapped_column(String(), primary_key=True)  #: host and port
    sequence: Mapped[int] = mapped_column(LargeNumber)  #: the last event it got
    exported_at: Mapped[datetime]
