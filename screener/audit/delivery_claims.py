"""Claiming deliveries: to send them, or to ask the destination whether it holds them.

A claim is one conditional UPDATE; its attempt number is the fencing token. Reports of one study
go to one destination in the order of their runs.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from sqlalchemy import exists, select, update
from sqlalchemy.orm import aliased

from screener.audit.events import EventKind, JsonValue, append_event
from screener.audit.tables import Delivery, DeliveryObject, ResultObjectRow
from screener.audit.tolerant_types import one_more_of
from screener.domain import DeliveryState, ResultKind
from screener.errors import LostClaim

if TYPE_CHECKING:
    from collections.abc import Collection
    from datetime import datetime

    from sqlalchemy import CursorResult, Select
    from sqlalchemy.orm import Session

    from screener.audit.database import Database

#: A delivery that a sender may take.
WAITING = (DeliveryState.PENDING, DeliveryState.RETRYING)


@dataclass(frozen=True, slots=True)
class ObjectToSend:
    """One stored result object with what is known of it at the destination."""

    kind: ResultKind
    sop_class_uid: str
    sop_instance_uid: str
    path: Path
    digest: str
    last_outcome: str | None  #: of the attempt before; None where there was none


@dataclass(frozen=True, slots=True)
class ClaimedDelivery:
    """A delivery that this sender holds as long as its attempt is the newest."""

    delivery_id: str
    run_id: str
    study_instance_uid: str
    destination: str
    attempt: int  #: fencing token
    owner: str
    objects: tuple[ObjectToSend, ...]
    commitment_uid: str | None = None  #: transaction that was asked and not answered


def claim_delivery(
    database: Database,
    delivery_id: str | None,
    owner: str,
    lease_s: float,
    now: datetime,
    *,
    destinations: Collection[str] | None = None,
) -> ClaimedDelivery | None:
    """Take a delivery that waits: this one, or without an id the most urgent.

    Parameters
    ----------
    destinations
        Only these; None takes any.

    Returns
    -------
    :
        None where nothing waits or another was faster.
    """
    candidate = _waiting(delivery_id, destinations, now)
    return _take(database, candidate, DeliveryState.SENDING, now, owner=owner, lease_s=lease_s)


def claim_confirmation(
    database: Database,
    destinations: Collection[str],
    owner: str,
    lease_s: float,
    now: datetime,
) -> ClaimedDelivery | None:
    """Take a sent delivery that one of these destinations has not confirmed yet."""
    candidate = _unconfirmed(destinations, now)
    return _take(database, candidate, DeliveryState.SENT, now, owner=owner, lease_s=lease_s)


def extend_delivery(
    database: Database, claim: ClaimedDelivery, lease_s: float, now: datetime
) -> None:
    """Extend the lease.

    Raises
    ------
    LostClaim
        Another holds the delivery now, or it was given back.
    """
    statement = (
        update(Delivery)
        .where(
            Delivery.delivery_id == claim.delivery_id,
            Delivery.attempt == claim.attempt,
            Delivery.lease_owner == claim.owner,  # none once it was given back
        )
        .values(lease_expires_at=now + timedelta(seconds=lease_s))
        .execution_options(synchronize_session=False)
    )
    with database.begin() as session:
        if cast("CursorResult[Any]", session.execute(statement)).rowcount == 0:
            raise LostClaim(f"delivery {claim.delivery_id}: attempt {claim.attempt} is over")


def tell(
    session: Session,
    delivery: Delivery,
    kind: EventKind,
    now: datetime,
    payload: dict[str, JsonValue] | None = None,
) -> None:
    """Write an event about a delivery."""
    append_event(
        session,
        kind,
        now,
        study_instance_uid=delivery.study_instance_uid,
        run_id=delivery.run_id,
        payload={
            "delivery_id": delivery.delivery_id,
            "destination": delivery.destination,
            "attempt": delivery.attempt,
            **(payload or {}),
        },
    )


def _waiting(
    delivery_id: str | None, destinations: Collection[str] | None, now: datetime
) -> Select[str]:
    """Deliveries that are due and have no older one before them on the same way."""
    due, older = aliased(Delivery), aliased(Delivery)
    is_behind = exists().where(
        older.study_instance_uid == due.study_instance_uid,
        older.destination == due.destination,
        older.run_version < due.run_version,
        older.state.in_((*WAITING, DeliveryState.SENDING)),
    )
    statement = select(due.delivery_id).where(
        due.state.in_(WAITING), due.not_before_at <= now, ~is_behind
    )
    if delivery_id is not None:
        statement = statement.where(due.delivery_id == delivery_id)
    if destinations is not None:
        statement = statement.where(due.destination.in_(destinations))
    return statement.order_by(due.is_stat.desc(), due.not_before_at, due.delivery_id).limit(1)


def _unconfirmed(destinations: Collection[str], now: datetime) -> Select[str]:
    sent = aliased(Delivery)
    return (
        select(sent.delivery_id)
        .where(
            sent.state == DeliveryState.SENT,
            sent.destination.in_(destinations),
            sent.not_before_at <= now,
            sent.lease_expires_at.is_(None) | (sent.lease_expires_at <= now),
        )
        .order_by(sent.not_before_at, sent.delivery_id)
        .limit(1)
    )


def _take(
    database: Database,
    candidate: Select[str],
    state: DeliveryState,
    now: datetime,
    *,
    owner: str,
    lease_s: float,
) -> ClaimedDelivery | None:
    with database.session() as session:  # a poll that finds nothing must not lock out writers
        if session.execute(candidate).first() is None:
            return None
    chosen = candidate.with_for_update(skip_locked=True).scalar_subquery()
    takeable = WAITING if state is DeliveryState.SENDING else (DeliveryState.SENT,)
    statement = (
        update(Delivery)
        .where(Delivery.delivery_id == chosen, Delivery.state.in_(takeable))
        .values(
            state=state,
            attempt=one_more_of(Delivery.attempt),
            lease_owner=owner,
            lease_expires_at=now + timedelta(seconds=lease_s),
        )
        .returning(Delivery)
        .execution_options(synchronize_session=False)
    )
    with database.begin() as session:
        delivery = session.scalars(statement).one_or_none()
        if delivery is None:
            return None
        if state is DeliveryState.SENDING:
            tell(session, delivery, EventKind.DELIVERY_STARTED, now)
        return _claimed(session, delivery, owner)


def _claimed(session: Session, delivery: Delivery, owner: str) -> ClaimedDelivery:
    statement = (
        select(ResultObjectRow, DeliveryObject.outcome)
        .join(DeliveryObject, DeliveryObject.sop_instance_uid == ResultObjectRow.sop_instance_uid)
        .where(DeliveryObject.delivery_id == delivery.delivery_id)
        .order_by(ResultObjectRow.kind, ResultObjectRow.sop_instance_uid)
    )
    objects = tuple(
        ObjectToSend(
            kind=row.kind,
            sop_class_uid=row.sop_class_uid,
            sop_instance_uid=row.sop_instance_uid,
            path=Path(row.path),
            digest=row.digest,
            last_outcome=outcome,
        )
        for row, outcome in session.execute(statement)
    )
    return ClaimedDelivery(
        delivery_id=delivery.delivery_id,
        run_id=delivery.run_id,
        study_instance_uid=delivery.study_instance_uid,
        destination=delivery.destination,
        attempt=delivery.attempt,
        owner=owner,
        objects=objects,
        commitment_uid=delivery.commitment_uid,
    )
