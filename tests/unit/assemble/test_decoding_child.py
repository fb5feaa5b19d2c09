"""Bad input 34: a code stream that takes too much ends its decoder, and nothing else.

Covers: memory, time, death and silence of the decoding child, and equality with decoding here.
Does not cover: what each decoder makes of damaged streams (`test_pixels.py`).
"""

from __future__ import annotations

import io
import os
import signal
import tempfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pydicom.encaps import get_frame

from screener.assemble import decoders
from screener.assemble.codecs import CellFormat, decode_frame
from screener.assemble.decoders import Decoders, cpu_limit_s
from screener.demo.pixel_encoding import save
from screener.errors import UnreadablePixels, UnsafePixels
from tests.ct_factories import ct_dataset

JPEG_LOSSY = "1.2.840.10008.1.2.4.50"
JPEG_LOSSLESS = "1.2.840.10008.1.2.4.70"
JPEG_2000 = "1.2.840.10008.1.2.4.90"
JPEG_LS = "1.2.840.10008.1.2.4.80"
SMALL = CellFormat(64, 96, 16, 16, is_signed=True)


def frame() -> np.ndarray:
    return (np.arange(64 * 96, dtype=np.int16) % 1999 - 900).reshape(64, 96)


def encode_frame(pixels: np.ndarray, syntax: str) -> bytes:
    """Give the code stream of one frame."""
    dataset = ct_dataset(
        Rows=64, Columns=96, BitsStored=16, HighBit=15, PixelData=pixels.astype("<i2").tobytes()
    )
    with tempfile.TemporaryDirectory() as folder:
        save(dataset, Path(folder) / "slice", syntax)
    return get_frame(dataset.PixelData, 0, number_of_frames=1)


@pytest.mark.parametrize("syntax", [JPEG_LOSSLESS, JPEG_2000, JPEG_LS])
def test_child_gives_the_same_values(syntax: str) -> None:
    """Bit for bit what this process decodes, again and again by the same child."""
    encoded = encode_frame(frame(), syntax)
    decode = Decoders(1)
    for _ in range(3):
        cells = decode(encoded, SMALL, syntax)
        assert np.array_equal(cells, decode_frame(encoded, SMALL, syntax))
    assert len(decode._started) == 1


def test_damaged_frame_is_refused_by_a_child_that_lives() -> None:
    """What a decoder complains about is no attack."""
    decode = Decoders(1)
    with pytest.raises(UnreadablePixels) as caught:
        decode(b"no code stream", SMALL, JPEG_LOSSLESS)
    assert not isinstance(caught.value, UnsafePixels)
    assert decode._started[0].is_alive()


@pytest.mark.parametrize("size", [65535, 40000])
def test_input_34_header_of_a_huge_image(size: int) -> None:
    """A tiny stream that announces a huge matrix takes no memory of the worker."""
    encoded = bytearray(encode_frame(frame(), JPEG_2000))
    at = encoded.index(b"\xff\x51")  # SIZ (ISO 15444-1 A.5.1)
    huge = size.to_bytes(4, "big")
    encoded[at + 6 : at + 14] = huge * 2
    encoded[at + 22 : at + 30] = huge * 2
    decode = Decoders(1)
    for cell_format in (SMALL, CellFormat(size, size, 16, 16, is_signed=True)):
        with pytest.raises(UnreadablePixels):
            decode(bytes(encoded), cell_format, JPEG_2000)
    again = encode_frame(frame(), JPEG_LOSSLESS)
    assert np.array_equal(decode(again, SMALL, JPEG_LOSSLESS), frame())


@pytest.mark.parametrize("syntax", [JPEG_LOSSLESS, JPEG_LS])
def test_input_34_eighty_thousand_scans(syntax: str) -> None:
    """A small stream that asks for the image to be gone through again and again is cut short."""
    encoded = encode_frame(frame(), syntax)
    at = encoded.index(b"\xff\xda")
    scan = encoded[at : at + 2 + int.from_bytes(encoded[at + 2 : at + 4], "big")]
    decode = Decoders(1)
    with pytest.raises(UnreadablePixels):
        decode(encoded[:at] + scan * 80_000 + b"\xff\xd9", SMALL, syntax)
    assert np.array_equal(decode(encoded, SMALL, syntax), frame())


def test_input_34_progressive_scans_without_end() -> None:
    """Lossy JPEG whose last scan comes two thousand times: no image, and the child lives."""
    whole = io.BytesIO()
    Image.fromarray(frame().astype(np.uint8)).save(whole, "JPEG", progressive=True)
    encoded = whole.getvalue()
    at = encoded.rindex(b"\xff\xda")
    scan = encoded[at : at + 2 + int.from_bytes(encoded[at + 2 : at + 4], "big")]
    decode = Decoders(1)
    with pytest.raises(UnreadablePixels):
        decode(
            encoded[:at] + scan * 2_000 + b"\xff\xd9",
            CellFormat(64, 96, 8, 8, is_signed=False),
            JPEG_LOSSY,
        )
    again = encode_frame(frame(), JPEG_LOSSLESS)
    assert np.array_equal(decode(again, SMALL, JPEG_LOSSLESS), frame())


def test_input_34_time_of_a_frame_is_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    """A child that does not answer is ended; the next frame gets another."""
    decode = Decoders(1)
    encoded = encode_frame(frame(), JPEG_LOSSLESS)
    decode(encoded, SMALL, JPEG_LOSSLESS)
    (child,) = decode._started
    os.kill(child._process.pid, signal.SIGSTOP)
    monkeypatch.setattr(decoders, "_PATIENCE", 0.05)
    with pytest.raises(UnsafePixels, match="more time or memory"):
        decode(encoded, SMALL, JPEG_LOSSLESS)
    assert not child.is_alive()
    monkeypatch.undo()
    assert np.array_equal(decode(encoded, SMALL, JPEG_LOSSLESS), frame())


def test_input_34_processor_time_is_limited_by_the_kernel() -> None:
    """Whatever a decoder does: after its seconds of processor time it is gone."""
    assert cpu_limit_s(512 * 512) < 10
    assert cpu_limit_s(16384 * 16384) < 1000


def test_input_34_decoder_that_dies(monkeypatch: pytest.MonkeyPatch) -> None:
    """A crash in native code costs the child alone."""
    decode = Decoders(2)
    encoded = encode_frame(frame(), JPEG_LOSSLESS)
    decode(encoded, SMALL, JPEG_LOSSLESS)
    (child,) = decode._started
    monkeypatch.setattr(child, "is_alive", lambda: True)
    child._process.kill()
    child._process.wait()
    with pytest.raises(UnsafePixels, match="ended the decoder"):
        decode(encoded, SMALL, JPEG_LOSSLESS)
    assert np.array_equal(decode(encoded, SMALL, JPEG_LOSSLESS), frame())


def test_children_end_with_their_owner() -> None:
    """Nothing is left running."""
    decode = Decoders(1)
    decode(encode_frame(frame(), JPEG_LOSSLESS), SMALL, JPEG_LOSSLESS)
    (child,) = decode._started
    del decode
    assert not child.is_alive()
