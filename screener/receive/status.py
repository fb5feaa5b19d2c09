"""The C-STORE statuses we answer, named, with PS3.4 Table B.2-1.

A status says where the fault is, because senders act on it: out of resources is tried again,
a fault of the data set is not. Texts are fixed: a value of a data set never goes back or into a
log.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

#: Longest Error Comment (0000,0902), VR LO, in characters (PS3.5 6.2).
MAX_COMMENT_LENGTH = 64


class StatusCategory(StrEnum):
    """What the sender may make of it (PS3.7 Annex C)."""

    SUCCESS = "success"
    FAILURE = "failure"


@dataclass(frozen=True, slots=True)
class StoreStatus:
    """One row of the table."""

    value: int
    name: str
    category: StatusCategory
    text: str  #: what it means here
    reference: str  #: the paragraph that defines it


#: The instance is on stable storage, its row is committed.
SUCCESS = 0x0000
#: A fault of ours; never used for a fault of the data.
PROCESSING_FAILURE = 0x0110
#: The SOP Instance UID is empty, too long, or holds what no UID holds.
INVALID_SOP_INSTANCE = 0x0117
#: The SOP class is not the one of its presentation context.
SOP_CLASS_NOT_SUPPORTED = 0x0122
#: No room on the disk, or no database: send it again later.
OUT_OF_RESOURCES = 0xA700
#: SOP class or instance of the data set is not that of the command.
DATA_SET_DOES_NOT_MATCH = 0xA900
#: No data set, or one that cannot be parsed or attributed to a study and series.
CANNOT_UNDERSTAND = 0xC000

STATUSES: tuple[StoreStatus, ...] = (
    StoreStatus(
        SUCCESS,
        "Success",
        StatusCategory.SUCCESS,
        "The instance is on stable storage and registered.",
        "PS3.4 Table B.2-1",
    ),
    StoreStatus(
        PROCESSING_FAILURE,
        "Processing failure",
        StatusCategory.FAILURE,
        "A fault of the screener; look at its log.",
        "PS3.7 C.5.20",
    ),
    StoreStatus(
        INVALID_SOP_INSTANCE,
        "Invalid SOP Instance",
        StatusCategory.FAILURE,
        "The SOP Instance UID is empty, longer than 64 characters, or holds a slash, a backslash, "
        "a control or another forbidden character.",
        "PS3.7 C.5.14",
    ),
    StoreStatus(
        SOP_CLASS_NOT_SUPPORTED,
        "Refused: SOP class not supported",
        StatusCategory.FAILURE,
        "The SOP class is not the one that its presentation context was accepted for.",
        "PS3.4 Table B.2-1",
    ),
    StoreStatus(
        OUT_OF_RESOURCES,
        "Refused: out of resources",
        StatusCategory.FAILURE,
        "The disk is below its reserve or the database is away; send again later.",
        "PS3.4 Table B.2-1",
    ),
    StoreStatus(
        DATA_SET_DOES_NOT_MATCH,
        "Error: data set does not match SOP class",
        StatusCategory.FAILURE,
        "SOP Class UID or SOP Instance UID of the data set differ from the command.",
        "PS3.4 Table B.2-1",
    ),
    StoreStatus(
        CANNOT_UNDERSTAND,
        "Error: cannot understand",
        StatusCategory.FAILURE,
        "There is no data set, it cannot be parsed, or it names no single study and series.",
        "PS3.4 Table B.2-1",
    ),
)
