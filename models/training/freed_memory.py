"""Keep what is freed for the next step, instead of handing it back to the operating system.

A training step allocates and frees gigabytes of activations. glibc maps every large one anew, and
the kernel clears its pages again each time: a sixth of the processor time of a small network on two
cores (docs/reference/research-figures.md).
"""

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager

#: Options of `mallopt(3)`, from malloc.h, while training and as glibc begins; once set, glibc no
#: longer lets its thresholds grow.
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX = -1, -2, -4
_KEEPING = {_TRIM_THRESHOLD: 2**31 - 1, _TOP_PAD: 2**28, _MMAP_MAX: 0}
_AS_EVER = {_TRIM_THRESHOLD: 2**17, _TOP_PAD: 2**17, _MMAP_MAX: 2**16}


@contextmanager
def freed_memory_kept() -> Iterator[None]:
    """Let freed memory stay with this process; at the end it is handed back.

    Nothing changes where the C library has no `mallopt`.
    """
    library = ctypes.CDLL(None)
    if not hasattr(library, "mallopt"):
        yield
        return
    _set(library, _KEEPING)
    try:
        yield
    finally:
        _set(library, _AS_EVER)
        library.malloc_trim(0)


def _set(library: ctypes.CDLL, options: dict[int, int]) -> None:
    for option, value in options.items():
        library.mallopt(option, value)
