"""The story of a study is complete, and told in words and as JSON without patient data."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from screener.audit.chain import seal
from screener.audit.deliveries import (
    ObjectStatus,
    claim_delivery,
    confirm_delivery,
    finish_delivery,
)
from screener.audit.ledger import register_instance
from screener.audit.plain import to_plain
from screener.audit.queries import list_studies, run_status, study_status
from screener.audit.runs import request_reprocess
from screener.audit.story import why
from screener.audit.telling import render_story
from screener.errors import WrongUse
from tests.audit_factories import (
    LEASE_S,
    STUDY,
    after,
    claim,
    make_instance,
    make_received,
    make_refusal,
    queue_run,
    receive_study,
    report,
)

if TYPE_CHECKING:
    from pathlib import Path

    from screener.audit.database import Database


def deliver(database: Database) -> None:
    claimed = claim_delivery(database, None, "s1", LEASE_S, after(840))
    assert claimed is not None
    statuses = [
        ObjectStatus(one.sop_instance_uid, 0xB000, "stored-with-warning", "coerced")
        for one in claimed.objects
    ]
    finish_delivery(database, claimed, statuses, after(841))
    confirm_delivery(database, claimed, "C-FIND lists 2 of 2", after(842))


def test_story_of_two_runs(database: Database, tmp_path: Path) -> None:
    """Arrival, completion, both runs, their results and who confirmed them: in words."""
    first = queue_run(database)
    report(database, claim(database, first))
    deliver(database)
    second = request_reprocess(database, STUDY, after(1000))
    report(database, claim(database, second, seconds=1001), seconds=1030)
    seal(database, bytes(32), after(1031), tmp_path / "checkpoints")
    told = render_story(why(database, STUDY))
    for words in (
        f"Study {STUDY}",
        "3 instances (1.6 MB) from SCANNER, 2026-03-29 01:30:01 to 2026-03-29 01:30:03",
        f"series {STUDY}.1: CT, 3 instances",
        "generation 1: unverified, because quiet-time-passed",
        f"Run 1 (new-study): superseded, {first}",
        f"superseded by run {second}",
        f"Run 2 (reprocess): reported, {second}",
        f"replaces the report of run {first}",
        "model slice_classifier 1.0 (classification), sha256 bbbbbbbbbbbbbbbb…, on cpu",
        "on cpu, because no CUDA device",
        f"series {STUDY}.1: chosen, score 0.9, 3 of 3 instances usable (3 axial slices)",
        "volume: 3 slices every 7.5 mm over 15 mm, 0 missing, tilt 0°",
        "source defect thick-slices: Slices are 7.5 mm apart.",
        "lungs: right 2400 ml, left 2100 ml, in 3 slices",
        "slice votes by default: normal 2, covid-19 1, community-acquired-pneumonia 0",
        "slice 1 at 7.5 mm: covid-19 (normal 0.1, covid-19 0.875",
        "DECISION covid-19, certainty 0.875: 1 of 3 slices is affected",
        "at pacs: stored-with-warning (0xB000)",
        "delivery to pacs: confirmed, 1 attempt(s), sent 2026-03-29 01:44:01",
        "run 1 delivery confirmed (pacs) [#",
    ):
        assert words in told, words
    assert "unsealed" not in told


def test_story_of_a_refusal(database: Database) -> None:
    """A study that was not analysed says why, and what became of each series."""
    report(database, claim(database, queue_run(database)), outcome=make_refusal())
    told = render_story(why(database, STUDY))
    assert "NOT ANALYSED because localizer-only: All 3 instances are localizers." in told
    assert "no series could be screened" in told
    assert "localizer-only, score 0, 0 of 3 instances usable (only localizers)" in told
    assert "at pacs: not sent (no answer yet)" in told


def test_story_of_troubled_arrivals(database: Database) -> None:
    """Conflicts, duplicates, quarantine, strangers and own results all show."""
    register_instance(database, make_received(make_instance(1, sop="1.2")), after(1))
    register_instance(database, make_received(make_instance(2, sop="1.2")), after(2))
    register_instance(database, make_received(make_instance(2, sop="1.2")), after(3))
    odd = make_received(
        make_instance(3, calling_ae_title=None),
        quarantine_reason="pixel data too short",
        is_non_conformant=True,
        patient_id_digest="0bad",
    )
    register_instance(database, odd, after(4))
    own = make_received(make_instance(4), is_own_result=True)
    register_instance(database, own, after(5))
    told = render_story(why(database, STUDY))
    for words in (
        "1 instances (0.5 MB) from a folder",
        "2 instances (1.1 MB) from SCANNER",
        "; 1 came twice",
        "; 1 quarantined",
        "several contents share a SOP Instance UID",
        "pixel data too short",
        "some UIDs break the rules of DICOM",
        "instances of several patients",
        "1 of our own results came back and were ignored",
        "not yet: it is still being received",
        "No run yet",
        "[unsealed]",
    ):
        assert words in told, words


def test_story_as_json(database: Database) -> None:
    """The story is plain JSON from end to end."""
    report(database, claim(database, queue_run(database)))
    content = json.loads(json.dumps(to_plain(why(database, STUDY)), allow_nan=False))
    assert content["status"]["run"]["patient_class"] == "covid-19"
    assert content["runs"][0]["slices"][1]["is_affected"] is True
    assert content["events"][0]["kind"] == "study_opened"


def test_story_unknown(database: Database) -> None:
    """A study that never came is an error with a hint."""
    with pytest.raises(WrongUse, match="screener status"):
        why(database, "1.2.3")


def test_status_unknown(database: Database) -> None:
    """Asking for what is not there gives nothing."""
    assert study_status(database, "1.2.3") is None
    assert run_status(database, "nonsense") is None


def test_list_newest_first(database: Database) -> None:
    """The list begins with the newest arrival and leaves out what holds only our results."""
    own = make_received(make_instance(1, study=STUDY + "8"), is_own_result=True)
    register_instance(database, own, after(0))
    receive_study(database)
    register_instance(database, make_received(make_instance(1, study=STUDY + "9")), after(60))
    listed = [one.study_instance_uid for one in list_studies(database)]
    assert listed == [STUDY + "9", STUDY]
    assert [one.study_instance_uid for one in list_studies(database, limit=1, offset=1)] == [STUDY]
    assert list_studies(database)[1].modalities == ("CT",)
