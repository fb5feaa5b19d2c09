"""Sending and asking over real sockets: every status read, every failure said with its cause.

Covers the test PACS, Orthanc, and nodes that refuse, break off, stay silent or lie. Does not
cover: storage commitment, retrieval and TLS.
"""

from __future__ import annotations

import socket
import threading
import time
import urllib.request
from contextlib import contextmanager
from dataclasses import replace
from datetime import date
from typing import TYPE_CHECKING, Any

import pydicom
import pytest
from pydicom.dataset import Dataset
from pynetdicom import AE, evt

from screener.deliver.echo import echo
from screener.deliver.query import confirm_objects, count_instances, find_studies
from screener.deliver.scu import DeliverableObject, Outcome, store_objects
from screener.domain import Destination, QueryNode, ResultKind
from screener.errors import DestinationRefused, DestinationUnavailable
from screener.receive.part10 import FileMeta, encode_file_meta
from tests.integration.conftest import PATIENCE_S, free_port
from tests.receive_factories import (
    CT_IMAGE,
    EXPLICIT,
    IMPLICIT,
    SERIES_UID,
    STUDY_UID,
    ct_bytes,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from pynetdicom.events import Event

    from screener.demo.test_pacs import DemoPacs
    from tests.integration.conftest import OrthancServer

pytestmark = pytest.mark.integration

VERIFICATION = "1.2.840.10008.1.1"
STUDY_ROOT_FIND = "1.2.840.10008.5.1.4.1.2.2.1"
REPORT = "1.2.840.10008.5.1.4.1.1.88.34"
SEGMENTATION = "1.2.840.10008.5.1.4.1.1.66.4"
UUID_TEXT = "896911bf-1143-4c8d-8f04-f3cd1a7f6204"


def destination(
    port: int, *, ae_title: str = "TESTPACS", timeout_s: float = PATIENCE_S
) -> Destination:
    return Destination("pacs", ae_title, "127.0.0.1", port, "SCREENER", (), timeout_s)


def query_node(
    port: int, *, ae_title: str = "TESTPACS", timeout_s: float = PATIENCE_S
) -> QueryNode:
    return QueryNode("pacs", ae_title, "127.0.0.1", port, "SCREENER", timeout_s)


def write_object(
    folder: Path, number: int = 1, sop_class_uid: str = CT_IMAGE, **values: Any
) -> DeliverableObject:
    """A small object of any class; what is in it does not matter to the sending."""
    uid = f"{SERIES_UID}.{number}"
    content = ct_bytes(number, **({"SOPClassUID": sop_class_uid} | values))
    path = folder / f"object-{number}.dcm"
    path.write_bytes(encode_file_meta(FileMeta(sop_class_uid, uid, EXPLICIT)) + content)
    kind = {REPORT: ResultKind.STRUCTURED_REPORT, SEGMENTATION: ResultKind.SEGMENTATION}.get(
        sop_class_uid, ResultKind.OVERLAY
    )
    return DeliverableObject(kind, sop_class_uid, uid, path)


def data_set_of(path: Path) -> bytes:
    content = path.read_bytes()
    return content[144 + int.from_bytes(content[140:144], "little") :]


@contextmanager
def scripted(
    *contexts: tuple[str, list[str]], ae_title: str = "TESTPACS", **handlers: Callable[..., Any]
) -> Iterator[int]:
    """Run an SCP with handlers by event name; gives its port."""
    ae = AE(ae_title)
    ae.require_called_aet = True
    for abstract_syntax, transfer_syntaxes in contexts:
        ae.add_supported_context(abstract_syntax, transfer_syntaxes)
    bound = [(getattr(evt, name), handler) for name, handler in handlers.items()]
    server: Any = ae.start_server(("127.0.0.1", 0), block=False, evt_handlers=bound)
    try:
        yield int(server.server_address[1])
    finally:
        server.shutdown()
        ae.shutdown()


STORE_CT = (CT_IMAGE, [EXPLICIT, IMPLICIT])


# ── storing ──────────────────────────────────────────────────────────────────────────────────


def test_objects_arrive_byte_for_byte(pacs: DemoPacs, tmp_path: Path) -> None:
    """What was encoded once is what the destination gets, in order, each with its status."""
    objects = [write_object(tmp_path, 1, REPORT), write_object(tmp_path, 2, SEGMENTATION)]
    statuses = store_objects(destination(pacs.port), objects)
    assert [one.sop_instance_uid for one in statuses] == [one.sop_instance_uid for one in objects]
    assert {(one.status, one.outcome) for one in statuses} == {(0x0000, Outcome.STORED)}
    arrived = pacs.wait_for(lambda files: len(files) == 2, PATIENCE_S)
    for one, sent in zip(arrived, objects, strict=True):
        assert data_set_of(one.path) == data_set_of(sent.path)
        assert one.calling_ae_title == "SCREENER"


def test_nothing_to_send_needs_no_association() -> None:
    """No objects, no connection."""
    assert store_objects(destination(1), []) == ()


def test_file_that_is_gone_is_said_and_the_others_are_sent(pacs: DemoPacs, tmp_path: Path) -> None:
    """A fault of ours is no fault of the destination, and holds up nothing."""
    objects = [write_object(tmp_path, number) for number in (1, 2, 3)]
    objects[0].path.unlink()
    objects[1].path.write_bytes(b"no DICOM")
    statuses = store_objects(destination(pacs.port), objects)
    assert [one.outcome for one in statuses] == [Outcome.REFUSED, Outcome.REFUSED, Outcome.STORED]
    assert "Our own file" in statuses[0].comment
    assert store_objects(destination(1), objects[:1])[0].outcome is Outcome.REFUSED


def test_only_what_is_needed_is_proposed(tmp_path: Path) -> None:
    """One class: its own encoding and the one that every node must accept."""
    proposed: list[tuple[str, list[str]]] = []

    def on_requested(event: Event) -> None:
        proposed.extend(
            (str(context.abstract_syntax), [str(syntax) for syntax in context.transfer_syntax])
            for context in event.assoc.requestor.requested_contexts
        )

    with scripted(STORE_CT, EVT_REQUESTED=on_requested, EVT_C_STORE=lambda _: 0) as port:
        store_objects(destination(port), [write_object(tmp_path, 1), write_object(tmp_path, 2)])
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
        (status,) = store_objects(destination(port), [sent])
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
        statuses = store_objects(destination(port), objects)
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
        (status,) = store_objects(destination(port), [write_object(tmp_path)])
    assert "no space left" in status.comment


def test_class_that_is_not_accepted_is_refused_or_skipped(tmp_path: Path) -> None:
    """The report is what matters; an extra that a node does not take is skipped, and said."""
    objects = [
        write_object(tmp_path, 1, REPORT),
        write_object(tmp_path, 2, SEGMENTATION),
        write_object(tmp_path, 3, CT_IMAGE),
    ]
    with scripted(STORE_CT, EVT_C_STORE=lambda _: 0) as port:
        statuses = store_objects(destination(port), objects)
    assert [one.outcome for one in statuses] == [Outcome.REFUSED, Outcome.SKIPPED, Outcome.STORED]
    assert REPORT in statuses[0].comment


def test_node_that_accepts_no_context_refuses_the_report(tmp_path: Path) -> None:
    """The association ends at once, yet each object has its answer."""
    objects = [write_object(tmp_path, 1, REPORT), write_object(tmp_path, 2, SEGMENTATION)]
    with scripted((VERIFICATION, [IMPLICIT])) as port:
        statuses = store_objects(destination(port), objects)
    assert [one.outcome for one in statuses] == [Outcome.REFUSED, Outcome.SKIPPED]


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
        statuses = store_objects(destination(port), objects)
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
                destination(port, timeout_s=0.5),
                [write_object(tmp_path, number) for number in (1, 2)],
            )
        finally:
            done.set()
    assert [one.outcome for one in statuses] == [Outcome.RETRY, Outcome.RETRY]
    assert time.monotonic() - started_s < 5


