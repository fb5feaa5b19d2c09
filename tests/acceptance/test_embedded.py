"""The same journey without a broker: ``screener serve`` on SQLite, polled by its own children.

Covers: a worker killed in the middle of a run, a destination that is away and comes back, the end
of the supervisor by signal and without a word, an interrupted demo.
Does not cover: power loss, a full disk; unit and integration tests force those.
"""

from __future__ import annotations

import os
import signal
import sys
from typing import TYPE_CHECKING, Any

import pytest

from screener.demo.pacs import DemoPacs
from tests.acceptance.conftest import Pacs, Site, running_site
from tests.acceptance.process_tree import command_of, descendants, is_alive
from tests.integration.processes import free_port, running, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = [pytest.mark.integration, pytest.mark.timeout(900)]

COMPREHENSIVE_3D_SR = "1.2.840.10008.5.1.4.1.1.88.34"
#: Longest orderly or disorderly end of all children, in seconds.
END_LIMIT_S = 60.0
#: Longest end of a node that finishes a run first, in seconds.
DRAIN_LIMIT_S = 180.0


@pytest.fixture
def late_port() -> int:
    """Give a port where nobody listens yet."""
    return free_port()


@pytest.fixture
def pacs(tmp_path: Path) -> Iterator[DemoPacs]:
    """Run a test PACS."""
    with DemoPacs(tmp_path / "pacs", "TESTPACS") as one:
        yield one


@pytest.fixture
def site(tmp_path: Path, pacs: DemoPacs, late_port: int) -> Iterator[Site]:
    """Run a node without a broker that has one destination alive and one away."""
    url = f"sqlite:///{tmp_path / 'data' / 'screener.sqlite3'}"
    destinations = (Pacs("pacs", "TESTPACS", pacs.port), Pacs("late", "LATE", late_port))
    with running_site(tmp_path, url, "", *destinations) as one:
        yield one


def test_killed_worker_and_absent_destination_cost_time_only(
    site: Site, pacs: DemoPacs, make_study: Any, late_port: int, tmp_path: Path
) -> None:
    """The study is reported once by the second worker; the absent PACS gets it when it is back."""
    study = make_study("embedded")
    site.send("storescu", study)
    site.wait_for_run(study.study_instance_uid, "running")
    os.kill(_child(site, "work"), signal.SIGKILL)

    run = site.wait_for_run(study.study_instance_uid, "reported")
    assert run.attempt == 2
    pacs.wait_for(lambda files: any(f.sop_class_uid == COMPREHENSIVE_3D_SR for f in files), 60)
    wait_until(
        lambda: (
            _delivery_states(site, study.study_instance_uid)
            == {"pacs": "confirmed", "late": "retrying"}
        ),
        "the living destination is confirmed although the other one is away",
    )

    with DemoPacs(tmp_path / "late", "LATE", late_port) as late:
        site.wait_for_run(study.study_instance_uid, "confirmed")
        for one in (pacs, late):
            reports = [f for f in one.received() if f.sop_class_uid == COMPREHENSIVE_3D_SR]
            assert len(reports) == 1


def test_children_end_with_a_supervisor_that_is_killed(site: Site) -> None:
    """Not even kill -9 of ``screener serve`` leaves a child behind."""
    serve = _serve_pid(site)
    children = descendants(serve)
    assert len(children) >= 4

    os.kill(serve, signal.SIGKILL)

    wait_until(lambda: not any(map(is_alive, children)), "every child has ended", END_LIMIT_S)


def test_interrupted_demo_leaves_no_process(tmp_path: Path, make_study: Any) -> None:
    """Ctrl-C in the middle of the demo: exit code 130, no process, no results half written."""
    log = tmp_path / "demo.log"
    own = make_study("interrupted").files[0].parent  # the demo's own studies take a minute to make
    arguments = [sys.executable, "-m", "screener", "demo", "--out", str(tmp_path / "out")]
    arguments += ["--study", str(own)]
    with running(arguments, log, {"TMPDIR": str(tmp_path)}) as demo:
        wait_until(lambda: "listens on" in log.read_text(), "the node of the demo listens", 240)
        children = descendants(demo.pid)
        assert len(children) >= 5
        demo.send_signal(signal.SIGINT)

        assert demo.wait(END_LIMIT_S) == 130
        wait_until(lambda: not any(map(is_alive, children)), "every child has ended", END_LIMIT_S)
    assert list(tmp_path.glob("screener-demo-*")) == []


def test_node_that_is_told_to_stop_ends_in_order(site: Site, make_study: Any) -> None:
    """SIGTERM in the middle of a run: the run is finished, then everything ends."""
    study = make_study("drained")
    site.send("storescu", study)
    site.wait_for_run(study.study_instance_uid, "running")
    serve = _serve_pid(site)
    children = descendants(serve)

    os.kill(serve, signal.SIGTERM)
    wait_until(lambda: not any(map(is_alive, {serve, *children})), "all ended", DRAIN_LIMIT_S)

    run = site.newest_run(study.study_instance_uid)
    assert run is not None
    assert run.state.value not in {"queued", "running"}
    assert run.attempt == 1
    answer = site.screener("audit", "verify", "--json")
    assert answer.returncode == 0, answer.stdout + answer.stderr
    assert "child_killed" not in site.logs()


def _delivery_states(site: Site, study_instance_uid: str) -> dict[str, str]:
    run = site.newest_run(study_instance_uid)
    assert run is not None
    return {one.destination: one.state.value for one in run.deliveries}


def _serve_pid(site: Site) -> int:
    (pid,) = (
        pid
        for pid in descendants(os.getpid())
        if command_of(pid).rstrip().endswith("screener serve")
        and str(site.settings_file) in _environment_of(pid)
    )
    return pid


def _child(site: Site, command: str) -> int:
    children = descendants(_serve_pid(site))
    (pid,) = (pid for pid in children if command_of(pid).rstrip().endswith(f"screener {command}"))
    return pid


def _environment_of(pid: int) -> str:
    with open(f"/proc/{pid}/environ", encoding="utf-8", errors="replace") as stream:  # noqa: PTH123
        return stream.read()
