"""Storage commitment from the stored result to the confirmed delivery, over real sockets.

Orthanc reports on an association of its own, both ways it can end; scripted nodes report on the
same association, never, or know no commitment. Does not cover: commitment over TLS.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydicom.dataset import Dataset
from pynetdicom import AE, build_role
from pynetdicom.events import Event

from screener.audit.queries import DeliveryStatus, run_status
from screener.audit.results import finish_run
from screener.daemon.deliveries import confirm_sent, deliver
from screener.daemon.site import Site, open_site, utc_now
from screener.domain import DeliveryState
from screener.settings import Settings
from tests.audit_factories import claim, make_results, queue_run
from tests.integration.conftest import OrthancServer, StartListening, wait_until
from tests.integration.receivers import (
    REPORT,
    SEGMENTATION,
    STUDY_ROOT_FIND,
    SYNTAXES,
    call,
    scripted,
    settings_for,
    write_object,
)

pytestmark = pytest.mark.integration

COMMITMENT = "1.2.840.10008.1.20.1"
STORE = ((REPORT, SYNTAXES), (SEGMENTATION, SYNTAXES))


def report_with_files(site: Site, folder: Path) -> tuple[str, str]:
    """Report a study whose results lie on disk; give its run and its delivery."""
    claimed = claim(site.database, queue_run(site.database))
    results = make_results(claimed)
    files = [
        write_object(folder, number, one.sop_class_uid)
        for number, one in enumerate(results.objects, start=1)
    ]
    objects = tuple(
        replace(
            one,
            sop_instance_uid=file.sop_instance_uid,
            path=file.path,
            digest=hashlib.sha256(file.path.read_bytes()).hexdigest(),
            n_bytes=file.path.stat().st_size,
        )
        for one, file in zip(results.objects, files, strict=True)
    )
    (delivery_id,) = finish_run(
        site.database, claimed, replace(results, objects=objects), utc_now()
    )
    return claimed.run_id, delivery_id


def delivery_of(site: Site, run_id: str) -> DeliveryStatus:
    status = run_status(site.database, run_id)
    assert status is not None
    return status.deliveries[0]


def test_orthanc_disowns_what_is_gone_then_commits_to_all(
    tmp_path: Path, orthanc: OrthancServer, listening: StartListening
) -> None:
    """What was deleted there is not confirmed, is sent again, and then answered for."""
    settings = settings_for(tmp_path, orthanc.dicom_port, orthanc.ae_title, confirm="none")
    site = open_site(settings)
    listening(settings)
    node = ["SCREENER", "127.0.0.1", settings.node.port]
    call(f"{orthanc.url}/modalities/screener", "PUT", node)
    run_id, delivery_id = report_with_files(site, tmp_path)
    deliver(site, delivery_id)
    assert delivery_of(site, run_id).state is DeliveryState.SENT
    instances = call(f"{orthanc.url}/tools/find", "POST", {"Level": "Instance", "Query": {}})
    assert len(instances) == 2
    call(f"{orthanc.url}/instances/{instances[0]}", "DELETE")

    (entry,) = settings.destinations
    asking = settings.model_copy(
        update={"destinations": (entry.model_copy(update={"confirm": "commitment"}),)}
    )
    site = replace(site, settings=asking)
    confirm_sent(site)
    wait_until(lambda: delivery_of(site, run_id).state is DeliveryState.RETRYING)
    detail = delivery_of(site, run_id).detail
    assert detail is not None
    assert detail.startswith("storage commitment for 1 of 2 objects")
    assert "failure reason 0x0112" in detail

    wait_until(lambda: _deliver_again(site, delivery_id, run_id))
    wait_until(lambda: delivery_of(site, run_id).state is DeliveryState.CONFIRMED)
    assert len(call(f"{orthanc.url}/instances", "GET")) == 2


def _deliver_again(site: Site, delivery_id: str, run_id: str) -> bool:
    deliver(site, delivery_id)
    return delivery_of(site, run_id).state is not DeliveryState.RETRYING


def test_node_that_never_reports_is_asked_by_query(tmp_path: Path) -> None:
    """Sent stays sent until the time is over; then C-FIND decides, and the detail says so."""
    asked: list[Dataset] = []

    def on_action(event: Event) -> tuple[int, None]:
        asked.append(event.action_information)
        return 0x0000, None

    with scripted(
        *STORE,
        (COMMITMENT, SYNTAXES),
        (STUDY_ROOT_FIND, SYNTAXES),
        EVT_C_STORE=lambda _: 0,
        EVT_N_ACTION=on_action,
        EVT_C_FIND=_echo_identifier,
    ) as port:
        site = open_site(settings_for(tmp_path, port, commitment_timeout_s=0.01))
        run_id, delivery_id = report_with_files(site, tmp_path)
        deliver(site, delivery_id)
        assert delivery_of(site, run_id).state is DeliveryState.SENT
        wait_until(lambda: _confirm(site, run_id))
    assert len(asked) == 1
    assert len(asked[0].ReferencedSOPSequence) == 2
    assert "no result of the commitment within 0.01 s; C-FIND lists 2 of 2" in _told(site)


def test_node_without_commitment_is_asked_by_query(tmp_path: Path) -> None:
    """A refusal is final for the question, not for the delivery."""
    with scripted(
        *STORE,
        (STUDY_ROOT_FIND, SYNTAXES),
        EVT_C_STORE=lambda _: 0,
        EVT_C_FIND=_echo_identifier,
    ) as port:
        site = open_site(settings_for(tmp_path, port))
        run_id, delivery_id = report_with_files(site, tmp_path)
        deliver(site, delivery_id)
    assert delivery_of(site, run_id).state is DeliveryState.CONFIRMED
    assert "knows no storage commitment; C-FIND lists 2 of 2" in _told(site)


def test_report_on_the_same_association_confirms(tmp_path: Path) -> None:
    """A node need not call back: the association stays open for a moment."""
    statuses: list[int] = []

    def report(event: Event) -> None:
        answer, _ = event.assoc.send_n_event_report(
            event.action_information, 1, COMMITMENT, f"{COMMITMENT}.1"
        )
        statuses.append(answer.Status)

    def on_action(event: Event) -> tuple[int, None]:
        # After the answer to the request, which the handler's return sends.
        threading.Timer(0.1, report, (event,)).start()
        return 0x0000, None

    with scripted(
        *STORE, (COMMITMENT, SYNTAXES), EVT_C_STORE=lambda _: 0, EVT_N_ACTION=on_action
    ) as port:
        site = open_site(settings_for(tmp_path, port))
        run_id, delivery_id = report_with_files(site, tmp_path)
        deliver(site, delivery_id)
        wait_until(lambda: bool(statuses))
    assert delivery_of(site, run_id).state is DeliveryState.CONFIRMED
    assert statuses == [0x0000]
    assert "storage commitment for 2 of 2 objects" in _told(site)


@pytest.mark.parametrize(
    ("status", "words"), [(0x0213, "cannot commit now (0x0213)"), (0x0124, "refused to commit")]
)
def test_status_of_the_request_is_read(tmp_path: Path, status: int, words: str) -> None:
    """A node that is busy is asked again; one that refuses is asked by query, which fails here."""
    with scripted(
        *STORE,
        (COMMITMENT, SYNTAXES),
        EVT_C_STORE=lambda _: 0,
        EVT_N_ACTION=lambda _: (status, None),
    ) as port:
        site = open_site(settings_for(tmp_path, port))
        run_id, delivery_id = report_with_files(site, tmp_path)
        deliver(site, delivery_id)
    one = delivery_of(site, run_id)
    assert one.state is DeliveryState.SENT
    assert one.detail is not None
    assert words in one.detail


@pytest.mark.parametrize(("event_type", "status"), [(1, 0x0115), (2, 0x0115), (3, 0x0113)])
def test_report_that_nobody_asked_for_is_refused(
    tmp_path: Path,
    listening: StartListening,
    event_type: int,
    status: int,
) -> None:
    """A known peer may report, but only of a transaction that is ours."""
    settings = settings_for(tmp_path, 104)
    listening(settings)
    assoc = _associate(settings, "TESTPACS")
    assert assoc.is_established
    report = Dataset()
    report.TransactionUID = "2.25.1"
    answer, _ = assoc.send_n_event_report(report, event_type, COMMITMENT, f"{COMMITMENT}.1")
    assert answer.Status == status
    action, _ = assoc.send_n_action(report, 1, COMMITMENT, f"{COMMITMENT}.1")
    assert action.Status == 0x0211
    assoc.release()
    assert not _associate(settings, "STRANGER").is_established


def _associate(settings: Settings, ae_title: str) -> Any:
    """Associate as an archive does that reports: as the SCP of the commitment."""
    ae = AE(ae_title)
    ae.add_requested_context(COMMITMENT, SYNTAXES)
    roles = [build_role(COMMITMENT, scu_role=True, scp_role=True)]
    return ae.associate(
        "127.0.0.1", settings.node.port, ae_title=settings.node.ae_title, ext_neg=roles
    )


def _confirm(site: Site, run_id: str) -> bool:
    confirm_sent(site)
    return delivery_of(site, run_id).state is DeliveryState.CONFIRMED


def _echo_identifier(event: Event) -> Iterator[tuple[int, Dataset | None]]:
    yield 0xFF00, event.identifier


def _told(site: Site) -> str:
    """Every event payload of the audit, as text."""
    from sqlalchemy import select

    from screener.audit.tables import Event as Row

    with site.database.session() as session:
        return "\n".join(session.scalars(select(Row.payload)).all())
