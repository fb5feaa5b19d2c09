"""A few of the faults of ``make chaos``, on both engines, as part of every test run.

Covers: a listener killed while it receives, a broker that is emptied and killed; with the slow
tests also a PACS with every bad mood, whose moods other tests try singly. All others, more studies
and other seeds: ``make chaos`` (tests/chaos).
"""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING

import pytest

from tests.chaos.faults import FAULTS
from tests.chaos.node import Engine
from tests.chaos.scenario import run_fault, write_studies
from tests.integration.processes import find_program

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [
    pytest.mark.integration,
    pytest.mark.timeout(1200),
]


@pytest.mark.parametrize(
    ("number", "engine"),
    [
        ("1", Engine.EMBEDDED),
        ("5", Engine.CELERY),
        pytest.param("9b", Engine.EMBEDDED, marks=pytest.mark.slow),
    ],
)
def test_fault_costs_time_and_nothing_else(number: str, engine: Engine, tmp_path: Path) -> None:
    """After the fault every promise holds: nothing lost, nothing twice, all accounted for."""
    if engine is Engine.CELERY:
        find_program("redis-server")
    (fault,) = (one for one in FAULTS if one.number == number)
    studies = write_studies(tmp_path / "studies", 2)

    outcome = run_fault(fault, engine, studies, seed=3, folder=tmp_path / "node")

    gc.collect()  # here, where leaked sockets of the archive are expected
    assert not outcome.skipped
    assert outcome.broken == ()
