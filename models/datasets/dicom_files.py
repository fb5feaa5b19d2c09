"""CT slices in DICOM files; the door to pydicom for data sets (ADR 19).

Research data are read file by file here, without the node's bounds and geometry rules: files come
from the user's own disk. Values agree with the node's: HU as int16, padding as air.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom import config as pydicom_config
from pydicom.errors import InvalidDicomError

from models.errors import DatasetInvalid

# UIDs of letters and the like are common in research data and change no pixel: no warning each.
pydicom_config.settings.reading_validation_mode = pydicom_config.IGNORE

#: Air, HU. Nothing in a body is thinner; lower values are padding, declared or not.
AIR_HU = -1024
#: Endings of files that stand beside slices and are none.
_OTHER_ENDINGS = frozenset(
    {".csv", ".txt", ".md", ".npy", ".npz", ".json", ".png", ".jpg", ".xlsx", ".toml", ".pdf"}
)
#: What pydicom and its decoders raise on broken files.
_DICOM_ERRORS = (
    AttributeError,
    InvalidDicomError,
    KeyError,
    NotImplementedError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
)
_HEADER_KEYWORDS = [
    "ImageOrientationPatient", "ImagePositionPatient", "InstanceNumber", "Modality", "PatientID",
    "PixelSpacing", "SeriesInstanceUID", "SliceLocation", "StudyInstanceUID", "Rows", "Columns",
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class SliceFile:
    """Where a slice lies: file, patient and place.

    ``height_mm`` grows from caudal to cranial: the position along the normal of the slice, or
    SliceLocation (0020,1041) where no position is given. ``pixel_spacing_mm`` is rows, columns;
    ``position_mm`` and ``orientation`` are None where the header has none. ``patient_id`` may be
    empty.
    """

    path: Path
    modality: str
    patient_id: str
    study_instance_uid: str
    series_instance_uid: str
    height_mm: float
    position_mm: tuple[float, float, float] | None
    orientation: tuple[float, ...] | None
    pixel_spacing_mm: tuple[float, float] | None


def read_slice_file(path: Path) -> SliceFile:
    """Read the header of one slice.

    Raises
    ------
    DatasetInvalid
        No DICOM, or neither Image Position (Patient) nor Slice Location: it has no place.
    """
    dataset = read_dicom(path, stop_before_pixels=True, specific_tags=_HEADER_KEYWORDS)
    position = _numbers(dataset, "ImagePositionPatient", 3)
    orientation = _numbers(dataset, "ImageOrientationPatient", 6)
    spacing = _numbers(dataset, "PixelSpacing", 2)
    return SliceFile(
        path=path,
        modality=_text(dataset, "Modality"),
        patient_id=_text(dataset, "PatientID"),
        study_instance_uid=_text(dataset, "StudyInstanceUID"),
        series_instance_uid=_text(dataset, "SeriesInstanceUID"),
        height_mm=_height_mm(dataset, path, position, orientation),
        position_mm=None if position is None else (position[0], position[1], position[2]),
        orientation=orientation,
        pixel_spacing_mm=None if spacing is None else (spacing[0], spacing[1]),
    )


def slice_files(folder: Path) -> tuple[SliceFile, ...]:
    """Read the header of every file directly in a folder, from cranial to caudal.

    File names are no order, and UIDs are no identity: published series carry one SOP Instance UID
    on every slice, so every file counts.

    Raises
    ------
    DatasetInvalid
        A file that is no DICOM slice, or no file at all.
    """
    paths = sorted(
        path
        for path in folder.iterdir()
        if path.is_file()
        and path.suffix.lower() not in _OTHER_ENDINGS
        and not path.name.startswith(".")
    )
    if not paths:
        raise DatasetInvalid(f"{folder} holds no DICOM files; point at a folder of slices")
    files = [read_slice_file(path) for path in paths]
    return tuple(sorted(files, key=lambda one: -one.height_mm))


def read_hu(path: Path) -> NDArray[np.int16]:
    """Read one slice in HU, ``(rows, columns)``; padding becomes air.

    Raises
    ------
    DatasetInvalid
        The pixels cannot be decoded, or Rescale Slope and Intercept are missing.

    References
    ----------
    DICOM PS3.3 C.11.1.1.2 (rescale), C.7.5.1.1.2 (padding).
    """
    dataset = read_dicom(path)
    try:
        slope, intercept = float(dataset.RescaleSlope), float(dataset.RescaleIntercept)
        stored = dataset.pixel_array
    except _DICOM_ERRORS as error:
        raise DatasetInvalid(
            f"{path} gives no HU ({error}); convert it with an ordinary tool, or leave it out"
        ) from error
    if stored.ndim != 2:  # noqa: PLR2004  rows and columns
        raise DatasetInvalid(f"{path} holds {stored.shape}, not one grey slice; leave it out")
    values = np.rint(stored.astype(np.float64) * slope + intercept)
    values[_is_padding(dataset, stored)] = AIR_HU
    return np.asarray(np.clip(values, AIR_HU, np.iinfo(np.int16).max), dtype=np.int16)


@dataclass(frozen=True, slots=True)
class HuFiles:
    """CT slices in DICOM files, with masks from functions.

    ``masks`` gives one reader per slice for each structure, None where there is no mask.
    """

    paths: tuple[Path, ...]
    masks: Mapping[str, tuple[Callable[[], NDArray[np.bool_]] | None, ...]] = field(
        default_factory=dict
    )

    def image(self, index: int) -> NDArray[Any]:
        """Read one slice in HU."""
        return read_hu(self.paths[index])

    def mask(self, index: int, structure: str) -> NDArray[np.bool_]:
        """Read one mask."""
        read = self.masks[structure][index]
        if read is None:
            raise DatasetInvalid(f"{self.paths[index]} has no mask of {structure}; leave it out")
        return read()


def read_dicom(path: Path, **options: Any) -> Any:
    """Read a data set with the options of ``pydicom.dcmread``.

    Raises
    ------
    DatasetInvalid
        The file is missing or no DICOM.
    """
    try:
        return pydicom.dcmread(path, **options)
    except _DICOM_ERRORS as error:
        raise DatasetInvalid(
            f"{path} is no readable DICOM file ({error}); restore or remove it"
        ) from error


def _text(dataset: Any, keyword: str) -> str:
    return str(dataset.get(keyword) or "").strip()


def _numbers(dataset: Any, keyword: str, count: int) -> tuple[float, ...] | None:
    values = dataset.get(keyword)
    if values is None or values == "":
        return None
    try:
        numbers = tuple(float(value) for value in values)
    except (TypeError, ValueError):
        return None
    return numbers if len(numbers) == count else None


def _height_mm(
    dataset: Any, path: Path, position: Sequence[float] | None, orientation: Sequence[float] | None
) -> float:
    if position is not None:
        normal = (
            (0.0, 0.0, 1.0) if orientation is None else np.cross(orientation[:3], orientation[3:])
        )
        upward = np.asarray(normal) if normal[2] >= 0 else -np.asarray(normal)
        return float(np.dot(upward, position))
    location = dataset.get("SliceLocation")
    if location is None or location == "":
        raise DatasetInvalid(
            f"{path} has neither Image Position (Patient) nor Slice Location: its place among the "
            "slices is unknown; leave it out"
        )
    return float(location)


def _is_padding(dataset: Any, stored: NDArray[Any]) -> NDArray[np.bool_]:
    value = dataset.get("PixelPaddingValue")
    if value is None or value == "":
        return np.zeros(stored.shape, dtype=np.bool_)
    limit = dataset.get("PixelPaddingRangeLimit")
    edges = sorted((int(value), int(value if limit is None or limit == "" else limit)))
    return np.asarray((stored >= edges[0]) & (stored <= edges[1]))
