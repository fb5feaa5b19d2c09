"""A production site in miniature: listener, Celery workers, beat, Redis, PostgreSQL, Orthanc."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import urllib.request
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from models.phantom import Pattern, PhantomSpec, make_phantom
from screener.audit.database import Database
from screener.audit.queries import RunStatus, StudyStatus, study_status
from screener.demo.series_writer import write_series
from screener.demo.synthetic_identity import SyntheticIdentity
from tests.integration.conftest import (  # noqa: F401  fixtures of these tests too
    nothing_left_open,
    orthanc,
)
from tests.integration.processes import (
    end_group,
    find_program,
    free_port,
    run_screener,
    running,
    wait_until,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PATIENT_NAME = "CANARY^NEVERLOGGED"
SENDER_AE_TITLE = "SCANNER"
#: One screened study on a busy machine, in seconds.
STUDY_LIMIT_S = 180.0


@dataclass(frozen=True, slots=True)
class SyntheticStudy:
    """A study on disk, as a scanner holds it."""

    study_instance_uid: str
    study_date: str
    files: tuple[Path, ...]


@pytest.fixture(scope="session")
def make_study(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Give a function that writes a small synthetic chest CT study."""

    def make(name: str, pattern: Pattern = Pattern.COVID_19, seed: int = 11) -> SyntheticStudy:
        spec = PhantomSpec(
            seed=seed,
            pattern=pattern,
            n_slices=32,
            slice_spacing_mm=10.0,
            rows=256,
            columns=256,
            pixel_spacing_mm=1.5,
            severity=0.7,
        )
        identity = SyntheticIdentity(
            name=name,
            study_at=datetime.now(UTC),
            patient_id=f"CANARY-{name}",
            patient_name=PATIENT_NAME,
        )
        folder = tmp_path_factory.mktemp(name)
        files = write_series(make_phantom(spec), folder, identity)
        return SyntheticStudy(
            identity.study_instance_uid, f"{identity.study_at:%Y%m%d}", tuple(files)
        )

    return make


