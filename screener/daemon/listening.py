"""The listening process: instances in, rows committed, notices to the audit."""

from __future__ import annotations

import hmac
import json
import os
import platform
import threading
from collections import OrderedDict
from typing import TYPE_CHECKING

from screener.audit.events import EventKind, append_event
from screener.audit.ledger import ReceivedInstance, Registration, known_digests, register_instance
from screener.daemon.commitments import settle_report
from screener.daemon.sealing import trail_key
from screener.daemon.site import Site, open_site, utc_now
from screener.errors import DatabaseUnavailable
from screener.logs import get_log
from screener.receive.adopt import adopt_orphans
from screener.receive.arrival import AssociationNotice, AssociationOutcome, RefusalNotice
from screener.receive.arrival import ReceivedInstance as Arrival
from screener.receive.handlers import ReceiverHooks
from screener.receive.peers import Peer, parse_networks
from screener.receive.scp import Listener, ListenerSettings
from screener.receive.spool import Spool
from screener.version import VERSION

if TYPE_CHECKING:
    from datetime import datetime
    from pathlib import Path

    from screener.settings import Settings

#: Time for open associations to end when the listener stops, in seconds.
DRAIN_S = 15.0
#: Tells who waits that the listener accepts connections, and on which port.
READY_FILE = "listener.json"

#: Refused associations of one address for one reason: one event in so many seconds.
DAMPED_FOR_S = 60.0
#: Addresses and reasons that are remembered; the oldest is forgotten first.
MOST_DAMPED = 4096

_REFUSALS = frozenset({AssociationOutcome.REJECTED, AssociationOutcome.DROPPED})


def listen(settings: Settings, stop: threading.Event) -> None:
    """Receive until `stop` is set, then let open associations end."""
    site = open_site(settings)
    spool = Spool(settings.spool_path, settings.spool.reserve_bytes)
    salt = patient_id_salt(settings)
    adoption = adopt_orphans(
        spool,
        lambda digests: known_digests(site.database, digests),
        lambda arrival: register_arrival(site, arrival),
        salt,
    )
    if adoption.n_adopted or adoption.damaged:
        get_log().warning("orphans_adopted", count=adoption.n_adopted)
    for path in adoption.damaged:
        get_log().error("spool_file_damaged", path=path)
    refusals = RefusalDamper()
    hooks = ReceiverHooks(
        register=lambda arrival: register_arrival(site, arrival),
        observe=lambda notice: _observe(site, refusals, notice),
        now=utc_now,
        settle=lambda report: settle_report(site, report),
    )
    listener = Listener(listener_settings(settings), spool, hooks, salt)
    listener.start()
    ready_file = settings.data_path / READY_FILE
    _tell_ready(ready_file, listener.port)
    _record(site, EventKind.NODE_STARTED)
    get_log().info("listening", port=listener.port, ae_title=settings.node.ae_title)
    try:
        stop.wait()
    finally:
        ready_file.unlink(missing_ok=True)
        listener.stop(DRAIN_S)
        _record(site, EventKind.NODE_STOPPED)


def listener_settings(settings: Settings) -> ListenerSettings:
    """Give the receiver's own settings from those of the site."""
    node = settings.node
    return ListenerSettings(
        ae_title=node.ae_title,
        host=node.host,
        port=node.port,
        peers=tuple(Peer(peer.ae_title, parse_networks(peer.addresses)) for peer in settings.peers),
        maximum_associations=node.maximum_associations,
        maximum_associations_per_peer=node.maximum_associations_per_peer,
        dimse_timeout_s=node.network_timeout_s,
        network_timeout_s=node.network_timeout_s,
    )


def register_arrival(site: Site, arrival: Arrival) -> Registration:
    """Commit the row of one instance that was kept."""
    header = arrival.header
    title = arrival.instance.calling_ae_title
    received = ReceivedInstance(
        instance=arrival.instance,
        modality=header.modality,
        study_date=header.study_date,
        patient_id_digest="" if header.is_patient_id_empty else header.patient_id_digest,
        n_bytes=arrival.n_bytes,
        is_non_conformant=header.is_non_conformant,
        is_own_result=header.is_own_result,
        quarantine_reason=header.quarantine_reason.value if header.quarantine_reason else None,
        is_stat=any(
            peer.ae_title == title and peer.priority == "stat" for peer in site.settings.peers
        ),
    )
    return register_instance(site.database, received, utc_now())


class RefusalDamper:
    """Lets each kind of refusal through once a minute, so that a port scan cannot fill the audit.

    Health checks and scanners knock every few seconds; one event a minute per address and reason
    tells as much. How many were held back stands in the log.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._last_at: OrderedDict[tuple[str, str], datetime] = OrderedDict()

    def lets_through(self, address: str, reason: str, now: datetime) -> bool:
        """Say whether this refusal is worth an event of its own."""
        key = (address, reason)
        with self._lock:
            last_at = self._last_at.get(key)
            if last_at is not None and (now - last_at).total_seconds() < DAMPED_FOR_S:
                return False
            self._last_at[key] = now
            self._last_at.move_to_end(key)
            while len(self._last_at) > MOST_DAMPED:
                self._last_at.popitem(last=False)
            return True


def _observe(
    site: Site, refusals: RefusalDamper, notice: AssociationNotice | RefusalNotice
) -> None:
    """Write what was refused to the audit; what went well shows in the instances."""
    if isinstance(notice, RefusalNotice):
        kind = EventKind.INSTANCE_REFUSED
        payload = {
            "calling_ae_title": notice.calling_ae_title,
            "status": f"0x{notice.status:04X}",
            "reason": notice.reason,
        }
    elif notice.outcome in _REFUSALS:
        if not refusals.lets_through(notice.address, notice.reason, notice.at):
            get_log().info("refusal_damped", address=notice.address, reason=notice.reason)
            return
        kind = EventKind.ASSOCIATION_REFUSED
        payload = {
            "calling_ae_title": notice.calling_ae_title,
            "called_ae_title": notice.called_ae_title,
            "address": notice.address,
            "reason": notice.reason,
        }
    else:
        return
    get_log().warning(kind.value, **payload)
    try:
        with site.database.begin() as session:
            append_event(session, kind, notice.at, payload=payload)
    except DatabaseUnavailable:
        get_log().error("event_not_written", kind=kind.value)


def _record(site: Site, kind: EventKind) -> None:
    payload = {"process": "listener", "version": VERSION, "host": platform.node()}
    with site.database.begin() as session:
        append_event(session, kind, utc_now(), payload=payload)


def _tell_ready(path: Path, port: int) -> None:
    part = path.with_suffix(".part")
    part.write_text(json.dumps({"port": port, "pid": os.getpid()}), encoding="utf-8")
    part.replace(path)


def patient_id_salt(settings: Settings) -> bytes:
    """Derive the salt of patient digests from the site's key: one secret to keep."""
    return hmac.digest(trail_key(settings), b"patient id", "sha256")
