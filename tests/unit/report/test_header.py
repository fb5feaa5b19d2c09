"""Source headers as they come, and what results may inherit of them."""

from __future__ import annotations

from io import BytesIO
from typing import Any

import pytest
from pydicom import Dataset, config, dcmread, dcmwrite
from pydicom.dataelem import RawDataElement
from pydicom.dataset import FileMetaDataset
from pydicom.tag import Tag
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

from screener.assemble.part10 import quiet_parser
from screener.report.header import TYPE_2, normalise_header
from tests.report_factories import ct_header


def as_read(header: Dataset) -> Dataset:
    """Write and read a header, so that its elements are raw as in a file."""
    header.file_meta = FileMetaDataset()
    header.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    header.file_meta.MediaStorageSOPClassUID = CTImageStorage
    header.file_meta.MediaStorageSOPInstanceUID = "1.2.3"
    buffer = BytesIO()
    with config.disable_value_validation():
        dcmwrite(buffer, header, enforce_file_format=True)
    buffer.seek(0)
    return dcmread(buffer)


def normalise(**changes: Any) -> tuple[Dataset, tuple[str, ...]]:
    with config.disable_value_validation():
        return normalise_header(as_read(ct_header(0, **changes)))


@pytest.mark.parametrize("keyword", TYPE_2)
def test_missing_type_2_attribute_is_present_and_empty(keyword: str) -> None:
    """An absent Type 2 attribute is written empty, and the loss is said."""
    header, notes = normalise(**{keyword: None})
    assert keyword in header
    assert not header[keyword].value
    assert any(keyword in note for note in notes)


def test_good_header_is_inherited_without_notes() -> None:
    """A conformant header changes in nothing but its character set."""
    header, notes = normalise()
    assert notes == ()
    assert header.PatientName == "Phantom^Paula"
    assert header.PatientAge == "066Y"
    assert header.PatientSize == 1.62
    assert header.PatientWeight == 58.5
    assert header.StudyDescription == "Chest"
    assert header.SpecificCharacterSet == "ISO_IR 192"


@pytest.mark.parametrize("sex", ["W", "U", "f", "FEMALE"])
def test_invalid_sex_is_blanked(sex: str) -> None:
    """Only M, F and O may be written."""
    header, notes = normalise(PatientSex=sex)
    assert header.PatientSex == ""
    assert any("PatientSex" in note for note in notes)


@pytest.mark.parametrize(
    ("keyword", "value"),
    [("PatientBirthDate", "1970"), ("StudyDate", "03.03.2026"), ("PatientAge", "56")],
)
def test_invalid_value_is_left_out_and_not_quoted(keyword: str, value: str) -> None:
    """A value that breaks its representation goes; the note names the attribute only."""
    header, notes = normalise(**{keyword: value})
    assert not header.get(keyword)
    assert any(keyword in note for note in notes)
    assert not any(value in note for note in notes)


def test_number_that_is_none_is_left_out() -> None:
    """A decimal comma cannot be read as a number; the note names the attribute."""
    source = ct_header(0)
    source[0x0010, 0x1020] = RawDataElement(Tag(0x00101020), "DS", 4, b"1,62", 0, False, True)
    header, notes = normalise_header(source)
    assert "PatientSize" not in header
    assert any("PatientSize" in note for note in notes)


def test_over_long_description_is_trimmed() -> None:
    """What only describes is cut to what DICOM allows."""
    header, notes = normalise(StudyDescription="x" * 80)
    assert header.StudyDescription == "x" * 64
    assert any("StudyDescription" in note for note in notes)


@pytest.mark.parametrize("keyword", ["AccessionNumber", "PatientID", "StudyID"])
def test_over_long_identity_is_kept(keyword: str) -> None:
    """What identifies stays as it is, because the archive matches on it."""
    header, notes = normalise(**{keyword: "1" * 70})
    assert header[keyword].value == "1" * 70
    assert any(keyword in note for note in notes)


@pytest.mark.parametrize(
    ("charset", "name"),
    [
        ("ISO_IR 100", "Müller^Jürgen"),
        ("ISO_IR 144", "Люкceмбypг"),
        (["", "ISO 2022 IR 87"], "Yamada^Tarou=山田^太郎=やまだ^たろう"),
        (["", "ISO 2022 IR 149"], "Hong^Gildong=洪^吉洞=홍^길동"),
        ("GB18030", "Wang^XiaoDong=王^小东"),
        ("ISO_IR 192", "Łukasz^Żółć"),
    ],
)
def test_name_in_any_character_set_survives_as_unicode(charset: str | list[str], name: str) -> None:
    """A name reads the same after it was rewritten in UTF-8; nothing becomes a question mark."""
    header, notes = normalise(SpecificCharacterSet=charset, PatientName=name)
    again = as_read(header)
    assert str(again.PatientName) == name
    assert notes == ()


