"""DICOMweb services to speak to: Orthanc with its plugin, and one that follows a script."""

from __future__ import annotations

import contextlib
import socket
import socketserver
import ssl
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import trustme

from screener.domain import WebNode
from tests.integration.conftest import PATIENCE_S

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

DICOM_JSON = {"Content-Type": "application/dicom+json"}


@dataclass
class Asked:
    """One request as it came."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


@dataclass
class Exchange:
    """A request, and what the script may do with its connection."""

    asked: Asked
    handler: BaseHTTPRequestHandler

    def answer(self, status: int, body: bytes = b"", headers: dict[str, str] | None = None) -> None:
        self.handler.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            self.handler.send_header(name, value)
        self.handler.end_headers()
        self.handler.wfile.write(body)


@dataclass
class ScriptedService:
    """What a running script heard."""

    port: int
    scheme: str = "http"
    asked: list[Asked] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"{self.scheme}://localhost:{self.port}/dicom-web"


@contextmanager
def scripted_service(
    script: Callable[[Exchange], None], context: ssl.SSLContext | None = None
) -> Iterator[ScriptedService]:
    """Run an HTTP server that does with every request what `script` says."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        timeout = PATIENCE_S

        def _serve(self) -> None:
            n_bytes = int(self.headers.get("Content-Length", 0))
            asked = Asked(
                self.command, self.path, dict(self.headers.items()), self.rfile.read(n_bytes)
            )
            service.asked.append(asked)
            script(Exchange(asked, self))

        do_GET = do_POST = _serve  # noqa: N815 - the library's names

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the library's name
            """Say nothing."""

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, request: Any, client_address: Any) -> None:
            """Say nothing: broken connections are what is tested."""

    server = Server(("localhost", 0), Handler)
    service = ScriptedService(server.server_address[1])
    if context is not None:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        service.scheme = "https"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield service
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextmanager
def tls_front(port: int, context: ssl.SSLContext) -> Iterator[int]:
    """Speak TLS in front of a plain port of this machine, as sites do; gives the port of it.

    Orthanc 1.10.1 of Debian 12 ends with a segmentation fault on its first HTTPS connection: its
    web server is built for an older OpenSSL.
    """

    class Relay(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            outside = context.wrap_socket(self.request, server_side=True)
            with outside, socket.create_connection(("127.0.0.1", port)) as inside:
                back = threading.Thread(target=_copy, args=(inside, outside), daemon=True)
                back.start()
                _copy(outside, inside)
                back.join(PATIENCE_S)

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = True

        def handle_error(self, request: Any, client_address: Any) -> None:
            """Say nothing: refused handshakes are what is tested."""

    with Server(("127.0.0.1", 0), Relay) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join()


def _copy(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while chunk := source.recv(65536):
            target.sendall(chunk)
    with contextlib.suppress(OSError):
        target.shutdown(socket.SHUT_WR)


def web_node(url: str, *, timeout_s: float = PATIENCE_S, **files: Path) -> WebNode:
    return WebNode("archive", url, timeout_s=timeout_s, **files)  # type: ignore[arg-type]


@dataclass(frozen=True, slots=True)
class SiteKeys:
    """The authority of a site, a certificate for its server and one for us, as PEM files."""

    ca_file: Path
    server_file: Path  #: certificate and key
    certificate_file: Path
    key_file: Path

    def server_context(self, *, wants_certificate: bool) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.server_file)
        context.load_verify_locations(self.ca_file)
        context.verify_mode = ssl.CERT_REQUIRED if wants_certificate else ssl.CERT_NONE
        return context


def make_site_keys(folder: Path, *hosts: str) -> SiteKeys:
    """Make an authority and what it signs; the server is on this machine unless it is named."""
    authority = trustme.CA(organization_name="Site")
    server = authority.issue_cert(*(hosts or ("localhost", "127.0.0.1")))
    client = authority.issue_cert("screener.example")
    keys = SiteKeys(*(folder / f"{name}.pem" for name in ("ca", "server", "client", "client-key")))
    authority.cert_pem.write_to_path(keys.ca_file)
    server.private_key_and_cert_chain_pem.write_to_path(keys.server_file)
    client.cert_chain_pems[0].write_to_path(keys.certificate_file)
    client.private_key_pem.write_to_path(keys.key_file)
    return keys
