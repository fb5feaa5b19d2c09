"""Commands that measure models: one by one, and beside what was published."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from screener.cli.output import (
    EXIT_DONE,
    print_json,
    print_note,
    print_table,
    print_text,
    progress_bar,
)
from screener.errors import WrongUse
from screener.logs import set_up_logs
from screener.settings import load_settings

if TYPE_CHECKING:
    from types import ModuleType

    from models.evaluation.evaluate import Evaluation
    from models.evaluation.report import EvaluationReport

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]
_MEND = "measuring needs more than the light runtime: pip install 'ct-screener[evaluate]'"


def add_to(app: typer.Typer) -> None:
    """Add the commands of this file to the application of models."""
    app.command("evaluate")(evaluate_model)
    app.command("compare")(compare_models)


def evaluate_model(
    model: Annotated[str, typer.Argument(help="A model by name, or the path of its folder.")],
    *,
    images: Annotated[
        Path | None, typer.Option(help="Folder of PNG or JPEG pictures; with --labels.")
    ] = None,
    labels: Annotated[
        Path | None, typer.Option(help="CSV with the columns file, label and, if known, patient.")
    ] = None,
    layout: Annotated[
        str, typer.Option(help="Layout of a data set instead of pictures: covid-ct, spgc, ...")
    ] = "",
    data: Annotated[Path | None, typer.Option(help="Root of that data set.")] = None,
    part: Annotated[
        str, typer.Option(help="Part to report on: all, training, validation, test.")
    ] = "all",
    patient: Annotated[
        list[str] | None,
        typer.Option(help="Report on this patient alone; may be given again.", show_default=False),
    ] = None,
    validation_labels: Annotated[
        Path | None,
        typer.Option(
            help="CSV of other pictures in --images, to choose threshold and temperature."
        ),
    ] = None,
    validation_part: Annotated[
        str, typer.Option(help="Part of the data set to choose threshold and temperature on.")
    ] = "",
    rule: Annotated[
        str, typer.Option(help="What the threshold is best for: youden, accuracy, sensitivity-95.")
    ] = "youden",
    likeliest: Annotated[
        bool, typer.Option("--likeliest", help="Decide for the likeliest class; no threshold.")
    ] = False,
    window: Annotated[
        tuple[float, float] | None,
        typer.Option(help="Lower and upper HU of grey pictures, for a model of HU (or reverse)."),
    ] = None,
    lungs: Annotated[
        str, typer.Option(help="Lung model whose boxes a slice model looks into.")
    ] = "",
    class_map: Annotated[
        list[str] | None,
        typer.Option("--map", help="NAME=CLASS: what a label stands for.", show_default=False),
    ] = None,
    fold: Annotated[
        list[str] | None,
        typer.Option(
            help="MODEL=PATIENT,PATIENT: a fold of a lung model, and whom it has not seen.",
            show_default=False,
        ),
    ] = None,
    allow_leaks: Annotated[
        str, typer.Option(help="Why data to choose on may share patients with the data.")
    ] = "",
    whole_image: Annotated[
        bool, typer.Option("--whole-image", help="Measure a slice model without lung boxes too.")
    ] = False,
    flattery: Annotated[
        bool, typer.Option("--flattery", help="Measure what a split by images would flatter.")
    ] = False,
    cost: Annotated[bool, typer.Option(help="Count operations and time the model.")] = True,
    threads: Annotated[int, typer.Option(min=1, help="Threads of the networks.")] = 2,
    seed: Annotated[int, typer.Option(help="Seed of the intervals.")] = 0,
    out: Annotated[
        Path | None, typer.Option(help="Folder for page, metrics.json, CSV files and plots.")
    ] = None,
    card: Annotated[
        bool, typer.Option("--card", help="Print the figures as card and manifest carry them.")
    ] = False,
    as_json: AsJson = False,
) -> int:
    """Measure any exported model on labelled pictures or on a data set.

    Example: `screener models evaluate ./model --images ./png --labels labels.csv --out ./report`
    """
    measuring = _measuring()
    settings = load_settings()
    set_up_logs(settings.log)
    wanted = measuring.Measurement(
        model=model,
        images=images,
        labels=labels,
        layout=layout,
        data=data,
        part=part,
        patients=tuple(patient or ()),
        validation_labels=validation_labels,
        validation_part=validation_part,
        window=window,
        lungs=lungs,
        class_map=tuple(class_map or ()),
        rule=_rule(rule),
        by_likeliest=likeliest,
        allow_leaks_because=allow_leaks,
        folds=tuple(fold or ()),
        with_whole_image=whole_image,
        with_flattery=flattery,
        with_cost=cost,
        threads=threads,
        seed=seed,
    )
    with progress_bar(is_quiet=as_json) as bar:
        one = measuring.measure(settings, wanted, bar.track)
    _give(one, out, as_json=as_json, for_card=card)
    return EXIT_DONE


def compare_models(
    runs: Annotated[
        list[str],
        typer.Argument(help="metrics.json files, folders that hold one, or names of recipes."),
    ],
    *,
    csv: Annotated[Path | None, typer.Option(help="Write the table as CSV too.")] = None,
    as_json: AsJson = False,
) -> int:
    """Print measured figures beside each other, and beside those of their publications.

    Example: `screener models compare ./report-a ./report-b covid-ct-mobile`
    """
    found = _measuring().compare_runs(runs)
    if as_json:
        print_json(found)
    else:
        print_table(found.columns, found.rows)
        for remark in found.remarks:
            print_note(remark)
    if csv is not None:
        from models.evaluation.tables import write_csv

        write_csv(csv, found.columns, found.rows)
    return EXIT_DONE


def _rule(text: str) -> str:
    known = ("youden", "accuracy", "sensitivity-95")
    if text not in known:
        raise WrongUse(f"--rule {text}: must be one of {', '.join(known)}")
    return text


def _measuring() -> ModuleType:
    """Give the module that measures; say what to install where a library is missing."""
    try:
        from screener.daemon import measuring
    except ModuleNotFoundError as error:
        raise WrongUse(f"{_MEND} ({error.name} is missing)") from error
    return measuring


def _give(one: Evaluation, out: Path | None, *, as_json: bool, for_card: bool) -> None:
    """Print what was measured, in the form that was asked for, and write its folder."""
    if as_json:
        from models.evaluation.report import report_document

        print_json(report_document(one.report))
    elif for_card:
        from models.evaluation.card import card_text

        print_text(card_text(one.report))
    else:
        _print_report(one.report)
    if out is not None:
        from models.evaluation.page import write_folder

        written = write_folder(one, out)
        print_note(f"{len(written)} files in {out}; the page is {out / 'evaluation.html'}")


def _print_report(report: EvaluationReport) -> None:
    from models.evaluation import tables

    title = f"{report.model.name} on {report.data.name}"
    print_table(("", ""), tables.summary_rows(report), title)
    if report.images is not None:
        print_table(*tables.class_rows(report.images), "Images, with 95 % intervals")
    if report.whole_image is not None:
        print_table(*tables.class_rows(report.whole_image), "Images without lung boxes")
    if report.affected_by_patient:
        print_table(*tables.patient_affected_rows(report), "Affected slices of each patient")
    if report.masks is not None:
        print_table(*tables.mask_rows(report), "Masks")
    if report.patients:
        print_table(*tables.policy_rows(report), "Patients")
        print_table(*tables.verdict_rows(report), "Each patient")
