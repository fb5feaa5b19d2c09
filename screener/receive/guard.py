"""What is needed of pynetdicom where it receives for us: on associations that we opened (C-GET).

The library would read as many bytes as a peer announces, wait for them without a limit, keep a
whole data set in memory, and abort the association for one odd UID. This module uses names that
it does not promise to keep: its version is pinned exactly, and `check_library` fails where one of
them is gone or does something else. The listener has an upper layer of its own (ADR 20).
"""

from __future__ import annotations

import inspect
import time
from typing import TYPE_CHECKING, Any

import pydicom.config
import structlog
from pynetdicom import _config
from pynetdicom.dimse import DIMSEServiceProvider
from pynetdicom.dimse_messages import C_STORE_RQ, DIMSEMessage
from pynetdicom.pdu_primitives import P_DATA
from pynetdicom.transport import AssociationSocket

from screener.errors import ConfigError
from screener.receive.association import MAX_DATA_PDU_BYTES
from screener.receive.messages import MAX_COMMAND_BYTES
from screener.receive.part10 import FileMeta

if TYPE_CHECKING:
    import socket

    from pynetdicom.association import Association

    from screener.receive.spool import PendingInstance, Spool

#: Stands in the library's request for a UID that is empty; never kept, never answered.
_ABSENT_UID = "0"


def configure_library() -> None:
    """Set the process-wide switches of the libraries.

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
    """Fail where the library no longer has, or does, what this module builds on.

    Raises
    ------
    ConfigError
        pynetdicom is not the pinned version.
    """
    wanted = (
        (DIMSEServiceProvider, "receive_primitive", ("self", "primitive")),
        (DIMSEMessage, "decode_msg", ("self", "primitive", "assoc")),
        (AssociationSocket, "recv", ("self", "nr_bytes")),
    )
    for owner, name, parameters in wanted:
        method = getattr(owner, name, None)
        if method is None or tuple(inspect.signature(method).parameters) != parameters:
            raise ConfigError(
                f"pynetdicom has no {owner.__name__}.{name} as we know it: install the pinned "
                "version"
            )
    _check_that_data_go_to_our_file()


def _check_that_data_go_to_our_file() -> None:
    """Let the library take a fragment; it must write it where a message says."""

    class Recorder:
        def __init__(self) -> None:
            self.file = self
            self.written = b""

        def write(self, content: bytes) -> None:
            self.written += content

        def flush(self) -> None:
            return

    message: Any = DIMSEMessage()
    recorder = Recorder()
    message._data_set_file = recorder  # noqa: SLF001
    fragment = P_DATA()
    fragment.presentation_data_value_list.append((1, b"\x00fragment"))
    message.decode_msg(fragment)
    if recorder.written != b"fragment":
        raise ConfigError("pynetdicom keeps data sets elsewhere: install the pinned version")


def _accept_any_uid(value: str) -> tuple[bool, str]:
    del value
    return True, ""


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


def bound_reads(assoc: Association, deadline_s: float) -> None:
    """Let an association that we opened read no PDU that is longer or slower than allowed.

    Parameters
    ----------
    assoc
        Whose socket is to be bounded.
    deadline_s
        Of one read, in seconds.
    """
    wrapped: Any = assoc.dul.socket

    def read(n_bytes: int) -> bytearray:
        if n_bytes > MAX_DATA_PDU_BYTES:
            # OSError: the library takes it for a lost connection and closes.
            raise ConnectionError("PDU is longer than allowed")
        if wrapped.socket is None:
            raise ConnectionError("connection is closed")
        return _read_exactly(wrapped.socket, n_bytes, deadline_s)

    wrapped.recv = read


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


def _read_exactly(connection: socket.socket, n_bytes: int, deadline_s: float) -> bytearray:
    """Read `n_bytes`, or what came before the peer closed.

    Raises
    ------
    TimeoutError
        Not all came within `deadline_s` seconds, one byte at a time or not.
    """
    content = bytearray(n_bytes)
    n_read = 0
    end_s = time.monotonic() + deadline_s
    with memoryview(content) as view:
        while n_read < n_bytes:
            remaining_s = end_s - time.monotonic()
            if remaining_s <= 0:
                raise TimeoutError("PDU did not arrive in time")
            connection.settimeout(remaining_s)
            n_new = connection.recv_into(view[n_read:])
            if n_new == 0:
                break
            n_read += n_new
    connection.settimeout(deadline_s)
    del content[n_read:]
    return content
