"""Delete the files that the rules of retention let go; by hand, and by the scheduler every hour.

A file is first set aside under another name, then its row is marked, then it is deleted. Whatever
happens in between, the next purge finds the file that was set aside and finishes, or puts it back.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from screener.audit.books import newest_books
from screener.audit.files import ASIDE_SUFFIX
from screener.audit.purging import (
    PurgeItem,
    PurgeRule,
    RetentionRules,
    is_purged,
    plan_purge,
    purge_item,
)
from screener.daemon.leftovers import remove_leftovers
from screener.daemon.result_store import OVERLAY_FILE, PART_SUFFIX
from screener.daemon.site import Site, open_site, utc_now
from screener.logs import get_log
from screener.receive.spool import KEPT_SUFFIX

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from screener.settings import Settings

#: The scheduler purges this often, in seconds.
PURGE_EVERY_S = 3600.0
#: A file written within this time was just sent again, in seconds: it stays, its row as well.
YOUNG_S = 3600.0


@dataclass(frozen=True, slots=True)
class PurgeReport:
    """What went, or would go."""

    is_dry_run: bool
    items: tuple[PurgeItem, ...]

    @property
    def n_files(self) -> int:
        """Files of all items."""
        return sum(item.n_files for item in self.items)

    @property
    def n_bytes(self) -> int:
        """Bytes of all items."""
        return sum(item.n_bytes for item in self.items)


def plan(settings: Settings) -> PurgeReport:
    """Say what a purge would delete now."""
    items = plan_purge(open_site(settings).database, _rules(settings), utc_now())
    return PurgeReport(is_dry_run=True, items=items)


def purge(settings: Settings, track: Callable[..., Iterable[PurgeItem]]) -> PurgeReport:
    """Delete what the rules let go; say what went."""
    return _purge(open_site(settings), track)


def purge_by_rule(site: Site) -> PurgeReport:
    """Do the same without anybody who watches."""
    return _purge(site, lambda items, **_: items)


def purge_by_proved_clock(site: Site) -> PurgeReport:
    """Do the same for the scheduler, where the time is what it was a day ago and a day more.

    A clock that jumped years ahead would let go of everything, also of what waits for a person in
    quarantine. After such a jump, and after a day without power, a day passes first.
    """
    books = newest_books(site.database)
    if books is None or not books.prove(utc_now()):
        get_log().info("purge_waits", reason="the time is not proved by a day of counted books")
        return PurgeReport(is_dry_run=False, items=())
    return purge_by_rule(site)


def _purge(site: Site, track: Callable[..., Iterable[PurgeItem]]) -> PurgeReport:
    _finish_earlier(site)
    remove_leftovers(site)
    planned = plan_purge(site.database, _rules(site.settings), utc_now())
    items = tuple(
        done
        for item in track(planned, description="purging")
        if (done := _purge_one(site, item)) is not None
    )
    if items:
        get_log().info("files_purged", count=sum(item.n_files for item in items))
    return PurgeReport(is_dry_run=False, items=items)


def _purge_one(site: Site, item: PurgeItem) -> PurgeItem | None:
    is_results = item.rule is PurgeRule.RESULTS
    aside = _leave if is_results else _set_aside
    paths = purge_item(site.database, item, _rules(site.settings), utc_now(), aside)
    delete = _delete_result if is_results else _delete_aside
    n_bytes = sum(delete(path) for path in paths)
    return replace(item, n_files=len(paths), n_bytes=n_bytes) if paths else None


def _rules(settings: Settings) -> RetentionRules:
    keep = settings.retention
    return RetentionRules(
        spool_days=keep.spool_days or None,
        quarantine_days=keep.quarantine_days or None,
        results_days=keep.results_days or None,
    )


def _leave(_path: Path) -> bool:
    return True  # nobody writes the results of a run that has ended


def _set_aside(path: Path) -> bool:
    """Take an instance out of its place, unless it was just sent again."""
    aside = path.with_suffix(ASIDE_SUFFIX)
    try:
        path.rename(aside)
    except FileNotFoundError:
        return True  # gone already: the accounting has told
    if time.time() - aside.stat().st_mtime < YOUNG_S:
        _put_back(aside)
        return False
    return True


def _put_back(aside: Path) -> None:
    path = aside.with_suffix(KEPT_SUFFIX)
    if path.exists():
        aside.unlink()  # the same content came again meanwhile
    else:
        aside.rename(path)


def _delete_aside(path: Path) -> int:
    return _unlink(path.with_suffix(ASIDE_SUFFIX))


def _delete_result(path: Path) -> int:
    n_bytes = _unlink(path)
    rest = list(path.parent.iterdir()) if path.parent.is_dir() else []
    if all(one.name == OVERLAY_FILE or one.suffix == PART_SUFFIX for one in rest):
        n_bytes += sum(_unlink(one) for one in rest)
        path.parent.rmdir()
    return n_bytes


def _unlink(path: Path) -> int:
    """Delete a file and give its size; 0 where it is gone already."""
    try:
        n_bytes = path.stat().st_size
        path.unlink()
    except FileNotFoundError:
        return 0
    return n_bytes


def _finish_earlier(site: Site) -> None:
    """Delete, or put back, what an earlier purge set aside and did not finish."""
    for aside in (site.settings.spool_path / "store").glob(f"*/*{ASIDE_SUFFIX}"):
        if is_purged(site.database, aside.stem):
            aside.unlink(missing_ok=True)
        else:
            _put_back(aside)
