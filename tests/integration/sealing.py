"""Whether somebody works: what is written now carries its seal before long."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import func, select

from screener.audit.events import EventKind, append_event
from screener.audit.tables import Event
from screener.daemon.site import utc_now
from tests.integration.processes import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable

    from screener.daemon.site import Site

#: A queue of thousands on a busy machine takes minutes.
SEAL_LIMIT_S = 270.0


def wait_for_seal(site: Site, ring: Callable[[], object] | None = None) -> None:
    """Write an event, and wait until a sweep has sealed it: somebody rang, somebody worked.

    Parameters
    ----------
    ring
        Rings for the seal where nobody else does; after the event is written, since a worker that
        is quicker than the test would seal before it.
    """
    with site.database.begin() as session:
        append_event(session, EventKind.NODE_STARTED, utc_now(), payload={"process": "test"})
    if ring is not None:
        ring()

    def is_sealed() -> bool:
        with site.database.session() as session:
            unsealed = select(func.count()).select_from(Event).where(Event.sequence.is_(None))
            return session.scalar(unsealed) == 0

    wait_until(is_sealed, "what was written is sealed", SEAL_LIMIT_S)
