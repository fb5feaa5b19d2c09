"""The listener over real sockets: what is acknowledged is kept, what is odd costs one status.

Covers storing with pynetdicom, DCMTK and Orthanc, every refusal of instances and associations,
broken connections, full disks and absent databases. Does not cover: TLS, and load.
"""

from __future__ import annotations

import io
import ipaddress
import json
import os
import socket
import struct
import subprocess
import threading
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from pynetdicom import AE
from pynetdicom.dimse_primitives import C_STORE
from pynetdicom.pdu_primitives import UserIdentityNegotiation

from screener.deliver.scu import DeliverableObject, Outcome, store_objects
from screener.domain import Destination, ResultKind
from screener.errors import DatabaseUnavailable
from screener.receive.arrival import AssociationNotice, AssociationOutcome, RefusalNotice
from screener.receive.part10 import FileMeta, encode_file_meta
from screener.receive.peers import Peer
from tests.integration.conftest import PATIENCE_S, require_tool
from tests.receive_factories import (
    CT_IMAGE,
    EXPLICIT,
    IMPLICIT,
    SERIES_UID,
    ct_bytes,
    ct_dataset,
    encode,
    write_ct,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pynetdicom.association import Association

    from tests.integration.conftest import OrthancServer, RunningListener, StartListener

pytestmark = pytest.mark.integration

MR_IMAGE = "1.2.840.10008.5.1.4.1.1.4"
UUID_TEXT = "896911bf-1143-4c8d-8f04-f3cd1a7f6204"
LOCAL = (ipaddress.ip_network("127.0.0.1/32"),)
TEST_DATA = Path(os.environ.get("SCREENER_TEST_DATA", Path(__file__).parents[2] / "../shared/data"))


def associate(
    node: RunningListener, *, calling: str = "CT1", called: str = "SCREENER", **options: Any
) -> Association:
    ae = AE(calling)
    ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = PATIENCE_S
    ae.add_requested_context(CT_IMAGE, [EXPLICIT])
    return ae.associate("127.0.0.1", node.port, ae_title=called, **options)


def store(
    assoc: Association, content: bytes, uid: str = f"{SERIES_UID}.1", class_uid: str = CT_IMAGE
) -> int | None:
    """Send raw bytes under any UID, which a well-meaning library would refuse."""
    request: Any = C_STORE()
    request.MessageID = 1
    request.Priority = 2
    request.AffectedSOPClassUID = class_uid
    request.AffectedSOPInstanceUID = uid
    request.DataSet = io.BytesIO(content) if content else None
    assoc._reactor_checkpoint.clear()
    pause = threading.Event()
    while not assoc._is_paused:
        pause.wait(0.0005)
    assoc.dimse.send_msg(request, assoc.accepted_contexts[0].context_id or 1)
    _, answer = assoc.dimse.get_msg(block=True)
    assoc._reactor_checkpoint.set()
    return None if answer is None else answer.Status  # type: ignore[union-attr]


def is_empty(folder: Path) -> bool:
    return not list(folder.iterdir())


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


# ── what is kept ─────────────────────────────────────────────────────────────────────────────


def test_instance_is_on_disk_and_registered_when_acknowledged(
    node: RunningListener, assoc: Association
) -> None:
    """Success means: the bytes as sent, under the name of their digest, and a row."""
    content = ct_bytes()
    assert store(assoc, content) == 0x0000
    (received,) = node.registered
    assert received.instance.path.read_bytes().endswith(content)
    assert received.instance.path.stem == received.instance.content_digest
    assert received.instance.calling_ae_title == "CT1"
    assert received.instance.transfer_syntax_uid == EXPLICIT
    assert received.peer_address == "127.0.0.1"
    assert received.n_bytes == received.instance.path.stat().st_size
    assert is_empty(node.spool.incoming)


def test_same_instance_twice_is_one_file(node: RunningListener, assoc: Association) -> None:
    """A repeat is a success; the ledger is told again and knows it is a duplicate."""
    assert [store(assoc, ct_bytes()) for _ in range(2)] == [0x0000, 0x0000]
    assert len({received.instance.path for received in node.registered}) == 1
    assert len(node.registered) == 2


def test_one_uid_with_several_contents_keeps_every_slice(
    node: RunningListener, assoc: Association
) -> None:
    """Published series carry one SOP Instance UID on all slices; none may vanish."""
    shared = f"{SERIES_UID}.99"
    contents = [ct_bytes(number, SOPInstanceUID=shared) for number in range(1, 11)]
    assert {store(assoc, content, shared) for content in contents} == {0x0000}
    assert len({received.instance.path for received in node.registered}) == 10


def test_data_set_of_many_fragments_is_complete(start_listener: StartListener) -> None:
    """A large data set comes in hundreds of fragments and is kept to the last byte."""
    node = start_listener(max_pdu_bytes=4096)
    assoc = associate(node)
    content = ct_bytes(Rows=1024, Columns=1024, PixelData=os.urandom(2 * 1024 * 1024))
    assert store(assoc, content) == 0x0000
    assoc.release()
    (received,) = node.registered
    assert received.instance.path.read_bytes().endswith(content)
    assert received.header.quarantine_reason is None


def test_implicit_vr_is_kept_as_sent(node: RunningListener) -> None:
    """Nothing is decoded and encoded again."""
    ae = AE("CT1")
    ae.add_requested_context(CT_IMAGE, [IMPLICIT])
    assoc = ae.associate("127.0.0.1", node.port, ae_title="SCREENER")
    content = encode(ct_dataset(), IMPLICIT)
    assert store(assoc, content) == 0x0000
    assoc.release()
    assert node.registered[0].instance.path.read_bytes().endswith(content)
    assert node.registered[0].instance.transfer_syntax_uid == IMPLICIT


def test_uuid_text_uid_is_stored_and_flagged(node: RunningListener, assoc: Association) -> None:
    """Letters and hyphens in a UID are accepted."""
    assert store(assoc, ct_bytes(SOPInstanceUID=UUID_TEXT), UUID_TEXT) == 0x0000
    assert node.registered[0].header.is_non_conformant
    assert node.registered[0].instance.sop_instance_uid == UUID_TEXT


# ── what is refused, one instance at a time ──────────────────────────────────────────────────


@pytest.mark.parametrize("uid", ["../../x", "/etc/x", "1.2\nforged line", "1" * 65, "", "C:\\x"])
def test_unusable_uid_is_refused_and_the_association_survives(
    node: RunningListener, assoc: Association, uid: str
) -> None:
    """0x0117 for that instance; the next one is stored."""
    assert store(assoc, ct_bytes(SOPInstanceUID=uid), uid) == 0x0117
    assert store(assoc, ct_bytes()) == 0x0000
    assert len(node.registered) == 1
    assert is_empty(node.spool.incoming)
    assert any(
        isinstance(notice, RefusalNotice) and notice.status == 0x0117 for notice in node.notices
    )


@pytest.mark.parametrize(
    ("content", "class_uid", "status"),
    [
        (b"", CT_IMAGE, 0xC000),
        (os.urandom(4096), CT_IMAGE, 0xC000),
        (ct_bytes(StudyInstanceUID=None), CT_IMAGE, 0xC000),
        (ct_bytes(SOPInstanceUID="1.2.3"), CT_IMAGE, 0xA900),
        (ct_bytes(SOPClassUID=MR_IMAGE), CT_IMAGE, 0xA900),
        (ct_bytes(SOPClassUID=MR_IMAGE), MR_IMAGE, 0x0122),
    ],
    ids=["empty", "noise", "no-study", "other-instance", "other-class", "class-off-context"],
)
def test_bad_instance_gets_its_status_and_the_association_survives(
    node: RunningListener, assoc: Association, content: bytes, class_uid: str, status: int
) -> None:
    """Each fault has its own status; nothing of it stays."""
    assert store(assoc, content, class_uid=class_uid) == status
    assert is_empty(node.spool.store)
    assert is_empty(node.spool.incoming)
    assert store(assoc, ct_bytes()) == 0x0000


def test_database_away_is_out_of_resources(node: RunningListener, assoc: Association) -> None:
    """The sender keeps it and comes again; the file waits for the janitor."""
    node.registration_error = DatabaseUnavailable("away")
    assert store(assoc, ct_bytes()) == 0xA700
    assert [len(paths) for paths in node.spool.shards()] == [1]
    node.registration_error = None
    assert store(assoc, ct_bytes()) == 0x0000


def test_fault_of_ours_is_named_as_ours(
    node: RunningListener, assoc: Association, capsys: pytest.CaptureFixture[str]
) -> None:
    """0x0110, not a status that blames the data; the log has no value of the data set."""
    node.registration_error = ZeroDivisionError("CANARY^NAME")
    assert store(assoc, ct_bytes()) == 0x0110
    output = capsys.readouterr()
    assert "ZeroDivisionError" in output.out + output.err
    assert "CANARY" not in output.out + output.err


def test_disk_below_its_reserve_in_an_open_association(
    node: RunningListener, assoc: Association, monkeypatch: pytest.MonkeyPatch
) -> None:
    """0xA700 while it lasts, success afterwards; no part file stays."""
    monkeypatch.setattr(node.spool, "_reserve_bytes", 2**62)
    assert store(assoc, ct_bytes()) == 0xA700
    assert is_empty(node.spool.incoming)
    monkeypatch.setattr(node.spool, "_reserve_bytes", 0)
    assert store(assoc, ct_bytes()) == 0x0000


# ── associations ─────────────────────────────────────────────────────────────────────────────


def rejection_of(assoc: Association) -> tuple[int | None, int | None, int | None]:
    assert assoc.is_rejected
    answer = assoc.acceptor.primitive
    assert answer is not None
    return answer.result, answer.result_source, answer.diagnostic


def test_unknown_calling_ae_title_is_rejected(start_listener: StartListener) -> None:
    """1/1/3, also for another case of a known title."""
    node = start_listener(is_open_to_all=False, peers=(Peer("CT1", LOCAL),))
    assert rejection_of(associate(node, calling="STRANGER")) == (1, 1, 3)
    assert rejection_of(associate(node, calling="ct1")) == (1, 1, 3)
    known = associate(node)
    assert known.is_established
    known.release()


def test_calling_ae_title_from_another_address_is_rejected(start_listener: StartListener) -> None:
    """A title is bound to its addresses."""
    elsewhere = (ipaddress.ip_network("10.0.0.0/8"),)
    node = start_listener(is_open_to_all=False, peers=(Peer("CT1", elsewhere), Peer("CT2", LOCAL)))
    assert rejection_of(associate(node, calling="CT1")) == (1, 1, 3)


def test_wrong_called_ae_title_is_rejected(node: RunningListener) -> None:
    """1/1/7."""
    assert rejection_of(associate(node, called="OTHER")) == (1, 1, 7)
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
    node = start_listener(is_open_to_all=False, peers=(Peer("CT1", elsewhere),))
    with socket.create_connection(("127.0.0.1", node.port), PATIENCE_S) as connection:
        connection.settimeout(PATIENCE_S)
        assert connection.recv(1) == b""
    node.wait_for(lambda: bool(node.notices))
    notice = node.notices[0]
    assert isinstance(notice, AssociationNotice)
    assert notice.outcome is AssociationOutcome.DROPPED


def test_association_is_rejected_below_the_disk_reserve(start_listener: StartListener) -> None:
    """2/3/1: temporary congestion."""
    assert rejection_of(associate(start_listener(reserve_bytes=2**62))) == (2, 3, 1)


def test_user_identity_is_never_accepted_unchecked(node: RunningListener) -> None:
    """We check none, so an association that asks for one is rejected."""
    identity = UserIdentityNegotiation()
    identity.user_identity_type = 1
    identity.primary_field = b"somebody"
    assert associate(node, ext_neg=[identity]).is_rejected


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
    assert node.listener._limits.wait_until_empty(PATIENCE_S)


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


def test_one_address_cannot_take_all_connections(start_listener: StartListener) -> None:
    """Beyond the cap of its address a connection is closed unread."""
    node = start_listener(maximum_associations_per_peer=2, acse_timeout_s=0.5)
    held = [socket.create_connection(("127.0.0.1", node.port), PATIENCE_S) for _ in range(3)]
    held[2].settimeout(PATIENCE_S)
    assert held[2].recv(1) == b""
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
    for _ in range(8):
        connection.sendall(struct.pack(">BBL", 4, 0, len(pdu)) + pdu)
    wait_until_gone(node)
    assert node.registered == []


# ── other software ───────────────────────────────────────────────────────────────────────────


def run_sender(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a DCMTK sender; without TCP_NODELAY it waits 50 ms per instance."""
    return subprocess.run(
        arguments,
        env={**os.environ, "TCP_NODELAY": "1"},
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )


@pytest.mark.parametrize("tool", ["storescu", "dcmsend"])
def test_dcmtk_sends_a_series(node: RunningListener, tmp_path: Path, tool: str) -> None:
    """Both DCMTK senders deliver every slice, byte for byte."""
    program = require_tool(tool)
    folder = tmp_path / "series"
    folder.mkdir()
    files = [write_ct(folder, number) for number in range(1, 21)]
    paths = [str(one.path) for one in files]
    called = ["-aec", "SCREENER", "-aet", "CT1"]
    result = run_sender(program, *called, "127.0.0.1", str(node.port), *paths)
    assert result.returncode == 0, result.stderr
    assert len(node.registered) == 20
    kept = {received.instance.path.read_bytes() for received in node.registered}
    assert all(any(content.endswith(one.content) for content in kept) for one in files)


def test_dcmtk_echoes(node: RunningListener) -> None:
    """C-ECHO is answered."""
    program = require_tool("echoscu")
    result = run_sender(program, "-aec", "SCREENER", "127.0.0.1", str(node.port))
    assert result.returncode == 0, result.stderr


def test_orthanc_forwards_a_study(
    start_listener: StartListener, orthanc: OrthancServer, tmp_path: Path
) -> None:
    """Orthanc as the sender: uploaded there, it arrives here."""
    node = start_listener()
    request("PUT", f"{orthanc.url}/modalities/us", ["SCREENER", "127.0.0.1", node.port])
    folder = tmp_path / "series"
    folder.mkdir()
    names = [
        request("POST", f"{orthanc.url}/instances", write_ct(folder, number).path.read_bytes())
        for number in range(1, 6)
    ]
    request("POST", f"{orthanc.url}/modalities/us/store", [name["ID"] for name in names])
    node.wait_for(lambda: len(node.registered) == 5)
    assert {one.instance.calling_ae_title for one in node.registered} == {"ORTHANC"}


def request(method: str, url: str, body: object) -> Any:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    call = urllib.request.Request(url, data=content, method=method)  # noqa: S310 - loopback
    with urllib.request.urlopen(call, timeout=PATIENCE_S) as answer:  # noqa: S310
        text = answer.read()
    return json.loads(text) if text else None


def test_real_series_with_one_empty_uid_keeps_every_slice(
    node: RunningListener, tmp_path: Path
) -> None:
    """133 real slices without a SOP Instance UID, sent under one: all are kept as sent."""
    folder = TEST_DATA / "dicom" / "ctmd" / "COVID_P002"
    if not folder.is_dir():
        pytest.skip(f"real CT is not here: {folder}")
    shared = "2.25.1234567890"
    objects = []
    for path in sorted(folder.iterdir()):
        content = path.read_bytes()
        # Preamble, prefix and group length element precede the rest of the file meta.
        start = 144 + struct.unpack_from("<I", content, 140)[0]
        copy = tmp_path / path.name
        meta = FileMeta(CT_IMAGE, shared, "1.2.840.10008.1.2.4.70")
        copy.write_bytes(encode_file_meta(meta) + content[start:])
        objects.append(DeliverableObject(ResultKind.OVERLAY, CT_IMAGE, shared, copy))
    target = Destination("node", "SCREENER", "127.0.0.1", node.port, "CT1", (), PATIENCE_S)
    statuses = store_objects(target, objects)
    assert {one.outcome for one in statuses} == {Outcome.STORED}
    assert len({received.instance.path for received in node.registered}) == 133
    assert {received.instance.sop_instance_uid for received in node.registered} == {shared}
