"""The listening process: instances in, rows committed, notices to the audit."""

from __future__ import annotations

import hmac
import json
import os
import platform
import queue
import sys
import threading
from collections import OrderedDict
from typing import TYPE_CHECKING, Self

from screener.audit.events import EventKind, append_event
from screener.audit.group_commit import GroupRegistrar
from screener.audit.ledger import ReceivedInstance, Registration, known_digests
from screener.daemon.certificates import tls_files, warn_of_expiry
from screener.daemon.fail_points import FailPoint
from screener.daemon.sealing import trail_key
from screener.daemon.settling import settle_report
from screener.daemon.site import Site, open_site, utc_now
from screener.errors import ConfigError, DatabaseUnavailable
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
    from collections.abc import Callable
    from datetime import datetime
    from pathlib import Path

    from screener.settings import PeerSettings, Settings

#: Time for open associations to end when the listener stops, in seconds.
DRAIN_S = 15.0
#: Tells who waits that the listener accepts connections, and on which port.
READY_FILE = "listener.json"

#: Refused associations of one address for one reason: one event in so many seconds.
DAMPED_FOR_S = 60.0
#: Addresses and reasons that are remembered; the oldest is forgotten first.
MOST_DAMPED = 4096

#: How long a thread may compute before another association has its turn, in seconds. Work on an
#: instance is many short steps between calls that wait; with Python's 5 ms four associations
#: reached an eighth less.
TURN_S = 0.0005

#: Notices that may wait to be written; one more is counted and dropped.
MOST_WAITING_NOTICES = 1000
#: How often the process looks whether it should stop or read certificates again, in seconds.
LOOK_EVERY_S = 1.0
#: Looks between two checks of the age of certificates: once a day.
LOOKS_PER_EXPIRY_CHECK = int(86400 / LOOK_EVERY_S)

Notice = AssociationNotice | RefusalNotice

_KIND_OF_OUTCOME = {
    AssociationOutcome.REJECTED: EventKind.ASSOCIATION_REFUSED,
    AssociationOutcome.DROPPED: EventKind.ASSOCIATION_REFUSED,
    AssociationOutcome.ABORTED: EventKind.ASSOCIATION_BROKEN,
}


def listen(
    settings: Settings, stop: threading.Event, reload: threading.Event | None = None
) -> None:
    """Receive until `stop` is set, then let open associations end.

    Parameters
    ----------
    reload
        Set where the TLS files are to be read again.
    """
    sys.setswitchinterval(TURN_S)
    site = open_site(settings)
    spool = Spool(settings.spool_path, settings.spool.reserve_bytes)
    spool.prepare()
    salt = patient_id_salt(settings)
    registrar = GroupRegistrar(site.database, utc_now)
    _adopt(site, spool, salt)
    refusals = RefusalDamper()
    with NoticeWriter(lambda notice: _observe(site, refusals, notice)) as notices:
        hooks = ReceiverHooks(
            register=lambda arrival: register_arrival(site, arrival, registrar),
            observe=notices.put,
            now=utc_now,
            settle=lambda report: settle_report(site, report),
        )
        listener = Listener(listener_settings(settings), spool, hooks, salt)
        listener.start()
        ready_file = settings.data_path / READY_FILE
        _tell_ready(ready_file, listener)
        _record(site, EventKind.NODE_STARTED)
        get_log().info("listening", port=listener.port, ae_title=settings.node.ae_title)
        try:
            _watch(site, listener, stop, reload or threading.Event())
        finally:
            ready_file.unlink(missing_ok=True)
            listener.stop(DRAIN_S)
    _record(site, EventKind.NODE_STOPPED)


def _adopt(site: Site, spool: Spool, salt: bytes) -> None:
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


def _watch(site: Site, listener: Listener, stop: threading.Event, reload: threading.Event) -> None:
    """Wait for the end; read certificates again when asked, and look at their age now and then."""
    n_looks = 0
    while not stop.is_set():
        if n_looks % LOOKS_PER_EXPIRY_CHECK == 0:
            warn_of_expiry(site)
        n_looks += 1
        if reload.is_set():
            reload.clear()
            _reload(site, listener)
        stop.wait(LOOK_EVERY_S)


def _reload(site: Site, listener: Listener) -> None:
    try:
        listener.reload_tls()
    except ConfigError as error:
        get_log().error("certificates_refused", detail=error)
        _record(site, EventKind.CERTIFICATES_REFUSED, detail=str(error))
        return
    get_log().info("certificates_reloaded")
    _record(site, EventKind.CERTIFICATES_RELOADED)
    warn_of_expiry(site)


def listener_settings(settings: Settings) -> ListenerSettings:
    """Give the receiver's own settings from those of the site.

    Raises
    ------
    ConfigError
        A peer could never get in.
    """
    node = settings.node
    for peer in settings.peers:
        _check_way_in(peer, has_tls=bool(node.tls_port))
    return ListenerSettings(
        ae_title=node.ae_title,
        host=node.host,
        port=node.port,
        peers=tuple(_peer(peer) for peer in settings.peers),
        maximum_associations=node.maximum_associations,
        maximum_associations_per_peer=node.maximum_associations_per_peer,
        network_timeout_s=node.network_timeout_s,
        minimum_bytes_per_s=node.minimum_bytes_per_s,
        tls_files=tls_files(settings),
        tls_port=node.tls_port,
    )


