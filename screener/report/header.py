"""Turn the header of a source into one that result objects can inherit.

Real headers lack attributes, carry values their representation forbids, and declare character
sets that a result must not repeat. What identifies the study stays as it is, right or wrong,
because an archive matches on it; what only describes is trimmed, blanked or left out. Every
change that loses something is said in plain words, never with the value itself.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any, Final

from pydicom import Dataset
from pydicom.charset import convert_encodings
from pydicom.config import RAISE
from pydicom.datadict import dictionary_VR
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.multival import MultiValue
from pydicom.valuerep import MAX_VALUE_LEN, PersonName, validate_value

if TYPE_CHECKING:
    from collections.abc import Iterable

#: Character set of every object we write: UTF-8 holds whatever the source declared (PS3.3
#: C.12.1.1.2).
UNICODE: Final = "ISO_IR 192"

#: Type 2 attributes of Patient and General Study: present, empty where the source has none.
TYPE_2: Final = (
    "PatientName",
    "PatientID",
    "PatientBirthDate",
    "PatientSex",
    "StudyDate",
    "StudyTime",
    "ReferringPhysicianName",
    "StudyID",
    "AccessionNumber",
)

#: Kept as they are even where they break their value representation: archives match on them.
IDENTITY: Final = frozenset(
    {"PatientName", "PatientID", "IssuerOfPatientID", "StudyID", "AccessionNumber"}
)

#: Attributes outside groups 0010 and 0012 that results inherit or cite.
_INHERITED: Final = (
    "StudyDate",
    "StudyTime",
    "AccessionNumber",
    "IssuerOfAccessionNumberSequence",
    "ReferringPhysicianName",
    "ReferringPhysicianIdentificationSequence",
    "StudyDescription",
    "ProcedureCodeSequence",
    "PhysiciansOfRecord",
    "PhysiciansOfRecordIdentificationSequence",
    "NameOfPhysiciansReadingStudy",
    "AdmittingDiagnosesDescription",
    "AdmittingDiagnosesCodeSequence",
    "StudyID",
    "RequestingService",
    "AdmissionID",
    "RequestAttributesSequence",
    "TimezoneOffsetFromUTC",
    "Manufacturer",
    "ManufacturerModelName",
    "InstitutionName",
    "StationName",
    "DeviceSerialNumber",
    "SoftwareVersions",
    "PositionReferenceIndicator",
)

_TEXT: Final = frozenset({"LO", "LT", "SH", "ST", "UC", "UT", "PN", "CS"})
#: Representations whose values have a type of pydicom, which its own validation refuses.
_HAVE_TYPES: Final = frozenset({"PN", "DS", "IS"})
_TRIMMED: Final = frozenset({"LO", "LT", "SH", "ST"})
_SEXES: Final = frozenset({"M", "F", "O"})
_PATIENT_GROUPS: Final = frozenset({0x0010, 0x0012})
_NO_CHARACTER_SET: Final = frozenset({"", "ISO_IR 6"})
#: pydicom decodes what follows this escape sequence of ISO 2022 IR 58, and leaves it in the text.
_ESCAPE_TO_GB_2312: Final = "\x1b$)A"
_PRIVATE_USE_OF_REPLACEMENT: Final = "\N{REPLACEMENT CHARACTER}"


class _Unusable(Exception):
    """A value breaks its representation."""


def normalise_header(source: Dataset) -> tuple[Dataset, tuple[str, ...]]:
    """Copy what results inherit from a source, cleaned.

    Parameters
    ----------
    source
        Header of one instance, pixel data not needed. It is not changed, but its elements are
        decoded.

    Returns
    -------
    header
        Patient, study and equipment attributes in UTF-8, with every Type 2 attribute present.
    notes
        One sentence for each change that lost or kept something irregular.
    """
    header = Dataset()
    notes: list[str] = []
    _declare_undeclared_unicode(source, notes)
    for keyword in _keywords(source):
        _copy(source, header, keyword, notes)
    for keyword in TYPE_2:
        if keyword not in header:
            setattr(header, keyword, "")
            if keyword not in source:
                notes.append(f"{keyword} is missing in the source and left empty.")
    if header.PatientSex not in _SEXES | {"", None}:
        header.PatientSex = ""
        notes.append("PatientSex is none of M, F and O in the source and left empty.")
    _complete_deidentification(header, notes)
    header.SpecificCharacterSet = UNICODE
    return header, tuple(notes)


def _complete_deidentification(header: Dataset, notes: list[str]) -> None:
    """Give De-identification Method (0012,0063) the value that it must have (PS3.3 C.7.1.1)."""
    if header.get("DeidentificationMethod") or header.get("DeidentificationMethodCodeSequence"):
        return
    if header.get("PatientIdentityRemoved") == "YES":
        header.DeidentificationMethod = "not stated by the source"
        notes.append("The source says that its identity was removed, and not how.")
    elif "DeidentificationMethod" in header:
        del header.DeidentificationMethod


def _keywords(source: Dataset) -> Iterable[str]:
    patient = [
        element.keyword
        for element in (DataElement(tag, dictionary_VR(tag), None) for tag in _patient_tags(source))
    ]
    return (*(keyword for keyword in _INHERITED if keyword in source), *patient)


def _patient_tags(source: Dataset) -> list[int]:
    tags: list[int] = []
    for tag in source.keys():  # noqa: SIM118  iterating a data set decodes every element
        if tag.group in _PATIENT_GROUPS and tag.element != 0:
            try:
                dictionary_VR(tag)
            except KeyError:
                continue
            tags.append(tag)
    return tags


def _copy(source: Dataset, header: Dataset, keyword: str, notes: list[str]) -> None:
    try:
        value = _clean(_decode(source, keyword), notes)
    except _Unusable:
        if keyword in IDENTITY:
            setattr(header, keyword, _verbatim(source, keyword))
            notes.append(f"{keyword} breaks its value representation and is kept as it is.")
        else:
            notes.append(f"{keyword} is invalid in the source and left out.")
        return
    setattr(header, keyword, value)


def _decode(source: Dataset, keyword: str) -> DataElement:
    """Decode one element; text that cannot be decoded keeps its replacement characters."""
    with warnings.catch_warnings():
        # What is wrong is found below and said in a note; the library's words are not needed.
        warnings.simplefilter("ignore")
        try:
            return source[keyword]
        except (ValueError, TypeError, ArithmeticError, NotImplementedError) as error:
            raise _Unusable from error


def _clean(element: DataElement, notes: list[str]) -> Any:
    """Give the value of an element as clean Python values, or raise `_Unusable`."""
    if element.VR == "SQ":
        return [_clean_item(item, notes) for item in element.value]
    values = element.value if isinstance(element.value, MultiValue | list) else [element.value]
    cleaned = [_clean_value(element, value, notes) for value in values]
    return cleaned[0] if len(cleaned) == 1 else cleaned


def _clean_item(item: Dataset, notes: list[str]) -> Dataset:
    clean = Dataset()
    for tag in item.keys():  # noqa: SIM118  iterating a data set decodes every element
        if tag.is_private or tag == 0x00080005:  # noqa: PLR2004  Specific Character Set
            continue
        element = _decode_item(item, tag)
        if element.VR == "UI" and not element.value:
            raise _Unusable
        clean.add_new(tag, element.VR, _clean(element, notes))
    return clean


def _decode_item(item: Dataset, tag: int) -> DataElement:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return item[tag]
        except (ValueError, TypeError, ArithmeticError, NotImplementedError, KeyError) as error:
            raise _Unusable from error


def _clean_value(element: DataElement, value: Any, notes: list[str]) -> Any:
    if value is None or value == "":
        return ""
    if element.VR in _TEXT:
        value = str(value).replace(_ESCAPE_TO_GB_2312, "")
        if _PRIVATE_USE_OF_REPLACEMENT in value:
            notes.append(f"{element.keyword} holds text that its character set cannot decode.")
    try:
        validate_value(element.VR, str(value) if element.VR in _HAVE_TYPES else value, RAISE)
    except ValueError as error:
        if element.VR not in _TRIMMED or element.keyword in IDENTITY:
            raise _Unusable from error
        return _trim(element, str(value), notes)
    return PersonName(value) if element.VR == "PN" else value


def _trim(element: DataElement, text: str, notes: list[str]) -> str:
    trimmed = text[: MAX_VALUE_LEN[element.VR]].rstrip()
    try:
        validate_value(element.VR, trimmed, RAISE)
    except ValueError as error:
        raise _Unusable from error
    notes.append(f"{element.keyword} is longer than DICOM allows and was shortened.")
    return trimmed


def _verbatim(source: Dataset, keyword: str) -> Any:
    element = _decode(source, keyword)
    return PersonName(str(element.value)) if element.VR == "PN" else element.value


def _declare_undeclared_unicode(source: Dataset, notes: list[str]) -> None:
    """Declare UTF-8 where a source declares nothing that exists and its patient name is UTF-8."""
    fault = _find_fault_of_declaration(source)
    if fault is None:
        return
    raw = source.get_item("PatientName") if "PatientName" in source else None
    if not isinstance(raw, RawDataElement) or not raw.value or raw.value.isascii():
        return
    try:
        raw.value.decode("utf-8")
    except UnicodeDecodeError:
        notes.append(f"The source declares {fault}, its text was read as Latin-1.")
        return
    source.SpecificCharacterSet = UNICODE
    # Elements are decoded on access, with the Python encoding kept from reading.
    source.set_original_encoding(*source.original_encoding, "utf_8")
    notes.append(f"The source declares {fault}, its text was read as UTF-8.")


def _find_fault_of_declaration(source: Dataset) -> str | None:
    """Say why a declaration does not tell how text is to be read, None where it does."""
    declared = source.get("SpecificCharacterSet") or ""
    if str(declared) in _NO_CHARACTER_SET:
        return "no character set"
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        convert_encodings(declared if isinstance(declared, str) else list(declared))
    is_unknown = any(str(one.message).startswith("Unknown encoding") for one in caught)
    return "a character set that does not exist" if is_unknown else None
