"""Waits that the clock broke, put right: a clock that jumps costs a moment, not a study.

Every wait compares a time of a row with the clock. Where the clock goes back, what happened lies in
the future, and nothing would become complete, due or free until the clock caught up. Where it jumps
ahead, or nobody could look for long, a claim seems dead whose holder lives. A time that somebody
edited until it is none, or took away, would never come.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, cast

from sqlalchemy import ColumnElement, exists, false, func, or_, select, update

from screener.audit.deliveries import HELD
from screener.audit.delivery_claims import WAITING
from screener.audit.events import EventKind, append_event
from screener.audit.inputs import IS_OPEN, lock_studies
from screener.audit.tables import Delivery, Run, Series, Study
from screener.audit.tolerant_types import is_unreadable
from screener.domain import DeliveryState, RunState

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import datetime

    from sqlalchemy import CursorResult
    from sqlalchemy.orm import InstrumentedAttribute, Session

    from screener.audit.database import Database

#: How far the clocks of several machines may differ, in seconds; less is no jump.
CLOCK_TOLERANCE_S = 60.0

_OPEN_STUDIES = select(Study.study_instance_uid).where(IS_OPEN)
_IS_RUNNING = Run.state == RunState.RUNNING


@dataclass(frozen=True, slots=True)
class LongestWaits:
    """How far ahead of the clock that wrote it a time can lie, in seconds."""

    run_lease_s: float
    run_retry_s: float
    delivery_lease_s: float
    delivery_retry_s: float


@dataclass(frozen=True, slots=True)
class _Wait:
    """One time that something waits for, or since."""

    column: InstrumentedAttribute[Any]
    is_waiting: ColumnElement[bool]
    longest_s: float = 0.0  #: 0 for what has happened
    again_s: float = 0.0  #: where it is put, from now
    is_required: bool = False  #: whether without a time nothing would ever end the wait

    def is_ahead(self, now: datetime, dialect: str) -> ColumnElement[bool]:
        furthest = now + timedelta(seconds=self.longest_s + CLOCK_TOLERANCE_S)
        is_time = ~is_unreadable(self.column, dialect)
        return self.is_waiting & is_time & (self.column > furthest)

    def is_lost(self, now: datetime, dialect: str) -> ColumnElement[bool]:
        del now
        is_absent = self.column.is_(None) if self.is_required else false()
        return self.is_waiting & (is_unreadable(self.column, dialect) | is_absent)

    def lead_s(self, latest: datetime | None, now: datetime) -> float:
        return 0.0 if latest is None else (latest - now).total_seconds() - self.longest_s


#: Of one wait, now, in a dialect: the rows that are to be mended.
_Which = Callable[[_Wait, "datetime", str], ColumnElement[bool]]


def mend_waits(database: Database, longest: LongestWaits, now: datetime) -> float:
    """Bring back to now what waits for a time that no clock but a wrong one has set, and say so.

    A wait begins anew at most; none ends early. A live holder extends its claim as before.

    Returns
    -------
    :
        By how many seconds the clock went back, as far as the rows can tell; 0 where it did not.

    Raises
    ------
    DatabaseUnavailable
        The database cannot be read or written.
    """
    waits = _waits(longest)
    with database.session() as session:  # nearly always the end: no writer waits for this
        lead_s = _lead_s(session, waits, now, database.dialect)
    if lead_s <= 0:
        return 0.0
    with database.begin() as session:
        n_rows = _mend_all(session, waits, _Wait.is_ahead, now, database.dialect)
        payload = {"seconds": round(lead_s), "n_rows": n_rows}
        append_event(session, EventKind.CLOCK_WENT_BACK, now, payload=payload)
    return lead_s


def mend_lost_times(database: Database, longest: LongestWaits, now: datetime) -> int:
    """Let waits begin anew whose time is gone or is none, since a table was edited by hand.

    Returns
    -------
    :
        How many rows were mended.

    Raises
    ------
    DatabaseUnavailable
        The database cannot be read or written.
    """
    waits, dialect = _waits(longest), database.dialect
    any_lost = or_(*(exists().where(wait.is_lost(now, dialect)) for wait in waits))
    with database.session() as session:  # nearly always the end: no writer waits for this
        if not session.scalar(select(any_lost)):
            return 0
    with database.begin() as session:
        n_rows = _mend_all(session, waits, _Wait.is_lost, now, dialect)
        append_event(session, EventKind.LOST_TIMES_MENDED, now, payload={"n_rows": n_rows})
    return n_rows


def spare_overdue_leases(database: Database, longest: LongestWaits, now: datetime) -> int:
    """Give one more lease to claims that are overdue by more than one; give how many.

    Nobody looked meanwhile, or the clock jumped ahead, or the database was away: the holder may
    live, and could not say so. One that is dead does not extend it and loses it then.

    Raises
    ------
    DatabaseUnavailable
        The database cannot be read or written.
    """
    n_spared = 0
    for table, is_held, lease_s in (
        (Run, _IS_RUNNING, longest.run_lease_s),
        (Delivery, Delivery.state.in_(HELD), longest.delivery_lease_s),
    ):
        lease = timedelta(seconds=lease_s)
        is_overdue = is_held & (table.lease_expires_at <= now - lease)
        with database.session() as session:
            if session.execute(select(table.lease_expires_at).where(is_overdue)).first() is None:
                continue
        with database.begin() as session:
            lock_studies(session, select(table.study_instance_uid).where(is_overdue).distinct())
            n_spared += _set(session, table.lease_expires_at, is_overdue, now + lease)
    return n_spared


def _waits(longest: LongestWaits) -> tuple[_Wait, ...]:
    is_queued = Run.state == RunState.QUEUED
    is_due = Delivery.state.in_((*WAITING, DeliveryState.SENT))
    is_undelivered = Delivery.state.in_((*WAITING, *HELD))
    run_lease_s, delivery_lease_s = longest.run_lease_s, longest.delivery_lease_s
    # fmt: off
    return (
        _Wait(Study.last_arrival_at, IS_OPEN),
        _Wait(Study.opened_at, IS_OPEN),
        _Wait(Series.last_arrival_at, Series.study_instance_uid.in_(_OPEN_STUDIES)),
        _Wait(Run.lease_expires_at, _IS_RUNNING, run_lease_s, run_lease_s, is_required=True),
        _Wait(Run.not_before_at, is_queued, longest.run_retry_s),
        _Wait(Run.rung_at, is_queued),
        _Wait(Delivery.lease_expires_at, is_undelivered, delivery_lease_s, delivery_lease_s),
        _Wait(
            Delivery.lease_expires_at, Delivery.state == DeliveryState.SENDING,
            delivery_lease_s, delivery_lease_s, is_required=True,
        ),
        _Wait(Delivery.not_before_at, is_due, longest.delivery_retry_s),
        _Wait(Delivery.rung_at, is_undelivered),
        _Wait(Delivery.pending_since_at, is_undelivered),
    )
    # fmt: on


def _lead_s(session: Session, waits: Iterable[_Wait], now: datetime, dialect: str) -> float:
    latest = [
        select(func.max(wait.column)).where(wait.is_ahead(now, dialect)).scalar_subquery()
        for wait in waits
    ]
    row = session.execute(select(*latest)).one()
    return max(wait.lead_s(at, now) for wait, at in zip(waits, row, strict=True))


def _mend_all(
    session: Session, waits: Sequence[_Wait], which: _Which, now: datetime, dialect: str
) -> int:
    """Bring back to now what `which` names of each wait; the studies are locked."""
    uids = [
        select(wait.column.class_.study_instance_uid).where(which(wait, now, dialect))
        for wait in waits
    ]
    lock_studies(session, select(uids[0].union(*uids[1:]).subquery().c[0]))
    return sum(
        _set(
            session,
            wait.column,
            which(wait, now, dialect),
            now + timedelta(seconds=wait.again_s),
        )
        for wait in waits
    )


def _set(
    session: Session,
    column: InstrumentedAttribute[Any],
    which: ColumnElement[bool],
    at: datetime,
) -> int:
    statement = (
        update(column.class_)
        .where(which)
        .values({column: at})
        .execution_options(synchronize_session=False)
    )
    return cast("CursorResult[Any]", session.execute(statement)).rowcount
