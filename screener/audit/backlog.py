"""What waits and for how long: numbers for alerts, health and metrics, never a name or a UID."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import String, cast, func, select

from screener.audit.chain import IS_NUMBERED
from screener.audit.inputs import IS_OPEN
from screener.audit.tables import Delivery, Event, Instance, Run, Study
from screener.domain import DeliveryState, RunState

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy import ColumnElement
    from sqlalchemy.orm import Session

    from screener.audit.database import Database

_UNSENT = frozenset(
    state.value for state in (DeliveryState.PENDING, DeliveryState.RETRYING, DeliveryState.SENDING)
)


@dataclass(frozen=True, slots=True)
class DestinationBacklog:
    """What waits for one destination."""

    destination: str
    n_by_state: tuple[tuple[str, int], ...]
    oldest_unsent_s: float  #: 0 where nothing waits
    oldest_unconfirmed_s: float  #: sent, not answered for yet; 0 where none

    def n(self, state: DeliveryState) -> int:
        """Give how many deliveries are in this state."""
        return dict(self.n_by_state).get(state.value, 0)


@dataclass(frozen=True, slots=True)
class Backlog:
    """What waits, everywhere."""

    studies_by_state: tuple[tuple[str, int], ...]
    runs_by_state: tuple[tuple[str, int], ...]
    n_instances: int
    n_bytes: int  #: of instances whose files are here
    n_quarantined_studies: int  #: with instances in quarantine whose files are here
    oldest_open_s: float  #: since the study that is received longest was opened
    oldest_queued_s: float  #: since the run that waits longest might have been taken
    n_failed_runs: int  #: that nothing replaced
    n_unsealed_events: int
    oldest_unsealed_s: float
    last_sequence: int  #: events sealed so far
    destinations: tuple[DestinationBacklog, ...]


def measure_backlog(database: Database, now: datetime) -> Backlog:
    """Count what waits, and how long the oldest of each has waited.

    Raises
    ------
    DatabaseUnavailable
        The database cannot be read.
    """
    with database.session() as session:

        def age(column: Any, *where: ColumnElement[bool]) -> float:
            return _age_s(session.scalar(select(func.min(column)).where(*where)), now)

        unsealed = Event.sequence.is_(None)
        quarantined = Instance.quarantine_reason.is_not(None) & Instance.purged_at.is_(None)
        n_instances, n_bytes = session.execute(
            select(func.count(), func.sum(Instance.n_bytes)).where(Instance.purged_at.is_(None))
        ).one()
        return Backlog(
            studies_by_state=_by_state(session, Study.state),
            runs_by_state=_by_state(session, Run.state),
            n_instances=n_instances,
            n_bytes=int(n_bytes or 0),
            n_quarantined_studies=_n(session, Instance.study_instance_uid, quarantined),
            oldest_open_s=age(Study.opened_at, IS_OPEN),
            oldest_queued_s=age(
                Run.not_before_at, Run.state == RunState.QUEUED, Run.not_before_at <= now
            ),
            n_failed_runs=_n(session, Run.run_id, Run.state == RunState.FAILED),
            n_unsealed_events=_n(session, Event.event_id, unsealed),
            oldest_unsealed_s=age(Event.occurred_at, unsealed),
            last_sequence=session.scalar(select(func.max(Event.sequence)).where(IS_NUMBERED)) or 0,
            destinations=tuple(_destinations(session, now)),
        )


def _destinations(session: Session, now: datetime) -> list[DestinationBacklog]:
    state = cast(Delivery.state, String)
    oldest = func.min(Delivery.pending_since_at), func.min(Delivery.sent_at)
    statement = (
        select(Delivery.destination, state, func.count(), *oldest)
        .group_by(Delivery.destination, state)
        .order_by(Delivery.destination, state)
    )
    rows: dict[str, list[Any]] = {}
    for row in session.execute(statement).all():
        rows.setdefault(row[0], []).append(row)
    return [
        DestinationBacklog(
            destination=name,
            n_by_state=tuple((state, n_rows) for _, state, n_rows, _, _ in found),
            oldest_unsent_s=max(
                (_age_s(since, now) for _, state, _, since, _ in found if state in _UNSENT),
                default=0.0,
            ),
            oldest_unconfirmed_s=max(
                (
                    _age_s(at, now)
                    for _, state, _, _, at in found
                    if state == DeliveryState.SENT.value
                ),
                default=0.0,
            ),
        )
        for name, found in rows.items()
    ]


def _by_state(session: Session, column: Any) -> tuple[tuple[str, int], ...]:
    state = cast(column, String)  # as text: a state that nobody knows must not stop the count
    statement = select(state, func.count()).group_by(state).order_by(state)
    return tuple((str(name), n_rows) for name, n_rows in session.execute(statement))


def _n(session: Session, column: Any, where: ColumnElement[bool]) -> int:
    return session.scalar(select(func.count(func.distinct(column))).where(where)) or 0


def _age_s(since: datetime | None, now: datetime) -> float:
    return 0.0 if since is None else max(0.0, (now - since).total_seconds())
