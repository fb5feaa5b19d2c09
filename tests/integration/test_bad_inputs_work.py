"""Bad inputs 57 to 61: what reaches workers and commands from outside, and what they make of it.

Inputs 57 and 58 meet a real worker in `test_bad_inputs_broker.py`. 32 and 51 are in
`unit/test_bad_inputs.py`, 34 in `unit/assemble/test_decoding_child.py`, 60 in
`test_bad_inputs_pacs.py`.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import uuid
from typing import TYPE_CHECKING

import pytest
from kombu.exceptions import ContentDisallowed
from kombu.serialization import loads

from models.registry import SHIPPED_MODELS
from screener.audit.claims import claim_run
from screener.daemon.execution import execute_next_run
from screener.daemon.reprocess import reprocess_study
from screener.daemon.site import open_site, utc_now
from screener.daemon.tools import open_tools
from screener.enqueue import SCREEN_RUN, make_celery_app
from screener.errors import ConfigError, ModelFailure, WrongUse
from screener.settings import Settings
from tests.audit_factories import claim, queue_run

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.integration


# ── 57, 58: messages ─────────────────────────────────────────────────────────────────────────


def test_input_57_messages_are_json_and_carry_an_id_alone() -> None:
    """Nothing that executes is ever read from the broker."""
    app = make_celery_app(Settings(broker={"url": "memory://"}))
    assert app.conf.accept_content == ["json"]
    assert app.conf.task_serializer == "json"
    assert app.conf.result_backend is None
    assert not app.conf.worker_enable_remote_control


@pytest.mark.parametrize(
    ("content_type", "content"),
    [
        ("application/x-python-serialize", b"cos\nsystem\n(S'touch /tmp/owned'\ntR."),
        ("application/x-yaml", b"!!python/object/apply:os.system ['true']"),
    ],
    ids=["pickle", "yaml"],
)
def test_input_57_message_that_is_no_json(content_type: str, content: bytes) -> None:
    """Refused by its type, before anything of it is decoded."""
    accepted = make_celery_app(Settings(broker={"url": "memory://"})).conf.accept_content
    with pytest.raises(ContentDisallowed):
        loads(content, content_type, "utf-8", accept={f"application/{one}" for one in accepted})


@pytest.mark.parametrize("run_id", ["", "*", "' or 1=1 --", "../../x", "a\x00b", "0" * 100_000])
def test_input_57_doorbell_for_a_run_that_is_none(tmp_path: Path, run_id: str) -> None:
    """A ring says that there is something to do; the database says what."""
    site = open_site(Settings(data_dir=tmp_path))
    real = queue_run(site.database)
    assert claim_run(site.database, run_id, "w", 60.0, utc_now()) is None
    assert claim(site.database, real).run_id == real


def test_input_58_forged_doorbells(tmp_path: Path) -> None:
    """Each costs one look at the database; the run that really waits is taken at the first."""
    site = open_site(Settings(data_dir=tmp_path))
    real = queue_run(site.database)
    forged = [str(uuid.uuid4()) for _ in range(50)]
    taken = [claim_run(site.database, one, "w", 60.0, utc_now()) for one in forged]
    assert not any(taken)
    first = claim_run(site.database, None, "w", 60.0, utc_now())
    assert first is not None
    assert first.run_id == real
    assert claim_run(site.database, None, "w", 60.0, utc_now()) is None


def test_task_has_the_name_that_the_doorbell_rings() -> None:
    """A message for any other name reaches no code of ours."""
    assert SCREEN_RUN.startswith("screener.")
    assert execute_next_run.__module__ == "screener.daemon.execution"


# ── 59: models ───────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("damage", ["truncated", "other-content", "symbolic-link", "gone"])
def test_input_59_model_that_is_not_the_pinned_one(tmp_path: Path, damage: str) -> None:
    """A worker refuses to start, and says which model and why."""
    root = tmp_path / "models"
    for name in ("lung_segmentation", "slice_classifier"):
        shutil.copytree(SHIPPED_MODELS / name, root / name)
    graph = root / "lung_segmentation" / "model.onnx"
    content = graph.read_bytes()
    graph.unlink()
    if damage == "truncated":
        graph.write_bytes(content[: len(content) // 2])
    elif damage == "other-content":
        graph.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    elif damage == "symbolic-link":
        graph.symlink_to("/etc/passwd")
    with pytest.raises((ModelFailure, ConfigError), match="lung_segmentation"):
        open_tools(Settings(data_dir=tmp_path, models={"root": root}))


# ── 61: commands ─────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("study", ["*", "1.2.*", "../../etc/passwd", "' or 1=1 --", ""])
def test_input_61_reprocess_of_what_is_no_study(tmp_path: Path, study: str) -> None:
    """A pattern or a path names no study, and makes no run."""
    settings = Settings(data_dir=tmp_path)
    with pytest.raises(WrongUse, match="is not in the audit database"):
        reprocess_study(settings, study)
    site = open_site(settings)
    assert claim_run(site.database, None, "w", 60.0, utc_now()) is None


def test_input_61_reprocess_ends_with_two(tmp_path: Path) -> None:
    """Wrong use: exit code 2, a sentence, no traceback."""
    settings = tmp_path / "screener.toml"
    settings.write_text(f"data_dir = {json.dumps(str(tmp_path / 'data'))}\n", encoding="utf-8")
    result = subprocess.run(
        [sys.executable, "-P", "-m", "screener", "--settings", str(settings), "reprocess", "1.2.*"],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert result.returncode == 2, result.stderr
    assert "is not in the audit database" in result.stderr
    assert "Traceback" not in result.stderr
