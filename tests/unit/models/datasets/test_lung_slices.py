"""Training data are read completely, the held-out case never, and no patient leaks."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from models.datasets.lung_slices import PatientSplit, read_lctsc
from models.errors import DatasetInvalid, LeakingSplit


def write_case(folder: Path, name: str, grey: int) -> None:
    """Write one constant image with a mask of its left half."""
    for part in ("img", "lung"):
        (folder / part).mkdir(exist_ok=True)
    mask = np.zeros((8, 8), dtype=np.uint8)
    mask[:, :4] = 255
    Image.fromarray(np.full((8, 8), grey, dtype=np.uint8)).save(folder / "img" / name)
    Image.fromarray(mask).save(folder / "lung" / name)


def test_lctsc_grey_values_become_hu(tmp_path: Path) -> None:
    """0 is -1024 HU, 255 is 400 HU, and the mask follows."""
    write_case(tmp_path, "Case_000_013.png", 0)
    write_case(tmp_path, "Case_001_020.png", 255)
    slices = read_lctsc(tmp_path)
    assert slices.hu[:, 0, 0].tolist() == [-1024, 400]
    assert slices.mask[0].sum() == 32
    assert slices.patients == ("000", "001")
    assert slices.slice_numbers == (13, 20)


def test_lctsc_held_out_case_is_never_read(tmp_path: Path) -> None:
    """Case 005 is for the end-to-end check alone."""
    write_case(tmp_path, "Case_004_001.png", 9)
    write_case(tmp_path, "Case_005_001.png", 9)
    assert read_lctsc(tmp_path).patients == ("004",)


def test_lctsc_image_without_mask_is_refused(tmp_path: Path) -> None:
    """A missing mask is not an empty one."""
    write_case(tmp_path, "Case_000_001.png", 9)
    (tmp_path / "lung" / "Case_000_001.png").unlink()
    with pytest.raises(DatasetInvalid, match="every image needs its mask"):
        read_lctsc(tmp_path)


def test_lctsc_foreign_file_is_refused(tmp_path: Path) -> None:
    """Files of another layout are not passed over in silence."""
    write_case(tmp_path, "slice_7.png", 9)
    with pytest.raises(DatasetInvalid, match=r"slice_7\.png"):
        read_lctsc(tmp_path)


def test_lctsc_empty_folder_is_refused(tmp_path: Path) -> None:
    """The message names what to point at."""
    with pytest.raises(DatasetInvalid, match="point at"):
        read_lctsc(tmp_path)


def test_split_with_patient_on_both_sides_is_refused() -> None:
    """A leak is named by patient."""
    with pytest.raises(LeakingSplit, match="'003'"):
        PatientSplit(frozenset({"001", "003"}), frozenset({"003"}))


@pytest.mark.parametrize("side", [0, 1])
def test_split_with_held_out_case_is_refused(side: int) -> None:
    """The held-out case stands on neither side."""
    sides = [frozenset({"001"}), frozenset({"002"})]
    sides[side] |= {"005"}
    with pytest.raises(LeakingSplit, match="held out"):
        PatientSplit(*sides)


def test_split_without_training_patients_is_refused() -> None:
    """Somebody must be learnt from."""
    with pytest.raises(DatasetInvalid, match="nobody"):
        PatientSplit(frozenset(), frozenset({"001"}))


def test_slices_of_patients_keep_only_those(tmp_path: Path) -> None:
    """Image, mask and names stay together."""
    for name in ("Case_000_001.png", "Case_001_001.png", "Case_000_003.png"):
        write_case(tmp_path, name, int(name[7]) * 100)
    kept = read_lctsc(tmp_path).of_patients(frozenset({"000"}))
    assert kept.patients == ("000", "000")
    assert kept.slice_numbers == (1, 3)
    assert kept.hu.max() == -1024
