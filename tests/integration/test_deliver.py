"""Sending over real sockets: every status read, every failure said with its cause.

Covers the test PACS, Orthanc, and nodes that refuse, break off, stay silent or lie. Does not
cover: storage commitment (`test_commitment.py`), retrieval and TLS.
"""

from __future__ import annotations

import select
import socket
import struct
import threading
import time
import urllib.request
from dataclasses import replace
from datetime import date
from typing import TYPE_CHECKING, Any

import pydicom
import pytest
from pydicom.dataset import Dataset
from pynetdicom import AE
from pynetdicom.acse import ACSE
from pynetdicom.association import Association
from pynetdicom.transport import AssociationSocket

from screener.deliver.echo import echo
from screener.deliver.query import confirm_objects, count_instances, find_studies
from screener.deliver.scu import store_objects
from screener.domain import DimseNode, Outcome
from screener.errors import DestinationRefused, DestinationUnavailable
from screener.receive.part10 import FileMeta, encode_file_meta
from tests.integration.conftest import PATIENCE_S, free_port
from tests.integration.receivers import (
    REPORT,
    SEGMENTATION,
    STORE_CT,
    VERIFICATION,
    data_set_of,
    dimse_node,
    scripted,
    write_object,
)
from tests.receive_factories import CT_IMAGE, EXPLICIT, IMPLICIT, SERIES_UID, STUDY_UID, ct_bytes

if TYPE_CHECKING:
    from pathlib import Path

    from pynetdicom.events import Event

    from screener.demo.pacs import DemoPacs
    from tests.integration.conftest import OrthancServer

pytestmark = pytest.mark.integration


# ── storing ──────────────────────────────────────────────────────────────────────────────────


def test_objects_arrive_byte_for_byte(pacs: DemoPacs, tmp_path: Path) -> None:
    """What was encoded once is what the destination gets, in order, each with its status."""
    objects = [write_object(tmp_path, 1, REPORT), write_object(tmp_path, 2, SEGMENTATION)]
    statuses = store_objects(dimse_node(pacs.port), objects)
    assert [one.sop_instance_uid for one in statuses] == [one.sop_instance_uid for one in objects]
    assert {(one.status, one.outcome) for one in statuses} == {(0x0000, Outcome.STORED)}
    arrived = pacs.wait_for(lambda files: len(files) == 2, PATIENCE_S)
    for one, sent in zip(arrived, objects, strict=True):
        assert data_set_of(one.path) == data_set_of(sent.path)
        assert one.calling_ae_title == "SCREENER"


def test_nothing_to_send_needs_no_association() -> None:
    """No objects, no connection."""
    assert store_objects(dimse_node(1), []) == ()


def test_file_that_is_gone_is_said_and_the_others_are_sent(pacs: DemoPacs, tmp_path: Path) -> None:
    """A fault of ours is no fault of the destination, and holds up nothing."""
    objects = [write_object(tmp_path, number) for number in (1, 2, 3)]
    objects[0].path.unlink()
    nameless = FileMeta(CT_IMAGE, "", EXPLICIT)
    objects[1].path.write_bytes(encode_file_meta(nameless) + ct_bytes())
    statuses = store_objects(dimse_node(pacs.port), objects)
    assert [one.outcome for one in statuses] == [Outcome.REFUSED, Outcome.REFUSED, Outcome.STORED]
    assert "Our own file" in statuses[0].comment
    assert store_objects(dimse_node(1), objects[:1])[0].outcome is Outcome.REFUSED


def test_only_what_is_needed_is_proposed(tmp_path: Path) -> None:
    """One class: its own encoding and the one that every node must accept."""
    proposed: list[tuple[str, list[str]]] = []

    def on_requested(event: Event) -> None:
        proposed.extend(
            (str(context.abstract_syntax), [str(syntax) for syntax in context.transfer_syntax])
            for context in event.assoc.requestor.requested_contexts
        )

    with scripted(STORE_CT, EVT_REQUESTED=on_requested, EVT_C_STORE=lambda _: 0) as port:
        store_objects(dimse_node(port), [write_object(tmp_path, 1), write_object(tmp_path, 2)])
    assert proposed == [(CT_IMAGE, [EXPLICIT]), (CT_IMAGE, [IMPLICIT])]


def test_node_with_implicit_vr_alone_gets_the_same_elements(tmp_path: Path) -> None:
    """Every node accepts Implicit VR; the elements are equal, only written otherwise."""
    arrived: list[Dataset] = []

    def on_store(event: Event) -> int:
        dataset = event.dataset
        dataset.file_meta = event.file_meta
        arrived.append(dataset)
        return 0

    sent = write_object(tmp_path)
    original = pydicom.dcmread(sent.path)
    with scripted((CT_IMAGE, [IMPLICIT]), EVT_C_STORE=on_store) as port:
        (status,) = store_objects(dimse_node(port), [sent])
    assert status.outcome is Outcome.STORED
    assert arrived[0].file_meta.TransferSyntaxUID == IMPLICIT
    assert arrived[0].to_json_dict() == original.to_json_dict()