def with_bytes(
    written: bytes, *, charset: bytes = b"ISO_IR 100", **changes: Any
) -> tuple[Dataset, tuple[str, ...]]:
    """Normalise a header whose patient name has exactly these bytes.

    ``charset`` takes the place of ISO_IR 100: ten bytes, which no writer would take.
    """
    stand_in = "_" * len(written)
    source = as_read(ct_header(0, PatientName=stand_in, **changes))
    buffer = BytesIO()
    dcmwrite(buffer, source, enforce_file_format=True)
    content = buffer.getvalue()
    assert content.count(stand_in.encode()) == 1
    content = content.replace(stand_in.encode(), written).replace(b"ISO_IR 100", charset)
    with quiet_parser():
        source = dcmread(BytesIO(content))
    return normalise_header(source)


@pytest.mark.parametrize(
    ("encoding", "said"), [("utf-8", "read as UTF-8"), ("latin-1", "read as Latin-1")]
)
def test_unknown_character_set_is_as_good_as_none(encoding: str, said: str) -> None:
    """A declared character set that does not exist is said, and the name is read all the same."""
    header, notes = with_bytes("Müller^J".encode(encoding), charset=b"KLINGON   ")
    assert str(header.PatientName) == "Müller^J"
    assert any("does not exist" in note and said in note for note in notes)


def test_undeclared_unicode_is_recognised() -> None:
    """UTF-8 bytes without a declared character set are read as what they are, and it is said."""
    header, notes = with_bytes("Müller^Jürgen ".encode(), SpecificCharacterSet=None)
    assert str(header.PatientName) == "Müller^Jürgen"
    assert any("UTF-8" in note for note in notes)


def test_undeclared_latin_text_is_said() -> None:
    """Other bytes without a declared character set are read as Latin-1, and it is said."""
    header, notes = with_bytes("Müller^Jürgen ".encode("latin-1"), SpecificCharacterSet=None)
    assert str(header.PatientName) == "Müller^Jürgen"
    assert any("Latin-1" in note for note in notes)


def test_undecodable_name_is_said() -> None:
    """Text that its declared character set cannot decode is reported, not passed in silence."""
    _, notes = with_bytes(b"M\xfcller", SpecificCharacterSet="ISO_IR 192")
    assert any("PatientName" in note for note in notes)


def test_order_of_the_source_is_inherited() -> None:
    """Request attributes pass with their nested text, without nested character sets."""
    order = Dataset()
    order.SpecificCharacterSet = "ISO_IR 100"
    order.RequestedProcedureID = "R-1"
    order.RequestedProcedureDescription = "Thorax"
    header, notes = normalise(RequestAttributesSequence=[order])
    assert notes == ()
    assert header.RequestAttributesSequence[0].RequestedProcedureID == "R-1"
    assert "SpecificCharacterSet" not in header.RequestAttributesSequence[0]


def test_sequence_with_empty_uid_is_left_out() -> None:
    """A sequence that cites nothing would break the result, so it goes, and it is said."""
    item = Dataset()
    item.StudyInstanceUID = ""
    header, notes = normalise(RequestAttributesSequence=[item])
    assert "RequestAttributesSequence" not in header
    assert any("RequestAttributesSequence" in note for note in notes)


def test_private_and_pixel_attributes_are_not_inherited() -> None:
    """Nothing but patient, study and equipment is inherited."""
    source = ct_header(0)
    source.private_block(0x0011, "SOMEBODY", create=True).add_new(1, "LO", "secret")
    header, _ = normalise_header(as_read(source))
    assert not any(element.tag.is_private for element in header)
    assert "Rows" not in header
    assert "ImagePositionPatient" not in header


@pytest.mark.parametrize("is_removed", ["YES", "NO"])
def test_deidentification_without_a_method_is_completed(is_removed: str) -> None:
    """A method that must be there and is not stated is said to be so; an empty one is left out."""
    header, _ = normalise(PatientIdentityRemoved=is_removed, DeidentificationMethod="")
    expected = "not stated by the source" if is_removed == "YES" else None
    assert header.get("DeidentificationMethod") == expected
