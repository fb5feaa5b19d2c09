"""A private Redis on a free port, without persistence: losing it must cost nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.integration.processes import find_program, free_port, is_listening, running, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="session")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Start Redis for the whole session and give its URL."""
    folder = tmp_path_factory.mktemp("redis")
    port = free_port()
    arguments = [find_program("redis-server"), "--port", str(port), "--bind", "127.0.0.1"]
    arguments += ["--save", "", "--appendonly", "no", "--dir", str(folder)]
    with running(arguments, folder / "redis.log"):
        wait_until(lambda: is_listening(port), "Redis listens", 20)
        yield f"redis://127.0.0.1:{port}/0"
