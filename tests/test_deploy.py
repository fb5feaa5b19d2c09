"""Deployment files: they parse, they name only what exists, they are closed by default.

Does not build an image and does not start a unit: that needs a container engine and an init system.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from screener import enqueue
from screener.settings import Settings
from tests import reference_pages

DEPLOY = Path(__file__).resolve().parents[1] / "deploy"
UNITS = DEPLOY / "systemd"
SERVICES = sorted(UNITS.glob("*.service"))


@pytest.fixture(autouse=True)
def _no_variables_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("SCREENER_")]:
        monkeypatch.delenv(name)


def compose(name: str = "compose.yaml") -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load((DEPLOY / name).read_text(encoding="utf-8"))
    return content


def compose_command_lines() -> list[list[str]]:
    services = compose()["services"].values()
    return [
        service.get("entrypoint", ["screener"]) + service["command"]
        for service in services
        if service["image"].endswith("screener:cpu}")
    ]


def unit_command_lines() -> list[list[str]]:
    lines = [
        shlex.split(line)
        for path in SERVICES
        for line in re.findall(r"^ExecStart=(.+)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    ]
    return [[Path(words[0]).name, *words[1:]] for words in lines]


COMMAND_LINES = compose_command_lines() + unit_command_lines()


# ── every process is one that exists ─────────────────────────────────────────────────────────


@pytest.mark.parametrize("words", COMMAND_LINES, ids=" ".join)
def test_process_is_a_command_that_exists(words: list[str]) -> None:
    """Compose and units start commands of this version, or Celery on our application."""
    if words[0] == "screener":
        assert " ".join(words[1:]) in reference_pages.commands()
    else:
        assert words[:3] == ["celery", "-A", "workers.app"]
        assert words[3] in {"worker", "beat"}


@pytest.mark.parametrize("command", ["worker", "beat"])
def test_celery_knows_every_option_that_is_given(command: str) -> None:
    """A misspelt option would only show when the process starts."""
    given = {
        word.split("=")[0]
        for words in COMMAND_LINES
        if words[0] == "celery" and words[3] == command
        for word in words[4:]
        if word.startswith("-")
    }
    told = subprocess.run(
        [sys.executable, "-m", "celery", command, "--help"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert given
    assert given <= set(re.findall(r"(?<![\w-])--?[a-zA-Z][\w-]*", told.stdout))


@pytest.mark.parametrize("lines", [compose_command_lines(), unit_command_lines()])
def test_every_queue_has_a_worker(lines: list[list[str]]) -> None:
    """A queue without a worker would be a doorbell in an empty house."""
    served = [words[words.index("-Q") + 1].split(",") for words in lines if "-Q" in words]
    assert sorted(queue for queues in served for queue in queues) == sorted(enqueue.QUEUES)


@pytest.mark.parametrize("lines", [compose_command_lines(), unit_command_lines()])
def test_one_beat_runs(lines: list[list[str]]) -> None:
    """One scheduler for one site."""
    assert len([words for words in lines if "beat" in words]) == 1


# ── compose ──────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", compose()["services"])
def test_compose_publishes_on_loopback_alone(name: str) -> None:
    """Who wants the network to reach a port says so."""
    for port in compose()["services"][name].get("ports", []):
        assert port.startswith("127.0.0.1:")


def test_compose_file_holds_no_password() -> None:
    """Every password comes from outside, and an absent one stops compose."""
    text = (DEPLOY / "compose.yaml").read_text(encoding="utf-8")
    for name in ("POSTGRES_PASSWORD", "REDIS_PASSWORD", "ORTHANC_PASSWORD"):
        assert f"${{{name}:?" in text
        assert not re.search(rf"{name}:-", text)


def test_compose_passwords_are_what_its_settings_lack() -> None:
    """The settings file that compose mounts loads, and leaves both URLs to variables."""
    settings = Settings(
        **tomllib.loads((DEPLOY / "compose" / "screener.toml").read_text(encoding="utf-8"))
    )
    assert settings.database.url == settings.broker.url == ""
    assert settings.audit.pacs == "orthanc"


def test_compose_orthanc_and_screener_name_each_other() -> None:
    """AE titles, hosts and ports agree on both sides."""
    settings = Settings(
        **tomllib.loads((DEPLOY / "compose" / "screener.toml").read_text(encoding="utf-8"))
    )
    orthanc = json.loads((DEPLOY / "compose" / "orthanc.json").read_text(encoding="utf-8"))
    services = compose()["services"]
    (destination,), (peer,) = settings.destinations, settings.peers
    assert (destination.ae_title, destination.port) == (orthanc["DicomAet"], orthanc["DicomPort"])
    assert peer.ae_title == orthanc["DicomAet"]
    title, host, port = orthanc["DicomModalities"]["screener"]
    assert (title, port) == (settings.node.ae_title, settings.node.port)
    assert {host, destination.host} <= set(services)
    (subnet,) = compose()["networks"]["inside"]["ipam"]["config"]
    assert peer.addresses == (subnet["subnet"],)


def test_compose_files_that_are_mounted_exist() -> None:
    """A missing file would be mounted as an empty folder."""
    for service in compose()["services"].values():
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            assert not source.startswith(".") or (DEPLOY / source).is_file()


def test_compose_gpu_file_changes_services_that_exist() -> None:
    """The second file only changes what the first has."""
    assert set(compose("compose/gpu.yaml")["services"]) <= set(compose()["services"])


# ── images ───────────────────────────────────────────────────────────────────────────────────


def image_stages() -> dict[str, str]:
    text = (DEPLOY / "Dockerfile").read_text(encoding="utf-8")
    parts = re.split(r"^FROM \S+ AS (\S+)$", text, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


@pytest.mark.parametrize("target", ["cpu", "gpu"])
def test_image_runs_as_a_user_without_rights(target: str) -> None:
    """The last user of the stage is ours, and the process starts as that user."""
    stage = image_stages()[target]
    assert re.findall(r"^USER (\S+)$", stage, re.MULTILINE) == ["screener"]
    assert stage.index("USER screener") < stage.index("ENTRYPOINT")


@pytest.mark.parametrize("target", ["cpu", "gpu"])
def test_image_starts_and_checks_with_commands_that_exist(target: str) -> None:
    """Entry point and health check are commands of this version."""
    stage = image_stages()[target]
    check = json.loads(re.findall(r"^ +CMD (\[.+\])$", stage, re.MULTILINE)[0])
    start = json.loads(re.findall(r"^ENTRYPOINT (\[.+\])$", stage, re.MULTILINE)[0])
    start += json.loads(re.findall(r"^CMD (\[.+\])$", stage, re.MULTILINE)[0])
    assert check[0] == start[0] == "screener"
    assert {check[1], start[1]} <= set(reference_pages.commands())


@pytest.mark.parametrize("target", ["cpu", "gpu"])
def test_image_installs_an_extra_that_exists(target: str) -> None:
    """Each image takes its own build of ONNX Runtime and nothing for development."""
    project = tomllib.loads((DEPLOY.parent / "pyproject.toml").read_text(encoding="utf-8"))
    assert f"'.[{target}]'" in image_stages()[f"{target}-build"]
    assert target in project["project"]["optional-dependencies"]


@pytest.mark.parametrize("target", ["cpu", "gpu"])
def test_image_variables_are_settings(target: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A variable that names no key would be ignored in silence."""
    variables = dict(re.findall(r"(SCREENER_\w+)=(\S+)", image_stages()[target]))
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    settings = Settings()
    assert str(settings.data_dir) == "/var/lib/screener"
    assert settings.log.format == "json"
    assert settings.inference.provider == ("cuda" if target == "gpu" else "cpu")