@pytest.mark.parametrize(
    ("code", "outcome"),
    [
        (0xB000, Outcome.STORED_WITH_WARNING),
        (0xA700, Outcome.RETRY),
        (0xC000, Outcome.REFUSED),
        (0x0111, Outcome.STORED_WITH_WARNING),
    ],
)
def test_status_of_each_instance_is_read(tmp_path: Path, code: int, outcome: Outcome) -> None:
    """The first is stored, the second gets the status; the third is sent all the same."""
    answers = iter([0x0000, code, 0x0000])
    objects = [write_object(tmp_path, number) for number in (1, 2, 3)]
    with scripted(STORE_CT, EVT_C_STORE=lambda _: next(answers)) as port:
        statuses = store_objects(dimse_node(port), objects)
    assert [one.outcome for one in statuses] == [Outcome.STORED, outcome, Outcome.STORED]
    assert statuses[1].status == code
    assert f"0x{code:04X}" in statuses[1].comment


def test_words_of_the_node_reach_the_comment(tmp_path: Path) -> None:
    """An Error Comment helps; control characters do not come with it."""

    def on_store(_: Event) -> Dataset:
        answer = Dataset()
        answer.Status = 0xA700
        answer.ErrorComment = "no space\x07 left"
        return answer

    with scripted(STORE_CT, EVT_C_STORE=on_store) as port:
        (status,) = store_objects(dimse_node(port), [write_object(tmp_path)])
    assert "no space left" in status.comment


def test_class_that_is_not_accepted_is_skipped(tmp_path: Path) -> None:
    """What a node does not take is said; the others are sent."""
    objects = [
        write_object(tmp_path, 1, REPORT),
        write_object(tmp_path, 2, SEGMENTATION),
        write_object(tmp_path, 3, CT_IMAGE),
    ]
    with scripted(STORE_CT, EVT_C_STORE=lambda _: 0) as port:
        statuses = store_objects(dimse_node(port), objects)
    assert [one.outcome for one in statuses] == [Outcome.SKIPPED, Outcome.SKIPPED, Outcome.STORED]
    assert REPORT in statuses[0].comment


def test_node_that_accepts_no_context_skips_everything(tmp_path: Path) -> None:
    """The association ends at once, yet each object has its answer."""
    objects = [write_object(tmp_path, 1, REPORT), write_object(tmp_path, 2, SEGMENTATION)]
    with scripted((VERIFICATION, [IMPLICIT])) as port:
        statuses = store_objects(dimse_node(port), objects)
    assert [one.outcome for one in statuses] == [Outcome.SKIPPED, Outcome.SKIPPED]


@pytest.mark.parametrize("how", ["abort", "close"])
def test_connection_that_breaks_leaves_the_rest_for_later(tmp_path: Path, how: str) -> None:
    """What was acknowledged stays; the one in flight and those behind it are to be retried."""
    n_stores = 0

    def on_store(event: Event) -> int:
        nonlocal n_stores
        n_stores += 1
        if n_stores == 2:
            if how == "abort":
                event.assoc.abort()
            else:
                connection: Any = event.assoc.dul.socket
                connection.socket.shutdown(socket.SHUT_RDWR)
        return 0

    objects = [write_object(tmp_path, number) for number in (1, 2, 3)]
    with scripted(STORE_CT, EVT_C_STORE=on_store) as port:
        statuses = store_objects(dimse_node(port), objects)
    assert [one.outcome for one in statuses] == [Outcome.STORED, Outcome.RETRY, Outcome.RETRY]
    assert statuses[1].status is None


def test_answer_that_does_not_come_is_retried_within_the_time_limit(tmp_path: Path) -> None:
    """A node that thinks for ever costs its time limit, not the sender."""
    done = threading.Event()

    def on_store(_: Event) -> int:
        done.wait(PATIENCE_S)
        return 0

    started_s = time.monotonic()
    with scripted(STORE_CT, EVT_C_STORE=on_store) as port:
        try:
            statuses = store_objects(
                dimse_node(port, timeout_s=0.5),
                [write_object(tmp_path, number) for number in (1, 2)],
            )
        finally:
            done.set()
    assert [one.outcome for one in statuses] == [Outcome.RETRY, Outcome.RETRY]
    assert time.monotonic() - started_s < PATIENCE_S / 3


# ── no association ───────────────────────────────────────────────────────────────────────────


def test_nobody_listening_is_unavailable_and_says_where(tmp_path: Path) -> None:
    """The text names title, host and port, and what to check."""
    port = free_port()
    with pytest.raises(DestinationUnavailable, match=rf"TESTPACS at 127\.0\.0\.1:{port}.*check"):
        store_objects(dimse_node(port, timeout_s=2), [write_object(tmp_path)])


