"""Bad inputs 1 to 13, 52 and 54 to 56, and what slow, half-open and flooding peers may cost.

Raw sockets against a running listener. Input 7 is in `test_receive_tls.py`; what one instance may
hold is in `unit/receive/test_bad_inputs.py`. Does not cover: real networks and their middleboxes.
"""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import structlog

from screener.errors import DatabaseUnavailable
from screener.receive.arrival import AssociationNotice, AssociationOutcome
from screener.receive.association import MAX_REQUEST_BYTES
from screener.receive.peers import Peer, parse_networks
from tests.integration.conftest import PATIENCE_S
from tests.integration.raw_peer import (
    RawPeer,
    command,
    context,
    data_pdu,
    element,
    item,
    pdu,
    request_pdu,
)
from tests.integration.senders import associate, is_empty, store
from tests.receive_factories import CT_IMAGE, SERIES_UID, ct_bytes

if TYPE_CHECKING:
    from tests.integration.conftest import RunningListener, StartListener

pytestmark = pytest.mark.integration

LOCAL = parse_networks(("127.0.0.1",))
ELSEWHERE = parse_networks(("127.0.0.2",))
C_STORE, C_ECHO, C_FIND = 0x0001, 0x0030, 0x0020


@pytest.fixture
def node(start_listener: StartListener) -> RunningListener:
    """A listener with short deadlines that is open to all."""
    return start_listener(acse_timeout_s=0.5, network_timeout_s=0.5)


@pytest.fixture
def patient(start_listener: StartListener) -> RunningListener:
    """A listener with the deadlines of production."""
    return start_listener()


def assert_serves(node: RunningListener, calling: str = "CT1") -> None:
    """Prove that the node serves the next one, and that nothing of the last is left."""
    assoc = associate(node, calling=calling)
    assert store(assoc, ct_bytes()) == 0x0000
    assoc.release()
    assert node.listener.wait_until_idle(PATIENCE_S)
    assert is_empty(node.spool.incoming)


def outcomes(node: RunningListener) -> list[tuple[AssociationOutcome, str, str]]:
    return [
        (one.outcome, one.rejection, one.reason)
        for one in node.notices
        if isinstance(one, AssociationNotice)
    ]


def rejection(peer: RawPeer) -> tuple[int, int, int]:
    """Give result, source and reason of the A-ASSOCIATE-RJ that comes."""
    answer = peer.receive()
    assert answer is not None
    assert answer[0] == 3
    assert peer.is_closed()
    _, result, source, reason = answer[1]
    return result, source, reason


def assert_stops_taking(peer: RawPeer, block: bytes, most: int) -> None:
    """Send one block after the other; the node must end it before `most` were taken."""
    with pytest.raises(OSError, match=r"(?i)broken pipe|reset|timed out"):
        send_often(peer, block, most)


def send_often(peer: RawPeer, block: bytes, most: int) -> None:
    for _ in range(most):
        peer.send(block)


