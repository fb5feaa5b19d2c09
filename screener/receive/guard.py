"""What stands between pynetdicom and a network.

The library reads as many bytes as a peer announces, waits for them without a limit, and looks at
its own limits only after it has started two threads. Here a connection is judged when it is
accepted; a read has a longest length and a deadline; a C-STORE goes to the spool as it arrives;
and when an association ends, nothing half-received stays behind.

This module uses names that the library does not promise to keep: its version is pinned exactly,
and `check_library` fails at start where one of them is gone. Not here yet: TLS, and event-driven
loops instead of the library's short sleeps.
"""

from __future__ import annotations

import ipaddress
import socket
import socketserver
import threading
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

import pydicom.config
import structlog
from pynetdicom import _config, evt
from pynetdicom.dimse import DIMSEServiceProvider
from pynetdicom.dimse_messages import C_STORE_RQ
from pynetdicom.pdu_primitives import P_DATA
from pynetdicom.transport import AssociationSocket, RequestHandler, ThreadedAssociationServer

from screener.errors import ConfigError
from screener.receive.part10 import FileMeta

if TYPE_CHECKING:
    from collections.abc import Callable

    from pynetdicom.association import Association

    from screener.receive.spool import PendingInstance, Spool

#: Longest PDU before an association is established, in bytes; an A-ASSOCIATE-RQ with 128 contexts
#: of 20 syntaxes fits.
MAX_NEGOTIATION_PDU_BYTES = 256 * 1024
#: Longest PDU after that, in bytes; we announce less, some senders round up.
MAX_DATA_PDU_BYTES = 1024 * 1024
#: Most bytes of an unfinished message in memory: its command set, or data of no C-STORE.
MAX_COMMAND_BYTES = 64 * 1024
#: Connections that may wait to be accepted.
LISTEN_BACKLOG = 128
#: How long an ended association may keep its network thread, in seconds.
_THREAD_END_S = 5.0
#: Stands in the library's request for a UID that is empty; never kept, never answered.
_ABSENT_UID = "0"


def configure_library() -> None:
    """Set the process-wide switches of the libraries; a listener is a process of its own.

    UIDs are judged in our handler, instance by instance, because the library can only abort the
    whole association. Nothing of a data set goes into a log or a warning.
    """
    _config.ENFORCE_UID_CONFORMANCE = False
    _config.VALIDATORS["UI"] = _accept_any_uid
    _config.LOG_HANDLER_LEVEL = "none"
    _config.LOG_REQUEST_IDENTIFIERS = False
    _config.LOG_RESPONSE_IDENTIFIERS = False
    _config.STORE_RECV_CHUNKED_DATASET = False  # the spool does it, see SpoolingProvider
    pydicom.config.settings.reading_validation_mode = pydicom.config.IGNORE


def check_library() -> None:
    """Fail where the library no longer has what this module builds on.

    Raises
    ------
    ConfigError
        pynetdicom is not the pinned version.
    """
    wanted = (
        (DIMSEServiceProvider, ("receive_primitive",)),
        (AssociationSocket, ("recv",)),
        (RequestHandler, ("handle", "_create_association")),
        (ThreadedAssociationServer, ("verify_request", "get_request")),
    )
    for owner, names in wanted:
        missing = [name for name in names if not hasattr(owner, name)]
        if missing:
            raise ConfigError(
                f"pynetdicom has no {owner.__name__}.{missing[0]}: install the pinned version"
            )


def _accept_any_uid(value: str) -> tuple[bool, str]:
    del value
    return True, ""


