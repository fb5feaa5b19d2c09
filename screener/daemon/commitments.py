"""Ask destinations to answer for what they stored."""

from __future__ import annotations

import uuid
from datetime import timedelta
from typing import TYPE_CHECKING

from screener.audit.backoff import RetryPolicy
from screener.audit.commitments import (
    ask_commitment,
    await_commitment,
    withdraw_commitment,
)
from screener.daemon.settling import settle_report
from screener.daemon.site import Site, dimse_node_of, utc_now
from screener.deliver.commitment import request_commitment
from screener.errors import DestinationUnavailable
from screener.receive.commitment import CommitmentHandlers

if TYPE_CHECKING:
    from collections.abc import Sequence

    from screener.audit.delivery_claims import ClaimedDelivery
    from screener.deliver.scu import DeliverableObject
    from screener.destinations import DimseDestinationSettings


def ask_to_commit(
    site: Site,
    entry: DimseDestinationSettings,
    claim: ClaimedDelivery,
    sent: Sequence[DeliverableObject],
) -> None:
    """Ask a destination to commit to what it took, and wait for its report elsewhere.

    Raises
    ------
    DestinationRefused
        It knows no storage commitment; ask by query.
    LostClaim
        Another holds the delivery now, or it was reported already.
    """
    transaction_uid = f"2.25.{uuid.uuid4().int}"
    ask_commitment(site.database, claim, transaction_uid, utc_now())
    handlers = CommitmentHandlers(lambda report: settle_report(site, report))
    node = dimse_node_of(site.settings, entry)
    try:
        request_commitment(node, transaction_uid, sent, handlers.on_event_report)
    except DestinationUnavailable as error:
        policy = delivery_policy(site)
        withdraw_commitment(site.database, claim, str(error), utc_now(), policy)
        return
    until = utc_now() + timedelta(seconds=entry.commitment_timeout_s)
    await_commitment(site.database, claim, until)


def delivery_policy(site: Site, error: Exception | None = None) -> RetryPolicy:
    """Give how long a destination may be away, and how often it is tried.

    Parameters
    ----------
    error
        What happened, where something did: a destination may say how long to leave it alone.
    """
    delivery = site.settings.delivery
    asked_s = error.retry_after_s if isinstance(error, DestinationUnavailable) else None
    return RetryPolicy(
        delivery.first_retry_s,
        delivery.retry_cap_s,
        give_up_after_s=delivery.give_up_after_s,
        least_delay_s=asked_s or 0.0,
    )
