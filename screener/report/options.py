"""What a site chooses about its result objects."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from enum import StrEnum

from screener.domain import ResultKind
from screener.errors import ConfigError

#: Longest value of VR LO, in characters (PS3.5 6.2).
LONG_STRING_CHARACTERS = 64


class ContentQualification(StrEnum):
    """Content Qualification (0018,9004); PS3.3 C.8.13.2.1.1."""

    PRODUCT = "PRODUCT"  #: the site has cleared the software for clinical use
    RESEARCH = "RESEARCH"  #: not cleared: what we ship


class ReportClass(StrEnum):
    """SOP class of the report; the older ones are subsets that older archives know."""

    COMPREHENSIVE_3D = "comprehensive-3d"  #: what IHE AI Results asks for
    COMPREHENSIVE = "comprehensive"
    ENHANCED = "enhanced"


class Charset(StrEnum):
    """Specific Character Set (0008,0005) of the results."""

    UTF8 = "utf8"
    SOURCE = "source"  #: the source's, where it can hold all text; else UTF-8


@dataclass(frozen=True, slots=True)
class ReportOptions:
    """Choices that stand in every result object.

    Parameters
    ----------
    kinds
        Objects to build besides the report, which is always built.
    content_qualification
        RESEARCH until the site has cleared the software.
    manufacturer, product_name
        Manufacturer (0008,0070) and Manufacturer's Model Name (0008,1090), 1 to 64 characters.
    report_class
        SOP class of the report.
    charset
        Character set of every object.
    institution_name
        Institution Name (0008,0080), empty for none.
    maximum_slice_groups
        Most affected slices that get a measurement group of their own; the report says how many
        were left out, and the database keeps them all.
    n_key_slices
        Most slices in the image library, the key object selection and the picture.
    time_zone
        IANA name of the zone of our dates and times where the source names none; empty: UTC.

    Raises
    ------
    ConfigError
        A text is empty or longer than DICOM allows, or a count is out of range.
    """

    kinds: tuple[ResultKind, ...] = (
        ResultKind.STRUCTURED_REPORT,
        ResultKind.SEGMENTATION,
        ResultKind.KEY_OBJECT_SELECTION,
    )
    content_qualification: ContentQualification = ContentQualification.RESEARCH
    report_class: ReportClass = ReportClass.COMPREHENSIVE_3D
    charset: Charset = Charset.UTF8
    manufacturer: str = "ct-screener"
    product_name: str = "CT Screener"
    institution_name: str = ""
    maximum_slice_groups: int = 64
    n_key_slices: int = 6
    time_zone: str = ""

    def __post_init__(self) -> None:
        for name, least in (("manufacturer", 1), ("product_name", 1), ("institution_name", 0)):
            text = getattr(self, name)
            if not least <= len(text) <= LONG_STRING_CHARACTERS or "\\" in text:
                raise ConfigError(
                    f"report.{name} = {text!r}: give {least} to {LONG_STRING_CHARACTERS} "
                    "characters without a backslash"
                )
        if self.maximum_slice_groups < 0:
            raise ConfigError("report.maximum_slice_groups must be 0 or more")
        if self.n_key_slices < 1:
            raise ConfigError("report.key_slices must be 1 or more")

    @property
    def digest(self) -> str:
        """sha256 over every choice: other choices give other objects, so other UIDs."""
        return hashlib.sha256(repr(self).encode()).hexdigest()
