"""A lease is extended while the work goes on, and a lost one is told."""

from __future__ import annotations

import threading

from screener.daemon.lease import kept_alive
from screener.errors import DatabaseUnavailable, LostClaim


def test_lease_is_extended_until_the_work_ends() -> None:
    """Three extensions come within the block, none after it."""
    extensions = threading.Semaphore(0)
    calls = []

    def extend() -> None:
        calls.append(1)
        extensions.release()

    with kept_alive(extend, lease_s=0.03) as lost:
        for _ in range(3):
            assert extensions.acquire(timeout=5)
    n_calls = len(calls)
    threading.Event().wait(0.1)

    assert not lost.is_set()
    assert len(calls) == n_calls


def test_lost_claim_is_told_to_the_work() -> None:
    """The event is set as soon as an extension finds the claim gone."""

    def extend() -> None:
        raise LostClaim("taken by another worker")

    with kept_alive(extend, lease_s=0.03) as lost:
        assert lost.wait(5)


def test_unreachable_database_does_not_end_the_extensions() -> None:
    """A database that is away for a moment is asked again."""
    calls = threading.Semaphore(0)

    def extend() -> None:
        calls.release()
        raise DatabaseUnavailable("away")

    with kept_alive(extend, lease_s=0.03) as lost:
        assert calls.acquire(timeout=5)
        assert calls.acquire(timeout=5)
        assert not lost.is_set()
