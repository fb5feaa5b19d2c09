"""Standard streams that nobody may be able to take: a full disk, a reader that is gone.

The work of a node goes on without its log; what was lost is counted, and is an alert.
"""

from __future__ import annotations

import io
import os
import sys

#: Where the standard streams of a process lead when nobody can take them.
_STREAMS = ("stdout", "stderr")


class LossyFile(io.RawIOBase):
    """Writes to a descriptor; what it does not take is lost, and no error.

    ``n_lost`` counts the writes that did not get through, ``is_failing`` says whether the last one
    was of those.
    """

    def __init__(self, descriptor: int) -> None:
        super().__init__()
        self._descriptor = descriptor
        self._is_cut = False  # part of a line is out, its end is lost
        self.n_lost = 0
        self.is_failing = False

    def fileno(self) -> int:
        """Give the descriptor, which stays open with this object closed."""
        return self._descriptor

    def isatty(self) -> bool:
        """Say whether a person reads it."""
        return os.isatty(self._descriptor)

    def writable(self) -> bool:
        """Say yes, whatever becomes of it."""
        return True

    def write(self, content: object, /) -> int:
        """Write everything or lose the rest; after a loss a new line starts."""
        whole = memoryview(content).cast("B")  # type: ignore[arg-type]
        rest = memoryview(b"\n" + whole) if self._is_cut else whole
        n_all = len(rest)
        try:
            while len(rest):
                rest = rest[os.write(self._descriptor, rest) :]
        except OSError:
            self.n_lost += 1
            self.is_failing = True
            self._is_cut = self._is_cut or len(rest) < n_all
        else:
            self.is_failing = self._is_cut = False
        return len(whole)


def lose_what_nobody_takes(*names: str) -> None:
    """Let these standard streams of this process, ``stdout`` or ``stderr``, never raise."""
    for name in names or _STREAMS:
        stream = getattr(sys, name)
        try:
            descriptor = stream.fileno()
        except (AttributeError, OSError):  # there is none, or somebody has put another in its place
            continue
        if isinstance(stream.buffer, LossyFile):
            continue
        lossy = io.TextIOWrapper(
            LossyFile(descriptor),  # type: ignore[type-var]
            encoding=stream.encoding,
            errors="backslashreplace",
            line_buffering=True,
        )
        if getattr(sys, f"__{name}__") is stream:  # else somebody borrows it, and gives it back
            setattr(sys, f"__{name}__", lossy)
        setattr(sys, name, lossy)


def is_log_lost() -> bool:
    """Say whether the last line of this process's log could not be written."""
    raw = getattr(sys.stderr, "buffer", None)
    return isinstance(raw, LossyFile) and raw.is_failing
