"""Open an association to another node and say, where it fails, what to look at."""

from __future__ import annotations

import socket
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

import pydicom.config
from pynetdicom import AE, _config, evt
from pynetdicom.pdu_primitives import A_ASSOCIATE
from pynetdicom.transport import AssociationSocket

from screener.errors import DestinationRefused, DestinationUnavailable
from screener.version import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pynetdicom.association import Association
    from pynetdicom.events import Event, EventHandlerType
    from pynetdicom.pdu_primitives import SCP_SCU_RoleSelectionNegotiation
    from pynetdicom.presentation import PresentationContext

    from screener.domain import DimseNode

EXPLICIT_VR_LITTLE_ENDIAN = "1.2.840.10008.1.2.1"
IMPLICIT_VR_LITTLE_ENDIAN = "1.2.840.10008.1.2"

#: What a rejection means (PS3.8 Table 9-21: source, reason) and what to do about it.
_REJECTIONS = {
    (1, 1): "it gives no reason; look at its log",
    (1, 3): "it does not know the calling AE title '{calling}'; register it there",
    (1, 7): "it is not called '{called}'; set the AE title of the node as it is configured there",
    (3, 1): "it is congested",
    (3, 2): "it has reached its limit of associations",
}
#: Results of a rejection: permanent, transient.
_REJECTED = (1, 2)
#: No operator of that node can mend these (source, reason): it speaks another protocol.
_HOPELESS_REJECTIONS = frozenset({(1, 2), (2, 2)})


@contextmanager
def associated(
    node: DimseNode,
    contexts: Sequence[PresentationContext],
    *,
    handlers: Sequence[EventHandlerType] = (),
    roles: Sequence[SCP_SCU_RoleSelectionNegotiation] = (),
) -> Iterator[Association]:
    """Associate with `node`, release in the end; every step has the time limit of the node.

    An association that no context was accepted for is given too: its `accepted_contexts` are
    empty and it is not established. `handlers` serve what the node asks on this association,
    `roles` say for which classes it may.

    Raises
    ------
    DestinationUnavailable
        No connection, no answer, abort, or a rejection. Also where an AE title is unknown: a
        person mends that at the other node, and then the delivery must go on by itself.
    DestinationRefused
        The node speaks another protocol version or application context.
    """
    _configure_library()
    connected: list[str] = []

    def on_connected(event: Event) -> None:
        _limit_socket(event, node.timeout_s)
        connected.append(node.host)

    try:
        assoc = _application_entity(node).associate(
            node.host,
            node.port,
            contexts=list(contexts),
            ae_title=node.ae_title,
            ext_neg=list(roles),
            evt_handlers=[(evt.EVT_CONN_OPEN, on_connected), *handlers],
        )
    except OSError as error:  # a name that does not resolve, an address that cannot be used
        raise DestinationUnavailable(
            f"{node.name}: {describe(node)} cannot be reached: {error.strerror or error}; "
            "check the host name and the name service"
        ) from error
    try:
        if not assoc.is_established and not _is_without_contexts(assoc):
            raise _failure(node, assoc, is_connected=bool(connected))
        yield assoc
    finally:
        if assoc.is_established:
            assoc.release()


def describe(node: DimseNode) -> str:
    """Name a node in an error: title and address, so that a person can find it."""
    return f"{node.ae_title} at {node.host}:{node.port}"


def rejection_of(assoc: Association) -> A_ASSOCIATE | None:
    """Give the A-ASSOCIATE-RJ that ended `assoc`, None where there was none.

    A rejection that comes at once can close the connection before the library looks whether it
    is connected; it then reports a lost connection, and the rejection still waits unread.
    """
    for answer in (assoc.acceptor.primitive, assoc.dul.peek_next_pdu()):
        if isinstance(answer, A_ASSOCIATE) and answer.result in _REJECTED:
            return answer
    return None


def _configure_library() -> None:
    """Set the process-wide switches of the libraries."""
    # Files go out as they are, byte for byte, instead of decoded and encoded again.
    _config.STORE_SEND_CHUNKED_DATASET = True
    _config.LOG_RESPONSE_IDENTIFIERS = False
    _config.LOG_REQUEST_IDENTIFIERS = False
    _config.LOG_HANDLER_LEVEL = "none"
    pydicom.config.settings.reading_validation_mode = pydicom.config.IGNORE
    close_sockets_of_library()


def close_sockets_of_library() -> None:
    """Let the library close every socket, in this whole process, whichever side it is on.

    It shuts a connection down first and, where that fails, never closes it: one that was never
    connected, or that the peer has reset. Such a socket stays open until memory is collected.
    """
    library: Any = AssociationSocket
    library._shutdown_socket = _shut_down_and_close  # noqa: SLF001


def _shut_down_and_close(wrapped: AssociationSocket) -> None:
    connection = wrapped.socket
    if connection is None:
        return
    with suppress(OSError):  # it may be closed, or never connected
        connection.shutdown(socket.SHUT_RDWR)
    connection.close()


def _application_entity(node: DimseNode) -> AE:
    ae = AE(node.calling_ae_title)
    ae.implementation_class_uid = IMPLEMENTATION_CLASS_UID
    ae.implementation_version_name = IMPLEMENTATION_VERSION_NAME
    ae.maximum_pdu_size = 128 * 1024
    ae.connection_timeout = node.timeout_s
    ae.acse_timeout = node.timeout_s
    ae.dimse_timeout = node.timeout_s
    ae.network_timeout = node.timeout_s
    return ae


def _limit_socket(event: Event, timeout_s: float) -> None:
    """Give the connection a time limit; the library takes it away after connecting."""
    wrapped: Any = event.assoc.dul.socket
    wrapped.socket.settimeout(timeout_s)
    wrapped.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def _is_without_contexts(assoc: Association) -> bool:
    answer = assoc.acceptor.primitive
    return answer is not None and answer.result == 0 and not assoc.accepted_contexts


def _failure(
    node: DimseNode, assoc: Association, *, is_connected: bool
) -> DestinationUnavailable | DestinationRefused:
    where = describe(node)
    answer = rejection_of(assoc)
    if answer is not None:
        source_and_reason = (int(answer.result_source or 0), int(answer.diagnostic or 0))
        if source_and_reason in _HOPELESS_REJECTIONS:
            return DestinationRefused(node.name, f"{where} speaks another version of the protocol")
        text = _REJECTIONS.get(source_and_reason, "look at its log").format(
            calling=node.calling_ae_title, called=node.ae_title
        )
        return DestinationUnavailable(f"{node.name}: {where} rejected the association: {text}")
    if not is_connected:
        return DestinationUnavailable(
            f"{node.name}: no connection to {where} within {node.timeout_s:g} s; "
            "check host and port, that the node runs, and the firewall"
        )
    return DestinationUnavailable(
        f"{node.name}: {where} took the connection but no association within "
        f"{node.timeout_s:g} s; check that a DICOM node listens there, and whether it wants TLS"
    )
