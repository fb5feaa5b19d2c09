"""The spool: durable, named by content, no half-written file visible, full disk said so."""

from __future__ import annotations

import io
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pydicom
import pytest

from screener.digest import content_digest
from screener.errors import DatabaseUnavailable, SpoolFull
from screener.receive.adopt import adopt_orphans
from screener.receive.part10 import FileMeta, encode_file_meta, read_file_meta
from screener.receive.spool import PendingInstance, Spool
from tests.receive_factories import CT_IMAGE, EXPLICIT, SERIES_UID, ct_bytes

if TYPE_CHECKING:
    from collections.abc import Collection

    from screener.receive.arrival import ReceivedInstance

META = FileMeta(CT_IMAGE, f"{SERIES_UID}.1", EXPLICIT, "SENDER")
TOO_MUCH_BYTES = 2**62


def receive(spool: Spool, content: bytes, meta: FileMeta = META) -> PendingInstance:
    pending = spool.begin(meta)
    for start in range(0, len(content), 100):
        pending.write(content[start : start + 100])
    return pending


def no_digests(digests: Collection[str]) -> Collection[str]:
    del digests
    return ()


def test_kept_file_is_named_by_content_and_holds_the_bytes_as_received(tmp_path: Path) -> None:
    """Path from the digest; our meta, then the data set unchanged."""
    spool, content = Spool(tmp_path, 0), ct_bytes()
    path = spool.keep(receive(spool, content))
    digest = content_digest(content)
    assert path == tmp_path / "store" / digest[:2] / f"{digest}.dcm"
    assert path.read_bytes() == encode_file_meta(META) + content
    assert list(spool.incoming.iterdir()) == []
    assert path.stat().st_mode & 0o077 == 0


def test_kept_file_is_a_dicom_file_to_others(tmp_path: Path) -> None:
    """Pydicom reads our hand-written file meta and the data set behind it."""
    spool = Spool(tmp_path, 0)
    dataset = pydicom.dcmread(spool.keep(receive(spool, ct_bytes())))
    assert dataset.file_meta.TransferSyntaxUID == EXPLICIT
    assert dataset.file_meta.MediaStorageSOPInstanceUID == f"{SERIES_UID}.1"
    assert dataset.file_meta.SourceApplicationEntityTitle == "SENDER"
    assert dataset.InstanceNumber == 1


def test_same_content_twice_is_one_file_and_is_mended(tmp_path: Path) -> None:
    """A second copy replaces the first, also where the first was damaged."""
    spool, content = Spool(tmp_path, 0), ct_bytes()
    path = spool.keep(receive(spool, content))
    path.write_bytes(b"damaged")
    assert spool.keep(receive(spool, content)) == path
    assert path.read_bytes().endswith(content)
    assert [len(paths) for paths in spool.shards()] == [1]


def test_same_uid_with_other_content_is_two_files(tmp_path: Path) -> None:
    """One SOP Instance UID on every slice loses no slice."""
    spool = Spool(tmp_path, 0)
    paths = {spool.keep(receive(spool, ct_bytes(number))) for number in range(1, 6)}
    assert len(paths) == 5


def test_discarded_instance_leaves_nothing(tmp_path: Path) -> None:
    """Twice, and after keeping, is harmless."""
    spool = Spool(tmp_path, 0)
    pending = receive(spool, ct_bytes())
    spool.discard(pending)
    spool.discard(pending)
    assert list(spool.incoming.iterdir()) == []
    kept = receive(spool, ct_bytes())
    path = spool.keep(kept)
    spool.discard(kept)
    assert path.exists()


def test_disk_below_the_reserve_takes_nothing(tmp_path: Path) -> None:
    """Bytes go nowhere, keeping says so, nothing is left."""
    spool = Spool(tmp_path, TOO_MUCH_BYTES)
    assert not spool.has_room()
    pending = receive(spool, ct_bytes())
    with pytest.raises(SpoolFull):
        pending.read_at(0, 1)
    with pytest.raises(SpoolFull):
        spool.keep(pending)
    assert list(spool.incoming.iterdir()) == []
    assert list(spool.store.iterdir()) == []


def test_spool_that_is_gone_has_no_room(tmp_path: Path) -> None:
    """An unmounted disk is answered like a full one."""
    spool = Spool(tmp_path / "spool", 0)
    shutil.rmtree(tmp_path / "spool")
    assert not spool.has_room()
    pending = spool.begin(META)
    pending.write(b"1234")
    with pytest.raises(SpoolFull):
        spool.keep(pending)


