"""Delivery, questions and retrieval by DICOMweb against Orthanc and its plugin.

Over plain HTTP, and behind TLS that wants our certificate, with a password. Does not cover:
what services do wrong (`test_dicomweb_hostile.py`).
"""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from screener.audit.ledger import load_study
from screener.audit.nightly import AccountOutcome
from screener.audit.queries import study_status
from screener.audit.story import why
from screener.daemon.asking import ask_sources
from screener.daemon.deliveries import deliver
from screener.daemon.doctor import echo_node, examine
from screener.daemon.listening import register_arrival
from screener.daemon.nightly import run_nightly
from screener.daemon.reprocess import reprocess_study
from screener.daemon.site import Site, archive_of, open_site, utc_now
from screener.daemon.sweep import sweep
from screener.deliver.archive import WebArchive
from screener.deliver.scu import DeliverableObject
from screener.domain import DeliveryState, Outcome, StudyState
from screener.errors import DestinationUnavailable, StudyNotRetrieved
from screener.receive.handlers import ReceiverHooks
from screener.receive.retrieved import PartReceiver
from screener.receive.spool import Spool
from screener.settings import Settings
from tests.integration.conftest import (
    PATIENCE_S,
    OrthancServer,
    StartListening,
    free_port,
    running_orthanc,
    wait_until,
    with_dicomweb,
)
from tests.integration.processes import run_screener
from tests.integration.receivers import REPORT, SEGMENTATION, call, data_set_of, write_object
from tests.integration.test_commitment import delivery_of, report_with_files
from tests.integration.web_services import SiteKeys, make_site_keys, tls_front, web_node
from tests.receive_factories import SERIES_UID, STUDY_UID

pytestmark = pytest.mark.integration


def archive(url: str, **files: Path) -> WebArchive:
    return WebArchive(web_node(url, **files))


def settings_for(folder: Path, url: str, **changes: Any) -> Settings:
    destination = {"name": "archive", "protocol": "dicomweb", "url": url, "timeout_s": PATIENCE_S}
    return Settings(
        data_dir=folder / "data",
        spool={"reserve_bytes": 0},
        delivery={"first_retry_s": 0.01, "retry_cap_s": 0.01},
        destinations=(destination | changes,),
    )


def three_slices(folder: Path) -> list[DeliverableObject]:
    return [write_object(folder, number) for number in (1, 2, 3)]


# ── Orthanc over plain HTTP ──────────────────────────────────────────────────────────────────


def test_objects_are_stored_listed_and_counted(tmp_path: Path, web_orthanc: OrthancServer) -> None:
    """One request stores all; a second is a duplicate and no error; each question is answered."""
    there = archive(web_orthanc.web_url)
    objects = [
        *three_slices(tmp_path),
        write_object(tmp_path, 4, REPORT),
        write_object(tmp_path, 5),
    ]
    assert there.echo().is_ok
    assert there.find_studies(date(2026, 1, 2)) == ()
    for _ in range(2):
        statuses = there.store(objects[:4])
        assert [one.sop_instance_uid for one in statuses] == [
            one.sop_instance_uid for one in objects[:4]
        ]
        assert {(one.status, one.outcome) for one in statuses} == {(0, Outcome.STORED)}
    assert there.confirm(objects) == {one.sop_instance_uid for one in objects[:4]}
    (study,) = there.find_studies(date(2026, 1, 2))
    assert (study.study_instance_uid, study.n_instances) == (STUDY_UID, 4)
    assert there.find_studies(date(2026, 1, 3)) == ()
    assert there.count_instances(STUDY_UID) == 4
    assert there.count_instances("1.2.3") is None
    assert there.find_series(STUDY_UID) == ((SERIES_UID, "CT"),)
    assert there.find_series("1.2.3") == ()


def test_object_that_cannot_be_read_there_costs_the_others_nothing(
    tmp_path: Path, web_orthanc: OrthancServer
) -> None:
    """The reason for each is read (PS3.18 Table I.2-2); a lost file of ours is said."""
    objects = three_slices(tmp_path)
    objects[0].path.write_bytes(objects[0].path.read_bytes()[:500])
    objects[2].path.unlink()
    statuses = archive(web_orthanc.web_url).store(objects)
    assert [one.outcome for one in statuses] == [Outcome.REFUSED, Outcome.STORED, Outcome.REFUSED]
    assert statuses[0].status == 0xC000
    assert "Our own file" in statuses[2].comment


