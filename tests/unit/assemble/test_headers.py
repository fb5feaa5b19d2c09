"""Headers into values: absence is tolerated, a wrong type is not."""

from pathlib import Path
from typing import Any

import pytest
from pydicom import Dataset
from pydicom.dataelem import DataElement

from screener.assemble.headers import InstanceHeader, read_headers
from tests.ct_factories import ct_dataset, enhanced_dataset, only_study, write_dataset


def header_of(dataset: Dataset, folder: Path) -> InstanceHeader:
    write_dataset(dataset, folder / "one")
    (header,) = read_headers(only_study(folder))
    return header


def test_conformant_slice_is_described(tmp_path: Path) -> None:
    """Everything the later steps need, with units."""
    header = header_of(ct_dataset(PixelPaddingValue=63536 - 65536 + 65536), tmp_path)
    assert header.unreadable is None
    assert header.missing == ()
    assert (header.modality, header.body_part, header.kernel) == ("CT", "CHEST", "B30f")
    (frame,) = header.frames
    assert frame.frame_number is None
    assert frame.position_mm == (-4.0, -4.0, 0.0)
    assert frame.pixel_spacing_mm == (1.0, 1.0)
    assert frame.rescale is not None
    assert (frame.rescale.slope, frame.rescale.intercept) == (1.0, -1024.0)
    assert header.pixels is not None
    assert (header.pixels.rows, header.pixels.bits_stored) == (8, 12)


@pytest.mark.parametrize(
    ("attributes", "reason"),
    [
        ({"SamplesPerPixel": 3}, "Samples per Pixel"),
        ({"PhotometricInterpretation": "RGB"}, "MONOCHROME2"),
        ({"BitsAllocated": 32}, "bits stored in 32"),
        ({"BitsStored": 16, "BitsAllocated": 8, "HighBit": 15}, "16 bits stored in 8"),
        ({"HighBit": 15}, "High Bit is 15"),
        ({"Rows": None}, "Rows is missing"),
        ({"Rows": 0}, "Rows is no unsigned short from 1"),
        ({"Columns": 65535}, "Columns is no unsigned short"),
        ({"NumberOfFrames": -5}, "Number of Frames"),
        ({"NumberOfFrames": 2**31 - 1}, "Number of Frames"),
        ({"PixelData": None}, "no Pixel Data"),
        ({"ImagePositionPatient": [0.0, 1.0]}, "does not have 3 values"),
        ({"PixelSpacing": 1.0}, "does not have 2 values"),
    ],
)
def test_impossible_value_makes_the_instance_unreadable(
    tmp_path: Path, attributes: dict[str, Any], reason: str
) -> None:
    """The reason names the attribute and never repeats text of the data set."""
    header = header_of(ct_dataset(**attributes), tmp_path)
    assert header.unreadable is not None
    assert reason in header.unreadable


@pytest.mark.parametrize(("vr", "value"), [("UL", 8), ("LO", "<b>x</b>")])
def test_rows_of_another_vr_are_refused(tmp_path: Path, vr: str, value: object) -> None:
    """A number in the wrong representation is type confusion, not a number."""
    dataset = ct_dataset()
    dataset[0x00280010] = DataElement(0x00280010, vr, value)
    header = header_of(dataset, tmp_path)
    assert header.unreadable == "Rows is no unsigned short from 1 to 16384"


@pytest.mark.parametrize("text", ["NaN", "inf", "abc"])
def test_number_that_is_none_is_refused(tmp_path: Path, text: str) -> None:
    """A slope of NaN must not reach the pixels."""
    dataset = ct_dataset(RescaleSlope=None)
    dataset.add_new(0x00281053, "LO", text)
    assert header_of(dataset, tmp_path).unreadable is not None


def test_missing_attributes_are_noted_not_refused(tmp_path: Path) -> None:
    """Image Type, Manufacturer, Modality may be missing; the report will say so."""
    header = header_of(
        ct_dataset(ImageType=None, Manufacturer=None, Modality=None, StudyDate=""), tmp_path
    )
    assert header.unreadable is None
    assert set(header.missing) == {"ImageType", "Modality", "Manufacturer"}
    assert header.is_study_date_empty


def test_signed_padding_is_read_with_the_sign_of_the_pixels(tmp_path: Path) -> None:
    """Writers store -2000 as US or SS; the pixels decide."""
    dataset = ct_dataset(PixelRepresentation=1, BitsStored=16, HighBit=15)
    dataset.add_new(0x00280120, "US", 65536 - 2000)
    header = header_of(dataset, tmp_path)
    assert header.pixels is not None
    assert header.pixels.padding == (-2000, -2000)


def test_frames_of_enhanced_ct_are_resolved(tmp_path: Path) -> None:
    """Per-frame before shared functional groups, frame numbers from 1."""
    header = header_of(enhanced_dataset([10.0, 5.0, 0.0]), tmp_path)
    assert header.unreadable is None
    assert [frame.frame_number for frame in header.frames] == [1, 2, 3]
    assert [frame.position_mm and frame.position_mm[2] for frame in header.frames] == [10, 5, 0]
    assert header.frames[0].image_type == ("ORIGINAL", "PRIMARY", "AXIAL", "NONE")
    assert header.frames[2].rescale is not None
    assert header.frames[2].rescale.intercept == -1024.0


def test_functional_groups_that_do_not_match_the_frames_are_refused(tmp_path: Path) -> None:
    """Two items for three frames: nobody knows which slice is which."""
    dataset = enhanced_dataset([0.0, 5.0, 10.0])
    del dataset.PerFrameFunctionalGroupsSequence[2]
    assert "2 items" in (header_of(dataset, tmp_path).unreadable or "")


def test_patient_is_kept_as_digest_only(tmp_path: Path) -> None:
    """No identity in a value that may be logged."""
    header = header_of(ct_dataset(PatientID="SECRET-7"), tmp_path)
    assert "SECRET" not in repr(header)
    assert len(header.patient_digest) == 64
