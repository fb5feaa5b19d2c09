"""The chores of the node, and ``screener schedule``, which does each in its rhythm without beat.

Three threads: what looks at the database alone, what asks sources, and what may take long. A PACS
that does not answer, or ten thousand files to delete, hold up no study. A chore that takes longer
than it may ends its process, on both engines (ADR 29).
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from screener.daemon.asking import ask_sources
from screener.daemon.deadline import ended_if_no_thread_runs, ended_if_stuck
from screener.daemon.deliveries import confirm_sent
from screener.daemon.exporting import export_trail
from screener.daemon.nightly import LOOK_FOR_AUDIT_EVERY_S, run_nightly_if_due
from screener.daemon.purging import PURGE_EVERY_S, purge_by_proved_clock
from screener.daemon.sealing import seal_trail
from screener.daemon.site import Site, open_site
from screener.daemon.sweep import sweep
from screener.daemon.watching import COUNT_EVERY_S, watch
from screener.errors import ScreenerError, Transient
from screener.logs import get_log

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from screener.settings import Settings

#: How long what is in hand beside the sweep may take to end when the process stops, in seconds.
LONGEST_END_S = 10.0
#: What asks others, reads the whole trail or deletes files may take so many times as long.
PATIENCE_WITH_SLOW = 24
#: Where no thread of a process that does chores got a turn for so long, in seconds, it ends.
LONGEST_SILENCE_S = 120.0


@dataclass(frozen=True, slots=True)
class Chore:
    """Something that is done again and again; safe to do twice, and in two processes at once."""

    name: str
    every_s: float
    limit_s: float  #: it hangs where it takes longer
    do: Callable[[Site], object]


def quick_chores(settings: Settings) -> tuple[Chore, ...]:
    """Give what keeps studies moving and the trail sealed."""
    limit_s = settings.workers.chore_limit_s
    return (
        Chore("sweep", settings.workers.sweep_s, limit_s, sweep),
        Chore("seal", settings.audit.seal_every_s, limit_s, seal_trail),
        Chore("watch", COUNT_EVERY_S, limit_s, watch),
    )


def asking_chores(settings: Settings) -> tuple[Chore, ...]:
    """Give what waits for the senders of studies."""
    return (Chore("ask", settings.workers.sweep_s, _slow_limit_s(settings), ask_sources),)


def slow_chores(settings: Settings) -> tuple[Chore, ...]:
    """Give what may wait for somebody else, or take long."""
    limit_s = _slow_limit_s(settings)
    return (
        Chore("nightly", LOOK_FOR_AUDIT_EVERY_S, limit_s, run_nightly_if_due),
        Chore("purge", PURGE_EVERY_S, limit_s, purge_by_proved_clock),
        Chore("export", settings.audit_repository.every_s, limit_s, export_trail),
    )


def rung_chores(settings: Settings) -> dict[str, Chore]:
    """Give every chore by name for whoever is rung for them; beat knows when.

    The sender of one machine confirms while it serves its destinations; one that is rung for has to
    be told to.
    """
    confirm = Chore(
        "confirm", settings.delivery.first_retry_s, _slow_limit_s(settings), confirm_sent
    )
    chores = (*quick_chores(settings), *asking_chores(settings), *slow_chores(settings), confirm)
    return {chore.name: chore for chore in chores}


def _slow_limit_s(settings: Settings) -> float:
    return PATIENCE_WITH_SLOW * settings.workers.chore_limit_s


def do_in_time(site: Site, chore: Chore) -> None:
    """Do a chore once; end this process where that takes longer than it may."""
    with ended_if_stuck(chore.limit_s, f"chore {chore.name}"):
        chore.do(site)


def schedule_until_stopped(settings: Settings, stop: threading.Event) -> None:
    """Do all chores until `stop` is set; seal the trail at the end.

    Raises
    ------
    ScreenerError
        A thread ended by itself; whoever supervises starts the process again.
    """
    site = open_site(settings)
    beside = [
        threading.Thread(target=do_chores, args=(site, chores, stop), name=name, daemon=True)
        for name, chores in (
            ("asking", asking_chores(settings)),
            ("slow chores", slow_chores(settings)),
        )
    ]
    for thread in beside:
        thread.start()
    try:
        with ended_if_no_thread_runs(LONGEST_SILENCE_S):
            do_chores(site, quick_chores(settings), stop, watched=beside)
    finally:
        is_early = not stop.is_set()
        ended = ", ".join(thread.name for thread in beside if not thread.is_alive())
        stop.set()
        end_s = time.monotonic() + LONGEST_END_S
        for thread in beside:  # each chore is safe to break off
            thread.join(max(0.0, end_s - time.monotonic()))
    if is_early:
        raise ScreenerError(f"a thread ended by itself: {ended}")
    seal_trail(site)


def do_chores(
    site: Site,
    chores: Sequence[Chore],
    stop: threading.Event,
    *,
    watched: Sequence[threading.Thread] = (),
) -> None:
    """Do each chore when its time has come, until `stop` is set or one of `watched` has ended."""
    due_s = dict.fromkeys((chore.name for chore in chores), 0.0)
    while not stop.is_set() and all(thread.is_alive() for thread in watched):
        for chore in chores:
            if time.monotonic() >= due_s[chore.name]:
                _do(site, chore)
                due_s[chore.name] = time.monotonic() + chore.every_s
        stop.wait(max(0.0, min(due_s.values()) - time.monotonic()))


def _do(site: Site, chore: Chore) -> None:
    try:
        do_in_time(site, chore)
    except Transient as error:
        get_log().warning("chore_postponed", kind=chore.name, reason=type(error).__name__)
    except ScreenerError as error:  # a person must mend it; the other chores go on
        get_log().error("chore_failed", kind=chore.name, detail=error)
