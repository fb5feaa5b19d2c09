"""Who decodes a frame: this process, or a child with limits.

`Decoders` keeps a few children and hands each one frame at a time. A child that takes too much
time or memory is ended, the frame is `UnsafePixels`, and the next frame gets a new child: neither
the worker nor its models are touched (ADR 25).
"""

import fcntl
import os
import queue
import select
import struct
import subprocess
import sys
import time
import weakref
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from screener.assemble.codecs import CellFormat
from screener.errors import UnreadablePixels, UnsafePixels

#: Memory that decoding may take beyond what the child has at its start, bytes: two frames of the
#: largest matrix, decoded and on their way.
MORE_MEMORY_BYTES = 2 << 30
#: Processor time of one frame: at least, and for each million pixels, in seconds. Real slices take
#: hundredths.
_LEAST_CPU_S = 5.0
_CPU_S_PER_MEGAPIXEL = 2.0
#: A child may be away from the processor: so many times its limit is waited for it.
_PATIENCE = 12.0

#: rows, columns, bits allocated, bits stored, signed, length of the syntax, length of the stream
REQUEST = struct.Struct("<IIHH?xHQ")
#: numpy's name of the values, or "refused"; length of values or text
ANSWER = struct.Struct("<8sQ")

_PIPE_BYTES = 1 << 20
_F_SETPIPE_SZ = 1031


class FrameDecoder(Protocol):
    """Decodes one compressed frame; see `codecs.decode_frame`."""

    def __call__(
        self, encoded: bytes, cell_format: CellFormat, transfer_syntax_uid: str
    ) -> NDArray[np.integer]:
        """Give stored values, ``(rows, columns)``, or raise `UnreadablePixels`."""


def cpu_limit_s(n_pixels: int) -> float:
    """Give how much processor time a frame may take, in seconds."""
    return _LEAST_CPU_S + _CPU_S_PER_MEGAPIXEL * n_pixels / 1e6


class Decoders:
    """A few decoding children, started when they are first needed.

    Parameters
    ----------
    n_children
        How many frames are decoded at a time.
    """

    def __init__(self, n_children: int) -> None:
        # Last in, first out: what works alone works with one child.
        self._idle: queue.LifoQueue[_Child | None] = queue.LifoQueue()
        for _ in range(n_children):
            self._idle.put(None)
        self._n_children = n_children
        self._started: list[_Child] = []
        # Children end with this object, or with the process at the latest.
        weakref.finalize(self, _close_all, self._started)

    def __call__(
        self, encoded: bytes, cell_format: CellFormat, transfer_syntax_uid: str
    ) -> NDArray[np.integer]:
        """Decode one frame in a child.

        Raises
        ------
        UnsafePixels
            It took too much time or memory, or ended the decoder.
        UnreadablePixels
            It is damaged, or of another size than the header says.
        """
        child = self._idle.get()
        try:
            if child is None or not child.is_alive():
                child = self._start()
            return child.decode(encoded, cell_format, transfer_syntax_uid)
        except _ChildEnded as error:
            self._end(child)
            child = None
            raise UnsafePixels(
                f"a frame in transfer syntax {transfer_syntax_uid} took more time or memory than a "
                "slice may, or ended the decoder"
            ) from error
        finally:
            self._idle.put(child)

    def _start(self) -> "_Child":
        child = _Child()
        self._started.append(child)
        return child

    def _end(self, child: "_Child | None") -> None:
        if child is not None:
            child.close()
            self._started.remove(child)


def _close_all(children: "list[_Child]") -> None:
    for child in children:
        child.close()


class _ChildEnded(Exception):
    """The child is gone, or does not answer in time."""


class _Child:
    """One decoding process."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "screener.assemble.decoding_child"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
            # One frame at a time, and no settings, passwords or tokens: it needs none.
            env={"PATH": os.environ.get("PATH", ""), "OPENBLAS_NUM_THREADS": "1"},
        )
        _widen(self._process)

    def is_alive(self) -> bool:
        """Whether it can be asked."""
        return self._process.poll() is None

    def decode(
        self, encoded: bytes, cell_format: CellFormat, transfer_syntax_uid: str
    ) -> NDArray[np.integer]:
        """Ask for one frame and wait for it."""
        syntax = transfer_syntax_uid.encode("ascii")
        head = REQUEST.pack(
            cell_format.rows,
            cell_format.columns,
            cell_format.bits_allocated,
            cell_format.bits_stored,
            cell_format.is_signed,
            len(syntax),
            len(encoded),
        )
        n_pixels = cell_format.rows * cell_format.columns
        deadline_s = time.monotonic() + _PATIENCE * cpu_limit_s(n_pixels)
        self._send(head + syntax)
        self._send(encoded)
        kind, n_bytes = ANSWER.unpack(self._receive(ANSWER.size, deadline_s))
        if n_bytes > 8 * n_pixels + 1000:
            raise _ChildEnded
        body = self._receive(n_bytes, deadline_s)
        if kind == b"refused ":
            raise UnreadablePixels(body.decode("utf-8", "replace"))
        cells: NDArray[np.integer] = np.frombuffer(body, dtype=kind.decode("ascii").strip())
        return cells.reshape(cell_format.rows, cell_format.columns)

    def close(self) -> None:
        """End it, whatever it does."""
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                stream.close()

    def _send(self, content: bytes) -> None:
        stream = self._process.stdin
        try:
            with memoryview(content) as left:
                start = 0
                while stream is not None and start < len(left):
                    start += stream.write(left[start:]) or 0
        except OSError as error:
            raise _ChildEnded from error

    def _receive(self, n_bytes: int, deadline_s: float) -> bytearray:
        stream = self._process.stdout
        content = bytearray(n_bytes)
        start = 0
        with memoryview(content) as view:
            while stream is not None and start < n_bytes:
                left_s = deadline_s - time.monotonic()
                if left_s <= 0 or not select.select([stream], [], [], left_s)[0]:
                    raise _ChildEnded
                n_new = stream.readinto(view[start:])  # type: ignore[attr-defined]
                if not n_new:
                    raise _ChildEnded
                start += n_new
        return content


def _widen(process: "subprocess.Popen[bytes]") -> None:
    """Let a whole slice fit into the pipes, so that neither side waits for the other."""
    for stream in (process.stdin, process.stdout):
        if stream is not None:
            fcntl.fcntl(stream.fileno(), _F_SETPIPE_SZ, _PIPE_BYTES)
