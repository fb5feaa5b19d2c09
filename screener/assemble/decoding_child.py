"""The process that decodes: frames in, stored values out, within limits of memory and time.

A code stream can make a decoder take any memory or time, or end its process. Here that costs this
process alone: its address space has a bound, each frame may take so much processor time, and
whoever waits for it (`decoders.py`) notices its end.

Run as ``python -m screener.assemble.decoding_child`` with a request on standard input and the
answer on standard output, one after the other; ends with the input.
"""

import os
import resource
import sys
from typing import BinaryIO

from screener.assemble.codecs import CellFormat, decode_frame
from screener.assemble.decoders import ANSWER, MORE_MEMORY_BYTES, REQUEST, cpu_limit_s
from screener.errors import UnreadablePixels

#: Longest text of a refusal, bytes.
_MOST_TEXT_BYTES = 500


def main() -> None:
    """Serve until the input ends."""
    requests, answers = sys.stdin.buffer, _private_output()
    _limit_memory()
    while head := _read(requests, REQUEST.size):
        rows, columns, allocated, stored, is_signed, n_syntax, n_bytes = REQUEST.unpack(head)
        syntax = _read(requests, n_syntax).decode("ascii")
        encoded = _read(requests, n_bytes)
        _limit_time(rows * columns)
        cell_format = CellFormat(rows, columns, allocated, stored, is_signed)
        try:
            cells = decode_frame(encoded, cell_format, syntax)
        except UnreadablePixels as error:
            text = str(error).encode()[:_MOST_TEXT_BYTES]
            _write(answers, ANSWER.pack(b"refused ", len(text)), text)
        else:
            _write(
                answers, ANSWER.pack(cells.dtype.str.encode().ljust(8), cells.nbytes), cells.data
            )


def _private_output() -> BinaryIO:
    """Keep standard output for answers; whatever a decoder prints goes nowhere."""
    kept = os.dup(1)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    os.close(nowhere)
    return os.fdopen(kept, "wb", buffering=0)


def _limit_memory() -> None:
    with open("/proc/self/statm", encoding="ascii") as file:  # noqa: PTH123
        now_bytes = int(file.read().split()[0]) * resource.getpagesize()
    bound = now_bytes + MORE_MEMORY_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (bound, bound))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # pixels of patients


def _limit_time(n_pixels: int) -> None:
    """Let the kernel end this process where one frame takes too much processor time."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    soft = int(used.ru_utime + used.ru_stime + cpu_limit_s(n_pixels)) + 1
    resource.setrlimit(resource.RLIMIT_CPU, (soft, resource.RLIM_INFINITY))


def _read(stream: BinaryIO, n_bytes: int) -> bytes:
    content = stream.read(n_bytes)
    return content if len(content) == n_bytes else b""


def _write(stream: BinaryIO, head: bytes, body: bytes | memoryview) -> None:
    stream.write(head)
    with memoryview(body).cast("B") as left:
        start = 0
        while start < len(left):
            start += stream.write(left[start:])


if __name__ == "__main__":
    main()
