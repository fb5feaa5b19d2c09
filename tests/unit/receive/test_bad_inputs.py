"""Bad inputs 14 to 43 of the catalogue: what one C-STORE is answered, and what becomes of it.

Each goes through the handler and a real spool, without a socket; those that need one are in
`integration/test_bad_inputs_network.py`. A number names the input in every test of the project.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import structlog

from screener.domain import QuarantineReason
from screener.receive.arrival import ReceivedInstance
from screener.receive.handlers import ReceiveHandlers, ReceiverHooks, StoreRequest
from screener.receive.negotiation import SERVED
from screener.receive.part10 import FileMeta
from screener.receive.peers import PeerList
from screener.receive.spool import Spool
from tests.receive_factories import CT_IMAGE, EXPLICIT, SERIES_UID, ct_bytes, ct_dataset, encode

MR_IMAGE = "1.2.840.10008.5.1.4.1.1.4"
JPEG_LOSSLESS = "1.2.840.10008.1.2.4.70"
UID = f"{SERIES_UID}.1"


@dataclass
class Receiver:
    """The handler with a spool, and what it registered."""

    folder: Path
    registered: list[ReceivedInstance] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.spool = Spool(self.folder / "spool", 0)
        hooks = ReceiverHooks(self.registered.append, lambda _: None, now=lambda: datetime.now(UTC))
        self._handlers = ReceiveHandlers("SCREENER", PeerList(()), self.spool, hooks, b"salt")

    def store(
        self,
        content: bytes | None,
        uid: str = UID,
        *,
        class_uid: str = CT_IMAGE,
        context_uid: str = CT_IMAGE,
        syntax: str = EXPLICIT,
    ) -> int:
        pending = None
        if content is not None:
            pending = self.spool.begin(FileMeta(class_uid, uid, syntax, "CT1"))
            pending.write(content)
        answer = self._handlers.store(StoreRequest(pending, context_uid, "127.0.0.1", "CT1"))
        assert len(answer.comment) <= 64
        assert not list(self.spool.incoming.iterdir())
        return answer.status

    def kept(self) -> list[Path]:
        return [path for paths in self.spool.shards() for path in paths]

    def reason(self) -> QuarantineReason | None:
        (received,) = self.registered
        return received.header.quarantine_reason


@pytest.fixture
def receiver(tmp_path: Path) -> Receiver:
    """A receiver with an empty spool."""
    return Receiver(tmp_path)


def refused(receiver: Receiver, status: int, content: bytes | None, **options: Any) -> None:
    """Assert that an instance is refused, leaves nothing, and costs the next one nothing."""
    assert receiver.store(content, **options) == status
    assert receiver.kept() == []
    assert receiver.registered == []
    assert receiver.store(ct_bytes()) == 0x0000


def quarantined(receiver: Receiver, content: bytes, syntax: str = EXPLICIT) -> QuarantineReason:
    """Assert that an instance is kept byte for byte and not screened; give why."""
    assert receiver.store(content, syntax=syntax) == 0x0000
    (path,) = receiver.kept()
    assert path.read_bytes().endswith(content)
    reason = receiver.reason()
    assert reason is not None
    return reason


def encapsulated(*fragments: bytes, delimiter: bytes = bytes.fromhex("feffdde000000000")) -> bytes:
    """One slice whose pixels are these items, as they are."""
    head = ct_bytes(PixelData=None)
    pixels = struct.pack("<HH2sHL", 0x7FE0, 0x0010, b"OB", 0, 0xFFFFFFFF)
    return head + pixels + b"".join(fragments) + delimiter


def item(content: bytes) -> bytes:
    return struct.pack("<HHL", 0xFFFE, 0xE000, len(content)) + content


# ── 14 to 20: who it is ──────────────────────────────────────────────────────────────────────


def test_input_13_mr_command_on_a_ct_context(receiver: Receiver) -> None:
    """The SOP class is compared with the presentation context."""
    refused(receiver, 0x0122, ct_bytes(SOPClassUID=MR_IMAGE), class_uid=MR_IMAGE)


def test_input_14_other_sop_class_in_the_data_set(receiver: Receiver) -> None:
    """The data set is not what the command says."""
    refused(receiver, 0xA900, ct_bytes(SOPClassUID=MR_IMAGE))


def test_input_15_other_sop_instance_in_the_data_set(receiver: Receiver) -> None:
    """The data set is not what the command says."""
    refused(receiver, 0xA900, ct_bytes(SOPInstanceUID="1.2.3"))


@pytest.mark.parametrize(
    "uid", ["../../etc/x", "/etc/x", "C:\\x", "1.2\x00.3", "1.2\n3", "..", "\r\n", "1.2;rm"]
)
def test_input_16_uid_that_is_a_path_or_a_line(
    receiver: Receiver, tmp_path: Path, uid: str
) -> None:
    """Refused, and nothing lies outside the spool."""
    refused(receiver, 0x0117, ct_bytes(SOPInstanceUID=uid), uid=uid)
    assert {path.name for path in tmp_path.iterdir()} == {"spool"}


@pytest.mark.parametrize("uid", ["1" * 65, ""])
def test_input_17_uid_that_is_too_long_or_empty(receiver: Receiver, uid: str) -> None:
    """Answered, never dropped in silence."""
    refused(receiver, 0x0117, ct_bytes(SOPInstanceUID=uid), uid=uid)


def test_input_17a_uid_that_is_uuid_text(receiver: Receiver) -> None:
    """Real published series have it: kept, flagged, screened."""
    uid = "896911bf-1143-4c8d-8f04-f3cd1a7f6204"
    assert receiver.store(ct_bytes(SOPInstanceUID=uid), uid=uid) == 0x0000
    assert receiver.registered[0].header.is_non_conformant
    assert receiver.reason() is None


def test_input_18_uid_component_with_leading_zero(receiver: Receiver) -> None:
    """Kept and flagged."""
    assert receiver.store(ct_bytes(StudyInstanceUID="1.2.03")) == 0x0000
    assert receiver.registered[0].header.non_conformities == ("StudyInstanceUID",)


@pytest.mark.parametrize("keyword", ["StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"])
def test_input_19_two_values_in_a_uid(receiver: Receiver, keyword: str) -> None:
    """Nobody can say which study it is."""
    value = f"{UID}\\1.2.3"
    refused(receiver, 0xC000, ct_bytes(**{keyword: value}))


@pytest.mark.parametrize("keyword", ["StudyInstanceUID", "SeriesInstanceUID"])
def test_input_20_no_study_or_series(receiver: Receiver, keyword: str) -> None:
    """It cannot be attributed."""
    refused(receiver, 0xC000, ct_bytes(**{keyword: None}))


@pytest.mark.parametrize("patient_id", ["", "  ", None])
def test_input_21_no_patient_id(receiver: Receiver, patient_id: str | None) -> None:
    """Kept and shown; a report could reach nobody."""
    content = ct_bytes(PatientID=patient_id)
    assert quarantined(receiver, content) is QuarantineReason.NO_PATIENT_ID


# ── 22 to 25: no data set ────────────────────────────────────────────────────────────────────


def test_input_22_command_without_data_set(receiver: Receiver) -> None:
    """Command Data Set Type 0x0101."""
    refused(receiver, 0xC000, None)


def test_input_23_data_set_of_no_bytes(receiver: Receiver) -> None:
    """Announced, and empty."""
    refused(receiver, 0xC000, b"")


def test_input_24_noise_as_data_set(receiver: Receiver) -> None:
    """Four kilobytes that look like nothing."""
    noise = bytes((7 * n * n + 13 * n + 5) % 251 for n in range(4096))
    refused(receiver, 0xC000, noise)


@pytest.mark.parametrize("kind", ["length-beyond-end", "cut-in-element", "cut-in-header"])
def test_input_25_data_set_that_ends_too_soon(receiver: Receiver, kind: str) -> None:
    """An element reaches beyond the end."""
    whole = ct_bytes()
    study = whole.index(struct.pack("<HH", 0x0020, 0x000D))
    content = {
        "length-beyond-end": whole[: study + 6] + b"\xf0\xff" + whole[study + 8 : study + 40],
        "cut-in-element": whole[: study + 12],
        "cut-in-header": whole[: study + 3],
    }[kind]
    refused(receiver, 0xC000, content)


# ── 26 to 35: pixels ─────────────────────────────────────────────────────────────────────────


def test_input_26_fewer_pixels_than_rows_and_columns_say(receiver: Receiver) -> None:
    """Kept; the slice cannot be decoded."""
    content = ct_bytes(PixelData=bytes(100))
    assert quarantined(receiver, content) is QuarantineReason.PIXELS_TOO_SHORT


@pytest.mark.parametrize(
    ("n_bytes", "reason"), [(512, None), (514, QuarantineReason.PIXELS_TOO_LONG)]
)
def test_input_27_more_pixels_than_rows_and_columns_say(
    receiver: Receiver, n_bytes: int, reason: QuarantineReason | None
) -> None:
    """Whatever is there beyond belongs to no frame."""
    assert receiver.store(ct_bytes(PixelData=bytes(n_bytes))) == 0x0000
    assert receiver.reason() is reason


def test_input_27_one_byte_of_padding_is_fine(receiver: Receiver) -> None:
    """An odd number of bytes is padded to an even one (PS3.5 8.1.1)."""
    cells = {"Rows": 3, "Columns": 3, "BitsAllocated": 8, "BitsStored": 8, "HighBit": 7}
    assert receiver.store(ct_bytes(**cells, PixelData=bytes(10))) == 0x0000
    assert receiver.reason() is None


def retyped(keyword: str, vr: bytes, value: bytes) -> bytes:
    """One slice with an element in another representation."""
    whole = ct_bytes()
    tag = {"Rows": 0x0010, "Columns": 0x0011}[keyword]
    at = whole.index(struct.pack("<HH", 0x0028, tag) + b"US")
    element = struct.pack("<HH2sH", 0x0028, tag, vr, len(value)) + value
    return whole[:at] + element + whole[at + 10 :]


@pytest.mark.parametrize(
    "content",
    [
        ct_bytes(Rows=0),
        ct_bytes(Rows=65535),
        ct_bytes(Columns=65535),
        ct_bytes(Rows=None),
        retyped("Rows", b"UL", b"\xff\xff\xff\xff"),
        retyped("Columns", b"LO", b"<b>x</b>"),
    ],
    ids=["rows-0", "rows-65535", "columns-65535", "no-rows", "rows-as-UL", "columns-as-LO"],
)
def test_input_28_impossible_rows_and_columns(receiver: Receiver, content: bytes) -> None:
    """Representation, type and range are all looked at."""
    assert quarantined(receiver, content) is QuarantineReason.IMPOSSIBLE_SIZE


@pytest.mark.parametrize("frames", ["-5", "2147483647", "1e9", "1\\2", "0"])
def test_input_29_impossible_number_of_frames(receiver: Receiver, frames: str) -> None:
    """Not one of them may become a number that memory is taken for."""
    content = ct_bytes(NumberOfFrames=frames)
    assert quarantined(receiver, content) is QuarantineReason.IMPOSSIBLE_SIZE


@pytest.mark.parametrize(
    "bits",
    [
        {"BitsAllocated": 1},
        {"BitsAllocated": 32},
        {"BitsAllocated": 64},
        {"HighBit": 16},
        {"BitsStored": 12, "HighBit": 13},
        {"BitsStored": 17},
        {"BitsStored": 0},
    ],
    ids=str,
)
def test_input_30_impossible_bits(receiver: Receiver, bits: dict[str, int]) -> None:
    """Bits that no CT has, or that contradict each other."""
    assert quarantined(receiver, ct_bytes(**bits)) is QuarantineReason.IMPOSSIBLE_PIXELS


@pytest.mark.parametrize(
    "values",
    [
        {"SamplesPerPixel": 3},
        {"PhotometricInterpretation": "RGB"},
        {"PhotometricInterpretation": "PALETTE COLOR"},
        {"PhotometricInterpretation": "<script>"},
    ],
    ids=str,
)
def test_input_31_colour_in_a_ct(receiver: Receiver, values: dict[str, Any]) -> None:
    """A CT is monochrome."""
    assert quarantined(receiver, ct_bytes(**values)) is QuarantineReason.IMPOSSIBLE_PIXELS


def test_input_33_deflated_data_set(receiver: Receiver) -> None:
    """The syntax is not offered, so nothing is ever inflated here."""
    assert all("1.2.840.10008.1.2.1.99" not in syntaxes for syntaxes in SERVED.values())
    assert receiver.kept() == []


@pytest.mark.parametrize(
    "content",
    [
        encapsulated(item(b""), struct.pack("<HHL", 0xFFFE, 0xE000, 2**31) + bytes(64)),
        encapsulated(item(b""), item(bytes(64)), delimiter=b""),
        encapsulated(item(b""), *[item(b"")] * 70_000),
        encapsulated(item(b""), b"no item at all, only text"),
    ],
    ids=["2-GiB-fragment", "no-delimiter", "too-many", "no-item"],
)
def test_input_35_broken_fragments(receiver: Receiver, content: bytes) -> None:
    """The list of fragments is walked without its bytes, and has a bound."""
    reason = quarantined(receiver, content, syntax=JPEG_LOSSLESS)
    assert reason is QuarantineReason.BROKEN_FRAGMENTS


def test_input_35_empty_offset_table_is_fine(receiver: Receiver) -> None:
    """Most senders leave the Basic Offset Table empty (PS3.5 A.4)."""
    content = encapsulated(item(b""), item(bytes(64)))
    assert receiver.store(content, syntax=JPEG_LOSSLESS) == 0x0000
    assert receiver.reason() is None


# ── 36 to 40: data sets that cost too much ───────────────────────────────────────────────────


def nested(levels: int, tag: int) -> bytes:
    """Sequences of undefined length in each other."""
    opening = struct.pack("<HH2sHL", tag >> 16, tag & 0xFFFF, b"SQ", 0, 0xFFFFFFFF)
    opening += struct.pack("<HHL", 0xFFFE, 0xE000, 0xFFFFFFFF)
    closing = struct.pack("<HHLHHL", 0xFFFE, 0xE00D, 0, 0xFFFE, 0xE0DD, 0)
    return opening * levels + closing * levels


@pytest.mark.parametrize("levels", [200, 20_000])
@pytest.mark.parametrize("tag", [0x00081140, 0x00400275], ids=["before-the-uids", "after-them"])
def test_input_36_sequences_in_sequences(receiver: Receiver, levels: int, tag: int) -> None:
    """Counted, not recursed into; no RecursionError in the log."""
    whole = ct_bytes()
    follows = (0x0008, 0x0060) if tag < 0x00100000 else (0x7FE0, 0x0010)
    at = whole.index(struct.pack("<HH", *follows))
    with structlog.testing.capture_logs() as lines:
        refused(receiver, 0xC000, whole[:at] + nested(levels, tag) + whole[at:])
    assert "RecursionError" not in str(lines)


SEQUENCE = struct.pack("<HH2sHL", 0x0009, 0x1001, b"SQ", 0, 0xFFFFFFFF)


@pytest.mark.parametrize(
    ("more", "status"),
    [
        (SEQUENCE + item(b"") * 1_000_000, 0xC000),
        (
            b"".join(
                struct.pack("<HH2sH", 0x0009 + 2 * (n >> 16), n & 0xFFFF, b"LO", 0)
                for n in range(200_000)
            ),
            0xC000,
        ),
        (struct.pack("<HH2sHL", 0x0009, 0x1001, b"UT", 0, 60_000) + b"x" * 60_000, 0x0000),
    ],
    ids=["a-million-empty-items", "private-elements", "60-kB-text"],
)
def test_input_37_header_beyond_its_budget(receiver: Receiver, more: bytes, status: int) -> None:
    """What is looked at has a budget; what is skipped is free."""
    whole = ct_bytes()
    at = whole.index(struct.pack("<HH", 0x0010, 0x0010))
    assert receiver.store(whole[:at] + more + whole[at:]) == status


@pytest.mark.parametrize("group", [0x0000, 0x0002])
def test_input_38_command_or_file_meta_in_the_data_set(receiver: Receiver, group: int) -> None:
    """The file meta is ours; a data set that brings its own is none."""
    stray = struct.pack("<HH2sH", group, 0x0010, b"UI", 4) + b"1.2\x00"
    refused(receiver, 0xC000, stray + ct_bytes())


def test_input_39_program_in_the_preamble(receiver: Receiver) -> None:
    """Whatever the sender had: ours are zeros, so a kept file is no program (CVE-2019-11687)."""
    assert receiver.store(ct_bytes()) == 0x0000
    (path,) = receiver.kept()
    assert path.read_bytes()[:132] == bytes(128) + b"DICM"


@pytest.mark.parametrize(
    ("charset", "name"),
    [
        (b"ISO_IR 999 ", b"Doe^J "),
        (b"\\ISO 2022 IR 87 ", b"Yamada^Tarou=\x1b$B;3ED\x1b(B^\x1b$BB@O:\x1b(B"),
        (b"ISO 2022 IR 149\\ISO 2022 IR 87 ", b"Hong^Gildong=\x1b$)C\xfb\xf3^\x1b$)C\xd1\xce "),
        (b"GB18030 ", b"Wang^XiaoDong=\xcd\xf5^\xd0\xa1\xb6\xab "),
        (b"ISO_IR 6", "Müller^Jörg".encode()),
    ],
    ids=["unknown", "kanji", "hangul-and-kanji", "gb18030", "utf8-said-to-be-ascii"],
)
def test_input_40_odd_character_sets(receiver: Receiver, charset: bytes, name: bytes) -> None:
    """Text is kept byte for byte, whatever it is said to be."""
    name += b" " * (len(name) % 2)
    charset += b" " * (len(charset) % 2)
    whole = ct_bytes(PatientName=None)
    at = whole.index(struct.pack("<HH", 0x0010, 0x0020))
    head = struct.pack("<HH2sH", 0x0008, 0x0005, b"CS", len(charset)) + charset
    element = struct.pack("<HH2sH", 0x0010, 0x0010, b"PN", len(name)) + name
    content = head + whole[:at] + element + whole[at:]
    assert receiver.store(content) == 0x0000
    assert receiver.kept()[0].read_bytes().endswith(content)


# ── 42, 43, 53: values ───────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("value", ["X\r\nforged=1", "\x1b[2J\x1b[31m", "%s%n", "A" * 10_000])
def test_input_42_names_that_forge_lines(receiver: Receiver, value: str) -> None:
    """No value of a patient is in any line of the log, nor in what is registered."""
    with structlog.testing.capture_logs() as lines:
        assert receiver.store(ct_bytes(PatientName=value, PatientID=value[:64])) == 0x0000
        assert receiver.store(ct_bytes(PatientName=value, SOPInstanceUID="1.2.3")) == 0xA900
    assert value[:20] not in str(lines)
    assert value[:20] not in repr(receiver.registered)


@pytest.mark.parametrize("value", ["'; drop table studies; --", "%", "_", "a\x00b"])
def test_input_43_patient_ids_that_are_commands(receiver: Receiver, value: str) -> None:
    """A Patient ID leaves the parser as a digest alone."""
    assert receiver.store(ct_bytes(PatientID=value)) == 0x0000
    digest = receiver.registered[0].header.patient_id_digest
    assert len(digest) == 64
    assert len(value) == 1 or value not in repr(receiver.registered)


def test_input_53_large_private_element(receiver: Receiver) -> None:
    """Fifty megabytes go to the disk as they come, and are skipped unread."""
    dataset = ct_dataset()
    before = encode(dataset)
    at = before.index(struct.pack("<HH", 0x0010, 0x0010))
    pending = receiver.spool.begin(FileMeta(CT_IMAGE, UID, EXPLICIT, "CT1"))
    n_bytes = 50 * 1024 * 1024
    pending.write(before[:at] + struct.pack("<HH2sHL", 0x0009, 0x1001, b"OB", 0, n_bytes))
    block = bytes(1024 * 1024)
    for _ in range(50):
        pending.write(block)
    pending.write(before[at:])
    request = StoreRequest(pending, CT_IMAGE, "127.0.0.1", "CT1")
    assert receiver._handlers.store(request).status == 0x0000
    assert receiver.kept()[0].stat().st_size > n_bytes
