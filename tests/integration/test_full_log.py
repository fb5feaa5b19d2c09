"""A log that nobody can take: each part of the node goes on, and a command says so in one sentence.

``/dev/full`` refuses every write as a full disk does, from the first one on. Not covered here: a
whole node, which is fault 22 of ``make chaos``.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from screener.audit.alerts import AlertKind, list_alerts
from screener.daemon.site import Site, open_site
from screener.settings import Settings
from tests.integration.processes import free_port, running, wait_until
from tests.integration.sealing import wait_for_seal

if TYPE_CHECKING:
    from collections.abc import Sequence

pytestmark = [pytest.mark.integration, pytest.mark.timeout(600)]

FULL = Path("/dev/full")
CELERY = (sys.executable, "-m", "celery", "-A", "workers.app")
SCREENER = (sys.executable, "-m", "screener")


@pytest.fixture
def site(tmp_path: Path, redis_url: str) -> Site:
    """Give a node that seals twice a second, with nothing running yet."""
    path = tmp_path / "screener.toml"
    path.write_text(
        f'data_dir = "{tmp_path / "data"}"\nnode = {{ port = {free_port()} }}\n'
        f"audit = {{ seal_every_s = 0.5 }}\n",
        encoding="utf-8",
    )
    return open_site(Settings(data_dir=tmp_path / "data", broker={"url": redis_url}))


def environment(site: Site, *, broker_url: str = "") -> dict[str, str]:
    return {
        "SCREENER_SETTINGS": str(site.settings.data_path.parent / "screener.toml"),
        "SCREENER_BROKER__URL": broker_url,
    }


def is_log_alert_open(site: Site) -> bool:
    return any(
        one.kind == AlertKind.LOG_LOST for one in list_alerts(site.database, is_open_only=True)
    )


def test_celery_works_with_its_log_on_a_full_disk(site: Site, redis_url: str) -> None:
    """Worker and beat live and work where not even a banner can be printed; an alert tells."""
    variables = environment(site, broker_url=redis_url)
    arguments = ("-Q", "sweep", "-c", "1")
    with (
        running((*CELERY, "worker", *arguments), FULL, variables) as worker,
        running((*CELERY, "beat", "--pidfile="), FULL, variables) as beat,
    ):
        wait_for_seal(site)
        wait_until(lambda: is_log_alert_open(site), "the lost log is an alert", 120)
        assert worker.poll() is None
        assert beat.poll() is None


def test_scheduler_works_with_its_log_on_a_full_disk(site: Site) -> None:
    """A process of ours lives and works; the others begin as this one does."""
    with running((*SCREENER, "schedule"), FULL, environment(site)) as scheduler:
        wait_for_seal(site)
        wait_until(lambda: is_log_alert_open(site), "the lost log is an alert", 120)
        assert scheduler.poll() is None


@pytest.mark.parametrize(
    "arguments", [("status", "--json"), ("alerts",), ("--help",)], ids=lambda words: words[0]
)
def test_command_whose_output_nobody_takes_says_so(site: Site, arguments: Sequence[str]) -> None:
    """Exit code 1 and one sentence with the cause; no traceback, no call for a report."""
    with FULL.open("wb") as full:
        ended = subprocess.run(
            [*SCREENER, *arguments],
            stdout=full,
            stderr=subprocess.PIPE,
            env={**environment(site), "PATH": ""},
            text=True,
            check=False,
            timeout=120,
        )
    assert ended.returncode == 1
    (line,) = ended.stderr.splitlines()
    assert "No space left on device" in line
    assert "defect" not in line


def test_command_with_notes_that_nobody_takes_does_its_work(site: Site) -> None:
    """What stands on standard error alone is lost; the exit code is that of the work."""
    with FULL.open("wb") as full:
        ended = subprocess.run(
            [*SCREENER, "status", "--json"],
            stdout=subprocess.PIPE,
            stderr=full,
            env={**environment(site), "PATH": ""},
            check=False,
            timeout=120,
        )
    assert (ended.returncode, ended.stdout.strip()) == (0, b"[]")
