"""Speed of receiving: 500 CT instances into ours, Orthanc and DCMTK's storescp, taking turns.

Every receiver starts with an empty folder on the same disk before each turn. Orthanc syncs what it
stores, as we do; storescp syncs nothing and is the measure of what the wire and the disk allow.
Seconds move with what else the machine does; processor time of the receiver is the steadier figure.
DCMTK waits for the peer's acknowledgements unless TCP_NODELAY is set on both ends.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import track
from rich.table import Table

from screener.receive.part10 import FileMeta, encode_file_meta
from tests.integration.conftest import free_port
from tests.receive_factories import CT_IMAGE, EXPLICIT, SERIES_UID, ct_bytes

N_INSTANCES = 500
N_TURNS = 5
#: Longest start of a receiver, in seconds.
START_S = 60.0


@dataclass(frozen=True, slots=True)
class Turn:
    """One turn of one receiver."""

    seconds: float
    cpu_s: float  #: processor time of the receiver alone
    peak_bytes: int


@contextmanager
def ours(folder: Path, *wrapper: str) -> Iterator[tuple[int, int]]:
    """Run the listening process; gives its port and process id."""
    settings = folder / "screener.toml"
    settings.write_text(
        f"data_dir = {json.dumps(str(folder))}\n"
        '[node]\nport = 0\n[[peers]]\nae_title = "BENCH"\naddresses = ["127.0.0.1"]\n'
        "allow_plain = true\n[spool]\nreserve_bytes = 0\n[log]\nlevel = 'error'\n",
        encoding="utf-8",
    )
    ready = folder / "listener.json"
    command = [sys.executable, "-P", "-m", "screener", "--settings", str(settings), "listen"]
    with _process([*wrapper, *command], ready.exists) as process:
        content = json.loads(ready.read_text(encoding="utf-8"))
        try:
            yield content["port"], content["pid"]
        finally:
            if content["pid"] != process.pid:
                os.kill(content["pid"], signal.SIGTERM)  # the wrapper ends with it
                process.wait()


@contextmanager
def orthanc(folder: Path) -> Iterator[tuple[int, int]]:
    """Run Orthanc with its data synced before they are indexed."""
    port, rest = free_port(), free_port()
    configuration = folder / "orthanc.json"
    configuration.write_text(
        json.dumps(
            {
                "StorageDirectory": str(folder / "store"),
                "IndexDirectory": str(folder / "store"),
                "SyncStorageArea": True,
                "DicomAet": "SCREENER",
                "DicomPort": port,
                "HttpPort": rest,
                "DicomCheckCalledAet": False,
                "TcpNoDelay": True,
            }
        ),
        encoding="utf-8",
    )
    program = shutil.which("Orthanc", path="/usr/sbin:/usr/bin") or "Orthanc"
    with _process([program, str(configuration)], lambda: _listens(port)) as process:
        yield port, process.pid


@contextmanager
def storescp(folder: Path) -> Iterator[tuple[int, int]]:
    """Run DCMTK's storescp, a process for each association."""
    port = free_port()
    store = folder / "store"
    store.mkdir()
    command = ["storescp", "--fork", "--max-pdu", "131072", "-od", str(store), str(port)]
    with _process(command, lambda: _listens(port)) as process:
        yield port, process.pid


RECEIVERS: Mapping[str, Callable[[Path], AbstractContextManager[tuple[int, int]]]] = {
    "ours": ours,
    "Orthanc": orthanc,
    "storescp": storescp,
}


def print_receiving(folder: Path, console: Console) -> None:
    """Measure one and four associations, and print seconds, ratios and memory."""
    files = write_series(folder / "series")
    for n_associations in (1, 4):
        turns: dict[str, list[Turn]] = {name: [] for name in RECEIVERS}
        description = f"{n_associations} associations"
        for number in track(range(N_TURNS), description, console=console, transient=True):
            for name in RECEIVERS:
                turns[name].append(take_turn(name, files, n_associations, folder / f"{number}"))
        console.print(_table(turns, n_associations))
    console.print(durability_order(files[:3], folder / "strace"))


def take_turn(name: str, files: Sequence[Path], n_associations: int, folder: Path) -> Turn:
    """Start a receiver, send everything, stop it, remove what it stored."""
    folder.mkdir()
    try:
        with RECEIVERS[name](folder) as (port, pid):
            before_s = _cpu_s(pid)
            seconds = send(files, n_associations, port)
            cpu_s = _cpu_s(pid) - before_s
            peak_bytes = _peak_bytes(pid)
    finally:
        shutil.rmtree(folder)
    return Turn(seconds, cpu_s, peak_bytes)


def send(files: Sequence[Path], n_associations: int, port: int) -> float:
    """Send the files over so many associations at once; gives the seconds."""
    parts = [files[start::n_associations] for start in range(n_associations)]
    started_s = time.perf_counter()
    senders = [
        subprocess.Popen(
            ["dcmsend", "-aet", "BENCH", "-aec", "SCREENER", "127.0.0.1", str(port), *part],
            env={**os.environ, "TCP_NODELAY": "1"},
            stdout=subprocess.DEVNULL,
        )
        for part in parts
    ]
    codes = [sender.wait() for sender in senders]
    if any(codes):
        raise SystemExit(f"dcmsend ended with {codes}")
    return time.perf_counter() - started_s


