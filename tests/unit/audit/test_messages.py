"""Every event as an audit message: the elements, codes and order that PS3.15 A.5.1 demands."""

from __future__ import annotations

import base64
import json
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from screener.audit.events import PAYLOAD_KEYS, EventKind, canonical_json
from screener.audit.messages import AuditSource, SealedEvent, audit_message
from screener.audit.vocabulary import WORDING, Direction
from tests.audit_factories import NOW, STUDY

SOURCE = AuditSource("SCREENER", "node-1", "Ward <3> & sons")
ORDER = [
    "EventIdentification", "ActiveParticipant", "AuditSourceIdentification",
    "ParticipantObjectIdentification",
]  # fmt: skip


def make_event(kind: EventKind, payload: dict[str, Any] | None = None, **changes: Any) -> Any:
    said = payload if payload is not None else dict.fromkeys(PAYLOAD_KEYS[kind], "value")
    values: dict[str, Any] = {
        "sequence": 7,
        "kind": kind,
        "occurred_at": NOW,
        "study_instance_uid": STUDY,
        "run_id": None,
        "payload": canonical_json(said),
        "chain_hash": "c" * 64,
    }
    return SealedEvent(**(values | changes))


def parsed(event: SealedEvent) -> ET.Element:
    text = audit_message(event, SOURCE)
    assert b"\n" not in text
    assert len(text) < 32768
    return ET.fromstring(text)  # noqa: S314  our own text


def details(message: ET.Element) -> dict[str, str]:
    return {
        one.get("type", ""): base64.b64decode(one.get("value", "")).decode()
        for one in message.iter("ParticipantObjectDetail")
    }


def test_every_event_has_its_wording() -> None:
    """An event without a place in `screener.audit.vocabulary` could not be exported."""
    assert set(WORDING) == set(EventKind)


@pytest.mark.parametrize("kind", EventKind)
def test_message_has_the_parts_of_the_schema_in_order(kind: EventKind) -> None:
    """One identification, at least one participant, one source, at least one object."""
    message = parsed(make_event(kind))
    names = [part.tag for part in message]
    assert names == sorted(names, key=ORDER.index)
    assert set(names) == set(ORDER)
    assert names.count("EventIdentification") == names.count("AuditSourceIdentification") == 1
    wording = WORDING[kind]
    identification = message[0]
    assert identification.get("EventActionCode") in set("CRUDE")
    assert identification.get("EventOutcomeIndicator") in {"0", "4", "8", "12"}
    assert identification.get("EventDateTime") == "2026-03-29T01:30:00.000+00:00"
    event_id = identification.find("EventID")
    assert event_id is not None
    assert event_id.attrib == {
        "csd-code": wording.message.code,
        "codeSystemName": "DCM",
        "originalText": wording.message.meaning,
    }
    types = [one.get("csd-code") for one in identification.iter("EventTypeCode")]
    assert types[-1] == kind.value
    n_participants = 1 if wording.direction is Direction.ALONE else 2
    participants = message.findall("ActiveParticipant")
    assert len(participants) == n_participants
    assert all(one.get("UserIsRequestor") in {"true", "false"} for one in participants)
    for name, value in dict.fromkeys(PAYLOAD_KEYS[kind], "value").items():
        assert details(message)[name] == value


def test_received_study_says_who_sent_it() -> None:
    """The sender is the source and the requestor, the node the destination."""
    message = parsed(make_event(EventKind.STUDY_OPENED, {"calling_ae_title": "SCANNER"}))
    node, sender = message.findall("ActiveParticipant")
    assert (node.get("UserID"), node.get("UserIsRequestor")) == ("SCREENER@node-1", "false")
    assert sender.get("AlternativeUserID") == "AETITLES=SCANNER"
    roles = [one.get("csd-code") for one in message.iter("RoleIDCode")]
    assert roles == ["110152", "110153"]


def test_study_is_the_object_and_its_details_prove_the_order() -> None:
    """Number and chain hash travel with the message."""
    message = parsed(make_event(EventKind.RUN_FAILED, {"attempt": 3, "detail": "no GPU"}))
    about = message.find("ParticipantObjectIdentification")
    assert about is not None
    assert about.get("ParticipantObjectID") == STUDY
    code = about.find("ParticipantObjectIDTypeCode")
    assert code is not None
    assert code.get("csd-code") == "110180"
    said = details(message)
    assert (said["sequence"], said["chain_hash"]) == ("7", "c" * 64)
    assert json.loads(said["attempt"]) == 3


def test_event_about_no_study_is_about_the_trail() -> None:
    """The schema wants an object; the trail itself is one."""
    message = parsed(make_event(EventKind.NODE_STARTED, study_instance_uid=None))
    about = message.find("ParticipantObjectIdentification")
    assert about is not None
    assert about.get("ParticipantObjectID") == "urn:screener:audit-trail"
    types = [one.get("csd-code") for one in message.iter("EventTypeCode")]
    assert types == ["110120", "node_started"]


def test_value_cannot_forge_an_element() -> None:
    """Markup and line breaks in a value stay a value."""
    evil = '"/><AuditMessage>\r\n\x1b[31m'
    message = parsed(make_event(EventKind.STUDY_OPENED, {"calling_ae_title": 'A"><b>'}))
    assert message.findall("ActiveParticipant")[1].get("UserID") == 'A"><b>'
    assert details(parsed(make_event(EventKind.RUN_FAILED, {"detail": evil})))["detail"] == evil
