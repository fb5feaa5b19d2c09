"""Every fuzz target on its corpus and for five seconds on mutations of it; `make fuzz` goes on.

Does not cover: other people's decoders, which run in a child with limits.
"""

from __future__ import annotations

import random
import time
from pathlib import Path

import pytest
from rich.progress import Progress

from tests.fuzz import __main__ as fuzzing
from tests.fuzz.corpus import SEEDS
from tests.fuzz.targets import TARGETS


def test_every_target_has_its_corpus() -> None:
    """A target without an honest input explores nothing."""
    assert set(SEEDS) == set(TARGETS)
    assert all(SEEDS.values())


@pytest.mark.parametrize("name", TARGETS)
def test_target_behaves_for_five_seconds(name: str) -> None:
    """No foreign error, no two seconds, no 256 MB."""
    rng = random.Random(20261126)  # noqa: S311
    assert not fuzzing.fuzz(name, 5.0, rng, Progress(disable=True))


@pytest.mark.parametrize("fault", ["error", "time"])
def test_finding_is_found_and_kept(
    fault: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A fuzzer that cannot find anything proves nothing."""

    def broken(content: bytes) -> None:
        if fault == "error":
            raise KeyError(len(content))
        while time.process_time() - started_s < 0.2:
            sum(range(1000))

    started_s = time.process_time()
    monkeypatch.setattr(fuzzing, "MOST_S", 0.05)
    monkeypatch.setattr(fuzzing, "FINDINGS", tmp_path)
    monkeypatch.setattr(fuzzing, "TARGETS", {"command_set": broken})
    assert fuzzing.fuzz("command_set", 5.0, random.Random(1), Progress(disable=True))  # noqa: S311
    assert len(list(tmp_path.iterdir())) == 1
