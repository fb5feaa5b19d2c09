"""Storage commitment of a delivery: asked, awaited, settled by what the destination reports.

The transaction is written before the destination hears of it, so that the report finds it however
fast it comes, and in whatever process. Who waits in vain asks by query instead.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import select

from screener.audit.deliveries import confirm, held, postpone, release, retry_or_bury, roll_up
from screener.audit.delivery_claims import tell
from screener.audit.events import EventKind
from screener.audit.inputs import lock_study
from screener.audit.tables import Delivery, DeliveryObject
from screener.audit.tolerant_types import one_more
from screener.domain import DeliveryState

if TYPE_CHECKING:
    from collections.abc import Collection
    from datetime import datetime

    from sqlalchemy.orm import Session

    from screener.audit.backoff import RetryPolicy
    from screener.audit.database import Database
    from screener.audit.delivery_claims import ClaimedDelivery
    from screener.domain import CommitmentReport

#: Outcome of an object that the destination took and then does not answer for.
NOT_COMMITTED = "not-committed"


def ask_commitment(
    database: Database, claim: ClaimedDelivery, transaction_uid: str, now: datetime
) -> None:
    """Note the transaction that the destination is about to be asked for.

    Raises
    ------
    LostClaim
        Another holds the delivery now; nothing was written.
    """
    with held(database, claim, DeliveryState.SENT) as (session, delivery):
        delivery.commitment_uid = transaction_uid
        payload = {"transaction_uid": transaction_uid}
        tell(session, delivery, EventKind.COMMITMENT_ASKED, now, {**payload})


def await_commitment(database: Database, claim: ClaimedDelivery, until: datetime) -> None:
    """Let go of the delivery; if nothing was reported `until` then, a claim finds it again.

    Raises
    ------
    LostClaim
        It was reported meanwhile; there is nothing to wait for.
    """
    with held(database, claim, DeliveryState.SENT) as (_, delivery):
        delivery.not_before_at = until
        release(delivery)


def withdraw_commitment(
    database: Database, claim: ClaimedDelivery, detail: str, now: datetime, policy: RetryPolicy
) -> None:
    """Ask again later: the request did not get through.

    Raises
    ------
    LostClaim
        It got through, and was reported meanwhile.
    """
    with held(database, claim, DeliveryState.SENT) as (session, delivery):
        delivery.commitment_uid = None
        postpone(session, delivery, detail, now, policy)


def settle_commitment(
    database: Database,
    report: CommitmentReport,
    arrived: Collection[str],
    now: datetime,
    policy: RetryPolicy,
) -> DeliveryState | None:
    """Confirm a delivery, or send it again, as the destination reported.

    The newest claim loses: what it was about to ask is answered. A report that comes late or
    twice changes nothing.

    Parameters
    ----------
    arrived
        Outcomes of objects that the destination took and that it was asked for.
    policy
        Its `max_attempts` is how often a destination may disown what it took.

    Returns
    -------
    :
        Where the delivery stands then; None where nobody asked for this transaction.
    """
    asked = select(Delivery).where(Delivery.commitment_uid == report.transaction_uid)
    with database.session() as session:
        found = session.scalars(asked).first()
        if found is None:
            return None
        study_instance_uid = found.study_instance_uid
    with database.begin() as session:
        lock_study(session, study_instance_uid)
        delivery = session.scalars(asked.with_for_update()).first()
        if delivery is None or delivery.state is not DeliveryState.SENT:
            return delivery.state if delivery else None
        delivery.attempt = one_more(delivery.attempt)
        missing, n_objects = _mark_missing(session, delivery, report, arrived)
        n_committed = n_objects - len(missing)
        detail = f"storage commitment for {n_committed} of {n_objects} objects"
        if missing:
            _send_again(session, delivery, f"{detail}; {missing[0]}", now, policy)
        else:
            confirm(session, delivery, detail, now)
        return delivery.state


def _send_again(
    session: Session, delivery: Delivery, detail: str, now: datetime, policy: RetryPolicy
) -> None:
    # Sending counts as success each time; here only a commitment does.
    delivery.n_failures = delivery.n_denials
    delivery.n_denials = one_more(delivery.n_denials)
    retry_or_bury(session, delivery, detail, now, policy)
    roll_up(session, delivery.run_id, now)


def _mark_missing(
    session: Session, delivery: Delivery, report: CommitmentReport, arrived: Collection[str]
) -> tuple[list[str], int]:
    """Mark the objects that were not committed; say why each, and how many were asked for."""
    of_delivery = select(DeliveryObject).where(
        DeliveryObject.delivery_id == delivery.delivery_id, DeliveryObject.outcome.in_(arrived)
    )
    rows = session.scalars(of_delivery.order_by(DeliveryObject.sop_instance_uid)).all()
    reasons = dict(report.failures)
    missing: list[str] = []
    for row in rows:
        if row.sop_instance_uid in report.committed and row.sop_instance_uid not in reasons:
            continue
        reason = reasons.get(row.sop_instance_uid)
        why = "it is not in the result" if reason is None else f"failure reason 0x{reason:04X}"
        row.status, row.outcome, row.comment = reason, NOT_COMMITTED, f"Not committed: {why}."
        missing.append(f"{row.sop_instance_uid}: {why}")
    return missing, len(rows)
