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
    #: The source has the same value; entries name the attribute in a group called `keyword`.
    VALUE_OF_SOURCE = "the value is the source's own"
    #: The attribute reads the same in both files: absent is empty, character sets are decoded.
    READS_THE_SAME = "the values read the same"
    #: What the source holds breaks its representation, and the result has less of it or none.
    INVALID_IN_SOURCE = "the source holds no valid value"
    #: The source has no value where the standard asks for one.
    MISSING_IN_SOURCE = "the source holds no value"


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

    def match(self, validator: str, line: str) -> re.Match[str] | None:
        """Match the entry with a line; its condition is checked elsewhere."""
        return re.fullmatch(self.pattern, line) if self.validator == validator else None


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
        (
            r"Error - <.*/(?P<keyword>StudyInstanceUID)\(0020,000d\)(\[1\])?>"
            r" - (Illegal root for UID|Value invalid for this VR \[UI\]) = .*"
        ),
        "The archive knows the study by this UID; with another one the result would be elsewhere.",
        Condition.VALUE_OF_SOURCE,
    ),
    Allowance(
        "dciodvfy",
        (
            r"Error - <.*/(?P<keyword>PatientName|PatientID|StudyID|AccessionNumber)"
            r"\([0-9a-f,]{9}\)\[1\]> - Value invalid for this VR \[\w\w\] = .*"
        ),
        "The archive matches on this value, so the result repeats it as the source has it.",
        Condition.VALUE_OF_SOURCE,
    ),
    Allowance(
        "dciodvfy",
        (
            r"Warning - </(?P<keyword>PatientSize|PatientWeight)\([0-9a-f,]{9}\)\[1\]>"
            r" - Value is zero"
        ),
        "The source says zero, and a result repeats what it says of the patient.",
        Condition.VALUE_OF_SOURCE,
    ),
    Allowance(
        "dciodvfy",
        (
            r"Warning - </Laterality\(0020,0060\)> - is only permitted to be empty when actually"
            r" unknown; .*"
        ),
        "A picture of a study that was not analysed may show any part of the body: it is unknown.",
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
        Condition.READS_THE_SAME,
    ),
    Allowance(
        "dcentvfy",
        r"Warning - Attribute present in one instance but not the other - Element=<\w+> .*",
        "The source lacks the attribute; results must have it and leave it empty (Type 2).",
        Condition.READS_THE_SAME,
    ),
    Allowance(
        "dcentvfy",
        (
            r"(Warning - Attribute present in one instance but not the other"
            r"|Warning - Attribute is empty \(zero length\) in one instance .*"
            r"|Error - String attribute has different value) - Element=<\w+> .*"
        ),
        "The value of the source breaks its representation; results leave it out or shorten it.",
        Condition.INVALID_IN_SOURCE,
    ),
    Allowance(
        "dcentvfy",
        (
            r"Warning - Attribute (present in one instance but not the other"
            r"|is empty \(zero length\) in one instance .*) - Element=<DeidentificationMethod> .*"
        ),
        "The source removed its identity and does not say how; results say that it does not.",
        Condition.MISSING_IN_SOURCE,
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
    Allowance(
        "dsrdump",
        r"W: (?P<keyword>StudyInstanceUID) \(0020,000d\) violates .*",
        "The archive knows the study by this UID; with another one the result would be elsewhere.",
        Condition.VALUE_OF_SOURCE,
    ),
    Allowance(
        "dcmpschk",
        (
            r"Error: Attribute value does not conform to data type definition\. \|"
            r" Affected attribute: (?P<keyword>PatientName|PatientID|StudyID|AccessionNumber) .*"
        ),
        "The validator knows no UTF-8; where the value itself is wrong the source has it so.",
        Condition.VALUE_OF_SOURCE,
    ),
    Allowance(
        "dcmpschk",
        (
            r"Error: Value Length too large\. \|.* # +\d+, 1"
            r" (?P<keyword>PatientName|PatientID|StudyID|AccessionNumber)( \|.*)?"
        ),
        "The archive matches on this value, so the result repeats it as the source has it.",
        Condition.VALUE_OF_SOURCE,
    ),
    Allowance(
        "dcmpschk",
        r"patientName absent or empty in presentation state",
        "The source has no name; a result repeats that, and our own rule compares the two.",
    ),
)
