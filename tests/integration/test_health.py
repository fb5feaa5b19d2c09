"""Health, readiness and metrics over real HTTP on loopback; what a node says when it is not well.

Does not cover: a Prometheus server that scrapes, many clients at once.
"""

from __future__ import annotations

import http.client
import json
import os
import shutil
import socket
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import text

from screener.audit.alerts import AlertKind, Condition, list_alerts, settle_alerts
from screener.audit.books import keep_books, newest_books
from screener.daemon.doctor import examine
from screener.daemon.health import examine_readiness, make_server
from screener.daemon.listening import READY_FILE
from screener.daemon.metrics import METRICS, UNEXPORTED
from screener.daemon.site import Site, open_site, utc_now
from screener.daemon.watching import count_books, watch, watch_broker
from screener.settings import BrokerSettings, Settings
from tests.audit_factories import STUDY, claim, queue_run, report
from tests.integration.processes import free_port, running, wait_until

pytestmark = pytest.mark.integration


@pytest.fixture
def site(node_folder: Path) -> Site:
    """Give a node that is well: a listener runs, the books were counted, the disk has room."""
    node = open_site(Settings.model_validate(
        {"data_dir": node_folder, "spool": {"reserve_bytes": 0, "warn_bytes": 0}}
    ))  # fmt: skip
    ready = {"port": 11112, "pid": os.getpid()}
    (node_folder / READY_FILE).write_text(json.dumps(ready))
    (node_folder / "spool" / "store").mkdir(parents=True)
    keep_books(node.database, count_books(node), utc_now())
    return node


@pytest.fixture
def port(site: Site) -> Iterator[int]:
    server = make_server(site, "127.0.0.1", 0)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    yield server.server_port
    server.shutdown()
    thread.join()
    server.server_close()


def ask(port: int, path: str, method: str = "GET") -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request(method, path)
    answer = connection.getresponse()
    content = answer.read()
    connection.close()
    return answer.status, content


def readiness(port: int) -> tuple[int, dict[str, Any]]:
    status, content = ask(port, "/readyz")
    said: dict[str, Any] = json.loads(content)
    return status, said["checks"]


def test_node_that_is_well_is_alive_and_ready(port: int) -> None:
    """200 and "ok" for every check."""
    assert ask(port, "/healthz")[0] == 200
    status, checks = readiness(port)
    assert (status, set(checks.values())) == (200, {"ok"})


def test_scheduler_that_stopped_counting_is_noticed(port: int, site: Site) -> None:
    """The process may live; nobody counts, so nobody completes studies either."""
    keep_books(site.database, count_books(site), utc_now() - timedelta(seconds=400))
    status, checks = readiness(port)
    assert status == 503
    assert "does the scheduler run" in checks["database and scheduler"]
    assert ask(port, "/healthz")[0] == 200


def test_absent_listener_is_noticed(port: int, site: Site, node_folder: Path) -> None:
    """A node that cannot receive is not ready."""
    (node_folder / READY_FILE).unlink()
    status, checks = readiness(port)
    assert (status, checks["disk"]) == (503, "ok")
    assert "no listener" in checks["listener"]


def test_unbalanced_books_alert_and_make_not_ready(port: int, site: Site) -> None:
    """A row deleted by hand: the watch records it, raises one alert, and readiness says so."""
    report(site.database, claim(site.database, queue_run(site.database)))
    with site.database.begin() as session:
        session.execute(text("DELETE FROM instances WHERE instance_id = 1"))
    for _ in range(2):
        assert not watch(site).is_balanced
    books = newest_books(site.database)
    assert books is not None
    assert not books.is_balanced
    assert "not balanced" in readiness(port)[1]["database and scheduler"]
    metrics = measured(port)
    assert metrics["screener_books_balanced"] == {(): 0.0}
    assert metrics["screener_alerts_open"][("books-unbalanced",)] >= 2
    with site.database.session() as session:
        raised = session.execute(text("SELECT payload FROM events WHERE kind = 'alert_raised'"))
        subjects = [json.loads(payload)["subject"] for (payload,) in raised]
    assert len(subjects) == len(set(subjects))
    assert "series_is_whole" in subjects


