"""Look at a node from outside: what works, what does not, and how to mend it."""

from __future__ import annotations

import re
import shutil
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING

from screener.audit.database import Database
from screener.audit.quarantine import count_quarantined
from screener.daemon.certificates import certificate_ages, tls_files
from screener.daemon.listening import READY_FILE
from screener.daemon.site import archive_of, utc_now
from screener.daemon.tools import verify_models
from screener.daemon.watching import SPOOL_GONE, is_spool_gone
from screener.deliver.echo import EchoResult, echo
from screener.domain import DimseNode
from screener.enqueue import is_broker_reachable
from screener.errors import ScreenerError, WrongUse
from screener.receive.tls import server_context
from screener.settings import SQLITE_FILE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from models.registry import ModelFolder
    from screener.settings import PeerSettings, Settings

#: How long a look at the own port may take, in seconds.
PORT_TIMEOUT_S = 3.0

#: TCP ports end here.
LARGEST_PORT = 65535

_ADDRESS = re.compile(r"^(?P<ae_title>[^@]{1,16})@(?P<host>[^:]+):(?P<port>\d{1,5})$")


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at."""

    name: str
    is_ok: bool
    detail: str


def examine(settings: Settings, subjects: Sequence[str] = ()) -> list[Check]:
    """Check listener, disk, database, broker, models, destinations and peers.

    Parameters
    ----------
    subjects
        Which of `SUBJECTS` to look at; all when empty.

    Raises
    ------
    WrongUse
        A subject is none.
    """
    unknown = sorted(set(subjects) - set(SUBJECTS))
    if unknown:
        raise WrongUse(f"nothing to check under {unknown[0]!r}; there are: {', '.join(SUBJECTS)}")
    return [
        check
        for subject, look in SUBJECTS.items()
        if not subjects or subject in subjects
        for check in _guarded(subject, look, settings)
    ]


def echo_node(settings: Settings, node: str) -> EchoResult:
    """Ask a destination by name whether it answers, or send a C-ECHO to ``AE@HOST:PORT``.

    Raises
    ------
    WrongUse
        No destination has that name and it is no address.
    """
    for entry in settings.destinations:
        if entry.name == node:
            return archive_of(settings, entry).echo()
    for peer in settings.peers:
        if peer.ae_title == node and peer.query_port:
            return echo(
                DimseNode(
                    name=node,
                    ae_title=peer.ae_title,
                    host=peer.query_address,
                    port=peer.query_port,
                    calling_ae_title=settings.node.ae_title,
                )
            )
    match = _ADDRESS.match(node)
    if match is None or not 1 <= int(match["port"]) <= LARGEST_PORT:
        names = ", ".join(entry.name for entry in settings.destinations) or "none"
        raise WrongUse(
            f"{node} is neither a destination ({names}), nor a peer with a query_port, nor an "
            "address such as PACS@10.0.0.5:104 with a port from 1 to 65535"
        )
    return echo(
        DimseNode(
            name=node,
            ae_title=match["ae_title"],
            host=match["host"],
            port=int(match["port"]),
            calling_ae_title=settings.node.ae_title,
        )
    )


def _guarded(
    subject: str, look: Callable[[Settings], list[Check]], settings: Settings
) -> list[Check]:
    try:
        return look(settings)
    except ScreenerError as error:
        return [Check(subject, is_ok=False, detail=str(error))]


def _check_port(settings: Settings) -> list[Check]:
    node = settings.node
    host = "127.0.0.1" if node.host in {"0.0.0.0", "::"} else node.host  # noqa: S104
    port = node.port or _port_of_running_listener(settings)
    try:
        with socket.create_connection((host, port), PORT_TIMEOUT_S):
            return [
                Check("listener", is_ok=True, detail=f"{node.ae_title} listens on {host}:{port}")
            ]
    except OSError as error:
        mend = "start it with `screener serve` or `screener listen`"
        return [Check("listener", is_ok=False, detail=f"{host}:{port}: {error.strerror}; {mend}")]


def _port_of_running_listener(settings: Settings) -> int:
    ready_file = settings.data_path / READY_FILE
    match = re.search(r'"port": (\d+)', ready_file.read_text()) if ready_file.exists() else None
    return int(match[1]) if match else 0


def _check_disk(settings: Settings) -> list[Check]:
    if is_spool_gone(settings):
        return [Check("disk", is_ok=False, detail=SPOOL_GONE)]
    folder = settings.spool_path
    while not folder.exists():
        folder = folder.parent
    free_bytes = shutil.disk_usage(folder).free
    reserve_bytes = settings.spool.reserve_bytes
    detail = f"{free_bytes / 2**30:.1f} GiB free, reserve {reserve_bytes / 2**30:.1f} GiB"
    if free_bytes > reserve_bytes:
        return [Check("disk", is_ok=True, detail=detail)]
    return [Check("disk", is_ok=False, detail=f"{detail}: instances are refused; free some space")]


def _check_database(settings: Settings) -> list[Check]:
    if not settings.database.url and not (settings.data_path / SQLITE_FILE).exists():
        detail = "not there yet; `screener serve` or `screener db upgrade` makes it"
        return [Check("database", is_ok=False, detail=detail)]
    database = Database(settings.database_url)
    if database.is_current():
        return [Check("database", is_ok=True, detail="reachable, schema is current")]
    return [
        Check(
            "database", is_ok=False, detail="the schema is not current; run `screener db upgrade`"
        )
    ]


def _check_quarantine(settings: Settings) -> list[Check]:
    if not settings.database.url and not (settings.data_path / SQLITE_FILE).exists():
        return []  # said by the check of the database
    database = Database(settings.database_url)
    n_instances = count_quarantined(database) if database.is_current() else 0
    detail = (
        f"{n_instances} instances; `screener quarantine list` says why" if n_instances else "empty"
    )
    return [Check("quarantine", is_ok=True, detail=detail)]


def _check_broker(settings: Settings) -> list[Check]:
    if not settings.broker.url:
        return [Check("broker", is_ok=True, detail="none: workers poll the database")]
    if is_broker_reachable(settings):
        return [Check("broker", is_ok=True, detail="reachable")]
    return [Check("broker", is_ok=False, detail="not reachable; check broker.url and the server")]


def _check_models(settings: Settings) -> list[Check]:
    def pass_on(folders: Iterable[ModelFolder], description: str) -> Iterator[ModelFolder]:
        del description
        return iter(folders)

    verdicts = verify_models(settings, pass_on)
    return [Check(f"model {one.name}", is_ok=one.is_ok, detail=one.detail) for one in verdicts]


def _check_destinations(settings: Settings) -> list[Check]:
    if not settings.destinations:
        detail = "none: results stay here; add [[destinations]] to the settings"
        return [Check("destinations", is_ok=False, detail=detail)]
    results = ((entry, archive_of(settings, entry).echo()) for entry in settings.destinations)
    return [
        Check(f"destination {entry.name}", is_ok=result.is_ok, detail=result.detail)
        for entry, result in results
    ]


def _check_tls(settings: Settings) -> list[Check]:
    files = tls_files(settings)
    if files is None:
        plain = [peer.ae_title for peer in settings.peers if peer.allow_plain]
        detail = f"no TLS port; without encryption come: {', '.join(plain) or 'nobody'}"
        return [Check("TLS", is_ok=True, detail=detail)]
    server_context(files)
    return [
        Check(
            f"TLS {age.name}",
            is_ok=not age.is_due,
            detail=f"ends {age.expires_at:%Y-%m-%d}, {age.left.days} days left"
            + ("; renew it, then send SIGHUP" if age.is_due else ""),
        )
        for age in certificate_ages(files, utc_now())
    ]


def _check_peers(settings: Settings) -> list[Check]:
    if settings.peers:
        titles = ", ".join(f"{peer.ae_title} ({_ways_of(peer)})" for peer in settings.peers)
        return [Check("peers", is_ok=True, detail=f"may send: {titles}")]
    detail = "none: every association is refused; add [[peers]] to the settings"
    return [Check("peers", is_ok=False, detail=detail)]


def _ways_of(peer: PeerSettings) -> str:
    ways = [
        name for name, has in (("TLS", peer.has_certificate), ("plain", peer.allow_plain)) if has
    ]
    return " and ".join(ways)


#: What `examine` can look at, in the order in which it does.
SUBJECTS: Mapping[str, Callable[[Settings], list[Check]]] = {
    "listener": _check_port,
    "tls": _check_tls,
    "disk": _check_disk,
    "database": _check_database,
    "quarantine": _check_quarantine,
    "broker": _check_broker,
    "models": _check_models,
    "destinations": _check_destinations,
    "peers": _check_peers,
}
