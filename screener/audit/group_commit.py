"""Senders that wait for the same disk wait together: one commit for all of them."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

from screener.audit.registration import ReceivedInstance, Registration, register_all
from screener.errors import DatabaseUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from screener.audit.database import Database


class GroupRegistrar:
    """Registers instances of several associations; those that wait together commit together.

    No thread of its own: whoever has its turn commits for all who came meanwhile. Alone, an
    instance goes at once.

    Parameters
    ----------
    database
        Where the rows go.
    now
        Reads the clock.
    """

    def __init__(self, database: Database, now: Callable[[], datetime]) -> None:
        self._database = database
        self._now = now
        self._turn = threading.Lock()
        self._lock = threading.Lock()
        self._waiting: list[_Ticket] = []

    def register(self, received: ReceivedInstance) -> Registration:
        """Do what `register_instance` does.

        Raises
        ------
        DatabaseUnavailable
            Nothing of this instance was committed.
        """
        ticket = _Ticket(received)
        with self._lock:
            self._waiting.append(ticket)
        with self._turn:
            if ticket.outcome is None and ticket.failure is None and not ticket.is_alone:
                with self._lock:
                    batch, self._waiting = self._waiting, []
                self._commit(batch)
            if ticket.is_alone:
                return register_all(self._database, [received], self._now())[0]
        if ticket.outcome is None:
            raise ticket.failure or DatabaseUnavailable("audit database: nothing was committed")
        return ticket.outcome

    def _commit(self, batch: list[_Ticket]) -> None:
        """Commit a batch; one that breaks a rule must not cost the others their place."""
        if len(batch) == 1:
            batch[0].is_alone = True
            return
        try:
            outcomes = register_all(self._database, [one.received for one in batch], self._now())
        except DatabaseUnavailable as error:
            for ticket in batch:
                ticket.failure = error
        except (ValueError, self._database.driver_error):
            for ticket in batch:
                ticket.is_alone = True  # each in its own transaction, to its own error
        else:
            for ticket, outcome in zip(batch, outcomes, strict=True):
                ticket.outcome = outcome


@dataclass(slots=True)
class _Ticket:
    received: ReceivedInstance
    outcome: Registration | None = None
    failure: DatabaseUnavailable | None = None
    is_alone: bool = False
