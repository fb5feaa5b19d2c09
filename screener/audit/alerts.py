"""One alert for one cause: raised when it appears, resolved when it is gone, told both times.

Who watches hands in what is wrong now; repeating it changes nothing but the time it was seen last.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from sqlalchemy import select

from screener.audit.database import insert_if_absent
from screener.audit.events import EventKind, JsonValue, append_event
from screener.audit.upkeep_tables import Alert

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence
    from datetime import datetime

    from sqlalchemy.orm import Session

    from screener.audit.database import Database

#: Alerts listed at once.
DEFAULT_LIMIT = 200


class AlertKind(StrEnum):
    """What can need a person; documented in deploy/README.md."""

    BOOKS_UNBALANCED = "books-unbalanced"  #: a rule of the accounting is broken
    EVENTS_VANISHED = "events-vanished"  #: fewer events than were written
    EVENTS_UNSEALED = "events-unsealed"  #: no sealer works
    DISK_LOW = "disk-low"  #: below the warning mark
    DISK_FULL = "disk-full"  #: below the reserve: senders are refused
    RUNS_WAIT = "runs-wait"  #: no worker takes them
    RUNS_FAILED = "runs-failed"  #: studies without a result
    DELIVERIES_WAIT = "deliveries-wait"  #: a destination does not take them
    DELIVERIES_DEAD = "deliveries-dead"  #: a destination will not get them
    QUARANTINE = "quarantine"  #: studies that were kept and not screened
    EXPORT_WAITS = "export-waits"  #: the audit repository does not take events
    BROKER_AWAY = "broker-away"  #: nobody can ring: studies, runs and deliveries wait
    LOG_LOST = "log-lost"  #: nobody takes the lines of the log: its disk is full, its reader gone


@dataclass(frozen=True, slots=True)
class Condition:
    """One cause that holds now."""

    kind: AlertKind
    subject: str  #: what it is about; with the kind the identity of the cause
    detail: str  #: one sentence with the numbers and the mend


@dataclass(frozen=True, slots=True)
class AlertStatus:
    """One alert as it stands."""

    kind: str
    subject: str
    detail: str
    raised_at: datetime
    last_seen_at: datetime
    resolved_at: datetime | None


@dataclass(frozen=True, slots=True)
class Settled:
    """What changed."""

    raised: tuple[Condition, ...]
    resolved: tuple[AlertStatus, ...]


def settle_alerts(
    database: Database,
    conditions: Sequence[Condition],
    now: datetime,
    *,
    kinds: Collection[AlertKind] = tuple(AlertKind),
    in_turns: Mapping[tuple[str, str], float] | None = None,
) -> Settled:
    """Raise what is new, keep what is known, resolve what is gone.

    Two watchers at once raise one alert.

    Parameters
    ----------
    conditions
        All that is wrong now.
    kinds
        What was looked at; open alerts of other kinds are left alone.
    in_turns
        Causes, by kind and subject, of which only a part was looked at: so many seconds after one
        was seen last it may still be there, and its alert stays open.
    """
    holds = {(one.kind.value, one.subject): one for one in conditions}
    with database.begin() as session:
        statement = select(Alert).where(
            Alert.resolved_at.is_(None), Alert.kind.in_([kind.value for kind in kinds])
        )
        known = {(row.kind, row.subject): row for row in session.scalars(statement)}
        raised = tuple(
            one for key, one in holds.items() if key not in known and _raise(session, one, now)
        )
        resolved = []
        for key, row in known.items():
            if key in holds:
                row.last_seen_at, row.detail = now, holds[key].detail
            elif (now - row.last_seen_at).total_seconds() >= (in_turns or {}).get(key, 0.0):
                _resolve(session, row, now)
                resolved.append(_status(row))
        return Settled(raised, tuple(resolved))


def list_alerts(
    database: Database, *, is_open_only: bool, limit: int = DEFAULT_LIMIT
) -> tuple[AlertStatus, ...]:
    """Give alerts, newest first."""
    statement = select(Alert).order_by(Alert.alert_id.desc()).limit(limit)
    if is_open_only:
        statement = statement.where(Alert.resolved_at.is_(None))
    with database.session() as session:
        return tuple(_status(row) for row in session.scalars(statement))


def _raise(session: Session, one: Condition, now: datetime) -> bool:
    values = {
        "kind": one.kind.value,
        "subject": one.subject,
        "detail": one.detail,
        "raised_at": now,
        "last_seen_at": now,
    }
    if not insert_if_absent(session, Alert, values):
        return False
    payload: dict[str, JsonValue] = {
        "alert": one.kind.value,
        "subject": one.subject,
        "detail": one.detail,
    }
    append_event(session, EventKind.ALERT_RAISED, now, payload=payload)
    return True


def _resolve(session: Session, row: Alert, now: datetime) -> None:
    row.resolved_at = now
    seconds = round((now - row.raised_at).total_seconds(), 1)
    payload: dict[str, JsonValue] = {"alert": row.kind, "subject": row.subject, "seconds": seconds}
    append_event(session, EventKind.ALERT_RESOLVED, now, payload=payload)


def _status(row: Alert) -> AlertStatus:
    return AlertStatus(
        kind=row.kind,
        subject=row.subject,
        detail=row.detail,
        raised_at=row.raised_at,
        last_seen_at=row.last_seen_at,
        resolved_at=row.resolved_at,
    )
