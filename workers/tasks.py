"""The tasks: an id in, nothing out, safe to run twice. The work is in ``screener.daemon``."""

from __future__ import annotations

from screener.daemon.asking import ask_sources
from screener.daemon.deliveries import confirm_sent, deliver
from screener.daemon.execution import execute_next_run
from screener.daemon.exporting import export_trail
from screener.daemon.nightly import run_nightly_if_due
from screener.daemon.purging import purge_by_rule
from screener.daemon.sealing import seal_trail
from screener.daemon.sweep import sweep
from screener.daemon.watching import watch
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
    confirm_sent(process_site())


@app.task(name=SEAL)  # type: ignore[untyped-decorator]
def seal() -> None:
    """Seal the events that came since the last time."""
    seal_trail(process_site())


@app.task(name=SWEEP)  # type: ignore[untyped-decorator]
def sweep_once() -> None:
    """Find what is complete, expired, waiting or unsealed."""
    sweep(process_site())


@app.task(name=ASK_SOURCES)  # type: ignore[untyped-decorator]
def ask_sources_of_quiet_studies() -> None:
    """Ask the sources of quiet studies how many instances they have."""
    ask_sources(process_site())


@app.task(name=NIGHTLY_AUDIT)  # type: ignore[untyped-decorator]
def nightly_audit() -> None:
    """Account for the oldest day that has no audit yet, once, whoever asks first."""
    run_nightly_if_due(process_site())


@app.task(name=WATCH)  # type: ignore[untyped-decorator]
def count_and_watch() -> None:
    """Count the books and settle the alerts."""
    watch(process_site())


@app.task(name=EXPORT)  # type: ignore[untyped-decorator]
def export_sealed_events() -> None:
    """Send the sealed events to the audit record repository."""
    export_trail(process_site())


@app.task(name=PURGE)  # type: ignore[untyped-decorator]
def purge_files() -> None:
    """Delete the files that the rules of retention let go."""
    purge_by_rule(process_site())