def memory_bytes() -> int:
    """Give the resident memory of this process, where the listener runs as well."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


# ── before there is an association ───────────────────────────────────────────────────────────


def test_input_01_connection_that_says_nothing(node: RunningListener) -> None:
    """Closed by its deadline, no thread left."""
    with RawPeer(node) as peer:
        assert peer.is_closed()
    assert node.listener.wait_until_idle(PATIENCE_S)
    assert not [one for one in threading.enumerate() if one.name == "association"]
    assert_serves(node)


def test_input_02_header_and_then_silence(node: RunningListener) -> None:
    """Closed by its deadline."""
    with RawPeer(node) as peer:
        peer.send(struct.pack(">BxL", 1, 200))
        assert peer.is_closed()
    assert_serves(node)


def test_input_03_one_byte_now_and_then(node: RunningListener) -> None:
    """A byte before each time-out does not extend the deadline of the PDU."""
    stop = threading.Event()

    def drip(peer: RawPeer) -> None:
        try:
            peer.send(struct.pack(">BxL", 1, 200))
            while not stop.wait(0.1):
                peer.send(b"x")
        except OSError:
            return  # closed, as it should be

    with RawPeer(node) as peer:
        dripper = threading.Thread(target=drip, args=(peer,))
        dripper.start()
        assert peer.is_closed()
        stop.set()
        dripper.join()
    assert_serves(node)


@pytest.mark.parametrize("is_established", [False, True])
def test_input_04_pdu_of_four_gigabytes(patient: RunningListener, is_established: bool) -> None:
    """Ended at the header: what follows takes no memory."""
    before_bytes = memory_bytes()
    with RawPeer(patient) as peer:
        if is_established:
            peer.associate()
        peer.send(struct.pack(">BxL", 4 if is_established else 1, 0xFFFFFFFF))
        assert_stops_taking(peer, bytes(1024 * 1024), most=256)
    assert memory_bytes() - before_bytes < 32 * 1024 * 1024
    assert_serves(patient)


@pytest.mark.parametrize("first", ["data", "second-request"])
def test_input_05_pdu_where_it_has_no_place(patient: RunningListener, first: str) -> None:
    """P-DATA before an association, or a second request: A-ABORT."""
    with RawPeer(patient) as peer:
        if first == "data":
            peer.send(data_pdu(1, 3, command(C_ECHO)))
        else:
            peer.associate()
            peer.send(request_pdu())
        assert peer.is_aborted()
    assert_serves(patient)


@pytest.mark.parametrize("number", [0, 2, 254])
def test_presentation_context_of_an_even_number_is_aborted(
    node: RunningListener, number: int
) -> None:
    """PS3.8 9.3.2.2 allows odd ones alone."""
    with RawPeer(node) as peer:
        peer.send(request_pdu([context(number)]))
        assert peer.is_aborted()
    assert_serves(node)


def test_answer_gives_no_more_than_a_uid_back(node: RunningListener) -> None:
    """A SOP class of 60 kB does not come back."""
    with RawPeer(node) as peer:
        peer.associate()
        long = element(0x0002, b"1." + b"2" * 60_000)
        peer.send(data_pdu(1, 3, command(C_ECHO, long)))
        answer = peer.receive()
        assert answer is not None
        assert answer[0] == 4
        assert len(answer[1]) < 300
    assert_serves(node)


@pytest.mark.parametrize(
    "content",
    [pdu(0x09, b"x"), pdu(0x00, b""), b"GET / HTTP/1.1\r\n\r\n", os.urandom(1024 * 1024)],
    ids=["type-9", "type-0", "http", "noise"],
)
def test_input_06_pdu_of_no_type(node: RunningListener, content: bytes) -> None:
    """Aborted or closed; the process lives."""
    with RawPeer(node) as peer:
        with contextlib.suppress(OSError):  # closed before all was sent
            peer.send(content)
        answer = peer.receive()
        assert answer is None or answer[0] == 7
    assert_serves(node)


@pytest.mark.parametrize(
    ("options", "codes"),
    [
        ({"calling": b"STRANGER"}, (1, 1, 3)),
        ({"calling": b"ct1"}, (1, 1, 3)),
        ({"calling": b"CT1\nforged"}, (1, 1, 3)),
        ({"calling": b"CT1\\CT2"}, (1, 1, 3)),
        ({"calling": b"\xff\x00\x1b[2J"}, (1, 1, 3)),
        ({"called": b"OTHER"}, (1, 1, 7)),
        ({"called": b"screener"}, (1, 1, 7)),
        ({"version": 2}, (1, 2, 2)),
        ({"application_context": "1.2.3"}, (1, 1, 2)),
    ],
    ids=lambda value: str(value)[:40],
)
def test_input_08_title_that_is_not_known(
    start_listener: StartListener, options: dict[str, Any], codes: tuple[int, int, int]
) -> None:
    """Each reason has its code; no title can write a line of its own."""
    peers = (Peer("CT1", LOCAL, allow_plain=True),)
    node = start_listener(is_open_to_all=False, peers=peers)
    with structlog.testing.capture_logs() as lines, RawPeer(node) as peer:
        peer.send(request_pdu(**options))
        assert rejection(peer) == codes
    expected = (AssociationOutcome.REJECTED, "/".join(map(str, codes)))
    node.wait_for(lambda: any(one[:2] == expected for one in outcomes(node)))
    assert "\n" not in str(lines)
    assert_serves(node)


def test_input_09_known_title_from_an_unknown_address(start_listener: StartListener) -> None:
    """Closed before a byte is read."""
    peers = (Peer("CT1", LOCAL, allow_plain=True), Peer("CT2", ELSEWHERE, allow_plain=True))
    node = start_listener(is_open_to_all=False, peers=peers)
    with RawPeer(node, source="127.0.0.3") as peer:
        assert peer.is_closed()
    node.wait_for(lambda: (AssociationOutcome.DROPPED, "", "unknown address") in outcomes(node))
    with RawPeer(node, source="127.0.0.2") as peer:
        peer.send(request_pdu(calling=b"CT1"))
        assert rejection(peer) == (1, 1, 3)
    assert_serves(node)


def long_uid(number: int) -> str:
    return f"1.2.{number}.".ljust(63, "1") + "1"


def test_input_10_request_as_long_as_it_can_be(patient: RunningListener) -> None:
    """Up to the limit it is answered context by context; beyond, it is rejected."""
    many = [context(2 * n + 1, syntaxes=[long_uid(k) for k in range(20)]) for n in range(128)]
    with RawPeer(patient) as peer:
        peer.send(request_pdu(many))
        assert rejection(peer) == (1, 3, 2)
    fitting = [context(2 * n + 1, syntaxes=[long_uid(k) for k in range(5)]) for n in range(128)]
    assert 32 * 1024 < len(request_pdu(fitting)) <= MAX_REQUEST_BYTES
    with RawPeer(patient) as peer:
        peer.send(request_pdu(fitting))
        answer = peer.receive()
        assert answer is not None
        assert answer[0] == 2
        assert answer[1].count(b"\x21\x00") >= 128  # one answer for each context
    assert_serves(patient)


@pytest.mark.parametrize("identity_type", range(1, 6))
def test_input_11_user_identity_of_60_kilobytes(
    patient: RunningListener, identity_type: int
) -> None:
    """Never accepted because nobody checks it; the audit names the type alone."""
    secret = b"secret" * 10_000
    value = struct.pack(">BBH", identity_type, 1, len(secret)) + secret + struct.pack(">H", 0)
    with RawPeer(patient) as peer:
        peer.send(request_pdu(user_items=item(0x58, value)))
        assert rejection(peer) == (2, 2, 1)
    patient.wait_for(
        lambda: any(f"user identity of type {identity_type}" in one[2] for one in outcomes(patient))
    )
    assert "secret" not in str(patient.notices)


@pytest.mark.parametrize(
    "abstract",
    ["1.2.840.10008.5.1.4.1.1.4", "1.2.840.10008.5.1.4.1.1.9.1.1", "1.2.3.4"],
    ids=["mr", "ecg", "private"],
)
def test_input_12_sop_class_that_is_not_on_the_list(
    patient: RunningListener, abstract: str
) -> None:
    """The context is rejected; a message on it all the same is aborted, on another 0x0122."""
    with RawPeer(patient) as peer:
        peer.send(request_pdu([context(1), context(3, abstract)]))
        answer = peer.receive()
        assert answer is not None
        assert answer[1].count(struct.pack(">BxBx", 3, 3)) == 1  # abstract syntax not supported
        peer.send(data_pdu(3, 3, store_command(class_uid=abstract)))
        assert peer.is_aborted()
    assoc = associate(patient)
    assert store(assoc, ct_bytes(SOPClassUID=abstract), class_uid=abstract) == 0x0122
    assoc.release()


def store_command(class_uid: str = CT_IMAGE, **options: int) -> bytes:
    uids = element(0x0002, even(class_uid)) + element(0x1000, even(f"{SERIES_UID}.1"))
    return command(C_STORE, uids, **({"data_set_type": 1} | options))


def even(uid: str) -> bytes:
    return uid.encode() + b"\x00" * (len(uid) % 2)


# ── messages that break their rules ──────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "contents",
    [
        (data_pdu(1, 0, b"data first"),),
        (data_pdu(1, 3, store_command()), data_pdu(1, 3, command(C_ECHO))),
        (data_pdu(1, 1, b""), data_pdu(3, 1, b"")),
        (data_pdu(1, 3, b"no command set"),),
        (data_pdu(1, 3, element(0x0100, b"\x30\x00")),),
        (data_pdu(1, 3, command(0x8001)),),
        (pdu(4, struct.pack(">LBB", 0xFFFFFFFF, 1, 3)),),
        (pdu(4, b"\x00\x00"),),
        tuple(data_pdu(1, 1, bytes(16_000)) for _ in range(6)),
        (data_pdu(1, 3, command(0x0140, data_set_type=1)), *[data_pdu(1, 0, bytes(65_000))] * 17),
    ],
    ids=[
        "data-before-command",
        "command-within-data",
        "two-contexts-at-once",
        "noise-as-command",
        "command-without-data-set-type",
        "answer-to-nothing",
        "value-longer-than-its-pdu",
        "value-without-header",
        "endless-command",
        "endless-data-of-another-service",
    ],
)
def test_message_that_breaks_its_rules_is_aborted(
    patient: RunningListener, contents: tuple[bytes, ...]
) -> None:
    """A-ABORT for this association, nothing for others."""
    with RawPeer(patient) as peer:
        peer.associate()
        peer.send(*contents)
        assert peer.is_aborted()
    assert_serves(patient)


def test_requests_that_come_at_once_are_answered_one_by_one(patient: RunningListener) -> None:
    """A sender that does not wait for answers gets each of them, in order."""
    with RawPeer(patient) as peer:
        peer.associate()
        peer.send(*(data_pdu(1, 3, command(C_ECHO, message_id=n)) for n in range(1, 51)))
        for number in range(1, 51):
            answer = peer.receive()
            assert answer is not None
            assert element(0x0120, struct.pack("<H", number)) in answer[1]


def test_answer_is_split_for_a_peer_that_takes_little(patient: RunningListener) -> None:
    """The peer's longest PDU holds for us too."""
    tiny = item(0x51, struct.pack(">L", 32))
    with RawPeer(patient) as peer:
        peer.associate(user_items=tiny)
        peer.send(data_pdu(1, 3, command(C_ECHO)))
        controls = []
        while not controls or not controls[-1] & 2:
            answer = peer.receive()
            assert answer is not None
            assert len(answer[1]) <= 32
            controls.append(answer[1][5])
        assert controls == [1] * (len(controls) - 1) + [3]


