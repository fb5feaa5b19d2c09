"""Beat keeps its periods whatever the clock does, and forgets nothing that a file would keep."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from screener.daemon.scheduling import rung_chores
from screener.daemon.site import open_site
from screener.enqueue import IDS_OF_TASK, SCREEN_RUN, make_celery_app
from screener.settings import Settings
from workers import tasks
from workers.app import beat_schedule
from workers.beat import SteadyScheduler


@pytest.fixture
def sent() -> list[str]:
    return []


@pytest.fixture
def beat(monkeypatch: pytest.MonkeyPatch, sent: list[str]) -> SteadyScheduler:
    """Give a beat on a clock that stands still, with what it sends written down."""
    app = make_celery_app(Settings(broker={"url": "memory://"}))
    app.conf.beat_schedule = beat_schedule(Settings())

    def apply(_: Any, entry: Any, producer: object = None) -> None:
        del producer
        sent.append(entry.name)

    monkeypatch.setattr(SteadyScheduler, "apply_entry", apply)
    monkeypatch.setattr(SteadyScheduler, "producer", None)
    monkeypatch.setattr(time, "monotonic", lambda: 1000.0)
    return SteadyScheduler(app)


def test_each_task_is_sent_at_once_and_then_by_its_period(
    beat: SteadyScheduler, sent: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A day back by the clock is no time at all; ten seconds that pass are ten sweeps."""
    assert beat.tick() == pytest.approx(1.0)
    assert set(sent) == set(beat_schedule(Settings()))
    assert beat.tick() == pytest.approx(1.0)
    now_s = time.time()
    monkeypatch.setattr(time, "time", lambda: now_s - 86_400)
    sent.clear()
    for second in range(1, 11):
        monkeypatch.setattr(time, "monotonic", lambda at=second: 1000.0 + at)
        beat.tick()
    assert sent.count("sweep") == 10
    assert sent.count("purge") == 0


def test_every_task_of_beat_does_its_chore_in_time(
    node_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each has its own, with its limit: the same chores as the scheduler of one machine."""
    site = open_site(Settings(data_dir=node_folder))
    done: list[str] = []
    monkeypatch.setattr(tasks, "process_site", lambda: site)
    monkeypatch.setattr(tasks, "do_in_time", lambda _site, chore: done.append(chore.name))
    for name in sorted(entry["task"] for entry in beat_schedule(Settings()).values()):
        tasks.app.tasks[name]()
    assert sorted(done) == sorted(rung_chores(site.settings))


def test_beat_sends_every_task_that_nobody_rings_for() -> None:
    """Also the nightly audit, for which the database knows whether it is due."""
    names = {entry["task"] for entry in beat_schedule(Settings()).values()}
    assert names == {task for task, n_ids in IDS_OF_TASK.items() if n_ids == 0}
    assert SCREEN_RUN not in names