# ── no association ───────────────────────────────────────────────────────────────────────────


def test_nobody_listening_is_unavailable_and_says_where(tmp_path: Path) -> None:
    """The text names title, host and port, and what to check."""
    port = free_port()
    with pytest.raises(DestinationUnavailable, match=rf"TESTPACS at 127\.0\.0\.1:{port}.*check"):
        store_objects(destination(port, timeout_s=2), [write_object(tmp_path)])


def test_listener_that_is_no_dicom_node_is_unavailable(tmp_path: Path) -> None:
    """It takes the connection and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with pytest.raises(DestinationUnavailable, match="took the connection"):
            store_objects(destination(port, timeout_s=0.5), [write_object(tmp_path)])


def test_wrong_called_ae_title_is_worth_retrying(tmp_path: Path) -> None:
    """A person mends it there; then the delivery goes on by itself."""
    with (
        scripted(STORE_CT, ae_title="OTHER") as port,
        pytest.raises(DestinationUnavailable, match="not called 'TESTPACS'"),
    ):
        store_objects(destination(port), [write_object(tmp_path)])


def test_unknown_calling_ae_title_names_what_to_register(tmp_path: Path) -> None:
    """1/1/3: the other node must learn our title."""

    def on_requested(event: Event) -> None:
        event.assoc.acse.send_reject(1, 1, 3)
        event.assoc.kill()

    with (
        scripted(STORE_CT, EVT_REQUESTED=on_requested) as port,
        pytest.raises(DestinationUnavailable, match="calling AE title 'SCREENER'"),
    ):
        store_objects(destination(port), [write_object(tmp_path)])


def test_other_protocol_is_refused_for_good(tmp_path: Path) -> None:
    """1/2/2: protocol version not supported."""

    def on_requested(event: Event) -> None:
        event.assoc.acse.send_reject(1, 2, 2)
        event.assoc.kill()

    with (
        scripted(STORE_CT, EVT_REQUESTED=on_requested) as port,
        pytest.raises(DestinationRefused, match="version"),
    ):
        store_objects(destination(port), [write_object(tmp_path)])


# ── asking ───────────────────────────────────────────────────────────────────────────────────


def test_studies_of_a_day_are_listed_with_their_size(pacs: DemoPacs, tmp_path: Path) -> None:
    """The day and the modality decide; UUID text for a UID is no obstacle."""
    store_objects(
        destination(pacs.port),
        [
            write_object(tmp_path, 1),
            write_object(tmp_path, 2),
            write_object(tmp_path, 3, StudyInstanceUID=UUID_TEXT),
            write_object(tmp_path, 4, StudyInstanceUID="1.2.4", StudyDate="20260103"),
            write_object(tmp_path, 5, StudyInstanceUID="1.2.5", Modality="DX"),
        ],
    )
    studies = find_studies(query_node(pacs.port), date(2026, 1, 2))
    assert {(one.study_instance_uid, one.n_instances) for one in studies} == {
        (STUDY_UID, 2),
        (UUID_TEXT, 1),
    }
    assert {one.modalities for one in studies} == {("CT",)}
    assert find_studies(query_node(pacs.port), date(2020, 1, 1)) == ()


def test_size_of_a_study_is_asked(pacs: DemoPacs, tmp_path: Path) -> None:
    """A number where the node knows, None where it does not."""
    store_objects(
        destination(pacs.port),
        [
            write_object(tmp_path, 1, StudyInstanceUID=UUID_TEXT),
            write_object(tmp_path, 2, StudyInstanceUID=UUID_TEXT),
        ],
    )
    assert count_instances(query_node(pacs.port), UUID_TEXT) == 2
    assert count_instances(query_node(pacs.port), "1.2.3") is None


def test_confirmation_names_what_the_node_holds(pacs: DemoPacs, tmp_path: Path) -> None:
    """Sent is not confirmed: the one that was never sent is not there."""
    objects = [write_object(tmp_path, 1, REPORT), write_object(tmp_path, 2, REPORT)]
    store_objects(destination(pacs.port), objects[:1])
    confirmed = confirm_objects(query_node(pacs.port), objects)
    assert confirmed == {objects[0].sop_instance_uid}


def find_answers(*codes: int) -> Callable[[Event], Iterator[tuple[int, Dataset | None]]]:
    def on_find(_: Event) -> Iterator[tuple[int, Dataset | None]]:
        for code in codes:
            answer = Dataset()
            answer.QueryRetrieveLevel = "STUDY"
            answer.StudyInstanceUID = STUDY_UID
            yield code, answer if code == 0xFF00 else None

    return on_find


FIND = (STUDY_ROOT_FIND, [IMPLICIT])


def test_node_that_says_neither_count_nor_modality_is_believed() -> None:
    """Optional attributes may be absent."""
    with scripted(FIND, EVT_C_FIND=find_answers(0xFF00)) as port:
        (study,) = find_studies(query_node(port), date(2026, 1, 2))
        assert count_instances(query_node(port), STUDY_UID) is None
    assert (study.n_instances, study.modalities, study.study_date) == (None, (), "")


@pytest.mark.parametrize(
    ("code", "error"), [(0xA700, DestinationUnavailable), (0xA900, DestinationRefused)]
)
def test_list_that_is_cut_short_is_an_error_not_a_short_list(
    code: int, error: type[Exception]
) -> None:
    """A failure after the first answer must not look like a day with one study."""
    with (
        scripted(FIND, EVT_C_FIND=find_answers(0xFF00, code)) as port,
        pytest.raises(error, match=f"0x{code:04X}"),
    ):
        find_studies(query_node(port), date(2026, 1, 2))


def test_node_that_breaks_off_its_list_is_unavailable() -> None:
    """An abort between answers."""

    def on_find(event: Event) -> Iterator[tuple[int, Dataset | None]]:
        answer = Dataset()
        answer.QueryRetrieveLevel = "STUDY"
        yield 0xFF00, answer
        event.assoc.abort()

    with scripted(FIND, EVT_C_FIND=on_find) as port, pytest.raises(DestinationUnavailable):
        find_studies(query_node(port, timeout_s=5), date(2026, 1, 2))


def test_node_without_query_service_is_refused() -> None:
    """It cannot be asked; that is not the same as an empty day."""
    with (
        scripted(STORE_CT) as port,
        pytest.raises(DestinationRefused, match="no study-root C-FIND"),
    ):
        find_studies(query_node(port), date(2026, 1, 2))


# ── echo ─────────────────────────────────────────────────────────────────────────────────────


def test_echo_of_a_node_that_hears_us(pacs: DemoPacs) -> None:
    """Yes, with the time it took."""
    result = echo(destination(pacs.port))
    assert result.is_ok
    assert 0 < result.seconds < PATIENCE_S


def test_echo_that_fails_says_what_to_check() -> None:
    """No exception: the answer is the finding."""
    result = echo(destination(free_port(), timeout_s=2))
    assert not result.is_ok
    assert "check host and port" in result.detail


def test_echo_of_a_node_without_the_service() -> None:
    """A node may store and not echo."""
    with scripted(STORE_CT) as port:
        result = echo(query_node(port))
    assert not result.is_ok
    assert "does not accept C-ECHO" in result.detail


# ── Orthanc ──────────────────────────────────────────────────────────────────────────────────


def test_orthanc_takes_lists_and_confirms(orthanc: OrthancServer, tmp_path: Path) -> None:
    """A real PACS: stored, found by day, counted, confirmed, and there by REST."""
    objects = [write_object(tmp_path, number) for number in (1, 2, 3)]
    target = destination(orthanc.dicom_port, ae_title=orthanc.ae_title)
    node = query_node(orthanc.dicom_port, ae_title=orthanc.ae_title)
    assert echo(target).is_ok
    statuses = store_objects(target, objects)
    assert {one.outcome for one in statuses} == {Outcome.STORED}
    absent = replace(objects[0], sop_instance_uid=f"{SERIES_UID}.77")
    confirmed = confirm_objects(node, [*objects, absent])
    assert confirmed == {one.sop_instance_uid for one in objects}
    (study,) = find_studies(node, date(2026, 1, 2))
    assert (study.study_instance_uid, study.n_instances) == (STUDY_UID, 3)
    assert count_instances(node, STUDY_UID) == 3
    with urllib.request.urlopen(f"{orthanc.url}/instances", timeout=PATIENCE_S) as answer:  # noqa: S310
        assert answer.read().count(b'"') == 6