class ConnectionLimits:
    """Who may connect, and how often at a time.

    Parameters
    ----------
    is_known_address
        Says whether any peer may come from this IP address.
    maximum_total, maximum_per_address
        Most connections at a time.
    """

    def __init__(
        self,
        is_known_address: Callable[[str], bool],
        maximum_total: int,
        maximum_per_address: int,
    ) -> None:
        self._is_known_address = is_known_address
        self._maximum_total = maximum_total
        self._maximum_per_address = maximum_per_address
        self._open: Counter[str] = Counter()
        self._changed = threading.Condition()

    def enter(self, address: str) -> str:
        """Count a connection in; gives why it is dropped, empty where it may stay."""
        if not self._is_known_address(address):
            return "unknown address"
        with self._changed:
            if self._open.total() >= self._maximum_total:
                return "too many connections"
            if self._open[address] >= self._maximum_per_address:
                return "too many connections from this address"
            self._open[address] += 1
        return ""

    def leave(self, address: str) -> None:
        """Count a connection out."""
        with self._changed:
            self._open[address] -= 1
            if not self._open[address]:
                del self._open[address]
            self._changed.notify_all()

    def wait_until_empty(self, timeout_s: float) -> bool:
        """Wait until no connection is open; False where some still are after `timeout_s`."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._open, timeout_s)


class GuardedServer(ThreadedAssociationServer):
    """Accepts connections within limits.

    The attributes are set once, after construction and before serving: the library constructs it.
    """

    request_queue_size = LISTEN_BACKLOG
    daemon_threads = True

    limits: ConnectionLimits
    spool: Spool
    negotiation_timeout_s: float
    read_timeout_s: float
    on_dropped: Callable[[str, str], None]

    def get_request(self) -> tuple[socket.socket, tuple[str, int]]:
        """Accept a connection and give it limits of time."""
        connection, address = super().get_request()
        connection.settimeout(self.negotiation_timeout_s)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        return connection, address

    def verify_request(self, request: Any, client_address: Any) -> bool:
        """Judge a connection before a byte is read; socketserver closes it on False."""
        del request
        address = plain_address(client_address[0])
        reason = self.limits.enter(address)
        if reason:
            self.on_dropped(address, reason)
        return not reason

    def stop_accepting(self) -> None:
        """End the accept loop and close its socket; open associations go on."""
        socketserver.BaseServer.shutdown(self)
        self.server_close()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing on standard error: what fails here is a connection that went away."""


class GuardedRequestHandler(RequestHandler):
    """One connection: a bounded socket, a spooling DIMSE provider, and a clean end."""

    server: GuardedServer

    def handle(self) -> None:
        """Run the association to its end, then remove what it left."""
        try:
            assoc = self._create_association()
            provider = SpoolingProvider(assoc, self.server.spool)
            assoc.dimse = provider
            bound_reads(assoc, self.server.negotiation_timeout_s, self.server.read_timeout_s)
            try:
                evt.trigger(assoc, evt.EVT_CONN_OPEN, {"address": self.client_address})
                assoc.start()
                assoc.join()
                assoc.dul.join(_THREAD_END_S)
            finally:
                provider.discard_all()
        finally:
            self.server.limits.leave(plain_address(self.client_address[0]))


class SpoolingProvider(DIMSEServiceProvider):
    """Sends each C-STORE data set to the spool while it arrives, instead of to memory."""

    def __init__(self, assoc: Association, spool: Spool) -> None:
        super().__init__(assoc)
        self._spool = spool
        self._pending: list[PendingInstance] = []

    def receive_primitive(self, primitive: P_DATA) -> None:
        """Take fragments one by one, so that a data set meets its spool file from the start."""
        try:
            for item in primitive.presentation_data_value_list:
                self._receive_fragment(item)
        except Exception as error:  # noqa: BLE001 - the network thread would die without a word
            structlog.get_logger().error("message_refused", error=type(error).__name__)
            self.dul.event_queue.put("Evt19")  # PS3.8 9.2.3: invalid PDU, abort

    def _receive_fragment(self, item: Any) -> None:
        single = P_DATA()
        single.presentation_data_value_list.append(item)
        super().receive_primitive(single)
        if self.message is None:
            return
        if _n_buffered_bytes(self.message) > MAX_COMMAND_BYTES:
            raise ConnectionError("message is longer than allowed")
        self._open_spool_file(self.message)

    def take(self, request: Any) -> PendingInstance | None:
        """Give the spooled data set of a C-STORE request; the caller keeps or discards it."""
        pending: PendingInstance | None = request._dataset_path  # noqa: SLF001
        if pending is not None:
            self._pending.remove(pending)
            request._dataset_path = None  # noqa: SLF001
            request._dataset_file = None  # noqa: SLF001 - the library would unlink it
        return pending

    def discard_all(self) -> None:
        """Remove what was half received or never served."""
        for pending in self._pending:
            self._spool.discard(pending)
        self._pending.clear()

    def _open_spool_file(self, message: Any) -> None:
        if not _is_store_without_file(message):
            return
        command = message.command_set
        context = self.assoc._accepted_cx.get(message.context_id)  # noqa: SLF001
        pending = self._spool.begin(
            FileMeta(
                sop_class_uid=str(command.get("AffectedSOPClassUID") or ""),
                sop_instance_uid=str(command.get("AffectedSOPInstanceUID") or ""),
                transfer_syntax_uid=str(context.transfer_syntax[0]) if context else "",
                source_ae_title=str(peer_of(self.assoc).ae_title).strip(),
            )
        )
        # The library drops a request without a UID and never answers; ours gets its 0x0117.
        if not pending.meta.sop_instance_uid:
            command.AffectedSOPInstanceUID = _ABSENT_UID
        self._pending.append(pending)
        message._data_set_file = _LibraryFile(pending)  # noqa: SLF001
        message._data_set_path = pending  # noqa: SLF001


