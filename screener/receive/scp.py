"""Build the AE, start it, stop it."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pynetdicom import AE, evt

from screener.errors import ConfigError
from screener.receive.commitment import STORAGE_COMMITMENT_SOP_CLASS_UID, CommitmentHandlers
from screener.receive.contexts import (
    ACCEPTED_CLASSES,
    ACCEPTED_SYNTAXES,
    EXPLICIT_VR_LITTLE_ENDIAN,
    IMPLICIT_VR_LITTLE_ENDIAN,
    VERIFICATION_SOP_CLASS_UID,
)
from screener.receive.guard import (
    ConnectionLimits,
    GuardedRequestHandler,
    GuardedServer,
    check_library,
    configure_library,
)
from screener.receive.handlers import ReceiveHandlers, ReceiverHooks
from screener.receive.peers import Peer, PeerList
from screener.version import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME

if TYPE_CHECKING:
    from pynetdicom.events import EventHandlerType

    from screener.receive.spool import Spool

#: How often the accept loop looks whether it should stop, in seconds.
_ACCEPT_POLL_S = 0.1
#: How long an aborted association may take to end, in seconds.
_ABORT_S = 5.0


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
    acse_timeout_s: float = 10.0  #: for the association request, and one PDU before it is accepted
    dimse_timeout_s: float = 30.0
    network_timeout_s: float = 30.0  #: an idle association, or one PDU, may take this long


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
        self._spool = spool
        self._handlers = ReceiveHandlers(settings.ae_title, peers, spool, hooks, patient_id_salt)
        self._commitment = CommitmentHandlers(hooks.settle)
        self._limits = ConnectionLimits(
            peers.is_known_address,
            settings.maximum_associations,
            settings.maximum_associations_per_peer,
        )
        self._server: GuardedServer | None = None
        self._thread: threading.Thread | None = None

    @property
    def port(self) -> int:
        """The port it listens on; 0 before `start`."""
        return int(self._server.server_address[1]) if self._server else 0

    def start(self) -> None:
        """Listen. Connections are accepted when this returns.

        Raises
        ------
        ConfigError
            The address cannot be used, or pynetdicom is not the pinned version.
        """
        check_library()
        configure_library()
        settings = self._settings
        try:
            server: Any = _application_entity(settings).make_server(
                (settings.host, settings.port),
                evt_handlers=_bindings(self._handlers, self._commitment),
                server_class=GuardedServer,
                request_handler=GuardedRequestHandler,
            )
        except OSError as error:
            raise ConfigError(
                f"cannot listen on {settings.host}:{settings.port}: {error.strerror}. "
                "Choose another node.host or node.port, or stop what uses it"
            ) from error
        server.limits = self._limits
        server.spool = self._spool
        server.negotiation_timeout_s = settings.acse_timeout_s
        server.read_timeout_s = settings.network_timeout_s
        server.on_dropped = self._handlers.on_dropped
        self._server = server
        self._thread = threading.Thread(
            target=server.serve_forever, args=(_ACCEPT_POLL_S,), name="listener", daemon=True
        )
        self._thread.start()

    def stop(self, drain_s: float) -> None:
        """Accept nothing new, let open associations end for `drain_s` seconds, abort the rest."""
        if self._server is None or self._thread is None:
            return
        self._server.stop_accepting()
        self._thread.join()
        if not self._limits.wait_until_empty(drain_s):
            for assoc in self._server.active_associations:
                assoc.abort()
            self._limits.wait_until_empty(_ABORT_S)
        self._server = None


def _application_entity(settings: ListenerSettings) -> AE:
    ae = AE(settings.ae_title)
    ae.implementation_class_uid = IMPLEMENTATION_CLASS_UID
    ae.implementation_version_name = IMPLEMENTATION_VERSION_NAME
    ae.maximum_pdu_size = settings.max_pdu_bytes
    ae.maximum_associations = settings.maximum_associations
    ae.acse_timeout = settings.acse_timeout_s
    ae.dimse_timeout = settings.dimse_timeout_s
    ae.network_timeout = settings.network_timeout_s
    ae.add_supported_context(
        VERIFICATION_SOP_CLASS_UID, [EXPLICIT_VR_LITTLE_ENDIAN, IMPLICIT_VR_LITTLE_ENDIAN]
    )
    ae.add_supported_context(
        STORAGE_COMMITMENT_SOP_CLASS_UID,
        [EXPLICIT_VR_LITTLE_ENDIAN, IMPLICIT_VR_LITTLE_ENDIAN],
        # An archive that reports proposes itself as the SCP, against the default.
        scu_role=True,
        scp_role=True,
    )
    syntaxes = [syntax.transfer_syntax_uid for syntax in ACCEPTED_SYNTAXES]
    for accepted in ACCEPTED_CLASSES:
        ae.add_supported_context(accepted.sop_class_uid, syntaxes)
    return ae


def _bindings(handlers: ReceiveHandlers, commitment: CommitmentHandlers) -> list[EventHandlerType]:
    return [
        (evt.EVT_C_ECHO, handlers.on_echo),
        (evt.EVT_C_STORE, handlers.on_store),
        (evt.EVT_N_EVENT_REPORT, commitment.on_event_report),
        (evt.EVT_N_ACTION, commitment.on_action),
        (evt.EVT_USER_ID, handlers.on_user_identity),
        (evt.EVT_REQUESTED, handlers.on_requested),
        (evt.EVT_ACCEPTED, handlers.on_accepted),
        (evt.EVT_REJECTED, handlers.on_rejected),
        (evt.EVT_RELEASED, handlers.on_released),
        (evt.EVT_ABORTED, handlers.on_aborted),
    ]
