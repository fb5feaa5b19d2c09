"""Files on our own disk are what they were when they were promised, or they are not used.

A file that somebody changed, or a disk that forgot, must not become a decision or a delivered
result: what a run screens is what was acknowledged, what is sent is what was stored.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from screener.assemble.part10 import UnreadableFile, digest_data_set
from screener.errors import SpoolDamaged, SpoolFull

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from screener.audit.deliveries import ObjectToSend
    from screener.domain import SpooledInstance, SpooledStudy


def check_inputs(study: SpooledStudy) -> None:
    """Refuse a study of which a file is gone or holds something else than was received.

    Raises
    ------
    SpoolDamaged
        Some file is; the text says how many and the first.
    SpoolFull
        A file is there and cannot be read now.
    """
    damaged = damaged_inputs(study)
    if damaged:
        raise SpoolDamaged(
            f"{len(damaged)} of {len(study.instances)} files are gone from the spool or are not "
            f"what was received, the first {damaged[0].path.name}; restore them or have the study "
            "sent again, then use `screener retry`"
        )


def damaged_inputs(study: SpooledStudy) -> tuple[SpooledInstance, ...]:
    """Give the instances whose file is gone or holds something else.

    Raises
    ------
    SpoolFull
        A file is there and cannot be read now.
    """
    return tuple(one for one in study.instances if not _is_as_received(one))


def damaged_results(objects: Sequence[ObjectToSend]) -> tuple[str, ...]:
    """Give the names of result files that are gone or hold something else than was stored.

    Raises
    ------
    SpoolFull
        A file is there and cannot be read now.
    """
    return tuple(one.path.name for one in objects if not _is_as_stored(one))


def _is_as_received(instance: SpooledInstance) -> bool:
    try:
        return digest_data_set(instance.path) == instance.content_digest
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError, UnreadableFile):
        return False
    except OSError as error:
        raise _unreadable(instance.path, error) from error


def _is_as_stored(one: ObjectToSend) -> bool:
    try:
        return hashlib.sha256(one.path.read_bytes()).hexdigest() == one.digest
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
        return False
    except OSError as error:
        raise _unreadable(one.path, error) from error


def _unreadable(path: Path, error: OSError) -> SpoolFull:
    return SpoolFull(f"{path.name} cannot be read: {error.strerror}")
