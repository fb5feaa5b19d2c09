"""The bounded header parse: identity, refusals and their statuses, bounds, quarantine."""

from __future__ import annotations

import contextlib
import struct
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from screener.domain import QuarantineReason
from screener.errors import RefusedInstance
from screener.receive.contexts import ClassRole
from screener.receive.header import (
    CommandIdentity,
    ReceivedHeader,
    parse_header,
)
from tests.receive_factories import (
    CT_IMAGE,
    EXPLICIT,
    IMPLICIT,
    SERIES_UID,
    STUDY_UID,
    ct_bytes,
    ct_dataset,
    encode,
    reader_of,
)

COMMAND = CommandIdentity(CT_IMAGE, f"{SERIES_UID}.1")
UUID_TEXT = "896911bf-1143-4c8d-8f04-f3cd1a7f6204"


def parse(
    content: bytes, command: CommandIdentity = COMMAND, syntax: str = EXPLICIT, **options: Any
) -> ReceivedHeader:
    return parse_header(reader_of(content), len(content), syntax, command, b"salt", **options)


def refusal_of(content: bytes, command: CommandIdentity = COMMAND, **options: Any) -> int:
    with pytest.raises(RefusedInstance) as caught:
        parse(content, command, **options)
    assert "CANARY" not in str(caught.value)
    return caught.value.status


@pytest.mark.parametrize("syntax", [EXPLICIT, IMPLICIT])
def test_header_of_a_good_slice_says_who_it_is(syntax: str) -> None:
    """Both value representations give the same identity."""
    header = parse(encode(ct_dataset(), syntax), syntax=syntax)
    assert header.study_instance_uid == STUDY_UID
    assert header.series_instance_uid == SERIES_UID
    assert header.sop_instance_uid == f"{SERIES_UID}.1"
    assert header.role is ClassRole.SCREENED
    assert (header.modality, header.study_date, header.series_number) == ("CT", "20260102", 2)
    assert header.image_type == ("ORIGINAL", "PRIMARY", "AXIAL")
    assert header.image_position_mm == (-100.0, -90.5, 1.0)
    assert header.quarantine_reason is None
    assert not header.is_non_conformant
    assert not header.is_own_result


def test_header_holds_no_patient() -> None:
    """Neither name nor identifier leave the parser; the digest depends on the salt."""
    content = ct_bytes()
    header = parse(content)
    assert "CANARY" not in repr(header)
    other = parse_header(reader_of(content), len(content), EXPLICIT, COMMAND, b"other salt")
    assert header.patient_id_digest != other.patient_id_digest
    assert len(header.patient_id_digest) == 64


@pytest.mark.parametrize("patient_id", ["", None])
def test_header_without_patient_id_says_so(patient_id: str | None) -> None:
    """An empty and an absent Patient ID are flagged."""
    assert parse(ct_bytes(PatientID=patient_id)).is_patient_id_empty


@pytest.mark.parametrize(
    "uid", ["../../etc/x", "/abs", "C:\\x", "1.2\nforged", "1.2\x00.3", "", "1" * 65, "..", "1 2"]
)
def test_command_uid_that_is_unusable_is_refused_as_invalid_instance(uid: str) -> None:
    """Slash, control character, empty, too long: 0x0117."""
    assert refusal_of(ct_bytes(), CommandIdentity(CT_IMAGE, uid)) == 0x0117


def test_uuid_text_is_accepted_and_flagged() -> None:
    """Published series have UUID text for UIDs; they are screened."""
    content = ct_bytes(
        SOPInstanceUID=UUID_TEXT, StudyInstanceUID=UUID_TEXT, SeriesInstanceUID=UUID_TEXT
    )
    header = parse(content, CommandIdentity(CT_IMAGE, UUID_TEXT))
    assert header.study_instance_uid == UUID_TEXT
    assert header.non_conformities == ("SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID")


def test_leading_zero_is_accepted_and_flagged() -> None:
    """A component with a leading zero is a flag, not a refusal."""
    assert parse(ct_bytes(StudyInstanceUID="1.02.3")).non_conformities == ("StudyInstanceUID",)


