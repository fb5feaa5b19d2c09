"""The listening sockets: who connects is judged before a byte is read or a thread is started.

One thread accepts, and nothing a peer does can hold it up: the TLS handshake happens in the
thread of the connection, with a deadline.
"""

from __future__ import annotations

import selectors
import socket
import ssl
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog

from screener.receive.arrival import AssociationOutcome
from screener.receive.association import AcceptedAssociation, Services
from screener.receive.limits import plain_address
from screener.receive.peers import Origin
from screener.receive.tls import peer_certificate
from screener.receive.wire import Wire

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from screener.receive.limits import ConnectionLimits

#: Connections that may wait to be accepted.
LISTEN_BACKLOG = 128
#: A peer that vanished is noticed after about this many seconds, idle or sending.
_KEEPALIVE_IDLE_S, _KEEPALIVE_EVERY_S, _KEEPALIVE_PROBES = 30, 10, 3
#: How long accepting pauses where the process or the machine has no more descriptors, in seconds.
_EXHAUSTED_PAUSE_S = 0.2


@dataclass(frozen=True, slots=True)
class Door:
    """One listening socket."""

    socket: socket.socket
    is_known_address: Callable[[str], bool]  #: whether any peer may come this way from there
    context: Callable[[], ssl.SSLContext] | None  #: gives the newest TLS context; None: plain

    @property
    def port(self) -> int:
        """The port it listens on."""
        return int(self.socket.getsockname()[1])


def open_socket(host: str, port: int) -> socket.socket:
    """Bind and listen; IPv6 where the address is one.

    Raises
    ------
    OSError
        The address cannot be used.
    """
    family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
    return socket.create_server((host, port), family=family, backlog=LISTEN_BACKLOG)


class Server:
    """Accepts connections on its doors and runs an association on each.

    Parameters
    ----------
    doors
        Listening sockets; closed by `stop_accepting`.
    limits
        Most connections, of all doors together.
    services
        What every association works with.
    """

    def __init__(self, doors: Sequence[Door], limits: ConnectionLimits, services: Services) -> None:
        self._doors = tuple(doors)
        self._limits = limits
        self._services = services
        self._wake_reader, self._wake_writer = socket.socketpair()
        self._is_stopping = threading.Event()
        self._thread = threading.Thread(target=self._accept_all, name="listener", daemon=True)
        self._lock = threading.Lock()
        self._wires: set[Wire] = set()

    def start(self) -> None:
        """Accept connections from now on."""
        self._thread.start()

    def stop_accepting(self) -> None:
        """End the accept loop and close its sockets; open associations go on."""
        self._is_stopping.set()
        self._wake_writer.send(b"x")
        self._thread.join()
        for closing in (self._wake_reader, self._wake_writer):
            closing.close()

    def interrupt_all(self) -> None:
        """Break every open connection off."""
        with self._lock:
            wires = tuple(self._wires)
        for wire in wires:
            wire.interrupt()

    # ── the accepting thread ─────────────────────────────────────────────────────────────────

    def _accept_all(self) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(self._wake_reader, selectors.EVENT_READ)
            for door in self._doors:
                door.socket.setblocking(False)
                selector.register(door.socket, selectors.EVENT_READ, door)
            while not self._is_stopping.is_set():
                for key, _ in selector.select():
                    if isinstance(key.data, Door):
                        self._accept(key.data)
        for door in self._doors:
            door.socket.close()

    def _accept(self, door: Door) -> None:
        try:
            connection, peer = door.socket.accept()
        except (BlockingIOError, ConnectionError):
            return  # gone again
        except OSError:
            self._is_stopping.wait(_EXHAUSTED_PAUSE_S)  # no descriptors; others will end
            return
        address = plain_address(peer[0])
        is_known = door.is_known_address(address)
        reason = self._limits.enter(address) if is_known else "unknown address"
        if reason:
            connection.close()
            self._services.handlers.note(AssociationOutcome.DROPPED, Origin(address), reason=reason)
            return
        thread = threading.Thread(
            target=self._run, args=(door, connection, address), name="association", daemon=True
        )
        try:
            thread.start()
        except RuntimeError:  # the system gives no more threads; others will end
            connection.close()
            self._limits.leave(address)

    # ── the thread of one connection ─────────────────────────────────────────────────────────

    def _run(self, door: Door, connection: socket.socket, address: str) -> None:
        try:
            _set_options(connection)
            served = self._secured(door, connection, address)
            if served is not None:
                self._serve(*served)
        except OSError:
            return  # gone before it began
        except Exception as error:  # noqa: BLE001 - the boundary of a connection's thread
            # The class only: the text of an unknown error may hold what a peer sent.
            structlog.get_logger().error("association_failed", error=type(error).__name__)
        finally:
            connection.close()
            self._limits.leave(address)

    def _secured(
        self, door: Door, connection: socket.socket, address: str
    ) -> tuple[socket.socket, Origin] | None:
        """Give the connection to read from, and who is on it; None where TLS failed."""
        if door.context is None:
            return connection, Origin(address)
        connection.settimeout(self._services.policy.negotiation_s)
        try:
            secured = door.context().wrap_socket(
                connection, server_side=True, do_handshake_on_connect=False
            )
        except OSError:
            return None
        try:
            secured.do_handshake()  # its time-out is for the whole handshake
            return secured, Origin(address, peer_certificate(secured))
        except OSError as error:
            secured.close()
            reason = f"TLS failed: {_tls_reason(error)}"
            self._services.handlers.note(AssociationOutcome.DROPPED, Origin(address), reason=reason)
            return None

    def _serve(self, connection: socket.socket, origin: Origin) -> None:
        wire = Wire(connection)
        with self._lock:
            self._wires.add(wire)
        try:
            AcceptedAssociation(wire, origin, self._services).run()
        finally:
            with self._lock:
                self._wires.discard(wire)


def _set_options(connection: socket.socket) -> None:
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, _KEEPALIVE_IDLE_S)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, _KEEPALIVE_EVERY_S)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, _KEEPALIVE_PROBES)


def _tls_reason(error: OSError) -> str:
    """Name a failed handshake in fixed words: OpenSSL's own, which hold no value of the peer."""
    if isinstance(error, TimeoutError):
        return "no handshake in time"
    if isinstance(error, ssl.SSLCertVerificationError):
        return error.verify_message
    if isinstance(error, ssl.SSLError):
        return (error.reason or type(error).__name__).lower().replace("_", " ")
    return "the connection was lost"