# ── 52, 54, 55, 56 ───────────────────────────────────────────────────────────────────────────


def test_input_49_two_studies_in_one_association(patient: RunningListener) -> None:
    """Interleaved instances are told apart."""
    assoc = associate(patient)
    for number in range(1, 7):
        study = f"1.2.3.{number % 2}"
        uid = f"{study}.1.{number}"
        content = ct_bytes(
            StudyInstanceUID=study, SeriesInstanceUID=f"{study}.1", SOPInstanceUID=uid
        )
        assert store(assoc, content, uid) == 0x0000
    assoc.release()
    studies = [one.instance.study_instance_uid for one in patient.registered]
    assert [studies.count(uid) for uid in ("1.2.3.0", "1.2.3.1")] == [3, 3]


def test_input_52_association_without_instances(patient: RunningListener) -> None:
    """No study, no file; a broken one is in the audit."""
    associate(patient).release()
    with RawPeer(patient) as peer:
        peer.associate()
        peer.send(data_pdu(1, 3, store_command()), data_pdu(1, 0, bytes(1000)))
    assert patient.listener.wait_until_idle(PATIENCE_S)
    assert patient.registered == []
    assert is_empty(patient.spool.incoming)
    assert is_empty(patient.spool.store)
    patient.wait_for(lambda: any(one[0] is AssociationOutcome.ABORTED for one in outcomes(patient)))
    assert any(one[0] is AssociationOutcome.RELEASED for one in outcomes(patient))


