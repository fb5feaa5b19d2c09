"""What a fault is, and everything that it may touch."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from tests.chaos.archive import Archive
from tests.chaos.node import ChaosNode, Engine

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Iterator, Sequence

    from tests.chaos.modality import ChaosStudy, Modality
    from tests.chaos.services import BrokerServer, DatabaseServer

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
