"""Contours of an RT Structure Set become masks on the slices they were drawn on."""

from pathlib import Path

import numpy as np
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import RTStructureSetStorage

from models.datasets import read_dataset
from models.errors import DatasetInvalid
from tests import dataset_factories as factories
from tests.ct_factories import write_dataset

Points = list[tuple[float, float, float]]


def square(left: float, top: float, size: float, height_mm: float) -> Points:
    """Give a square by the centres of its corner pixels, in pixels of the slice."""
    corners = [(0, 0), (size - 1, 0), (size - 1, size - 1), (0, size - 1)]
    half = factories.SIZE * factories.PIXEL_MM / 2
    return [
        ((left + x) * factories.PIXEL_MM - half, (top + y) * factories.PIXEL_MM - half, height_mm)
        for x, y in corners
    ]


def write_structures(path: Path, contours: dict[str, list[Points]]) -> None:
    """Write a structure set that draws each structure with closed planar contours."""
    dataset = Dataset()
    dataset.SOPClassUID = RTStructureSetStorage
    dataset.SOPInstanceUID = "1.2.3.4"
    dataset.Modality = "RTSTRUCT"
    dataset.StructureSetROISequence = []
    dataset.ROIContourSequence = []
    for number, (name, drawn) in enumerate(contours.items(), start=1):
        structure, items = Dataset(), Dataset()
        structure.ROINumber, structure.ROIName = number, name
        items.ReferencedROINumber = number
        items.ContourSequence = []
        for points in drawn:
            one = Dataset()
            one.ContourGeometricType = "CLOSED_PLANAR"
            one.ContourData = [f"{value:g}" for point in points for value in point]
            items.ContourSequence.append(one)
        dataset.StructureSetROISequence.append(structure)
        dataset.ROIContourSequence.append(items)
    write_dataset(dataset, path)


def write_patient(folder: Path, contours: dict[str, list[Points]]) -> None:
    factories.write_patient(folder / "study" / "ct", factories.NORMAL, 0)
    write_structures(folder / "study" / "structures" / "1.dcm", contours)


def test_contours_become_masks_of_their_slice(tmp_path: Path) -> None:
    """Two lungs on one slice, one with a hole; other structures and slices stay out."""
    height_mm = factories.SLICE_MM
    write_patient(
        tmp_path / "LCTSC-Train-S1-001",
        {
            "Lung_R": [square(5, 10, 20, height_mm), square(10, 15, 5, height_mm)],
            "Lung_L": [square(40, 10, 10, height_mm)],
            "Heart": [square(30, 30, 8, height_mm)],
        },
    )
    data = read_dataset("lctsc", tmp_path)
    assert {sample.patient for sample in data.samples} == {"LCTSC-Train-S1-001"}
    assert [sample.height_mm for sample in data.samples] == [0.0, 50.0, 100.0, 150.0]
    expected = np.zeros((factories.SIZE, factories.SIZE), dtype=bool)
    expected[10:30, 5:25] = True
    expected[15:20, 10:15] = False
    expected[10:20, 40:50] = True
    assert np.array_equal(data.mask(1, "lung"), expected)
    assert not data.mask(0, "lung").any()


def test_structures_without_both_lungs_are_refused(tmp_path: Path) -> None:
    """One lung alone would make the other a mistake of every model."""
    write_patient(tmp_path / "P1", {"Lung_L": [square(5, 5, 9, 0.0)]})
    with pytest.raises(DatasetInvalid, match="Lung_L and Lung_R"):
        read_dataset("lctsc", tmp_path)


def test_structures_beside_two_series_are_refused(tmp_path: Path) -> None:
    """Which of them the contours were drawn on is not guessed."""
    lungs = {"Lung_L": [square(5, 5, 9, 0.0)], "Lung_R": [square(25, 5, 9, 0.0)]}
    write_patient(tmp_path / "P1", lungs)
    factories.write_patient(tmp_path / "P1" / "study" / "other", factories.NORMAL, 1)
    with pytest.raises(DatasetInvalid, match="2 folders"):
        read_dataset("lctsc", tmp_path)