def test_input_54_disk_at_its_reserve(
    patient: RunningListener, monkeypatch: pytest.MonkeyPatch
) -> None:
    """2/3/1 for a new association, 0xA700 in an open one; it recovers by itself."""
    assoc = associate(patient)
    monkeypatch.setattr(patient.spool, "_reserve_bytes", 2**62)
    assert store(assoc, ct_bytes()) == 0xA700
    with RawPeer(patient) as peer:
        peer.send(request_pdu())
        assert rejection(peer) == (2, 3, 1)
    monkeypatch.setattr(patient.spool, "_reserve_bytes", 0)
    assert store(assoc, ct_bytes()) == 0x0000
    assoc.release()
    assert_serves(patient)


def test_input_55_database_away(patient: RunningListener) -> None:
    """0xA700, and nothing is half registered."""
    assoc = associate(patient)
    patient.registration_error = DatabaseUnavailable("away")
    assert store(assoc, ct_bytes()) == 0xA700
    assert patient.registered == []
    patient.registration_error = None
    assert store(assoc, ct_bytes()) == 0x0000
    assoc.release()


def test_input_56_query_to_the_receiver(patient: RunningListener) -> None:
    """The contexts are rejected; a C-FIND on a context that is not its own gets 0x0211."""
    models = ["1.2.840.10008.5.1.4.1.2.2.1", "1.2.840.10008.5.1.4.1.2.2.2"]
    models += ["1.2.840.10008.5.1.4.1.2.2.3", "1.2.840.10008.5.1.4.31"]
    contexts = [context(1), *(context(3 + 2 * n, model) for n, model in enumerate(models))]
    with RawPeer(patient) as peer:
        peer.send(request_pdu(contexts))
        answer = peer.receive()
        assert answer is not None
        for number in range(3, 11, 2):
            assert struct.pack(">BxBx", number, 3) in answer[1]
        peer.send(data_pdu(1, 3, command(C_FIND)))
        answer = peer.receive()
        assert answer is not None
        assert element(0x0900, struct.pack("<H", 0x0211)) in answer[1]


