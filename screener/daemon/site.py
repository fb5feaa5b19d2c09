"""What every process of one installation shares: settings, database, folders, doorbell, clock."""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from screener.audit.database import Database
from screener.daemon.fail_points import FailPoints, fail_points_of
from screener.destinations import WebDestinationSettings
from screener.domain import DimseNode, WebNode
from screener.enqueue import Doorbell, open_doorbell
from screener.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

    from screener.deliver.archive import Archive
    from screener.destinations import DimseDestinationSettings
    from screener.settings import DestinationSettings, Settings


@dataclass(frozen=True, slots=True)
class Site:
    """One installation as one process sees it."""

    settings: Settings
    database: Database
    doorbell: Doorbell
    owner: str  #: host and process, written into every claim
    fail_points: FailPoints  #: none, unless a test armed some


def utc_now() -> datetime:
    """Read the clock; everything below the daemon is handed the time."""
    return datetime.now(UTC)


def open_site(settings: Settings) -> Site:
    """Open the database and the doorbell that the settings name.

    Raises
    ------
    ConfigError
        A setting cannot work.
    DatabaseUnavailable
        The database cannot be reached.
    """
    _make_data_folder(settings)
    database = Database(settings.database_url)
    if not database.is_current():
        database.upgrade()
    owner = f"{socket.gethostname()}:{os.getpid()}"
    return Site(settings, database, open_doorbell(settings), owner, fail_points_of(settings))


def upgrade_database(settings: Settings) -> str:
    """Bring the schema to the newest revision and name it."""
    _make_data_folder(settings)
    database = Database(settings.database_url)
    database.upgrade()
    return database.revision()


def _make_data_folder(settings: Settings) -> None:
    try:
        settings.data_path.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise ConfigError(
            f"data_dir: {settings.data_path} cannot be a folder ({error.strerror}); name another"
        ) from error


def archive_of(settings: Settings, entry: DestinationSettings) -> Archive:
    """Give a destination as something that takes, holds, lists and gives back."""
    # Not where a listener would import it: pynetdicom and httpx are half of what it weighs.
    from screener.deliver.archive import DimseArchive, WebArchive  # noqa: PLC0415

    if isinstance(entry, WebDestinationSettings):
        return WebArchive(web_node_of(entry))
    return DimseArchive(dimse_node_of(settings, entry))


def web_node_of(entry: WebDestinationSettings) -> WebNode:
    """Give a DICOMweb destination as the delivery takes it."""
    return WebNode(
        name=entry.name,
        url=entry.url,
        tls_ca_file=_file(entry.tls_ca_file),
        tls_certificate_file=_file(entry.tls_certificate_file),
        tls_key_file=_file(entry.tls_key_file),
        bearer_token_file=_file(entry.bearer_token_file),
        basic_auth_file=_file(entry.basic_auth_file),
        timeout_s=entry.timeout_s,
    )


def _file(path: Path | None) -> Path | None:
    return path.expanduser() if path else None


def dimse_node_of(settings: Settings, entry: DimseDestinationSettings) -> DimseNode:
    """Give a DIMSE destination as the delivery takes it."""
    return DimseNode(
        name=entry.name,
        ae_title=entry.ae_title,
        host=entry.host,
        port=entry.port,
        calling_ae_title=settings.node.ae_title,
        timeout_s=entry.timeout_s,
    )
