"""One evaluation as a folder of files: page, figures, predictions, plots."""

import base64
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined

from models.evaluation import plots, tables
from models.evaluation.affected import affected_scores, affected_truth
from models.evaluation.compare import Comparison, Measured, compare, read_published
from models.evaluation.evaluate import Evaluation
from models.evaluation.report import EvaluationReport, report_document, write_metrics

PAGE_FILE = "evaluation.html"
#: Patients whose slices are drawn, at most.
_SHOWN_PATIENTS = 8


@dataclass(frozen=True, slots=True)
class Plot:
    """A picture of an evaluation: file name without ending, what it shows, PNG bytes."""

    name: str
    caption: str
    png: bytes

    @property
    def base64(self) -> str:
        """The bytes as a page carries them."""
        return base64.b64encode(self.png).decode("ascii")


def draw_plots(one: Evaluation) -> tuple[Plot, ...]:
    """Draw what an evaluation has to show."""
    report, decided = one.report, one.decided
    if decided is None or report.images is None or report.calibration is None:
        return ()
    found = [
        Plot("confusion", "Images by label and decision", plots.confusion_plot(report.images)),
        Plot("roc", "ROC, each class against the others", plots.roc_plot(decided)),
    ]
    calibrations = {"measured": report.calibration}
    if report.uncalibrated is not None and report.uncalibrated != report.calibration:
        calibrations["without temperature"] = report.uncalibrated
    found.append(
        Plot(
            "reliability",
            "Reliability: on the dashed line, probabilities mean what they say",
            plots.reliability_plot(calibrations),
        )
    )
    truth = affected_truth(decided)
    if truth is not None:
        scores = affected_scores(decided.classes, decided.probabilities)
        found.append(
            Plot(
                "affected-roc",
                "ROC, any disease against normal",
                plots.score_roc_plot({"any disease": (scores, truth)}),
            )
        )
    strips = _slices(one)
    if strips:
        caption = "Any disease along the body, from caudal to cranial"
        found.append(Plot("slices", caption, plots.slices_plot(strips)))
    return tuple(found)


def _slices(one: Evaluation) -> dict[str, tuple[list[float], list[int]]]:
    """Give score and label of each slice along the body, of the first patients."""
    predictions, probabilities = one.predictions, one.probabilities
    if predictions is None or probabilities is None or "normal" not in predictions.classes:
        return {}
    scores = affected_scores(predictions.classes, probabilities)
    found: dict[str, list[tuple[float, float, int]]] = {}
    for row, index in enumerate(predictions.indices):
        sample = one.data.samples[index]
        if sample.height_mm is None:
            return {}
        is_affected = sample.label is not None and one.data.classes[sample.label] != "normal"
        label = -1 if sample.label is None else int(is_affected)
        found.setdefault(sample.patient, []).append((sample.height_mm, float(scores[row]), label))
    return {
        patient: ([score for _, score, _ in sorted(rows)], [label for _, _, label in sorted(rows)])
        for patient, rows in list(found.items())[:_SHOWN_PATIENTS]
    }


def render_page(one: Evaluation, drawn: tuple[Plot, ...]) -> str:
    """Write one page that needs no other file."""
    environment = Environment(
        loader=PackageLoader("models.evaluation"), autoescape=True, undefined=StrictUndefined
    )
    report = one.report
    return environment.get_template("evaluation.html.j2").render(
        report=report,
        summary=tables.summary_rows(report),
        classes=tables.class_rows(report.images) if report.images else None,
        whole_image=tables.class_rows(report.whole_image) if report.whole_image else None,
        by_patient=tables.patient_affected_rows(report) if report.affected_by_patient else None,
        masks=tables.mask_rows(report) if report.masks else None,
        policies=tables.policy_rows(report) if report.patients else None,
        verdicts=tables.verdict_rows(report),
        compared=_compared(report),
        plots=drawn,
    )


def _compared(report: EvaluationReport) -> Comparison | None:
    """Give the table beside the publication of the model's recipe; None where there is none."""
    published = read_published(report.model.recipe)
    if published is None or not published.figures:
        return None
    return compare([Measured("this evaluation", report_document(report))], [published])


def write_folder(one: Evaluation, folder: Path) -> tuple[Path, ...]:
    """Write page, ``metrics.json``, CSV files and plots; give their paths.

    ``figures.csv`` has one figure a row, ``predictions.csv`` one image, ``patients.csv`` one
    patient and policy, and ``folders/NAME.csv`` one patient folder of the folder NAME a row, as the
    SPGC system hands in.
    """
    folder.mkdir(parents=True, exist_ok=True)
    drawn = draw_plots(one)
    written = [write_metrics(one.report, folder), folder / PAGE_FILE, folder / "figures.csv"]
    written[1].write_text(render_page(one, drawn), encoding="utf-8")
    tables.write_csv(written[2], tables.FIGURE_COLUMNS, tables.figure_rows(one.report))
    if one.predictions is not None:
        written.append(folder / "predictions.csv")
        tables.write_csv(written[-1], *tables.prediction_rows(one))
    if one.report.patients:
        written.append(folder / "patients.csv")
        tables.write_csv(written[-1], *tables.verdict_rows(one.report))
        written += _write_folder_tables(one, folder / "folders")
    for plot in drawn:
        written.append(folder / f"{plot.name}.png")
        written[-1].write_bytes(plot.png)
    return tuple(written)


def _write_folder_tables(one: Evaluation, folder: Path) -> list[Path]:
    """Write one table per folder of patients: patient folder and decision, by the first policy."""
    folder.mkdir(exist_ok=True)
    parent_of = {
        sample.patient: Path(sample.name).parent.parent.name or one.data.name
        for sample in one.data.samples
    }
    by_parent: dict[str, list[tables.Row]] = {}
    for verdict in one.report.patients[0].verdicts:
        row = (verdict.patient, verdict.decision, f"{verdict.certainty:.3f}")
        by_parent.setdefault(parent_of[verdict.patient], []).append(row)
    written = []
    for name, rows in sorted(by_parent.items()):
        written.append(folder / f"{name}.csv")
        tables.write_csv(written[-1], ("folder", "decision", "certainty"), rows)
    return written
