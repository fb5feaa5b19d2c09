"""Sources of quiet studies are asked beside the sweep: a silent one holds up nobody."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from pydicom.dataset import Dataset
from pynetdicom.events import Event

from screener.audit.ledger import register_instance
from screener.audit.queries import study_status
from screener.daemon.asking import ask_sources
from screener.daemon.scheduling import schedule_until_stopped
from screener.daemon.site import Site, open_site, utc_now
from screener.daemon.sweep import sweep
from screener.domain import StudyState
from screener.settings import Settings
from tests.audit_factories import STUDY, make_instance, make_received
from tests.integration.conftest import PATIENCE_S, wait_until
from tests.integration.receivers import IMPLICIT, STUDY_ROOT_FIND, scripted

pytestmark = pytest.mark.integration

FIRST, SECOND, OTHER = f"{STUDY}.1", f"{STUDY}.2", f"{STUDY}.3"


def site_of(folder: Path, **query_ports: int) -> Site:
    peers = [
        {"ae_title": title, "addresses": ["127.0.0.1"], "query_port": port}
        for title, port in query_ports.items()
    ]
    node = {"network_timeout_s": 10 * PATIENCE_S}
    return open_site(Settings.model_validate({"data_dir": folder, "node": node, "peers": peers}))


def receive(site: Site, study: str, title: str, *, ago_s: float) -> None:
    instance = make_instance(study=study, calling_ae_title=title)
    at = utc_now() - timedelta(seconds=ago_s)
    register_instance(site.database, make_received(instance), at)


def state_of(site: Site, study: str) -> StudyState:
    status = study_status(site.database, study)
    assert status is not None
    return status.state


@pytest.fixture
def source() -> Iterator[socket.socket]:
    """Give a socket that listens and answers nothing."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(PATIENCE_S)
        yield listening


def port_of(listening: socket.socket) -> int:
    return int(listening.getsockname()[1])


def one_instance(event: Event) -> Iterator[tuple[int, Any]]:
    answer = Dataset()
    answer.QueryRetrieveLevel = "STUDY"
    answer.StudyInstanceUID = event.identifier.StudyInstanceUID
    answer.NumberOfStudyRelatedInstances = 1
    yield 0xFF00, answer


def test_source_that_is_away_is_asked_once_a_round(tmp_path: Path, source: socket.socket) -> None:
    """Two studies of a source that breaks off cost one question; the next source is asked."""
    n_asked = []

    def break_off() -> None:
        while True:
            connection, _ = source.accept()
            first = connection.recv(1)
            connection.close()
            if not first:
                return
            n_asked.append(1)

    thread = threading.Thread(target=break_off)
    thread.start()
    with scripted((STUDY_ROOT_FIND, [IMPLICIT]), ae_title="KNOWS", EVT_C_FIND=one_instance) as port:
        site = site_of(tmp_path, AWAY=port_of(source), KNOWS=port)
        receive(site, FIRST, "AWAY", ago_s=63)
        receive(site, SECOND, "AWAY", ago_s=62)
        receive(site, OTHER, "KNOWS", ago_s=61)
        ask_sources(site)
    socket.create_connection(("127.0.0.1", port_of(source))).close()  # says nothing: the end
    thread.join()
    sweep(site)
    assert len(n_asked) == 1
    assert state_of(site, OTHER) is StudyState.VERIFIED
    assert state_of(site, FIRST) is state_of(site, SECOND) is StudyState.RECEIVING


def test_silent_source_holds_up_no_other_study(tmp_path: Path, source: socket.socket) -> None:
    """While one source is asked and says nothing, the scheduler completes what others sent."""
    site = site_of(tmp_path, SILENT=port_of(source))
    receive(site, FIRST, "SILENT", ago_s=61)
    stop = threading.Event()
    scheduler = threading.Thread(target=schedule_until_stopped, args=(site.settings, stop))
    scheduler.start()
    connection, _ = source.accept()  # from here on the asking thread waits
    try:
        receive(site, OTHER, "NOBODY", ago_s=601)
        wait_until(lambda: state_of(site, OTHER) is StudyState.UNVERIFIED)
        assert state_of(site, FIRST) is StudyState.RECEIVING
    finally:
        stop.set()
        connection.close()
        scheduler.join()
