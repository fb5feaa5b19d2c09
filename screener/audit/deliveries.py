"""One row per run and destination: claim, send, confirm, try again, die.

The same claims, leases and fencing as for runs. Rows of different destinations know nothing of
each other, so a dead destination holds up nobody. A run is delivered when every destination has
it, confirmed when every destination said so.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from sqlalchemy import select

from screener.audit.delivery_claims import (
    ClaimedDelivery,
    ObjectToSend,
    claim_confirmation,
    claim_delivery,
    extend_delivery,
    tell,
)
from screener.audit.events import EventKind, JsonValue
from screener.audit.inputs import lock_study
from screener.audit.tables import Delivery, DeliveryObject, Run
from screener.audit.tolerant_types import one_more
from screener.domain import DeliveryState, RunState
from screener.errors import LostClaim

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import datetime

    from sqlalchemy.orm import Session

    from screener.audit.backoff import RetryPolicy
    from screener.audit.database import Database

__all__ = [
    "ClaimedDelivery",
    "ObjectStatus",
    "ObjectToSend",
    "claim_confirmation",
    "claim_delivery",
    "confirm_delivery",
    "extend_delivery",
    "fail_delivery",
    "finish_delivery",
    "postpone_confirmation",
    "retry_delivery",
]

#: A delivery whose result a sender may still write.
HELD = (DeliveryState.SENDING, DeliveryState.SENT)
#: A destination that has everything.
ARRIVED = (DeliveryState.SENT, DeliveryState.CONFIRMED)


@dataclass(frozen=True, slots=True)
class ObjectStatus:
    """What a destination answered for one result object."""

    sop_instance_uid: str
    status: int | None  #: DIMSE status, None where there was no answer
    outcome: str  #: the sender's word for it: stored, refused, ...
    comment: str = ""


def finish_delivery(
    database: Database, claim: ClaimedDelivery, statuses: Sequence[ObjectStatus], now: datetime
) -> None:
    """Note that the destination took everything it was to get; the claim may still confirm.

    Raises
    ------
    LostClaim
        Another holds the delivery now; nothing was written.
    """
    with held(database, claim) as (session, delivery):
        write_statuses(session, claim, statuses)
        delivery.state = DeliveryState.SENT
        delivery.sent_at = now
        delivery.not_before_at = now
        delivery.n_failures = 0
        delivery.last_detail = None
        delivery.commitment_uid = None
        release(delivery)
        objects: list[JsonValue] = [
            {"sop_instance_uid": one.sop_instance_uid, "status": one.status, "outcome": one.outcome}
            for one in statuses
        ]
        tell(session, delivery, EventKind.DELIVERY_SENT, now, {"objects": objects})
        roll_up(session, claim.run_id, now)


def confirm_delivery(
    database: Database, claim: ClaimedDelivery, detail: str, now: datetime
) -> None:
    """Note that the destination itself said that it holds everything.

    Raises
    ------
    LostClaim
        Another holds the delivery now, or it was never sent; nothing was written.
    """
    with held(database, claim, DeliveryState.SENT) as (session, delivery):
        confirm(session, delivery, detail, now)


def postpone_confirmation(
    database: Database, claim: ClaimedDelivery, detail: str, now: datetime, policy: RetryPolicy
) -> None:
    """Ask again later: the destination could not be asked, or does not list everything yet.

    Raises
    ------
    LostClaim
        Another holds the delivery now, or it was never sent; nothing was written.
    """
    with held(database, claim, DeliveryState.SENT) as (session, delivery):
        postpone(session, delivery, detail, now, policy)


def retry_delivery(
    database: Database,
    claim: ClaimedDelivery,
    detail: str,
    now: datetime,
    policy: RetryPolicy,
    *,
    statuses: Sequence[ObjectStatus] = (),
) -> DeliveryState:
    """Send again later, or give up when the patience of the policy is used up.

    Also from the confirmation, where the destination forgot what it took.

    Raises
    ------
    LostClaim
        Another holds the delivery now; nothing was written.
    """
    with held(database, claim) as (session, delivery):
        write_statuses(session, claim, statuses)
        retry_or_bury(session, delivery, detail, now, policy)
        roll_up(session, claim.run_id, now)
        return delivery.state


def fail_delivery(
    database: Database,
    claim: ClaimedDelivery,
    detail: str,
    now: datetime,
    *,
    statuses: Sequence[ObjectStatus] = (),
) -> None:
    """Stop at once: the destination refused what no retry can change. A person can revive it.

    Raises
    ------
    LostClaim
        Another holds the delivery now; nothing was written.
    """
    with held(database, claim) as (session, delivery):
        write_statuses(session, claim, statuses)
        bury(session, delivery, detail, now)
        roll_up(session, claim.run_id, now)


# ── shared with the sweep and the commitments ────────────────────────────────────────────────


@contextmanager
def held(
    database: Database, claim: ClaimedDelivery, *states: DeliveryState
) -> Iterator[tuple[Session, Delivery]]:
    """Open a transaction on a delivery that the claim still holds, the study locked.

    Raises
    ------
    LostClaim
        Another holds the delivery now, or it stands in none of the states.
    """
    with database.begin() as session:
        lock_study(session, claim.study_instance_uid)
        statement = select(Delivery).where(
            Delivery.delivery_id == claim.delivery_id,
            Delivery.attempt == claim.attempt,
            Delivery.state.in_(states or HELD),
        )
        delivery = session.scalars(statement.with_for_update()).one_or_none()
        if delivery is None:
            raise LostClaim(
                f"delivery {claim.delivery_id}: attempt {claim.attempt} does not count any more"
            )
        yield session, delivery


def retry_or_bury(
    session: Session, delivery: Delivery, detail: str, now: datetime, policy: RetryPolicy
) -> None:
    """Let the delivery wait for its next try, or stop it where the patience is used up."""
    age_s = (now - delivery.pending_since_at).total_seconds()
    is_too_old = policy.give_up_after_s is not None and age_s >= policy.give_up_after_s
    is_used_up = policy.max_attempts is not None and delivery.n_failures + 1 >= policy.max_attempts
    if is_too_old or is_used_up:
        bury(session, delivery, detail, now)
        return
    delivery.state = DeliveryState.RETRYING
    postpone(session, delivery, detail, now, policy)


def postpone(
    session: Session, delivery: Delivery, detail: str, now: datetime, policy: RetryPolicy
) -> None:
    """Free the delivery until its next try."""
    delivery.n_failures = one_more(delivery.n_failures)
    delay_s = policy.delay_s(delivery.n_failures, delivery.delivery_id)
    delivery.not_before_at = now + timedelta(seconds=delay_s)
    delivery.last_detail = detail
    release(delivery)
    payload: dict[str, JsonValue] = {"detail": detail, "delay_s": round(delay_s, 3)}
    tell(session, delivery, EventKind.DELIVERY_POSTPONED, now, payload)


def confirm(session: Session, delivery: Delivery, detail: str, now: datetime) -> None:
    """Note that the destination answers for everything."""
    delivery.state = DeliveryState.CONFIRMED
    delivery.confirmed_at = now
    delivery.last_detail = None
    release(delivery)
    tell(session, delivery, EventKind.DELIVERY_CONFIRMED, now, {"detail": detail})
    roll_up(session, delivery.run_id, now)


def bury(session: Session, delivery: Delivery, detail: str, now: datetime) -> None:
    """Stop the delivery visibly."""
    delivery.state = DeliveryState.DEAD
    delivery.last_detail = detail
    release(delivery)
    tell(session, delivery, EventKind.DELIVERY_DIED, now, {"detail": detail})


def release(delivery: Delivery) -> None:
    """Let go of the lease; the next ring may come at once."""
    delivery.lease_owner = delivery.lease_expires_at = delivery.rung_at = None


def write_statuses(
    session: Session, claim: ClaimedDelivery, statuses: Sequence[ObjectStatus]
) -> None:
    """Keep what the destination answered last for each of these objects."""
    for one in statuses:
        row = session.get_one(DeliveryObject, (claim.delivery_id, one.sop_instance_uid))
        row.status = one.status
        row.outcome = one.outcome
        row.comment = one.comment or None


def roll_up(session: Session, run_id: str, now: datetime) -> None:
    """Let the run stand where its destinations do; the study is locked by the caller."""
    session.flush()
    run = session.get(Run, run_id)
    if run is None:
        return  # its row was deleted by hand, which the accounting tells; no sender stops for it
    if run.state not in {RunState.REPORTED, RunState.DELIVERED}:
        return  # a superseded run keeps its state, whatever still arrives of it
    states = session.scalars(select(Delivery.state).where(Delivery.run_id == run_id)).all()
    if all(state is DeliveryState.CONFIRMED for state in states):
        run.state = RunState.CONFIRMED
        run.delivered_at = run.delivered_at or now
        run.confirmed_at = now
    elif all(state in ARRIVED for state in states):
        run.state = RunState.DELIVERED
        run.delivered_at = run.delivered_at or now
    else:  # also back again, where a destination forgot what it had taken
        run.state = RunState.REPORTED
        run.delivered_at = None
