"""A fresh SQLite database for every test; the same tests run on PostgreSQL in `integration`."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

from screener.audit.database import Database

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def database(tmp_path: Path, migrated_file: Path) -> Iterator[Database]:
    """Give an empty database with the newest schema."""
    path = tmp_path / "audit.sqlite3"
    shutil.copyfile(migrated_file, path)
    opened = Database(f"sqlite:///{path}")
    yield opened
    opened.dispose()
