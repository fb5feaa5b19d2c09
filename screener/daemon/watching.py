"""Count the books once a minute, judge what waits, and raise one alert for each cause."""

from __future__ import annotations

import platform
import shutil
from typing import TYPE_CHECKING

from screener.audit.accounting import AccountingReport, AccountingRule, accounting
from screener.audit.alerts import AlertKind, Condition, Settled, settle_alerts
from screener.audit.backlog import Backlog, measure_backlog
from screener.audit.books import keep_books
from screener.audit.export import oldest_unexported_s
from screener.audit.files import ALL_SHARDS
from screener.audit.verification import count_vanished
from screener.daemon.exporting import sink_of
from screener.daemon.listening import READY_FILE
from screener.daemon.site import Site, utc_now
from screener.domain import DeliveryState
from screener.enqueue import is_broker_reachable
from screener.logs import get_log
from screener.streams import is_log_lost

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime
    from pathlib import Path

    from screener.settings import Settings

#: The books are counted this often, in seconds.
COUNT_EVERY_S = 60.0
#: What to do where the spool was deleted, or its disk is not mounted.
SPOOL_GONE = (
    "the folder of the spool is gone: senders are refused. Mount its disk or restore it, then "
    "start the listener again"
)
#: Parts of the spool whose files are looked for each time; the whole spool takes 16 minutes.
SHARDS_AT_ONCE = 16


#: One turn over the whole spool, and a little more, in seconds.
_WHOLE_TURN_S = (len(ALL_SHARDS) / SHARDS_AT_ONCE + 2) * COUNT_EVERY_S
#: What is looked at in turns: not found this minute does not mean gone.
_IN_TURNS = {
    (AlertKind.BOOKS_UNBALANCED.value, rule.name.lower()): _WHOLE_TURN_S
    for rule in (
        AccountingRule.ROW_HAS_FILE,
        AccountingRule.FILE_HAS_ROW,
        AccountingRule.STATE_WAS_TOLD,
    )
}


def watch(site: Site) -> AccountingReport:
    """Count, keep the result, and settle the alerts; safe in two processes at once.

    Raises
    ------
    DatabaseUnavailable
        The database cannot be read or written.
    """
    now = utc_now()
    report = count_books(site, shards=_shards_at(now))
    keep_books(site.database, report, now)
    vanished = count_vanished(site.database)
    # A line each time: that the log takes lines is known from writing one.
    get_log().info("books_counted", count=len(report.violations))
    backlog = measure_backlog(site.database, now)
    conditions = [
        *_of_books(report, vanished),
        *_of_disk(site.settings),
        *_of_work(site.settings, backlog),
        *_of_deliveries(site.settings, backlog),
        *_of_export(site, now),
        *_of_log(),
    ]
    _tell(settle_alerts(site.database, conditions, now, in_turns=_IN_TURNS))
    return report


def watch_broker(site: Site) -> bool:
    """Raise the alert where the broker cannot be reached; say whether it can.

    For a process that needs nobody to ring for it. The next count resolves the alert: that it is
    made says that the broker works.

    Raises
    ------
    DatabaseUnavailable
        The alert cannot be written.
    """
    if is_broker_reachable(site.settings):
        return True
    detail = (
        "the broker cannot be reached: nobody is rung for, and studies, runs and deliveries wait. "
        "Bring it back, or run `screener schedule`, `screener work` and `screener deliver`: they "
        "poll"
    )
    condition = Condition(AlertKind.BROKER_AWAY, "", detail)
    kinds = (AlertKind.BROKER_AWAY,)
    _tell(settle_alerts(site.database, [condition], utc_now(), kinds=kinds))
    return False


def count_books(site: Site, *, shards: tuple[str, ...] | None = None) -> AccountingReport:
    """Check every accounting rule now; without shards over all files."""
    return accounting(
        site.database, utc_now(), store=site.settings.spool_path / "store", shards=shards
    )


