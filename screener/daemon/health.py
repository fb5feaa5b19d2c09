"""``screener health``: alive, ready, and the numbers, by HTTP on loopback.

``/healthz``: this process answers. ``/readyz``: the node can take a study and bring it to its end;
503 and the reason where it cannot. ``/metrics``: for Prometheus. Reads alone; knows no other path.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

from screener.audit.books import newest_books
from screener.daemon.listening import READY_FILE
from screener.daemon.metrics import metrics_text
from screener.daemon.site import Site, open_site, utc_now
from screener.daemon.watching import COUNT_EVERY_S, SPOOL_GONE, free_bytes, is_spool_gone
from screener.enqueue import is_broker_reachable
from screener.errors import ConfigError, DatabaseUnavailable, ScreenerError
from screener.logs import get_log

if TYPE_CHECKING:
    import threading
    from pathlib import Path

    from screener.settings import Settings

#: Without an accounting for so long nobody schedules, in seconds.
BOOKS_LATE_AFTER_S = 3 * COUNT_EVERY_S
#: How long a client may take to ask, in seconds.
REQUEST_TIMEOUT_S = 5.0

_TEXT = "text/plain; version=0.0.4; charset=utf-8"
_JSON = "application/json"


@dataclass(frozen=True, slots=True)
class Readiness:
    """Whether the node can do its work, and what stands in the way."""

    checks: tuple[tuple[str, str], ...]  #: name, and what is wrong; empty where nothing is

    @property
    def is_ready(self) -> bool:
        """Nothing is wrong."""
        return not any(wrong for _, wrong in self.checks)


def answer_until_stopped(settings: Settings, stop: threading.Event) -> None:
    """Answer requests until `stop` is set.

    Raises
    ------
    ConfigError
        No port is set, or it cannot be used.
    """
    health = settings.health
    if not health.port:
        raise ConfigError("health.port: 0 answers nowhere; set a port, such as 9114")
    server = make_server(open_site(settings), health.host, health.port)
    get_log().info("health_answers", address=health.host, port=server.server_port)
    server.timeout = 0.5
    with server:
        while not stop.is_set():
            server.handle_request()


def make_server(site: Site, host: str, port: int) -> ThreadingHTTPServer:
    """Give a server that answers for this site; port 0 takes a free one.

    Raises
    ------
    ConfigError
        The address cannot be used.
    """

    class Handler(_Handler):
        of_site = site

    try:
        server = ThreadingHTTPServer((host, port), Handler)
    except OSError as error:
        raise ConfigError(
            f"health.port: {host}:{port} cannot be used ({error.strerror}); choose another"
        ) from error
    server.daemon_threads = True
    return server


def examine_readiness(site: Site) -> Readiness:
    """Look at database, scheduler, listener, disk, and the broker where there is one."""
    settings = site.settings
    return Readiness(
        (
            ("database and scheduler", _wrong_with_books(site)),
            ("listener", _wrong_with_listener(settings.data_path / READY_FILE)),
            ("disk", _wrong_with_disk(settings)),
            *([("broker", _wrong_with_broker(settings))] if settings.broker.url else []),
        )
    )


def _wrong_with_books(site: Site) -> str:
    try:
        books = newest_books(site.database)
    except DatabaseUnavailable:
        return "the database cannot be read"
    if books is None:
        return "the books were never counted; does the scheduler run?"
    age_s = (utc_now() - books.checked_at).total_seconds()
    if age_s > BOOKS_LATE_AFTER_S:
        return f"the books were counted {age_s:.0f} s ago; does the scheduler run?"
    return "" if books.is_balanced else "the books are not balanced: screener doctor --accounting"


def _wrong_with_listener(ready_file: Path) -> str:
    try:
        pid = int(json.loads(ready_file.read_text(encoding="utf-8"))["pid"])
        os.kill(pid, 0)
    except PermissionError:
        return ""  # it runs, under another account
    except (OSError, ValueError, KeyError):
        return "no listener runs on this machine"
    return ""


def _wrong_with_disk(settings: Settings) -> str:
    if is_spool_gone(settings):
        return SPOOL_GONE
    is_below = free_bytes(settings.spool_path) <= settings.spool.reserve_bytes
    return "below the reserve: senders are refused" if is_below else ""


def _wrong_with_broker(settings: Settings) -> str:
    return "" if is_broker_reachable(settings) else "it cannot be reached: nobody is rung for"


class _Handler(BaseHTTPRequestHandler):
    """Three paths, GET and HEAD, nothing read but the request line and its headers."""

    of_site: Site
    server_version = "screener"
    sys_version = ""
    timeout = REQUEST_TIMEOUT_S

    def do_GET(self) -> None:
        """Answer one of the three paths."""
        status, kind, body = self._answer(self.path.partition("?")[0])
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_HEAD = do_GET  # noqa: N815  the library's name

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  the library's name
        """Say nothing: the library would print what a client sent."""

    def _answer(self, path: str) -> tuple[HTTPStatus, str, bytes]:
        if path == "/healthz":
            return HTTPStatus.OK, _JSON, b'{"status": "alive"}\n'
        if path == "/readyz":
            return self._readiness()
        if path == "/metrics":
            try:
                return HTTPStatus.OK, _TEXT, metrics_text(self.of_site)
            except ScreenerError as error:
                get_log().warning("metrics_not_measured", error=type(error).__name__)
                return HTTPStatus.SERVICE_UNAVAILABLE, _TEXT, b""
        return HTTPStatus.NOT_FOUND, _JSON, b'{"status": "there is /healthz /readyz /metrics"}\n'

    def _readiness(self) -> tuple[HTTPStatus, str, bytes]:
        readiness = examine_readiness(self.of_site)
        status = HTTPStatus.OK if readiness.is_ready else HTTPStatus.SERVICE_UNAVAILABLE
        said = {
            "status": "ready" if readiness.is_ready else "not ready",
            "checks": {name: wrong or "ok" for name, wrong in readiness.checks},
        }
        return status, _JSON, json.dumps(said).encode() + b"\n"
