"""Results on a disk that refuses them: a named error, and nothing half-written left."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

import pytest

from screener.daemon.result_store import store_object
from screener.domain import ResultKind, ResultObject
from screener.errors import SpoolFull

if TYPE_CHECKING:
    from pathlib import Path

RESULT = ResultObject(ResultKind.STRUCTURED_REPORT, "1.2.3", "1.2.3.4", "1.2.3.4.5", bytes(1000))


def test_result_is_stored_under_its_name(tmp_path: Path) -> None:
    """Its file has the bytes of the object, and is the only one."""
    stored = store_object(tmp_path, RESULT)
    assert stored.path.read_bytes() == RESULT.encoded
    assert list(tmp_path.iterdir()) == [stored.path]


def test_full_disk_leaves_no_part_of_a_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error names the disk's reason; what was written of the object is gone again."""

    def refuse(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(SpoolFull, match="No space left on device"):
        store_object(tmp_path, RESULT)
    assert list(tmp_path.iterdir()) == []
