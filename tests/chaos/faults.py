"""The faults to survive, each a short script; the numbers are those of the reliability page.

A fault gets a running node and a scene: studies on disk, modalities that send them, the archive.
It does its harm while studies arrive and are worked on, and mends what only a person could mend.
What must hold afterwards is the same for all: `tests.chaos.books`.
"""

from __future__ import annotations

import os
import resource
import shutil
import signal
import socket
import sqlite3
import subprocess
import threading
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from tests.chaos.archive import Archive, BlackHole, Mood
from tests.chaos.node import ChaosNode, Engine, Role
from tests.integration.processes import find_program, wait_until

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Iterator, Sequence

    from tests.chaos.modality import ChaosStudy, Modality
    from tests.chaos.services import BrokerServer, DatabaseServer

_BENT_CLOCK = (("LD_PRELOAD", "{folder}/clock.so"), ("CHAOS_CLOCK", "{folder}/clock"))
_ENGINES = (Engine.EMBEDDED, Engine.CELERY)


@dataclass
class Scene:
    """Everything that a fault may touch."""

    node: ChaosNode
    archive: Archive
    modality: Modality
    second_modality: Modality
    studies: Sequence[ChaosStudy]
    rng: random.Random
    folder: Path
    database: DatabaseServer | None = None
    broker: BrokerServer | None = None
    pause: threading.Event = field(default_factory=threading.Event)

    def wait(self, lower_s: float, upper_s: float) -> None:
        """Let a random time pass: when a fault strikes is what the seed decides."""
        self.pause.wait(self.rng.uniform(lower_s, upper_s))

    def send_all(self) -> None:
        """Send every study at once and wait until each instance is acknowledged."""
        threads = [self.modality.send_in_background(study) for study in self.studies]
        for thread in threads:
            thread.join()

    @contextmanager
    def sending(self) -> Iterator[None]:
        """Send every study in the background; at the end all of them are acknowledged."""
        threads = [self.modality.send_in_background(study) for study in self.studies]
        yield
        for thread in threads:
            thread.join()


@dataclass(frozen=True, slots=True)
class Fault:
    """One row of the table: its number, what happens, how it is done, on which engines.

    ``settings`` are variables of the node and its commands, ``environment`` of its processes alone,
    both with ``{folder}`` for its folder; ``destination`` are keys of the archive in the settings.
    ``may_fail``: a study may end as visibly failed instead of confirmed.
    """

    number: str
    title: str
    strike: Callable[[Scene], None]
    engines: tuple[Engine, ...] = _ENGINES
    settings: tuple[tuple[str, str], ...] = ()
    environment: tuple[tuple[str, str], ...] = ()
    destination: tuple[tuple[str, str | float], ...] = ()
    may_fail: bool = False
    needs: tuple[str, ...] = ()


# ── processes that die ───────────────────────────────────────────────────────────────────────


def kill_listener(scene: Scene) -> None:
    """Kill the listener again and again while it receives."""
    with scene.sending():
        for _ in range(4):
            scene.wait(0.3, 3.0)
            scene.node.hit(Role.LISTENER)


def kill_worker(scene: Scene) -> None:
    """Kill workers in the middle of inference, of building results, of storing them."""
    scene.send_all()
    for _ in range(2):
        scene.wait(3.0, 8.0)
        scene.node.hit(Role.WORKER)


def kill_sender(scene: Scene) -> None:
    """Kill whoever delivers while it delivers."""
    scene.send_all()
    for _ in range(3):
        scene.wait(2.0, 8.0)
        scene.node.hit(Role.SENDER)


def crash_decoder(scene: Scene) -> None:
    """End workers by a segmentation fault, as a codec would, then take their memory away."""
    scene.send_all()
    scene.wait(3.0, 8.0)
    scene.node.hit(Role.WORKER, signal.SIGSEGV)
    scene.wait(4.0, 8.0)
    for pid in scene.node.pids(Role.WORKER):
        try:
            resource.prlimit(pid, resource.RLIMIT_AS, (1 << 20, resource.RLIM_INFINITY))
        except ProcessLookupError:
            continue
    scene.wait(5.0, 8.0)
    scene.node.hit(Role.WORKER)  # whoever still limps without memory is replaced


def freeze_worker(scene: Scene) -> None:
    """Stop workers for longer than a lease, as a paused machine does; their results come late."""
    scene.send_all()
    scene.wait(3.0, 6.0)
    scene.node.hit(Role.WORKER, signal.SIGSTOP)
    scene.wait(9.0, 12.0)  # the lease is six seconds
    scene.node.hit(Role.WORKER, signal.SIGCONT)


