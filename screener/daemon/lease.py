"""Keep a claim alive while its work goes on, from a thread beside the work."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

from screener.errors import DatabaseUnavailable, LostClaim
from screener.logs import get_log

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

#: Extensions per lease: two may fail before the claim expires.
EXTENSIONS_PER_LEASE = 3


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
    done = threading.Event()
    lost = threading.Event()

    def keep() -> None:
        while not done.wait(lease_s / EXTENSIONS_PER_LEASE):
            try:
                extend()
            except LostClaim:
                lost.set()
                return
            except DatabaseUnavailable:
                get_log().warning("lease_not_extended", reason="database unavailable")

    thread = threading.Thread(target=keep, name="lease", daemon=True)
    thread.start()
    try:
        yield lost
    finally:
        done.set()
        thread.join()
