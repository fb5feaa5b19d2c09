"""Chores in their rhythm: none holds up another, a transient error costs one turn."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path

import pytest

from screener.daemon.inquiries import status_of, story_of
from screener.daemon.scheduling import (
    Chore,
    asking_chores,
    do_chores,
    quick_chores,
    slow_chores,
)
from screener.daemon.sealing import seal_trail
from screener.daemon.site import Site, open_site
from screener.daemon.site_logs import log_uid_key
from screener.daemon.sweep import sweep
from screener.errors import ConfigError, DatabaseUnavailable, ScreenerError, WrongUse
from screener.logs import hashed_uid
from screener.settings import Settings
from tests.audit_factories import STUDY, queue_run, receive_study

PATIENCE_S = 60.0


@pytest.fixture
def site(node_folder: Path) -> Site:
    return open_site(Settings.model_validate({"data_dir": node_folder}))


def test_every_chore_of_the_node_has_its_time(site: Site) -> None:
    """Sweep, seal, watch; ask; nightly, purge, export: each once, each in seconds."""
    settings = site.settings
    chores = (*quick_chores(settings), *asking_chores(settings), *slow_chores(settings))
    assert [chore.name for chore in chores] == [
        "sweep", "seal", "watch", "ask", "nightly", "purge", "export",
    ]  # fmt: skip
    assert all(chore.every_s > 0 for chore in chores)


@pytest.mark.parametrize("error", [DatabaseUnavailable("away"), ConfigError("mode of the key")])
def test_chore_that_fails_is_done_again_and_holds_up_nobody(
    site: Site, error: ScreenerError
) -> None:
    """The database was away for one turn; or a person must mend what one chore needs."""
    stop, calls = threading.Event(), []

    def fail_once(_site: Site) -> None:
        calls.append("fails")
        if calls.count("fails") == 1:
            raise error

    def other(_site: Site) -> None:
        calls.append("other")
        if calls.count("other") == 3:
            stop.set()

    chores = (Chore("fails", 0.001, 60.0, fail_once), Chore("other", 0.001, 60.0, other))
    thread = threading.Thread(target=do_chores, args=(site, chores, stop))
    thread.start()
    thread.join(PATIENCE_S)
    assert not thread.is_alive()
    assert calls.count("fails") >= 2


def test_chores_end_with_the_thread_they_watch(site: Site) -> None:
    """Where the slow chores died the process ends too, so that somebody starts it again."""
    dead = threading.Thread(target=lambda: None)
    dead.start()
    dead.join()
    do_chores(site, quick_chores(site.settings), threading.Event(), watched=[dead])


def test_hash_of_the_log_leads_back_to_the_study(site: Site) -> None:
    """Who reads a log with hashed UIDs asks `screener why` with the hash; another hash is none."""
    receive_study(site.database)
    name = hashed_uid(STUDY, log_uid_key(site.settings))
    assert story_of(site.settings, name).status.study_instance_uid == STUDY
    (status,) = status_of(site.settings, name)
    assert status.study_instance_uid == STUDY
    assert status_of(site.settings, STUDY) == (status,)
    with pytest.raises(WrongUse, match="has the hash"):
        story_of(site.settings, "uid:0000000000000000")


class DeafDoorbell:
    """A broker that takes nothing."""

    def __init__(self) -> None:
        self.rung: list[str] = []

    def ring_run(self, run_id: str, *, is_stat: bool) -> bool:
        del is_stat
        self.rung.append(run_id)
        return False

    def ring_delivery(self, delivery_id: str) -> bool:
        self.rung.append(delivery_id)
        return False


def test_broker_that_takes_nothing_is_asked_once_a_sweep(site: Site) -> None:
    """Each ring may wait for seconds: a thousand runs must not hold up the sweep."""
    doorbell = DeafDoorbell()
    for number in range(3):
        queue_run(site.database, study=f"{STUDY}.{number}")
    sweep(replace(site, doorbell=doorbell))
    sweep(replace(site, doorbell=doorbell))
    assert len(doorbell.rung) == 2


def test_lost_key_is_not_replaced(site: Site) -> None:
    """A new key would make the whole trail foreign: the mend is named instead."""
    receive_study(site.database)
    seal_trail(site)
    site.settings.key_path.unlink()
    with pytest.raises(ConfigError, match="restore your copy"):
        seal_trail(site)
    site.settings.checkpoint_path.rename(site.settings.checkpoint_path.with_suffix(".old"))
    seal_trail(site)
    assert site.settings.key_path.exists()
