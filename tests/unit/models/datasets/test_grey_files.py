"""Colour mode and container carry no label: every picture becomes the same 8 bit grey."""

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from models.datasets.grey_files import read_grey, read_picture_mask
from models.errors import DatasetInvalid

PROJECT = Path(__file__).resolve().parents[4]
TEST_DATA = Path(os.environ.get("SCREENER_TEST_DATA", PROJECT.parent / "shared" / "data"))
RAMP = np.arange(256, dtype=np.uint8).reshape(16, 16)


@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA", "P", "CMYK"])
def test_grey_is_the_same_in_every_mode(mode: str, tmp_path: Path) -> None:
    """One ramp, saved in six modes, is one ramp."""
    path = tmp_path / ("ramp.tif" if mode == "CMYK" else "ramp.png")
    picture = Image.fromarray(RAMP)
    if mode == "P":
        picture.putpalette([value for value in range(256) for _ in range(3)])
        picture.save(path)
    elif mode == "CMYK":
        picture.convert("RGB").convert("CMYK").save(path)
    else:
        picture.convert(mode).save(path)
    assert np.array_equal(read_grey(path), RAMP)


@pytest.mark.parametrize(("bits", "ending"), [(8, "png"), (12, "png"), (16, "png"), (16, "tif")])
def test_grey_of_deep_pictures_keeps_its_range(bits: int, ending: str, tmp_path: Path) -> None:
    """12 bits in a 16 bit file are no black picture."""
    deep = np.rint(RAMP.astype(np.float64) * (2**bits - 1) / 255.0).astype(np.uint16)
    Image.fromarray(deep).save(tmp_path / f"deep.{ending}")
    assert np.array_equal(read_grey(tmp_path / f"deep.{ending}"), RAMP)


def test_grey_puts_transparency_on_black(tmp_path: Path) -> None:
    """What was transparent does not shine through as white."""
    rgba = np.full((4, 4, 4), 200, np.uint8)
    rgba[0, :, 3] = 0
    rgba[1:, :, 3] = 255
    Image.fromarray(rgba).save(tmp_path / "a.png")
    grey = read_grey(tmp_path / "a.png")
    assert grey[0].tolist() == [0] * 4
    assert grey[1].tolist() == [200] * 4


def test_grey_weighs_colour_as_luma(tmp_path: Path) -> None:
    """Pure red, green and blue by ITU-R BT.601."""
    Image.fromarray(np.eye(3, dtype=np.uint8)[None] * 255).save(tmp_path / "rgb.png")
    assert read_grey(tmp_path / "rgb.png").tolist() == [[76, 150, 29]]


def test_grey_follows_the_orientation_of_exif(tmp_path: Path) -> None:
    """A picture that is stored on its side is read upright."""
    exif = Image.Exif()
    exif[0x0112] = 6  # turn clockwise to show
    Image.fromarray(RAMP[:4]).save(tmp_path / "turned.png", exif=exif)
    assert np.array_equal(read_grey(tmp_path / "turned.png"), np.rot90(RAMP[:4], -1))


def test_grey_of_one_bit_is_black_and_white(tmp_path: Path) -> None:
    """Bilevel pictures become 0 and 255; as masks they keep their shape."""
    Image.fromarray(RAMP > 100).save(tmp_path / "bits.png")
    assert np.array_equal(read_grey(tmp_path / "bits.png"), (RAMP > 100) * 255)
    assert np.array_equal(read_picture_mask(tmp_path / "bits.png"), RAMP > 100)


def test_mask_of_zeros_and_ones_is_a_mask(tmp_path: Path) -> None:
    """Label values 0 and 1 count as false and true."""
    Image.fromarray((RAMP > 100).astype(np.uint8)).save(tmp_path / "ones.png")
    assert np.array_equal(read_picture_mask(tmp_path / "ones.png"), RAMP > 100)


@pytest.mark.parametrize("content", [b"", b"no picture", b"\x89PNG\r\n\x1a\n1234"])
def test_broken_picture_is_refused(content: bytes, tmp_path: Path) -> None:
    """The message names the file."""
    (tmp_path / "broken.png").write_bytes(content)
    with pytest.raises(DatasetInvalid, match=r"broken\.png"):
        read_grey(tmp_path / "broken.png")


def test_real_originals_are_grey_like_their_copies() -> None:
    """RGBA, RGB, grey PNG and JPEG originals match the grey copies of the training folder."""
    originals = TEST_DATA / "images" / "covid-ct-originals"
    if not originals.is_dir():
        pytest.skip(f"{originals} is not there; set SCREENER_TEST_DATA")
    for path in sorted(originals.glob("*/*")):
        copies = list(
            (TEST_DATA / "train" / "covid-ct").glob(f"*/{path.parent.name}/{path.stem}.png")
        )
        copy = read_grey(copies[0])
        size = (copy.shape[1], copy.shape[0])
        resized = np.asarray(
            Image.fromarray(read_grey(path)).resize(size, Image.Resampling.LANCZOS)
        )
        assert np.abs(resized.astype(float) - copy).mean() < 4.0, path