def rolling_restart(scene: Scene) -> None:
    """Ask every part in turn to end, under load."""
    with scene.sending():
        for role in (Role.LISTENER, Role.WORKER, Role.SCHEDULER, Role.SENDER):
            scene.wait(1.0, 4.0)
            scene.node.hit(role, signal.SIGTERM)


def doubled_parts(scene: Scene) -> None:
    """Run two schedulers and two senders."""
    scene.node.start_extra("extra-scheduler", "schedule")
    scene.node.start_extra("extra-sender", "deliver")
    scene.send_all()
    scene.wait(3.0, 5.0)


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
    if scene.database is None:
        raise ValueError("this fault needs a database server of its own")
    with scene.sending():
        for _ in range(2):
            scene.wait(2.0, 6.0)
            scene.database.kill(number)
            scene.wait(1.0, 4.0)
            scene.database.start()


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


# ── the archive ──────────────────────────────────────────────────────────────────────────────


def archive_has_moods(scene: Scene) -> None:
    """Go through everything that a PACS can do to a sender, then be well."""
    moods = [Mood.FULL, Mood.ABORT, Mood.SILENT, Mood.FORGETFUL, Mood.WARNING]
    scene.rng.shuffle(moods)
    scene.archive.mood = moods[0]
    scene.send_all()
    for mood in moods:
        scene.archive.mood = mood
        scene.wait(6.0, 10.0)
    scene.archive.heal()


def archive_is_away(scene: Scene) -> None:
    """Nobody listens; then somebody accepts and says nothing; then the archive is back."""
    port = scene.archive.port
    scene.archive.stop()
    scene.send_all()
    scene.wait(10.0, 15.0)
    with BlackHole(port):
        scene.wait(10.0, 15.0)
    scene.archive.start()


def commitment_never_comes(scene: Scene) -> None:
    """The archive agrees to report a storage commitment and never does."""
    scene.send_all()
    scene.wait(5.0, 8.0)


# ── the network and the senders ──────────────────────────────────────────────────────────────


def silent_peers(scene: Scene) -> None:
    """Open connections that say nothing, half a header, or vanish, while studies arrive."""
    with ExitStack() as held, scene.sending():
        for number in range(12):
            peer = held.enter_context(socket.socket())
            peer.settimeout(2.0)
            if peer.connect_ex(("127.0.0.1", scene.node.port)) == 0 and number % 3:
                with_header = b"\x01\x00\x00\x00" if number % 3 == 1 else b"\x01"
                _try_to_send(peer, with_header)
            scene.wait(0.05, 0.2)


def flood(scene: Scene) -> None:
    """Connect a thousand times, and close at once, while studies arrive."""
    with scene.sending():
        for _ in range(1_000):
            with socket.socket() as peer:
                peer.settimeout(1.0)
                peer.connect_ex(("127.0.0.1", scene.node.port))


def _try_to_send(peer: socket.socket, content: bytes) -> None:
    try:
        peer.sendall(content)
    except OSError:
        return  # the node has closed it already: its right


def sent_twice(scene: Scene) -> None:
    """Two nodes send the same studies at the same time."""
    threads = [scene.modality.send_in_background(study) for study in scene.studies]
    threads += [scene.second_modality.send_in_background(study) for study in scene.studies]
    for thread in threads:
        thread.join()
    for study in scene.studies:
        status = scene.node.status(study.study_instance_uid)
        if status is not None and status.n_instances != len(study.files):
            raise AssertionError(f"{status.n_instances} instances of {len(study.files)} files")


def late_slices(scene: Scene) -> None:
    """Hold back the last slices of every study until it is being worked on."""
    for study in scene.studies:
        scene.modality.send(study, study.files[:-2])
    scene.wait(6.0, 12.0)
    for study in scene.studies:
        scene.modality.send(study, study.files[-2:])
    scene.wait(5.0, 6.0)


def scattered(scene: Scene) -> None:
    """Send studies interleaved, each over five associations."""
    parts = [(study, study.files[start::5]) for study in scene.studies for start in range(5)]
    scene.rng.shuffle(parts)
    threads = [scene.modality.send_in_background(study, files) for study, files in parts]
    for thread in threads:
        thread.join()


# ── clock and models ─────────────────────────────────────────────────────────────────────────


def step_clock(scene: Scene) -> None:
    """Step the clock of every process forth and back by an hour and by a day."""
    steps = [3600, -3600, 86_400, -86_400, 0]
    clock = scene.folder / "clock"
    with scene.sending():
        for step in steps:
            scene.wait(2.0, 4.0)
            clock.write_text(f"{step}\n", encoding="ascii")


