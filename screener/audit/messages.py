"""A sealed event as a DICOM audit message (PS3.15 A.5): XML for any audit record repository.

The patient is left out: the trail knows a salted digest at most. What the event says beyond the
standard's fields stands as details of its object, with number and chain hash, so that a
repository can prove order and completeness by itself.
"""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from datetime import UTC
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

from screener.audit.tolerant_types import read_object
from screener.audit.vocabulary import UNKNOWN, WORDING, Direction, Outcome, Wording

if TYPE_CHECKING:
    from datetime import datetime

#: Scheme of our own event names.
SCHEME = "99SCREENER"
#: PS3.16 CID 402, Audit Active Participant Role ID.
_APPLICATION = ("110150", "Application")
_DESTINATION = ("110152", "Destination Role ID")
_SOURCE = ("110153", "Source Role ID")
#: PS3.16 CID 404: what names the object.
_STUDY_UID = ("110180", "DCM", "Study Instance UID")
_URI = ("12", "RFC-3881", "URI")
#: Names of the trail as an object, where an event is about no study.
_TRAIL = "urn:screener:audit-trail"
#: RFC 3881: an application server process.
_SERVER_PROCESS = ("4", "RFC-3881", "Application Server Process")
#: Network Access Point Type Code: an IP address.
_IP_ADDRESS = "2"


@dataclass(frozen=True, slots=True)
class SealedEvent:
    """One event of the chain, as it is sent elsewhere."""

    sequence: int
    kind: str  #: an `EventKind`, unless somebody edited the table
    occurred_at: datetime
    study_instance_uid: str | None
    run_id: str | None
    payload: str  #: canonical JSON
    chain_hash: str


@dataclass(frozen=True, slots=True)
class AuditSource:
    """Who tells: this node."""

    ae_title: str
    host: str
    site: str = ""  #: name of the institution


def audit_message(event: SealedEvent, source: AuditSource) -> bytes:
    """Give one event as an audit message.

    Returns
    -------
    :
        UTF-8, one line, without XML declaration.

    References
    ----------
    DICOM PS3.15 A.5.1 (message schema), A.5.3 (contents of each message).
    """
    wording = WORDING.get(event.kind, UNKNOWN)
    said: dict[str, object] = read_object(event.payload)
    root = ET.Element("AuditMessage")
    _add_event(root, event, wording)
    _add_participants(root, wording.direction, said, source)
    _add_source(root, source)
    _add_object(root, event, said)
    return bytes(ET.tostring(root, encoding="utf-8", xml_declaration=False))


def _add_event(root: ET.Element, event: SealedEvent, wording: Wording) -> None:
    at = event.occurred_at.astimezone(UTC).isoformat(timespec="milliseconds")
    identification = ET.SubElement(
        root,
        "EventIdentification",
        EventActionCode=wording.action.value,
        EventDateTime=at,
        EventOutcomeIndicator=str(wording.outcome.value),
    )
    _code(identification, "EventID", wording.message.code, "DCM", wording.message.meaning)
    if wording.event_type is not None:
        code, meaning = wording.event_type.value
        _code(identification, "EventTypeCode", code, "DCM", meaning)
    _code(identification, "EventTypeCode", event.kind, SCHEME, event.kind)
    if wording.outcome is not Outcome.SUCCESS:
        ET.SubElement(identification, "EventOutcomeDescription").text = event.kind


def _add_participants(
    root: ET.Element, direction: Direction, said: dict[str, object], source: AuditSource
) -> None:
    ours = {
        Direction.ALONE: _APPLICATION,
        Direction.INCOMING: _DESTINATION,
        Direction.OUTGOING: _SOURCE,
    }[direction]
    is_asking = direction is not Direction.INCOMING
    node = _participant(root, f"{source.ae_title}@{source.host}", ours, is_requestor=is_asking)
    node.set("AlternativeUserID", f"AETITLES={source.ae_title}")
    if direction is Direction.INCOMING:
        title = _printable(said.get("calling_ae_title") or "unknown")
        other = _participant(root, title, _SOURCE, is_requestor=True)
        other.set("AlternativeUserID", f"AETITLES={title}")
        if said.get("address"):
            other.set("NetworkAccessPointID", _printable(said["address"]))
            other.set("NetworkAccessPointTypeCode", _IP_ADDRESS)
    elif direction is Direction.OUTGOING:
        _participant(root, _printable(said.get("destination")), _DESTINATION, is_requestor=False)


def _participant(
    root: ET.Element, user_id: str, role: tuple[str, str], *, is_requestor: bool
) -> ET.Element:
    participant = ET.SubElement(
        root, "ActiveParticipant", UserID=user_id, UserIsRequestor=str(is_requestor).lower()
    )
    _code(participant, "RoleIDCode", role[0], "DCM", role[1])
    return participant


def _add_source(root: ET.Element, source: AuditSource) -> None:
    told_by = ET.SubElement(root, "AuditSourceIdentification", AuditSourceID=source.ae_title)
    if source.site:
        told_by.set("AuditEnterpriseSiteID", source.site)
    _code(told_by, "AuditSourceTypeCode", *_SERVER_PROCESS)


def _add_object(root: ET.Element, event: SealedEvent, said: dict[str, object]) -> None:
    is_study = event.study_instance_uid is not None
    about = ET.SubElement(
        root,
        "ParticipantObjectIdentification",
        ParticipantObjectID=event.study_instance_uid or _TRAIL,
        ParticipantObjectTypeCode="2",  # system object
        ParticipantObjectTypeCodeRole="3" if is_study else "13",  # report; security resource
    )
    _code(about, "ParticipantObjectIDTypeCode", *(_STUDY_UID if is_study else _URI))
    ET.SubElement(about, "ParticipantObjectName").text = "study" if is_study else "audit trail"
    details = {"sequence": event.sequence, "chain_hash": event.chain_hash, "run_id": event.run_id}
    for name, value in (details | said).items():
        if value is not None:
            text = value if isinstance(value, str) else json.dumps(value, sort_keys=True)
            coded = base64.b64encode(text.encode()).decode()
            ET.SubElement(about, "ParticipantObjectDetail", type=name, value=coded)


def _printable(value: object) -> str:
    """Replace what XML cannot hold: a sender chose this value."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in str(value))


def _code(parent: ET.Element, name: str, code: str, scheme: str, meaning: str) -> None:
    values = {"csd-code": code, "codeSystemName": scheme, "originalText": meaning}
    ET.SubElement(parent, name, values)
