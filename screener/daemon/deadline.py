"""End a process whose work hangs in a library; whoever supervises starts another.

Associations of pynetdicom wait without limit for a thread of their own; where that thread dies, no
time limit of theirs counts any more. Inference that never returns cannot be interrupted at all.
"""

from __future__ import annotations

import faulthandler
import os
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from screener.daemon.beside import working_beside
from screener.errors import ScreenerError, StepHung
from screener.logs import get_log

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

#: Exit code of a process that ended itself because it hung: an internal error (sysexits).
STUCK_EXIT_CODE = 70
#: How often the step in hand is looked at, in seconds.
LOOK_EVERY_S = 0.5
#: What is done before a process ends may take so long, in seconds.
LAST_WORDS_S = 30.0
#: The descriptor of standard error.
_STDERR = 2


@contextmanager
def ended_if_stuck(limit_s: float, what: str) -> Iterator[None]:
    """End this process at once if the block takes longer than `limit_s` seconds.

    Every claim survives that: its lease expires, and its fencing token is passed by.
    """
    timer = threading.Timer(limit_s, _end, (what, limit_s))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


@contextmanager
def ended_if_no_thread_runs(limit_s: float) -> Iterator[None]:
    """End this process where for `limit_s` seconds no thread of the block's process gets a turn.

    A library that hangs with Python's lock in its hand lets no timer of ours run; the watchdog of
    the interpreter needs no lock, and is put off for as long as threads run. There is one for a
    process: not for one that works on runs meanwhile.
    """

    def put_off(done: threading.Event) -> None:
        while not done.is_set():
            faulthandler.dump_traceback_later(limit_s, exit=True, file=_STDERR)
            done.wait(limit_s / 4)

    try:
        with working_beside(put_off, "pulse"):
            yield
    finally:
        faulthandler.cancel_dump_traceback_later()


@dataclass(frozen=True, slots=True)
class _Step:
    after: str
    limit_s: float
    end_s: float  #: monotonic


class Steps:
    """The step in hand and when it has to end."""

    def __init__(self) -> None:
        self.current: _Step | None = None

    def begin(self, after: str, limit_s: float) -> None:
        """Let a step begin, which ends the one before.

        Parameters
        ----------
        after
            What came before, for people.
        limit_s
            How long it may take.
        """
        self.current = _Step(after, limit_s, time.monotonic() + limit_s)
        # A library that hangs with Python's lock in its hand lets no thread of ours look.
        faulthandler.dump_traceback_later(limit_s + LAST_WORDS_S, exit=True, file=_STDERR)

    @property
    def hung(self) -> _Step | None:
        """The step in hand where its time is over."""
        step = self.current
        return step if step is not None and time.monotonic() > step.end_s else None


@contextmanager
def ended_if_a_step_hangs(give_up: Callable[[StepHung], None]) -> Iterator[Steps]:
    """End this process when a step of the block takes longer than it may.

    Parameters
    ----------
    give_up
        Told why before the process ends; where that fails or hangs too, the lease expires.

    Yields
    ------
    :
        What the block tells of its steps; until it tells of one there is no limit.
    """
    steps = Steps()

    def watch(done: threading.Event) -> None:
        while not done.wait(LOOK_EVERY_S):
            step = steps.hung
            if step is not None:
                _give_up(step, give_up)

    with working_beside(watch, "steps"):
        try:
            yield steps
        finally:
            faulthandler.cancel_dump_traceback_later()


def _give_up(step: _Step, tell: Callable[[StepHung], None]) -> None:
    text = f"the step after {step.after} took longer than {step.limit_s:g} s; its process was ended"
    try:
        tell(StepHung(text))
    except ScreenerError as error:
        get_log().warning("run_not_returned", error=type(error).__name__)
    _end(f"step after {step.after}", step.limit_s)


def _end(what: str, limit_s: float) -> None:
    get_log().error("process_stuck", kind=what, seconds=limit_s)
    os._exit(STUCK_EXIT_CODE)
