"""Pictures of every colour mode and container to 8 bit grey; the door to Pillow for data sets.

In collected data sets the class often shows in the container: one class was saved as JPEG, the
other as RGBA PNG. A reader that hands on colour hands on the label. Everything becomes grey here.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from models.errors import DatasetInvalid

#: Endings of the pictures that are read, lower case.
PICTURE_ENDINGS = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff"})
#: Modes of Pillow with more than 8 bits per sample; all have one channel.
_DEEP_MODES = frozenset({"I", "I;16", "I;16L", "I;16B", "I;16N", "F"})
#: Bit depths that scanners and exports use; a deep picture has the least one that holds its values.
_BIT_DEPTHS = (8, 10, 12, 14, 16)
#: What Pillow raises on broken files.
_PICTURE_ERRORS = (OSError, SyntaxError, ValueError, Image.DecompressionBombError)


def read_grey(path: Path) -> NDArray[np.uint8]:
    """Read a picture as 8 bit grey.

    Colour is weighed as luma (ITU-R BT.601), transparency lies on black, an orientation of EXIF is
    applied. More than 8 bits are divided down from the least usual depth (8, 10, 12, 14 or 16
    bits) that holds the largest value, so that 12 bits in a 16 bit file do not become black.

    Returns
    -------
    :
        ``(rows, columns)``, 0 to 255.

    Raises
    ------
    DatasetInvalid
        The file is missing or no picture.
    """
    try:
        with Image.open(path) as opened:
            return _to_grey(ImageOps.exif_transpose(opened))
    except _PICTURE_ERRORS as error:
        raise DatasetInvalid(
            f"{path} is no readable picture ({error}); restore or remove it"
        ) from error


def read_picture_mask(path: Path) -> NDArray[np.bool_]:
    """Read a mask: true where the picture is above half of its range.

    A mask whose largest value is 1 is taken as 0 and 1.
    """
    grey = read_grey(path)
    least = 0 if int(grey.max(initial=0)) <= 1 else 127
    return np.asarray(grey > least)


def picture_files(folder: Path) -> tuple[Path, ...]:
    """List the pictures directly in a folder, by name."""
    if not folder.is_dir():
        return ()
    return tuple(
        sorted(path for path in folder.iterdir() if path.suffix.lower() in PICTURE_ENDINGS)
    )


def _to_grey(picture: Image.Image) -> NDArray[np.uint8]:
    if picture.mode in _DEEP_MODES:
        return _from_deep(np.asarray(picture, dtype=np.float64))
    if picture.mode == "L" and "transparency" not in picture.info:
        return np.array(picture, dtype=np.uint8)
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
        black = Image.new("RGBA", picture.size, (0, 0, 0, 255))
        picture = Image.alpha_composite(black, picture)
    if picture.mode not in {"1", "L"}:
        picture = picture.convert("RGB")
    return np.array(picture.convert("L"), dtype=np.uint8)


def _from_deep(values: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Divide values of an unknown depth down to 8 bits."""
    if not np.isfinite(values).all() or values.min() < 0:
        raise ValueError("values below zero or not finite: not a grey picture")
    largest = float(values.max())
    if largest <= 1.0 and not np.array_equal(values, np.rint(values)):
        return np.asarray(np.rint(values * 255.0), dtype=np.uint8)  # float pictures of 0 to 1
    fitting = [bits for bits in _BIT_DEPTHS if largest < 2**bits]
    if not fitting:
        raise ValueError(f"largest value {largest:g} does not fit 16 bits: not a grey picture")
    return np.asarray(np.rint(values * (255.0 / (2 ** fitting[0] - 1))), dtype=np.uint8)


@dataclass(frozen=True, slots=True)
class GreyFiles:
    """Pictures in files, with masks in files beside them.

    ``masks`` gives one path per picture for each structure, None where there is none.
    ``upside_down`` holds the indices of pictures (and masks) whose rows run from back to front.
    """

    paths: tuple[Path, ...]
    masks: Mapping[str, tuple[Path | None, ...]] = field(default_factory=dict)
    upside_down: frozenset[int] = frozenset()

    def image(self, index: int) -> NDArray[Any]:
        """Read one picture as 8 bit grey."""
        return self._upright(index, read_grey(self.paths[index]))

    def mask(self, index: int, structure: str) -> NDArray[np.bool_]:
        """Read one mask; one of another size is brought to the picture's by nearest neighbour."""
        path = self.masks[structure][index]
        if path is None:
            raise DatasetInvalid(
                f"{self.paths[index]} has no mask of {structure}; leave it out or add the mask"
            )
        mask = read_picture_mask(path)
        with Image.open(self.paths[index]) as opened:
            columns, rows = ImageOps.exif_transpose(opened).size
        return self._upright(index, _resized(mask, rows, columns))

    def _upright(self, index: int, array: NDArray[Any]) -> NDArray[Any]:
        return np.ascontiguousarray(array[::-1]) if index in self.upside_down else array


def _resized(mask: NDArray[np.bool_], rows: int, columns: int) -> NDArray[np.bool_]:
    if mask.shape == (rows, columns):
        return mask
    row = ((np.arange(rows) + 0.5) * mask.shape[0] / rows).astype(np.int64)
    column = ((np.arange(columns) + 0.5) * mask.shape[1] / columns).astype(np.int64)
    return mask[np.ix_(row, column)]
