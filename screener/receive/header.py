"""Who and what an encoded data set is: the few values that the ledger needs, nothing more.

Bounded (`elements.py`), without pixels, and without a patient's name: the Patient ID leaves this
module only as a keyed digest. No error text holds a value of the data set.
"""

from __future__ import annotations

import hmac
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from screener.domain import QuarantineReason
from screener.errors import RefusedInstance
from screener.receive.contexts import IMPLICIT_VR_LITTLE_ENDIAN, ClassRole, role_of
from screener.receive.elements import (
    PIXEL_DATA_TAGS,
    UNDEFINED_LENGTH,
    Element,
    ElementReader,
    FragmentFault,
    MalformedDataSet,
    TooDeeplyNested,
)
from screener.receive.status import (
    CANNOT_UNDERSTAND,
    DATA_SET_DOES_NOT_MATCH,
    INVALID_SOP_INSTANCE,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from screener.receive.elements import ReadAt

#: Most bytes of a header that are looked at; skipped values do not count.
MAX_HEADER_BYTES = 1024 * 1024

#: Manufacturer (0008,0070) of the objects that the screener itself makes.
OWN_MANUFACTURER = "ct-screener"

#: Beyond this tag nothing decides who and what the instance is.
_LAST_IDENTIFYING_TAG = 0x0028FFFF

#: PS3.5 9.1.
_CONFORMANT_UID = re.compile(r"(0|[1-9][0-9]*)(\.(0|[1-9][0-9]*))*")
#: What we accept: also letters and hyphens, as UUID text has them. No slash, no control
#: character, and never dots alone.
_ACCEPTED_UID = re.compile(r"(?=.*[0-9A-Za-z])[0-9A-Za-z._-]{1,64}")

#: Photometric Interpretations of a CT (PS3.3 C.8.2.1.1.2).
_PHOTOMETRIC = frozenset({"MONOCHROME1", "MONOCHROME2"})

#: Longest value that is read, in bytes; long enough for every VR we look at (PS3.5 6.2).
_MAX_VALUE_BYTES = 1024

#: PS3.3 C.7.6.3: what a CT may have.
_MAX_ROWS = 16384
_MAX_FRAMES = 20000
_BITS_ALLOCATED = frozenset({8, 16})


class _Tag(NamedTuple):
    image_type: int = 0x00080008
    sop_class_uid: int = 0x00080016
    sop_instance_uid: int = 0x00080018
    study_date: int = 0x00080020
    modality: int = 0x00080060
    manufacturer: int = 0x00080070
    patient_id: int = 0x00100020
    device_serial_number: int = 0x00181000
    study_instance_uid: int = 0x0020000D
    series_instance_uid: int = 0x0020000E
    series_number: int = 0x00200011
    image_position: int = 0x00200032
    frame_of_reference_uid: int = 0x00200052
    samples_per_pixel: int = 0x00280002
    photometric_interpretation: int = 0x00280004
    number_of_frames: int = 0x00280008
    rows: int = 0x00280010
    columns: int = 0x00280011
    bits_allocated: int = 0x00280100
    bits_stored: int = 0x00280101
    high_bit: int = 0x00280102


_TAG = _Tag()
_WANTED = frozenset(_TAG)
#: Of these the value is one US; of all others it is text.
_NUMBERS = frozenset(
    {
        _TAG.samples_per_pixel,
        _TAG.rows,
        _TAG.columns,
        _TAG.bits_allocated,
        _TAG.bits_stored,
        _TAG.high_bit,
    }
)


@dataclass(frozen=True, slots=True)
class CommandIdentity:
    """What the C-STORE command, or the file meta, says about the data set."""

    sop_class_uid: str
    sop_instance_uid: str


@dataclass(frozen=True, slots=True)
class ReceivedHeader:
    """Who and what one instance is; no name, no birth date, no free text."""

    study_instance_uid: str
    series_instance_uid: str
    sop_instance_uid: str
    sop_class_uid: str
    role: ClassRole | None
    modality: str
    study_date: str  #: as sent, eight digits if it is well-formed
    image_type: tuple[str, ...]
    manufacturer: str
    device_serial_number: str
    series_number: int | None
    image_position_mm: tuple[float, float, float] | None
    frame_of_reference_uid: str
    n_frames: int
    patient_id_digest: str  #: keyed sha256, hexadecimal; of the empty text where there is none
    is_patient_id_empty: bool
    non_conformities: tuple[str, ...]  #: keywords whose value breaks the standard
    is_own_result: bool  #: one of our reports coming back
    quarantine_reason: QuarantineReason | None

    @property
    def is_non_conformant(self) -> bool:
        """Whether any UID breaks PS3.5 9.1."""
        return bool(self.non_conformities)


def check_sop_instance_uid(sop_instance_uid: str) -> None:
    """Refuse a SOP Instance UID that must not get in.

    Raises
    ------
    RefusedInstance
        Status 0x0117: empty, over 64 characters, or with a slash, control or other character
        that neither a UID nor UUID text has.
    """
    if not _ACCEPTED_UID.fullmatch(sop_instance_uid):
        raise RefusedInstance(INVALID_SOP_INSTANCE, "SOP Instance UID is not usable")


def parse_header(
    read_at: ReadAt,
    n_bytes: int,
    transfer_syntax_uid: str,
    command: CommandIdentity,
    patient_id_salt: bytes,
    *,
    max_bytes: int = MAX_HEADER_BYTES,
) -> ReceivedHeader:
    """Read the identifying values of an encoded data set.

    Parameters
    ----------
    read_at
        Reads the data set.
    n_bytes
        Length of the data set.
    transfer_syntax_uid
        Little endian; implicit or explicit VR.
    command
        What the data set is said to be; a data set that says otherwise is refused.
    patient_id_salt
        Key of the Patient ID digest.
    max_bytes
        Most bytes that are looked at.

    Raises
    ------
    RefusedInstance
        0x0117 for an unusable SOP Instance UID, 0xA900 where the data set is another instance,
        0xC000 where it cannot be parsed or attributed to one study and series.
    """
    check_sop_instance_uid(command.sop_instance_uid)
    if n_bytes == 0:
        raise RefusedInstance(CANNOT_UNDERSTAND, "There is no data set")
    reader = ElementReader(
        read_at,
        n_bytes,
        is_explicit=transfer_syntax_uid != IMPLICIT_VR_LITTLE_ENDIAN,
        budget_bytes=max_bytes,
    )
    found = _collect(reader)
    return _header(found, command, patient_id_salt)


@dataclass(slots=True)
class _Found:
    texts: dict[int, str]  #: without padding
    numbers: dict[int, int | None]  #: None where the value is no US
    pixel_bytes: int | None = None  #: of native pixels, 0 where absent; None where encapsulated
    available_pixel_bytes: int = 0
    are_fragments_broken: bool = False  #: of encapsulated pixels


def _collect(reader: ElementReader) -> _Found:
    found = _Found({}, {})
    is_identified = False
    pixels: Element | None = None
    try:
        for element in reader.elements():
            is_identified = is_identified or element.tag > _LAST_IDENTIFYING_TAG
            if element.tag in _WANTED and element.length != UNDEFINED_LENGTH:
                value = reader.value(element, _MAX_VALUE_BYTES)
                if element.tag in _NUMBERS:
                    found.numbers[element.tag] = _unsigned_short(element, value)
                else:
                    # Latin-1 maps every byte; we look at codes, UIDs and makers' names.
                    found.texts[element.tag] = value.decode("latin-1").strip(" \x00")
            elif element.tag in PIXEL_DATA_TAGS:
                pixels = element
    except TooDeeplyNested as error:
        raise RefusedInstance(CANNOT_UNDERSTAND, "The data set cannot be parsed") from error
    except MalformedDataSet as error:
        # Later, per-frame items alone can pass the budget; who it is is known by then.
        if not is_identified:
            raise RefusedInstance(CANNOT_UNDERSTAND, "The data set cannot be parsed") from error
        return found
    if pixels is None:
        found.pixel_bytes = 0
    elif pixels.length == UNDEFINED_LENGTH:
        found.are_fragments_broken = not _are_fragments_whole(reader, pixels)
    else:
        found.pixel_bytes = pixels.length
        found.available_pixel_bytes = reader.end - pixels.offset
    return found


def _are_fragments_whole(reader: ElementReader, pixels: Element) -> bool:
    try:
        reader.check_fragments(pixels)
    except FragmentFault:
        return False
    return True


def _header(found: _Found, command: CommandIdentity, salt: bytes) -> ReceivedHeader:
    study_instance_uid = _single_uid(found, _TAG.study_instance_uid, "Study Instance UID")
    series_instance_uid = _single_uid(found, _TAG.series_instance_uid, "Series Instance UID")
    _check_identity(found, command)
    manufacturer = _text(found, _TAG.manufacturer)
    patient_id = _text(found, _TAG.patient_id).encode("latin-1")
    role = role_of(command.sop_class_uid)
    n_frames = _integer_text(found, _TAG.number_of_frames)
    return ReceivedHeader(
        study_instance_uid=study_instance_uid,
        series_instance_uid=series_instance_uid,
        sop_instance_uid=command.sop_instance_uid,
        sop_class_uid=command.sop_class_uid,
        role=role,
        modality=_text(found, _TAG.modality),
        study_date=_text(found, _TAG.study_date),
        image_type=tuple(_text(found, _TAG.image_type).split("\\")),
        manufacturer=manufacturer,
        device_serial_number=_text(found, _TAG.device_serial_number),
        series_number=_integer_text(found, _TAG.series_number),
        image_position_mm=_position(found),
        frame_of_reference_uid=_text(found, _TAG.frame_of_reference_uid),
        n_frames=1 if n_frames is None else n_frames,
        patient_id_digest=hmac.digest(salt, patient_id, "sha256").hex(),
        is_patient_id_empty=not patient_id,
        non_conformities=_non_conformities(found, command),
        is_own_result=role is ClassRole.COMPANION and manufacturer == OWN_MANUFACTURER,
        quarantine_reason=_quarantine_reason(found) if role is ClassRole.SCREENED else None,
    )


def _single_uid(found: _Found, tag: int, name: str) -> str:
    uid = _text(found, tag)
    if not uid:
        raise RefusedInstance(CANNOT_UNDERSTAND, f"{name} is missing")
    if not _ACCEPTED_UID.fullmatch(uid):
        raise RefusedInstance(CANNOT_UNDERSTAND, f"{name} is not usable")
    return uid


def _check_identity(found: _Found, command: CommandIdentity) -> None:
    """Compare data set and command; an *empty* UID in the data set is a flag, not a refusal.

    Published series carry an empty SOP Instance UID on every slice. The command must name the
    instance, and the content digest tells the slices apart.
    """
    if "\\" in _text(found, _TAG.sop_instance_uid):
        raise RefusedInstance(CANNOT_UNDERSTAND, "SOP Instance UID has several values")
    if _text(found, _TAG.sop_instance_uid) not in ("", command.sop_instance_uid):
        raise RefusedInstance(DATA_SET_DOES_NOT_MATCH, "SOP Instance UID is not the command's")
    if _text(found, _TAG.sop_class_uid) not in ("", command.sop_class_uid):
        raise RefusedInstance(DATA_SET_DOES_NOT_MATCH, "SOP Class UID is not the command's")


def _non_conformities(found: _Found, command: CommandIdentity) -> tuple[str, ...]:
    uids: Mapping[str, str] = {
        "SOPClassUID": _text(found, _TAG.sop_class_uid),
        "SOPInstanceUID": _text(found, _TAG.sop_instance_uid) and command.sop_instance_uid,
        "StudyInstanceUID": _text(found, _TAG.study_instance_uid),
        "SeriesInstanceUID": _text(found, _TAG.series_instance_uid),
    }
    wrong = [keyword for keyword, uid in uids.items() if not _CONFORMANT_UID.fullmatch(uid)]
    frame_of_reference_uid = _text(found, _TAG.frame_of_reference_uid)
    if frame_of_reference_uid and not _CONFORMANT_UID.fullmatch(frame_of_reference_uid):
        wrong.append("FrameOfReferenceUID")
    return tuple(wrong)


def _text(found: _Found, tag: int) -> str:
    return found.texts.get(tag, "")


def _integer_text(found: _Found, tag: int) -> int | None:
    text = _text(found, tag)
    return int(text) if re.fullmatch(r"[+-]?[0-9]{1,11}", text) else None


def _position(found: _Found) -> tuple[float, float, float] | None:
    parts = _text(found, _TAG.image_position).split("\\")
    try:
        x, y, z = (float(part) for part in parts)
    except ValueError:
        return None
    return (x, y, z)


def _unsigned_short(element: Element, value: bytes) -> int | None:
    if element.vr not in (b"US", b"") or len(value) != 2:  # noqa: PLR2004
        return None
    return int.from_bytes(value, "little")


def _quarantine_reason(found: _Found) -> QuarantineReason | None:
    if not _text(found, _TAG.patient_id):
        return QuarantineReason.NO_PATIENT_ID
    rows = found.numbers.get(_TAG.rows)
    columns = found.numbers.get(_TAG.columns)
    frames_text = _text(found, _TAG.number_of_frames)
    n_frames = _integer_text(found, _TAG.number_of_frames) if frames_text else 1
    if not all(1 <= (value or 0) <= _MAX_ROWS for value in (rows, columns)) or not (
        1 <= (n_frames or 0) <= _MAX_FRAMES
    ):
        return QuarantineReason.IMPOSSIBLE_SIZE
    bits = found.numbers.get(_TAG.bits_allocated)
    if bits not in _BITS_ALLOCATED or not _are_cells_possible(found, bits):
        return QuarantineReason.IMPOSSIBLE_PIXELS
    if found.are_fragments_broken:
        return QuarantineReason.BROKEN_FRAGMENTS
    expected = (rows or 0) * (columns or 0) * (n_frames or 0) * bits // 8
    return _length_fault(found, expected)


def _are_cells_possible(found: _Found, bits_allocated: int) -> bool:
    """Whether samples and bits are those of a CT (PS3.3 C.8.2.1.1, PS3.5 8.1.1); absent is."""
    n_samples = found.numbers.get(_TAG.samples_per_pixel)
    photometric = _text(found, _TAG.photometric_interpretation)
    bits_stored = found.numbers.get(_TAG.bits_stored)
    high_bit = found.numbers.get(_TAG.high_bit)
    if n_samples not in (None, 1) or (photometric and photometric not in _PHOTOMETRIC):
        return False
    if bits_stored is None:
        return True
    return 1 <= bits_stored <= bits_allocated and high_bit in (None, bits_stored - 1)


def _length_fault(found: _Found, expected_bytes: int) -> QuarantineReason | None:
    if found.pixel_bytes is None:
        return None
    if min(found.pixel_bytes, found.available_pixel_bytes) < expected_bytes:
        return QuarantineReason.PIXELS_TOO_SHORT
    if found.pixel_bytes > expected_bytes + expected_bytes % 2:
        return QuarantineReason.PIXELS_TOO_LONG
    return None
