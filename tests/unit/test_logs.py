"""Logs: on standard error, allow-listed keys alone, values that cannot forge a line."""

from __future__ import annotations

import json
import logging
import re
import sys
import threading
import warnings
from typing import TYPE_CHECKING

import pytest
import structlog

from screener.logs import (
    ALLOWED_KEYS,
    MAX_VALUE_LENGTH,
    TextlessHandler,
    get_log,
    hashed_uid,
    keep_texts_out,
    set_up_logs,
)
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


# ── hashed UIDs ──────────────────────────────────────────────────────────────────────────────

KEY = b"k" * 32
UID = "1.2.826.0.1.3680043.8.498.12345"
UUID_UID = "2.25.329800735698586629295641978511506172918"


def test_hashed_uids_join_lines_and_name_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    """Under its key and inside a text the same UID is the same hash; no UID is left."""
    set_up_logs(LogSettings(format="json"), KEY)
    get_log().info(
        "run_stopped", study_instance_uid=UID, detail=f"study {UID}: 3 files ({UUID_UID})"
    )
    line = one_line(capsys)
    assert line["study_instance_uid"] == hashed_uid(UID, KEY)
    assert line["detail"] == f"study {hashed_uid(UID, KEY)}: 3 files ({hashed_uid(UUID_UID, KEY)})"
    assert hashed_uid(UID, b"other") != hashed_uid(UID, KEY)


@pytest.mark.parametrize("text", ["10.20.30.40:104", "0.1.0", "0.8750", "a-b.1.2.3", "4.2"])
def test_hashing_leaves_other_numbers_alone(capsys: pytest.CaptureFixture[str], text: str) -> None:
    """Addresses, versions and fractions are no UIDs."""
    set_up_logs(LogSettings(format="json"), KEY)
    get_log().info("said", detail=text)
    assert one_line(capsys)["detail"] == text


def test_uid_of_letters_is_hashed_under_its_key(capsys: pytest.CaptureFixture[str]) -> None:
    """Real series carry UUID text as UIDs."""
    set_up_logs(LogSettings(format="json"), KEY)
    get_log().info("said", sop_instance_uid="9f0c1d2e-ab12-4c00-8a11-000000000000")
    assert str(one_line(capsys)["sop_instance_uid"]).startswith("uid:")


# ── nothing can be forged ────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "value",
    [
        "A\nB", "A\r\nB", "A\x1b[2J", "A\u2028B", "A\x85B", 'A","event":"forged', "A event=forged",
        "A\x00", "A\u202eB", '"} {"event":"forged"', "%s %(name)s {event}",
    ],
)  # fmt: skip
@pytest.mark.parametrize("form", ["json", "terminal"])
def test_value_cannot_forge_a_line_or_a_pair(
    capsys: pytest.CaptureFixture[str], form: str, value: str
) -> None:
    """Whatever a sender calls itself: one line, one event, no control character."""
    set_up_logs(LogSettings(format=form))
    get_log().warning("refused", calling_ae_title=value)
    told = capsys.readouterr().err
    assert len(told.splitlines()) == 1
    assert all(c.isprintable() for c in told.rstrip("\n"))
    if form == "json":
        assert json.loads(told)["event"] == "refused"
        assert set(json.loads(told)) == {"event", "level", "timestamp", "calling_ae_title"}
    else:
        assert "refused" in told
        assert " event=forged" not in re.sub(r'"(?:[^"\\]|\\.)*"', "", told)


# ── what Python prints by itself ─────────────────────────────────────────────────────────────


def test_interpreter_tells_no_text(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A thread's last error, a library's warning and its log are told by class and place alone."""
    for owner, name in (
        (threading, "excepthook"),
        (sys, "unraisablehook"),
        (warnings, "showwarning"),
        (logging, "lastResort"),
    ):
        monkeypatch.setattr(owner, name, getattr(owner, name))
    set_up_logs(LogSettings(format="json"))
    keep_texts_out()

    def crash() -> None:
        raise ValueError("PatientName=DOE^JOHN")

    thread = threading.Thread(target=crash)
    thread.start()
    thread.join()
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        keep_texts_out()  # the block has put its own in place
        warnings.warn("Invalid value for VR PN: DOE^JOHN", UserWarning, stacklevel=1)
    stray = logging.getLogger("a.library.that.nobody.handles")
    stray.propagate = False  # as where the root has no handler either
    stray.warning("Invalid value for VR PN: %s", "DOE^JOHN")
    told = capsys.readouterr().err
    assert "DOE" not in told
    events = [json.loads(line) for line in told.splitlines()]
    assert [one["event"] for one in events] == ["thread_crashed", "library_warned", "library_said"]
    assert events[0]["error"] == "ValueError"
    assert "crash" in events[0]["detail"]


def test_library_is_quoted_by_its_pattern_alone(capsys: pytest.CaptureFixture[str]) -> None:
    """What a library says of a value or an error stays out; that it spoke, and where, does not."""
    set_up_logs(LogSettings(format="json"))
    library = logging.getLogger("some.library")
    library.handlers, library.propagate = [TextlessHandler()], False
    try:
        int("DOE^JOHN")
    except ValueError:
        library.exception("cannot read %s:\nwhole body", "DOE^JOHN")
    library.warning("DOE^JOHN came")
    first, second = (json.loads(line) for line in capsys.readouterr().err.splitlines())
    assert (first["reason"], first["error"]) == ("cannot read %s:", "ValueError")
    assert first["logger"] == second["logger"] == "some.library"
    assert "DOE" not in f"{first}{second}"
