"""Measured figures beside each other, and beside what was published."""

import math
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from models.errors import DatasetInvalid
from models.evaluation.report import METRICS_FILE, read_json, read_metrics

#: Where the recipes of the published systems stand.
RECIPES = Path(__file__).resolve().parents[1] / "recipes"
_OVERALL = ("accuracy", "precision", "recall", "f1", "specificity", "auc")
_COUNTS = ("true_positive", "false_positive", "true_negative", "false_negative")
_NOTHING = ""


@dataclass(frozen=True, slots=True)
class Published:
    """What a publication states, by name of the figure: value from 0 to 1, and on what."""

    recipe: str
    citation: str
    figures: Mapping[str, tuple[float, str]]


@dataclass(frozen=True, slots=True)
class Measured:
    """One ``metrics.json`` under the name of its column."""

    title: str
    document: Mapping[str, Any]

    @property
    def recipe(self) -> str:
        """The recipe that the model was trained by, as its manifest says."""
        return str(self.document["model"]["recipe"])


@dataclass(frozen=True, slots=True)
class Comparison:
    """A table: first column names figures, then one column per publication and measurement."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    remarks: tuple[str, ...]


def read_measured(path: Path) -> tuple[Measured, ...]:
    """Read ``metrics.json``, or the one in a folder: of an evaluation, or of a training.

    Returns
    -------
    :
        One measurement of an evaluation; one for each side of the split of a training.

    Raises
    ------
    DatasetInvalid
        There is none, or it is of another form.
    """
    file = path / METRICS_FILE if path.is_dir() else path
    folder = file.resolve().parent.name
    document = read_json(file)
    if "sides" in document and "recipe" in document:
        return tuple(
            Measured(f"{document['recipe']} ({folder}, {side})", _as_report(document, side))
            for side in document["sides"]
        )
    document = read_metrics(file)
    return (Measured(f"{document['model']['name']} ({folder})", document),)


def _as_report(document: Mapping[str, Any], side: str) -> dict[str, Any]:
    """Give one side of a training in the form of an evaluation."""
    figures = document["sides"][side]
    is_masks = "dice" in figures
    return {
        "model": {"name": document["recipe"], "recipe": document["recipe"]},
        "data": {
            "name": f"data of {document['recipe']}",
            "part": side,
            "n_images": figures.get("n_images", "?"),
            "n_patients": figures["n_patients"],
        },
        "images": None if is_masks else figures,
        "masks": {"mean": figures["dice"], "patients": []} if is_masks else None,
    }


def read_published(name: str, recipes: Path = RECIPES) -> Published | None:
    """Read the published figures of a recipe; None where no recipe of that name is there.

    Raises
    ------
    DatasetInvalid
        The recipe is no TOML, or a published figure is incomplete.
    """
    path = recipes / f"{name}.toml"
    if not path.is_file():
        return None
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
        figures = {
            str(one["metric"]): (float(one["value"]), str(one["measured_on"]))
            for one in document.get("published", ())
        }
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DatasetInvalid(f"{path}: its published figures cannot be read ({error})") from error
    return Published(name, str(document.get("citation", "")), figures)


def compare(measured: Sequence[Measured], published: Sequence[Published]) -> Comparison:
    """Put figures side by side.

    Parameters
    ----------
    measured
        At least one.
    published
        Publications to stand before them.
    """
    if not measured and not published:
        raise DatasetInvalid("there is nothing to compare; name metrics.json files or recipes")
    names = [*_OVERALL, *_extra_figures(published)]
    rows = [
        (
            name,
            *(_published_text(one, name) for one in published),
            *(_figure_text(_overall(one.document, name)) for one in measured),
        )
        for name in names
    ]
    rows += _class_rows(measured, len(published))
    rows += _fact_rows(measured, published)
    columns = (
        "figure",
        *(f"published: {one.recipe}" for one in published),
        *(one.title for one in measured),
    )
    kept = tuple(row for row in rows if any(cell != _NOTHING for cell in row[1:]))
    return Comparison(columns, kept, _remarks(measured, published))


def _extra_figures(published: Iterable[Published]) -> list[str]:
    extra = ["dice"]
    for one in published:
        extra += [name for name in one.figures if name not in (*_OVERALL, *extra)]
    return extra


def _overall(document: Mapping[str, Any], name: str) -> Mapping[str, Any] | None:
    if name == "dice":
        masks = document.get("masks")
        if not masks:
            return None
        figure: Mapping[str, Any] = masks["mean"] or masks["patients"][0]["dice"]
        return figure
    found: Mapping[str, Any] | None = (document.get("images") or {}).get(name)
    return found


def _figure_text(figure: Mapping[str, Any] | None) -> str:
    if figure is None or figure["value"] is None or not math.isfinite(figure["value"]):
        return _NOTHING
    return f"{figure['value']:.3f} ({figure['lower']:.3f}–{figure['upper']:.3f})"


def _published_text(one: Published, name: str) -> str:
    return f"{one.figures[name][0]:.3f}" if name in one.figures else _NOTHING


def _class_rows(measured: Sequence[Measured], n_published: int) -> list[tuple[str, ...]]:
    classes = [
        {one["name"]: one for one in (column.document.get("images") or {}).get("classes", ())}
        for column in measured
    ]
    names = list(dict.fromkeys(name for one in classes for name in one))
    blank = [_NOTHING] * n_published
    rows: list[tuple[str, ...]] = []
    for name in names:
        for figure in _OVERALL[1:]:
            cells = (
                _figure_text(one[name][figure]) if name in one else _NOTHING for one in classes
            )
            rows.append((f"{name}: {figure}", *blank, *cells))
        counts = (_counts(one.get(name)) for one in classes)
        rows.append((f"{name}: TP, FP, TN, FN", *blank, *counts))
    return rows


def _counts(figures: Mapping[str, Any] | None) -> str:
    return _NOTHING if figures is None else ", ".join(str(figures[name]) for name in _COUNTS)


def _fact_rows(
    measured: Sequence[Measured], published: Sequence[Published]
) -> list[tuple[str, ...]]:
    def row(name: str, of_published: Iterable[str], of_measured: Iterable[str]) -> tuple[str, ...]:
        return (name, *of_published, *of_measured)

    blank = [_NOTHING] * len(published)
    documents = [one.document for one in measured]
    return [
        row("data", (_measured_on(one) for one in published), (_data(one) for one in documents)),
        row("intervals over", blank, (_resampling(one) for one in documents)),
        row("million MACs", blank, (_cost(one, "n_macs", 1e6) for one in documents)),
        row("million parameters", blank, (_cost(one, "n_parameters", 1e6) for one in documents)),
        row("megabytes", blank, (_cost(one, "n_bytes", 1e6) for one in documents)),
        row("speed, MobileNetV2 = 1", blank, (_speed(one) for one in documents)),
    ]


def _measured_on(one: Published) -> str:
    return "; ".join(dict.fromkeys(where for _, where in one.figures.values()))


def _data(document: Mapping[str, Any]) -> str:
    data = document["data"]
    part = f", {data['part']}" if data["part"] else ""
    return f"{data['name']}{part}, {data['n_images']} images of {data['n_patients']} patients"


def _resampling(document: Mapping[str, Any]) -> str:
    figures = document.get("images")
    if not figures:
        return _NOTHING
    return f"{figures['resampling']['n_units']} {figures['resampling']['unit']}s"


def _cost(document: Mapping[str, Any], name: str, unit: float) -> str:
    cost = document.get("cost")
    return f"{cost['graph'][name] / unit:.3g}" if cost else _NOTHING


def _speed(document: Mapping[str, Any]) -> str:
    speed = (document.get("cost") or {}).get("speed")
    return f"{speed['ratio']:.2f}" if speed and math.isfinite(speed["ratio"]) else _NOTHING


def _remarks(measured: Sequence[Measured], published: Sequence[Published]) -> tuple[str, ...]:
    remarks = []
    if len({_data(one.document) for one in measured}) > 1:
        remarks.append("the columns were measured on different data: they cannot be compared")
    if published and measured:
        remarks.append(
            "published figures are those of their publication: another implementation, other "
            "patients or a split by images may stand behind them"
        )
    return tuple(remarks)