def peer_of(assoc: Association) -> Any:
    """Give the other side of an association, whoever asked for it."""
    return assoc.acceptor if assoc.is_requestor else assoc.requestor


def _is_store_without_file(message: Any) -> bool:
    return isinstance(message, C_STORE_RQ) and message._data_set_file is None  # noqa: SLF001


def _n_buffered_bytes(message: Any) -> int:
    """Bytes that the library holds in memory for an unfinished message."""
    return int(message.encoded_command_set.tell() + message.data_set.tell())


class _LibraryFile:
    """A pending instance with the manners of the temporary file that the library expects."""

    def __init__(self, pending: PendingInstance) -> None:
        self.write = pending.write
        self.file = self

    def flush(self) -> None:
        """Do nothing: the spool flushes once, when the instance is complete."""


def bound_reads(assoc: Association, negotiation_s: float, established_s: float) -> None:
    """Let `assoc` read no PDU that is longer or slower than allowed.

    Parameters
    ----------
    assoc
        Whose socket is to be bounded.
    negotiation_s, established_s
        Deadline of one PDU, in seconds, before and after the association is established.
    """
    wrapped: Any = assoc.dul.socket

    def read(n_bytes: int) -> bytearray:
        limit, deadline_s = (
            (MAX_DATA_PDU_BYTES, established_s)
            if assoc.is_established
            else (MAX_NEGOTIATION_PDU_BYTES, negotiation_s)
        )
        if n_bytes > limit:
            # OSError: the library takes it for a lost connection and closes.
            raise ConnectionError("PDU is longer than allowed")
        if wrapped.socket is None:
            raise ConnectionError("connection is closed")
        return _read_exactly(wrapped.socket, n_bytes, deadline_s)

    wrapped.recv = read


def _read_exactly(connection: socket.socket, n_bytes: int, deadline_s: float) -> bytearray:
    """Read `n_bytes`, or what came before the peer closed.

    Raises
    ------
    TimeoutError
        Not all came within `deadline_s` seconds, one byte at a time or not.
    """
    content = bytearray(n_bytes)
    view = memoryview(content)
    n_read = 0
    end_s = time.monotonic() + deadline_s
    try:
        while n_read < n_bytes:
            remaining_s = end_s - time.monotonic()
            if remaining_s <= 0:
                raise TimeoutError("PDU did not arrive in time")
            connection.settimeout(remaining_s)
            n_new = connection.recv_into(view[n_read:])
            if n_new == 0:
                break
            n_read += n_new
    finally:
        view.release()
    connection.settimeout(deadline_s)
    del content[n_read:]
    return content


def plain_address(address: str) -> str:
    """Give an address as the settings write it: IPv4 in IPv6 clothes becomes IPv4."""
    parsed = ipaddress.ip_address(address.split("%", 1)[0])
    mapped = getattr(parsed, "ipv4_mapped", None)
    return str(mapped or parsed)
