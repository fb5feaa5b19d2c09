"""Beat that counts time as it passes, not as the clock says.

Celery's own compares the clock with when each task was last sent, kept in a file: after the clock
went back by a day it sends nothing for a day, even if it is started again.
"""

from __future__ import annotations

import time
from typing import Any

from celery.beat import Scheduler

#: Where Celery finds the scheduler.
SCHEDULER = "workers.beat:SteadyScheduler"


class SteadyScheduler(Scheduler):  # type: ignore[misc]
    """Sends each task when its period has passed, the first time at once; keeps nothing."""

    def __init__(self, *arguments: Any, **more: Any) -> None:
        self._due_s: dict[str, float] = {}
        super().__init__(*arguments, **more)

    def tick(self, *_: Any, **__: Any) -> float:
        """Send what is due; give the seconds until the next is."""
        now_s = time.monotonic()
        for name, entry in self.schedule.items():
            if self._due_s.get(name, now_s) <= now_s:
                self.apply_entry(entry, producer=self.producer)
                self._due_s[name] = now_s + entry.schedule.run_every.total_seconds()
        return max(0.0, min(self._due_s.values()) - time.monotonic())
