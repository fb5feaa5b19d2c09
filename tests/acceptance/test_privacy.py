"""One patient with unmistakable values through the whole embedded node, failures included.

Everything that the node wrote is searched afterwards: logs, database, temporary files, pages,
exported audit messages, metrics, and what every command printed. Only spool and results, which are
the patient's images and reports, may hold the values. Broker messages: `test_production`.
Does not cover: core files and swap, which the system has to switch off.
"""

from __future__ import annotations

import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from screener.demo.pacs import DemoPacs
from tests.acceptance import canary
from tests.acceptance.conftest import SENDER_AE_TITLE, Pacs, Site, running_site
from tests.integration.processes import free_port, wait_until
from tests.integration.senders import associate, store
from tests.receive_factories import SERIES_UID, STUDY_UID, ct_bytes

pytestmark = [pytest.mark.integration, pytest.mark.timeout(900)]

FAULTS = ("worker.mid-run=crash", "sender.after-send=kill", "listener.before-row=database")
#: Stands for a text where the library that writes the test's instances insists on a number.
NUMBER, CHARSET = "12345678", "ISO_IR 100"
HOSTILE: tuple[dict[str, Any], ...] = (
    {"PatientBirthDate": canary.NAME, "StudyDate": canary.BIRTH_DATE},
    {"RescaleSlope": NUMBER, "RescaleIntercept": NUMBER},
    {"PixelData": b"KANARIEN"},
    {"ImagePositionPatient": NUMBER},
    {"InstanceNumber": NUMBER, "SeriesDescription": canary.NAME * 40},
    {"SpecificCharacterSet": CHARSET, "PatientName": "KANARIEN\r\n\x1b[31m"},
    {"SOPClassUID": "KANARIEN"},
    {"SOPInstanceUID": "KANARIEN/../x"},
    {"StudyInstanceUID": "KANARIEN\n1.2"},
)


@pytest.fixture
def pacs(tmp_path: Path) -> Iterator[DemoPacs]:
    """Run a test PACS."""
    with DemoPacs(tmp_path / "pacs", "TESTPACS") as one:
        yield one


@pytest.fixture
def site(tmp_path: Path, pacs: DemoPacs) -> Iterator[Site]:
    """Run a node with faults armed and an address for its numbers."""
    url = f"sqlite:///{tmp_path / 'data' / 'screener.sqlite3'}"
    armed = ", ".join(f'"{fault}"' for fault in FAULTS)
    extra = f"[testing]\nfail_points = [{armed}]\n[health]\nport = {free_port()}\n"
    with running_site(tmp_path, url, "", Pacs("pacs", "TESTPACS", pacs.port), extra=extra) as one:
        yield one


def test_nothing_about_a_patient_leaves_spool_and_results(
    site: Site, tmp_path: Path, make_study: Any
) -> None:
    """A whole study, one of nothing but odd values, a crash, a kill and a lost database."""
    study = make_study("canary")
    canary.mark(study.files)
    send_what_is_odd(site)
    site.send("storescu", study)
    site.wait_for_run(study.study_instance_uid, "confirmed")
    site.wait_for_run(STUDY_UID, "confirmed", "reported", "failed")
    fired = {path.name for path in (tmp_path / "data" / "fail-points").iterdir()}
    assert fired == {f"{fault.partition('=')[0]}.0" for fault in FAULTS}

    told = tmp_path / "told"
    told.mkdir()
    keep_what_is_told(site, told, study.study_instance_uid)

    data = tmp_path / "data"
    patients = (data / "spool", data / "results", tmp_path / "pacs")
    assert canary.leaks(tmp_path, without=()) != [], "the search finds nothing at all"
    assert canary.leaks(tmp_path, without=patients) == []


def send_what_is_odd(site: Site) -> None:
    """Send instances whose values are wrong in every way that ends up in an error text."""
    assoc = associate(site, calling=SENDER_AE_TITLE)  # type: ignore[arg-type]  its port is enough
    marked = {"PatientName": canary.NAME, "PatientID": canary.PATIENT_ID}
    statuses = [
        store(assoc, with_texts(ct_bytes(number, **(marked | values))), f"{SERIES_UID}.{number}")
        for number, values in enumerate(HOSTILE, start=1)
    ]
    statuses.append(store(assoc, b"KANARIEN" * 500, f"{SERIES_UID}.99"))
    assoc.release()
    assert 0xA700 in statuses  # the database that was lost once
    assert 0x0000 in statuses
    assert any(status not in {0x0000, 0xA700} for status in statuses)


def with_texts(content: bytes) -> bytes:
    """Put the text where the library wanted something that it understands."""
    content = content.replace(NUMBER.encode(), b"KANARIEN")
    return content.replace(CHARSET.encode(), b"KANARIEN X")


def keep_what_is_told(site: Site, folder: Path, study_instance_uid: str) -> None:
    """Run every command that tells something, and ask for the numbers."""
    commands: list[tuple[str, ...]] = [
        ("status",), ("status", "--json"), ("why", study_instance_uid),
        ("why", study_instance_uid, "--json"), ("why", STUDY_UID, "--json"), ("alerts", "--json"),
        ("doctor", "--accounting", "--json"), ("purge", "--dry-run", "--json"),
        ("audit", "nightly", "--json"), ("audit", "verify"),
        ("audit", "export", "--out", str(folder / "trail.xml")),
    ]  # fmt: skip
    for number, words in enumerate(commands):
        answer = site.screener(*words)
        (folder / f"{number}.txt").write_text(answer.stdout + answer.stderr)
        assert answer.returncode in {0, 1}, answer.stderr
    lines = site.settings_file.read_text().splitlines()
    port = lines[lines.index("[health]") + 1].split(" = ")[1]
    wait_until(lambda: "health_answers" in site.logs(), "the numbers are answered")
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=30) as answer:
        (folder / "metrics.txt").write_bytes(answer.read())
    assert (folder / "metrics.txt").stat().st_size > 1000
