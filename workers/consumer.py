"""A worker that speaks to no other worker: the database is where they meet (ADR 0026).

Celery's workers greet each other, gossip and send heartbeats to all. Those messages are none that
this node sends, so the first of them, its own, would end a worker of ours at its door.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from celery.worker.consumer import Consumer

if TYPE_CHECKING:
    from collections.abc import Mapping

#: Where Celery finds the consumer.
CONSUMER = "workers.consumer:SilentConsumer"

_SILENT = {"without_gossip": True, "without_mingle": True, "without_heartbeat": True}


class SilentConsumer(Consumer):  # type: ignore[misc]
    """Reads its queues alone, however the worker was started."""

    def __init__(
        self, *arguments: Any, worker_options: Mapping[str, object] | None = None, **more: Any
    ) -> None:
        options = {**(worker_options or {}), **_SILENT}
        super().__init__(*arguments, worker_options=options, **more)
