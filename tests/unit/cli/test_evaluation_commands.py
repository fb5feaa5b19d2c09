"""`screener models evaluate` from the command line to the page, on pictures of every kind."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from screener.cli.app import app
from screener.domain import VotePolicy, VoteRule
from screener.errors import ModelFailure, WrongUse
from tests import dataset_factories as factories
from tests.model_factories import write_brightness_model

RUNNER = CliRunner()


@pytest.fixture(autouse=True)
def no_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Run on defaults, whatever the machine has."""
    monkeypatch.delenv("SCREENER_SETTINGS", raising=False)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Four pictures: dark and bright, as RGBA, 16 bit, JPEG and palette."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    dark, bright = np.full((16, 16), 60, np.uint8), np.full((16, 16), 140, np.uint8)
    Image.fromarray(dark).convert("RGBA").save(folder / "a.png")
    Image.fromarray(bright.astype(np.uint16) * 257).save(folder / "b.png")
    Image.fromarray(dark).convert("RGB").save(folder / "c.jpg", quality=100)
    Image.fromarray(bright).convert("P").save(folder / "d.png")
    rows = ["file,label,patient", "a.png,normal,1", "b.png,covid-19,2", "c.jpg,normal,3"]
    (tmp_path / "labels.csv").write_text("\n".join([*rows, "d.png,covid-19,4"]), "utf-8")
    return folder


def invoke(*arguments: object) -> str:
    """Run one command; errors that the command line answers come through as they are."""
    result = RUNNER.invoke(app, ["models", "evaluate", *map(str, arguments)], standalone_mode=False)
    if result.exception is not None:
        raise result.exception
    return result.stdout


def test_pictures_of_every_colour_mode_are_measured(pictures: Path, tmp_path: Path) -> None:
    """One command gives JSON on standard output and a folder with a page."""
    model = write_brightness_model(tmp_path / "model")
    out = tmp_path / "out"
    text = invoke(
        model.path,
        "--images",
        pictures,
        "--labels",
        tmp_path / "labels.csv",
        "--out",
        out,
        "--json",
    )
    document = json.loads(text)
    assert document["images"]["accuracy"]["value"] == 1.0
    assert document["images"]["resampling"]["unit"] == "patient"
    assert document["cost"]["graph"]["n_parameters"] == 2
    assert document["cost"]["speed"]["n_rounds"] > 1
    assert json.loads((out / "metrics.json").read_text("utf-8")) == document
    names = {path.name for path in out.iterdir()}
    assert {"evaluation.html", "figures.csv", "predictions.csv", "roc.png"} <= names


def test_tables_for_people_name_model_data_and_figures(pictures: Path, tmp_path: Path) -> None:
    """Without --json the same figures stand in tables."""
    model = write_brightness_model(tmp_path / "model")
    labels = tmp_path / "labels.csv"
    text = invoke(model.path, "--images", pictures, "--labels", labels, "--no-cost")
    for part in ("tiny-image-classification", "specificity", "1.000 (1.000–1.000)", "TP"):
        assert part in text


def test_parts_of_a_data_set_are_measured_apart(tmp_path: Path) -> None:
    """The test part is reported, the validation part chooses; the training part is not touched."""
    factories.write_dataset("covid-ct", tmp_path / "data")
    model = write_brightness_model(tmp_path / "model", ("non-covid-19", "covid-19"))
    text = invoke(
        model.path,
        *("--layout", "covid-ct", "--data", tmp_path / "data", "--part", "test"),
        *("--validation-part", "validation", "--no-cost", "--json"),
    )
    document = json.loads(text)
    assert document["data"]["n_images"] == 6
    assert document["data"]["part"] == "test"
    assert document["decision"]["chosen_on"] == "COVID-CT (validation)"


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ((), "name the data"),
        (("--images", "."), "needs --labels"),
        (("--data", "."), "needs --layout"),
        (("--layout", "nothing", "--data", "."), "no layout"),
        (("--images", ".", "--labels", "absent.csv"), "absent.csv"),
        (("--images", ".", "--labels", "l.csv", "--rule", "best"), "--rule best"),
        (("--images", ".", "--labels", "l.csv", "--part", "half"), "parts are"),
        (("--images", "pictures", "--labels", "labels.csv", "--map", "x"), "--map x"),
        (("--images", "pictures", "--labels", "labels.csv", "--window", "5", "5"), "lower"),
        (("--images", "pictures", "--labels", "labels.csv", "--patient", "9"), "no patient '9'"),
    ],
)
def test_wrong_options_are_answered_with_the_mend(
    arguments: tuple[str, ...], match: str, pictures: Path, tmp_path: Path
) -> None:
    """Every wrong use is exit code 2 with one sentence."""
    model = write_brightness_model(tmp_path / "model")
    with pytest.raises(WrongUse, match=match):
        invoke(model.path, *arguments)


