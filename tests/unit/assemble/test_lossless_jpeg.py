"""Plain lossless JPEG by libjpeg-turbo: the same values as GDCM's, and nothing that is damaged.

Covers: precisions, signs, what is left to GDCM, and damage of every byte and kind.
Does not cover: that GDCM refuses what it is left (`test_pixels.py`, `test_decoding_child.py`).
"""

from __future__ import annotations

import numpy as np
import pytest
from imagecodecs import jpeg8_decode, jpeg8_encode
from numpy.typing import NDArray

from screener.assemble import codecs
from screener.assemble.codecs import CellFormat, decode_frame
from screener.assemble.lossless_jpeg import decode_plain
from screener.errors import UnreadablePixels

JPEG_LOSSLESS = "1.2.840.10008.1.2.4.57"
ROWS, COLUMNS = 24, 40


def slice_of(bits: int) -> NDArray[np.uint16]:
    """Give values that are partly flat, as air is, and partly rough."""
    rough = np.random.default_rng(bits).normal(0, 30, (ROWS, COLUMNS)).cumsum(axis=1)
    values = np.clip(rough + (1 << (bits - 1)), 0, (1 << bits) - 1).astype(np.uint16)
    values[:, :12] = 1
    values[5:9] = (1 << bits) - 1
    return values


def encode(values: NDArray[np.uint16], bits: int, predictor: int = 1) -> bytes:
    """Encode as lossless JPEG."""
    return bytes(jpeg8_encode(values, lossless=True, predictor=predictor, bitspersample=bits))


def scan_start(encoded: bytes) -> int:
    """Give the place of the first byte of the scan's data."""
    at = encoded.index(b"\xff\xda") + 2
    return at + int.from_bytes(encoded[at : at + 2], "big")


def by_gdcm(encoded: bytes, cell_format: CellFormat) -> NDArray[np.uint16] | None:
    """Give what GDCM makes of a stream, None where it refuses."""
    try:
        decoded, _ = codecs._decode_with_gdcm(encoded, cell_format, JPEG_LOSSLESS)
    except (AttributeError, RuntimeError):
        return None
    return np.frombuffer(decoded, dtype="<u2").reshape(ROWS, COLUMNS)


@pytest.mark.parametrize("bits", range(9, 17))
def test_plain_streams_give_the_values_that_went_in(bits: int) -> None:
    """All precisions that two bytes hold; padding after the end is no damage."""
    values = slice_of(bits)
    for padding in (b"", b"\0"):
        decoded = decode_plain(encode(values, bits) + padding, ROWS, COLUMNS)
        assert decoded is not None
        assert np.array_equal(decoded, values)


@pytest.mark.parametrize("bits", [12, 16])
@pytest.mark.parametrize("is_signed", [False, True], ids=["unsigned", "signed"])
def test_stored_values_are_gdcms(
    monkeypatch: pytest.MonkeyPatch, bits: int, is_signed: bool
) -> None:
    """Whatever the header says about bits and sign, the fast way changes no value."""
    encoded = encode(slice_of(bits), bits)
    for bits_stored in (10, 12, 13, 16):
        cell_format = CellFormat(ROWS, COLUMNS, 16, bits_stored, is_signed)
        fast = decode_frame(encoded, cell_format, JPEG_LOSSLESS)
        with monkeypatch.context() as patch:
            patch.setattr(codecs, "decode_plain", lambda *_: None)
            slow = decode_frame(encoded, cell_format, JPEG_LOSSLESS)
        assert fast.dtype == slow.dtype
        assert np.array_equal(fast, slow)


@pytest.mark.parametrize("predictor", range(2, 8))
def test_other_predictors_are_left_to_gdcm(predictor: int) -> None:
    """They are rare, and their values are the same."""
    encoded = encode(slice_of(12), 12, predictor)
    assert decode_plain(encoded, ROWS, COLUMNS) is None
    cells = decode_frame(encoded, CellFormat(ROWS, COLUMNS, 16, 12, is_signed=False), JPEG_LOSSLESS)
    assert np.array_equal(cells, slice_of(12))


def test_other_kinds_are_left_to_gdcm() -> None:
    """Eight bits, several components, lossy, another size, restart intervals."""
    encoded = encode(slice_of(12), 12)
    eight = (slice_of(12) >> 4).astype(np.uint8)
    restarts = encoded[:2] + b"\xff\xdd\x00\x04\x00\x28" + encoded[2:]
    coloured = np.stack([slice_of(12)] * 3, axis=-1)
    for other in (
        bytes(jpeg8_encode(eight, lossless=True)),
        bytes(jpeg8_encode(eight)),
        bytes(jpeg8_encode(coloured, lossless=True, bitspersample=12)),
        restarts,
        encoded + encoded,
        b"",
    ):
        assert decode_plain(other, ROWS, COLUMNS) is None
    assert decode_plain(encoded, COLUMNS, ROWS) is None


def test_a_cut_stream_is_never_taken() -> None:
    """Cut after any byte, with and without an end put behind it: libjpeg-turbo fills the rest."""
    encoded = encode(slice_of(12), 12)
    for n_bytes in range(len(encoded) - 2):
        assert decode_plain(encoded[:n_bytes], ROWS, COLUMNS) is None
        assert decode_plain(encoded[:n_bytes] + b"\xff\xd9", ROWS, COLUMNS) is None
    with pytest.raises(UnreadablePixels):
        decode_frame(
            encoded[:-100], CellFormat(ROWS, COLUMNS, 16, 12, is_signed=False), JPEG_LOSSLESS
        )


def test_impossible_code_is_not_taken() -> None:
    """No code is all ones; libjpeg-turbo would go on with a difference of nothing."""
    encoded = bytearray(encode(slice_of(12), 12))
    middle = (scan_start(bytes(encoded)) + len(encoded)) // 2
    encoded[middle : middle + 8] = b"\xff\x00" * 4
    assert jpeg8_decode(bytes(encoded)).shape == (ROWS, COLUMNS)
    assert decode_plain(bytes(encoded), ROWS, COLUMNS) is None
    assert by_gdcm(bytes(encoded), CellFormat(ROWS, COLUMNS, 16, 12, is_signed=False)) is None


def test_of_damaged_streams_only_those_are_taken_that_gdcm_takes() -> None:
    """Flipped bits: where the count still adds up, both decoders give the same values."""
    encoded = encode(slice_of(12), 12)
    cell_format = CellFormat(ROWS, COLUMNS, 16, 12, is_signed=False)
    start = scan_start(encoded)
    dice = np.random.default_rng(1)
    n_taken = 0
    for _ in range(400):
        damaged = bytearray(encoded)
        damaged[dice.integers(start, len(encoded) - 2)] ^= 1 << int(dice.integers(8))
        fast = decode_plain(bytes(damaged), ROWS, COLUMNS)
        if fast is not None:
            slow = by_gdcm(bytes(damaged), cell_format)
            assert slow is not None
            assert np.array_equal(fast, slow)
            n_taken += 1
    assert 0 < n_taken < 400
