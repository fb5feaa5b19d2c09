"""The tasks: an id in, nothing out, safe to run twice. The work is in ``screener.daemon``."""

from __future__ import annotations

from screener.daemon.deadline import ended_if_no_thread_runs
from screener.daemon.deliveries import deliver
from screener.daemon.execution import execute_next_run
from screener.daemon.scheduling import LONGEST_SILENCE_S, do_in_time, rung_chores
from screener.enqueue import (
    ASK_SOURCES,
    CONFIRM_SENT,
    DELIVER_RESULTS,
    EXPORT,
    NIGHTLY_AUDIT,
    PURGE,
    SCREEN_RUN,
    SEAL,
    SWEEP,
    WATCH,
)
from workers.app import app
from workers.lifecycle import process_site, process_tools


@app.task(name=SCREEN_RUN)  # type: ignore[untyped-decorator]
def screen_run(run_id: str) -> None:
    """Take the most urgent run that waits; `run_id` says who rang, the database who is next."""
    del run_id
    execute_next_run(process_site(), process_tools())


@app.task(name=DELIVER_RESULTS)  # type: ignore[untyped-decorator]
def deliver_results(delivery_id: str) -> None:
    """Send the results of one run to one destination."""
    deliver(process_site(), delivery_id)


@app.task(name=CONFIRM_SENT)  # type: ignore[untyped-decorator]
def confirm_sent_results() -> None:
    """Ask every destination for what was sent and not yet confirmed."""
    _do("confirm")


@app.task(name=SEAL)  # type: ignore[untyped-decorator]
def seal() -> None:
    """Seal the events that came since the last time."""
    _do("seal")


@app.task(name=SWEEP)  # type: ignore[untyped-decorator]
def sweep_once() -> None:
    """Find what is complete, expired, waiting or unsealed."""
    _do("sweep")


@app.task(name=ASK_SOURCES)  # type: ignore[untyped-decorator]
def ask_sources_of_quiet_studies() -> None:
    """Ask the sources of quiet studies how many instances they have."""
    _do("ask")


@app.task(name=NIGHTLY_AUDIT)  # type: ignore[untyped-decorator]
def nightly_audit() -> None:
    """Account for the oldest day that has no audit yet, once, whoever asks first."""
    _do("nightly")


@app.task(name=WATCH)  # type: ignore[untyped-decorator]
def count_and_watch() -> None:
    """Count the books and settle the alerts."""
    _do("watch")


@app.task(name=EXPORT)  # type: ignore[untyped-decorator]
def export_sealed_events() -> None:
    """Send the sealed events to the audit record repository."""
    _do("export")


@app.task(name=PURGE)  # type: ignore[untyped-decorator]
def purge_files() -> None:
    """Delete the files that the rules of retention let go."""
    _do("purge")


def _do(name: str) -> None:
    site = process_site()
    with ended_if_no_thread_runs(LONGEST_SILENCE_S):
        do_in_time(site, rung_chores(site.settings)[name])