def test_empty_uid_in_the_data_set_takes_that_of_the_command() -> None:
    """Published series have an empty SOP Instance UID; the command names the instance."""
    header = parse(ct_bytes(SOPInstanceUID=""))
    assert header.sop_instance_uid == COMMAND.sop_instance_uid
    assert header.non_conformities == ("SOPInstanceUID",)


@pytest.mark.parametrize(
    ("values", "status"),
    [
        ({"SOPInstanceUID": "1.2.3"}, 0xA900),
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.4"}, 0xA900),
        ({"StudyInstanceUID": None}, 0xC000),
        ({"StudyInstanceUID": ""}, 0xC000),
        ({"SeriesInstanceUID": None}, 0xC000),
        ({"StudyInstanceUID": ["1.2", "1.3"]}, 0xC000),
        ({"SeriesInstanceUID": ["1.2", "1.3"]}, 0xC000),
        ({"SOPInstanceUID": ["1.2", "1.3"]}, 0xC000),
        ({"StudyInstanceUID": "1/2"}, 0xC000),
    ],
)
def test_data_set_that_is_another_or_nobody_is_refused(
    values: dict[str, object], status: int
) -> None:
    """What differs from the command is 0xA900, what cannot be attributed is 0xC000."""
    assert refusal_of(ct_bytes(**values)) == status


def test_data_set_that_is_empty_is_refused() -> None:
    """No bytes: 0xC000."""
    assert refusal_of(b"") == 0xC000


@pytest.mark.parametrize("seed", range(20))
def test_noise_is_refused(seed: int) -> None:
    """Four kilobytes of noise are no data set, in either representation."""
    noise = np.random.default_rng(seed).bytes(4096)
    assert refusal_of(noise) == 0xC000
    with pytest.raises(RefusedInstance):
        parse(noise, syntax=IMPLICIT)


def test_data_set_cut_in_the_header_is_refused() -> None:
    """Before it is known who it is, it is 0xC000 and no other error."""
    content = ct_bytes()
    end_of_identity = content.index(struct.pack("<HH", 0x0020, 0x000E))
    for length in range(1, end_of_identity):
        assert refusal_of(content[:length]) == 0xC000


def test_data_set_cut_between_elements_is_quarantined() -> None:
    """A cut at the end of an element cannot be told from a short data set, but has no pixels."""
    content = ct_bytes()
    for tag in ((0x0020, 0x0011), (0x0028, 0x0010), (0x7FE0, 0x0010)):
        cut = content[: content.index(struct.pack("<HH", *tag))]
        assert parse(cut).quarantine_reason is not None


def test_command_group_in_the_data_set_is_refused() -> None:
    """Group 0002 within a data set would be read as file meta later."""
    meta = struct.pack("<HH2sH", 2, 0x10, b"UI", 4) + b"1.2\x00"
    assert refusal_of(meta + ct_bytes()) == 0xC000


@pytest.mark.parametrize("depth", [200, 20_000])
def test_deep_nesting_is_refused_without_recursion(depth: int) -> None:
    """Nesting costs a counter, not a stack."""
    item = struct.pack("<HHI", 0xFFFE, 0xE000, 0xFFFFFFFF)
    sequence = struct.pack("<HH2sHI", 0x0008, 0x1140, b"SQ", 0, 0xFFFFFFFF)
    assert refusal_of((sequence + item) * depth + ct_bytes()) == 0xC000


def test_header_beyond_its_budget_is_refused() -> None:
    """A sequence of a hundred thousand empty items costs no more than the budget."""
    start = struct.pack("<HH2sHI", 0x0008, 0x1140, b"SQ", 0, 0xFFFFFFFF)
    items = struct.pack("<HHI", 0xFFFE, 0xE000, 0) * 200_000
    end = struct.pack("<HHI", 0xFFFE, 0xE0DD, 0)
    assert refusal_of(start + items + end + ct_bytes()) == 0xC000


def test_large_private_element_is_skipped_unread() -> None:
    """A large value costs nothing: it is stepped over."""
    private = struct.pack("<HH2sHI", 0x0009, 0x1001, b"OB", 0, 4_000_000) + bytes(4_000_000)
    content = ct_bytes()
    split = content.index(struct.pack("<HH", 0x0010, 0x0010))
    header = parse(content[:split] + private + content[split:], max_bytes=8192)
    assert header.modality == "CT"


