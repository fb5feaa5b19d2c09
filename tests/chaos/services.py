"""A PostgreSQL and a Redis of the chaos run's own: they can be killed, and start again."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import tempfile
import uuid
from abc import ABC, abstractmethod
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Self

import psycopg
import redis

from screener.enqueue import QUEUES
from tests.acceptance.process_tree import descendants
from tests.integration.databases import accepts, make_cluster, server_arguments
from tests.integration.processes import (
    end_group,
    find_program,
    free_port,
    is_listening,
    running,
    wait_until,
)

if TYPE_CHECKING:
    import random
    from collections.abc import Iterator, Sequence


class _Server(ABC):
    """A server with a folder, a port, and an end that can come at any moment."""

    def __init__(self, name: str) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix=f"screener-chaos-{name}-"))
        self._port = free_port()
        self._stack = ExitStack()
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.__exit__()  # one that never came up must not stay behind
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    @abstractmethod
    def start(self) -> None:
        """Start, and wait until it answers."""

    def kill(self, number: signal.Signals = signal.SIGKILL) -> None:
        """End the whole server, by default without a word."""
        if self._process is not None:
            end_group(self._process, number)

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Let every process of the server stand still: it takes connections and says nothing."""
        if self._process is None:
            raise ValueError("a server that does not run cannot be frozen")
        pids = [self._process.pid, *descendants(self._process.pid)]
        _signal(pids, signal.SIGSTOP)
        try:
            yield
        finally:
            _signal(pids, signal.SIGCONT)

    def _run(self, arguments: list[str]) -> None:
        log = self._folder / "server.log"
        self._process = self._stack.enter_context(running(arguments, log))


class DatabaseServer(_Server):
    """PostgreSQL with its data on disk and every commit synchronised: it will be killed."""

    def __init__(self) -> None:
        super().__init__("postgres")

    def __enter__(self) -> Self:
        self._data = make_cluster(self._folder)
        super().__enter__()
        with psycopg.connect(self._maintenance_url, autocommit=True) as connection:
            connection.execute("CREATE DATABASE screener")
        return self

    @property
    def url(self) -> str:
        return f"postgresql://screener@127.0.0.1:{self._port}/screener"

    @property
    def _maintenance_url(self) -> str:
        return self.url.rsplit("/", 1)[0] + "/postgres"

    def start(self) -> None:
        """Start, after a kill too: it recovers from its log.

        Started again where it ends, as systemd would: it refuses to run while a child of the one
        that was killed is still at work.
        """

        def is_up() -> bool:
            if self._process is None or self._process.poll() is not None:
                (self._data / "postmaster.pid").unlink(missing_ok=True)
                self._run(server_arguments(self._folder, self._data, self._port))
            return accepts(self._maintenance_url)

        wait_until(is_up, "PostgreSQL accepts connections", 120)


class BrokerServer(_Server):
    """Redis without persistence."""

    def __init__(self) -> None:
        super().__init__("redis")

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self._port}/0"

    def start(self) -> None:
        """Start with nothing in it."""
        arguments = [find_program("redis-server"), "--port", str(self._port)]
        arguments += ["--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
        self._run([*arguments, "--dir", str(self._folder)])
        wait_until(lambda: is_listening(self._port), "Redis listens", 60)

    def flush(self) -> None:
        """Forget everything."""
        with redis.Redis(port=self._port) as client:
            client.flushall()

    def limit_memory(self, n_bytes: int) -> None:
        """Refuse every write beyond so many bytes; 0 lifts the limit."""
        with redis.Redis(port=self._port) as client:
            client.config_set("maxmemory", n_bytes)

    def spoil_queues(self) -> None:
        """Put a text where each list was: nobody can take from it, or add to it."""
        with redis.Redis(port=self._port) as client:
            for queue in QUEUES:
                client.set(queue, "no list")

    def push_rubbish(self, n_messages: int, rng: random.Random) -> None:
        """Put messages into the queues that no part of the node ever sent."""
        with redis.Redis(port=self._port) as client:
            for number in range(n_messages):
                queue = rng.choice(QUEUES)
                client.lpush(queue, _forged(number, rng))


def _signal(pids: Sequence[int], number: signal.Signals) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):  # it has ended meanwhile
            os.kill(pid, number)


def _forged(number: int, rng: random.Random) -> bytes:
    """Give a message: no JSON, an unknown task, wrong arguments, or an id that does not exist."""
    if number % 4 == 0:
        return os.urandom(64)
    task, arguments = rng.choice(
        (
            ("workers.tasks.nobody_knows_this", []),
            ("screener.screen_run", [str(uuid.uuid4())]),
            ("screener.screen_run", [{"not": "an id"}, 1, 2]),
            ("screener.deliver_results", ["'; drop table runs; --"]),
        )
    )
    identifier = str(uuid.uuid4())
    body = json.dumps([arguments, {}, {"callbacks": None, "errbacks": None, "chain": None}])
    return json.dumps(
        {
            "body": body,
            "content-encoding": "utf-8",
            "content-type": "application/json",
            "headers": {
                "task": task,
                "id": identifier,
                "lang": "py",
                "argsrepr": "",
                "root_id": identifier,
            },
            "properties": {
                "correlation_id": identifier,
                "delivery_mode": 2,
                "delivery_tag": identifier,
                "delivery_info": {"exchange": "", "routing_key": "routine"},
                "body_encoding": "utf-8",
            },
        }
    ).encode()
