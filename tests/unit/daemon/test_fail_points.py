"""Faults on purpose: off by default, refused outside tests, and they fire as often as asked."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from screener.daemon.fail_points import FailPoint, fail_points_of
from screener.errors import ConfigError, DatabaseUnavailable
from screener.settings import Settings, load_settings
from screener.upkeep_settings import FAIL_POINTS_VARIABLE


def armed(folder: Path, *points: str) -> Settings:
    return Settings.model_validate({"data_dir": folder, "testing": {"fail_points": points}})


@pytest.fixture
def _allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(FAIL_POINTS_VARIABLE, "yes")


@pytest.mark.parametrize("point", FailPoint)
def test_nothing_is_armed_by_default(tmp_path: Path, point: FailPoint) -> None:
    """Passing a place does nothing and leaves nothing."""
    fail_points_of(Settings(data_dir=tmp_path)).reach(point)
    assert list(tmp_path.iterdir()) == []


def test_fail_points_are_refused_outside_tests(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A settings file that arms one cannot start a node by mistake."""
    monkeypatch.delenv(FAIL_POINTS_VARIABLE, raising=False)
    path = tmp_path / "screener.toml"
    path.write_text('[testing]\nfail_points = ["worker.after-claim=kill"]\n')
    with pytest.raises(ConfigError, match=FAIL_POINTS_VARIABLE):
        load_settings(path)


@pytest.mark.usefixtures("_allowed")
@pytest.mark.parametrize("text", ["nowhere=kill", "worker.after-claim=dance", "worker.mid-run"])
def test_fail_point_that_is_none_is_named(tmp_path: Path, text: str) -> None:
    """A misspelt fault would be a test that tests nothing."""
    with pytest.raises(ConfigError, match="write name=action"):
        fail_points_of(armed(tmp_path, text))


@pytest.mark.usefixtures("_allowed")
def test_fail_point_fires_as_often_as_asked(tmp_path: Path) -> None:
    """Twice in the whole site, in whatever process; then the place is passed."""
    for points in (fail_points_of(armed(tmp_path, "worker.mid-run=database*2")) for _ in range(2)):
        with pytest.raises(DatabaseUnavailable):
            points.reach(FailPoint.MID_RUN)
        points.reach(FailPoint.AFTER_COMMIT)
    fail_points_of(armed(tmp_path, "worker.mid-run=database*2")).reach(FailPoint.MID_RUN)


@pytest.mark.usefixtures("_allowed")
@pytest.mark.parametrize(
    ("action", "ended_by"), [("kill", signal.SIGKILL), ("crash", signal.SIGSEGV)]
)
def test_process_dies_without_a_word(tmp_path: Path, action: str, ended_by: int) -> None:
    """As the kernel ends one for memory, or a decoder for a bad pointer."""
    code = (
        "from pathlib import Path; from screener.settings import Settings;"
        "from screener.daemon.fail_points import FailPoint, fail_points_of;"
        f"s = Settings(data_dir=Path({str(tmp_path)!r}),"
        f" testing={{'fail_points': ['worker.after-claim={action}']}});"
        "fail_points_of(s).reach(FailPoint.AFTER_CLAIM)"
    )
    ended = subprocess.run([sys.executable, "-c", code], check=False, timeout=120)
    assert ended.returncode == -ended_by
