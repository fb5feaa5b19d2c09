"""Each event in the words of the DICOM audit vocabulary (PS3.15 A.5.3), as data.

An event that the standard does not foresee takes the message whose purpose is nearest: work on a
run is a Procedure Record, reading the study for it DICOM Instances Accessed, everything that needs
a person a Security Alert. The own name of the event always stands in the message too.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, StrEnum
from typing import TYPE_CHECKING

from screener.audit.events import EventKind

if TYPE_CHECKING:
    from collections.abc import Mapping


class Message(Enum):
    """Event ID (PS3.16 CID 400): code value in scheme DCM, and meaning."""

    APPLICATION_ACTIVITY = ("110100", "Application Activity")
    AUDIT_LOG_USED = ("110101", "Audit Log Used")
    BEGIN_TRANSFERRING = ("110102", "Begin Transferring DICOM Instances")
    INSTANCES_ACCESSED = ("110103", "DICOM Instances Accessed")
    INSTANCES_TRANSFERRED = ("110104", "DICOM Instances Transferred")
    STUDY_DELETED = ("110105", "DICOM Study Deleted")
    PROCEDURE_RECORD = ("110111", "Procedure Record")
    QUERY = ("110112", "Query")
    SECURITY_ALERT = ("110113", "Security Alert")

    @property
    def code(self) -> str:
        """Code value."""
        return self.value[0]

    @property
    def meaning(self) -> str:
        """Code meaning."""
        return self.value[1]


class EventType(Enum):
    """Event Type (PS3.16 CID 401), where the standard has one for what we tell."""

    APPLICATION_START = ("110120", "Application Start")
    APPLICATION_STOP = ("110121", "Application Stop")
    NODE_AUTHENTICATION = ("110126", "Node Authentication")
    SECURITY_CONFIGURATION = ("110129", "Security Configuration")


class Action(StrEnum):
    """Event Action Code (PS3.15 A.5.1)."""

    CREATE = "C"
    READ = "R"
    UPDATE = "U"
    DELETE = "D"
    EXECUTE = "E"


class Outcome(Enum):
    """Event Outcome Indicator (PS3.15 A.5.1)."""

    SUCCESS = 0
    MINOR_FAILURE = 4
    SERIOUS_FAILURE = 8


class Direction(StrEnum):
    """Between whom it happened."""

    ALONE = "alone"  #: within the node
    INCOMING = "incoming"  #: from the calling AE title to us
    OUTGOING = "outgoing"  #: from us to a destination


@dataclass(frozen=True, slots=True)
class Wording:
    """How an event is said in the vocabulary."""

    message: Message
    action: Action
    outcome: Outcome = Outcome.SUCCESS
    direction: Direction = Direction.ALONE
    event_type: EventType | None = None


_IN, _OUT = Direction.INCOMING, Direction.OUTGOING
_MINOR, _SERIOUS = Outcome.MINOR_FAILURE, Outcome.SERIOUS_FAILURE
_ALERT = Wording(Message.SECURITY_ALERT, Action.EXECUTE, _SERIOUS)
_READ = Wording(Message.INSTANCES_ACCESSED, Action.READ)
_RECORD = Wording(Message.PROCEDURE_RECORD, Action.UPDATE)

#: The vocabulary; a test demands that every event is in it.
WORDING: Mapping[str, Wording] = {
    EventKind.NODE_STARTED: Wording(
        Message.APPLICATION_ACTIVITY, Action.EXECUTE, event_type=EventType.APPLICATION_START
    ),
    EventKind.NODE_STOPPED: Wording(
        Message.APPLICATION_ACTIVITY, Action.EXECUTE, event_type=EventType.APPLICATION_STOP
    ),
    EventKind.ASSOCIATION_REFUSED: Wording(
        Message.SECURITY_ALERT, Action.EXECUTE, _MINOR, _IN, EventType.NODE_AUTHENTICATION
    ),
    EventKind.ASSOCIATION_BROKEN: Wording(Message.SECURITY_ALERT, Action.EXECUTE, _MINOR, _IN),
    EventKind.CERTIFICATES_RELOADED: Wording(
        Message.SECURITY_ALERT, Action.EXECUTE, event_type=EventType.SECURITY_CONFIGURATION
    ),
    EventKind.CERTIFICATES_REFUSED: Wording(
        Message.SECURITY_ALERT, Action.EXECUTE, _MINOR, event_type=EventType.SECURITY_CONFIGURATION
    ),
    EventKind.CERTIFICATE_EXPIRING: Wording(Message.SECURITY_ALERT, Action.EXECUTE, _MINOR),
    EventKind.INSTANCE_REFUSED: Wording(Message.SECURITY_ALERT, Action.EXECUTE, _MINOR, _IN),
    EventKind.STUDY_OPENED: Wording(Message.BEGIN_TRANSFERRING, Action.EXECUTE, direction=_IN),
    EventKind.STUDY_REOPENED: Wording(Message.BEGIN_TRANSFERRING, Action.EXECUTE, direction=_IN),
    EventKind.STUDY_COMPLETED: Wording(Message.INSTANCES_TRANSFERRED, Action.CREATE, direction=_IN),
    EventKind.INSTANCE_CONFLICTED: Wording(Message.SECURITY_ALERT, Action.EXECUTE, _MINOR, _IN),
    EventKind.INSTANCE_QUARANTINED: Wording(Message.SECURITY_ALERT, Action.EXECUTE, _MINOR, _IN),
    EventKind.INSTANCE_RELEASED: Wording(Message.INSTANCES_ACCESSED, Action.UPDATE),
    EventKind.PATIENTS_CONFLICTED: Wording(Message.SECURITY_ALERT, Action.EXECUTE, _SERIOUS, _IN),
    EventKind.OWN_RESULT_RECEIVED: Wording(
        Message.INSTANCES_TRANSFERRED, Action.CREATE, direction=_IN
    ),
    EventKind.RUN_QUEUED: Wording(Message.PROCEDURE_RECORD, Action.CREATE),
    EventKind.RUN_STARTED: _READ,
    EventKind.STUDY_ASSEMBLED: _READ,
    EventKind.SERIES_SELECTED: _READ,
    EventKind.VOLUME_ASSEMBLED: _READ,
    EventKind.LUNGS_SEGMENTED: _READ,
    EventKind.SLICES_CLASSIFIED: _READ,
    EventKind.PATIENT_DECIDED: _RECORD,
    EventKind.NOT_ANALYSED_BECAUSE: _RECORD,
    EventKind.RUN_REPORTED: Wording(Message.INSTANCES_ACCESSED, Action.CREATE),
    EventKind.VARIANT_STORED: Wording(Message.INSTANCES_ACCESSED, Action.CREATE),
    EventKind.RUN_POSTPONED: Wording(Message.PROCEDURE_RECORD, Action.UPDATE, _MINOR),
    EventKind.RUN_FAILED: _ALERT,
    EventKind.RUN_LEASE_EXPIRED: Wording(Message.PROCEDURE_RECORD, Action.UPDATE, _MINOR),
    EventKind.RUN_RETURNED: _RECORD,
    EventKind.RUN_SUPERSEDED: _RECORD,
    EventKind.RUN_REVIVED: _RECORD,
    EventKind.DELIVERY_STARTED: Wording(Message.BEGIN_TRANSFERRING, Action.EXECUTE, direction=_OUT),
    EventKind.DELIVERY_SENT: Wording(Message.INSTANCES_TRANSFERRED, Action.READ, direction=_OUT),
    EventKind.COMMITMENT_ASKED: Wording(Message.QUERY, Action.EXECUTE, direction=_OUT),
    EventKind.DELIVERY_CONFIRMED: Wording(Message.QUERY, Action.EXECUTE, direction=_OUT),
    EventKind.DELIVERY_POSTPONED: Wording(Message.INSTANCES_TRANSFERRED, Action.READ, _MINOR, _OUT),
    EventKind.DELIVERY_DIED: Wording(Message.SECURITY_ALERT, Action.EXECUTE, _SERIOUS, _OUT),
    EventKind.DELIVERY_LEASE_EXPIRED: Wording(
        Message.INSTANCES_TRANSFERRED, Action.READ, _MINOR, _OUT
    ),
    EventKind.DELIVERY_REVIVED: _RECORD,
    EventKind.DAY_AUDITED: Wording(Message.AUDIT_LOG_USED, Action.READ),
    EventKind.CHAIN_VERIFIED: Wording(Message.AUDIT_LOG_USED, Action.READ),
    EventKind.CHAIN_BROKEN: _ALERT,
    EventKind.ALERT_RAISED: _ALERT,
    EventKind.ALERT_RESOLVED: Wording(Message.SECURITY_ALERT, Action.EXECUTE),
    EventKind.CLOCK_WENT_BACK: Wording(Message.SECURITY_ALERT, Action.EXECUTE, _MINOR),
    EventKind.LOST_TIMES_MENDED: Wording(Message.SECURITY_ALERT, Action.EXECUTE, _MINOR),
    EventKind.INSTANCES_PURGED: Wording(Message.STUDY_DELETED, Action.DELETE),
    EventKind.RESULTS_PURGED: Wording(Message.STUDY_DELETED, Action.DELETE),
}

#: Of a kind that the closed list does not have: a row that was edited, and still is sent.
UNKNOWN = Wording(Message.SECURITY_ALERT, Action.EXECUTE, Outcome.SERIOUS_FAILURE)
