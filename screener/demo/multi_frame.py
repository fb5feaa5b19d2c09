"""Single-frame CT instances as one Legacy Converted Enhanced CT instance (PS3.3 A.70)."""

from __future__ import annotations

from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

LEGACY_CONVERTED_ENHANCED_CT_IMAGE_STORAGE = "1.2.840.10008.5.1.4.1.1.2.2"

#: Attributes of the single frames that move into functional groups.
_MOVED = (
    "ImagePositionPatient",
    "ImageOrientationPatient",
    "PixelSpacing",
    "SliceThickness",
    "RescaleIntercept",
    "RescaleSlope",
    "RescaleType",
    "WindowCenter",
    "WindowWidth",
    "SliceLocation",
    "GantryDetectorTilt",
    "KVP",
    "ConvolutionKernel",
    "AcquisitionNumber",
    "AcquisitionDate",
    "AcquisitionTime",
    "ImageComments",
)


def legacy_converted(datasets: list[Dataset], sop_instance_uid: str) -> Dataset:
    """Put the slices of one series into one multi-frame instance.

    Parameters
    ----------
    datasets
        Single-frame CT with uncompressed pixels on one grid, in the order of the frames.
    """
    first = datasets[0]
    ds = Dataset()
    ds.update(first)
    for keyword in _MOVED:
        if keyword in ds:
            delattr(ds, keyword)
    ds.SOPClassUID = LEGACY_CONVERTED_ENHANCED_CT_IMAGE_STORAGE
    ds.SOPInstanceUID = sop_instance_uid
    ds.InstanceNumber = 1
    ds.NumberOfFrames = len(datasets)
    ds.ImageType = ["ORIGINAL", "PRIMARY", "VOLUME", "NONE"]
    ds.PixelPresentation = "MONOCHROME"
    ds.VolumetricProperties = "VOLUME"
    ds.VolumeBasedCalculationTechnique = "NONE"
    ds.PresentationLUTShape = "IDENTITY"
    ds.LossyImageCompression = "00"
    ds.AcquisitionDateTime = first.AcquisitionDate + first.AcquisitionTime
    ds.DeviceSerialNumber = "0"
    ds.SoftwareVersions = "0"
    ds.AcquisitionContextSequence = Sequence()
    ds.BitsStored = max(frame.BitsStored for frame in datasets)
    ds.HighBit = ds.BitsStored - 1
    ds.PixelData = b"".join(frame.PixelData for frame in datasets)
    ds["PixelData"].VR = "OW"
    ds.SharedFunctionalGroupsSequence = Sequence([_shared_groups(first)])
    ds.PerFrameFunctionalGroupsSequence = Sequence(
        [_frame_groups(frame, number) for number, frame in enumerate(datasets, start=1)]
    )
    return ds


def _item(**values: object) -> Sequence:
    """Give a sequence of one item."""
    item = Dataset()
    for keyword, value in values.items():
        setattr(item, keyword, value)
    return Sequence([item])


def _shared_groups(first: Dataset) -> Dataset:
    """Give the functional groups that hold for all frames."""
    groups = Dataset()
    groups.PixelMeasuresSequence = _item(
        PixelSpacing=first.PixelSpacing,
        SliceThickness=first.SliceThickness,
        SpacingBetweenSlices=first.SliceThickness,
    )
    groups.PlaneOrientationSequence = _item(ImageOrientationPatient=first.ImageOrientationPatient)
    groups.CTImageFrameTypeSequence = _item(
        FrameType=["ORIGINAL", "PRIMARY", "VOLUME", "NONE"],
        PixelPresentation="MONOCHROME",
        VolumetricProperties="VOLUME",
        VolumeBasedCalculationTechnique="NONE",
    )
    groups.PixelValueTransformationSequence = _item(
        RescaleIntercept=first.RescaleIntercept,
        RescaleSlope=first.RescaleSlope,
        RescaleType="HU",
    )
    groups.FrameVOILUTSequence = _item(
        WindowCenter=first.WindowCenter, WindowWidth=first.WindowWidth
    )
    # What has no place of its own travels on unassigned (PS3.3 C.7.6.16.2.25).
    groups.UnassignedSharedConvertedAttributesSequence = _item(
        KVP=first.KVP,
        ConvolutionKernel=first.ConvolutionKernel,
        ImageComments=first.ImageComments,
    )
    return groups


def _frame_groups(frame: Dataset, number: int) -> Dataset:
    """Give the functional groups of one frame."""
    groups = Dataset()
    groups.PlanePositionSequence = _item(ImagePositionPatient=frame.ImagePositionPatient)
    groups.FrameContentSequence = _item(
        FrameAcquisitionNumber=frame.AcquisitionNumber,
        StackID="1",
        InStackPositionNumber=number,
    )
    groups.UnassignedPerFrameConvertedAttributesSequence = _item(
        SliceLocation=frame.SliceLocation, InstanceNumber=frame.InstanceNumber
    )
    groups.ConversionSourceAttributesSequence = _item(
        ReferencedSOPClassUID=frame.SOPClassUID, ReferencedSOPInstanceUID=frame.SOPInstanceUID
    )
    return groups