# ── slow, half-open and flooding peers ───────────────────────────────────────────────────────


def test_slow_message_is_broken_off(
    start_listener: StartListener, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each PDU comes in time, the message never would."""
    monkeypatch.setattr("screener.receive.association.PACE_GRACE_S", 0.3)
    node = start_listener(minimum_bytes_per_s=1_000_000.0)
    with RawPeer(node) as peer:
        peer.associate()
        peer.send(data_pdu(1, 3, store_command()))
        stop = threading.Event()

        def trickle() -> None:
            try:
                while not stop.wait(0.05):
                    peer.send(data_pdu(1, 0, bytes(100)))
            except OSError:
                return  # broken off, as it should be

        sender = threading.Thread(target=trickle)
        sender.start()
        assert peer.is_aborted()
        stop.set()
        sender.join()
    assert any("too slowly" in one[2] for one in outcomes(node))
    assert_serves(node)


def test_peer_that_reads_no_answers_is_ended(node: RunningListener) -> None:
    """A peer that sends and never reads holds its own thread up for a deadline, no longer."""
    with RawPeer(node) as peer:
        peer.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        peer.associate()

        def send() -> None:
            with contextlib.suppress(OSError):
                send_often(peer, data_pdu(1, 3, command(C_ECHO)) * 100, 100_000)

        sender = threading.Thread(target=send)
        sender.start()
        assert node.listener.wait_until_idle(PATIENCE_S)
        with contextlib.suppress(OSError):  # reset already
            peer.socket.shutdown(socket.SHUT_RDWR)
        sender.join()
    assert any(one[0] is AssociationOutcome.ABORTED for one in outcomes(node))
    assert_serves(node)


def test_half_open_connections_do_not_lock_the_listener(start_listener: StartListener) -> None:
    """Eleven half-sent requests of one address: another address is served while they hang."""
    node = start_listener(acse_timeout_s=2.0, maximum_associations_per_peer=4)
    held = [RawPeer(node) for _ in range(11)]
    for peer in held:
        peer.send(struct.pack(">BxL", 1, 200))
    with RawPeer(node, source="127.0.0.2") as other:
        other.associate()
        other.send(pdu(5, bytes(4)))
        answer = other.receive()
        assert answer is not None
        assert answer[0] == 6
    for peer in held:
        assert peer.is_closed()
        peer.socket.close()
    assert_serves(node)


def test_idle_associations_cost_no_processor_time(start_listener: StartListener) -> None:
    """Fifty associations wait in the kernel: no thread wakes while nothing comes."""
    node = start_listener(maximum_associations_per_peer=50)
    with contextlib.ExitStack() as stack:
        for _ in range(50):
            stack.enter_context(RawPeer(node)).associate()
        names = {one.native_id for one in threading.enumerate() if one.name == "association"}
        assert len(names) == 50
        quiet = threading.Event()
        # The last ones may still be on their way back to the kernel, however long that takes.
        seen = [wake_ups(names)]
        while len(seen) < 60 and (len(seen) < 2 or seen[-1] != seen[-2]):
            quiet.wait(0.5)
            seen.append(wake_ups(names))
        assert seen[-1] == seen[-2]
    assert node.listener.wait_until_idle(PATIENCE_S)


def wake_ups(thread_ids: set[int | None]) -> dict[int | None, str]:
    """Give how often each thread gave up the processor by itself, as the kernel counts."""
    return {
        number: next(
            line
            for line in Path(f"/proc/self/task/{number}/status").read_text().splitlines()
            if line.startswith("voluntary_ctxt_switches")
        )
        for number in thread_ids
    }


def test_flood_of_connections_is_capped(start_listener: StartListener) -> None:
    """A thousand connections of one address take no more threads than its cap."""
    node = start_listener(
        maximum_associations=64, maximum_associations_per_peer=4, acse_timeout_s=5.0
    )
    sockets = []
    most_threads = 0
    for _ in range(1000):
        connection = socket.socket()
        connection.settimeout(PATIENCE_S)
        connection.connect(("127.0.0.1", node.port))
        sockets.append(connection)
        most_threads = max(
            most_threads, sum(one.name == "association" for one in threading.enumerate())
        )
    assert most_threads <= 4 + 8
    with RawPeer(node, source="127.0.0.2") as other:
        other.associate()
    for connection in sockets:
        connection.close()
    assert_serves(node)
