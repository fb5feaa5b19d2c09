"""How long to wait before the next try; pure, the jitter comes from the row, not from chance."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """When to try again and when to stop."""

    first_retry_s: float
    retry_cap_s: float
    max_attempts: int | None = None  #: None: attempts do not end it
    give_up_after_s: float | None = None  #: None: age does not end it
    least_delay_s: float = 0.0  #: what the other side asked for

    def delay_s(self, n_failures: int, row_id: str) -> float:
        """Give the wait after the n-th failure in a row, in seconds.

        Doubles from the first wait up to the cap; between half of that and all of it, spread by a
        digest of the row and the count, so that rows that failed together come back apart and a
        repeated calculation gives the same wait.
        """
        doublings = min(max(n_failures, 1) - 1, 60)
        longest_s = min(self.first_retry_s * 2.0**doublings, self.retry_cap_s)
        digest = hashlib.sha256(f"{row_id}/{n_failures}".encode()).digest()
        share = int.from_bytes(digest[:4], "big") / 0xFFFFFFFF
        return max(longest_s * (0.5 + 0.5 * share), self.least_delay_s)
