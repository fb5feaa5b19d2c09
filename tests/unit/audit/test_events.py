"""Events are a closed list with allow-listed payloads; plain values and pauses beside them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import timedelta, timezone
from pathlib import Path
from typing import TYPE_CHECKING, get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import select

from screener.audit.backoff import RetryPolicy
from screener.audit.events import (
    KIND_OF_FACT,
    MAX_TEXT_LENGTH,
    PAYLOAD_KEYS,
    EventKind,
    append_event,
    event_digest,
    event_of,
)
from screener.audit.plain import to_plain
from screener.audit.tables import Event
from screener.domain import NotAnalysedReason, RunState
from screener.facts import Fact, NotAnalysedBecause
from tests.audit_factories import NOW, make_decision

if TYPE_CHECKING:
    from screener.audit.database import Database


def test_every_kind_says_what_it_may_say() -> None:
    """No event is without its allow-list, and none could hold a name."""
    assert set(PAYLOAD_KEYS) == set(EventKind)
    keys = set().union(*PAYLOAD_KEYS.values())
    assert not {key for key in keys if "patient_name" in key or "birth" in key}


def test_every_fact_has_its_kind() -> None:
    """Whatever the pipeline tells becomes an event."""
    assert set(KIND_OF_FACT) == set(get_args(Fact))


def test_event_refuses_unknown_keys(database: Database) -> None:
    """A key that nobody allowed cannot be written, and the deed is rolled back with it."""

    def write() -> None:
        with database.begin() as session:
            append_event(session, EventKind.RUN_FAILED, NOW, payload={"patient_name": "X"})

    with pytest.raises(ValueError, match="run_failed may not say patient_name"):
        write()
    with database.session() as session:
        assert session.scalars(select(Event)).all() == []


def test_long_texts_are_cut(database: Database) -> None:
    """A sentence without end is kept to a length, in lists too."""
    with database.begin() as session:
        payload = {"detail": "x" * 5000}
        append_event(session, EventKind.RUN_FAILED, NOW, payload=payload)
        append_event(session, EventKind.CHAIN_BROKEN, NOW, payload={"findings": ["y" * 5000, "z"]})
    with database.session() as session:
        failed, broken = (json.loads(row.payload) for row in session.scalars(select(Event)))
    assert len(failed["detail"]) == MAX_TEXT_LENGTH
    assert [len(text) for text in broken["findings"]] == [MAX_TEXT_LENGTH, 1]


def test_fact_becomes_event() -> None:
    """A fact gives kind and payload, with plain values."""
    fact = NotAnalysedBecause(NotAnalysedReason.NOT_A_CHEST, "No lung in 40 slices.")
    pending = event_of(fact, NOW)
    assert pending.kind is EventKind.NOT_ANALYSED_BECAUSE
    assert pending.payload == {"reason": "not-a-chest", "detail": "No lung in 40 slices."}


def test_digest_does_not_depend_on_the_zone() -> None:
    """The same moment written in another zone is the same event."""
    elsewhere = NOW.astimezone(timezone(timedelta(hours=5)))
    assert event_digest("k", NOW, None, None, "{}") == event_digest(
        "k", elsewhere, None, None, "{}"
    )
    assert event_digest("k", NOW, "a", None, "{}") != event_digest("k", NOW, None, "a", "{}")


def test_plain_values() -> None:
    """Enums, times, paths, numbers of numpy and nested values become plain JSON."""
    value = {
        RunState.QUEUED: (np.float32(0.5), np.int64(3), float("inf")),
        "at": NOW,
        "path": Path("/spool"),
        "decision": make_decision(),
        "nothing": None,
        "flags": frozenset({True}),
    }
    plain = to_plain(value)
    assert plain["queued"] == [0.5, 3, None]
    assert plain["at"] == "2026-03-29T01:30:00+00:00"
    assert plain["decision"]["patient_class"] == "covid-19"
    json.dumps(plain, allow_nan=False)


@dataclass(frozen=True)
class WithPixels:
    pixels: object


@pytest.mark.parametrize("value", [np.zeros(3), object(), WithPixels(np.zeros(2)), b"bytes"])
def test_plain_refuses_what_is_no_json(value: object) -> None:
    """Pixels and bytes never slip into the database."""
    with pytest.raises(TypeError, match="no plain form"):
        to_plain(value)


@given(n_failures=st.integers(0, 10_000), row_id=st.text(max_size=40))
def test_pause_stays_between_half_and_cap(n_failures: int, row_id: str) -> None:
    """Pauses double, never pass the cap, never fall under half of what is due."""
    policy = RetryPolicy(first_retry_s=5.0, retry_cap_s=300.0)
    due_s = min(300.0, 5.0 * 2.0 ** min(max(n_failures, 1) - 1, 60))
    assert due_s / 2 <= policy.delay_s(n_failures, row_id) <= due_s


def test_pauses_differ_between_rows() -> None:
    """Runs that failed together come back apart, and each repeatably."""
    policy = RetryPolicy(first_retry_s=5.0, retry_cap_s=300.0)
    pauses = [policy.delay_s(3, f"run-{number}") for number in range(50)]
    assert len({round(pause, 1) for pause in pauses}) > 30
    assert pauses[0] == policy.delay_s(3, "run-0")
