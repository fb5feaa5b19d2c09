"""End a process whose work hangs in a library; whoever supervises starts another.

Associations of pynetdicom wait without limit for a thread of their own; where that thread dies, no
time limit of theirs counts any more, and nothing that runs beside it can end the wait.
"""

from __future__ import annotations

import os
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

from screener.logs import get_log

if TYPE_CHECKING:
    from collections.abc import Iterator

#: Exit code of a process that ended itself because it hung: an internal error (sysexits).
STUCK_EXIT_CODE = 70


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


def _end(what: str, limit_s: float) -> None:
    get_log().error("process_stuck", kind=what, seconds=limit_s)
    os._exit(STUCK_EXIT_CODE)
