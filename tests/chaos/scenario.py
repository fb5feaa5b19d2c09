"""One fault from an empty disk to checked books."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import time
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from models.phantom import Pattern, PhantomSpec, make_phantom
from models.registry import SHIPPED_MODELS
from screener.demo.series_writer import write_series
from screener.demo.studies import read_studies
from screener.demo.synthetic_identity import SyntheticIdentity
from tests.chaos.archive import Archive
from tests.chaos.books import check_books, wait_until_settled
from tests.chaos.modality import ChaosStudy, Modality, configure_sender
from tests.chaos.native import compile_native
from tests.chaos.node import ChaosNode, Engine, Services
from tests.chaos.process_faults import copy_models
from tests.chaos.scene import Fault, Scene
from tests.chaos.services import BrokerServer, DatabaseServer
from tests.integration.processes import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

#: Who may send to the node.
_PEERS = [
    {"ae_title": title, "addresses": ["127.0.0.1"], "allow_plain": True}
    for title in ("SCANNER", "SCANNER2", "TESTPACS")
]
#: Size of the disk that can be filled, as mount understands it.
_SMALL_DISK = "12m"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one fault came to."""

    number: str
    title: str
    engine: str
    seed: int
    seconds: float
    broken: tuple[str, ...]
    skipped: str = ""

    def line(self) -> str:
        """Give one line for people, and one for each broken promise."""
        word = "BROKEN" if self.broken else f"skipped: {self.skipped}" if self.skipped else "held"
        first = f"{self.engine:>8} {self.number:>4} {self.title}: {word} ({self.seconds:.0f} s)"
        return "\n".join([first, *(f"           {one}" for one in self.broken)])

    def as_dict(self) -> dict[str, object]:
        """Give plain values."""
        return asdict(self)

    def keep(self, folder: Path, into: Path) -> None:
        """Copy what the fault left, so that somebody can look."""
        shutil.copytree(
            folder, into / folder.name, ignore=shutil.ignore_patterns("spool"), dirs_exist_ok=True
        )


def write_studies(
    folder: Path, n_synthetic: int, real: Sequence[Path] = ()
) -> tuple[ChaosStudy, ...]:
    """Write small synthetic chests, and take real studies from folders."""
    patterns = tuple(Pattern)
    studies = []
    for number in range(n_synthetic):
        spec = PhantomSpec(
            seed=900 + number,
            pattern=patterns[number % len(patterns)],
            n_slices=24,
            slice_spacing_mm=13.0,
            rows=128,
            columns=128,
            pixel_spacing_mm=3.0,
            severity=0.6,
        )
        identity = SyntheticIdentity(name=f"chaos-{number}", study_at=datetime.now(UTC))
        files = write_series(make_phantom(spec), folder / str(number), identity)
        studies.append(ChaosStudy(identity.study_instance_uid, tuple(files)))
    for number, one in enumerate(real):
        # As the demo would: published files lack what a C-STORE must name.
        for found in read_studies(one, folder / f"real-{number}"):
            files = tuple(instance.path for instance in found.study.instances)
            studies.append(ChaosStudy(found.study.study_instance_uid, files))
    return tuple(studies)


def run_fault(
    fault: Fault, engine: Engine, studies: Sequence[ChaosStudy], seed: int, folder: Path
) -> Outcome:
    """Start a node, let the fault strike, wait until all is settled, check the books."""
    started_s = time.monotonic()

    def outcome(*broken: str, skipped: str = "") -> Outcome:
        seconds = time.monotonic() - started_s
        return Outcome(
            fault.number, fault.title, engine.value, seed, seconds, tuple(broken), skipped
        )

    missing = _missing(fault)
    if missing:
        return outcome(skipped=missing)
    try:
        with _scene(fault, engine, studies, seed, folder) as scene:
            fault.strike(scene)
            scene.archive.heal()
            wait_until_settled(scene.node, studies)
            return outcome(
                *check_books(
                    scene.node,
                    (scene.modality, scene.second_modality),
                    (scene.archive,),
                    studies,
                    may_fail=fault.may_fail,
                )
            )
    except (AssertionError, pytest.fail.Exception, subprocess.TimeoutExpired, OSError) as error:
        return outcome(f"{type(error).__name__}: {error}")


@contextmanager
def _scene(
    fault: Fault, engine: Engine, studies: Sequence[ChaosStudy], seed: int, folder: Path
) -> Iterator[Scene]:
    configure_sender()
    folder.mkdir(parents=True)
    if "models" in fault.needs:
        copy_models(SHIPPED_MODELS, folder)
    (folder / "clock").write_text("0\n", encoding="ascii")
    if "clock" in fault.needs:
        # faketime bends sleeps too, and breaks some.
        compile_native("clock.c", folder / "clock.so", "-shared", "-fPIC")
    with ExitStack() as stack:
        if "tmpfs" in fault.needs:
            stack.enter_context(_small_disk(folder / "data" / "spool"))
        database = broker = None
        services = Services(f"sqlite:///{folder / 'data' / 'screener.sqlite3'}")
        if "database-disk" in fault.needs:
            stack.enter_context(_small_disk(folder / "database"))
            services = Services(f"sqlite:///{folder / 'database' / 'screener.sqlite3'}")
        if engine is Engine.CELERY:
            database = stack.enter_context(DatabaseServer())
            broker = stack.enter_context(BrokerServer())
            services = Services(database.url, broker.url)
        archive = stack.enter_context(Archive(folder / "archive", "TESTPACS", free_port()))
        destination = {
            "name": "pacs",
            "ae_title": "TESTPACS",
            "host": "127.0.0.1",
            "port": archive.port,
            "kinds": ["sr", "seg", "ko"],
            "timeout_s": 10.0,
        }
        node = stack.enter_context(
            ChaosNode(
                folder,
                engine,
                services,
                settings={
                    "SCREENER_DESTINATIONS": json.dumps([destination | dict(fault.destination)]),
                    "SCREENER_PEERS": json.dumps(_PEERS),
                    **_filled(fault.settings, folder),
                },
                environment=_filled(fault.environment, folder),
                is_log_full="full-log" in fault.needs,
            )
        )
        modality = Modality("SCANNER", node.port)
        second = Modality("SCANNER2", node.port)
        stack.callback(modality.stop.set)
        stack.callback(second.stop.set)
        yield Scene(
            node=node,
            archive=archive,
            modality=modality,
            second_modality=second,
            studies=studies,
            rng=random.Random(f"{seed} {engine.value} {fault.number}"),  # noqa: S311  a test's dice
            folder=folder,
            database=database,
            broker=broker,
        )


def _filled(pairs: Sequence[tuple[str, str]], folder: Path) -> dict[str, str]:
    return {name: value.format(folder=folder) for name, value in pairs}


def _missing(fault: Fault) -> str:
    """Say what this machine lacks for a fault, empty when nothing."""
    if {"tmpfs", "database-disk"} & set(fault.needs) and os.geteuid() != 0:
        return "only root may mount a small disk"
    if "strace" in fault.needs and shutil.which("strace") is None:
        return "strace is not installed"
    if {"clock", "compiler"} & set(fault.needs) and shutil.which("cc") is None:
        return "there is no C compiler"
    return ""


@contextmanager
def _small_disk(folder: Path) -> Iterator[None]:
    """Mount a disk that is full after a few megabytes."""
    folder.mkdir(parents=True)
    size = f"size={_SMALL_DISK}"
    subprocess.run(["mount", "-t", "tmpfs", "-o", size, "tmpfs", str(folder)], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)
