"""Encoded results on disk, durable before anything is sent; a retry sends these very bytes."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from screener.audit.results import StoredObject
from screener.durable import sync_folder
from screener.errors import SpoolFull
from screener.report import render_overlay_png

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from screener.domain import ResultObject, Screening

#: The picture for people beside the objects of a run.
OVERLAY_FILE = "overlay.png"
#: End of the name of a file that is being written.
PART_SUFFIX = ".part"


def folder_of_run(root: Path, run_id: str) -> Path:
    """Give the folder of one run's results; the run id is ours, never a sender's value."""
    return root / run_id


def store_results(
    root: Path,
    screening: Screening,
    objects: tuple[ResultObject, ...],
    on_stored: Callable[[], None] = lambda: None,
) -> tuple[StoredObject, ...]:
    """Write every object and the overlay picture into the folder of the run.

    Parameters
    ----------
    on_stored
        Called after each object.

    Raises
    ------
    SpoolFull
        The disk refused; nothing of it is registered, a later attempt writes again.
    """
    folder = folder_of_run(root, screening.run.run_id)
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        stored = tuple(_store(folder, one, on_stored) for one in objects)
        _write_durably(folder / OVERLAY_FILE, render_overlay_png(screening))
        sync_folder(folder)
    except OSError as error:
        raise SpoolFull(f"results of run {screening.run.run_id}: {error.strerror}") from error
    return stored


def store_object(folder: Path, result: ResultObject) -> StoredObject:
    """Write one more object into the folder of its run.

    Raises
    ------
    SpoolFull
        The disk refused.
    """
    try:
        stored = _store(folder, result, lambda: None)
        sync_folder(folder)
    except OSError as error:
        raise SpoolFull(f"result {result.sop_instance_uid}: {error.strerror}") from error
    return stored


def _store(folder: Path, result: ResultObject, on_stored: Callable[[], None]) -> StoredObject:
    # The digest keeps two attempts apart, should they ever differ.
    path = folder / f"{result.kind.value}-{result.digest[:16]}.dcm"
    _write_durably(path, result.encoded)
    on_stored()
    return StoredObject(
        kind=result.kind,
        sop_class_uid=result.sop_class_uid,
        sop_instance_uid=result.sop_instance_uid,
        series_instance_uid=result.series_instance_uid,
        path=path,
        digest=result.digest,
        n_bytes=len(result.encoded),
    )


def _write_durably(path: Path, content: bytes) -> None:
    part = path.with_suffix(f".{os.getpid()}{PART_SUFFIX}")
    try:
        with part.open("wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        part.replace(path)
    except OSError:
        part.unlink(missing_ok=True)  # a full disk is not to hold what nobody will use
        raise
