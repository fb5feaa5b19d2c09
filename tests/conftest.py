"""Fixtures that every test may ask for by name."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest
import structlog
from hypothesis import HealthCheck, settings

from screener.audit.database import Database
from screener.deliver.association import close_sockets_of_library
from screener.settings import SQLITE_FILE

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# A busy machine is slow at everything; that is no finding of a property.
settings.register_profile("screener", suppress_health_check=[HealthCheck.too_slow], deadline=None)
settings.load_profile("screener")

# The scripted peers of the tests are of the library too. What they left open would be found when
# memory is next collected: in another test, which knows nothing of it.
close_sockets_of_library()

pytest_plugins = ["tests.integration.databases", "tests.integration.brokers"]


@pytest.fixture(autouse=True)
def _logs_of_its_own() -> Iterator[None]:
    """Undo what a test set up for its logs: they went to a stream that ended with the test."""
    yield
    structlog.reset_defaults()


@pytest.fixture(scope="session")
def migrated_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Migrate an empty database once; the tests start from copies of it."""
    path = tmp_path_factory.mktemp("template") / "audit.sqlite3"
    template = Database(f"sqlite:///{path}")
    template.upgrade()
    template.dispose()
    return path


@pytest.fixture
def node_folder(tmp_path: Path, migrated_file: Path) -> Path:
    """Give the data folder of a node whose database is there already."""
    folder = tmp_path / "node"
    folder.mkdir()
    shutil.copyfile(migrated_file, folder / SQLITE_FILE)
    return folder
