"""Segments as voxels: read with pydicom, and as dcmqi writes them, to compare the two."""

from __future__ import annotations

import gzip
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from pydicom import config, dcmread

from screener.assemble.part10 import quiet_parser
from screener.conformance.objects import LABEL_MAP_SEGMENTATION
from screener.conformance.tree import first_code

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray
    from pydicom import Dataset

#: Most voxels of a segmentation that are opened: 4,000 planes of 512 x 512.
MAXIMUM_VOXELS: Final = 4_000 * 512 * 512
_NRRD_TYPES: Final = {
    "unsigned char": np.uint8,
    "uint8": np.uint8,
    "short": np.int16,
    "int16": np.int16,
    "unsigned short": np.uint16,
    "uint16": np.uint16,
    "float": np.float32,
}


@dataclass(frozen=True, slots=True)
class Segment:
    """One segment with what its voxels say."""

    number: int
    label: str
    laterality: str  #: code value of the modifier of the property type, empty without one
    tracking_uid: str
    n_voxels: int
    volume_ml: float | None  #: None where the frames do not say how far apart they are
    mean_x_mm: float | None  #: of its voxels, patient coordinates, to the left; None if empty


def read_segments(path: Path) -> list[Segment]:
    """Read the segments of a segmentation, in the order of their numbers.

    Raises
    ------
    ValueError
        It is larger than is opened here.
    AttributeError, LookupError, TypeError
        It lacks what places its frames, or its pixels cannot be decoded.
    """
    with config.disable_value_validation(), quiet_parser():
        document = dcmread(path)
        n_voxels = int(document.get("NumberOfFrames") or 1) * document.Rows * document.Columns
        if n_voxels > MAXIMUM_VOXELS:
            raise ValueError(f"{n_voxels} voxels are more than the {MAXIMUM_VOXELS} opened here")
        pixels = document.pixel_array.reshape(-1, document.Rows, document.Columns)
        return [_segment(document, item, pixels) for item in document.SegmentSequence]


def read_map(path: Path) -> NDArray[np.float32]:
    """Read the values of a parametric map, ``(frames, rows, columns)``, in the order of its frames.

    Raises
    ------
    ValueError
        It is larger than is opened here, or holds no floating point values.
    """
    with config.disable_value_validation(), quiet_parser():
        document = dcmread(path)
        shape = (int(document.get("NumberOfFrames") or 1), document.Rows, document.Columns)
        if np.prod(shape) > MAXIMUM_VOXELS or "FloatPixelData" not in document:
            raise ValueError("too many values, or none in floating point")
        return np.asarray(document.pixel_array, np.float32).reshape(shape)


def _segment(document: Dataset, item: Dataset, pixels: NDArray[Any]) -> Segment:
    number = int(item.SegmentNumber)
    is_label_map = document.SOPClassUID == LABEL_MAP_SEGMENTATION
    planes = []
    for frame, plane in zip(document.PerFrameFunctionalGroupsSequence, pixels, strict=True):
        if is_label_map:
            planes.append((frame, plane == number))
        elif frame.SegmentIdentificationSequence[0].ReferencedSegmentNumber == number:
            planes.append((frame, plane > 0))
    kind = item.SegmentedPropertyTypeCodeSequence[0]
    n_voxels = sum(int(mask.sum()) for _, mask in planes)
    voxel_ml = _voxel_ml(document)
    return Segment(
        number=number,
        label=str(item.get("SegmentLabel") or ""),
        laterality=first_code(kind, "SegmentedPropertyTypeModifierCodeSequence"),
        tracking_uid=str(item.get("TrackingUID") or ""),
        n_voxels=n_voxels,
        volume_ml=None if voxel_ml is None else n_voxels * voxel_ml,
        mean_x_mm=_mean_x_mm(document, planes) if n_voxels else None,
    )


def _voxel_ml(document: Dataset) -> float | None:
    measures = document.SharedFunctionalGroupsSequence[0].get("PixelMeasuresSequence")
    if not measures or not measures[0].get("SpacingBetweenSlices"):
        return None
    spacing_mm = (*measures[0].PixelSpacing, measures[0].SpacingBetweenSlices)
    return float(np.prod([float(value) for value in spacing_mm])) / 1000.0


def _mean_x_mm(document: Dataset, planes: list[tuple[Dataset, NDArray[np.bool_]]]) -> float:
    """Average the first patient coordinate over the voxels (PS3.3 C.7.6.2.1.1)."""
    shared = document.SharedFunctionalGroupsSequence[0]
    row_mm, column_mm = (float(v) for v in shared.PixelMeasuresSequence[0].PixelSpacing)
    total_mm, n_voxels = 0.0, 0
    for frame, mask in planes:
        rows, columns = np.nonzero(mask)
        orientation = _orientation(frame, shared)
        start_mm = float(frame.PlanePositionSequence[0].ImagePositionPatient[0])
        # The first cosine of the row direction steps along columns, the fourth along rows.
        steps_mm = columns * (column_mm * orientation[0]) + rows * (row_mm * orientation[3])
        total_mm += float(steps_mm.sum()) + start_mm * len(rows)
        n_voxels += len(rows)
    return total_mm / n_voxels


def _orientation(frame: Dataset, shared: Dataset) -> list[float]:
    holder = frame if "PlaneOrientationSequence" in frame else shared
    return [float(v) for v in holder.PlaneOrientationSequence[0].ImageOrientationPatient]


def read_nrrd(file: Path) -> tuple[NDArray[Any], tuple[float, ...]]:
    """Read the small part of NRRD that dcmqi writes: gzip or raw, axes parallel to its own.

    Returns
    -------
    voxels
        ``(slices, rows, columns)`` of the bounding planes.
    origin_mm
        Of the first voxel, x y z.

    Raises
    ------
    ValueError, KeyError
        The file is written in another way.
    """
    header, data = file.read_bytes().split(b"\n\n", 1)
    fields = dict(
        line.split(": ", 1) for line in header.decode("ascii").splitlines() if ": " in line
    )
    if fields["encoding"] in {"gzip", "gz"}:
        data = gzip.decompress(data)
    sizes = [int(size) for size in fields["sizes"].split()]
    voxels = np.frombuffer(data, _NRRD_TYPES[fields["type"]]).reshape(sizes[::-1])
    origin_mm = tuple(float(one) for one in fields["space origin"].strip("()").split(","))
    return voxels, origin_mm
