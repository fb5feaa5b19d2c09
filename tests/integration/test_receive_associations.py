"""Who gets in, and what a broken or hostile connection costs: itself, nothing else.

Covers rejections, dropped connections, limits, draining, aborts in mid-object, nonsense and slow
senders. Does not cover: TLS, and load.
"""

from __future__ import annotations

import io
import ipaddress
import socket
import struct
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest
from pynetdicom import AE
from pynetdicom.dimse_primitives import C_STORE
from pynetdicom.pdu_primitives import UserIdentityNegotiation

from screener.receive.arrival import AssociationNotice, AssociationOutcome
from screener.receive.peers import Peer
from tests.integration.conftest import PATIENCE_S
from tests.integration.senders import associate, is_empty, rejection_codes, store
from tests.receive_factories import (
    CT_IMAGE,
    EXPLICIT,
    SERIES_UID,
    ct_bytes,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pynetdicom.association import Association

    from tests.integration.conftest import RunningListener, StartListener

pytestmark = pytest.mark.integration

LOCAL = (ipaddress.ip_network("127.0.0.1/32"),)


@pytest.fixture
def node(start_listener: StartListener) -> RunningListener:
    """A listener that is open to all."""
    return start_listener()


@pytest.fixture
def assoc(node: RunningListener) -> Iterator[Association]:
    """An association to `node`."""
    association = associate(node)
    assert association.is_established
    yield association
    if association.is_established:
        association.release()


# ── associations ─────────────────────────────────────────────────────────────────────────────


def test_unknown_calling_ae_title_is_rejected(start_listener: StartListener) -> None:
    """1/1/3, also for another case of a known title."""
    node = start_listener(is_open_to_all=False, peers=(Peer("CT1", LOCAL, allow_plain=True),))
    assert rejection_codes(associate(node, calling="STRANGER")) == (1, 1, 3)
    assert rejection_codes(associate(node, calling="ct1")) == (1, 1, 3)
    known = associate(node)
    assert known.is_established
    known.release()


def test_calling_ae_title_from_another_address_is_rejected(start_listener: StartListener) -> None:
    """A title is bound to its addresses."""
    elsewhere = (ipaddress.ip_network("10.0.0.0/8"),)
    node = start_listener(
        is_open_to_all=False,
        peers=(Peer("CT1", elsewhere, allow_plain=True), Peer("CT2", LOCAL, allow_plain=True)),
    )
    assert rejection_codes(associate(node, calling="CT1")) == (1, 1, 3)


def test_wrong_called_ae_title_is_rejected(node: RunningListener) -> None:
    """1/1/7."""
    assert rejection_codes(associate(node, called="OTHER")) == (1, 1, 7)
    node.wait_for(
        lambda: any(
            isinstance(notice, AssociationNotice)
            and notice.outcome is AssociationOutcome.REJECTED
            and notice.called_ae_title == "OTHER"
            for notice in node.notices
        )
    )


def test_unknown_address_is_dropped_before_a_byte_is_read(start_listener: StartListener) -> None:
    """The connection is closed, nothing is parsed, the audit hears of it."""
    elsewhere = (ipaddress.ip_network("10.0.0.0/8"),)
    node = start_listener(is_open_to_all=False, peers=(Peer("CT1", elsewhere, allow_plain=True),))
    with socket.create_connection(("127.0.0.1", node.port), PATIENCE_S) as connection:
        connection.settimeout(PATIENCE_S)
        assert connection.recv(1) == b""
    node.wait_for(lambda: bool(node.notices))
    notice = node.notices[0]
    assert isinstance(notice, AssociationNotice)
    assert notice.outcome is AssociationOutcome.DROPPED


def test_association_is_rejected_below_the_disk_reserve(start_listener: StartListener) -> None:
    """2/3/1: temporary congestion."""
    assert rejection_codes(associate(start_listener(reserve_bytes=2**62))) == (2, 3, 1)


def test_user_identity_is_never_accepted_unchecked(node: RunningListener) -> None:
    """We check none, so an association that asks for one is rejected."""
    identity = UserIdentityNegotiation()
    identity.user_identity_type = 1
    identity.primary_field = b"somebody"
    assert rejection_codes(associate(node, ext_neg=[identity])) == (2, 2, 1)


def test_query_is_not_offered(node: RunningListener) -> None:
    """C-FIND to the receiver: the context is rejected."""
    ae = AE("CT1")
    ae.add_requested_context("1.2.840.10008.5.1.4.1.2.2.1")
    ae.add_requested_context(CT_IMAGE, [EXPLICIT])
    assoc = ae.associate("127.0.0.1", node.port, ae_title="SCREENER")
    assert [context.abstract_syntax for context in assoc.accepted_contexts] == [CT_IMAGE]
    assoc.release()


@pytest.mark.parametrize("syntax", ["1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.2"])
def test_dangerous_and_retired_syntaxes_are_not_accepted(
    node: RunningListener, syntax: str
) -> None:
    """Deflated and big endian."""
    ae = AE("CT1")
    ae.add_requested_context(CT_IMAGE, [syntax])
    assoc = ae.associate("127.0.0.1", node.port, ae_title="SCREENER")
    assert not assoc.accepted_contexts


def test_stop_waits_for_an_open_association(start_listener: StartListener) -> None:
    """Draining: nothing new gets in, what is open may end."""
    node = start_listener()
    assoc = associate(node)
    port = node.port
    stopper = threading.Thread(target=node.listener.stop, args=(PATIENCE_S,))
    stopper.start()
    assert store(assoc, ct_bytes()) == 0x0000
    assert stopper.is_alive()
    assoc.release()
    stopper.join(PATIENCE_S)
    assert not stopper.is_alive()
    with pytest.raises(OSError, match="refused"):
        socket.create_connection(("127.0.0.1", port), 1)


# ── broken and hostile connections ───────────────────────────────────────────────────────────


def wait_until_gone(node: RunningListener) -> None:
    assert node.listener.wait_until_idle(PATIENCE_S)


def test_abort_in_mid_object_leaves_no_file(node: RunningListener, assoc: Association) -> None:
    """The connection breaks while a data set comes in: its part file goes with it."""
    request: Any = C_STORE()
    request.MessageID = 1
    request.Priority = 2
    request.AffectedSOPClassUID = CT_IMAGE
    request.AffectedSOPInstanceUID = f"{SERIES_UID}.1"
    request.DataSet = io.BytesIO(ct_bytes())
    connection = assoc.dul.socket.socket  # type: ignore[union-attr]
    # Let everything but the last fragment through.
    real_send_pdu = assoc.dul.send_pdu
    sent: list[Any] = []
    assoc.dul.send_pdu = sent.append  # type: ignore[method-assign,assignment]
    assoc.dimse.send_msg(request, assoc.accepted_contexts[0].context_id or 1)
    last = sent[-1].presentation_data_value_list[-1]
    sent[-1].presentation_data_value_list[-1] = (last[0], b"\x00" + last[1][1:])
    for primitive in sent:
        real_send_pdu(primitive)
    pause = threading.Event()
    for _ in range(1000):
        if not is_empty(node.spool.incoming):
            break
        pause.wait(0.01)
    assert not is_empty(node.spool.incoming)
    connection.shutdown(socket.SHUT_RDWR)
    wait_until_gone(node)
    connection.close()
    assert is_empty(node.spool.incoming)
    assert node.registered == []


@pytest.mark.parametrize(
    "bytes_sent",
    [
        struct.pack(">BBL", 1, 0, 0xFFFFFFFF) + bytes(100),
        struct.pack(">BBL", 4, 0, 20) + bytes(20),
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        bytes(range(256)) * 16,
    ],
    ids=["endless-pdu", "data-before-association", "http", "noise"],
)
def test_nonsense_ends_its_connection_and_nothing_else(
    start_listener: StartListener, bytes_sent: bytes
) -> None:
    """The connection ends soon, long before what it announced; others are served."""
    node = start_listener(acse_timeout_s=0.5)
    with socket.create_connection(("127.0.0.1", node.port), PATIENCE_S) as connection:
        connection.sendall(bytes_sent)
        wait_until_gone(node)
    assoc = associate(node)
    assert store(assoc, ct_bytes()) == 0x0000
    assoc.release()


def test_silent_and_slow_connections_are_closed(start_listener: StartListener) -> None:
    """Nothing, a header only, and one byte now and then: each ends by its deadline."""
    node = start_listener(network_timeout_s=0.5, acse_timeout_s=0.5)
    connections = [socket.create_connection(("127.0.0.1", node.port), PATIENCE_S) for _ in range(3)]
    connections[1].sendall(struct.pack(">BBL", 1, 0, 200))
    stop = threading.Event()

    def drip() -> None:
        connections[2].sendall(struct.pack(">BBL", 1, 0, 200))
        try:
            while not stop.wait(0.1):
                connections[2].sendall(b"x")
        except OSError:
            return  # closed, as it should be

    dripper = threading.Thread(target=drip)
    dripper.start()
    wait_until_gone(node)
    stop.set()
    dripper.join()
    for connection in connections:
        connection.close()


def test_one_address_cannot_take_all_associations(start_listener: StartListener) -> None:
    """Beyond the cap of its address a peer is told: 2/3/2, local limit exceeded."""
    node = start_listener(maximum_associations_per_peer=2)
    held = [associate(node) for _ in range(2)]
    assert rejection_codes(associate(node)) == (2, 3, 2)
    for assoc in held:
        assoc.release()
    wait_until_gone(node)
    assoc = associate(node)
    assert assoc.is_established
    assoc.release()


def test_one_address_cannot_take_all_connections(start_listener: StartListener) -> None:
    """Beyond the cap and a little room to be told so, a connection is closed unread."""
    node = start_listener(maximum_associations_per_peer=2, acse_timeout_s=5.0)
    address = ("127.0.0.1", node.port)
    held = [socket.create_connection(address, PATIENCE_S) for _ in range(11)]
    held[-1].settimeout(PATIENCE_S)
    assert held[-1].recv(1) == b""
    node.wait_for(
        lambda: any(
            isinstance(one, AssociationNotice)
            and one.reason == "too many connections from this address"
            for one in node.notices
        )
    )
    for connection in held:
        connection.close()
    wait_until_gone(node)
    assoc = associate(node)
    assert assoc.is_established
    assoc.release()


def test_oversized_command_set_ends_the_association(
    node: RunningListener, assoc: Association
) -> None:
    """A message without end fills no memory."""
    context_id = assoc.accepted_contexts[0].context_id or 1
    fragment = bytes([context_id]) + b"\x01" + bytes(16000)
    pdu = struct.pack(">L", len(fragment)) + fragment
    connection = assoc.dul.socket.socket  # type: ignore[union-attr]
    # The listener may end it before all of it is sent.
    with suppress(OSError):
        for _ in range(8):
            connection.sendall(struct.pack(">BBL", 4, 0, len(pdu)) + pdu)
    wait_until_gone(node)
    assert node.registered == []
