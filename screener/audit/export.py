"""How far the trail was sent elsewhere. The sealed events are the spool: nothing else is kept."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from sqlalchemy import func, select, update

from screener.audit.chain import IS_NUMBERED
from screener.audit.database import insert_if_absent
from screener.audit.messages import SealedEvent
from screener.audit.tables import Event
from screener.audit.upkeep_tables import TrailExport

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from sqlalchemy import CursorResult

    from screener.audit.database import Database

#: Events read at once.
EVENTS_AT_ONCE = 500


def exported_sequence(database: Database, sink: str) -> int:
    """Give the number of the last event that a sink got; 0 before the first."""
    with database.session() as session:
        row = session.get(TrailExport, sink)
        return 0 if row is None else row.sequence


def note_export(database: Database, sink: str, before: int, sequence: int, now: datetime) -> bool:
    """Move the mark of a sink from `before` to `sequence`; False where another moved it."""
    values = {"sequence": sequence, "exported_at": now}
    with database.begin() as session:
        if before == 0 and insert_if_absent(session, TrailExport, {"sink": sink, **values}):
            return True
        where = (TrailExport.sink == sink) & (TrailExport.sequence == before)
        result = session.execute(update(TrailExport).where(where).values(**values))
        return cast("CursorResult[Any]", result).rowcount == 1


def sealed_events(
    database: Database, after: int, *, until: int | None = None, limit: int = EVENTS_AT_ONCE
) -> tuple[SealedEvent, ...]:
    """Give the next sealed events after a number, in order."""
    statement = (
        select(Event)
        .where(IS_NUMBERED, Event.sequence > after)
        .order_by(Event.sequence)
        .limit(limit)
    )
    if until is not None:
        statement = statement.where(Event.sequence <= until)
    with database.session() as session:
        return tuple(_sealed(row) for row in session.scalars(statement))


def every_sealed_event(database: Database, first: int, until: int | None) -> Iterator[SealedEvent]:
    """Give all sealed events of a range, read in parts."""
    after = first - 1
    while events := sealed_events(database, after, until=until):
        yield from events
        after = events[-1].sequence


def oldest_unexported_s(database: Database, sink: str, now: datetime) -> float:
    """Give how long the first event that a sink lacks has waited, in seconds; 0 where none."""
    after = exported_sequence(database, sink)
    with database.session() as session:
        statement = select(func.min(Event.occurred_at)).where(Event.sequence > after)
        oldest = session.scalar(statement)
    return 0.0 if oldest is None else max(0.0, (now - oldest).total_seconds())


def _sealed(row: Event) -> SealedEvent:
    return SealedEvent(
        sequence=row.sequence or 0,
        kind=row.kind,
        occurred_at=row.occurred_at,
        study_instance_uid=row.study_instance_uid,
        run_id=row.run_id,
        payload=row.payload,
        chain_hash=row.chain_hash or "",
    )
