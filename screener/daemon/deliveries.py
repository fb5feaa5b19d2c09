"""Bring results to their destinations, each by itself: a dead one never holds up another.

Embedded, every destination has a thread that polls; with a broker, a task comes for each delivery.
Both run the same claim, the same sending, the same asking afterwards whether it arrived.
"""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

from screener.audit.deliveries import (
    ClaimedDelivery,
    ObjectStatus,
    claim_confirmation,
    claim_delivery,
    confirm_delivery,
    extend_delivery,
    fail_delivery,
    finish_delivery,
    postpone_confirmation,
    retry_delivery,
)
from screener.daemon.commitments import ask_to_commit, delivery_policy
from screener.daemon.deadline import ended_if_stuck
from screener.daemon.fail_points import FailPoint
from screener.daemon.lease import kept_alive
from screener.daemon.settling import ARRIVED
from screener.daemon.site import Site, archive_of, open_site, utc_now
from screener.daemon.stored_files import damaged_results
from screener.daemon.variants import offer_variants
from screener.deliver.scu import DeliverableObject, InstanceStatus
from screener.destinations import DimseDestinationSettings
from screener.domain import Outcome
from screener.errors import (
    DestinationRefused,
    DestinationUnavailable,
    LostClaim,
    ScreenerError,
    Transient,
)
from screener.logs import get_log

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from screener.settings import DestinationSettings, Settings


#: How often the threads of the destinations are looked at, in seconds.
LOOK_EVERY_S = 1.0
#: A destination that takes fewer bytes in a second than this hangs: a slow line, 256 kbit/s.
SLOWEST_BYTES_PER_S = 32 * 1024.0
#: Beside its content a delivery may take so many time limits of its destination for each object.
TIMEOUTS_PER_OBJECT = 2.0


def send_until_stopped(settings: Settings, stop: threading.Event) -> None:
    """Serve every destination from its own thread until `stop` is set; without a broker."""
    site = open_site(settings)
    threads = [
        threading.Thread(target=_serve_destination, args=(site, entry, stop), name=entry.name)
        for entry in settings.destinations
    ]
    for thread in threads:
        thread.start()
    while not stop.wait(LOOK_EVERY_S) and all(thread.is_alive() for thread in threads):
        pass
    ended = [thread.name for thread in threads if not thread.is_alive() and not stop.is_set()]
    stop.set()
    for thread in threads:
        thread.join()
    if ended:  # whoever supervises starts the process, and with it the thread, again
        raise ScreenerError(f"the sender of {', '.join(ended)} ended by itself")


def deliver(site: Site, delivery_id: str) -> None:
    """Work on one delivery that somebody rang for, if it can be claimed."""
    _send_next(site, delivery_id, names=None)


def confirm_sent(site: Site) -> None:
    """Ask the destinations of sent, unconfirmed deliveries whether they hold the results."""
    for entry in site.settings.destinations:
        while _confirm_next(site, entry):
            pass


def _serve_destination(site: Site, entry: DestinationSettings, stop: threading.Event) -> None:
    while not stop.is_set():
        try:
            did_work = _send_next(site, None, names=(entry.name,)) or _confirm_next(site, entry)
        except Transient as error:
            get_log().warning("sender_waits", reason=type(error).__name__)
            did_work = False
        if not did_work:
            stop.wait(site.settings.workers.poll_s)


def _send_next(site: Site, delivery_id: str | None, names: Sequence[str] | None) -> bool:
    claim = claim_delivery(
        site.database,
        delivery_id,
        site.owner,
        site.settings.delivery.lease_s,
        utc_now(),
        destinations=names,
    )
    if claim is None:
        return False
    with _held(site, claim, "delivery"):
        _send(site, claim)
    return True


@contextmanager
def _held(site: Site, claim: ClaimedDelivery, what: str) -> Iterator[None]:
    """Keep a claim while the block works on it; end the process where that hangs."""
    lease_s = site.settings.delivery.lease_s

    def extend() -> None:
        extend_delivery(site.database, claim, lease_s, utc_now())

    try:
        with kept_alive(extend, lease_s), ended_if_stuck(_longest_s(site, claim), what):
            yield
    except LostClaim:
        get_log().warning("delivery_lost", delivery_id=claim.delivery_id)


def _send(site: Site, claim: ClaimedDelivery) -> None:
    entry = _entry(site.settings, claim.destination)
    if entry is None:
        detail = "the settings no longer name this destination; add it and use `screener retry`"
        fail_delivery(site.database, claim, detail, utc_now())
        return
    if wrong := _wrong_with(claim):
        _warn("delivery_stopped", claim, wrong)
        fail_delivery(site.database, claim, wrong, utc_now())
        return
    objects = [
        DeliverableObject(one.kind, one.sop_class_uid, one.sop_instance_uid, one.path)
        for one in claim.objects
        if one.last_outcome != Outcome.REPLACED
    ]
    send = archive_of(site.settings, entry).store
    site.fail_points.reach(FailPoint.BEFORE_SEND)
    try:
        answers = offer_variants(site, claim, objects, send(objects), send)
    except DestinationUnavailable as error:
        _warn("delivery_postponed", claim, str(error))
        policy = delivery_policy(site, error)
        retry_delivery(site.database, claim, str(error), utc_now(), policy)
        return
    except DestinationRefused as error:
        _warn("delivery_stopped", claim, str(error))
        fail_delivery(site.database, claim, str(error), utc_now())
        return
    site.fail_points.reach(FailPoint.AFTER_SEND)
    _judge(site, entry, claim, answers)


