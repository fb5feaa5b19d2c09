"""A fresh SQLite database for every test; the same tests run on PostgreSQL in `integration`."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

from screener.audit.database import Database

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@pytest.fixture
def open_database(tmp_path: Path, migrated_file: Path) -> Iterator[Callable[[], Database]]:
    """Give a maker of empty databases with the newest schema."""
    opened: list[Database] = []

    def make() -> Database:
        path = tmp_path / f"audit-{len(opened)}.sqlite3"
        shutil.copyfile(migrated_file, path)
        opened.append(Database(f"sqlite:///{path}"))
        return opened[-1]

    yield make
    for database in opened:
        database.dispose()


@pytest.fixture
def database(tmp_path: Path, migrated_file: Path) -> Iterator[Database]:
    """Give an empty database with the newest schema."""
    path = tmp_path / "audit.sqlite3"
    shutil.copyfile(migrated_file, path)
    opened = Database(f"sqlite:///{path}")
    yield opened
    opened.dispose()
