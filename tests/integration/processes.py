"""Real processes for integration tests: start, wait for a condition, end by process id."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

#: Where Debian keeps tools and servers, then PATH, then this environment: pynetdicom installs
#: programs of the same names as DCMTK's there.
SYSTEM_PATH = os.pathsep.join(
    ("/usr/bin", "/usr/sbin", os.environ.get("PATH", ""), str(Path(sys.executable).parent))
)
#: How often a condition is looked at, in seconds.
LOOK_EVERY_S = 0.1


def find_program(name: str) -> str:
    """Find a program; where it is missing, skip on a laptop and fail in CI."""
    path = shutil.which(name, path=SYSTEM_PATH)
    if path is None:
        message = f"{name} is not installed; run: make services"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    return path


def free_port() -> int:
    """Give a port of the loopback interface that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def wait_until(condition: Callable[[], object], what: str, limit_s: float = 60.0) -> None:
    """Wait until a condition holds; fail with `what` when it does not in time."""
    pause = threading.Event()
    deadline_s = time.monotonic() + limit_s
    while not condition():
        if time.monotonic() > deadline_s:
            pytest.fail(f"not within {limit_s:.0f} s: {what}")
        pause.wait(LOOK_EVERY_S)


def is_listening(port: int) -> bool:
    """Say whether something accepts connections on a loopback port."""
    with socket.socket() as probe:
        probe.settimeout(1.0)
        return probe.connect_ex(("127.0.0.1", port)) == 0


@contextmanager
def running(
    arguments: Sequence[str],
    log: Path,
    environment: dict[str, str] | None = None,
    cwd: Path | None = None,
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a process in its own group; end the whole group at the end, whatever happens."""
    with log.open("ab") as output:
        process = subprocess.Popen(
            list(arguments),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env={**os.environ, **(environment or {})},
            cwd=cwd,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        end_group(process, signal.SIGTERM)


def end_group(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    """Signal the process and its children; kill what has not ended after ten seconds."""
    _signal_group(process, number)
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        _signal_group(process, signal.SIGKILL)
        process.wait(10)


def _signal_group(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    try:
        os.killpg(process.pid, number)
    except ProcessLookupError:
        return


def run_screener(
    *arguments: str, environment: dict[str, str], limit_s: float = 120.0
) -> subprocess.CompletedProcess[str]:
    """Run one command of the command line and give what it printed."""
    return subprocess.run(
        [sys.executable, "-m", "screener", *arguments],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **environment},
        timeout=limit_s,
    )
