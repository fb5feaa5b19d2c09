"""Getting back from a PACS what the spool no longer has, against Orthanc and scripted nodes.

Does not cover: compressed instances over C-GET, WADO-RS, TLS.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydicom.dataset import Dataset
from pynetdicom.events import Event

from screener.audit.ledger import load_study
from screener.audit.queries import study_status
from screener.daemon.reprocess import reprocess_study
from screener.daemon.site import Site, open_site
from screener.deliver.retrieve import STUDY_ROOT_GET, STUDY_ROOT_MOVE
from screener.deliver.scu import store_objects
from screener.domain import StudyState
from screener.errors import (
    DestinationRefused,
    DestinationUnavailable,
    StudyNotRetrieved,
    WrongUse,
)
from screener.settings import Settings
from tests.integration.conftest import PATIENCE_S, OrthancServer, StartListening
from tests.integration.receivers import (
    REPORT,
    STUDY_ROOT_FIND,
    SYNTAXES,
    call,
    data_set_of,
    dimse_node,
    scripted,
    settings_for,
    write_object,
)
from tests.receive_factories import STUDY_UID

pytestmark = pytest.mark.integration


def site_for(folder: Path, port: int, how: str, ae_title: str = "TESTPACS") -> Site:
    return open_site(settings_for(folder, port, ae_title, retrieve=how))


def fill(orthanc: OrthancServer, folder: Path) -> list[bytes]:
    """Store three slices and a report in Orthanc; give the encoded slices."""
    slices = [write_object(folder, number) for number in (1, 2, 3)]
    report = write_object(folder, 4, REPORT, Modality="SR", SeriesInstanceUID=f"{STUDY_UID}.77")
    node = dimse_node(orthanc.dicom_port, ae_title=orthanc.ae_title)
    statuses = store_objects(node, [*slices, report])
    assert {one.status for one in statuses} == {0x0000}
    return [data_set_of(one.path) for one in slices]


def know_us(orthanc: OrthancServer, settings: Settings) -> None:
    node = ["SCREENER", "127.0.0.1", settings.node.port]
    call(f"{orthanc.url}/modalities/screener", "PUT", node)


@pytest.mark.parametrize("how", ["get", "move"])
def test_study_comes_back_from_orthanc(
    tmp_path: Path,
    orthanc: OrthancServer,
    listening: StartListening,
    how: str,
) -> None:
    """An unknown study is opened and complete; a lost file is mended; nothing comes twice."""
    sent = fill(orthanc, tmp_path)
    site = site_for(tmp_path, orthanc.dicom_port, how, orthanc.ae_title)
    know_us(orthanc, site.settings)
    if how == "move":
        listening(site.settings)
    run_id = reprocess_study(site.settings, STUDY_UID)
    status = study_status(site.database, STUDY_UID)
    assert status is not None
    assert status.state is StudyState.VERIFIED
    assert status.run is not None
    assert status.run.run_id == run_id
    study = load_study(site.database, STUDY_UID)
    assert sorted(data_set_of(one.path) for one in study.instances) == sorted(sent)
    assert {one.calling_ae_title for one in study.instances} == {orthanc.ae_title}

    lost = study.instances[1].path
    lost.unlink()
    assert reprocess_study(site.settings, STUDY_UID) == run_id  # it still waits
    assert data_set_of(lost) in sent
    assert len(load_study(site.database, STUDY_UID).instances) == 3


def test_node_that_does_not_know_us_says_what_to_register(tmp_path: Path) -> None:
    """C-MOVE needs an entry at the PACS; the error names the AE title."""

    def refuse(event: Event) -> Iterator[Any]:
        yield None, None

    with scripted(
        (STUDY_ROOT_FIND, SYNTAXES),
        (STUDY_ROOT_MOVE, SYNTAXES),
        EVT_C_FIND=_one_series,
        EVT_C_MOVE=refuse,
    ) as port:
        site = site_for(tmp_path, port, "move")
        with pytest.raises(DestinationRefused, match="'SCREENER'; register it there"):
            reprocess_study(site.settings, STUDY_UID)


def test_study_that_the_pacs_does_not_have_either(tmp_path: Path, orthanc: OrthancServer) -> None:
    """Nothing is opened for a mistyped UID."""
    site = site_for(tmp_path, orthanc.dicom_port, "get", orthanc.ae_title)
    with pytest.raises(StudyNotRetrieved, match="has no CT, CR or DX series"):
        reprocess_study(site.settings, "1.2.3")
    assert study_status(site.database, "1.2.3") is None


def test_lost_files_without_a_way_to_retrieve(tmp_path: Path, orthanc: OrthancServer) -> None:
    """The text says how many are gone, and which setting helps."""
    fill(orthanc, tmp_path)
    site = site_for(tmp_path, orthanc.dicom_port, "get", orthanc.ae_title)
    know_us(orthanc, site.settings)
    reprocess_study(site.settings, STUDY_UID)
    load_study(site.database, STUDY_UID).instances[0].path.unlink()
    (entry,) = site.settings.destinations
    closed = site.settings.model_copy(
        update={"destinations": (entry.model_copy(update={"retrieve": "none"}),)}
    )
    with pytest.raises(StudyNotRetrieved, match="1 files are no longer in the spool; set"):
        reprocess_study(closed, STUDY_UID)
    with pytest.raises(WrongUse, match="not in the audit database"):
        reprocess_study(closed, "1.2.3")
    call(f"{orthanc.url}/instances/{_slices_at(orthanc)[0]}", "DELETE")
    call(f"{orthanc.url}/instances/{_slices_at(orthanc)[0]}", "DELETE")
    call(f"{orthanc.url}/instances/{_slices_at(orthanc)[0]}", "DELETE")
    with pytest.raises(StudyNotRetrieved, match="has no CT, CR or DX series"):
        reprocess_study(site.settings, STUDY_UID)


def _slices_at(orthanc: OrthancServer) -> list[str]:
    query = {"Level": "Instance", "Query": {"Modality": "CT"}}
    found: list[str] = call(f"{orthanc.url}/tools/find", "POST", query)
    return found


def _one_series(event: Event) -> Iterator[tuple[int, Dataset | None]]:
    answer = event.identifier
    answer.SeriesInstanceUID = f"{STUDY_UID}.1"
    answer.Modality = "CT"
    yield 0xFF00, answer


@pytest.mark.parametrize(
    ("status", "error", "words"),
    [
        (0xA702, DestinationUnavailable, "cannot send the study now"),
        (0xC001, DestinationRefused, "refused to send"),
    ],
)
def test_status_of_the_node_is_read(
    tmp_path: Path, status: int, error: type[Exception], words: str
) -> None:
    """A passing fault and a lasting one are told apart, and no run is made of half a study."""

    def refuse(event: Event) -> Iterator[Any]:
        yield 1
        yield status, None

    with scripted(
        (STUDY_ROOT_FIND, SYNTAXES),
        (STUDY_ROOT_GET, SYNTAXES),
        EVT_C_FIND=_one_series,
        EVT_C_GET=refuse,
    ) as port:
        site = site_for(tmp_path, port, "get")
        with pytest.raises(error, match=words):
            reprocess_study(site.settings, STUDY_UID)
    assert study_status(site.database, STUDY_UID) is None


@pytest.mark.parametrize(("how", "service"), [("get", "C-GET"), ("move", "C-MOVE")])
def test_node_without_the_service_is_said(tmp_path: Path, how: str, service: str) -> None:
    """A node that only answers queries cannot give a study."""
    with scripted((STUDY_ROOT_FIND, SYNTAXES), EVT_C_FIND=_one_series) as port:
        site = site_for(tmp_path, port, how)
        with pytest.raises(DestinationRefused, match=f"answers no study-root {service}"):
            reprocess_study(site.settings, STUDY_UID)


def test_node_that_breaks_off_is_unavailable(tmp_path: Path) -> None:
    """An abort in the middle is no short study."""
    aborted = threading.Event()

    def abort(event: Event) -> Iterator[Any]:
        event.assoc.abort()
        aborted.set()
        yield 0

    with scripted(
        (STUDY_ROOT_FIND, SYNTAXES),
        (STUDY_ROOT_GET, SYNTAXES),
        EVT_C_FIND=_one_series,
        EVT_C_GET=abort,
    ) as port:
        site = site_for(tmp_path, port, "get")
        with pytest.raises(DestinationUnavailable, match=r"broke off .* lets 'SCREENER' retrieve"):
            reprocess_study(site.settings, STUDY_UID)
    assert aborted.wait(PATIENCE_S)  # set by the node's own thread, after the abort
