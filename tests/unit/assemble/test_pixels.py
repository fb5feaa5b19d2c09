"""Stored values to Hounsfield units: every encoding, every sign, padding, and damage."""

import tempfile
from collections.abc import Callable
from pathlib import Path

import jpeg_ls
import numpy as np
import openjpeg
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from pydicom.encaps import encapsulate, generate_frames
from pydicom.uid import (
    JPEG2000,
    MPEG2MPML,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)

from screener.assemble.codecs import to_stored
from screener.assemble.headers import Rescale, SliceHeader, read_headers
from screener.assemble.pixels import AIR_HU, read_frame_hu, rescale_to_hu
from screener.demo.pixel_encoding import save
from screener.errors import UnreadablePixels
from tests.ct_factories import ct_dataset, enhanced_dataset, only_study, write_dataset

ROWS, COLUMNS = 64, 96
UNSIGNED = (np.arange(ROWS * COLUMNS, dtype=np.uint16) * 5 % 4096).reshape(ROWS, COLUMNS)
SIGNED = UNSIGNED.astype(np.int16) - 2048


def read_hu(path: Path) -> NDArray[np.int16]:
    (header,) = read_headers(only_study(path))
    assert header.unreadable is None
    return read_frame_hu(SliceHeader(header, header.frames[0]))[0]


def write_stored(
    path: Path,
    stored: NDArray[np.integer],
    syntax: str,
    encode: Callable[[NDArray[np.integer]], bytes] | None = None,
    **attributes: object,
) -> Path:
    is_signed = stored.dtype == np.int16
    encoded = encode(stored) if encode else stored.astype(stored.dtype.newbyteorder("<")).tobytes()
    dataset = ct_dataset(
        Rows=ROWS,
        Columns=COLUMNS,
        PixelRepresentation=int(is_signed),
        RescaleIntercept="0" if is_signed else "-1024",
        PixelData=encapsulate([encoded]) if encode else encoded,
        **attributes,
    )
    if encode:
        dataset["PixelData"].is_undefined_length = True
        dataset["PixelData"].VR = "OB"
    return write_dataset(dataset, path, syntax)


def expected_hu(stored: NDArray[np.integer]) -> NDArray[np.int32]:
    offset = 0 if stored.dtype == np.int16 else -1024
    return np.maximum(stored.astype(np.int32) + offset, AIR_HU)


def encode_jpeg_ls(stored: NDArray[np.integer]) -> bytes:
    return bytes(jpeg_ls.encode_array(stored.view(np.uint16) & 0x0FFF))


def encode_jpeg_2000(stored: NDArray[np.integer]) -> bytes:
    return bytes(openjpeg.encode(stored, bits_stored=12, photometric_interpretation=2))


def encode_as_the_writer(syntax: str) -> Callable[[NDArray[np.integer]], bytes]:
    """Encode as the writer of synthetic series does: through files, GDCM's safest door."""

    def encode(stored: NDArray[np.integer]) -> bytes:
        dataset = ct_dataset(
            Rows=ROWS,
            Columns=COLUMNS,
            PixelRepresentation=int(stored.dtype == np.int16),
            PixelData=stored.tobytes(),
        )
        dataset["PixelData"].VR = "OW"
        with tempfile.TemporaryDirectory() as folder:
            save(dataset, Path(folder, "encoded.dcm"), syntax)
        return next(generate_frames(dataset.PixelData, number_of_frames=1))

    return encode


@pytest.mark.parametrize("stored", [UNSIGNED, SIGNED], ids=["unsigned", "signed"])
@pytest.mark.parametrize(
    "syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian, DeflatedExplicitVRLittleEndian]
)
def test_uncompressed_values_become_hu(
    tmp_path: Path, stored: NDArray[np.integer], syntax: str
) -> None:
    """Native encodings, signed and unsigned."""
    assert (read_hu(write_stored(tmp_path / "a", stored, syntax)) == expected_hu(stored)).all()


def test_big_endian_values_become_hu(tmp_path: Path) -> None:
    """Retired, never negotiated, still found in folders."""
    swapped = UNSIGNED.byteswap().view(UNSIGNED.dtype)
    dataset = ct_dataset(Rows=ROWS, Columns=COLUMNS, PixelData=swapped.tobytes())
    dataset["PixelData"].VR = "OB"
    write_dataset(dataset, tmp_path / "a", ExplicitVRBigEndian)
    assert (read_hu(tmp_path / "a") == expected_hu(UNSIGNED)).all()


@pytest.mark.parametrize("stored", [UNSIGNED, SIGNED], ids=["unsigned", "signed"])
@pytest.mark.parametrize(
    ("syntax", "encode"),
    [
        (JPEGLSLossless, encode_jpeg_ls),
        (JPEG2000Lossless, encode_jpeg_2000),
        (JPEG2000, encode_jpeg_2000),
        (JPEGLossless, encode_as_the_writer(JPEGLossless)),
        (JPEGLosslessSV1, encode_as_the_writer(JPEGLosslessSV1)),
        (RLELossless, encode_as_the_writer(RLELossless)),
    ],
    ids=["jpeg-ls", "j2k-lossless", "j2k", "jpeg-14", "jpeg-14-sv1", "rle"],
)
def test_lossless_code_streams_decode_bit_for_bit(
    tmp_path: Path,
    stored: NDArray[np.integer],
    syntax: str,
    encode: Callable[[NDArray[np.integer]], bytes],
) -> None:
    """Each compressed encoding, signed and unsigned, gives the values that went in."""
    path = write_stored(tmp_path / "a", stored, syntax, encode)
    assert (read_hu(path) == expected_hu(stored)).all()


