"""How many connections and associations may be open, in all and from one address."""

from __future__ import annotations

import ipaddress
import threading
from collections import Counter


class ConnectionLimits:
    """How many connections may be open at a time.

    Parameters
    ----------
    maximum_total, maximum_per_address
        Most connections at a time.
    """

    def __init__(self, maximum_total: int, maximum_per_address: int) -> None:
        self._maximum_total = maximum_total
        self._maximum_per_address = maximum_per_address
        self._open: Counter[str] = Counter()
        self._changed = threading.Condition()

    def enter(self, address: str) -> str:
        """Count a connection in; gives why it is dropped, empty where it may stay."""
        with self._changed:
            if self._open.total() >= self._maximum_total:
                return "too many connections"
            if self._open[address] >= self._maximum_per_address:
                return "too many connections from this address"
            self._open[address] += 1
        return ""

    def leave(self, address: str) -> None:
        """Count a connection out."""
        with self._changed:
            self._open[address] -= 1
            if not self._open[address]:
                del self._open[address]
            self._changed.notify_all()

    def wait_until_empty(self, timeout_s: float) -> bool:
        """Wait until no connection is open; False where some still are after `timeout_s`."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._open, timeout_s)


class AssociationCounter:
    """How many associations are established, from whom; a connection over a limit hears why.

    Parameters
    ----------
    maximum_total, maximum_per_address
        Most associations at a time.
    """

    def __init__(self, maximum_total: int, maximum_per_address: int) -> None:
        self._maximum_total = maximum_total
        self._maximum_per_address = maximum_per_address
        self._open: Counter[str] = Counter()
        self._lock = threading.Lock()

    def try_enter(self, address: str) -> bool:
        """Count an association in; False where a limit is reached."""
        with self._lock:
            if (
                self._open.total() >= self._maximum_total
                or self._open[address] >= self._maximum_per_address
            ):
                return False
            self._open[address] += 1
            return True

    def leave(self, address: str) -> None:
        """Count an association out."""
        with self._lock:
            self._open[address] -= 1
            if not self._open[address]:
                del self._open[address]


def plain_address(address: str) -> str:
    """Give an address as the settings write it: IPv4 in IPv6 clothes becomes IPv4."""
    parsed = ipaddress.ip_address(address.split("%", 1)[0])
    mapped = getattr(parsed, "ipv4_mapped", None)
    return str(mapped or parsed)
