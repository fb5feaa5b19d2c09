"""Commands about recipes: what they list, and how they fail where training is not installed."""

import importlib
import json
from pathlib import Path
from types import ModuleType

import pytest
from typer.testing import CliRunner

from models.registry import find_model
from screener.cli import model_commands
from screener.cli.app import app
from screener.errors import ConfigError, WrongUse
from tests.model_factories import write_brightness_model

RUNNER = CliRunner()


def test_recipes_are_listed_as_json() -> None:
    """Name, layout, network, parameters and what was published of each."""
    result = RUNNER.invoke(app, ["models", "recipes", "--json"])
    assert result.exit_code == 0
    rows = {row["name"]: row for row in json.loads(result.stdout)}
    assert rows["ct-slices-custom-cnn"]["parameters"] == 614_435
    assert rows["covid-ct-mobile"]["published"][0]["value"] == 0.81


def test_recipes_are_listed_as_a_table() -> None:
    """People see the names."""
    result = RUNNER.invoke(app, ["models", "recipes"])
    assert result.exit_code == 0
    assert "attention-unet-lung" in result.stdout


def test_a_model_is_shown_with_its_card() -> None:
    """People see use, figures and digest, and where to read on; a script gets all of it."""
    result = RUNNER.invoke(app, ["models", "show", "lung-segmentation"])
    assert result.exit_code == 0
    folder = find_model("lung-segmentation")
    for words in (folder.manifest.sha256, "not a medical device", "card.md"):
        assert words in result.stdout.replace("\n", ""), words
    shown = json.loads(RUNNER.invoke(app, ["models", "show", str(folder.path), "--json"]).stdout)
    assert shown["card"] == str(folder.card)
    assert shown["manifest"]["sha256"] == folder.manifest.sha256


def test_one_model_is_verified_by_its_path(tmp_path: Path) -> None:
    """A folder that a training left is proved without being installed; a changed byte is seen."""
    model = write_brightness_model(tmp_path / "model")
    result = RUNNER.invoke(app, ["models", "verify", str(model.path), "--json"])
    (verdict,) = json.loads(result.stdout)
    assert (verdict["is_ok"], verdict["detail"]) == (True, model.manifest.sha256)
    content = model.graph.read_bytes()
    model.graph.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    arguments = ["models", "verify", str(model.path)]
    result = RUNNER.invoke(app, arguments, standalone_mode=False)
    assert result.return_value == 1
    assert "FAILED" in result.stdout


def test_a_model_without_a_card_is_shown_without(tmp_path: Path) -> None:
    """A folder made elsewhere may have none, which is said."""
    model = write_brightness_model(tmp_path / "model")
    result = RUNNER.invoke(app, ["models", "show", str(model.path)])
    assert result.exit_code == 0
    assert "has no card" in result.stdout


def test_training_without_its_extra_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """A missing torch is a setting of the environment, not a traceback."""

    def without_torch(name: str) -> ModuleType:
        raise ModuleNotFoundError(f"No module named 'torch' for {name}", name="torch")

    monkeypatch.setattr(importlib, "import_module", without_torch)
    result = RUNNER.invoke(app, ["models", "train", "covid-ct-mobile", "--data", "."])
    assert isinstance(result.exception, ConfigError)
    assert "torch is not installed" in str(result.exception)
    assert "pip install 'ct-screener[train]'" in str(result.exception)


def test_training_module_of_our_own_that_is_missing_is_a_defect() -> None:
    """An error of ours must not be taken for a missing extra."""
    with pytest.raises(ModuleNotFoundError):
        model_commands._training("no_such_module")


@pytest.mark.parametrize("place", ["checkpoint.pt", "member-2/checkpoint.pt"])
def test_training_does_not_overwrite_a_training(tmp_path: Path, place: str) -> None:
    """A checkpoint in the folder, or of a network of a committee, asks for --resume."""
    checkpoint = tmp_path / place
    checkpoint.parent.mkdir(exist_ok=True)
    checkpoint.touch()
    arguments = ["models", "train", "covid-ct-mobile", "--data", ".", "--out", str(tmp_path)]
    result = RUNNER.invoke(app, arguments)
    assert isinstance(result.exception, WrongUse)
    assert "--resume" in str(result.exception)


@pytest.mark.parametrize(("option", "value"), [("--variant", "int4"), ("--format", "tflite")])
def test_export_of_an_unknown_form_is_refused(option: str, value: str) -> None:
    """The message lists what there is."""
    result = RUNNER.invoke(app, ["models", "export", "lung-segmentation", option, value])
    assert isinstance(result.exception, WrongUse)
    assert value in str(result.exception)
