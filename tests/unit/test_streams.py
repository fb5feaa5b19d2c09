"""Standard streams that nobody takes: lost and counted, never an error."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import closing
from pathlib import Path

from screener.streams import LossyFile

LONG = bytes(1 << 20)

TWICE = """
import os, sys
from screener.streams import is_log_lost, lose_what_nobody_takes
mended = os.dup(2)
os.dup2(os.open("/dev/full", os.O_WRONLY), 2)
lose_what_nobody_takes()
lose_what_nobody_takes()
print("lost", file=sys.stderr)
was_lost = is_log_lost()
os.dup2(mended, 2)
print("kept", file=sys.stderr)
print(was_lost, is_log_lost(), flush=True)
"""


def test_full_disk_is_no_error_and_is_known() -> None:
    """What was written meanwhile is gone; the next line that gets through ends it."""
    ended = subprocess.run(
        [sys.executable, "-c", TWICE], capture_output=True, text=True, check=False, timeout=60
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "True False\n", "kept\n")


def test_line_after_one_that_was_cut_stands_by_itself() -> None:
    """Half a line may be out when the disk is full: what follows does not continue it."""
    reading, writing = os.pipe()
    os.set_blocking(writing, False)  # a pipe that nobody empties refuses, as a full disk does
    with closing(LossyFile(writing)) as lossy, os.fdopen(reading, "rb", buffering=0) as reader:
        assert lossy.write(LONG) == len(LONG)
        assert (lossy.n_lost, lossy.is_failing) == (1, True)
        taken = reader.read(len(LONG))
        lossy.write(b"next\n")
        assert not lossy.is_failing
        assert taken.strip(b"\0") == b""
        assert reader.read(100) == b"\nnext\n"
    os.close(writing)


def test_descriptor_stays_open(tmp_path: Path) -> None:
    """Closing the object leaves the standard stream to those who share it."""
    with (tmp_path / "log").open("wb") as log:
        LossyFile(log.fileno()).close()
        os.write(log.fileno(), b"still open")
