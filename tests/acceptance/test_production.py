"""A study goes in by C-STORE, a report comes out into Orthanc, the audit tells the same story.

Covers: DCMTK's senders, the listening process, real Celery workers and beat on Redis, PostgreSQL,
delivery to and confirmation by Orthanc, reading the results back through its REST interface,
reprocessing, the nightly audit, a worker killed in the middle of a run, patient names in logs.
Does not cover: TLS, storage commitment, several hosts.
"""

from __future__ import annotations

import io
import json
import signal
import subprocess
import urllib.request
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pydicom
import pytest

from models.phantom import Pattern
from tests.acceptance import canary
from tests.acceptance.conftest import (
    PATIENT_NAME,
    Pacs,
    Site,
    SyntheticStudy,
    rest,
    rest_bytes,
    running_site,
)
from tests.integration.processes import find_program, running, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.integration.conftest import OrthancServer

pytestmark = [pytest.mark.integration, pytest.mark.timeout(900)]

COMPREHENSIVE_3D_SR = "1.2.840.10008.5.1.4.1.1.88.34"
SEGMENTATION = "1.2.840.10008.5.1.4.1.1.66.4"
ALL_QUEUES = ("stat", "routine", "deliver", "sweep")


@pytest.fixture
def site(
    tmp_path: Path, postgres_url: str, redis_url: str, orthanc: OrthancServer
) -> Iterator[Site]:
    """Run a production site without workers; the test starts those."""
    with (
        _flushed(redis_url),
        running_site(
            tmp_path, postgres_url, redis_url, Pacs("pacs", orthanc.ae_title, orthanc.dicom_port)
        ) as one,
    ):
        yield one


@contextmanager
def _flushed(redis_url: str) -> Iterator[None]:
    """Leave nothing of one test in the queues of the next."""
    command = [find_program("redis-cli"), "-p", _port_of(redis_url), "FLUSHALL"]
    subprocess.run(command, check=True, capture_output=True)
    yield


def _port_of(redis_url: str) -> str:
    return redis_url.rsplit(":", 1)[1].split("/", maxsplit=1)[0]


@pytest.fixture
def broker_log(tmp_path: Path, redis_url: str) -> Iterator[Path]:
    """Write down every command that the broker gets, messages included."""
    path = tmp_path / "broker.monitor"
    with running((find_program("redis-cli"), "-p", _port_of(redis_url), "MONITOR"), path):
        yield path


def test_studies_travel_from_scanner_to_pacs_and_are_accounted_for(
    site: Site, orthanc: OrthancServer, make_study: Any, tmp_path: Path, broker_log: Path
) -> None:
    """Two senders, two studies, their results in Orthanc; then a reprocess and an audit."""
    first, second = make_study("first"), make_study("second", Pattern.NORMAL, 12)
    canary.mark((*first.files, *second.files))
    site.start_worker(*ALL_QUEUES)
    site.send("storescu", first)
    site.send("dcmsend", second)

    for study in (first, second):
        site.wait_for_run(study.study_instance_uid, "confirmed")
        found = _find(orthanc, study)
        assert len(found[COMPREHENSIVE_3D_SR]) == 1
        assert len(found[SEGMENTATION]) == 1
        _check_report(found[COMPREHENSIVE_3D_SR][0], study, tmp_path)
    _check_reprocess(site, orthanc, first)
    _check_nightly_audit(site, orthanc, make_study("unseen", Pattern.NORMAL, 13), (first, second))
    assert PATIENT_NAME.split("^")[0] not in site.logs()
    assert PATIENT_NAME.split("^")[1] not in site.logs()
    assert b"screener.screen_run" in broker_log.read_bytes()
    data = site.folder / "data"
    patients = (data / "spool", data / "results", tmp_path / "orthanc", *_reports(tmp_path))
    assert canary.leaks(tmp_path, without=patients) == []


def test_killed_worker_costs_time_and_no_study(
    site: Site, orthanc: OrthancServer, make_study: Any
) -> None:
    """A killed worker is replaced; the next, told to stop in the middle, first ends its run."""
    study = make_study("killed")
    worker = site.start_worker(*ALL_QUEUES)
    site.send("storescu", study)
    site.wait_for_run(study.study_instance_uid, "running")
    site.kill(worker)
    held = site.newest_run(study.study_instance_uid)
    assert held is not None
    assert held.state.value == "running", "the run ended before the worker was killed"

    second = site.start_worker(*ALL_QUEUES)
    wait_until(lambda: _is_at_attempt(site, study, 2), "the second worker has the run", 120)
    second.send_signal(signal.SIGTERM)
    assert second.wait(120) == 0
    drained = site.newest_run(study.study_instance_uid)
    assert drained is not None
    assert drained.state.value not in {"queued", "running"}

    site.start_worker(*ALL_QUEUES)
    run = site.wait_for_run(study.study_instance_uid, "confirmed")

    assert run.attempt == 2
    assert run.version == 1
    assert len(_find(orthanc, study)[COMPREHENSIVE_3D_SR]) == 1
    story = json.loads(site.screener("why", study.study_instance_uid, "--json").stdout)
    kinds = [event["kind"] for event in story["events"]]
    assert kinds.count("run_lease_expired") == 1
    assert kinds.count("run_reported") == 1


