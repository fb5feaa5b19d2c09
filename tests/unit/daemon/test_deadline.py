"""A process that hangs ends itself; one that does not goes on."""

from __future__ import annotations

import subprocess
import sys

from screener.daemon.deadline import STUCK_EXIT_CODE, ended_if_stuck

HANGS = """
import threading
from screener.daemon.deadline import ended_if_stuck
with ended_if_stuck(0.1, "test"):
    threading.Event().wait()
"""


def test_process_that_hangs_is_ended_with_a_word() -> None:
    """Whatever it waits for, and in whichever thread: it ends with a code of its own."""
    ended = subprocess.run(
        [sys.executable, "-c", HANGS], capture_output=True, text=True, check=False, timeout=120
    )
    assert ended.returncode == STUCK_EXIT_CODE
    assert "process_stuck" in ended.stdout + ended.stderr


def test_block_that_ends_is_forgotten() -> None:
    """The time limit of a block that has ended ends nobody: this process would be gone."""
    for _ in range(100):
        with ended_if_stuck(60.0, "test"):
            pass
