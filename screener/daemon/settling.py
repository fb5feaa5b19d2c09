"""Settle what destinations report of the commitment to what they stored.

By itself: the listener hears reports, and needs nothing of what asks for them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from screener.audit.backoff import RetryPolicy
from screener.audit.commitments import settle_commitment
from screener.daemon.site import utc_now
from screener.domain import DeliveryState, Outcome
from screener.logs import get_log

if TYPE_CHECKING:
    from screener.daemon.site import Site
    from screener.domain import CommitmentReport

#: A destination has taken these.
ARRIVED = frozenset({Outcome.STORED, Outcome.STORED_WITH_WARNING})


def settle_report(site: Site, report: CommitmentReport) -> bool:
    """Write down what a destination reported; False where nobody asked for it.

    Raises
    ------
    DatabaseUnavailable
        It could not be written.
    """
    delivery = site.settings.delivery
    policy = RetryPolicy(
        delivery.first_retry_s,
        delivery.retry_cap_s,
        max_attempts=delivery.most_denials,
        give_up_after_s=delivery.give_up_after_s,
    )
    arrived = [outcome.value for outcome in ARRIVED]
    state = settle_commitment(site.database, report, arrived, utc_now(), policy)
    if state is None:
        get_log().warning("commitment_unknown", transaction_uid=report.transaction_uid)
        return False
    is_confirmed = state is DeliveryState.CONFIRMED
    get_log().info(
        "results_confirmed" if is_confirmed else "results_not_committed",
        transaction_uid=report.transaction_uid,
    )
    return True
