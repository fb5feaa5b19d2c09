"""A whole node for the demo: settings in a temporary folder, ``screener serve`` as a child."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from screener.daemon.stopping import SUPERVISED_VARIABLE
from screener.errors import DemoFailed
from screener.settings import SETTINGS_FILE_VARIABLE, load_settings

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from screener.settings import Settings

#: Longest start of the node on a slow machine, in seconds.
START_LIMIT_S = 120.0
#: Longest orderly stop, in seconds.
STOP_LIMIT_S = 30.0
#: How often the demo looks at the node, in seconds.
LOOK_EVERY_S = 0.2


def settings_text(data_dir: Path, pacs_port: int, sender_ae_title: str) -> str:
    """Write the settings of the demo: embedded defaults, short waits, one test PACS."""
    return f"""\
data_dir = {json.dumps(str(data_dir))}

[node]
host = "127.0.0.1"
port = 0

[[peers]]
ae_title = "{sender_ae_title}"
addresses = ["127.0.0.1"]
allow_plain = true

[spool]
reserve_bytes = 0

[completion]
series_quiet_s = 2.0
study_quiet_s = 3.0
hard_cap_s = 600.0

[[destinations]]
name = "pacs"
ae_title = "TESTPACS"
host = "127.0.0.1"
port = {pacs_port}

[delivery]
first_retry_s = 1.0
retry_cap_s = 5.0

[log]
format = "json"
"""


class RunningNode:
    """A node that listens."""

    def __init__(self, settings: Settings, process: subprocess.Popen[bytes], port: int) -> None:
        self.settings = settings
        self.port = port
        self._process = process

    def check_alive(self) -> None:
        """Raise `DemoFailed` where the node has ended by itself."""
        if self._process.poll() is not None:
            raise DemoFailed(f"the node ended with exit code {self._process.returncode}")


@contextmanager
def running_node(settings_file: Path, log_file: Path) -> Iterator[RunningNode]:
    """Start ``screener serve``, wait until it listens, stop it in the end, whatever happens."""
    settings = load_settings(settings_file)
    environment = {
        **{key: value for key, value in os.environ.items() if not key.startswith("SCREENER_")},
        SETTINGS_FILE_VARIABLE: str(settings_file),
        SUPERVISED_VARIABLE: "1",
    }
    with log_file.open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "screener", "serve"],
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=log,
            env=environment,
            start_new_session=True,
        )
        try:
            yield RunningNode(settings, process, _wait_for_port(settings, process, log_file))
        finally:
            _stop(process)


def _wait_for_port(settings: Settings, process: subprocess.Popen[bytes], log_file: Path) -> int:
    pause = threading.Event()
    deadline_s = time.monotonic() + START_LIMIT_S
    ready_file = settings.data_path / "listener.json"
    while time.monotonic() < deadline_s:
        if process.poll() is not None:
            break
        if ready_file.exists():
            return int(json.loads(ready_file.read_text(encoding="utf-8"))["port"])
        pause.wait(LOOK_EVERY_S)
    tail = log_file.read_text(encoding="utf-8", errors="replace")[-2000:]
    raise DemoFailed(f"the node did not start within {START_LIMIT_S:.0f} s; its log ends:\n{tail}")


def _stop(process: subprocess.Popen[bytes]) -> None:
    if process.stdin:
        process.stdin.close()
    process.terminate()
    try:
        process.wait(STOP_LIMIT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