def _check_way_in(peer: PeerSettings, *, has_tls: bool) -> None:
    if peer.allow_plain or (peer.has_certificate and has_tls):
        return
    if peer.has_certificate:
        raise ConfigError(
            f"peers: {peer.ae_title} has a certificate, but nothing listens for TLS; set "
            "node.tls_port and the files of node.tls_*"
        )
    raise ConfigError(
        f"peers: {peer.ae_title} has no way in; give certificate_sha256 or certificate_names for "
        "TLS, or say allow_plain = true where its network is trusted: DICOM without TLS is "
        "neither encrypted nor authenticated"
    )


def _peer(peer: PeerSettings) -> Peer:
    return Peer(
        peer.ae_title,
        parse_networks(peer.addresses),
        allow_plain=peer.allow_plain,
        certificate_sha256=frozenset(peer.certificate_sha256),
        certificate_names=frozenset(peer.certificate_names),
    )


def register_arrival(
    site: Site, arrival: Arrival, registrar: GroupRegistrar | None = None
) -> Registration:
    """Commit the row of one instance that was kept.

    Parameters
    ----------
    registrar
        Commits for several associations at once; None for a single one.
    """
    registrar = registrar or GroupRegistrar(site.database, utc_now)
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
    site.fail_points.reach(FailPoint.BEFORE_ROW)
    registration = registrar.register(received)
    site.fail_points.reach(FailPoint.AFTER_ROW)
    return registration


class NoticeWriter:
    """Writes notices in a thread of its own, so that no peer waits for the audit.

    What comes faster than it can be written is counted, and the count is logged.

    Parameters
    ----------
    write
        Writes one notice.
    """

    def __init__(self, write: Callable[[Notice], None]) -> None:
        self._write = write
        self._waiting: queue.Queue[Notice | None] = queue.Queue(MOST_WAITING_NOTICES)
        self._n_lost = 0
        self._thread = threading.Thread(target=self._run, name="notices", daemon=True)

    def put(self, notice: Notice) -> None:
        """Hand a notice over; never waits."""
        try:
            self._waiting.put_nowait(notice)
        except queue.Full:
            self._n_lost += 1

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Write what waits, then end."""
        self._waiting.put(None)
        self._thread.join()

    def _run(self) -> None:
        while (notice := self._waiting.get()) is not None:
            self._write(notice)
            if self._n_lost and self._waiting.empty():
                get_log().error("notices_lost", count=self._n_lost)
                self._n_lost = 0


class RefusalDamper:
    """Lets each kind of refusal through once a minute, so that a port scan cannot fill the audit.

    Health checks and scanners knock every few seconds; one event a minute per address and reason
    tells as much.
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


def _observe(site: Site, refusals: RefusalDamper, notice: Notice) -> None:
    """Write what was refused or broke off; what went well shows in the instances."""
    if isinstance(notice, RefusalNotice):
        kind = EventKind.INSTANCE_REFUSED
        payload = {
            "calling_ae_title": notice.calling_ae_title,
            "status": f"0x{notice.status:04X}",
            "reason": notice.reason,
        }
    elif notice.outcome in _KIND_OF_OUTCOME:
        if not refusals.lets_through(notice.address, notice.reason, notice.at):
            get_log().debug("refusal_damped", address=notice.address, reason=notice.reason)
            return
        kind = _KIND_OF_OUTCOME[notice.outcome]
        payload = {
            "calling_ae_title": notice.calling_ae_title,
            "called_ae_title": notice.called_ae_title,
            "address": notice.address,
            "reason": notice.reason,
        }
        if notice.rejection:
            payload["rejection"] = notice.rejection
    else:
        get_log().debug(
            "association", outcome=notice.outcome, calling_ae_title=notice.calling_ae_title
        )
        return
    get_log().warning(kind.value, **payload)
    try:
        with site.database.begin() as session:
            append_event(session, kind, notice.at, payload=payload)
    except DatabaseUnavailable:
        get_log().error("event_not_written", kind=kind.value)


def _record(site: Site, kind: EventKind, **more: str) -> None:
    payload = {"process": "listener", "host": platform.node(), **more}
    if kind in {EventKind.NODE_STARTED, EventKind.NODE_STOPPED}:
        payload["version"] = VERSION
    with site.database.begin() as session:
        append_event(session, kind, utc_now(), payload=payload)


def _tell_ready(path: Path, listener: Listener) -> None:
    part = path.with_suffix(".part")
    ready = {"port": listener.port, "tls_port": listener.tls_port, "pid": os.getpid()}
    part.write_text(json.dumps(ready), encoding="utf-8")
    part.replace(path)


def patient_id_salt(settings: Settings) -> bytes:
    """Derive the salt of patient digests from the site's key: one secret to keep."""
    return hmac.digest(trail_key(settings), b"patient id", "sha256")
