"""A private PostgreSQL on a free port; every test that asks gets a database of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import uuid
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
import pytest

from tests.integration.processes import free_port, is_listening, running, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

#: Where Debian keeps the programs of each server version, which are not on PATH.
SERVER_FOLDERS = Path("/usr/lib/postgresql")
#: The server refuses to run as root; this account comes with Debian's package.
SERVER_ACCOUNT = "postgres"


@pytest.fixture(scope="session")
def postgres_server_url() -> Iterator[str]:
    """Start PostgreSQL for the whole session and give the URL of its maintenance database."""
    folder = Path(tempfile.mkdtemp(prefix="screener-postgres-"))
    try:
        port = free_port()
        data = make_cluster(folder)
        # Nothing here outlives the session, so nothing has to reach the disk.
        arguments = [*server_arguments(folder, data, port), "-c", "fsync=off"]
        with running(arguments, folder / "server.log"):
            wait_until(lambda: is_listening(port), "PostgreSQL listens", 30)
            url = f"postgresql://screener@127.0.0.1:{port}/postgres"
            wait_until(lambda: accepts(url), "PostgreSQL accepts connections", 30)
            yield url
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def postgres_url(postgres_server_url: str) -> Iterator[str]:
    """Make an empty database for one test and give its URL."""
    with fresh_database(postgres_server_url) as url:
        yield url


@contextmanager
def fresh_database(server_url: str, template: str = "template1") -> Iterator[str]:
    """Make a database, give its URL, and drop it with whoever is still connected."""
    name = f"screener_{uuid.uuid4().hex}"
    with psycopg.connect(server_url, autocommit=True) as connection:
        connection.execute(f'CREATE DATABASE "{name}" TEMPLATE "{template}"')
    try:
        yield server_url.rsplit("/", 1)[0] + f"/{name}"
    finally:
        with psycopg.connect(server_url, autocommit=True) as connection:
            connection.execute(f'DROP DATABASE "{name}" WITH (FORCE)')


def server_arguments(folder: Path, data: Path, port: int) -> list[str]:
    """Give the command that runs a server of a cluster, on loopback, as an account that may."""
    arguments = [*_account(), str(_program("postgres")), "-D", str(data), "-p", str(port)]
    arguments += ["-h", "127.0.0.1", "-c", f"unix_socket_directories={folder}"]
    # As a site may have it: no test may depend on the zone of a server, nor on how it writes times.
    arguments += ["-c", "timezone=America/St_Johns", "-c", "datestyle=SQL, DMY"]
    return [*arguments, "-c", "max_connections=100"]


def make_cluster(folder: Path) -> Path:
    """Make an empty cluster in a folder and give its data folder."""
    data = folder / "data"
    if os.geteuid() == 0:
        shutil.chown(folder, SERVER_ACCOUNT, SERVER_ACCOUNT)
    command = [*_account(), str(_program("initdb")), "-D", str(data)]
    command += ["-U", "screener", "--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync"]
    subprocess.run(command, check=True, capture_output=True, timeout=120, cwd=folder)
    return data


def _account() -> list[str]:
    return ["runuser", "-u", SERVER_ACCOUNT, "--"] if os.geteuid() == 0 else []


def _program(name: str) -> Path:
    """Find a server program of the newest installed version."""
    found = sorted(SERVER_FOLDERS.glob(f"*/bin/{name}"), key=lambda path: int(path.parts[-3]))
    if found:
        return found[-1]
    message = "PostgreSQL is not installed; run: make services"
    if os.environ.get("CI"):
        pytest.fail(message)
    pytest.skip(message)


def accepts(url: str) -> bool:
    """Say whether a server answers."""
    try:
        psycopg.connect(url, connect_timeout=2).close()
    except psycopg.OperationalError:
        return False
    return True
