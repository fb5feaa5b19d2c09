"""Accepted SOP classes and transfer syntaxes, as data; the conformance statement is built of it.

Three roles. *Screened* classes are what the product is for. *Other images* are accepted so that
they can be refused by name ("unsupported modality") in a report. *Companions* travel with a study
(reports, segmentations, key images): refusing them would make a router fail the whole study, so
they are kept, and never screened.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class ClassRole(StrEnum):
    """What happens to instances of a SOP class."""

    SCREENED = "screened"  #: CT: may be selected for screening
    OTHER_IMAGE = "other-image"  #: kept; its study is reported as not analysed
    COMPANION = "companion"  #: kept; opens no screening


@dataclass(frozen=True, slots=True)
class AcceptedClass:
    """One SOP class of the Storage Service (PS3.4 B.5)."""

    sop_class_uid: str
    name: str
    role: ClassRole


@dataclass(frozen=True, slots=True)
class AcceptedSyntax:
    """One transfer syntax (PS3.5 Annex A)."""

    transfer_syntax_uid: str
    name: str
    is_lossy: bool  #: accepted, but the study is flagged


#: Verification Service (PS3.4 Annex A).
VERIFICATION_SOP_CLASS_UID = "1.2.840.10008.1.1"

IMPLICIT_VR_LITTLE_ENDIAN = "1.2.840.10008.1.2"
EXPLICIT_VR_LITTLE_ENDIAN = "1.2.840.10008.1.2.1"

_SCREENED = ClassRole.SCREENED
_OTHER = ClassRole.OTHER_IMAGE
_COMPANION = ClassRole.COMPANION

ACCEPTED_CLASSES: tuple[AcceptedClass, ...] = tuple(
    AcceptedClass(f"1.2.840.10008.5.1.4.1.1.{suffix}", name, role)
    for suffix, name, role in (
        ("2", "CT Image", _SCREENED),
        ("2.1", "Enhanced CT Image", _SCREENED),
        ("2.2", "Legacy Converted Enhanced CT Image", _SCREENED),
        ("1", "Computed Radiography Image", _OTHER),
        ("1.1", "Digital X-Ray Image, for presentation", _OTHER),
        ("1.1.1", "Digital X-Ray Image, for processing", _OTHER),
        ("7", "Secondary Capture Image", _COMPANION),
        ("7.1", "Multi-frame Single Bit Secondary Capture Image", _COMPANION),
        ("7.2", "Multi-frame Grayscale Byte Secondary Capture Image", _COMPANION),
        ("7.3", "Multi-frame Grayscale Word Secondary Capture Image", _COMPANION),
        ("7.4", "Multi-frame True Color Secondary Capture Image", _COMPANION),
        ("11.1", "Grayscale Softcopy Presentation State", _COMPANION),
        ("11.2", "Color Softcopy Presentation State", _COMPANION),
        ("66.4", "Segmentation", _COMPANION),
        ("66.7", "Label Map Segmentation", _COMPANION),
        ("88.11", "Basic Text SR", _COMPANION),
        ("88.22", "Enhanced SR", _COMPANION),
        ("88.33", "Comprehensive SR", _COMPANION),
        ("88.34", "Comprehensive 3D SR", _COMPANION),
        ("88.35", "Extensible SR", _COMPANION),
        ("88.59", "Key Object Selection Document", _COMPANION),
        ("88.67", "X-Ray Radiation Dose SR", _COMPANION),
        ("104.1", "Encapsulated PDF", _COMPANION),
    )
)

#: In the order of our preference: what a sender can give without transcoding comes first.
#: Not offered: Deflated (one megabyte inflates to a gigabyte before anything can be checked),
#: Explicit VR Big Endian (retired) and the JPIP syntaxes (pixels are elsewhere).
ACCEPTED_SYNTAXES: tuple[AcceptedSyntax, ...] = (
    AcceptedSyntax(EXPLICIT_VR_LITTLE_ENDIAN, "Explicit VR Little Endian", is_lossy=False),
    AcceptedSyntax(IMPLICIT_VR_LITTLE_ENDIAN, "Implicit VR Little Endian", is_lossy=False),
    AcceptedSyntax("1.2.840.10008.1.2.4.70", "JPEG Lossless, first-order", is_lossy=False),
    AcceptedSyntax("1.2.840.10008.1.2.4.57", "JPEG Lossless, process 14", is_lossy=False),
    AcceptedSyntax("1.2.840.10008.1.2.4.80", "JPEG-LS Lossless", is_lossy=False),
    AcceptedSyntax("1.2.840.10008.1.2.4.90", "JPEG 2000 Lossless only", is_lossy=False),
    AcceptedSyntax("1.2.840.10008.1.2.4.201", "HTJ2K Lossless only", is_lossy=False),
    AcceptedSyntax("1.2.840.10008.1.2.4.202", "HTJ2K Lossless RPCL", is_lossy=False),
    AcceptedSyntax("1.2.840.10008.1.2.5", "RLE Lossless", is_lossy=False),
    AcceptedSyntax("1.2.840.10008.1.2.4.50", "JPEG Baseline, 8 bit", is_lossy=True),
    AcceptedSyntax("1.2.840.10008.1.2.4.51", "JPEG Extended, 12 bit", is_lossy=True),
    AcceptedSyntax("1.2.840.10008.1.2.4.81", "JPEG-LS Near-lossless", is_lossy=True),
    AcceptedSyntax("1.2.840.10008.1.2.4.91", "JPEG 2000", is_lossy=True),
    AcceptedSyntax("1.2.840.10008.1.2.4.203", "HTJ2K", is_lossy=True),
)


def role_of(sop_class_uid: str) -> ClassRole | None:
    """Give the role of a SOP class, None where it is not on the list."""
    for accepted in ACCEPTED_CLASSES:
        if accepted.sop_class_uid == sop_class_uid:
            return accepted.role
    return None
