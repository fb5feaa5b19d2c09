"""What a person can get wrong has a text with the mend and exit code 2, never a traceback."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path


def run(folder: Path, *arguments: str, settings: str = "") -> subprocess.CompletedProcess[str]:
    """Run a command with a data folder of its own."""
    file = folder / "screener.toml"
    file.write_text(settings or f"data_dir = {json.dumps(str(folder / 'data'))}\n")
    return subprocess.run(
        [sys.executable, "-P", "-m", "screener", *arguments],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "SCREENER_SETTINGS": str(file)},
        timeout=120,
    )


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("status", "1.2.3"), "is not in the audit database"),
        (("why", "../../etc/passwd"), "is not in the audit database"),
        (("reprocess", "*"), "is not in the audit database"),
        (("retry", "nothing"), "neither a run nor a study"),
        (("echo", "FOO@127.0.0.1:99999"), "port from 1 to 65535"),
        (("screen", "/no/such/folder"), "is no folder"),
        (("audit", "nightly", "--date", "nonsense"), "write it as"),
        (("doctor", "--only", "weather"), "there are: listener"),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else "",
)
def test_wrong_use_ends_with_two_and_the_mend(
    tmp_path: Path, arguments: tuple[str, ...], words: str
) -> None:
    """Exit code 2, nothing on standard output, one sentence on standard error."""
    result = run(tmp_path, *arguments)

    assert result.returncode == 2, result.stderr
    assert words in result.stderr
    assert result.stdout == ""
    assert "Traceback" not in result.stderr


def test_data_folder_that_is_a_file_is_named(tmp_path: Path) -> None:
    """The text names the key, and nothing asks for a defect report."""
    (tmp_path / "data").write_text("")

    result = run(tmp_path, "status")

    assert result.returncode == 2
    assert "data_dir" in result.stderr
    assert "defect" not in result.stderr


def test_database_that_is_rubbish_is_named(tmp_path: Path) -> None:
    """A damaged file is an unavailable database, not an unexpected error."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "screener.sqlite3").write_bytes(b"rubbish" * 1000)

    result = run(tmp_path, "status")

    assert result.returncode == 1
    assert "restore a backup" in result.stderr


def test_doctor_makes_nothing(tmp_path: Path) -> None:
    """Looking from outside leaves no database behind."""
    result = run(tmp_path, "doctor", "--only", "database", "--json")

    assert result.returncode == 1
    assert json.loads(result.stdout)["checks"][0]["is_ok"] is False
    assert not (tmp_path / "data").exists()
