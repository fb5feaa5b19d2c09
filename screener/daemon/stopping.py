"""When a process should stop: a signal, or the end of the supervisor that started it.

A supervised child holds the reading end of a pipe as its standard input. Whatever ends the
supervisor, ``kill -9`` included, closes the pipe, and the child stops: nothing is left behind.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import FrameType

#: Set by the supervisor in the environment of its children.
SUPERVISED_VARIABLE = "SCREENER_SUPERVISED"


def stop_event_of_process(environment: Mapping[str, str] = os.environ) -> threading.Event:
    """Give an event that is set by SIGTERM, SIGINT, or the end of the supervisor.

    Call once, from the main thread of a process.
    """
    stop = threading.Event()

    def on_signal(number: int, frame: FrameType | None) -> None:
        del number, frame
        stop.set()

    signal.signal(signal.SIGTERM, on_signal)
    signal.signal(signal.SIGINT, on_signal)
    if environment.get(SUPERVISED_VARIABLE) == "1":
        threading.Thread(
            target=_wait_for_end_of_input, args=(stop,), name="supervisor-watch", daemon=True
        ).start()
    return stop


def reload_event_of_process() -> threading.Event:
    """Give an event that is set by SIGHUP; at a terminal SIGHUP keeps its meaning, the end.

    Call once, from the main thread of a process.
    """
    reload = threading.Event()

    def on_signal(number: int, frame: FrameType | None) -> None:
        del number, frame
        reload.set()

    if not (sys.__stdin__ and sys.__stdin__.isatty()):
        signal.signal(signal.SIGHUP, on_signal)
    return reload


def _wait_for_end_of_input(stop: threading.Event) -> None:
    # os.read, not sys.stdin: a buffered reader would hold a lock at interpreter exit.
    descriptor = sys.__stdin__.fileno() if sys.__stdin__ else None
    while descriptor is not None and os.read(descriptor, 1):
        pass
    stop.set()
