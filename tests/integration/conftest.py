"""What integration tests share: a listening node, a test PACS, Orthanc, absent tools."""

from __future__ import annotations

import contextlib
import gc
import json
import os
import shutil
import socket
import subprocess
import threading
import urllib.request
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import pytest

from screener.daemon.listening import READY_FILE, listen
from screener.demo.pacs import DemoPacs
from screener.receive.handlers import ReceiverHooks
from screener.receive.scp import Listener, ListenerSettings
from screener.receive.spool import Spool

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from screener.receive.arrival import AssociationNotice, ReceivedInstance, RefusalNotice
    from screener.settings import Settings

#: Longest wait for anything local, in seconds; reached only by a failing test.
PATIENCE_S = 30.0


def require_tool(name: str) -> str:
    """Give the path of a program; without it skip, but fail where CI promised it."""
    path = shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/bin:/usr/local/bin")
    if path is None:
        if os.environ.get("CI"):
            pytest.fail(f"{name} is not installed; tests/install-services installs it")
        pytest.skip(f"{name} is not installed")
    return path


def free_port() -> int:
    """Give a port of this machine that nobody uses now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(autouse=True, scope="module")
def nothing_left_open() -> Iterator[None]:
    """Collect memory where a file of tests ends: what it left open fails here, not elsewhere."""
    yield
    gc.collect()


@dataclass
class RunningListener:
    """A listener with what it registered and noticed."""

    spool: Spool
    listener: Listener = field(init=False)
    registered: list[ReceivedInstance] = field(default_factory=list)
    notices: list[AssociationNotice | RefusalNotice] = field(default_factory=list)
    changed: threading.Condition = field(default_factory=threading.Condition)
    registration_error: Exception | None = None

    @property
    def port(self) -> int:
        return self.listener.port

    def register(self, received: ReceivedInstance) -> None:
        with self.changed:
            if self.registration_error is not None:
                raise self.registration_error
            self.registered.append(received)
            self.changed.notify_all()

    def observe(self, notice: AssociationNotice | RefusalNotice) -> None:
        with self.changed:
            self.notices.append(notice)
            self.changed.notify_all()

    def wait_for(self, condition: Callable[[], bool]) -> None:
        """Wait until something that is registered or noticed makes `condition` true."""
        with self.changed:
            assert self.changed.wait_for(condition, PATIENCE_S), self.notices


class StartListener(Protocol):
    """Starts a listener; keywords are those of `ListenerSettings`, and the disk reserve."""

    def __call__(self, *, reserve_bytes: int = 0, **settings: object) -> RunningListener: ...


@pytest.fixture
def start_listener(tmp_path: Path) -> Iterator[StartListener]:
    """Start listeners on free ports; all are stopped in the end."""
    running: list[RunningListener] = []

    def start(*, reserve_bytes: int = 0, **settings: object) -> RunningListener:
        spool = Spool(tmp_path / f"spool-{len(running)}", reserve_bytes)
        chosen = {"ae_title": "SCREENER", "host": "127.0.0.1", "port": 0, "is_open_to_all": True}
        node = RunningListener(spool)
        hooks = ReceiverHooks(node.register, node.observe, now=lambda: datetime.now(UTC))
        node.listener = Listener(
            ListenerSettings(**(chosen | settings)),  # type: ignore[arg-type]
            spool,
            hooks,
            b"salt",
        )
        node.listener.start()
        running.append(node)
        return node

    yield start
    for node in running:
        node.listener.stop(drain_s=0)


@pytest.fixture
def pacs(tmp_path: Path) -> Iterator[DemoPacs]:
    """Run a test PACS on a free port."""
    with DemoPacs(tmp_path / "pacs", "TESTPACS") as running:
        yield running


@dataclass(frozen=True, slots=True)
class OrthancServer:
    """A running Orthanc: knows nobody, lets anybody store, find and be sent to."""

    ae_title: str
    dicom_port: int
    rest_port: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.rest_port}"

    @property
    def web_url(self) -> str:
        """Root of its DICOMweb services."""
        return f"{self.url}/dicom-web"


#: The DICOMweb plugin of Debian's orthanc-dicomweb.
DICOMWEB_PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")


@pytest.fixture
def orthanc(tmp_path: Path) -> Iterator[OrthancServer]:
    """Run Orthanc on free loopback ports with an empty store."""
    with running_orthanc(tmp_path / "orthanc") as server:
        yield server


@pytest.fixture(scope="module")
def _web_orthanc(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OrthancServer]:
    folder = tmp_path_factory.mktemp("web") / "orthanc"
    with running_orthanc(folder, **with_dicomweb()) as server:
        yield server


@pytest.fixture
def web_orthanc(_web_orthanc: OrthancServer) -> OrthancServer:
    """Give an Orthanc with its DICOMweb plugin and an empty store; it takes long to stop."""
    url = f"{_web_orthanc.url}/studies"
    with urllib.request.urlopen(url, timeout=PATIENCE_S) as answer:  # noqa: S310 - Orthanc
        studies = json.loads(answer.read())
    for study in studies:
        url = f"{_web_orthanc.url}/studies/{study}"
        request = urllib.request.Request(url, method="DELETE")  # noqa: S310 - Orthanc
        urllib.request.urlopen(request, timeout=PATIENCE_S).close()  # noqa: S310
    return _web_orthanc


def with_dicomweb() -> dict[str, Any]:
    """Give the settings of Orthanc that switch its DICOMweb plugin on."""
    if not DICOMWEB_PLUGIN.exists():
        if os.environ.get("CI"):
            pytest.fail(f"{DICOMWEB_PLUGIN} is missing; tests/install-services installs it")
        pytest.skip("orthanc-dicomweb is not installed")
    return {"Plugins": [str(DICOMWEB_PLUGIN)], "DicomWeb": {"Enable": True}}


@contextlib.contextmanager
def running_orthanc(folder: Path, **changes: Any) -> Iterator[OrthancServer]:
    """Run Orthanc with an empty store; `changes` are settings of its own."""
    program = require_tool("Orthanc")
    server = OrthancServer("ORTHANC", free_port(), free_port())
    folder.mkdir()
    configuration = folder / "orthanc.json"
    settings = {
        "StorageDirectory": str(folder / "store"),
        "IndexDirectory": str(folder / "store"),
        "DicomAet": server.ae_title,
        "DicomPort": server.dicom_port,
        "HttpPort": server.rest_port,
        "RemoteAccessAllowed": False,
        "AuthenticationEnabled": False,
        "DicomAlwaysAllowFind": True,
        "DicomCheckCalledAet": False,
        "TcpNoDelay": True,
    }
    configuration.write_text(json.dumps(settings | changes), encoding="utf-8")
    process = subprocess.Popen(
        [program, str(configuration)], stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
    )
    started = threading.Event()
    lines: list[str] = []

    def read_log() -> None:
        assert process.stderr is not None
        for line in process.stderr:
            lines.append(line)
            if "Orthanc has started" in line:
                started.set()

    reader = threading.Thread(target=read_log)
    reader.start()
    try:
        if not started.wait(PATIENCE_S):
            pytest.fail(f"Orthanc did not start: {''.join(lines)[-2000:]}")
        yield server
    finally:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(PATIENCE_S)
        process.kill()
        process.wait()
        reader.join()
        if process.stderr is not None:
            process.stderr.close()


class StartListening(Protocol):
    """Runs the listening process of an installation."""

    def __call__(self, settings: Settings) -> None: ...


def wait_until(condition: Callable[[], bool]) -> None:
    """Look every 50 ms; what is waited for is written by another process or thread."""
    pause = threading.Event()
    for _ in range(int(PATIENCE_S / 0.05)):
        if condition():
            return
        pause.wait(0.05)
    pytest.fail("it did not come to be")


@pytest.fixture
def listening() -> Iterator[StartListening]:
    """Run the listening process in a thread; it is stopped in the end."""
    stop = threading.Event()
    threads: list[threading.Thread] = []

    def start(settings: Settings) -> None:
        threads.append(threading.Thread(target=listen, args=(settings, stop)))
        threads[-1].start()
        wait_until((settings.data_path / READY_FILE).exists)

    yield start
    stop.set()
    for thread in threads:
        thread.join()
