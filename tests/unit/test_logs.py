"""Logs: on standard error, allow-listed keys alone, values that cannot forge a line."""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING

import pytest
import structlog

from screener.logs import ALLOWED_KEYS, MAX_VALUE_LENGTH, get_log, set_up_logs
from screener.settings import LogSettings

if TYPE_CHECKING:
    from collections.abc import Iterator

QUIET_LIBRARIES = ("pynetdicom", "pydicom", "highdicom", "sqlalchemy", "alembic")


@pytest.fixture(autouse=True)
def _leave_logging_as_it_was() -> Iterator[None]:
    levels = {name: logging.getLogger(name).level for name in QUIET_LIBRARIES}
    yield
    structlog.reset_defaults()
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)


def one_line(capsys: pytest.CaptureFixture[str]) -> dict[str, object]:
    captured = capsys.readouterr()
    assert captured.out == ""
    (line,) = captured.err.splitlines()
    content: dict[str, object] = json.loads(line)
    return content


def test_log_writes_one_json_line_to_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    """Standard output stays free for results."""
    set_up_logs(LogSettings(format="json"))
    get_log().info("study_complete", study_instance_uid="1.2.3", n_instances=133)
    line = one_line(capsys)
    assert line["event"] == "study_complete"
    assert line["level"] == "info"
    assert line["study_instance_uid"] == "1.2.3"
    assert line["n_instances"] == 133
    assert str(line["timestamp"]).endswith("Z")


def test_log_hides_value_under_unknown_key(capsys: pytest.CaptureFixture[str]) -> None:
    """A slip in a call cannot put a name into the log (ADR 0009)."""
    set_up_logs(LogSettings(format="json"))
    get_log().warning("instance_refused", patient_name="DOE^JOHN", status=0x0117)
    line = one_line(capsys)
    assert line["patient_name"] == "[key not allowed]"
    assert line["status"] == 0x0117


@pytest.mark.parametrize("key", ["patient_name", "patient_id", "birth_date", "dataset", "encoded"])
def test_allow_list_holds_no_key_for_people(key: str) -> None:
    """The list itself stays free of keys that name a patient."""
    assert key not in ALLOWED_KEYS


def test_log_escapes_control_characters(capsys: pytest.CaptureFixture[str]) -> None:
    """A value with a line break or a terminal sequence stays one harmless line."""
    set_up_logs(LogSettings(format="terminal"))
    get_log().error("refused", calling_ae_title="A\nforged line\x1b[31m")
    captured = capsys.readouterr().err
    assert len(captured.splitlines()) == 1
    assert "\x1b" not in captured
    assert "\\x0a" in captured


def test_log_cuts_long_values(capsys: pytest.CaptureFixture[str]) -> None:
    """A sender cannot fill the disk through the log."""
    set_up_logs(LogSettings(format="json"))
    get_log().error("refused", detail="x" * 10_000)
    assert one_line(capsys)["detail"] == "x" * MAX_VALUE_LENGTH


def test_log_leaves_out_what_is_below_its_level(capsys: pytest.CaptureFixture[str]) -> None:
    """The level of the settings decides."""
    set_up_logs(LogSettings(format="json", level="error"))
    get_log().warning("not_shown")
    get_log().error("shown")
    assert one_line(capsys)["event"] == "shown"


def test_log_is_json_where_there_is_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    """Under systemd or in a container nobody has to choose."""
    set_up_logs(LogSettings(format="auto"))
    get_log().info("started")
    assert one_line(capsys)["event"] == "started"


@pytest.mark.parametrize("name", QUIET_LIBRARIES)
def test_libraries_that_print_data_sets_are_silent(name: str) -> None:
    """Warnings of these libraries can hold values of a data set."""
    set_up_logs(LogSettings(format="json"))
    assert not logging.getLogger(f"{name}.child").isEnabledFor(logging.ERROR)
