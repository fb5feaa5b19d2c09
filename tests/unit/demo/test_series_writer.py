"""Series written from phantoms: conformant when sound, and every defect really there when asked.

Reading is done with plain pydicom; how the screener copes with the defects is tested elsewhere.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from pydicom import config, dcmread

from models.phantom import Pattern, Phantom, PhantomSpec, make_phantom
from screener.demo.pixel_encoding import WRITABLE_SYNTAXES
from screener.demo.series_writer import (
    PADDING_VALUE,
    MultiFrame,
    SeriesDefects,
    write_localizer,
    write_radiograph,
    write_series,
)
from screener.demo.synthetic_identity import SyntheticIdentity

if TYPE_CHECKING:
    from pydicom.dataset import FileDataset

IDENTITY = SyntheticIdentity("writer test", datetime(2026, 2, 3, 14, 15, 16, tzinfo=UTC))


@cache
def small_phantom() -> Phantom:
    return make_phantom(PhantomSpec(3, Pattern.COVID_19, 5, 60.0, 64, 64, 6.0))


def written(folder: Path, defects: SeriesDefects) -> list[FileDataset]:
    return [dcmread(path) for path in write_series(small_phantom(), folder, IDENTITY, defects)]


def heights(datasets: list[FileDataset]) -> list[float]:
    return [float(ds.ImagePositionPatient[2]) for ds in datasets]


def hounsfield(ds: FileDataset) -> np.ndarray:
    return ds.pixel_array * float(ds.RescaleSlope) + float(ds.RescaleIntercept)


def dciodvfy(path: Path) -> str:
    beside_python = Path(sys.executable).with_name("dciodvfy")
    tool = str(beside_python) if beside_python.exists() else shutil.which("dciodvfy")
    if tool is None:
        pytest.skip("dciodvfy is not installed")
    run = subprocess.run([tool, "-new", str(path)], capture_output=True, text=True, check=False)
    output = run.stdout + run.stderr
    assert "CTImage" in output or "CRImage" in output or "EnhancedCTImage" in output
    return "\n".join(line for line in output.splitlines() if line.startswith("Error"))


def test_sound_series_reads_back_as_the_phantom(tmp_path: Path) -> None:
    """Pixels, order and grid are those of the phantom."""
    datasets = written(tmp_path, SeriesDefects())
    phantom = small_phantom()
    for ds, plane in zip(datasets, phantom.volume_hu, strict=True):
        assert np.array_equal(hounsfield(ds), plane)
    assert np.allclose(np.diff(heights(datasets)), 60.0)
    first = datasets[0]
    assert [float(value) for value in first.PixelSpacing] == [6.0, 6.0]
    assert list(first.ImageType) == ["ORIGINAL", "PRIMARY", "AXIAL"]
    # Centred columns: the patient's right, negative x, comes first.
    assert float(first.ImagePositionPatient[0]) == -189.0
    assert first.StudyDate == "20260203"
    assert "Synthetic" in str(first.PatientName)


def test_uids_follow_from_names(tmp_path: Path) -> None:
    """The same names give the same bytes; another name another study and patient."""
    phantom = small_phantom()
    first = write_series(phantom, tmp_path / "a", IDENTITY)
    second = write_series(phantom, tmp_path / "b", IDENTITY)
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]
    other = dcmread(write_series(phantom, tmp_path / "c", SyntheticIdentity("another"))[0])
    same = dcmread(first[0])
    assert other.StudyInstanceUID != same.StudyInstanceUID
    assert other.PatientID != same.PatientID
    assert len({dcmread(path).SOPInstanceUID for path in first}) == 5


def test_series_of_one_study_share_study_and_frame_of_reference() -> None:
    """A second series has its own UID within the same study."""
    second = SyntheticIdentity(IDENTITY.name, IDENTITY.study_at, series_name="thin")
    assert second.study_instance_uid == IDENTITY.study_instance_uid
    assert second.frame_of_reference_uid == IDENTITY.frame_of_reference_uid
    assert second.series_instance_uid != IDENTITY.series_instance_uid


@pytest.mark.conformance
def test_sound_objects_pass_dciodvfy(tmp_path: Path) -> None:
    """Series, padded series, multi-frame, localizer and radiograph have no error."""
    phantom = small_phantom()
    paths = [
        write_series(phantom, tmp_path / "sound", IDENTITY)[0],
        write_series(
            phantom, tmp_path / "padded", IDENTITY, SeriesDefects(has_signed_padding=True)
        )[0],
        write_series(
            phantom,
            tmp_path / "frames",
            IDENTITY,
            SeriesDefects(multi_frame=MultiFrame.LEGACY_CONVERTED),
        )[0],
        write_localizer(phantom, tmp_path, IDENTITY),
        write_radiograph(phantom, tmp_path, IDENTITY),
    ]
    assert [dciodvfy(path) for path in paths] == [""] * len(paths)


@pytest.mark.conformance
def test_dciodvfy_sees_a_missing_attribute(tmp_path: Path) -> None:
    """The check above can fail: a broken series is found out."""
    defects = SeriesDefects(missing_keywords=("PixelSpacing",))
    assert "PixelSpacing" in dciodvfy(write_series(small_phantom(), tmp_path, IDENTITY, defects)[0])


@pytest.mark.parametrize("syntax", WRITABLE_SYNTAXES)
def test_every_syntax_is_written_and_lossless(tmp_path: Path, syntax: str) -> None:
    """The file meta names the syntax and the pixels are bit-identical."""
    datasets = written(tmp_path, SeriesDefects(transfer_syntax_uid=syntax))
    assert datasets[0].file_meta.TransferSyntaxUID == syntax
    for ds, plane in zip(datasets, small_phantom().volume_hu, strict=True):
        assert np.array_equal(hounsfield(ds), plane)


def test_unknown_syntax_is_refused(tmp_path: Path) -> None:
    """A lossy syntax cannot be written and the message says what can."""
    with pytest.raises(ValueError, match=r"1\.2\.840\.10008\.1\.2\.4\.70"):
        written(tmp_path, SeriesDefects(transfer_syntax_uid="1.2.840.10008.1.2.4.51"))


def test_reversed_series_starts_at_the_head(tmp_path: Path) -> None:
    """Instance 1 is the most cranial slice, and pixels went along."""
    datasets = written(tmp_path, SeriesDefects(is_reversed=True))
    assert heights(datasets) == sorted(heights(datasets), reverse=True)
    assert [ds.InstanceNumber for ds in datasets] == [1, 2, 3, 4, 5]
    assert np.array_equal(hounsfield(datasets[0]), small_phantom().volume_hu[-1])


def test_shuffled_series_has_no_order_of_height(tmp_path: Path) -> None:
    """All heights are there, in neither direction."""
    found = heights(written(tmp_path, SeriesDefects(is_shuffled=True)))
    assert len(set(found)) == 5
    assert found != sorted(found)
    assert found != sorted(found, reverse=True)


def test_gapped_series_lacks_slices(tmp_path: Path) -> None:
    """Two slices are missing: one distance is three times as long."""
    datasets = written(tmp_path, SeriesDefects(missing_slices=(1, 2)))
    assert np.allclose(np.diff(heights(datasets)), [180.0, 60.0])


def test_tilted_series_says_so(tmp_path: Path) -> None:
    """The slice normal leaves the body axis by the tilt."""
    ds = written(tmp_path, SeriesDefects(tilt_degrees=20.0))[0]
    row, column = np.reshape([float(value) for value in ds.ImageOrientationPatient], (2, 3))
    assert np.isclose(np.rad2deg(np.arccos(np.cross(row, column)[2])), 20.0, atol=1e-3)
    assert float(ds.GantryDetectorTilt) == 20.0


def test_shared_sop_instance_uid_stands_on_every_slice(tmp_path: Path) -> None:
    """One UID, five different contents."""
    datasets = written(tmp_path, SeriesDefects(has_one_sop_instance_uid=True))
    assert len({ds.SOPInstanceUID for ds in datasets}) == 1
    assert len({ds.file_meta.MediaStorageSOPInstanceUID for ds in datasets}) == 1
    assert len({ds.PixelData for ds in datasets}) == 5


def test_text_uids_hold_letters_and_hyphens(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Study, series and instance carry UUID text, in the file meta too."""
    monkeypatch.setattr(config.settings, "reading_validation_mode", config.IGNORE)
    datasets = written(tmp_path, SeriesDefects(has_text_uids=True))
    assert len({str(ds.SOPInstanceUID) for ds in datasets}) == 5
    for ds in datasets:
        for uid in (ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.SOPInstanceUID):
            assert "-" in uid
            assert any(letter in uid for letter in "ABCDEF")
        assert ds.file_meta.MediaStorageSOPInstanceUID == ds.SOPInstanceUID


