"""Database, broker and disk that go away, fill up or are abused."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
from contextlib import contextmanager
from typing import TYPE_CHECKING

from tests.chaos.node import Role
from tests.integration.processes import find_program, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from tests.chaos.scene import Scene
    from tests.chaos.services import BrokerServer, DatabaseServer


# ── database and broker ──────────────────────────────────────────────────────────────────────


def lock_database(scene: Scene) -> None:
    """Let another program hold the SQLite file, twice, for longer than anybody waits."""
    with scene.sending():
        for _ in range(2):
            scene.wait(0.5, 3.0)
            _hold_database(scene, 7.0, 12.0)


def hold_database(scene: Scene) -> None:
    """Let another program hold the SQLite file for more than a minute, in the middle of it all."""
    with scene.sending():
        scene.wait(1.0, 6.0)
        _hold_database(scene, 62.0, 70.0)


def _hold_database(scene: Scene, at_least_s: float, at_most_s: float) -> None:
    path = scene.node.services.database_url.removeprefix("sqlite:///")
    connection = sqlite3.connect(path, isolation_level=None, timeout=60)
    connection.execute("BEGIN EXCLUSIVE")
    scene.wait(at_least_s, at_most_s)
    connection.execute("ROLLBACK")
    connection.close()


def fill_database_disk(scene: Scene) -> None:
    """Fill the disk of the database to the last byte, twice; then make room."""
    filler = scene.folder / "database" / "somebody-elses-file"
    with scene.sending():
        for _ in range(2):
            scene.wait(0.5, 4.0)
            _fill(filler)
            scene.wait(6.0, 10.0)
            filler.unlink()


def stop_database_politely(scene: Scene) -> None:
    """Restart PostgreSQL as an administrator does: transactions are broken off, then it is back."""
    _restart_database(scene, signal.SIGINT)


def kill_database(scene: Scene) -> None:
    """Kill PostgreSQL without a word, and start it again."""
    _restart_database(scene, signal.SIGKILL)


def _restart_database(scene: Scene, number: signal.Signals) -> None:
    database = _database_of(scene)
    with scene.sending():
        for _ in range(2):
            scene.wait(2.0, 6.0)
            database.kill(number)
            scene.wait(1.0, 4.0)
            database.start()


def _database_of(scene: Scene) -> DatabaseServer:
    if scene.database is None:
        raise ValueError("this fault needs a database server of its own")
    return scene.database


def freeze_database(scene: Scene) -> None:
    """Let PostgreSQL stand still for longer than a lease, twice: no connection ends."""
    with scene.sending():
        for _ in range(2):
            scene.wait(2.0, 6.0)
            with _database_of(scene).frozen():
                scene.wait(10.0, 20.0)


def freeze_broker(scene: Scene) -> None:
    """Let Redis stand still for longer than anybody waits for it."""
    with scene.sending():
        scene.wait(1.0, 4.0)
        with _broker_of(scene).frozen():
            scene.wait(25.0, 40.0)


def lose_broker(scene: Scene) -> None:
    """Empty Redis, kill it, and start it again with nothing in it."""
    broker = _broker_of(scene)
    with scene.sending():
        scene.wait(2.0, 4.0)
        broker.flush()
    scene.wait(2.0, 5.0)
    broker.kill()
    scene.wait(2.0, 5.0)
    broker.start()
    scene.wait(1.0, 3.0)
    broker.flush()


def abuse_broker(scene: Scene) -> None:
    """Let Redis refuse every write for want of memory, then make its lists into something else."""
    broker = _broker_of(scene)
    with scene.sending():
        scene.wait(1.0, 3.0)
        broker.limit_memory(1)
        scene.wait(6.0, 10.0)
        broker.limit_memory(0)
    scene.wait(1.0, 3.0)
    broker.spoil_queues()
    scene.wait(4.0, 8.0)
    broker.flush()


def forge_doorbells(scene: Scene) -> None:
    """Fill the queues with messages that nobody sent: wrong ids, wrong tasks, no JSON."""
    broker = _broker_of(scene)
    broker.push_rubbish(2_000, scene.rng)
    scene.send_all()


def _broker_of(scene: Scene) -> BrokerServer:
    if scene.broker is None:
        raise ValueError("this fault needs a broker of its own")
    return scene.broker


# ── the disk ─────────────────────────────────────────────────────────────────────────────────


def fill_spool(scene: Scene) -> None:
    """Fill the disk of the spool to the last byte while studies arrive; then make room."""
    spool = scene.node.data / "spool"
    filler = spool / "somebody-elses-file"
    with scene.sending():
        scene.wait(0.5, 2.0)
        _fill(filler)
        scene.wait(4.0, 7.0)
        filler.unlink()
    if 0xC211 in scene.modality.statuses:
        raise AssertionError("a full disk was answered as if the data were bad (0xC211)")


def write_protect_spool(scene: Scene) -> None:
    """Let the file system of the spool become read-only, as it does after errors; then mend it."""
    spool = scene.node.data / "spool"
    with scene.sending():
        scene.wait(0.5, 2.0)
        _remount(spool, "ro")
        scene.wait(4.0, 7.0)
        _remount(spool, "rw")
    if 0xC211 in scene.modality.statuses:
        raise AssertionError("a read-only disk was answered as if the data were bad (0xC211)")


def _remount(folder: Path, mode: str) -> None:
    """Change how a disk is mounted; refused while a file is being written, so try again."""
    command = ["mount", "-o", f"remount,{mode}", str(folder)]

    def is_done() -> bool:
        return subprocess.run(command, capture_output=True, check=False).returncode == 0

    wait_until(is_done, f"the disk is mounted {mode}")


def fail_fsync(scene: Scene) -> None:
    """Let every fsync of the listener fail with EIO for a while."""
    with scene.sending():
        scene.wait(0.5, 2.0)
        with _syscall_fault(scene.node.pids(Role.LISTENER), "fsync:error=EIO"):
            scene.wait(3.0, 5.0)


def fill_log_disk(scene: Scene) -> None:
    """Every write to the log fails: the node was started with its log on a full device."""
    scene.send_all()


def _fill(path: Path) -> None:
    try:
        with path.open("wb", buffering=0) as stream:
            while True:
                stream.write(bytes(1 << 16))
    except OSError:
        return  # full, as wanted


@contextmanager
def _syscall_fault(pids: Sequence[int], injection: str) -> Iterator[None]:
    """Make a system call of running processes fail; needs strace and the right to trace."""
    arguments = [find_program("strace"), "-f", "-qq", "-o", os.devnull, "-e", f"inject={injection}"]
    tracers = [
        subprocess.Popen([*arguments, "-p", str(pid)], stderr=subprocess.DEVNULL) for pid in pids
    ]
    try:
        yield
    finally:
        for tracer in tracers:
            tracer.terminate()
            tracer.wait(10)