def _wrong_with(claim: ClaimedDelivery) -> str:
    """Say why this delivery must not be sent; empty where it may."""
    if not claim.objects:
        return "its rows name no object to send: a table was edited; use `screener reprocess`"
    damaged = damaged_results(claim.objects)
    if not damaged:
        return ""
    return (
        f"{len(damaged)} result files are gone or are not what was stored, the first {damaged[0]}; "
        "restore them and use `screener retry`, or `screener reprocess`"
    )


def _judge(
    site: Site,
    entry: DestinationSettings,
    claim: ClaimedDelivery,
    answers: Sequence[InstanceStatus],
) -> None:
    statuses = [
        ObjectStatus(one.sop_instance_uid, one.status, one.outcome.value, one.comment)
        for one in answers
    ]
    refused = [one for one in answers if one.outcome is Outcome.REFUSED]
    if refused:
        _warn("delivery_stopped", claim, _say(refused))
        fail_delivery(site.database, claim, _say(refused), utc_now(), statuses=statuses)
        return
    waiting = [one for one in answers if one.outcome is Outcome.RETRY]
    if waiting:
        detail = _say(waiting)
        _warn("delivery_postponed", claim, detail)
        retry_delivery(
            site.database, claim, detail, utc_now(), delivery_policy(site), statuses=statuses
        )
        return
    finish_delivery(site.database, claim, statuses, utc_now())
    site.fail_points.reach(FailPoint.AFTER_SENT)
    get_log().info("results_sent", destination=claim.destination, run_id=claim.run_id)
    _confirm_next(site, entry)


def _confirm_next(site: Site, entry: DestinationSettings) -> bool:
    if entry.confirm == "none":
        return False
    claim = claim_confirmation(
        site.database, (entry.name,), site.owner, site.settings.delivery.lease_s, utc_now()
    )
    if claim is None:
        return False
    with _held(site, claim, "confirmation"):
        _confirm(site, entry, claim)
    return True


def _confirm(site: Site, entry: DestinationSettings, claim: ClaimedDelivery) -> None:
    if not claim.objects:  # none of none is no proof
        retry_delivery(site.database, claim, _wrong_with(claim), utc_now(), delivery_policy(site))
        return
    sent = [
        DeliverableObject(one.kind, one.sop_class_uid, one.sop_instance_uid, one.path)
        for one in claim.objects
        if one.last_outcome in {outcome.value for outcome in ARRIVED}
    ]
    before = ""
    if not isinstance(entry, DimseDestinationSettings):
        pass  # DICOMweb has no storage commitment
    elif claim.commitment_uid is not None:
        before = f"no result of the commitment within {entry.commitment_timeout_s:g} s; "
    elif entry.confirm == "commitment" and sent:
        try:
            ask_to_commit(site, entry, claim, sent)
        except DestinationRefused as error:
            before = f"{error}; "
        else:
            return
    _confirm_by_query(site, entry, claim, sent, before)


def _confirm_by_query(
    site: Site,
    entry: DestinationSettings,
    claim: ClaimedDelivery,
    sent: Sequence[DeliverableObject],
    before: str,
) -> None:
    archive = archive_of(site.settings, entry)
    try:
        held = archive.confirm(sent)
    except (DestinationUnavailable, DestinationRefused) as error:
        detail = f"{before}{error}"
        _warn("confirmation_postponed", claim, detail)
        policy = delivery_policy(site, error)
        postpone_confirmation(site.database, claim, detail, utc_now(), policy)
        return
    detail = f"{before}{archive.query_service} lists {len(held)} of {len(sent)} objects"
    if len(held) == len(sent):
        confirm_delivery(site.database, claim, detail, utc_now())
        get_log().info("results_confirmed", destination=claim.destination, run_id=claim.run_id)
        return
    detail = f"{detail}; they are sent again"
    _warn("delivery_postponed", claim, detail)
    retry_delivery(site.database, claim, detail, utc_now(), delivery_policy(site))


def _say(answers: Sequence[InstanceStatus]) -> str:
    first = answers[0]
    status = "no status" if first.status is None else f"0x{first.status:04X}"
    return f"{len(answers)} objects not stored; the first: {status} {first.comment}".strip()


def _longest_s(site: Site, claim: ClaimedDelivery) -> float:
    """Give how long a delivery may take: what its content takes on a slow line, and its waits."""
    entry = _entry(site.settings, claim.destination)
    timeout_s = entry.timeout_s if entry else 0.0
    n_bytes = sum(one.path.stat().st_size for one in claim.objects if one.path.is_file())
    waits_s = TIMEOUTS_PER_OBJECT * timeout_s * (1 + len(claim.objects))
    return site.settings.delivery.lease_s + waits_s + n_bytes / SLOWEST_BYTES_PER_S


def _entry(settings: Settings, name: str) -> DestinationSettings | None:
    return next((entry for entry in settings.destinations if entry.name == name), None)


def _warn(event: str, claim: ClaimedDelivery, detail: str) -> None:
    get_log().warning(
        event,
        destination=claim.destination,
        delivery_id=claim.delivery_id,
        run_id=claim.run_id,
        attempt=claim.attempt,
        detail=detail,
    )