def step_clock_under_fire(scene: Scene) -> None:
    """Kill whoever holds a claim while the clock is a day ahead; then it is today again."""
    clock = scene.folder / "clock"
    clock.write_text("86400\n", encoding="ascii")
    with scene.sending():
        scene.wait(1.0, 4.0)
    scene.wait(4.0, 8.0)
    scene.node.hit(Role.WORKER)
    scene.node.hit(Role.SENDER)
    clock.write_text("0\n", encoding="ascii")


def break_model(scene: Scene) -> None:
    """Change one byte of a model while the node runs, and mend it after a while."""
    graph = scene.folder / "models" / "lung_segmentation" / "model.onnx"
    whole = graph.read_bytes()
    damaged = bytearray(whole)
    damaged[len(whole) // 2] ^= 0xFF
    scene.send_all()
    graph.write_bytes(bytes(damaged))
    scene.node.hit(Role.WORKER)
    scene.wait(8.0, 12.0)
    graph.write_bytes(whole)


def lose_gpu(scene: Scene) -> None:
    """Ask for a GPU that is not there: the CPU serves, and the run says so."""
    scene.send_all()


def copy_models(source: Path, folder: Path) -> None:
    """Give a node its own models, so that they can be damaged."""
    for name in ("lung_segmentation", "slice_classifier"):
        shutil.copytree(source / name, folder / "models" / name, dirs_exist_ok=True)


#: Every fault that this driver can force. Not here, because something else does it better: 8
#: (power loss: the order of system calls is checked where the listener is measured), 20 (rows in
#: every state meet a migration in the tests of the database), 21 (the audit sink has its own).
FAULTS: tuple[Fault, ...] = (
    Fault("1", "kill -9 of the listener while it receives", kill_listener),
    Fault("2", "kill -9 of workers", kill_worker),
    Fault("2b", "kill -9 of senders", kill_sender),
    Fault("3", "segmentation fault and lack of memory in workers", crash_decoder, may_fail=True),
    Fault("4", "database held by another program", lock_database, engines=(Engine.EMBEDDED,)),
    Fault("4a", "database held for a minute", hold_database, engines=(Engine.EMBEDDED,)),
    Fault("4b", "kill -9 of the database server", kill_database, engines=(Engine.CELERY,)),
    Fault("4c", "restart of the database server", stop_database_politely, engines=(Engine.CELERY,)),
    Fault(
        "4d",
        "disk of the database full",
        fill_database_disk,
        engines=(Engine.EMBEDDED,),
        needs=("database-disk",),
    ),
    Fault("5", "broker emptied and killed", lose_broker, engines=(Engine.CELERY,)),
    Fault("5b", "forged messages in the broker", forge_doorbells, engines=(Engine.CELERY,)),
    Fault("5c", "broker out of memory, lists spoilt", abuse_broker, engines=(Engine.CELERY,)),
    Fault("6", "spool full", fill_spool, needs=("tmpfs",)),
    Fault("6b", "spool read-only", write_protect_spool, needs=("tmpfs",)),
    Fault("7", "fsync fails", fail_fsync, needs=("strace",)),
    Fault("9", "archive away, then a black hole", archive_is_away),
    Fault("9b", "archive full, aborting, silent, forgetful, warning", archive_has_moods),
    Fault(
        "10",
        "storage commitment never comes",
        commitment_never_comes,
        destination=(("confirm", "commitment"), ("commitment_timeout_s", 3.0)),
    ),
    Fault(
        "11",
        "clock steps",
        step_clock,
        environment=_BENT_CLOCK,
        needs=("clock",),
    ),
    Fault(
        "11b",
        "clock steps back while claims are held",
        step_clock_under_fire,
        environment=_BENT_CLOCK,
        needs=("clock",),
    ),
    Fault("12", "silent and half-open peers", silent_peers),
    Fault("13", "connect flood", flood),
    Fault("14", "the same studies from two nodes at once", sent_twice),
    Fault("15", "late slices", late_slices),
    Fault("16", "studies interleaved over many associations", scattered),
    Fault(
        "17",
        "a byte of a model changes",
        break_model,
        settings=(("SCREENER_MODELS__ROOT", "{folder}/models"),),
        needs=("models",),
    ),
    Fault("18", "no GPU", lose_gpu, settings=(("SCREENER_INFERENCE__PROVIDER", "cuda"),)),
    Fault("19", "two schedulers, two senders", doubled_parts),
    Fault("22", "log on a full disk", fill_log_disk, needs=("full-log",)),
    Fault("23", "workers frozen beyond their lease", freeze_worker),
    Fault("24", "rolling restart under load", rolling_restart),
)