def test_missing_keywords_are_gone(tmp_path: Path) -> None:
    """Each named attribute is absent from every instance."""
    keywords = ("Modality", "ImageType", "Manufacturer", "SOPClassUID")
    for ds in written(tmp_path, SeriesDefects(missing_keywords=keywords)):
        assert not [keyword for keyword in keywords if keyword in ds]
        assert "Rows" in ds


def test_keyword_that_is_not_there_is_refused(tmp_path: Path) -> None:
    """Taking out what no instance has is a mistake of the test that asks."""
    with pytest.raises(ValueError, match="EchoTime"):
        written(tmp_path, SeriesDefects(missing_keywords=("EchoTime",)))


def test_multi_frame_holds_all_slices(tmp_path: Path) -> None:
    """One instance whose frames are the slices, with their positions."""
    (ds,) = written(tmp_path, SeriesDefects(multi_frame=MultiFrame.LEGACY_CONVERTED))
    assert ds.NumberOfFrames == 5
    shared = ds.SharedFunctionalGroupsSequence[0].PixelValueTransformationSequence[0]
    frames = ds.pixel_array.astype(int) + int(shared.RescaleIntercept)
    assert np.array_equal(frames, small_phantom().volume_hu)
    found = [
        float(groups.PlanePositionSequence[0].ImagePositionPatient[2])
        for groups in ds.PerFrameFunctionalGroupsSequence
    ]
    assert np.allclose(np.diff(found), 60.0)


