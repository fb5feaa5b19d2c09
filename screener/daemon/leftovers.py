"""Files of results that no row will ever name: torn ones, and those of attempts that died.

A worker that is killed leaves what it had written. The next attempt writes its own files, and where
there is none, because the run failed or a later one replaced it, nobody would ever come back.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from screener.audit.purging import files_of_ended_runs
from screener.daemon.result_store import OVERLAY_FILE, PART_SUFFIX
from screener.logs import get_log

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from screener.daemon.site import Site

#: A younger file may still be written, or get its row, in seconds.
YOUNG_S = 3600.0
#: Runs asked for at once.
RUNS_AT_ONCE = 500


def remove_leftovers(site: Site) -> int:
    """Delete what attempts left in the folders of results; give how many files.

    Raises
    ------
    DatabaseUnavailable
        The database cannot be read.
    """
    root = site.settings.results_path
    folders = sorted(root.iterdir()) if root.is_dir() else []
    n_files = 0
    for start in range(0, len(folders), RUNS_AT_ONCE):
        part = [folder for folder in folders[start : start + RUNS_AT_ONCE] if folder.is_dir()]
        named = files_of_ended_runs(site.database, [folder.name for folder in part])
        for folder in part:
            for path in _leftovers(folder, named.get(folder.name)):
                path.unlink(missing_ok=True)
                n_files += 1
    if n_files:
        get_log().warning("leftovers_removed", count=n_files)
    return n_files


def _leftovers(folder: Path, named: frozenset[str] | None) -> Iterator[Path]:
    """Give the old files of a run that nobody needs; without `named` the run may still write."""
    for path in folder.iterdir():
        is_torn = path.suffix == PART_SUFFIX
        is_picture = path.name == OVERLAY_FILE and bool(named)
        is_unnamed = named is not None and path.name not in named and not is_picture
        if (is_torn or is_unnamed) and _is_old(path):
            yield path


def _is_old(path: Path) -> bool:
    try:
        return time.time() - path.stat().st_mtime > YOUNG_S
    except FileNotFoundError:
        return False  # renamed meanwhile: it was being written after all