def _shards_at(now: datetime) -> tuple[str, ...]:
    """Give the part of the spool whose turn it is; the clock decides, so that nothing is kept."""
    n_turns = len(ALL_SHARDS) // SHARDS_AT_ONCE
    start = int(now.timestamp() // COUNT_EVERY_S) % n_turns * SHARDS_AT_ONCE
    return ALL_SHARDS[start : start + SHARDS_AT_ONCE]


def _of_books(report: AccountingReport, n_vanished: int) -> Iterator[Condition]:
    for one in report.violations:
        detail = (
            f"not so: {one.rule.value}; {one.n_rows} rows or files, the first {one.examples[0]}. "
            "See `screener doctor --accounting`"
        )
        yield Condition(AlertKind.BOOKS_UNBALANCED, one.rule.name.lower(), detail)
    if n_vanished:
        detail = f"{n_vanished} events are gone. See `screener audit verify`"
        yield Condition(AlertKind.EVENTS_VANISHED, "", detail)


def free_bytes(folder: Path) -> int:
    """Give the free space where a folder is, or will be."""
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free


def is_spool_gone(settings: Settings) -> bool:
    """Say whether a listener has run here and the folder of its instances is not there."""
    has_run = (settings.data_path / READY_FILE).exists()
    return has_run and not (settings.spool_path / "store").is_dir()


def _of_disk(settings: Settings) -> Iterator[Condition]:
    if is_spool_gone(settings):
        yield Condition(AlertKind.DISK_FULL, "spool", SPOOL_GONE)
        return
    free, spool = free_bytes(settings.spool_path), settings.spool
    detail = f"{free / 2**30:.1f} GiB free where the spool is"
    if free <= spool.reserve_bytes:
        detail += f", the reserve is {spool.reserve_bytes / 2**30:.1f}: senders are refused"
        yield Condition(AlertKind.DISK_FULL, "spool", detail)
    elif free <= spool.warn_bytes:
        detail += f"; below {spool.reserve_bytes / 2**30:.1f} senders are refused"
        yield Condition(AlertKind.DISK_LOW, "spool", detail)


def _of_work(settings: Settings, backlog: Backlog) -> Iterator[Condition]:
    limits = settings.alerts
    if backlog.oldest_queued_s > limits.queued_after_s:
        detail = f"a run waits since {backlog.oldest_queued_s:.0f} s; do workers run?"
        yield Condition(AlertKind.RUNS_WAIT, "", detail)
    if backlog.n_failed_runs:
        detail = f"{backlog.n_failed_runs} runs failed; `screener status`, then `screener retry`"
        yield Condition(AlertKind.RUNS_FAILED, "", detail)
    if backlog.n_quarantined_studies:
        detail = f"{backlog.n_quarantined_studies} studies have instances in quarantine"
        yield Condition(AlertKind.QUARANTINE, "", detail)
    if backlog.oldest_unsealed_s > limits.unsealed_after_s:
        detail = f"an event waits for its seal since {backlog.oldest_unsealed_s:.0f} s"
        yield Condition(AlertKind.EVENTS_UNSEALED, "", detail)


def _of_deliveries(settings: Settings, backlog: Backlog) -> Iterator[Condition]:
    for one in backlog.destinations:
        if n_dead := one.n(DeliveryState.DEAD):
            detail = f"{n_dead} deliveries are dead; mend the cause, then `screener retry`"
            yield Condition(AlertKind.DELIVERIES_DEAD, one.destination, detail)
        waits_s = max(one.oldest_unsent_s, one.oldest_unconfirmed_s)
        if waits_s > settings.alerts.unsent_after_s:
            word = "sent" if one.oldest_unsent_s >= one.oldest_unconfirmed_s else "confirmed"
            detail = f"a result is not {word} since {waits_s:.0f} s"
            yield Condition(AlertKind.DELIVERIES_WAIT, one.destination, detail)


def _of_export(site: Site, now: datetime) -> Iterator[Condition]:
    sink = sink_of(site.settings)
    if sink is None:
        return
    waits_s = oldest_unexported_s(site.database, sink.name, now)
    if waits_s > site.settings.alerts.unsent_after_s:
        detail = f"an event is not sent since {waits_s:.0f} s; see `screener audit export`"
        yield Condition(AlertKind.EXPORT_WAITS, sink.name, detail)


def _of_log() -> Iterator[Condition]:
    if is_log_lost():
        detail = "nobody takes the lines of the log, which are lost; is its disk full?"
        yield Condition(AlertKind.LOG_LOST, platform.node(), detail)


def _tell(settled: Settled) -> None:
    for one in settled.raised:
        get_log().error("alert_raised", kind=one.kind.value, subject=one.subject, detail=one.detail)
    for gone in settled.resolved:
        get_log().warning("alert_resolved", kind=gone.kind, subject=gone.subject)