def test_two_volumes_double_every_position(tmp_path: Path) -> None:
    """Ten instances at five positions, different pixels, different UIDs."""
    datasets = written(tmp_path, SeriesDefects(has_two_volumes=True))
    assert len(datasets) == len({ds.SOPInstanceUID for ds in datasets}) == 10
    assert len(set(heights(datasets))) == 5
    assert not np.array_equal(datasets[0].pixel_array, datasets[5].pixel_array)


def test_signed_padding_lies_outside_the_circle(tmp_path: Path) -> None:
    """Corners are padded, the padding is declared signed, the middle is untouched."""
    datasets = written(tmp_path, SeriesDefects(has_signed_padding=True))
    for ds, plane in zip(datasets, small_phantom().volume_hu, strict=True):
        assert ds.PixelRepresentation == 1
        assert ds.PixelPaddingValue == PADDING_VALUE
        assert ds.pixel_array[0, 0] == PADDING_VALUE
        assert np.array_equal(hounsfield(ds)[20:44, 20:44], plane[20:44, 20:44])


def test_odd_intercept_still_gives_hounsfield_units(tmp_path: Path) -> None:
    """An intercept of -8192 is allowed for; -1000 clips air as real scanners do."""
    far = written(tmp_path / "far", SeriesDefects(rescale_intercept=-8192))
    assert np.array_equal(hounsfield(far[2]), small_phantom().volume_hu[2])
    assert far[0].BitsStored == 16
    near = written(tmp_path / "near", SeriesDefects(rescale_intercept=-1000))
    assert np.array_equal(hounsfield(near[2]), np.maximum(small_phantom().volume_hu[2], -1000))


def test_contradicting_defects_are_refused() -> None:
    """A multi-frame series cannot also hold two volumes."""
    with pytest.raises(ValueError, match="multi-frame"):
        SeriesDefects(multi_frame=MultiFrame.LEGACY_CONVERTED, has_two_volumes=True)


def test_all_slices_left_out_is_refused(tmp_path: Path) -> None:
    """A series without a slice is no series."""
    with pytest.raises(ValueError, match="missing_slices"):
        written(tmp_path, SeriesDefects(missing_slices=(0, 1, 2, 3, 4)))


def test_localizer_and_radiograph_name_themselves(tmp_path: Path) -> None:
    """The topogram is a coronal CT localizer, the radiograph no CT at all."""
    localizer = dcmread(write_localizer(small_phantom(), tmp_path, IDENTITY))
    assert list(localizer.ImageType) == ["ORIGINAL", "PRIMARY", "LOCALIZER"]
    assert [float(v) for v in localizer.ImageOrientationPatient] == [1, 0, 0, 0, 0, -1]
    radiograph = dcmread(write_radiograph(small_phantom(), tmp_path, IDENTITY))
    assert radiograph.Modality == "CR"
    assert radiograph.pixel_array.max() == 4095
    assert "ImagePositionPatient" not in radiograph


def test_identity_without_time_zone_is_refused() -> None:
    """A naive time is a mistake."""
    with pytest.raises(ValueError, match="time zone"):
        SyntheticIdentity("x", datetime(2026, 1, 1))  # noqa: DTZ001
