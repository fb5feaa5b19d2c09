"""Damaged and hostile files: every one ends in a named outcome."""

import struct
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.uid import JPEGLSLossless

from screener.assemble import (
    DecodingRules,
    SelectionRules,
    decode_series,
    find_study_defects,
    rank_series,
    read_folder,
    read_headers,
)
from screener.errors import NotAnalysable
from tests.ct_factories import RECEIVED_AT, ct_dataset, enhanced_dataset, write_dataset

RULES = SelectionRules(least_slices=1, least_coverage_mm=0.0)


def travel(path: Path) -> None:
    """Take one file as far as it goes; only a named refusal may end the way."""
    for study in read_folder(path, RECEIVED_AT).studies:
        headers = read_headers(study)
        find_study_defects(headers)
        try:
            for selected in rank_series(headers, RULES).qualified:
                list(decode_series(selected, DecodingRules(n_threads=1)).batches())
        except NotAnalysable:
            continue


def sample(name: str) -> bytes:
    """Give the bytes of a valid file."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "one"
        if name == "enhanced":
            write_dataset(enhanced_dataset([0.0, 5.0, 10.0]), path)
        elif name == "encapsulated":
            value = b"\xfe\xff\x00\xe0\0\0\0\0\xfe\xff\x00\xe0\x04\0\0\0\xff\xd8\xff\xd9"
            dataset = ct_dataset(PixelData=value + b"\xfe\xff\xdd\xe0\0\0\0\0")
            dataset["PixelData"].VR = "OB"
            dataset["PixelData"].is_undefined_length = True
            write_dataset(dataset, path, JPEGLSLossless)
        else:
            write_dataset(ct_dataset(), path)
        return path.read_bytes()


SAMPLES = [sample(name) for name in ("plain", "enhanced", "encapsulated")]


@given(
    original=st.sampled_from(SAMPLES),
    edits=st.lists(
        st.tuples(st.integers(0, 10_000), st.binary(min_size=1, max_size=6)), max_size=6
    ),
    length=st.none() | st.integers(0, 4000),
)
@settings(max_examples=150, deadline=timedelta(seconds=5))
def test_damaged_file_never_ends_in_a_traceback(
    original: bytes, edits: list[tuple[int, bytes]], length: int | None
) -> None:
    """Bytes replaced anywhere, the file cut anywhere: a study, a reason, or a refusal."""
    damaged = bytearray(original)
    for at, value in edits:
        start = at % len(damaged)
        damaged[start : start + len(value)] = value
    with TemporaryDirectory() as folder:
        path = Path(folder) / "one"
        path.write_bytes(bytes(damaged[:length]))
        travel(path)


@given(noise=st.binary(max_size=4096))
@settings(max_examples=100, deadline=timedelta(seconds=5))
def test_noise_after_a_valid_start_never_ends_in_a_traceback(noise: bytes) -> None:
    """A preamble and a transfer syntax, then anything."""
    meta = b"\x02\x00\x10\x00UI\x14\x001.2.840.10008.1.2.1\x00"
    with TemporaryDirectory() as folder:
        path = Path(folder) / "one"
        path.write_bytes(bytes(128) + b"DICM" + meta + b"\x08\x00" + noise)
        travel(path)


@pytest.mark.parametrize("levels", [200, 20_000])
def test_input_36_sequences_in_sequences_of_a_file(tmp_path: Path, levels: int) -> None:
    """From a folder too: the file is no instance, and the reason is said."""
    opening = struct.pack("<HH2sHL", 0x0008, 0x1140, b"SQ", 0, 0xFFFFFFFF)
    opening += struct.pack("<HHL", 0xFFFE, 0xE000, 0xFFFFFFFF)
    closing = struct.pack("<HHLHHL", 0xFFFE, 0xE00D, 0, 0xFFFE, 0xE0DD, 0)
    content = sample("plain")
    at = content.index(struct.pack("<HH", 0x0018, 0x0015))  # Body Part Examined, behind it
    path = tmp_path / "nested"
    path.write_bytes(content[:at] + opening * levels + closing * levels + content[at:])
    contents = read_folder(path, RECEIVED_AT)
    assert not contents.studies
    assert [reason for _, reason in contents.ignored] == ["cannot be parsed (RecursionError)"]