def _is_at_attempt(site: Site, study: SyntheticStudy, attempt: int) -> bool:
    run = site.newest_run(study.study_instance_uid)
    return run is not None and run.attempt == attempt


def _reports(folder: Path) -> list[Path]:
    """Reports that the test itself fetched from Orthanc."""
    return list(folder.glob("*.dcm"))


def _find(orthanc: OrthancServer, study: SyntheticStudy) -> dict[str, list[pydicom.Dataset]]:
    """Read every instance that Orthanc holds of a study and that is no source image."""
    query = {
        "Level": "Instance",
        "Query": {"StudyInstanceUID": study.study_instance_uid, "Modality": "SR\\SEG\\KO"},
    }
    found: dict[str, list[pydicom.Dataset]] = {COMPREHENSIVE_3D_SR: [], SEGMENTATION: []}
    for identifier in rest(f"{orthanc.url}/tools/find", query):
        content = rest_bytes(f"{orthanc.url}/instances/{identifier}/file")
        dataset = pydicom.dcmread(io.BytesIO(content))
        found.setdefault(str(dataset.SOPClassUID), []).append(dataset)
    return found


def _check_report(report: pydicom.Dataset, study: SyntheticStudy, folder: Path) -> None:
    """The report is about this study, unverified, and valid to two independent readers."""
    assert report.StudyInstanceUID == study.study_instance_uid
    assert report.VerificationFlag == "UNVERIFIED"
    assert report.PreliminaryFlag == "PRELIMINARY"
    path = folder / f"{report.SOPInstanceUID}.dcm"
    report.save_as(path)
    validation = subprocess.run(
        [find_program("dciodvfy"), "-new", str(path)], capture_output=True, text=True, check=False
    )
    assert "Error" not in validation.stderr, validation.stderr
    dump = subprocess.run(
        [find_program("dsrdump"), str(path)], capture_output=True, text=True, check=False
    )
    assert dump.returncode == 0, dump.stderr
    assert "Imaging Measurement Report" in dump.stdout


def _check_reprocess(site: Site, orthanc: OrthancServer, study: SyntheticStudy) -> None:
    """A reprocess makes a second report that names the first; the story tells both."""
    (first,) = _find(orthanc, study)[COMPREHENSIVE_3D_SR]
    answer = site.screener("reprocess", study.study_instance_uid, "--wait", "120", "--json")
    assert answer.returncode == 0, answer.stderr
    site.wait_for_run(study.study_instance_uid, "confirmed", version=2)

    reports = _find(orthanc, study)[COMPREHENSIVE_3D_SR]
    (second,) = [one for one in reports if one.SOPInstanceUID != first.SOPInstanceUID]
    referenced = second.PredecessorDocumentsSequence[0].ReferencedSeriesSequence[0]
    predecessor = referenced.ReferencedSOPSequence[0].ReferencedSOPInstanceUID
    assert predecessor == first.SOPInstanceUID

    story = site.screener("why", study.study_instance_uid)
    assert story.returncode == 0, story.stderr
    assert str(first.SOPInstanceUID) in story.stdout
    assert str(second.SOPInstanceUID) in story.stdout
    assert "superseded" in story.stdout


def _check_nightly_audit(
    site: Site,
    orthanc: OrthancServer,
    unseen: SyntheticStudy,
    seen: tuple[SyntheticStudy, ...],
) -> None:
    """The audit names the one study that the PACS holds and the screener never saw."""
    for study in (*seen, unseen):
        for file in study.files[:2]:
            _upload(orthanc, file)
    day = f"{unseen.study_date[:4]}-{unseen.study_date[4:6]}-{unseen.study_date[6:]}"
    answer = site.screener("audit", "nightly", "--date", day, "--json")

    assert answer.returncode == 1, answer.stderr
    audit = json.loads(answer.stdout)
    outcomes = {one["study_instance_uid"]: one["outcome"] for one in audit["accounts"]}
    assert outcomes[unseen.study_instance_uid] == "missing"
    assert [uid for uid, outcome in outcomes.items() if outcome == "missing"] == [
        unseen.study_instance_uid
    ]
    assert set(outcomes) == {unseen.study_instance_uid, *(one.study_instance_uid for one in seen)}
    assert audit["chain"]["findings"] == []
    assert site.screener("audit", "verify").returncode == 0
    page = site.folder / "data" / "audits" / f"audit-{day}.html"
    assert unseen.study_instance_uid in page.read_text(encoding="utf-8")


def _upload(orthanc: OrthancServer, file: Path) -> None:
    request = urllib.request.Request(f"{orthanc.url}/instances", file.read_bytes())  # noqa: S310
    with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310
        assert answer.status == 200
