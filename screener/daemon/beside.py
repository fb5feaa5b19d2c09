"""A thread that works beside a block and ends with it."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@contextmanager
def working_beside(work: Callable[[threading.Event], None], name: str) -> Iterator[None]:
    """Run `work` in a thread of its own until the block ends.

    Parameters
    ----------
    work
        Gets an event that is set once the block has ended, and then comes back soon.
    name
        Of the thread, for whoever looks at a process.
    """
    done = threading.Event()
    thread = threading.Thread(target=work, args=(done,), name=name, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
