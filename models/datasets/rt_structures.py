"""Lungs as an RT Structure Set draws them: contours in mm to masks on slices."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageChops, ImageDraw

from models.datasets.dicom_files import SliceFile, read_dicom, read_hu
from models.errors import DatasetInvalid

#: Names of the two lungs in LCTSC; PS3.3 C.8.8.5 leaves ROI Name (3006,0026) to the author.
LUNG_ROI_NAMES = frozenset({"Lung_L", "Lung_R"})
#: SOP Class of RT Structure Set Storage.
_RT_STRUCTURE_SET = "1.2.840.10008.5.1.4.1.1.481.3"
#: A contour belongs to a slice whose height differs by less than this, mm.
_SAME_HEIGHT_MM = 0.5

Contour = tuple[tuple[float, float, float], ...]


@dataclass(frozen=True, slots=True)
class LungContours:
    """Closed planar contours of both lungs, points in mm of the patient, and the CT they are on."""

    ct_folder: Path
    contours: tuple[Contour, ...]


def find_lung_contours(folder: Path) -> LungContours | None:
    """Find the RT Structure Set below a patient's folder; None where there is none.

    Raises
    ------
    DatasetInvalid
        It draws no lungs, or the CT beside it is not in exactly one folder.
    """
    for path in sorted(folder.rglob("*.dcm")):
        if read_dicom(path, specific_tags=["SOPClassUID"]).get("SOPClassUID") != _RT_STRUCTURE_SET:
            continue
        contours = _contours(read_dicom(path), path)
        return LungContours(_ct_folder(folder, path.parent), contours)
    return None


def lung_mask_reader(contours: LungContours, one: SliceFile) -> Callable[[], NDArray[np.bool_]]:
    """Give a function that draws the contours of one slice."""
    return partial(_draw, contours, one)


def _contours(dataset: Any, path: Path) -> tuple[Contour, ...]:
    numbers = {
        int(roi.ROINumber)
        for roi in dataset.get("StructureSetROISequence", ())
        if roi.get("ROIName") in LUNG_ROI_NAMES
    }
    if len(numbers) != len(LUNG_ROI_NAMES):
        raise DatasetInvalid(f"{path} does not draw {' and '.join(sorted(LUNG_ROI_NAMES))}")
    found: list[Contour] = []
    for roi in dataset.get("ROIContourSequence", ()):
        if int(roi.ReferencedROINumber) not in numbers:
            continue
        for item in roi.get("ContourSequence", ()):
            values = [float(value) for value in item.ContourData]
            found.append(tuple(zip(values[::3], values[1::3], values[2::3], strict=True)))
    return tuple(found)


def _ct_folder(patient: Path, of_structures: Path) -> Path:
    folders = sorted({one.parent for one in patient.rglob("*.dcm")} - {of_structures})
    if len(folders) != 1:
        raise DatasetInvalid(
            f"{patient} has {len(folders)} folders of slices beside its structure set; keep the "
            "one that the contours were drawn on"
        )
    return folders[0]


def _draw(contours: LungContours, one: SliceFile) -> NDArray[np.bool_]:
    """Fill the contours at the height of an axial slice; a contour inside another is a hole."""
    if one.position_mm is None or one.pixel_spacing_mm is None:
        raise DatasetInvalid(
            f"{one.path} lacks position or pixel spacing: contours cannot be drawn"
        )
    rows, columns = read_hu(one.path).shape
    mask = Image.new("1", (columns, rows))
    for contour in contours.contours:
        if abs(contour[0][2] - one.position_mm[2]) >= _SAME_HEIGHT_MM:
            continue
        points = [
            (
                (x - one.position_mm[0]) / one.pixel_spacing_mm[1],
                (y - one.position_mm[1]) / one.pixel_spacing_mm[0],
            )
            for x, y, _ in contour
        ]
        drawn = Image.new("1", (columns, rows))
        ImageDraw.Draw(drawn).polygon(points, fill=1, outline=1)
        mask = ImageChops.logical_xor(mask, drawn)
    return np.array(mask, dtype=np.bool_)