@dataclass
class Site:
    """A running production site and what a test may ask of it."""

    folder: Path
    settings_file: Path
    database_url: str
    port: int
    stack: ExitStack
    workers: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def environment(self) -> dict[str, str]:
        return {
            "SCREENER_SETTINGS": str(self.settings_file),
            "SCREENER_ALLOW_FAIL_POINTS": "yes",
            "TCP_NODELAY": "1",
            "TMPDIR": str(self.folder / "tmp"),  # so that a test can search what was left there
        }

    def screener(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run one command of the command line against this site."""
        return run_screener(*arguments, environment=self.environment)

    def start(self, name: str, *arguments: str) -> subprocess.Popen[bytes]:
        """Start a process of the site; it ends with the test."""
        return self.stack.enter_context(
            running(arguments, self.folder / f"{name}.log", self.environment)
        )

    def start_worker(self, *queues: str) -> subprocess.Popen[bytes]:
        """Start a real Celery worker on these queues."""
        name = f"worker-{len(self.workers)}"
        worker = self.start(
            name,
            *(sys.executable, "-m", "celery", "-A", "workers.app", "worker"),
            *("-Q", ",".join(queues), "-c", "1", "-n", f"{name}@%h"),
        )
        self.workers.append(worker)
        return worker

    def kill(self, worker: subprocess.Popen[bytes]) -> None:
        """End a worker and its pool as the kernel would: without a word."""
        end_group(worker, signal.SIGKILL)

    def send(self, program: str, study: SyntheticStudy) -> None:
        """Send a study with a DCMTK tool and demand that it says success."""
        arguments = [find_program(program), "-aet", SENDER_AE_TITLE, "-aec", "SCREENER"]
        if program == "storescu":
            arguments.append("-R")
        result = subprocess.run(
            [*arguments, "127.0.0.1", str(self.port), *map(str, study.files)],
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, "TCP_NODELAY": "1"},
            timeout=120,
        )
        assert result.returncode == 0, result.stdout + result.stderr

    def status(self, study_instance_uid: str) -> StudyStatus | None:
        """Ask the audit database where a study stands."""
        database = Database(self.database_url)
        try:
            return study_status(database, study_instance_uid)
        finally:
            database.dispose()

    def newest_run(self, study_instance_uid: str) -> RunStatus | None:
        status = self.status(study_instance_uid)
        return status.run if status else None

    def wait_for_run(self, study_instance_uid: str, *states: str, version: int = 1) -> RunStatus:
        """Wait until the newest run is in one of these states."""

        def is_there() -> bool:
            run = self.newest_run(study_instance_uid)
            return run is not None and run.version >= version and run.state.value in states

        wait_until(is_there, f"run {version} becomes {' or '.join(states)}", STUDY_LIMIT_S)
        run = self.newest_run(study_instance_uid)
        assert run is not None
        return run

    def logs(self) -> str:
        """Give all that the processes of the site have logged so far."""
        return "\n".join(path.read_text(errors="replace") for path in self.folder.glob("*.log"))


@dataclass(frozen=True, slots=True)
class Pacs:
    """A destination of a site."""

    name: str
    ae_title: str
    port: int
    kinds: tuple[str, ...] = ("sr", "seg", "ko")


def write_settings(
    folder: Path, port: int, database_url: str, broker_url: str, destinations: tuple[Pacs, ...]
) -> Path:
    """Write the settings of a site with short waits."""
    lines = [
        f"data_dir = {json.dumps(str(folder / 'data'))}",
        f"node = {{ port = {port} }}",
        f'database = {{ url = "{database_url}" }}',
        f'broker = {{ url = "{broker_url}" }}',
        "spool = { reserve_bytes = 0 }",
        "completion = { series_quiet_s = 2.0, study_quiet_s = 3.0 }",
        "workers = { lease_s = 6.0, first_retry_s = 0.5 }",
        "inference = { threads = 1 }",
        "delivery = { first_retry_s = 1.0, retry_cap_s = 2.0 }",
        f'audit = {{ pacs = "{destinations[0].name}" }}',
        'log = { format = "json" }',
        f'[[peers]]\nae_title = "{SENDER_AE_TITLE}"\naddresses = ["127.0.0.1"]\nallow_plain = true',
    ]
    lines += [
        f'[[destinations]]\nname = "{one.name}"\nae_title = "{one.ae_title}"\n'
        f'host = "127.0.0.1"\nport = {one.port}\nkinds = {json.dumps(one.kinds)}'
        for one in destinations
    ]
    path = folder / "screener.toml"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


@contextmanager
def running_site(
    folder: Path, database_url: str, broker_url: str, *destinations: Pacs, extra: str = ""
) -> Iterator[Site]:
    """Start a node: with a broker listener and beat, workers are the test's own; else `serve`."""
    port = free_port()
    settings_file = write_settings(folder, port, database_url, broker_url, destinations)
    with settings_file.open("a", encoding="utf-8") as stream:
        stream.write(extra)
    (folder / "tmp").mkdir(exist_ok=True)
    with ExitStack() as stack:
        site = Site(folder, settings_file, database_url, port, stack)
        upgrade = site.screener("db", "upgrade")
        assert upgrade.returncode == 0, upgrade.stderr
        if broker_url:
            site.start("listener", sys.executable, "-m", "screener", "listen")
            celery = (sys.executable, "-m", "celery", "-A", "workers.app", "beat")
            site.start("beat", *celery, "-s", str(folder / "beat"), "--pidfile=")
        else:
            site.start("serve", sys.executable, "-m", "screener", "serve")
        wait_until((folder / "data" / "listener.json").exists, "the node listens", 90)
        yield site


def rest(url: str, body: object = None) -> Any:
    """Ask Orthanc's REST interface; JSON in, JSON out."""
    request = urllib.request.Request(url, json.dumps(body).encode() if body is not None else None)  # noqa: S310
    with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310
        return json.loads(answer.read())


def rest_bytes(url: str) -> bytes:
    """Fetch a file from Orthanc's REST interface."""
    with urllib.request.urlopen(url, timeout=30) as answer:  # noqa: S310
        content: bytes = answer.read()
    return content
