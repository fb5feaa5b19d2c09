"""A whole node as a set of killable processes, embedded or on Redis and PostgreSQL.

The embedded node is one ``screener serve``, whose supervisor restarts what dies. The production
node is what systemd would run: each part on its own, started again a second after it died.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Self

from sqlalchemy.exc import SQLAlchemyError

from screener.audit.database import Database
from screener.audit.queries import StudyStatus, study_status
from screener.errors import Transient
from tests.acceptance.conftest import Pacs, write_settings
from tests.acceptance.process_tree import command_of, descendants
from tests.integration.processes import free_port, run_screener, running, wait_until

if TYPE_CHECKING:
    import subprocess

#: A restarted process stays down this long, as systemd's RestartSec would have it, in seconds.
RESTART_AFTER_S = 1.0
#: How often the keeper looks at its processes, in seconds.
_LOOK_EVERY_S = 0.2


class Engine(Enum):
    """Who says "look": a poll, or a message."""

    EMBEDDED = "embedded"
    """``screener serve`` on SQLite, no broker."""
    CELERY = "celery"
    """Listener, Celery workers and beat on Redis, rows in PostgreSQL."""


class Role(Enum):
    """A process that can be hit."""

    LISTENER = "listener"
    WORKER = "worker"
    SENDER = "sender"
    SCHEDULER = "scheduler"


_EMBEDDED_COMMANDS = {
    Role.LISTENER: "screener listen",
    Role.WORKER: "screener work",
    Role.SENDER: "screener deliver",
    Role.SCHEDULER: "screener schedule",
}
_CELERY = (sys.executable, "-m", "celery", "-A", "workers.app")


@dataclass(frozen=True, slots=True)
class Services:
    """Where the node's database and broker are; the broker's URL is empty when embedded."""

    database_url: str
    broker_url: str = ""


@dataclass
class ChaosNode:
    """A running node, what it was told, and how to hit it.

    ``settings`` are variables for its processes and its commands, ``environment`` for the processes
    alone. With `is_log_full` every write of a process to its log fails.
    """

    folder: Path
    engine: Engine
    services: Services
    settings: dict[str, str] = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=dict)
    is_log_full: bool = False
    port: int = field(default_factory=free_port)
    _stack: ExitStack = field(default_factory=ExitStack)
    _kept: dict[str, _Kept] = field(default_factory=dict)
    _stop: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> Self:
        self.folder.mkdir(parents=True, exist_ok=True)
        write_settings(
            self.folder,
            self.port,
            self.services.database_url,
            self.services.broker_url,
            (Pacs("pacs", "TESTPACS", 1),),
        )
        upgrade = self.screener("db", "upgrade")
        if upgrade.returncode != 0:
            raise RuntimeError(upgrade.stderr)
        for name, arguments in self._processes().items():
            self._kept[name] = _Kept(name, arguments)
        self._stack.callback(self._end_all)
        keeper = threading.Thread(target=self._keep, daemon=True)
        keeper.start()
        self._stack.callback(keeper.join)
        self._stack.callback(self._stop.set)
        try:
            wait_until(self.ready_file.exists, "the node listens", 120)
        except BaseException:
            self._stack.close()  # a node that never came up must not stay behind
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @property
    def settings_file(self) -> Path:
        return self.folder / "screener.toml"

    @property
    def data(self) -> Path:
        return self.folder / "data"

    @property
    def ready_file(self) -> Path:
        return self.data / "listener.json"

    def screener(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run one command of the command line against this node, without its faults."""
        return run_screener(*arguments, environment=self._command_environment(), limit_s=900)

    def start_extra(self, name: str, *arguments: str) -> None:
        """Start one more process that nobody planned for: a second scheduler, a second sender."""
        self._kept[name] = _Kept(name, (sys.executable, "-m", "screener", *arguments))

    def pids(self, role: Role) -> list[int]:
        """Give the processes of a role, as they are now."""
        if self.engine is Engine.CELERY:
            names = {Role.LISTENER: "listener", Role.SCHEDULER: "beat"}
            wanted = names.get(role, "worker")
            kept = [one for name, one in self._kept.items() if name.startswith(wanted)]
            return [one.process.pid for one in kept if one.process and one.process.poll() is None]
        serve = self._kept["serve"].process
        if serve is None:
            return []
        ending = _EMBEDDED_COMMANDS[role]
        return [pid for pid in descendants(serve.pid) if command_of(pid).rstrip().endswith(ending)]

    def hit(self, role: Role, number: signal.Signals = signal.SIGKILL) -> int:
        """Signal every process of a role with its children; give how many were hit."""
        n_hit = 0
        for pid in self.pids(role):
            for one in (pid, *descendants(pid)):
                try:
                    os.kill(one, number)
                except ProcessLookupError:
                    continue
                n_hit += 1
        return n_hit

    def status(self, study_instance_uid: str) -> StudyStatus | None:
        """Say where a study stands; None also while the database cannot be asked."""
        database = Database(self.services.database_url)
        try:
            return study_status(database, study_instance_uid)
        except (Transient, SQLAlchemyError):
            return None
        finally:
            database.dispose()

    def logs(self) -> str:
        """Give all that the processes have logged so far."""
        return "\n".join(path.read_text(errors="replace") for path in self.folder.glob("*.log"))

    def _processes(self) -> dict[str, tuple[str, ...]]:
        if self.engine is Engine.EMBEDDED:
            return {"serve": (sys.executable, "-m", "screener", "serve")}
        worker = (*_CELERY, "worker", "-c", "1", "-Q")
        return {
            "listener": (sys.executable, "-m", "screener", "listen"),
            "worker-a": (*worker, "stat,routine", "-n", "a@%h"),
            "worker-b": (*worker, "stat,routine,deliver,sweep", "-n", "b@%h"),
            "worker-c": (*worker, "deliver,sweep", "-n", "c@%h"),
            "beat": (*_CELERY, "beat", "-s", str(self.folder / "beat"), "--pidfile="),
        }

    def _keep(self) -> None:
        """Start what is down, a moment after it went down."""
        while not self._stop.wait(_LOOK_EVERY_S):
            for one in tuple(self._kept.values()):
                log = Path("/dev/full") if self.is_log_full else self.folder / f"{one.name}.log"
                one.look(log, {**self._command_environment(), **self.environment})

    def _command_environment(self) -> dict[str, str]:
        return {"SCREENER_SETTINGS": str(self.settings_file), **self.settings}

    def _end_all(self) -> None:
        for one in self._kept.values():
            one.stack.close()


@dataclass
class _Kept:
    """One process that is started again when it ends."""

    name: str
    arguments: tuple[str, ...]
    process: subprocess.Popen[bytes] | None = None
    stack: ExitStack = field(default_factory=ExitStack)
    _down_since_s: float | None = None

    def look(self, log: Path, environment: dict[str, str]) -> None:
        """Start it where it is down."""
        if self.process is not None and self.process.poll() is None:
            return
        now_s = time.monotonic()
        if self.process is not None:
            if self._down_since_s is None:
                self._down_since_s = now_s
            if now_s - self._down_since_s < RESTART_AFTER_S:
                return
        self.stack.close()
        self._down_since_s = None
        self.process = self.stack.enter_context(running(self.arguments, log, environment))
