"""Keep the children of ``screener serve`` alive; stop them all, in order, when asked."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from screener.daemon.stopping import SUPERVISED_VARIABLE
from screener.errors import ConfigError
from screener.logs import get_log

if TYPE_CHECKING:
    import threading
    from collections.abc import Sequence

#: First and longest wait before a dead child is started again, in seconds.
FIRST_RESTART_S = 1.0
LONGEST_RESTART_S = 30.0
#: A child that lived this long starts again at once, in seconds.
STEADY_AFTER_S = 60.0
#: A child that lived this long has understood its settings, in seconds.
SETTLED_AFTER_S = 15.0
#: Exit code of a process whose settings are wrong: starting it again cannot help.
WRONG_SETTINGS = 2
#: How often the supervisor looks, in seconds.
LOOK_EVERY_S = 0.2


@dataclass(frozen=True, slots=True)
class ChildSpec:
    """One child: its name in the log, and the arguments after ``screener``."""

    name: str
    arguments: tuple[str, ...]
    takes_hangup: bool = False  #: whether SIGHUP makes it read files again; others it would end


class Child:
    """One process that is started again whenever it ends by itself."""

    def __init__(self, spec: ChildSpec) -> None:
        self.spec = spec
        self._process: subprocess.Popen[bytes] | None = None
        self._started_at_s = 0.0
        self._restart_at_s = 0.0
        self._wait_s = FIRST_RESTART_S
        self._was_up = False

    @property
    def pid(self) -> int | None:
        """Process id, None while it is down."""
        return self._process.pid if self._process else None

    def look(self, now_s: float) -> None:
        """Start it, start it again, or leave it alone; `now_s` is a monotonic time."""
        if self._process is None:
            if now_s >= self._restart_at_s:
                self._start(now_s)
        elif (code := self._process.poll()) is not None:
            self._note_death(code, now_s)

    def ask_to_stop(self) -> None:
        """Close its input and send SIGTERM; it drains and ends."""
        if self._process is not None and self._process.poll() is None:
            if self._process.stdin:
                self._process.stdin.close()
            self._process.terminate()

    def pass_hangup(self) -> None:
        """Send SIGHUP on, where it has a meaning."""
        if self.spec.takes_hangup and self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGHUP)

    def wait(self, deadline_s: float) -> None:
        """Wait until it has ended; after `deadline_s` (monotonic) it is killed."""
        if self._process is None:
            return
        try:
            self._process.wait(max(0.1, deadline_s - time.monotonic()))
        except subprocess.TimeoutExpired:
            get_log().error("child_killed", child=self.spec.name, pid=self._process.pid)
            self._process.kill()
            self._process.wait()

    def _start(self, now_s: float) -> None:
        self._process = subprocess.Popen(
            # -P: the children run the code of the supervisor, not that of the current folder.
            [sys.executable, "-P", "-m", "screener", *self.spec.arguments],
            stdin=subprocess.PIPE,
            # A terminal's Ctrl-C reaches the supervisor alone, which then stops in order.
            start_new_session=True,
            env={**os.environ, SUPERVISED_VARIABLE: "1"},
        )
        self._started_at_s = now_s
        get_log().info("child_started", child=self.spec.name, pid=self._process.pid)

    def _note_death(self, code: int, now_s: float) -> None:
        lived_s = now_s - self._started_at_s
        if code == WRONG_SETTINGS and not self._was_up and lived_s < SETTLED_AFTER_S:
            raise ConfigError(f"the {self.spec.name} cannot start with these settings; see above")
        self._was_up = self._was_up or lived_s >= SETTLED_AFTER_S
        if lived_s > STEADY_AFTER_S:
            self._wait_s = FIRST_RESTART_S
        self._restart_at_s = now_s + self._wait_s
        get_log().error(
            "child_ended", child=self.spec.name, exit_code=code, seconds=round(self._wait_s, 1)
        )
        self._wait_s = min(2 * self._wait_s, LONGEST_RESTART_S)
        self._process = None


def supervise(
    specs: Sequence[ChildSpec],
    stop: threading.Event,
    drain_s: float,
    reload: threading.Event | None = None,
) -> None:
    """Keep all children running until `stop` is set, then stop them within `drain_s`.

    Where `reload` is set it is passed on as SIGHUP and cleared.
    """
    children = [Child(spec) for spec in specs]
    try:
        while not stop.is_set():
            if reload is not None and reload.is_set():
                reload.clear()
                for child in children:
                    child.pass_hangup()
            for child in children:
                child.look(time.monotonic())
            stop.wait(LOOK_EVERY_S)
    finally:
        for child in children:
            child.ask_to_stop()
        deadline_s = time.monotonic() + drain_s
        for child in children:
            child.wait(deadline_s)
