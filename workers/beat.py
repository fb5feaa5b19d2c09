"""Beat that counts time as it passes, not as the clock says, and tells where nobody hears it.

Celery's own compares the clock with when each task was last sent, kept in a file: after the clock
went back by a day it sends nothing for a day, even if it is started again. Where the broker is away
no worker hears of anything, the count of the books neither: so beat itself raises the alert.
"""

from __future__ import annotations

import threading
import time
from typing import Any

from celery.beat import Scheduler
from celery.signals import beat_init

from screener.daemon.site import open_site
from screener.daemon.watching import COUNT_EVERY_S, watch_broker
from screener.errors import ScreenerError
from screener.logs import get_log
from screener.settings import load_settings

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


@beat_init.connect  # type: ignore[untyped-decorator]
def _watch_broker(**_: object) -> None:
    threading.Thread(target=_watch_for_ever, name="broker-watch", daemon=True).start()


def _watch_for_ever() -> None:
    pause, site = threading.Event(), None
    while True:
        try:
            site = site or open_site(load_settings())
            watch_broker(site)
        except ScreenerError as error:
            get_log().warning("broker_not_watched", error=type(error).__name__)
        pause.wait(COUNT_EVERY_S)