def test_listener_that_is_no_dicom_node_is_unavailable(tmp_path: Path) -> None:
    """It takes the connection and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with pytest.raises(DestinationUnavailable, match="took the connection"):
            store_objects(dimse_node(port, timeout_s=0.5), [write_object(tmp_path)])


@pytest.mark.parametrize("is_reset", [True, False])
def test_connection_that_is_over_is_closed(*, is_reset: bool) -> None:
    """The library closes what it can still shut down; what the peer has reset, we close."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        ours = socket.create_connection(server.getsockname())
        theirs, _ = server.accept()
        if is_reset:
            theirs.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        theirs.close()
        if is_reset:
            select.select([ours], [], [], PATIENCE_S)
        wrapped = AssociationSocket(Association(AE(), "requestor"), client_socket=ours)
        wrapped.close()
        assert ours.fileno() == -1


def test_wrong_called_ae_title_is_worth_retrying(tmp_path: Path) -> None:
    """A person mends it there; then the delivery goes on by itself."""
    with (
        scripted(STORE_CT, ae_title="OTHER") as port,
        pytest.raises(DestinationUnavailable, match="not called 'TESTPACS'"),
    ):
        store_objects(dimse_node(port), [write_object(tmp_path)])


def test_unknown_calling_ae_title_names_what_to_register(tmp_path: Path) -> None:
    """1/1/3: the other node must learn our title."""

    def on_requested(event: Event) -> None:
        event.assoc.acse.send_reject(1, 1, 3)
        event.assoc.kill()

    with (
        scripted(STORE_CT, EVT_REQUESTED=on_requested) as port,
        pytest.raises(DestinationUnavailable, match="calling AE title 'SCREENER'"),
    ):
        store_objects(dimse_node(port), [write_object(tmp_path)])


def test_rejection_that_comes_at_once_is_read_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The connection is over before the library looks at it; the cause is not lost."""
    real_send_request = ACSE.send_request
    pause = threading.Event()

    def send_request(acse: ACSE) -> None:
        real_send_request(acse)
        for _ in range(1000):
            if acse.dul.peek_next_pdu() is not None and not acse.dul.is_alive():
                return
            pause.wait(0.01)

    monkeypatch.setattr(ACSE, "send_request", send_request)
    with (
        scripted(STORE_CT, ae_title="OTHER") as port,
        pytest.raises(DestinationUnavailable, match="not called 'TESTPACS'"),
    ):
        store_objects(dimse_node(port), [write_object(tmp_path)])


def test_other_protocol_is_refused_for_good(tmp_path: Path) -> None:
    """1/2/2: protocol version not supported."""

    def on_requested(event: Event) -> None:
        event.assoc.acse.send_reject(1, 2, 2)
        event.assoc.kill()

    with (
        scripted(STORE_CT, EVT_REQUESTED=on_requested) as port,
        pytest.raises(DestinationRefused, match="version"),
    ):
        store_objects(dimse_node(port), [write_object(tmp_path)])


# ── Orthanc ──────────────────────────────────────────────────────────────────────────────────


def test_orthanc_takes_lists_and_confirms(orthanc: OrthancServer, tmp_path: Path) -> None:
    """A real PACS: stored, found by day, counted, confirmed, and there by REST."""
    objects = [write_object(tmp_path, number) for number in (1, 2, 3)]
    node = dimse_node(orthanc.dicom_port, ae_title=orthanc.ae_title)
    assert echo(node).is_ok
    statuses = store_objects(node, objects)
    assert {one.outcome for one in statuses} == {Outcome.STORED}
    absent = replace(objects[0], sop_instance_uid=f"{SERIES_UID}.77")
    confirmed = confirm_objects(node, [*objects, absent])
    assert confirmed == {one.sop_instance_uid for one in objects}
    (study,) = find_studies(node, date(2026, 1, 2))
    assert (study.study_instance_uid, study.n_instances) == (STUDY_UID, 3)
    assert count_instances(node, STUDY_UID) == 3
    with urllib.request.urlopen(f"{orthanc.url}/instances", timeout=PATIENCE_S) as answer:  # noqa: S310
        assert answer.read().count(b'"') == 6


def test_host_name_that_does_not_resolve_is_unavailable() -> None:
    """A typo or a name service that is away is tried again; nothing crashes."""
    nowhere = DimseNode("pacs", "PACS", "no.such.host.invalid", 104, "SCREENER", 5.0)

    result = echo(nowhere)

    assert not result.is_ok
    assert "no.such.host.invalid" in result.detail
    with pytest.raises(DestinationUnavailable, match="cannot be reached"):
        count_instances(nowhere, "1.2.3")
