"""Bring a folder to stable storage: what a rename or a new file needs beside its own fsync."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


def sync_folder(folder: Path | str) -> None:
    """Flush the entries of a folder to the disk.

    Raises
    ------
    OSError
        The disk refused. Never try again: the kernel may have dropped what it could not write.
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
