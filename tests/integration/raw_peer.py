"""A peer that speaks PDUs by hand, so that every rule can be broken (PS3.8 9.3)."""

from __future__ import annotations

import socket
import struct
from typing import TYPE_CHECKING, Self

from tests.integration.conftest import PATIENCE_S
from tests.receive_factories import CT_IMAGE, EXPLICIT

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.integration.conftest import RunningListener

APPLICATION_CONTEXT = "1.2.840.10008.3.1.1.1"


def item(item_type: int, content: bytes) -> bytes:
    return struct.pack(">BxH", item_type, len(content)) + content


def pdu(pdu_type: int, content: bytes) -> bytes:
    return struct.pack(">BxL", pdu_type, len(content)) + content


def context(number: int, abstract: str = CT_IMAGE, syntaxes: Sequence[str] = (EXPLICIT,)) -> bytes:
    inner = item(0x30, abstract.encode()) + b"".join(item(0x40, one.encode()) for one in syntaxes)
    return item(0x20, struct.pack(">Bxxx", number) + inner)


def request_pdu(
    contexts: Sequence[bytes] | None = None,
    *,
    calling: bytes = b"CT1",
    called: bytes = b"SCREENER",
    user_items: bytes = b"",
    version: int = 1,
    application_context: str = APPLICATION_CONTEXT,
) -> bytes:
    """Write an A-ASSOCIATE-RQ."""
    user = item(0x51, struct.pack(">L", 16384)) + item(0x52, b"1.2.3") + user_items
    body = struct.pack(">Hxx16s16s32x", version, called.ljust(16), calling.ljust(16))
    body += item(0x10, application_context.encode())
    body += b"".join(contexts if contexts is not None else [context(1)]) + item(0x50, user)
    return pdu(1, body)


def element(number: int, value: bytes) -> bytes:
    return struct.pack("<HHL", 0, number, len(value)) + value


def command(field: int, *more: bytes, data_set_type: int = 0x0101, message_id: int = 1) -> bytes:
    """Write a command set of a request."""
    body = element(0x0100, struct.pack("<H", field)) + element(
        0x0110, struct.pack("<H", message_id)
    )
    body += element(0x0800, struct.pack("<H", data_set_type)) + b"".join(more)
    return element(0, struct.pack("<L", len(body))) + body


def data_pdu(context_id: int, control: int, content: bytes) -> bytes:
    """Write a P-DATA-TF with one value; `control`: 1 command, 2 last fragment."""
    return pdu(4, struct.pack(">LBB", len(content) + 2, context_id, control) + content)


class RawPeer:
    """A TCP connection to a listener."""

    def __init__(self, node: RunningListener, source: str = "127.0.0.1") -> None:
        self.socket = socket.create_connection(
            ("127.0.0.1", node.port), PATIENCE_S, source_address=(source, 0)
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def send(self, *contents: bytes) -> None:
        self.socket.sendall(b"".join(contents))

    def receive(self) -> tuple[int, bytes] | None:
        """Read one PDU; None where the node closed."""
        head = self._exactly(6)
        if head is None:
            return None
        pdu_type, length = struct.unpack(">BxL", head)
        return pdu_type, self._exactly(length) or b""

    def associate(self, **options: object) -> None:
        """Associate, as an honest peer would."""
        self.send(request_pdu(**options))  # type: ignore[arg-type]
        answer = self.receive()
        assert answer is not None
        assert answer[0] == 2

    def is_aborted(self) -> bool:
        """Whether an A-ABORT comes, and then the end."""
        answer = self.receive()
        return answer is not None and answer[0] == 7 and self.receive() is None

    def is_closed(self) -> bool:
        """Whether the node closes without a word."""
        return self.receive() is None

    def _exactly(self, n_bytes: int) -> bytes | None:
        content = b""
        try:
            while len(content) < n_bytes:
                new = self.socket.recv(n_bytes - len(content))
                if not new:
                    return None
                content += new
        except ConnectionResetError:
            return None
        return content