# ── units ────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def unit_folder(tmp_path: Path) -> Path:
    """Give a copy of the units that points at the programs of this environment."""
    folder = tmp_path / "units"
    shutil.copytree(UNITS, folder)
    for path in [*folder.glob("*.service"), *folder.glob("*.conf")]:
        text = path.read_text(encoding="utf-8")
        path.write_text(text.replace("/opt/screener/bin", str(Path(sys.executable).parent)))
    for number in "12":
        shutil.copy(
            folder / "screener-worker@.service", folder / f"screener-worker@{number}.service"
        )
    (folder / "screener-worker@2.service.d").mkdir()
    shutil.copy(folder / "screener-worker-gpu.conf", folder / "screener-worker@2.service.d")
    return folder


def analyze(unit_folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    program = shutil.which("systemd-analyze")
    if program is None:
        pytest.skip("systemd-analyze is not installed")
    return subprocess.run(
        [program, *arguments],
        env={**os.environ, "SYSTEMD_UNIT_PATH": f"{unit_folder}:"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip


def test_units_are_valid(unit_folder: Path) -> None:
    """The init system itself finds nothing to complain about."""
    units = [
        str(path)
        for path in unit_folder.glob("screener*.*")
        if path.suffix in {".service", ".target"}
    ]
    told = analyze(unit_folder, "verify", "--man=no", *units)
    assert (told.returncode, told.stderr) == (0, "")


@pytest.mark.parametrize("path", SERVICES, ids=lambda path: path.stem)
def test_unit_is_hardened(unit_folder: Path, path: Path) -> None:
    """Exposure as systemd computes it stays low: 0 is closed, 10 is open; ours is 1.7."""
    name = path.name.replace("@.", "@2.")
    told = analyze(
        unit_folder,
        "security",
        "--offline=true",
        "--no-pager",
        "--threshold=20",
        str(unit_folder / name),
    )
    assert told.returncode == 0, told.stdout[-500:]


@pytest.mark.parametrize("path", SERVICES, ids=lambda path: path.stem)
def test_unit_gets_the_hardening_by_its_name(path: Path) -> None:
    """The drop-in is read by every unit whose name starts with `screener-`."""
    assert path.name.startswith("screener-")
    assert (UNITS / "screener-.service.d" / "hardening.conf").is_file()