def test_delivery_is_sent_confirmed_and_told(tmp_path: Path, web_orthanc: OrthancServer) -> None:
    """From the stored result to the confirmed delivery; `why` names the service that confirmed."""
    site = open_site(settings_for(tmp_path, web_orthanc.web_url, name="pacs"))
    run_id, delivery_id = report_with_files(site, tmp_path)
    deliver(site, delivery_id)
    assert delivery_of(site, run_id).state is DeliveryState.CONFIRMED
    study_instance_uid = str(load_one(site))
    told = str(why(site.database, study_instance_uid))
    assert "QIDO-RS lists 2 of 2 objects" in told


def load_one(site: Site) -> str:
    from screener.audit.queries import list_studies

    (study,) = list_studies(site.database)
    return study.study_instance_uid


def test_echo_doctor_and_nightly_audit_ask_the_service(
    tmp_path: Path, web_orthanc: OrthancServer
) -> None:
    """What asks a destination asks this one, too; the audit finds the study nobody screened."""
    settings = settings_for(tmp_path, web_orthanc.web_url)
    archive(web_orthanc.web_url).store(three_slices(tmp_path))
    assert echo_node(settings, "archive").is_ok
    (check,) = examine(settings, ["destinations"])
    assert (check.name, check.is_ok) == ("destination archive", True)
    written = run_nightly(settings, date(2026, 1, 2))
    (account,) = written.audit.accounts
    assert account.study_instance_uid == STUDY_UID
    assert account.outcome is AccountOutcome.MISSING
    closed = settings_for(tmp_path, f"{web_orthanc.url}/elsewhere")
    assert not echo_node(closed, "archive").is_ok
    written = run_nightly(closed, date(2026, 1, 2))
    assert written.audit.pacs_error is not None
    assert not written.audit.is_clean


def test_study_comes_back_by_wado(tmp_path: Path, web_orthanc: OrthancServer) -> None:
    """An unknown study is opened and complete; a lost file is mended with the same bytes."""
    slices = three_slices(tmp_path)
    report = write_object(tmp_path, 4, REPORT, Modality="SR", SeriesInstanceUID=f"{STUDY_UID}.77")
    site = open_site(settings_for(tmp_path, web_orthanc.web_url, retrieve="wado"))
    archive_of(site.settings, site.settings.destinations[0]).store([*slices, report])
    run_id = reprocess_study(site.settings, STUDY_UID)
    status = study_status(site.database, STUDY_UID)
    assert status is not None
    assert status.state is StudyState.VERIFIED
    study = load_study(site.database, STUDY_UID)
    assert sorted(data_set_of(one.path) for one in study.instances) == sorted(
        data_set_of(one.path) for one in slices
    )
    assert {one.calling_ae_title for one in study.instances} == {"archive"}
    lost = study.instances[1].path
    lost.unlink()
    assert reprocess_study(site.settings, STUDY_UID) == run_id  # it still waits
    assert data_set_of(lost) in [data_set_of(one.path) for one in slices]
    with pytest.raises(StudyNotRetrieved, match="has no CT, CR or DX series"):
        reprocess_study(site.settings, "1.2.3")


def test_archive_is_asked_how_much_it_has(tmp_path: Path, web_orthanc: OrthancServer) -> None:
    """A study is complete when as many came as the destination of its sender counts by QIDO-RS."""
    slices = three_slices(tmp_path)
    archive(web_orthanc.web_url).store(slices)
    peer = {"ae_title": "PACS", "addresses": ("192.0.2.1",), "query_destination": "archive"}
    quiet = {"series_quiet_s": 0.01, "study_quiet_s": 3600.0}
    settings = Settings(
        data_dir=tmp_path / "data",
        spool={"reserve_bytes": 0},
        completion=quiet,
        peers=(peer,),
        destinations=settings_for(tmp_path, web_orthanc.web_url).destinations,
    )
    site = open_site(settings)
    hooks = ReceiverHooks(lambda one: register_arrival(site, one), lambda _: None, utc_now)
    receiver = PartReceiver("PACS", Spool(settings.spool_path, 0), hooks, b"salt")

    def state_after_sweep() -> StudyState:
        ask_sources(site)
        sweep(site)
        status = study_status(site.database, STUDY_UID)
        assert status is not None
        return status.state

    for one in slices[:2]:
        receiver.take(iter([one.path.read_bytes()]))
    assert state_after_sweep() is StudyState.RECEIVING
    receiver.take(iter([slices[2].path.read_bytes()]))
    wait_until(lambda: state_after_sweep() is StudyState.VERIFIED)