def test_write_that_fails_is_said_when_keeping(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk during the transfer is no error in the network thread."""
    spool = Spool(tmp_path, 0)
    pending = spool.begin(META)

    def full(descriptor: int, content: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    assert pending.write(b"1234") == 4
    with pytest.raises(SpoolFull):
        spool.keep(pending)
    assert list(spool.incoming.iterdir()) == []


def test_fsync_that_fails_keeps_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a failed fsync the file counts as lost; it is not tried again."""
    spool = Spool(tmp_path, 0)
    pending = receive(spool, ct_bytes())
    calls: list[int] = []

    def failing(descriptor: int) -> None:
        calls.append(descriptor)
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fsync", failing)
    with pytest.raises(SpoolFull):
        spool.keep(pending)
    assert len(calls) == 1
    assert list(spool.store.iterdir()) == []


def test_what_was_written_is_read_back(tmp_path: Path) -> None:
    """The beginning from memory, the rest from the file, and across the two: the same bytes."""
    spool, content = Spool(tmp_path, 0), bytes(range(256)) * 200
    pending = receive(spool, content)
    for offset, n_bytes in ((0, 100), (32_000, 768), (32_700, 500), (40_000, 9_000), (51_000, 999)):
        assert pending.read_at(offset, n_bytes) == content[offset : offset + n_bytes]
    spool.discard(pending)
    with pytest.raises(SpoolFull):
        pending.read_at(40_000, 1)


def test_file_shorter_than_received_is_not_kept(tmp_path: Path) -> None:
    """What lies on the disk is measured before it is renamed."""
    spool = Spool(tmp_path, 0)
    pending = receive(spool, ct_bytes())
    os.truncate(pending.part_path, 500)
    with pytest.raises(SpoolFull, match="shorter"):
        spool.keep(pending)


def test_order_is_sync_rename_sync_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """File first, then its name, then the folder that holds the name."""
    spool = Spool(tmp_path, 0)
    pending = receive(spool, ct_bytes())
    steps: list[str] = []
    real_fsync, real_rename = os.fsync, os.rename

    def fsync(descriptor: int) -> None:
        steps.append(f"fsync {Path(f'/proc/self/fd/{descriptor}').readlink()}")
        real_fsync(descriptor)

    def rename(source: str, target: str) -> None:
        steps.append("rename")
        real_rename(source, target)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "rename", rename)
    path = spool.keep(pending)
    assert steps == [
        f"fsync {pending.part_path}",
        f"fsync {spool.store}",
        "rename",
        f"fsync {path.parent}",
    ]


def test_janitor_removes_abandoned_parts_but_not_live_ones(tmp_path: Path) -> None:
    """A part file that is still locked belongs to a listener that is writing it."""
    spool = Spool(tmp_path, 0)
    live = receive(spool, ct_bytes())
    (spool.incoming / "dead.part").write_bytes(b"half")
    assert spool.remove_abandoned() == 1
    assert [path.name for path in spool.incoming.iterdir()] == [Path(live.part_path).name]
    spool.discard(live)


def test_janitor_adopts_files_without_a_row(tmp_path: Path) -> None:
    """A crash between rename and commit costs nothing: the file gets its row at start."""
    spool = Spool(tmp_path, 0)
    known = spool.keep(receive(spool, ct_bytes(1)))
    orphan = spool.keep(
        receive(spool, ct_bytes(2), FileMeta(CT_IMAGE, f"{SERIES_UID}.2", EXPLICIT))
    )
    adopted: list[ReceivedInstance] = []
    report = adopt_orphans(
        spool, lambda digests: {known.stem} & set(digests), adopted.append, b"salt"
    )
    assert (report.n_adopted, report.damaged) == (1, ())
    assert adopted[0].instance.path == orphan
    assert adopted[0].instance.sop_instance_uid == f"{SERIES_UID}.2"
    assert adopted[0].instance.content_digest == orphan.stem
    assert adopted[0].instance.received_at.tzinfo is not None
    assert adopted[0].n_bytes == orphan.stat().st_size


def test_janitor_names_damaged_files_and_leaves_them(tmp_path: Path) -> None:
    """A file that is not what its name says is never adopted and never deleted."""
    spool = Spool(tmp_path, 0)
    path = spool.keep(receive(spool, ct_bytes()))
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    report = adopt_orphans(spool, no_digests, lambda _: pytest.fail("adopted"), b"salt")
    assert report.damaged == (path,)
    assert path.exists()


def test_janitor_stops_where_the_database_is_away(tmp_path: Path) -> None:
    """The start fails loudly; the file stays for the next one."""
    spool = Spool(tmp_path, 0)
    path = spool.keep(receive(spool, ct_bytes()))

    def register(_: ReceivedInstance) -> None:
        raise DatabaseUnavailable("away")

    with pytest.raises(DatabaseUnavailable):
        adopt_orphans(spool, no_digests, register, b"salt")
    assert path.exists()


def test_file_meta_survives_a_round_trip() -> None:
    """What is written is read back, and the stream stands at the data set."""
    stream = io.BytesIO(encode_file_meta(META) + b"data")
    assert read_file_meta(stream) == META
    assert stream.read() == b"data"


@pytest.mark.parametrize("content", [b"", b"DICM", bytes(200), bytes(128) + b"DICM" + bytes(40)])
def test_file_that_is_not_ours_has_no_meta(content: bytes) -> None:
    """Anything else is a ValueError."""
    with pytest.raises(ValueError, match=r"ours|DICOM"):
        read_file_meta(io.BytesIO(content))


def test_disk_writes_while_the_rest_arrives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What has come is handed to the disk piece by piece, in order, and nothing is missing."""
    ranges: list[tuple[int, int]] = []
    monkeypatch.setattr(
        os, "posix_fadvise", lambda _, start, n_bytes, __: ranges.append((start, n_bytes))
    )
    spool = Spool(tmp_path, 0)
    pending = spool.begin(META)
    content = os.urandom(1_000_000)
    for start in range(0, len(content), 50_000):
        pending.write(memoryview(content)[start : start + 50_000])
    path = spool.keep(pending)
    assert path.read_bytes().endswith(content)
    assert len(ranges) == 6
    ends = [start + n_bytes for start, n_bytes in ranges]
    assert [start for start, _ in ranges] == [0, *ends[:-1]]
    assert ends[-1] <= path.stat().st_size
