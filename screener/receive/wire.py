"""One connection: PDUs in, bytes out, nothing longer or slower than allowed.

A peer decides how many bytes a PDU announces and when they come. Here the length has a bound that
is checked before memory is spent, and a deadline ends every read and every PDU: one byte now and
then does not extend it. Waiting costs nothing: the kernel wakes the thread.

References: DICOM PS3.8 9.3.1 (PDU header), 9.1.5 (ARTIM timer).
"""

from __future__ import annotations

import socket
import struct
import time
from dataclasses import dataclass

#: PDU type, reserved byte, length of the rest.
_HEADER = struct.Struct(">BxL")
#: First size of the receive buffer: a PDU of the length that we announce, and its header.
_BUFFER_BYTES = 132 * 1024
#: Most bytes that are thrown away while the peer of a refused association closes.
_MOST_DRAINED_BYTES = 1024 * 1024
_DRAIN_CHUNK_BYTES = 64 * 1024


class PduTooLong(ConnectionError):
    """A PDU announces more bytes than are allowed; nothing of it was read."""

    def __init__(self, pdu_type: int, n_bytes: int) -> None:
        super().__init__(f"PDU of type {pdu_type} announces {n_bytes} bytes")
        self.pdu_type = pdu_type
        self.n_bytes = n_bytes


@dataclass(frozen=True, slots=True)
class ReadLimits:
    """What one PDU may cost."""

    longest_bytes: int  #: of its variable part
    idle_s: float  #: until its first byte
    whole_s: float  #: from its first byte to its last


class Wire:
    """A connected socket that reads whole PDUs.

    Parameters
    ----------
    connection
        Connected; TLS already established where there is TLS.
    """

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._buffer = memoryview(bytearray(_BUFFER_BYTES))
        self._start = 0  # of what was read from the socket and not yet given out
        self._end = 0

    def read_pdu(self, limits: ReadLimits) -> tuple[int, memoryview]:
        """Read one PDU.

        Returns
        -------
        :
            Its type, and its variable part: valid until the next call.

        Raises
        ------
        PduTooLong
            It announces more than `limits` allow.
        TimeoutError
            It did not begin, or not end, in time.
        ConnectionError
            The peer closed. Other `OSError` where the connection broke.
        """
        if self._end == self._start:
            self._fill(1, time.monotonic() + limits.idle_s, "nothing came in time")
        deadline_s = time.monotonic() + limits.whole_s
        self._fill(_HEADER.size, deadline_s)
        pdu_type, n_bytes = _HEADER.unpack_from(self._buffer, self._start)
        if n_bytes > limits.longest_bytes:
            raise PduTooLong(pdu_type, n_bytes)
        self._fill(_HEADER.size + n_bytes, deadline_s)
        body_start = self._start + _HEADER.size
        self._start = body_start + n_bytes
        return pdu_type, self._buffer[body_start : self._start]

    def send(self, content: bytes, deadline_s: float) -> None:
        """Send everything within `deadline_s` seconds.

        Raises
        ------
        OSError
            The peer does not take it in time, or is gone.
        """
        self._connection.settimeout(deadline_s)
        self._connection.sendall(content)

    def drain(self, deadline_s: float) -> None:
        """Wait up to `deadline_s` seconds for the peer to close, throwing away what it sends.

        A socket that is closed with unread bytes resets the connection, and the peer may never
        see our last PDU.
        """
        end_s = time.monotonic() + deadline_s
        n_drained = 0
        try:
            self._connection.shutdown(socket.SHUT_WR)
            while n_drained < _MOST_DRAINED_BYTES and (left_s := end_s - time.monotonic()) > 0:
                self._connection.settimeout(left_s)
                n_new = len(self._connection.recv(_DRAIN_CHUNK_BYTES))
                if not n_new:
                    return
                n_drained += n_new
        except OSError:
            return  # gone already

    def close(self) -> None:
        """Close the connection; safe to call twice."""
        self._connection.close()

    def interrupt(self) -> None:
        """End every read and write of another thread on this connection."""
        try:
            self._connection.shutdown(socket.SHUT_RDWR)
        except OSError:
            return  # closed already

    def _fill(
        self, n_bytes: int, deadline_s: float, late: str = "a PDU did not arrive in time"
    ) -> None:
        """Have at least `n_bytes` unread bytes in the buffer by `deadline_s`, monotonic."""
        if self._end - self._start >= n_bytes:
            return
        self._make_room(n_bytes)
        while self._end - self._start < n_bytes:
            left_s = deadline_s - time.monotonic()
            if left_s <= 0:
                raise TimeoutError(late)
            self._connection.settimeout(left_s)
            try:
                n_new = self._connection.recv_into(self._buffer[self._end :])
            except TimeoutError:
                continue
            if not n_new:
                raise ConnectionError("the peer closed the connection")
            self._end += n_new

    def _make_room(self, n_bytes: int) -> None:
        """Let `n_bytes` fit behind the first unread byte, and at least one more be read."""
        if self._start + n_bytes <= len(self._buffer) and self._end < len(self._buffer):
            return
        unread = bytes(self._buffer[self._start : self._end])
        if n_bytes > len(self._buffer):
            self._buffer = memoryview(bytearray(n_bytes))
        self._buffer[: len(unread)] = unread
        self._start, self._end = 0, len(unread)
