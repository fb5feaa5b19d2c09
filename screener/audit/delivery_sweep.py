"""What the dispatcher does for deliveries: ring again, free expired leases, revive on request."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, cast

from sqlalchemy import or_, select, update

from screener.audit.deliveries import HELD, release, retry_or_bury
from screener.audit.delivery_claims import WAITING, tell
from screener.audit.events import EventKind
from screener.audit.inputs import lock_studies, lock_study
from screener.audit.tables import Delivery
from screener.domain import DeliveryState

if TYPE_CHECKING:
    from collections.abc import Collection
    from datetime import datetime

    from sqlalchemy import CursorResult

    from screener.audit.backoff import RetryPolicy
    from screener.audit.database import Database


@dataclass(frozen=True, slots=True)
class DeliveryToRing:
    """A due delivery that nobody took yet."""

    delivery_id: str
    destination: str
    is_stat: bool


def due_deliveries(
    database: Database, now: datetime, older_than_s: float
) -> tuple[DeliveryToRing, ...]:
    """Give due deliveries whose last ring is older than this, STAT first."""
    statement = (
        select(Delivery.delivery_id, Delivery.destination, Delivery.is_stat)
        .where(
            Delivery.state.in_(WAITING),
            Delivery.not_before_at <= now,
            or_(
                Delivery.rung_at.is_(None),
                Delivery.rung_at <= now - timedelta(seconds=older_than_s),
            ),
        )
        .order_by(Delivery.is_stat.desc(), Delivery.not_before_at, Delivery.delivery_id)
    )
    with database.session() as session:
        return tuple(DeliveryToRing(*row) for row in session.execute(statement))


def mark_deliveries_rung(database: Database, delivery_ids: Collection[str], now: datetime) -> int:
    """Note that the doorbell was rung for these deliveries; give how many still wait."""
    if not delivery_ids:
        return 0
    statement = (
        update(Delivery)
        .where(Delivery.delivery_id.in_(delivery_ids), Delivery.state.in_(WAITING))
        .values(rung_at=now)
    )
    with database.begin() as session:
        return cast("CursorResult[Any]", session.execute(statement)).rowcount


def expire_delivery_leases(
    database: Database, now: datetime, policy: RetryPolicy
) -> tuple[str, ...]:
    """Free the deliveries of senders that went silent; give those it happened to."""
    expired = Delivery.state.in_(HELD) & (Delivery.lease_expires_at <= now)
    with database.session() as session:
        statement = select(Delivery.delivery_id, Delivery.study_instance_uid).where(expired)
        found = session.execute(statement).all()
    return tuple(
        delivery_id
        for delivery_id, study_uid in found
        if _expire(database, delivery_id, study_uid, now, policy)
    )


def revive_deliveries(database: Database, identifier: str, now: datetime) -> tuple[str, ...]:
    """Give dead deliveries of a run or a study their full patience again.

    Parameters
    ----------
    identifier
        Run id, or Study Instance UID.

    Returns
    -------
    :
        Delivery ids.
    """
    dead = (Delivery.state == DeliveryState.DEAD) & (
        (Delivery.run_id == identifier) | (Delivery.study_instance_uid == identifier)
    )
    with database.begin() as session:
        lock_studies(session, select(Delivery.study_instance_uid).where(dead).distinct())
        rows = session.scalars(select(Delivery).where(dead).order_by(Delivery.run_version)).all()
        for delivery in rows:
            delivery.state = DeliveryState.RETRYING
            delivery.n_failures = delivery.n_denials = 0
            delivery.pending_since_at = delivery.not_before_at = now
            release(delivery)
            tell(session, delivery, EventKind.DELIVERY_REVIVED, now)
        return tuple(delivery.delivery_id for delivery in rows)


def _expire(
    database: Database, delivery_id: str, study_uid: str, now: datetime, policy: RetryPolicy
) -> bool:
    with database.begin() as session:
        lock_study(session, study_uid)
        still = select(Delivery).where(
            Delivery.delivery_id == delivery_id,
            Delivery.state.in_(HELD),
            Delivery.lease_expires_at <= now,
        )
        delivery = session.scalars(still.with_for_update()).one_or_none()
        if delivery is None:
            return False
        owner = {"owner": delivery.lease_owner}
        tell(session, delivery, EventKind.DELIVERY_LEASE_EXPIRED, now, {**owner})
        if delivery.state is DeliveryState.SENDING:
            detail = "the sender went silent: its lease expired"
            retry_or_bury(session, delivery, detail, now, policy)
        else:
            release(delivery)  # only the question whether it arrived was left open
        return True
