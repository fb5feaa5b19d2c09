"""Plain headers: what is read without pydicom's data set is what pydicom reads.

Covers: which headers are plain, equality with pydicom on whole, damaged and odd headers.
Does not cover: what the values mean (`test_headers.py`).
"""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian

from screener.assemble import headers
from screener.assemble.headers import InstanceHeader, read_instance_header
from screener.assemble.part10 import open_data_set
from screener.assemble.plain_header import PlainHeaders
from tests.ct_factories import ct_dataset, enhanced_dataset, instance, real_data, write_dataset


def nested(depth: int) -> Sequence:
    """Give sequences within each other, none with a length."""
    item = Dataset()
    item.is_undefined_length_sequence_item = True
    item.ReferencedSOPInstanceUID = "1.2.3"
    if depth:
        item.ReferencedImageSequence = nested(depth - 1)
        item["ReferencedImageSequence"].is_undefined_length = True
    return Sequence([item])


def with_sequences(depth: int = 1) -> Dataset:
    """Give a slice that refers to others, as many scanners write it."""
    dataset = ct_dataset(ReferencedImageSequence=nested(depth), ReferencedStudySequence=nested(0))
    dataset["ReferencedImageSequence"].is_undefined_length = True
    return dataset


def both_ways(path: Path, plain: PlainHeaders) -> tuple[InstanceHeader, InstanceHeader]:
    """Describe a file with and without the plain way."""
    one = replace(instance(), path=path)
    return read_instance_header(one, plain), read_instance_header(one)


def is_plain(path: Path) -> bool:
    """Tell whether a file is read without pydicom's data set."""
    with open_data_set(path) as (stream, _):
        start = stream.tell()
        header = PlainHeaders(headers._KEYWORDS).read(stream)
        assert header is not None or stream.tell() == start
        return header is not None


@pytest.mark.parametrize(
    ("dataset", "expected"),
    [
        (ct_dataset(), True),
        (with_sequences(), True),
        (ct_dataset(SpecificCharacterSet="ISO_IR 192", PatientID="Jürgen"), True),
        (ct_dataset(ConvolutionKernel=["Br40", "3"], PixelPaddingValue=0), True),
        (with_sequences(depth=9), False),
        (ct_dataset(ContrastBolusAgentSequence=nested(0)), False),
        (enhanced_dataset([0.0, 5.0]), False),
        (ct_dataset(PixelData=None), False),
        (ct_dataset(TextValue="x" * 70_000), False),
    ],
    ids=["slice", "sequences", "utf-8", "several", "deep", "contrast", "frames", "bare", "long"],
)
def test_plain_headers_are_told_and_read_alike(
    tmp_path: Path, dataset: Dataset, expected: bool
) -> None:
    """What has anything unusual goes to pydicom; either way the description is the same."""
    path = tmp_path / "one"
    write_dataset(dataset, path, ExplicitVRLittleEndian)
    assert is_plain(path) == expected
    fast, slow = both_ways(path, PlainHeaders(headers._KEYWORDS))
    assert fast == slow


def test_inflated_headers_are_read_alike(tmp_path: Path) -> None:
    """Offsets count from the start of the inflated data set."""
    path = tmp_path / "one"
    write_dataset(ct_dataset(), path, DeflatedExplicitVRLittleEndian)
    fast, slow = both_ways(path, PlainHeaders(headers._KEYWORDS))
    assert fast == slow
    assert fast.unreadable is None


def test_the_same_bytes_in_two_character_sets_are_two_values(tmp_path: Path) -> None:
    """A value converted for one file is not taken for another that writes in another set."""
    plain = PlainHeaders(headers._KEYWORDS)
    kernels = []
    for name, text in (("ISO_IR 100", "Ã¤"), ("ISO_IR 192", "ä")):
        path = tmp_path / name
        dataset = ct_dataset(SpecificCharacterSet=name, ConvolutionKernel=text)
        write_dataset(dataset, path, ExplicitVRLittleEndian)
        fast, slow = both_ways(path, plain)
        assert fast == slow
        kernels.append(fast.kernel)
    assert kernels == ["Ã¤", "ä"]


def test_unknown_character_set_is_quiet(tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    """The library's warning would carry the value."""
    path = tmp_path / "one"
    write_dataset(ct_dataset(SpecificCharacterSet="ISO_IR 192"), path, ExplicitVRLittleEndian)
    content = path.read_bytes()
    path.write_bytes(content.replace(b"ISO_IR 192", b"ISO_IR 19X"))
    assert is_plain(path)
    recwarn.clear()
    fast, slow = both_ways(path, PlainHeaders(headers._KEYWORDS))
    assert fast == slow
    assert not recwarn.list


def test_damaged_headers_are_read_alike(tmp_path: Path) -> None:
    """Bytes flipped, lost and overwritten; one reader for all, as in one study."""
    whole = tmp_path / "whole"
    write_dataset(with_sequences(), whole, ExplicitVRLittleEndian)
    content = whole.read_bytes()
    plain = PlainHeaders(headers._KEYWORDS)
    dice = np.random.default_rng(1)
    path = tmp_path / "damaged"
    for number in range(300):
        damaged = bytearray(content)
        at = int(dice.integers(132, len(content) - 60))
        if number % 3 == 0:
            damaged[at] ^= 1 << int(dice.integers(8))
        elif number % 3 == 1:
            damaged[at] = int(dice.integers(256))
        else:
            del damaged[at : at + int(dice.integers(1, 5))]
        path.write_bytes(damaged)
        fast, slow = both_ways(path, plain)
        assert fast == slow


def test_cut_header_is_left_to_pydicom(tmp_path: Path) -> None:
    """Nothing that ends before its pixels is plain."""
    path = tmp_path / "one"
    write_dataset(ct_dataset(), path, ExplicitVRLittleEndian)
    with open_data_set(path) as (stream, _):
        content = stream.read()
    pixels_at = content.rindex(b"\xe0\x7f\x10\x00")
    for n_bytes in range(pixels_at + 8):
        assert PlainHeaders(headers._KEYWORDS).read(io.BytesIO(content[:n_bytes])) is None


def test_real_headers_are_read_alike() -> None:
    """Every real file at hand, whatever it is."""
    folder = real_data("dicom")
    plain = PlainHeaders(headers._KEYWORDS)
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()][::5]
    assert files
    for path in files:
        fast, slow = both_ways(path, plain)
        assert fast == slow