def durability_order(files: Sequence[Path], folder: Path) -> str:
    """Watch the system calls of our listener: nothing is answered before it is durable."""
    folder.mkdir()
    log = folder / "strace.log"
    calls = "trace=fsync,fdatasync,rename,renameat,renameat2,sendto"
    with ours(folder, "strace", "-f", "-yy", "-e", calls, "-o", str(log)) as (port, _):
        send(files, 1, port)
    order = order_of(log.read_text(encoding="utf-8", errors="replace"))
    expected = "file, rename, folder, database, answer"
    found = {", ".join(one) for one in order}
    if found != {expected} or len(order) != len(files):
        raise SystemExit(f"an answer came before everything was durable: {found}")
    return f"order of every instance, by strace: {expected}"


def order_of(log: str) -> list[list[str]]:
    """Give what was done for each instance, up to its answer."""
    steps: list[list[str]] = []
    current: list[str] = []
    for line in log.splitlines():
        call = re.match(r"\d+ +(\w+)\((.*)", line)
        if call is None or "resumed" in line.split("(", maxsplit=1)[0]:
            continue
        name, rest = call.groups()
        if name in {"fsync", "fdatasync"} and ".part>" in rest:
            current = ["file"]
        elif name.startswith("rename") and ".part" in rest and ".dcm" in rest:
            current.append("rename")
        elif name in {"fsync", "fdatasync"} and re.search(r"/store/[0-9a-f]{2}>", rest):
            current.append("folder")
        elif name in {"fsync", "fdatasync"} and "sqlite3" in rest and current:
            current.append("database")
        elif name == "sendto" and current and "TCP" in rest:
            steps.append([*list(dict.fromkeys(current)), "answer"])
            current = []
    return steps


def write_series(folder: Path) -> list[Path]:
    """Write 500 slices of 512 x 512 and 16 bits."""
    folder.mkdir()
    rng = np.random.default_rng(5)
    noise = rng.integers(-1000, 1000, (512, 512), dtype=np.int16)
    files = []
    for number in range(1, N_INSTANCES + 1):
        pixels = np.roll(noise, number, axis=0).astype("<i2").tobytes()
        content = ct_bytes(number, Rows=512, Columns=512, PixelData=pixels)
        path = folder / f"{number:04d}.dcm"
        meta = FileMeta(CT_IMAGE, f"{SERIES_UID}.{number}", EXPLICIT)
        path.write_bytes(encode_file_meta(meta) + content)
        files.append(path)
    return files


def _table(turns: Mapping[str, Sequence[Turn]], n_associations: int) -> Table:
    title = f"Receiving {N_INSTANCES} CT, {n_associations} association(s), medians of {N_TURNS}"
    table = Table(title=title, title_justify="left")
    for column in (
        "receiver",
        "seconds (range)",
        "instances/s",
        "ours against it",
        "processor ms each",
        "peak memory",
    ):
        table.add_column(column)
    medians = {name: statistics.median(t.seconds for t in of) for name, of in turns.items()}
    for name, of in turns.items():
        seconds = sorted(turn.seconds for turn in of)
        table.add_row(
            name,
            f"{medians[name]:.2f} ({seconds[0]:.2f} to {seconds[-1]:.2f})",
            f"{N_INSTANCES / medians[name]:.0f}",
            f"{medians[name] / medians['ours']:.2f}",
            f"{statistics.median(turn.cpu_s for turn in of) / N_INSTANCES * 1e3:.2f}",
            f"{max(turn.peak_bytes for turn in of) / 1e6:.0f} MB",
        )
    return table


def _cpu_s(pid: int) -> float:
    """Give the processor time of a process and its children, also those that ended, in seconds."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()
    seconds = 0.0
    for child in children:
        with suppress(FileNotFoundError, ProcessLookupError):  # ended: its parent counts it
            seconds += _own_cpu_s(int(child))
    return seconds + _own_cpu_s(pid)


def _own_cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    # proc(5): utime, stime, and of children that were waited for, are fields 14 to 17.
    return sum(int(ticks) for ticks in fields[11:15]) / os.sysconf("SC_CLK_TCK")


def _peak_bytes(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    match = re.search(r"VmHWM:\s+(\d+) kB", status)
    return int(match[1]) * 1024 if match else 0


@contextmanager
def _process(
    command: Sequence[str], is_ready: Callable[[], bool]
) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(
        command,
        env={**os.environ, "TCP_NODELAY": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        deadline_s = time.monotonic() + START_S
        while not is_ready():
            with suppress(subprocess.TimeoutExpired):
                process.wait(0.05)  # its end is news at once, its port within the next look
            if process.poll() is not None or time.monotonic() > deadline_s:
                raise SystemExit(f"{command[0]} does not start")
        yield process
    finally:
        process.terminate()
        process.wait()


def _listens(port: int) -> bool:
    table = Path("/proc/net/tcp").read_text(encoding="ascii")
    return re.search(rf": [0-9A-F]{{8}}:{port:04X} [0-9A-F:]+ 0A ", table) is not None
