"""Presentation data values to whole DIMSE messages; the data set of a C-STORE goes to the spool.

No more of a message is in memory than its command set, or the small data set of another service.
PS3.7 6.3 and PS3.8 Annex E: a message comes on one context, command first, one after another.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from screener.receive.dimse import C_STORE_RQ, Command, decode_command
from screener.receive.part10 import FileMeta
from screener.receive.upper_layer import AbortReason, ProtocolViolation

if TYPE_CHECKING:
    from collections.abc import Mapping

    from screener.receive.negotiation import ContextAnswer
    from screener.receive.spool import PendingInstance, Spool
    from screener.receive.upper_layer import DataValue

#: Longest command set, in bytes.
MAX_COMMAND_BYTES = 64 * 1024
#: Longest data set of a message that is no C-STORE, in bytes: a storage commitment of thousands.
MAX_OTHER_DATA_SET_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Message:
    """One whole DIMSE request."""

    context: ContextAnswer
    command: Command
    pending: PendingInstance | None  #: data set of a C-STORE; the receiver keeps or discards it
    data_set: bytes  #: of any other message


class MessageAssembler:
    """Puts the messages of one association together.

    Parameters
    ----------
    contexts
        Accepted presentation contexts by their id.
    spool
        Takes the data sets of C-STORE requests while they arrive.
    calling_ae_title
        Written into the file meta of what is kept.
    """

    def __init__(
        self, contexts: Mapping[int, ContextAnswer], spool: Spool, calling_ae_title: str
    ) -> None:
        self._contexts = contexts
        self._spool = spool
        self._calling_ae_title = calling_ae_title
        self._context: ContextAnswer | None = None
        self._command_set = bytearray()
        self._command: Command | None = None
        self._pending: PendingInstance | None = None
        self._data_set = bytearray()

    @property
    def is_idle(self) -> bool:
        """Whether no message is half received."""
        return self._context is None

    def take(self, value: DataValue) -> Message | None:
        """Take one value; gives the message that it completes.

        Raises
        ------
        ProtocolViolation
            The value has no place here, or the message is longer than allowed.
        """
        if self._context is None:
            self._context = self._contexts.get(value.context_id)
        if self._context is None or value.context_id != self._context.context_id:
            raise _violation("a message is on no accepted presentation context")
        if value.is_command:
            return self._take_command(value)
        return self._take_data(value)

    def discard(self) -> None:
        """Remove what is half received."""
        if self._pending is not None:
            self._spool.discard(self._pending)
            self._pending = None

    def _take_command(self, value: DataValue) -> Message | None:
        if self._command is not None:
            raise _violation("a command came where a data set was announced")
        if len(self._command_set) + len(value.fragment) > MAX_COMMAND_BYTES:
            raise _violation("a command set is longer than allowed")
        self._command_set += value.fragment
        if not value.is_last:
            return None
        self._command = decode_command(bytes(self._command_set))
        if not self._command.has_data_set:
            return self._complete()
        if self._command.field == C_STORE_RQ:
            self._pending = self._spool.begin(self._meta(self._command))
        return None

    def _take_data(self, value: DataValue) -> Message | None:
        if self._command is None:
            raise _violation("a data set came before its command")
        if self._pending is not None:
            self._pending.write(value.fragment)
        elif len(self._data_set) + len(value.fragment) > MAX_OTHER_DATA_SET_BYTES:
            raise _violation("a data set is longer than allowed")
        else:
            self._data_set += value.fragment
        return self._complete() if value.is_last else None

    def _meta(self, command: Command) -> FileMeta:
        return FileMeta(
            sop_class_uid=command.sop_class_uid,
            sop_instance_uid=command.sop_instance_uid,
            transfer_syntax_uid=self._context.transfer_syntax if self._context else "",
            source_ae_title=self._calling_ae_title,
        )

    def _complete(self) -> Message:
        if self._context is None or self._command is None:
            raise _violation("a message ended before it began")
        message = Message(self._context, self._command, self._pending, bytes(self._data_set))
        self._context = self._command = self._pending = None
        self._command_set.clear()
        self._data_set.clear()
        return message


def _violation(detail: str) -> ProtocolViolation:
    return ProtocolViolation(AbortReason.INVALID_PARAMETER, detail)
