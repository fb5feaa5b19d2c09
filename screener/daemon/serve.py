"""``screener serve``: the whole node on one machine, each part a child that is kept alive."""

from __future__ import annotations

from typing import TYPE_CHECKING

from screener.daemon.site import upgrade_database
from screener.daemon.supervise import ChildSpec, supervise

if TYPE_CHECKING:
    import threading

    from screener.settings import Settings

#: What a child may take to stop beyond the run in its hand, before it is killed, in seconds.
DRAIN_S = 20.0


def serve(settings: Settings, stop: threading.Event, reload: threading.Event) -> None:
    """Run listener, workers, sender and scheduler until `stop` is set.

    `reload` is passed on to the listener, which then reads its TLS files again.
    """
    upgrade_database(settings)
    workers = [
        ChildSpec(f"worker-{number}", ("work",))
        for number in range(1, settings.workers.processes + 1)
    ]
    supervise(
        [
            ChildSpec("listener", ("listen",), takes_hangup=True),
            *workers,
            ChildSpec("sender", ("deliver",)),
            ChildSpec("scheduler", ("schedule",)),
            *([ChildSpec("health", ("health",))] if settings.health.port else []),
        ],
        stop,
        settings.workers.drain_s + DRAIN_S,
        reload,
    )
