"""Phantoms as DICOM: conformant CT series, defective ones on request, and what must be refused.

Every object says that it is synthetic. The pixels come from :mod:`models.phantom`; nothing here
knows what is in them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

import numpy as np
from pydicom.dataset import Dataset

from models.phantom import Kernel
from screener.demo.multi_frame import legacy_converted
from screener.demo.pixel_encoding import EXPLICIT_VR_LITTLE_ENDIAN, save, set_any_uid, set_stored
from screener.demo.synthetic_identity import SyntheticIdentity, derived_uuid_text

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from models.phantom import Phantom

__all__ = [
    "CONFORMANT",
    "MultiFrame",
    "SeriesDefects",
    "SyntheticIdentity",
    "write_localizer",
    "write_radiograph",
    "write_series",
]

CT_IMAGE_STORAGE = "1.2.840.10008.5.1.4.1.1.2"
COMPUTED_RADIOGRAPHY_IMAGE_STORAGE = "1.2.840.10008.5.1.4.1.1.1"
MANUFACTURER = "Screener synthetic CT"
#: Pixel Padding Value of the series that has padding.
PADDING_VALUE = -2000
#: Height of the lowest slice in the frame of reference.
_FIRST_Z_MM = -312.5
_KERNEL_NAMES = {Kernel.SOFT: "SYN30s", Kernel.STANDARD: "SYN45m", Kernel.LUNG: "SYN70h"}
#: HU between the two volumes of a series that holds two.
_SECOND_VOLUME_HU = 12


class MultiFrame(StrEnum):
    """Whether slices are instances or frames."""

    NO = "no"  #: one instance per slice
    LEGACY_CONVERTED = "legacy-converted"  #: Legacy Converted Enhanced CT Image Storage


@dataclass(frozen=True, slots=True)
class SeriesDefects:
    """What is wrong, or unusual, with a series; by default nothing.

    Raises
    ------
    ValueError
        Options contradict each other.
    """

    is_reversed: bool = False  #: instance 1 and the first file are the most cranial slice
    is_shuffled: bool = False  #: file names and instance numbers in no order of height
    missing_slices: tuple[int, ...] = ()  #: slice indices, from caudal, that are not written
    tilt_degrees: float = 0.0  #: gantry tilt; the header says so, the pixels are not resampled
    has_one_sop_instance_uid: bool = False  #: all slices share one SOP Instance UID
    has_text_uids: bool = False  #: UUID text instead of UIDs
    missing_keywords: tuple[str, ...] = ()  #: attributes taken out of every instance
    transfer_syntax_uid: str = EXPLICIT_VR_LITTLE_ENDIAN
    multi_frame: MultiFrame = MultiFrame.NO
    has_two_volumes: bool = False  #: every position twice, with different pixels
    has_signed_padding: bool = False  #: signed pixels, padding outside the scan circle
    rescale_intercept: int = -1024
    rescale_slope: int = 1

    def __post_init__(self) -> None:
        if self.multi_frame is not MultiFrame.NO and (
            self.has_two_volumes or self.tilt_degrees or self.has_one_sop_instance_uid
        ):
            raise ValueError(
                "A multi-frame series is one upright volume in one instance; "
                "leave out two volumes, tilt and the shared SOP Instance UID."
            )
        if self.rescale_slope < 1:
            raise ValueError(f"rescale_slope is {self.rescale_slope}; it must be at least 1.")


@dataclass(frozen=True, slots=True)
class _Slice:
    """One slice before it becomes a data set."""

    index: int  #: from caudal
    number: int  #: Instance Number, from 1
    acquisition: int
    name: str  #: its UID follows from it
    pixels_hu: NDArray[np.int16] = field(repr=False)


#: A series as scanners should send it.
CONFORMANT = SeriesDefects()


def write_series(
    phantom: Phantom,
    folder: Path,
    identity: SyntheticIdentity,
    defects: SeriesDefects = CONFORMANT,
) -> list[Path]:
    """Write a phantom as a CT series.

    Parameters
    ----------
    folder
        Made when missing; files are called ``IM0001.dcm`` and so on.

    Returns
    -------
    :
        The files in the order of their names.

    Raises
    ------
    ValueError
        All slices are left out, a keyword is not in the data set, or the pixels cannot be stored
        as asked.
    """
    folder.mkdir(parents=True, exist_ok=True)
    datasets = [
        _slice_dataset(phantom, identity, part, defects) for part in _slices(phantom, defects)
    ]
    if not datasets:
        raise ValueError("missing_slices leaves no slice to write.")
    if defects.multi_frame is MultiFrame.LEGACY_CONVERTED:
        datasets = [legacy_converted(datasets, identity.sop_instance_uid("multi-frame"))]
    paths = []
    for number, ds in enumerate(datasets, start=1):
        _apply_header_defects(ds, identity, defects, number)
        path = folder / f"IM{number:04d}.dcm"
        save(ds, path, defects.transfer_syntax_uid)
        paths.append(path)
    return paths


def _slices(phantom: Phantom, defects: SeriesDefects) -> list[_Slice]:
    """Give the slices in the order in which they are numbered."""
    indices = [i for i in range(len(phantom.volume_hu)) if i not in defects.missing_slices]
    if defects.is_reversed:
        indices.reverse()
    if defects.is_shuffled:
        indices = [indices[i] for i in np.random.default_rng(0).permutation(len(indices))]
    volumes = [phantom.volume_hu]
    if defects.has_two_volumes:
        volumes.append(phantom.volume_hu + np.int16(_SECOND_VOLUME_HU))
    return [
        _Slice(
            index=index,
            number=number + acquisition * len(indices) + 1,
            acquisition=acquisition + 1,
            name=f"{acquisition}/{index}",
            pixels_hu=volume[index],
        )
        for acquisition, volume in enumerate(volumes)
        for number, index in enumerate(indices)
    ]


def _slice_dataset(
    phantom: Phantom, identity: SyntheticIdentity, part: _Slice, defects: SeriesDefects
) -> Dataset:
    """Build one CT Image Storage data set (PS3.3 A.3)."""
    ds = _study_dataset(identity, "CT")
    _add_ct_series(ds, phantom, identity)
    ds.SOPClassUID = CT_IMAGE_STORAGE
    ds.SOPInstanceUID = identity.sop_instance_uid(part.name)
    ds.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    ds.InstanceNumber = part.number
    ds.AcquisitionNumber = part.acquisition
    rows, columns = part.pixels_hu.shape
    spacing_mm, row_mm, column_mm = phantom.spacing_mm
    tilt_rad = np.deg2rad(defects.tilt_degrees)
    z_mm = _FIRST_Z_MM + part.index * spacing_mm
    ds.ImagePositionPatient = [
        _decimal(-(columns - 1) / 2 * column_mm),
        _decimal(-(rows - 1) / 2 * row_mm),
        _decimal(z_mm),
    ]
    ds.ImageOrientationPatient = [
        1,
        0,
        0,
        0,
        _decimal(np.cos(tilt_rad)),
        _decimal(np.sin(tilt_rad)),
    ]
    ds.GantryDetectorTilt = _decimal(defects.tilt_degrees)
    ds.SliceLocation = _decimal(z_mm)
    ds.PixelSpacing = [_decimal(row_mm), _decimal(column_mm)]
    _add_ct_pixels(ds, part.pixels_hu, defects)
    return ds


def _study_dataset(identity: SyntheticIdentity, modality: str) -> Dataset:
    """Give the patient, study, series and equipment attributes."""
    ds = Dataset()
    ds.SpecificCharacterSet = "ISO_IR 192"
    date, time = identity.study_at.strftime("%Y%m%d"), identity.study_at.strftime("%H%M%S")
    ds.StudyDate = ds.SeriesDate = ds.ContentDate = date
    ds.StudyTime = ds.SeriesTime = ds.ContentTime = time
    ds.TimezoneOffsetFromUTC = identity.study_at.strftime("%z")[:5]
    ds.PatientName = identity.patient_name
    ds.PatientID = identity.patient_id
    ds.PatientBirthDate = ""
    ds.PatientSex = "O"
    ds.StudyInstanceUID = identity.study_instance_uid
    ds.StudyID = "1"
    ds.StudyDescription = identity.study_description
    ds.AccessionNumber = identity.accession_number
    ds.ReferringPhysicianName = ""
    ds.Modality = modality
    ds.SeriesInstanceUID = identity.series_instance_uid
    ds.SeriesNumber = identity.series_number
    ds.Manufacturer = MANUFACTURER
    ds.ManufacturerModelName = "Phantom"
    ds.BodyPartExamined = identity.body_part
    ds.BurnedInAnnotation = "NO"
    ds.ImageComments = "Synthetic image, no patient"
    return ds


def _add_ct_series(ds: Dataset, phantom: Phantom, identity: SyntheticIdentity) -> None:
    """Add what all CT instances of the series share, in place."""
    kernel = _KERNEL_NAMES[phantom.kernel]
    ds.SeriesDescription = f"Synthetic {identity.body_part.lower()} {kernel}"
    ds.PatientPosition = "HFS"
    ds.FrameOfReferenceUID = identity.frame_of_reference_uid
    ds.PositionReferenceIndicator = ""
    ds.AcquisitionDate, ds.AcquisitionTime = ds.StudyDate, ds.StudyTime
    ds.KVP = 120
    ds.SliceThickness = _decimal(phantom.spacing_mm[0])
    ds.ConvolutionKernel = kernel


def _add_ct_pixels(ds: Dataset, pixels_hu: NDArray[np.int16], defects: SeriesDefects) -> None:
    """Add pixels and their rescale, in place."""
    intercept, slope = defects.rescale_intercept, defects.rescale_slope
    stored = np.round((pixels_hu.astype(np.float64) - intercept) / slope)
    is_signed = defects.has_signed_padding
    if not is_signed:
        # Air below the intercept becomes 0, as on scanners whose scale starts at -1000.
        stored = np.maximum(stored, 0)
    largest = np.iinfo(np.int16 if is_signed else np.uint16)
    if stored.max() > largest.max or stored.min() < largest.min:
        raise ValueError(
            f"With intercept {intercept} and slope {slope} stored values run from "
            f"{stored.min():.0f} to {stored.max():.0f}, beyond 16 bits."
        )
    if is_signed:
        stored[~_scan_circle(pixels_hu.shape)] = PADDING_VALUE
        ds.PixelPaddingValue = PADDING_VALUE
    set_stored(ds, stored.astype(np.int16 if is_signed else np.uint16))
    if is_signed:
        # Its representation follows Pixel Representation (PS3.5 A.2).
        ds["PixelPaddingValue"].VR = "SS"
    ds.RescaleIntercept, ds.RescaleSlope, ds.RescaleType = intercept, slope, "HU"
    ds.WindowCenter, ds.WindowWidth = [-600, 40], [1500, 400]


def _scan_circle(shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """Say which pixels lie within the reconstructed circle."""
    rows, columns = shape
    down = (np.arange(rows) - (rows - 1) / 2)[:, None] / (rows / 2)
    across = (np.arange(columns) - (columns - 1) / 2)[None, :] / (columns / 2)
    return np.asarray(down**2 + across**2 <= 1, np.bool_)


def _apply_header_defects(
    ds: Dataset, identity: SyntheticIdentity, defects: SeriesDefects, number: int
) -> None:
    """Break UIDs and take out attributes, in place."""
    if defects.has_one_sop_instance_uid:
        ds.SOPInstanceUID = identity.sop_instance_uid("shared")
    if defects.has_text_uids:
        instance = "shared" if defects.has_one_sop_instance_uid else str(number)
        series_instance_uid = identity.series_instance_uid
        for keyword, value in (
            ("StudyInstanceUID", derived_uuid_text(identity.study_instance_uid)),
            ("SeriesInstanceUID", derived_uuid_text(series_instance_uid)),
            ("SOPInstanceUID", derived_uuid_text(series_instance_uid, instance)),
        ):
            set_any_uid(ds, keyword, value)
    for keyword in defects.missing_keywords:
        if keyword not in ds:
            raise ValueError(
                f"missing_keywords names {keyword}, which these instances do not have."
            )
        delattr(ds, keyword)


def write_localizer(phantom: Phantom, folder: Path, identity: SyntheticIdentity) -> Path:
    """Write the topogram of a phantom: a CT instance that is no slice.

    Returns
    -------
    :
        ``LOC0001.dcm`` in the folder.
    """
    folder.mkdir(parents=True, exist_ok=True)
    spacing_mm, row_mm, column_mm = phantom.spacing_mm
    projection_hu = _coronal_projection_hu(phantom)
    ds = _study_dataset(identity, "CT")
    _add_ct_series(ds, phantom, identity)
    ds.SeriesDescription = "Synthetic topogram"
    ds.SOPClassUID = CT_IMAGE_STORAGE
    ds.SOPInstanceUID = identity.sop_instance_uid("localizer")
    ds.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]
    ds.InstanceNumber = ds.AcquisitionNumber = 1
    _rows, columns = projection_hu.shape
    top_mm = _FIRST_Z_MM + (len(phantom.volume_hu) - 1) * spacing_mm
    ds.ImagePositionPatient = [_decimal(-(columns - 1) / 2 * column_mm), 0, _decimal(top_mm)]
    ds.ImageOrientationPatient = [1, 0, 0, 0, 0, -1]
    ds.PixelSpacing = [_decimal(row_mm), _decimal(column_mm)]
    ds.SliceThickness = ""
    _add_ct_pixels(ds, projection_hu, CONFORMANT)
    ds.RescaleType = "US"  # a projection is not in HU (PS3.3 C.8.2.1.1.10)
    path = folder / "LOC0001.dcm"
    save(ds, path, EXPLICIT_VR_LITTLE_ENDIAN)
    return path


def write_radiograph(phantom: Phantom, folder: Path, identity: SyntheticIdentity) -> Path:
    """Write a chest radiograph of a phantom: what a CT model must not be asked about.

    Returns
    -------
    :
        ``CR0001.dcm`` in the folder.
    """
    folder.mkdir(parents=True, exist_ok=True)
    projection_hu = _coronal_projection_hu(phantom).astype(np.float64)
    low, high = np.percentile(projection_hu, [1, 99])
    ds = _study_dataset(identity, "CR")
    ds.SOPClassUID = COMPUTED_RADIOGRAPHY_IMAGE_STORAGE
    ds.SOPInstanceUID = identity.sop_instance_uid("radiograph")
    ds.SeriesDescription = "Synthetic radiograph"
    ds.ViewPosition = "AP"
    ds.ImageType = ["ORIGINAL", "PRIMARY"]
    ds.InstanceNumber = 1
    ds.PatientOrientation = ["L", "F"]
    share = np.clip((projection_hu - low) / max(high - low, 1.0), 0, 1)
    set_stored(ds, np.round(share * 4095).astype(np.uint16))
    ds.WindowCenter, ds.WindowWidth = 2048, 4096
    path = folder / "CR0001.dcm"
    save(ds, path, EXPLICIT_VR_LITTLE_ENDIAN)
    return path


def _coronal_projection_hu(phantom: Phantom) -> NDArray[np.int16]:
    """Average the volume from front to back, head up, on square pixels."""
    mean_hu = phantom.volume_hu.mean(axis=1)[::-1]
    repeats = max(1, round(phantom.spacing_mm[0] / phantom.spacing_mm[1]))
    return np.repeat(mean_hu, repeats, axis=0).round().astype(np.int16)


def _decimal(value: float) -> str:
    """Write a decimal string of at most 16 characters (PS3.5 6.2, DS)."""
    return f"{round(float(value), 6):.10g}"
