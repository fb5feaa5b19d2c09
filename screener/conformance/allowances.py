"""The closed list of remarks that are no findings, each with its reason.

Every other line of a validator is a finding. An entry may hold only under a condition, so that
what excuses an odd source does not excuse us.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from screener.report.codes import PRIVATE_SCHEME


class Condition(StrEnum):
    """When an entry of the list holds."""

    ALWAYS = "always"
    #: A source in the folder carries the same Study Instance UID.
    STUDY_UID_OF_SOURCE = "the study UID is the source's"
    #: The attribute has the same value in both files once its character set is decoded.
    EQUAL_WHEN_DECODED = "the values are equal once decoded"


@dataclass(frozen=True, slots=True)
class Allowance:
    """One remark that is no finding.

    Parameters
    ----------
    validator
        Name of the validator that makes the remark.
    pattern
        Regular expression that must match the whole line.
    reason
        Why it is no finding, one sentence.
    condition
        When it is none.
    """

    validator: str
    pattern: str
    reason: str
    condition: Condition = Condition.ALWAYS

    def matches(self, validator: str, line: str) -> bool:
        """Say whether the entry is about this line; its condition is checked elsewhere."""
        return self.validator == validator and re.fullmatch(self.pattern, line) is not None


ALLOWANCES: Final = (
    Allowance(
        "dciodvfy",
        r"\w+",
        "The name of the information object, which is printed before any remark.",
    ),
    Allowance(
        "dciodvfy",
        (
            r"Warning - </ContributingEquipmentSequence\(0018,a001\)\[\d+\]/DeviceUID\(0018,1002\)>"
            r" - Attribute is not present in standard DICOM IOD"
        ),
        "SOP Common lists Device UID there (PS3.3 C.12.1), and IHE AIR demands it; the tables of "
        "the validator are older.",
    ),
    Allowance(
        "dciodvfy",
        (
            r"Warning - <.*/CodingSchemeDesignator\(0008,0102\)\[1\]>"
            rf" - Unrecognized defined term = <{PRIVATE_SCHEME}>"
        ),
        "A private coding scheme, which the object declares in Coding Scheme Identification.",
    ),
    Allowance(
        "dciodvfy",
        (
            r"Warning - <.*> - Missing attribute or value that would be needed to build DICOMDIR"
            r"( - .*)?"
        ),
        "The source left an identifier empty; a result repeats what the archive matches on.",
    ),
    Allowance(
        "dciodvfy",
        r"Warning - <.*> - Value dubious for this VR \[PN\] = .* - Retired Person Name form",
        "The source writes names in the retired form; a result repeats the name as it stands.",
    ),
    Allowance(
        "dciodvfy",
        r"Error - </StudyInstanceUID\(0020,000d\)> - Illegal root for UID = <.*>",
        "The archive knows the study by this UID; with another one the result would be elsewhere.",
        Condition.STUDY_UID_OF_SOURCE,
    ),
    Allowance(
        "dciodvfy",
        r"Error - </StudyInstanceUID\(0020,000d\)\[1\]> - Value invalid for this VR \[UI\] = .*",
        "The archive knows the study by this UID; with another one the result would be elsewhere.",
        Condition.STUDY_UID_OF_SOURCE,
    ),
    Allowance(
        "dcentvfy",
        (
            r"Warning - Different information entities for attribute - Element=<AccessionNumber>"
            r" IE <(Series> versus <Study|Study> versus <Series)> for file .*"
        ),
        "The validator counts the number inside Referenced Request to the series; the values are "
        "not compared here.",
    ),
    Allowance(
        "dcentvfy",
        r"Error - Missing SOPInstanceUID that was referenced - .*",
        "A folder may hold the results alone. Our own rule knows which series are there and finds "
        "what is missing from those.",
    ),
    Allowance(
        "dcentvfy",
        r"Error - String attribute has different value - Element=<\w+> .*",
        "The validator compares bytes; results are UTF-8 whatever the source declares.",
        Condition.EQUAL_WHEN_DECODED,
    ),
    Allowance(
        "dsrdump",
        r"W: The VR checker does not support this Specific Character Set: ISO_IR 192",
        "DCMTK reads UTF-8 and only says that it checks no lengths in it.",
    ),
    Allowance(
        "dsrdump",
        r"W: Check for template constraints not yet supported",
        "DCMTK says so of every key object selection: it has no check that could fail.",
    ),
)
