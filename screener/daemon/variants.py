"""Offer a report in an older SOP class to a destination that does not take the newer one.

The variant is written durably and noted before it is sent, like every object. The next attempt
knows it and does not offer the original again.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, TypeAlias

from screener.audit.deliveries import ObjectStatus
from screener.audit.variants import add_variant, find_results
from screener.daemon.result_store import store_object
from screener.daemon.site import Site, utc_now
from screener.deliver.scu import DeliverableObject, InstanceStatus
from screener.domain import Outcome, ResultKind
from screener.logs import get_log
from screener.report.variants import FALLBACKS, predecessor_variants, write_variant

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from screener.audit.delivery_claims import ClaimedDelivery

#: Sends objects to the destination of a claim and gives one answer for each.
Send: TypeAlias = "Callable[[Sequence[DeliverableObject]], tuple[InstanceStatus, ...]]"


def offer_variants(
    site: Site,
    claim: ClaimedDelivery,
    objects: Sequence[DeliverableObject],
    answers: Sequence[InstanceStatus],
    send: Send,
) -> tuple[InstanceStatus, ...]:
    """Send a variant of each report whose class the destination does not take.

    Parameters
    ----------
    objects, answers
        What was offered, and one answer for each.
    send
        Sends objects to this destination.

    Returns
    -------
    :
        The answers. What gave way to a variant is `REPLACED`, and that of the variant follows; a
        report that is taken in no class is `REFUSED`.

    Raises
    ------
    DestinationUnavailable, DestinationRefused
        The destination went away meanwhile; variants that were noted stay noted.
    LostClaim
        Another holds the delivery now.
    """
    told: list[InstanceStatus] = []
    for one, answer in zip(objects, answers, strict=True):
        offered, last = one, answer
        while last.outcome is Outcome.SKIPPED and offered.sop_class_uid in FALLBACKS:
            refused = _give_way(last, FALLBACKS[offered.sop_class_uid])
            told.append(refused)
            offered = _store(site, claim, offered, refused)
            (last,) = send([offered])
        if last.outcome is Outcome.SKIPPED and one.kind is ResultKind.STRUCTURED_REPORT:
            # The report is what a destination is for; anything else is an extra.
            last = replace(last, outcome=Outcome.REFUSED)
        told.append(last)
    return tuple(told)


def _give_way(answer: InstanceStatus, sop_class_uid: str) -> InstanceStatus:
    comment = f"{answer.comment} It gets SOP class {sop_class_uid} instead."
    return replace(answer, outcome=Outcome.REPLACED, comment=comment)


def _store(
    site: Site, claim: ClaimedDelivery, offered: DeliverableObject, refused: InstanceStatus
) -> DeliverableObject:
    """Write the next variant, note it, and note that what was offered gives way to it."""
    sop_class_uid = FALLBACKS[offered.sop_class_uid]
    known = find_results(site.database, predecessor_variants(offered.path, sop_class_uid))
    result = write_variant(offered.path, offered.kind, sop_class_uid, known)
    stored = store_object(offered.path.parent, result)
    kept = ObjectStatus(
        refused.sop_instance_uid, refused.status, refused.outcome.value, refused.comment
    )
    add_variant(site.database, claim, stored, kept, utc_now())
    get_log().warning(
        "variant_stored",
        destination=claim.destination,
        delivery_id=claim.delivery_id,
        run_id=claim.run_id,
        detail=refused.comment,
    )
    return DeliverableObject(
        result.kind, result.sop_class_uid, result.sop_instance_uid, stored.path
    )