def test_unknown_model_names_those_that_exist(pictures: Path, tmp_path: Path) -> None:
    """A misspelt model is answered with the shipped ones."""
    with pytest.raises(ModelFailure, match="slice-classifier"):
        invoke("no-such-model", "--images", pictures, "--labels", tmp_path / "labels.csv")


def test_votes_are_those_of_the_node() -> None:
    """Every rule, the site's own first; too few slices are no decision."""
    from screener.daemon.measuring import vote_policies

    policies = vote_policies(VotePolicy("site", VoteRule.LONGEST_RUN, least_slices=3))
    assert next(iter(policies)) == "longest-run"
    assert set(policies) == {rule.value for rule in VoteRule}
    classes = ("normal", "covid-19")
    table = np.tile(np.array([[0.1, 0.9]], np.float32), (3, 1))
    outcome = policies["majority"](classes, np.arange(3), table, 5.0)
    assert (outcome.decision, outcome.certainty) == ("covid-19", 1.0)
    few = policies["majority"](classes, np.arange(2), table[:2], 5.0)
    assert few.decision.startswith("not analysed")


def test_measurements_are_compared_with_each_other_and_with_the_publication(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One column per publication and per measurement; other data are pointed out."""
    from models.evaluation import compare

    (tmp_path / "none.toml").write_text(
        '[[published]]\nmetric = "accuracy"\nvalue = 0.81\nmeasured_on = "203 images"\n', "utf-8"
    )
    monkeypatch.setattr(compare.read_published, "__defaults__", (tmp_path,))
    model = write_brightness_model(tmp_path / "model")
    labels = tmp_path / "labels.csv"
    for name, options in (("one", ()), ("two", ("--patient", "1", "--patient", "2"))):
        data = ("--images", pictures, "--labels", labels, "--no-cost", *options)
        invoke(model.path, *data, "--out", tmp_path / name)
    found = RUNNER.invoke(
        app,
        ["models", "compare", str(tmp_path / "one"), str(tmp_path / "two/metrics.json"), "--json"],
        standalone_mode=False,
    )
    document = json.loads(found.stdout)
    assert document["columns"][1:] == [
        "published: none",
        "tiny-image-classification (one)",
        "tiny-image-classification (two)",
    ]
    rows = {row[0]: row[1:] for row in document["rows"]}
    assert rows["accuracy"] == ["0.810", "1.000 (1.000–1.000)", "1.000 (1.000–1.000)"]
    assert rows["covid-19: TP, FP, TN, FN"] == ["", "2, 0, 2, 0", "1, 0, 1, 0"]
    assert "different data" in document["remarks"][0]


def test_comparison_with_nothing_known_is_refused(tmp_path: Path) -> None:
    """The message says what can be compared."""
    from screener.daemon.measuring import compare_runs

    with pytest.raises(WrongUse, match="neither a file"):
        compare_runs(["no-such-recipe"])
    (tmp_path / "metrics.json").write_text("{}", "utf-8")
    with pytest.raises(WrongUse, match="evaluate the model again"):
        compare_runs([str(tmp_path)])


def test_likeliest_class_is_decided_for_without_threshold(pictures: Path, tmp_path: Path) -> None:
    """A threshold of the manifest is set aside where the publication used none."""
    model = write_brightness_model(tmp_path / "model", threshold=0.999)
    data = ("--images", pictures, "--labels", tmp_path / "labels.csv", "--no-cost", "--json")
    assert json.loads(invoke(model.path, *data))["images"]["accuracy"]["value"] == 0.5
    document = json.loads(invoke(model.path, *data, "--likeliest"))
    assert document["images"]["accuracy"]["value"] == 1.0
    assert document["decision"]["rule"] == "the likelier class"


def test_training_is_compared_side_by_side(tmp_path: Path) -> None:
    """metrics.json of a training has one column for each side of its split."""
    from screener.daemon.measuring import compare_runs

    figure = {"value": 0.75, "lower": 0.5, "upper": 0.9}
    overall = dict.fromkeys(("accuracy", "precision", "recall", "f1", "specificity", "auc"), figure)
    side = {
        **overall,
        "n_images": 8,
        "n_patients": 4,
        "resampling": {"unit": "patient", "n_units": 4},
        "classes": [],
    }
    document = {"recipe": "covid-ct-mobile", "sides": {"validation": side, "test": side}}
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "metrics.json").write_text(json.dumps(document), "utf-8")
    found = compare_runs([str(tmp_path / "run")])
    assert found.columns[1:] == (
        "published: covid-ct-mobile",
        "covid-ct-mobile (run, validation)",
        "covid-ct-mobile (run, test)",
    )
    rows = {row[0]: row[1:] for row in found.rows}
    assert rows["accuracy"] == ("0.810", "0.750 (0.500–0.900)", "0.750 (0.500–0.900)")