@pytest.mark.parametrize("how", ["get", "move", "wado"])
def test_command_gets_back_what_was_purged(
    tmp_path: Path, web_orthanc: OrthancServer, listening: StartListening, how: str
) -> None:
    """`screener reprocess` with an empty spool: every file is there again, byte for byte."""
    slices = three_slices(tmp_path)
    archive(web_orthanc.web_url).store(slices)
    destination = (
        {"protocol": "dicomweb", "url": web_orthanc.web_url}
        if how == "wado"
        else {"ae_title": web_orthanc.ae_title, "host": "127.0.0.1", "port": web_orthanc.dicom_port}
    )
    settings = Settings(
        data_dir=tmp_path / "data",
        node={"port": free_port()},
        peers=({"ae_title": "ORTHANC", "addresses": ("127.0.0.1",), "allow_plain": True},),
        spool={"reserve_bytes": 0},
        destinations=({"name": "pacs", "retrieve": how, "timeout_s": PATIENCE_S} | destination,),
    )
    call(
        f"{web_orthanc.url}/modalities/screener",
        "PUT",
        ["SCREENER", "127.0.0.1", settings.node.port],
    )
    if how == "move":
        listening(settings)
    environment = {
        "SCREENER_DATA_DIR": str(settings.data_dir),
        "SCREENER_NODE": settings.node.model_dump_json(exclude_none=True),
        "SCREENER_SPOOL__RESERVE_BYTES": "0",
        "SCREENER_DESTINATIONS": f"[{settings.destinations[0].model_dump_json(exclude_none=True)}]",
    }
    site = open_site(settings)
    reprocess_study(settings, STUDY_UID)
    for one in load_study(site.database, STUDY_UID).instances:  # purged
        one.path.unlink()
    answer = run_screener("reprocess", STUDY_UID, "--json", environment=environment)
    assert answer.returncode == 0, answer.stderr
    instances = load_study(site.database, STUDY_UID).instances
    assert sorted(data_set_of(one.path) for one in instances) == sorted(
        data_set_of(one.path) for one in slices
    )


# ── Orthanc over HTTPS ───────────────────────────────────────────────────────────────────────


@pytest.fixture
def keys(tmp_path: Path) -> SiteKeys:
    return make_site_keys(tmp_path)


def test_https_with_certificate_and_password(tmp_path: Path, keys: SiteKeys) -> None:
    """All is well with the site's authority, our certificate and a password; nothing without."""
    login = tmp_path / "login"
    login.write_text("screener:canary-word\n", encoding="utf-8")
    wrong = tmp_path / "wrong"
    wrong.write_text("screener:other-word", encoding="utf-8")
    stranger = tmp_path / "stranger"
    stranger.mkdir()
    files = {
        "tls_ca_file": keys.ca_file,
        "tls_certificate_file": keys.certificate_file,
        "tls_key_file": keys.key_file,
        "basic_auth_file": login,
    }
    secured = {
        "AuthenticationEnabled": True,
        "RegisteredUsers": {"screener": "canary-word"},
    }
    context = keys.server_context(wants_certificate=True)
    with (
        running_orthanc(tmp_path / "orthanc", **with_dicomweb(), **secured) as orthanc,
        tls_front(orthanc.rest_port, context) as port,
    ):
        there = archive(f"https://127.0.0.1:{port}/dicom-web", **files)
        objects = three_slices(tmp_path)
        assert {one.outcome for one in there.store(objects)} == {Outcome.STORED}
        assert len(there.confirm(objects)) == 3
        for changes, words in (
            ({"basic_auth_file": wrong}, "HTTP 401.*|does not know us"),
            ({"tls_certificate_file": None, "tls_key_file": None}, "tls_certificate_file"),
            (
                {"tls_ca_file": None},
                "not trusted .*name the authority that signed it in tls_ca_file",
            ),
            ({"tls_ca_file": make_site_keys(stranger).ca_file}, "not trusted"),
        ):
            closed = WebArchive(replace(there.node, **changes))
            with pytest.raises(DestinationUnavailable, match=words) as caught:
                closed.store(objects)
            assert "word" not in str(caught.value)
            assert not closed.echo().is_ok


def test_results_of_every_kind_travel_by_stow(tmp_path: Path, web_orthanc: OrthancServer) -> None:
    """Report and segmentation classes are taken as any other."""
    objects = [write_object(tmp_path, 1, REPORT), write_object(tmp_path, 2, SEGMENTATION)]
    statuses = archive(web_orthanc.web_url).store(objects)
    assert {one.outcome for one in statuses} == {Outcome.STORED}