def test_sequences_are_walked_over() -> None:
    """Defined and undefined lengths, nested, leave the identity as it is."""
    dataset = ct_dataset()
    inner = Dataset()
    inner.CodeValue = "1"
    item = Dataset()
    item.PurposeOfReferenceCodeSequence = Sequence([inner])
    dataset.SourceImageSequence = Sequence([item, item])
    dataset["SourceImageSequence"].is_undefined_length = True
    for syntax in (EXPLICIT, IMPLICIT):
        assert parse(encode(dataset, syntax), syntax=syntax).study_instance_uid == STUDY_UID


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_damaged_header_gives_a_header_or_a_refusal(data: st.DataObject) -> None:
    """Whatever a few wrong bytes do, no other error comes out."""
    content = bytearray(ct_bytes())
    for _ in range(data.draw(st.integers(1, 6))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(RefusedInstance):
        assert parse(bytes(content)).sop_instance_uid == COMMAND.sop_instance_uid


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"Rows": 0}, QuarantineReason.IMPOSSIBLE_SIZE),
        ({"Rows": 65535}, QuarantineReason.IMPOSSIBLE_SIZE),
        ({"Columns": None}, QuarantineReason.IMPOSSIBLE_SIZE),
        ({"NumberOfFrames": "-5"}, QuarantineReason.IMPOSSIBLE_SIZE),
        ({"NumberOfFrames": "2147483647"}, QuarantineReason.IMPOSSIBLE_SIZE),
        ({"BitsAllocated": 32}, QuarantineReason.IMPOSSIBLE_PIXELS),
        ({"SamplesPerPixel": 3}, QuarantineReason.IMPOSSIBLE_PIXELS),
        ({"PixelData": bytes(100)}, QuarantineReason.PIXELS_TOO_SHORT),
        ({"PixelData": bytes(1000)}, QuarantineReason.PIXELS_TOO_LONG),
    ],
)
def test_pixels_that_cannot_be_are_quarantined(
    values: dict[str, object], reason: QuarantineReason
) -> None:
    """Attributable bytes are kept and marked, not refused."""
    assert parse(ct_bytes(**values)).quarantine_reason is reason


def test_pixels_cut_off_in_transit_are_quarantined() -> None:
    """The pixel element announces more than there is."""
    assert parse(ct_bytes()[:-50]).quarantine_reason is QuarantineReason.PIXELS_TOO_SHORT


@pytest.mark.parametrize(
    ("sop_class_uid", "manufacturer", "is_own"),
    [
        ("1.2.840.10008.5.1.4.1.1.88.34", "ct-screener", True),
        ("1.2.840.10008.5.1.4.1.1.88.34", "SOMEBODY", False),
        (CT_IMAGE, "ct-screener", False),
    ],
)
def test_own_result_is_recognised(sop_class_uid: str, manufacturer: str, *, is_own: bool) -> None:
    """Our reports coming back are ours; a CT never is."""
    content = ct_bytes(SOPClassUID=sop_class_uid, Manufacturer=manufacturer)
    header = parse(content, CommandIdentity(sop_class_uid, COMMAND.sop_instance_uid))
    assert header.is_own_result is is_own


@pytest.mark.parametrize("window_bytes", [1, 13, 64, 1000])
@pytest.mark.parametrize("syntax", [EXPLICIT, IMPLICIT])
def test_what_is_read_at_once_changes_nothing(
    window_bytes: int, syntax: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However little of the stream is read at once, whole or cut off, the header is the same."""
    content = encode(ct_dataset(FrameOfReferenceUID="1.2.3", ImageComments="x" * 900), syntax)

    def outcome(n_bytes: int) -> object:
        try:
            return parse_header(
                reader_of(content[:n_bytes]), n_bytes, syntax, COMMAND, b"salt", max_bytes=20_000
            )
        except RefusedInstance as refusal:
            return refusal.status, refusal.comment

    lengths = [*range(1, len(content), 37), len(content)]
    expected = [outcome(n_bytes) for n_bytes in lengths]
    monkeypatch.setattr("screener.receive.elements._WINDOW_BYTES", window_bytes)
    assert [outcome(n_bytes) for n_bytes in lengths] == expected
    assert len(set(map(str, expected))) > 2
