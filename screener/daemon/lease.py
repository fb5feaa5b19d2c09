"""Keep a claim alive while its work goes on, and end the work in time, from threads beside it."""

from __future__ import annotations

import os
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

from screener.daemon.beside import working_beside
from screener.errors import DatabaseUnavailable, LostClaim, ScreenerError
from screener.logs import get_log

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

#: Extensions per lease: two may fail before the claim expires.
EXTENSIONS_PER_LEASE = 3
#: How often a worker looks whether it is to stop, in seconds.
LOOK_EVERY_S = 0.5


@contextmanager
def kept_alive(extend: Callable[[], None], lease_s: float) -> Iterator[threading.Event]:
    """Call `extend` three times per lease until the block ends.

    Parameters
    ----------
    extend
        Extends the lease; raises `LostClaim` when somebody else holds the claim now.
    lease_s
        Length of the lease.

    Yields
    ------
    :
        An event that is set once the claim is lost. The work may look at it to stop early; what
        decides is the fencing token, when the result is written.
    """
    lost = threading.Event()

    def keep(done: threading.Event) -> None:
        while not done.wait(lease_s / EXTENSIONS_PER_LEASE):
            try:
                extend()
            except LostClaim:
                lost.set()
                return
            except DatabaseUnavailable:
                get_log().warning("lease_not_extended", reason="database unavailable")

    with working_beside(keep, "lease"):
        yield lost


@contextmanager
def ended_in_time(
    stop: threading.Event | None, drain_s: float, hand_back: Callable[[], None]
) -> Iterator[None]:
    """Let the block go on for `drain_s` after `stop` is set; then hand the work back and end.

    Inference cannot be interrupted, so the process ends at once, with exit code 0; whatever it
    would still have written is fenced by the claim that it handed back.

    Parameters
    ----------
    hand_back
        Gives the claim back; where that fails, the lease expires by itself.
    """
    if stop is None:
        yield
        return

    def watch(done: threading.Event) -> None:
        while not done.wait(LOOK_EVERY_S) and not stop.is_set():
            pass
        if done.wait(drain_s):
            return
        try:
            hand_back()
        except ScreenerError as error:
            get_log().warning("run_not_returned", error=type(error).__name__)
        os._exit(0)

    with working_beside(watch, "drain"):
        yield
