"""What a folder of files becomes; every file ends in a study or in a reason."""

import zlib
from pathlib import Path

import pytest
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian

from screener.assemble import FolderLimits, part10, read_folder
from screener.assemble.part10 import UnreadableFile, read_part10_header
from screener.digest import content_digest
from screener.errors import WrongUse
from tests.ct_factories import RECEIVED_AT, ct_dataset, only_study, write_dataset, write_series


def test_folder_is_read_recursively_with_any_name(tmp_path: Path) -> None:
    """Studies in nested folders, without file name extension, in shuffled order."""
    write_series(tmp_path / "a" / "b", [0.0, 5.0, 10.0])
    write_series(tmp_path / "c", [0.0], series="1.9.1", StudyInstanceUID="1.9")
    contents = read_folder(tmp_path, RECEIVED_AT)
    assert [len(study.instances) for study in contents.studies] == [3, 1]
    assert contents.n_files == 4
    assert contents.ignored == ()


def test_digest_is_of_the_encoded_data_set(tmp_path: Path) -> None:
    """The bytes after the file meta: as the listener computes it for the same data set."""
    bare = write_dataset(ct_dataset(), tmp_path / "bare", has_preamble=False)
    write_dataset(ct_dataset(), tmp_path / "part10")
    expected = content_digest(bare.read_bytes())
    contents = read_folder(tmp_path, RECEIVED_AT)
    (study,) = contents.studies
    assert [one.content_digest for one in study.instances] == [expected]
    assert [reason for _, reason in contents.ignored] == ["same content as bare"]


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
def test_file_without_preamble_is_read(tmp_path: Path, syntax: str) -> None:
    """A bare data set: its transfer syntax is recognised by its looks."""
    path = write_dataset(ct_dataset(), tmp_path / "bare", syntax, has_preamble=False)
    (study,) = read_folder(path, RECEIVED_AT).studies
    assert study.instances[0].transfer_syntax_uid == syntax


def test_same_uid_with_other_content_is_kept(tmp_path: Path) -> None:
    """One SOP Instance UID on every slice: not one slice may vanish."""
    write_series(tmp_path, SOPInstanceUID="1.2.3")
    assert len(only_study(tmp_path).instances) == 24


def test_empty_sop_instance_uid_is_kept(tmp_path: Path) -> None:
    """Published series have it; the instances differ by content."""
    write_series(tmp_path, [0.0, 5.0], SOPInstanceUID="")
    assert [one.sop_instance_uid for one in only_study(tmp_path).instances] == ["", ""]


def test_uid_of_letters_is_taken_as_it_stands(tmp_path: Path) -> None:
    """UUID text is no UI value, and still names a study."""
    uid = "896911bf-1143-4c8d-8f04-f3cd1a7f6204"
    write_series(tmp_path, [0.0], StudyInstanceUID=uid)
    assert only_study(tmp_path).study_instance_uid == uid


def test_other_files_are_ignored_with_a_reason(tmp_path: Path) -> None:
    """Text, pictures, noise, an empty file, a data set without study: none is a traceback."""
    (tmp_path / "notes.txt").write_text("DICOM?")
    (tmp_path / "empty").write_bytes(b"")
    (tmp_path / "noise").write_bytes(bytes(range(256)) * 16)
    (tmp_path / "cut").write_bytes(bytes(128) + b"DICM\x02\x00\x10\x00UI\xff")
    (tmp_path / "meta").write_bytes(bytes(128) + b"DICM\x02\x00\x10\x00UI\xff\xff")
    write_dataset(ct_dataset(StudyInstanceUID=None), tmp_path / "nostudy")
    write_dataset(ct_dataset(SeriesInstanceUID=["1.2", "1.3"]), tmp_path / "two")
    contents = read_folder(tmp_path, RECEIVED_AT)
    assert contents.studies == ()
    assert len(contents.ignored) == contents.n_files == 7
    reasons = {path.name: reason for path, reason in contents.ignored}
    assert reasons["notes.txt"] == reasons["empty"] == reasons["noise"] == "not a DICOM file"
    assert reasons["nostudy"] == "no Study or Series Instance UID"
    assert reasons["two"] == "SeriesInstanceUID has several values"
    assert "no study" in contents.explain_emptiness().lower()


def test_dicomdir_is_an_index(tmp_path: Path) -> None:
    """A DICOMDIR lists instances and is none."""
    write_dataset(ct_dataset(SOPClassUID="1.2.840.10008.1.3.10"), tmp_path / "DICOMDIR")
    assert "index" in read_folder(tmp_path, RECEIVED_AT).ignored[0][1]


def test_link_out_of_the_folder_is_not_followed(tmp_path: Path) -> None:
    """A link must not pull other patients in."""
    write_series(tmp_path / "other", [0.0])
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "link").symlink_to(next((tmp_path / "other").iterdir()))
    assert read_folder(tmp_path / "here", RECEIVED_AT).n_files == 0


def test_large_file_is_ignored(tmp_path: Path) -> None:
    """A file over the limit is not opened."""
    write_series(tmp_path, [0.0])
    limits = FolderLimits(max_file_bytes=100)
    assert "100 set" in read_folder(tmp_path, RECEIVED_AT, limits).ignored[0][1]


def test_missing_and_overfull_folders_are_wrong_use(tmp_path: Path) -> None:
    """Both get a sentence that says what would work."""
    with pytest.raises(WrongUse, match="does not exist"):
        read_folder(tmp_path / "nowhere", RECEIVED_AT)
    write_series(tmp_path, [0.0, 5.0])
    with pytest.raises(WrongUse, match="more than 1 files"):
        read_folder(tmp_path, RECEIVED_AT, FolderLimits(max_files=1))


def test_deflated_bomb_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A small file that inflates beyond the limit is not inflated."""
    monkeypatch.setattr(part10, "MAX_INFLATED_BYTES", 1 << 16)
    deflater = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    bomb = deflater.compress(bytes(1 << 20)) + deflater.flush()
    meta = b"\x02\x00\x10\x00UI\x16\x001.2.840.10008.1.2.1.99"
    (tmp_path / "bomb").write_bytes(bytes(128) + b"DICM" + meta + bomb)
    with pytest.raises(UnreadableFile, match="inflates to more than"):
        read_part10_header(tmp_path / "bomb")


def test_deep_nesting_is_refused(tmp_path: Path) -> None:
    """Two hundred nested sequences end in a named reason, not in a RecursionError."""
    item = b"\xfe\xff\x00\xe0\xff\xff\xff\xff"
    nested = (b"\x08\x00\x40\x11SQ\x00\x00\xff\xff\xff\xff" + item) * 2000
    study = b"\x08\x00\x16\x00UI\x04\x001.2\x00"
    meta = b"\x02\x00\x10\x00UI\x14\x001.2.840.10008.1.2.1\x00"
    (tmp_path / "deep").write_bytes(bytes(128) + b"DICM" + meta + study + nested)
    with pytest.raises(UnreadableFile):
        read_part10_header(tmp_path / "deep")
