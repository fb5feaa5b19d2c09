"""Faults on purpose at named places, for tests; off in every other process.

A fail-point is armed by `testing.fail_points`, as ``name=action`` or ``name=action*times``, and
fires that many times in the whole site: marker files count, so that a process that was killed and
started again does not die for ever.
"""

from __future__ import annotations

import os
import signal
import threading
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from screener.errors import ConfigError, DatabaseUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from screener.settings import Settings


class FailPoint(StrEnum):
    """Places where a fault can be forced; numbers are those of the list of faults to survive."""

    BEFORE_ROW = "listener.before-row"  #: 1: the file has its name, no row yet
    AFTER_ROW = "listener.after-row"  #: 1: the row is committed, the sender has no answer yet
    AFTER_CLAIM = "worker.after-claim"  #: 2: claimed, nothing done
    MID_RUN = "worker.mid-run"  #: 2, 3: the lungs are found, the slices are not classified
    BEFORE_REPORT = "worker.before-report"  #: 2: decided, no object built
    MID_RESULTS = "results.object-stored"  #: 2: one object is stored, others are not
    AFTER_RESULTS = "worker.after-results"  #: 2: every object is stored, no row yet
    AFTER_COMMIT = "worker.after-commit"  #: 2: the rows are committed, nobody was rung for
    MID_SWEEP = "scheduler.mid-sweep"  #: studies are complete, nobody was rung for
    BEFORE_SEND = "sender.before-send"  #: the delivery is claimed, nothing sent
    AFTER_SEND = "sender.after-send"  #: the destination has it, the row does not say so
    AFTER_SENT = "sender.after-sent"  #: the row says sent, nobody has asked yet


class FailAction(StrEnum):
    """What happens there."""

    KILL = "kill"  #: as the kernel kills for memory: without a word
    CRASH = "crash"  #: a segmentation fault
    HANG = "hang"  #: for ever; the lease is kept until the step's time is over
    STOP = "stop"  #: SIGSTOP, as a paused machine: the lease expires
    DATABASE = "database"  #: as if the database were away


@dataclass(frozen=True, slots=True)
class FailPoints:
    """The armed fail-points of this site; none is the rule."""

    armed: tuple[tuple[FailPoint, FailAction, int], ...]
    folder: Path  #: of the marker files

    def reach(self, point: FailPoint) -> None:
        """Pass a place; what is armed there happens now.

        Raises
        ------
        DatabaseUnavailable
            As the test wishes.
        """
        for name, action, times in self.armed:
            if name is point and self._is_taken(point, times):
                _ACTIONS[action]()

    def _is_taken(self, point: FailPoint, times: int) -> bool:
        self.folder.mkdir(parents=True, exist_ok=True)
        for number in range(times):
            try:
                (self.folder / f"{point.value}.{number}").touch(exist_ok=False)
            except FileExistsError:
                continue
            return True
        return False


def fail_points_of(settings: Settings) -> FailPoints:
    """Read what the settings arm.

    Raises
    ------
    ConfigError
        There is no such place, or no such action.
    """
    armed = tuple(_parse(text) for text in settings.testing.fail_points)
    return FailPoints(armed, settings.data_path / "fail-points")


def _parse(text: str) -> tuple[FailPoint, FailAction, int]:
    name, _, rest = text.partition("=")
    action, _, times = rest.partition("*")
    try:
        return FailPoint(name), FailAction(action), int(times or 1)
    except ValueError as error:
        raise ConfigError(
            f"testing.fail_points: {text!r} is none; write name=action or name=action*times with "
            f"a name of {', '.join(FailPoint)} and an action of {', '.join(FailAction)}"
        ) from error


def _kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _crash() -> None:
    os.kill(os.getpid(), signal.SIGSEGV)


def _stop() -> None:
    os.kill(os.getpid(), signal.SIGSTOP)


def _hang() -> None:
    threading.Event().wait()


def _database() -> None:
    raise DatabaseUnavailable("a test took the database away")


_ACTIONS: dict[FailAction, Callable[[], None]] = {
    FailAction.KILL: _kill,
    FailAction.CRASH: _crash,
    FailAction.HANG: _hang,
    FailAction.STOP: _stop,
    FailAction.DATABASE: _database,
}
