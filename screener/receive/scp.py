"""Build the listening node, start it, stop it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from screener.errors import ConfigError
from screener.receive.association import AssociationPolicy, Services
from screener.receive.commitment import CommitmentHandlers
from screener.receive.handlers import ReceiveHandlers, ReceiverHooks
from screener.receive.limits import AssociationCounter, ConnectionLimits
from screener.receive.peers import Peer, PeerList
from screener.receive.server import Door, Server, open_socket
from screener.receive.tls import TlsFiles, server_context

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable

    from screener.receive.spool import Spool

#: How long an interrupted association may take to end, in seconds.
_ABORT_S = 5.0
#: Connections beyond the associations that may be open: they are told why they cannot be.
_HEADROOM = 8


@dataclass(frozen=True, slots=True)
class ListenerSettings:
    """How the node presents itself and whom it lets in."""

    ae_title: str
    host: str
    port: int  #: 0 takes a free one; see `Listener.port`
    peers: tuple[Peer, ...] = ()
    is_open_to_all: bool = False  #: no check of calling AE title and address
    max_pdu_bytes: int = 128 * 1024  #: longest PDU that we announce
    maximum_associations: int = 64
    maximum_associations_per_peer: int = 16  #: per IP address
    acse_timeout_s: float = 10.0  #: for the TLS handshake, and again for the association request
    network_timeout_s: float = 30.0  #: an idle association, or one PDU, may take this long
    minimum_bytes_per_s: float = 2048.0  #: of a message that is being received
    tls_files: TlsFiles | None = None  #: None: no TLS port
    tls_port: int = 0  #: 0 takes a free one; see `Listener.tls_port`


class Listener:
    """One listening DICOM node.

    Parameters
    ----------
    settings
        Addresses, limits and peers.
    spool
        Where instances are kept.
    hooks
        Registration, audit and clock.
    patient_id_salt
        Key of the Patient ID digest.

    Examples
    --------
    >>> listener = Listener(settings, spool, hooks, salt)  # doctest: +SKIP
    >>> listener.start()  # doctest: +SKIP
    >>> listener.stop(drain_s=20)  # doctest: +SKIP
    """

    def __init__(
        self,
        settings: ListenerSettings,
        spool: Spool,
        hooks: ReceiverHooks,
        patient_id_salt: bytes,
    ) -> None:
        peers = PeerList(settings.peers, is_open_to_all=settings.is_open_to_all)
        self._settings = settings
        self._services = Services(
            handlers=ReceiveHandlers(settings.ae_title, peers, spool, hooks, patient_id_salt),
            commitment=CommitmentHandlers(hooks.settle),
            spool=spool,
            counter=AssociationCounter(
                settings.maximum_associations, settings.maximum_associations_per_peer
            ),
            policy=AssociationPolicy(
                maximum_pdu_bytes=settings.max_pdu_bytes,
                negotiation_s=settings.acse_timeout_s,
                idle_s=settings.network_timeout_s,
                minimum_bytes_per_s=settings.minimum_bytes_per_s,
            ),
        )
        self._peers = peers
        self._limits = ConnectionLimits(
            settings.maximum_associations + _HEADROOM,
            settings.maximum_associations_per_peer + _HEADROOM,
        )
        self._context: ssl.SSLContext | None = None
        self._plain_door: Door | None = None
        self._tls_door: Door | None = None
        self._server: Server | None = None

    @property
    def port(self) -> int:
        """The plain port it listens on; 0 before `start`."""
        return self._plain_door.port if self._plain_door else 0

    @property
    def tls_port(self) -> int:
        """The TLS port it listens on; 0 before `start`, and where there is none."""
        return self._tls_door.port if self._tls_door else 0

    def start(self) -> None:
        """Listen. Connections are accepted when this returns.

        Raises
        ------
        ConfigError
            An address or a TLS file cannot be used.
        """
        settings = self._settings
        if settings.tls_files is not None:
            self._context = server_context(settings.tls_files)
        self._plain_door = self._open("node.port", settings.port, None)
        doors = [self._plain_door]
        if settings.tls_files is not None:
            try:
                self._tls_door = self._open(
                    "node.tls_port", settings.tls_port, self._current_context
                )
            except ConfigError:
                self._plain_door.socket.close()
                raise
            doors.append(self._tls_door)
        self._server = Server(doors, self._limits, self._services)
        self._server.start()

    def reload_tls(self) -> None:
        """Read the TLS files again; connections from now on use them, open ones go on.

        Raises
        ------
        ConfigError
            A file cannot be used; the old ones stay in use.
        """
        if self._settings.tls_files is not None:
            self._context = server_context(self._settings.tls_files)

    def stop(self, drain_s: float) -> None:
        """Accept nothing new, let open associations end for `drain_s` seconds, break the rest."""
        if self._server is None:
            return
        self._server.stop_accepting()
        if not self.wait_until_idle(drain_s):
            self._server.interrupt_all()
            self.wait_until_idle(_ABORT_S)
        self._server = self._plain_door = self._tls_door = None

    def wait_until_idle(self, timeout_s: float) -> bool:
        """Wait until no connection is open; False where some still are after `timeout_s`."""
        return self._limits.wait_until_empty(timeout_s)

    def _current_context(self) -> ssl.SSLContext:
        if self._context is None:
            raise ConfigError("node.tls_port: no certificate is loaded")
        return self._context

    def _open(
        self,
        name: str,
        port: int,
        context: Callable[[], ssl.SSLContext] | None,
    ) -> Door:
        host = self._settings.host
        is_tls = context is not None

        def is_known_address(address: str) -> bool:
            return self._peers.is_known_address(address, is_tls=is_tls)

        try:
            return Door(open_socket(host, port), is_known_address, context)
        except OSError as error:
            raise ConfigError(
                f"cannot listen on {host}:{port}: {error.strerror}. "
                f"Choose another node.host or {name}, or stop what uses it"
            ) from error
