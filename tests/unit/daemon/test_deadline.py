"""A process that hangs ends itself; one that does not goes on."""

from __future__ import annotations

import faulthandler
import subprocess
import sys
import threading
from typing import TYPE_CHECKING

import pytest

from screener.audit.queries import run_status
from screener.daemon.deadline import (
    STUCK_EXIT_CODE,
    ended_if_a_step_hangs,
    ended_if_no_thread_runs,
    ended_if_stuck,
)
from screener.daemon.fail_points import FailAction, FailPoint
from screener.daemon.site import open_site
from screener.domain import RunState
from screener.settings import Settings
from tests.audit_factories import queue_run

if TYPE_CHECKING:
    from pathlib import Path

HANGS = """
import threading
from screener.daemon.deadline import ended_if_stuck
with ended_if_stuck(0.1, "test"):
    threading.Event().wait()
"""
STEP_HANGS = """
import threading
from screener.daemon.deadline import ended_if_a_step_hangs
with ended_if_a_step_hangs(lambda error: print(error, flush=True)) as steps:
    for number in range(3):
        steps.begin(f"step-{number}", 3600 if number < 2 else 0.1)
    threading.Event().wait()
"""
#: A foreign function called with Python's lock in the hand: no thread of ours runs any more.
LOCK_IS_HELD = """
import ctypes
from screener.daemon import deadline
deadline.LAST_WORDS_S = 0.1
with deadline.ended_if_a_step_hangs(print) as steps:
    steps.begin("test", 0.2)
    ctypes.PyDLL(None).sleep(3600)
"""
#: The same in a process that does chores, where no step has a time.
NO_THREAD_RUNS = """
import ctypes
from screener.daemon.deadline import ended_if_no_thread_runs
with ended_if_no_thread_runs(0.5):
    ctypes.PyDLL(None).sleep(3600)
"""
CHORE_HANGS = """
import threading
from screener.daemon import scheduling
from screener.settings import load_settings
scheduling.schedule_until_stopped(load_settings(), threading.Event())
"""
WORKS = """
from screener.daemon.execution import execute_next_run
from screener.daemon.site import open_site
from screener.settings import load_settings
execute_next_run(open_site(load_settings()), None)
"""


def run(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True, text=True, check=False, timeout=120, env={"PATH": "", **environment},
    )  # fmt: skip


def test_process_that_hangs_is_ended_with_a_word() -> None:
    """Whatever it waits for, and in whichever thread: it ends with a code of its own."""
    ended = run(HANGS)
    assert ended.returncode == STUCK_EXIT_CODE
    assert "process_stuck" in ended.stdout + ended.stderr


def test_block_that_ends_is_forgotten() -> None:
    """The time limit of a block that has ended ends nobody: this process would be gone."""
    for _ in range(100):
        with ended_if_stuck(60.0, "test"):
            pass
        with ended_if_a_step_hangs(pytest.fail) as steps:
            steps.begin("test", 60.0)


def test_step_that_hangs_is_told_and_ends_the_process() -> None:
    """Each step has its own time; what is told names the one before."""
    ended = run(STEP_HANGS)
    assert ended.returncode == STUCK_EXIT_CODE
    assert "the step after step-2 took longer than 0.1 s" in ended.stdout


def test_step_that_lets_no_thread_run_ends_the_process_too() -> None:
    """Where a library hangs with Python's lock, the interpreter itself looks at the time."""
    ended = run(LOCK_IS_HELD)
    assert ended.returncode == 1
    assert "Timeout" in ended.stderr


def test_chores_that_let_no_thread_run_end_the_process() -> None:
    """The interpreter looks at the time where no thread can."""
    ended = run(NO_THREAD_RUNS)
    assert ended.returncode == 1
    assert "Timeout" in ended.stderr


def test_process_whose_threads_run_is_not_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    """The end is put off again and again for as long as somebody gets a turn, and then for ever."""
    put_off, calls = threading.Event(), []

    def note(limit_s: float, **_: object) -> None:
        calls.append(limit_s)
        if len(calls) == 3:
            put_off.set()

    monkeypatch.setattr(faulthandler, "dump_traceback_later", note)
    monkeypatch.setattr(faulthandler, "cancel_dump_traceback_later", lambda: calls.append(0.0))
    with ended_if_no_thread_runs(0.2):
        assert put_off.wait(60.0)
    assert calls[-1] == 0.0


def test_chore_that_hangs_ends_the_scheduler(node_folder: Path) -> None:
    """The sweep waits for ever; whoever supervises starts the process again."""
    ended = run(
        CHORE_HANGS,
        SCREENER_ALLOW_FAIL_POINTS="yes",
        SCREENER_DATA_DIR=str(node_folder),
        SCREENER_WORKERS__CHORE_LIMIT_S="2",
        SCREENER_TESTING__FAIL_POINTS=f'["{FailPoint.MID_SWEEP}={FailAction.HANG}"]',
    )
    assert ended.returncode == STUCK_EXIT_CODE, ended.stderr
    assert "chore sweep" in ended.stdout + ended.stderr


def test_run_that_hangs_each_time_fails_visibly(node_folder: Path) -> None:
    """Every attempt ends with its process and its reason; after the last the run has failed."""
    site = open_site(Settings(data_dir=node_folder))
    run_id = queue_run(site.database)
    settings = {
        "SCREENER_ALLOW_FAIL_POINTS": "yes",
        "SCREENER_DATA_DIR": str(node_folder),
        "SCREENER_WORKERS__STEP_LIMIT_S": "0.1",
        "SCREENER_WORKERS__MAX_ATTEMPTS": "2",
        "SCREENER_WORKERS__FIRST_RETRY_S": "0.01",
        "SCREENER_TESTING__FAIL_POINTS": f'["{FailPoint.AFTER_CLAIM}={FailAction.HANG}*9"]',
    }
    states = []
    for _ in range(2):
        ended = run(WORKS, **settings)
        assert ended.returncode == STUCK_EXIT_CODE, ended.stderr
        status = run_status(site.database, run_id)
        assert status is not None
        states.append(status.state)
    assert states == [RunState.QUEUED, RunState.FAILED]
    assert status.last_error is not None
    assert "the step after claim took longer than 0.1 s" in status.last_error
