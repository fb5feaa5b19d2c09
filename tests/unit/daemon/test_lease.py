"""A lease is extended while the work goes on, and a lost one is told."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

from screener.daemon.lease import ended_in_time, kept_alive
from screener.errors import DatabaseUnavailable, LostClaim


def test_lease_is_extended_until_the_work_ends() -> None:
    """Three extensions come within the block, none after it."""
    extensions = threading.Semaphore(0)
    calls = []

    def extend() -> None:
        calls.append(1)
        extensions.release()

    with kept_alive(extend, lease_s=0.03) as lost:
        for _ in range(3):
            assert extensions.acquire(timeout=5)
    n_calls = len(calls)
    threading.Event().wait(0.1)

    assert not lost.is_set()
    assert len(calls) == n_calls


def test_lost_claim_is_told_to_the_work() -> None:
    """The event is set as soon as an extension finds the claim gone."""

    def extend() -> None:
        raise LostClaim("taken by another worker")

    with kept_alive(extend, lease_s=0.03) as lost:
        assert lost.wait(5)


def test_unreachable_database_does_not_end_the_extensions() -> None:
    """A database that is away for a moment is asked again."""
    calls = threading.Semaphore(0)

    def extend() -> None:
        calls.release()
        raise DatabaseUnavailable("away")

    with kept_alive(extend, lease_s=0.03) as lost:
        assert calls.acquire(timeout=5)
        assert calls.acquire(timeout=5)
        assert not lost.is_set()


def test_run_in_hand_is_handed_back_when_the_node_stops(tmp_path: Path) -> None:
    """A worker that is told to stop and whose run takes too long gives it back and ends."""
    code = f"""
import threading
from pathlib import Path
from screener.daemon.lease import ended_in_time
stop = threading.Event()
stop.set()
with ended_in_time(stop, 0.1, lambda: Path({str(tmp_path / "handed-back")!r}).touch()):
    threading.Event().wait()
"""
    ended = subprocess.run([sys.executable, "-c", code], check=False, timeout=120)
    assert ended.returncode == 0
    assert (tmp_path / "handed-back").exists()


def test_run_that_ends_in_time_is_left_alone() -> None:
    """Within its time nothing is handed back, and the process goes on."""
    stop, handed_back = threading.Event(), threading.Event()
    with ended_in_time(stop, 3600, handed_back.set):
        stop.set()
    assert not handed_back.is_set()
    with ended_in_time(None, 0.01, handed_back.set):
        pass
    assert not handed_back.is_set()
