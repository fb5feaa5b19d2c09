"""What a training leaves in its folder."""

import json
from pathlib import Path

from models.evaluation.bootstrap import Interval
from models.training.recipe import Monitor
from models.training.run import _write_json


def refuse(constant: str) -> None:
    raise AssertionError(f"{constant} is no JSON")


def test_figure_that_cannot_be_given_is_null_in_json(tmp_path: Path) -> None:
    """A side without one of the classes has no AUC; other readers know no NaN."""
    path = tmp_path / "metrics.json"
    _write_json(path, {"auc": Interval(float("nan"), 0.5, 1.0), "monitor": Monitor.AUC})
    found = json.loads(path.read_text("utf-8"), parse_constant=refuse)
    assert found == {"auc": {"value": None, "lower": 0.5, "upper": 1.0}, "monitor": "auc"}