def test_frame_of_a_multi_frame_instance_is_read_alone(tmp_path: Path) -> None:
    """Frame 3 holds the value 1024 + 2."""
    write_dataset(enhanced_dataset([0.0, 5.0, 10.0]), tmp_path / "a")
    (header,) = read_headers(only_study(tmp_path))
    values = [int(read_frame_hu(SliceHeader(header, one))[0].max()) for one in header.frames]
    assert values == [0, 1, 2]


def test_bits_above_bits_stored_are_dropped(tmp_path: Path) -> None:
    """Overlay bits in the high nibble (retired) are no image."""
    dirty = UNSIGNED | np.uint16(0xA000)
    assert (
        read_hu(write_stored(tmp_path / "a", dirty, ExplicitVRLittleEndian))
        == expected_hu(UNSIGNED)
    ).all()


@given(value=st.integers(-2048, 2047), garbage=st.integers(0, 15))
def test_sign_comes_from_bits_stored(value: int, garbage: int) -> None:
    """Twelve stored bits in two's complement, whatever stands above them."""
    cell = np.array([[(value & 0xFFF) | garbage << 12]], dtype=np.uint16)
    assert to_stored(cell, bits_stored=12, is_signed=True).tolist() == [[value]]


@pytest.mark.parametrize(
    ("attributes", "reason"),
    [
        ({"RescaleType": "Z_EFF"}, "Z_EFF"),
        ({"RescaleIntercept": None}, "no Rescale"),
    ],
)
def test_values_that_are_no_hu_are_refused(
    tmp_path: Path, attributes: dict[str, object], reason: str
) -> None:
    """Effective atomic numbers must not be read as Hounsfield units."""
    write_dataset(ct_dataset(**attributes), tmp_path / "a")
    with pytest.raises(UnreadablePixels, match=reason):
        read_hu(tmp_path / "a")


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, JPEGLSLossless, JPEG2000Lossless,
                                    JPEGLosslessSV1, RLELossless])  # fmt: skip
def test_damaged_pixels_are_refused(tmp_path: Path, syntax: str) -> None:
    """Cut or nonsense data end in a named error, whichever decoder meets them."""
    if syntax == ExplicitVRLittleEndian:
        write_dataset(ct_dataset(PixelData=b"\0" * 64), tmp_path / "a", syntax)
    else:
        write_stored(tmp_path / "a", UNSIGNED, syntax, lambda _: b"\xff\xd8\xff\xf7 nonsense")
    with pytest.raises(UnreadablePixels):
        read_hu(tmp_path / "a")


def test_code_stream_of_another_size_is_refused(tmp_path: Path) -> None:
    """A header of 64 x 96 with a code stream of 48 x 128 is not reshaped."""
    path = write_stored(
        tmp_path / "a", UNSIGNED, JPEGLSLossless, lambda one: encode_jpeg_ls(one.reshape(48, 128))
    )
    with pytest.raises(UnreadablePixels, match="48 rows and 128 columns"):
        read_hu(path)


def test_syntax_without_decoder_is_refused(tmp_path: Path) -> None:
    """Video in a CT slice has no decoder here."""
    path = write_stored(tmp_path / "a", UNSIGNED, MPEG2MPML, encode_jpeg_ls)
    with pytest.raises(UnreadablePixels, match="no decoder for transfer syntax"):
        read_hu(path)


def test_signed_padding_becomes_air() -> None:
    """-2000 with an intercept of -1024 is air, not -3024 HU."""
    stored = np.array([[-2000, 0], [1024, 1064]], dtype=np.int16)
    hu, n_padding = rescale_to_hu(stored, Rescale(1.0, -1024.0, "HU"), (-2000, -2000))
    assert hu.tolist() == [[-1024, -1024], [0, 40]]
    assert n_padding == 1


def test_padding_range_above_air_becomes_air() -> None:
    """Padding may be any value: 63 000 stored, declared with its limit."""
    stored = np.array([[63000, 63005, 63011, 1024]], dtype=np.uint16)
    hu, n_padding = rescale_to_hu(stored, Rescale(1.0, -1024.0, None), (63000, 63010))
    assert hu.tolist() == [[-1024, -1024, 32767, 0]]
    assert n_padding == 2


def test_fractional_rescale_is_rounded() -> None:
    """Slope 0.5: the nearest integer, ties to even."""
    stored = np.array([[1, 2, 3]], dtype=np.uint16)
    hu, _ = rescale_to_hu(stored, Rescale(0.5, 0.25, "HU"), None)
    assert hu.tolist() == [[1, 1, 2]]


@given(
    value=st.integers(-32768, 32767),
    slope=st.floats(-1e6, 1e6).filter(lambda slope: slope != 0),
    intercept=st.floats(-1e9, 1e9),
)
def test_hu_are_always_in_range(value: int, slope: float, intercept: float) -> None:
    """Absurd headers give clipped values, not overflow."""
    hu, _ = rescale_to_hu(
        np.array([[value]], dtype=np.int16), Rescale(slope, intercept, None), None
    )
    assert AIR_HU <= int(hu[0, 0]) <= 32767
    assert hu[0, 0] == np.clip(np.rint(value * slope + intercept), AIR_HU, 32767)
