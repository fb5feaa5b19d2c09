"""The listener over real sockets: what is acknowledged is kept, what is odd costs one status.

Covers storing with pynetdicom, DCMTK and Orthanc, every refusal of an instance, full disks and
absent databases. Associations have their own module. Does not cover: TLS, and load.
"""

from __future__ import annotations

import json
import os
import struct
import subprocess
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from pynetdicom import AE

from screener.deliver.scu import DeliverableObject, store_objects
from screener.domain import DimseNode, Outcome, ResultKind
from screener.errors import DatabaseUnavailable
from screener.receive.arrival import RefusalNotice
from screener.receive.part10 import FileMeta, encode_file_meta
from tests.integration.conftest import PATIENCE_S, require_tool
from tests.integration.senders import associate, is_empty, store
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
TEST_DATA = Path(os.environ.get("SCREENER_TEST_DATA", Path(__file__).parents[2] / "../shared/data"))


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
    target = DimseNode("node", "SCREENER", "127.0.0.1", node.port, "CT1", PATIENCE_S)
    statuses = store_objects(target, objects)
    assert {one.outcome for one in statuses} == {Outcome.STORED}
    assert len({received.instance.path for received in node.registered}) == 133
    assert {received.instance.sop_instance_uid for received in node.registered} == {shared}