def test_spool_that_is_gone_is_no_disk_with_room(port: int, site: Site) -> None:
    """Deleted under the listener, or its disk not mounted: said by readiness, alert and doctor."""
    assert readiness(port)[1]["disk"] == "ok"
    shutil.rmtree(site.settings.spool_path)
    assert "the spool is gone" in readiness(port)[1]["disk"]
    watch(site)
    alerts = list_alerts(site.database, is_open_only=True)
    assert ("disk-full", "spool") in [(one.kind, one.subject) for one in alerts]
    (check,) = examine(site.settings, ["disk"])
    assert not check.is_ok


def measured(port: int) -> dict[str, dict[tuple[str, ...], float]]:
    status, content = ask(port, "/metrics")
    assert status == 200
    return {
        family.name: {tuple(one.labels.values()): one.value for one in family.samples}
        for family in text_string_to_metric_families(content.decode())
    }


def test_every_metric_is_there_and_names_nobody(port: int, site: Site) -> None:
    """All that the reference lists, in Prometheus text, and no UID in any of it."""
    report(site.database, claim(site.database, queue_run(site.database)))
    settle_alerts(site.database, [Condition(AlertKind.DISK_LOW, "spool", "18 GiB")], utc_now())
    metrics = measured(port)
    assert set(metrics) == {one.name for one in METRICS} - {UNEXPORTED.name}
    assert metrics["screener_runs"] == {("reported",): 1.0}
    assert metrics["screener_deliveries"] == {("pacs", "pending"): 1.0}
    assert metrics["screener_oldest_unsent_seconds"][("pacs",)] > 0
    assert metrics["screener_alerts_open"][("disk-low",)] == 1
    assert STUDY not in ask(port, "/metrics")[1].decode()


@pytest.mark.parametrize("path", ["/", "/metrics/../../etc/passwd", "/%2e%2e/", "/healthz/"])
def test_other_paths_are_not_known(port: int, path: str) -> None:
    """Nothing but three answers."""
    assert ask(port, path)[0] == 404


def test_other_methods_are_refused(port: int) -> None:
    """Reads alone."""
    assert ask(port, "/healthz", "HEAD") == (200, b"")
    assert ask(port, "/healthz", "POST")[0] == 501


def test_silent_client_holds_up_nobody(port: int) -> None:
    """A connection that says nothing costs one thread for five seconds."""
    with socket.create_connection(("127.0.0.1", port)):
        assert ask(port, "/healthz")[0] == 200


def broker_alerts(site: Site) -> list[str]:
    found = list_alerts(site.database, is_open_only=True)
    return [one.kind for one in found if one.kind == AlertKind.BROKER_AWAY]


def test_broker_that_is_away_makes_not_ready_and_is_one_alert(site: Site) -> None:
    """No worker hears of anything then; the next count, which somebody rang for, resolves it."""
    away = site.settings.model_copy(
        update={"broker": BrokerSettings(url=f"redis://127.0.0.1:{free_port()}/0")}
    )
    deaf = replace(site, settings=away)
    assert dict(examine_readiness(deaf).checks)["broker"].startswith("it cannot be reached")
    assert "broker" not in dict(examine_readiness(site).checks)
    assert not watch_broker(deaf)
    assert not watch_broker(deaf)
    assert broker_alerts(site) == [AlertKind.BROKER_AWAY]
    watch(site)
    assert broker_alerts(site) == []


def test_beat_whose_broker_is_away_raises_the_alert_itself(site: Site) -> None:
    """Nobody would do it otherwise: every other part waits to be rung for."""
    variables = {
        "SCREENER_DATA_DIR": str(site.settings.data_path),
        "SCREENER_BROKER__URL": f"redis://127.0.0.1:{free_port()}/0",
    }
    beat = (sys.executable, "-m", "celery", "-A", "workers.app", "beat", "--pidfile=")
    with running(beat, site.settings.data_path / "beat.log", variables):
        wait_until(lambda: broker_alerts(site), "beat has raised the alert", 120)
