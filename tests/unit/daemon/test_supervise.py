"""A child that dies comes back with growing waits; a stop ends them all."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from typing import TYPE_CHECKING

from screener.daemon import supervise as module
from screener.daemon.supervise import Child, ChildSpec, supervise

if TYPE_CHECKING:
    import pytest


class _FakeProcess:
    """Stands for a process whose end the test decides."""

    pid = 4711
    stdin = None

    def __init__(self) -> None:
        self.code: int | None = None

    def poll(self) -> int | None:
        return self.code


def _child_with_fakes(monkeypatch: pytest.MonkeyPatch) -> tuple[Child, list[_FakeProcess]]:
    started: list[_FakeProcess] = []

    def fake_popen(*_args: object, **_options: object) -> _FakeProcess:
        started.append(_FakeProcess())
        return started[-1]

    monkeypatch.setattr(module.subprocess, "Popen", fake_popen)
    return Child(ChildSpec("worker", ("work",))), started


def test_child_that_dies_is_started_again_after_growing_waits(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The first restart waits one second, the second two: a crash loop cannot burn the machine."""
    child, started = _child_with_fakes(monkeypatch)
    child.look(100.0)
    started[0].code = 1
    child.look(100.1)

    child.look(101.0)
    assert len(started) == 1
    child.look(101.2)
    assert len(started) == 2
    started[1].code = 1
    child.look(101.3)
    child.look(103.0)
    assert len(started) == 2
    child.look(103.4)
    assert len(started) == 3


def test_child_that_lived_long_is_started_again_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """A death after a steady life starts the waits from the beginning."""
    child, started = _child_with_fakes(monkeypatch)
    child.look(0.0)
    for number, now_s in enumerate((1.0, 10.0, 20.0)):
        started[number].code = 1
        child.look(now_s)
        child.look(now_s + 9.0)
    started[-1].code = 1
    child.look(500.0)

    child.look(500.0 + module.FIRST_RESTART_S)

    assert len(started) == 5


def test_supervise_stops_real_children(monkeypatch: pytest.MonkeyPatch) -> None:
    """After the stop no child is left, although it would have slept on."""
    started: list[subprocess.Popen[bytes]] = []
    real_popen = subprocess.Popen

    def popen(_arguments: list[str], **options: object) -> subprocess.Popen[bytes]:
        code = "import sys; sys.stdin.read()"
        started.append(real_popen([sys.executable, "-c", code], **options))  # type: ignore[call-overload]
        is_up.set()
        return started[-1]

    is_up = threading.Event()
    monkeypatch.setattr(module.subprocess, "Popen", popen)
    stop = threading.Event()
    thread = threading.Thread(target=supervise, args=([ChildSpec("a", ())], stop, 5.0))
    thread.start()
    assert is_up.wait(10)
    stop.set()
    thread.join(10)

    assert not thread.is_alive()
    assert started[0].poll() is not None


def test_child_ends_when_its_supervisor_is_gone() -> None:
    """The end of standard input sets the stop event: kill -9 of the parent leaves no child."""
    code = (
        "from screener.daemon.stopping import stop_event_of_process as s; e = s(); "
        "print('up', flush=True); e.wait(30); print('stopped')"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "SCREENER_SUPERVISED": "1"},
    )
    assert process.stdout is not None
    assert process.stdin is not None
    assert process.stdout.readline() == b"up\n"
    process.stdin.close()

    assert process.wait(10) == 0
    assert process.stdout.read() == b"stopped\n"
    process.stdout.close()
