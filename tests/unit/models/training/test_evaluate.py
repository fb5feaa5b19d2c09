"""Volumes as arrays are read completely or not at all."""

from pathlib import Path

import numpy as np
import pytest

from models.errors import DatasetInvalid
from models.training.evaluate import read_volume


def test_volume_without_an_array_is_refused(tmp_path: Path) -> None:
    """The message names what is missing."""
    np.savez(tmp_path / "one.npz", volume_hu=np.zeros((2, 4, 4), dtype=np.int16))
    with pytest.raises(DatasetInvalid, match="lung_mask"):
        read_volume(tmp_path / "one.npz")


def test_volume_of_other_shape_is_refused(tmp_path: Path) -> None:
    """Volume and mask belong together."""
    np.savez(
        tmp_path / "one.npz",
        volume_hu=np.zeros((2, 4, 4), dtype=np.int16),
        lung_mask=np.zeros((3, 4, 4), dtype=bool),
        spacing_mm=np.array([5.0, 1.0, 1.0]),
    )
    with pytest.raises(DatasetInvalid, match="shaped as its mask"):
        read_volume(tmp_path / "one.npz")
