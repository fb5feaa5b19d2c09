"""Figures as rows: for the terminal, for CSV, for a page, for a card."""

import csv
import math
from collections.abc import Iterable, Sequence
from pathlib import Path

from models.evaluation.bootstrap import Interval
from models.evaluation.classification import CLASS_FIGURES, ClassificationFigures
from models.evaluation.evaluate import Evaluation
from models.evaluation.operating_point import OF_MANIFEST, ChosenPoint
from models.evaluation.report import AffectedFigures, EvaluationReport

Row = tuple[object, ...]

FIGURE_COLUMNS = ("level", "class", "figure", "value", "lower", "upper")
PREDICTION_COLUMNS = ("file", "patient", "slice_number", "label", "decision")
_OVERALL = ("accuracy", *CLASS_FIGURES)
_COUNTS = ("true_positive", "false_positive", "true_negative", "false_negative")
_NO_NUMBER = "–"


def interval_text(figure: Interval | None, digits: int = 3) -> str:
    """Write a figure with its interval, a dash where there is none."""
    if figure is None or not math.isfinite(figure.value):
        return _NO_NUMBER
    return f"{figure.value:.{digits}f} ({figure.lower:.{digits}f}–{figure.upper:.{digits}f})"


def class_rows(figures: ClassificationFigures) -> tuple[tuple[str, ...], tuple[Row, ...]]:
    """Give columns and rows: one per class, and all of them together."""
    columns = ("class", "images", "TP", "FP", "TN", "FN", *CLASS_FIGURES)
    rows: list[Row] = [
        (
            one.name,
            one.n_images,
            one.true_positive,
            one.false_positive,
            one.true_negative,
            one.false_negative,
            *(interval_text(getattr(one, name)) for name in CLASS_FIGURES),
        )
        for one in figures.classes
    ]
    together = [interval_text(getattr(figures, name)) for name in CLASS_FIGURES]
    rows.append(("all", figures.n_images, "", "", "", "", *together))
    return columns, tuple(rows)


def summary_rows(report: EvaluationReport) -> tuple[Row, ...]:
    """Give what is said in one line each: name, value."""
    rows = _subject_rows(report)
    if report.decision is not None and report.temperature is not None:
        point, temperature = report.decision, report.temperature
        rows += [
            ("threshold", f"{point.threshold:.3f}, {_choice_words(point)}"),
            ("temperature", f"{temperature.value:.3f}; {temperature.fitted_on}"),
        ]
    if report.calibration is not None and report.uncalibrated is not None:
        before, after = report.uncalibrated.expected_error, report.calibration.expected_error
        rows.append(("calibration error (ECE)", f"{after:.3f}; without temperature {before:.3f}"))
    rows += _affected_rows("affected or not", report.affected)
    rows += _affected_rows("affected or not, by lesion map", report.lesion_map, has_scale=False)
    if report.whole_image is not None:
        rows.append(("accuracy without lung boxes", interval_text(report.whole_image.accuracy)))
        rows.append(("AUC without lung boxes", interval_text(report.whole_image.auc)))
    if report.flattery is not None:
        one = report.flattery
        text = f"nearest neighbour {one.by_image:.3f} by image, {one.by_patient:.3f} by patient"
        same = f"the nearest image is of the same patient in {one.same_patient:.0%}"
        rows.append(("a split by images would flatter", f"{text}; {same}"))
    rows += _cost_rows(report)
    return tuple(rows + [("note", remark) for remark in report.remarks])


def _choice_words(point: ChosenPoint) -> str:
    """Say by what rule a threshold was chosen, and on what; a manifest has both in one text."""
    if point.rule == OF_MANIFEST:
        return f"{point.rule}: {point.chosen_on}"
    return f"{point.rule}; chosen on {point.chosen_on}"


def _subject_rows(report: EvaluationReport) -> list[Row]:
    model, data = report.model, report.data
    part = f", {data.part}" if data.part else ""
    rows: list[Row] = [
        ("model", f"{model.name} {model.version}, sha256 {model.sha256[:12]}…"),
        ("data", f"{data.name}{part} (layout {data.layout})"),
        ("images", f"{data.n_images} of {data.n_patients} patients ({data.patient_source})"),
        *(("assumed", text) for text in data.assumptions),
    ]
    if report.images is not None:
        how = report.images.resampling
        drawn = f"over {how.n_units} {how.unit.value}s, {how.n_resamples} draws"
        rows += [("95 % intervals", drawn), ("accuracy", interval_text(report.images.accuracy))]
    return rows


def _affected_rows(
    name: str, figures: AffectedFigures | None, *, has_scale: bool = True
) -> list[Row]:
    if figures is None:
        return []
    counts = f"{figures.n_affected} affected, {figures.n_normal} normal"
    rows: list[Row] = [(f"{name}: AUC", f"{interval_text(figures.auc)}; {counts}")]
    if has_scale:
        at = f"at {figures.threshold:.3f}"
        rows += [
            (f"{name}: sensitivity", f"{interval_text(figures.sensitivity)} {at}"),
            (f"{name}: specificity", f"{interval_text(figures.specificity)} {at}"),
        ]
    return rows


def _cost_rows(report: EvaluationReport) -> list[Row]:
    if report.cost is None:
        return []
    graph, speed = report.cost.graph, report.cost.speed
    left_out = f", without {', '.join(graph.uncounted)}" if graph.uncounted else ""
    counted = f"{graph.n_macs / 1e6:.1f} million MACs at {graph.rows} x {graph.columns}{left_out}"
    size = f"{graph.n_parameters:,} parameters; {graph.n_bytes / 1e6:.2f} MB"
    rows: list[Row] = [("cost of one image", f"{counted}; {size}")]
    if speed is not None:
        ratio = f"{speed.ratio:.2f} x MobileNetV2"
        quartiles = f"({speed.ratio_lower:.2f} to {speed.ratio_upper:.2f})"
        rates = f"{speed.slices_per_s:.1f} against {speed.reference_slices_per_s:.1f} a second"
        rows.append(("speed", f"{ratio} {quartiles}; {rates}, {speed.threads} thread(s)"))
    return rows


def patient_affected_rows(report: EvaluationReport) -> tuple[tuple[str, ...], tuple[Row, ...]]:
    """Give one row per patient with affected and normal slices."""
    columns = ("patient", "affected", "normal", "AUC (over its slices)", "AUC by lesion map")
    return columns, tuple(
        (
            one.patient,
            one.by_class.n_affected,
            one.by_class.n_normal,
            interval_text(one.by_class.auc),
            "" if one.by_lesion_map is None else interval_text(one.by_lesion_map.auc),
        )
        for one in report.affected_by_patient
    )


def policy_rows(report: EvaluationReport) -> tuple[tuple[str, ...], tuple[Row, ...]]:
    """Give one row per vote policy."""
    columns = ("vote policy", "patients", "right", "in doubt", "wrong", "accuracy")
    return columns, tuple(
        (
            one.policy,
            one.n_patients,
            one.n_right,
            one.n_in_doubt,
            one.n_wrong,
            interval_text(one.accuracy),
        )
        for one in report.patients
    )


def verdict_rows(report: EvaluationReport) -> tuple[tuple[str, ...], tuple[Row, ...]]:
    """Give one row per patient and policy."""
    columns = ("patient", "policy", "decision", "certainty", "slices", "truth")
    return columns, tuple(
        (one.patient, policy.policy, one.decision, f"{one.certainty:.3f}", one.n_slices, one.truth)
        for policy in report.patients
        for one in policy.verdicts
    )


def mask_rows(report: EvaluationReport) -> tuple[tuple[str, ...], tuple[Row, ...]]:
    """Give one row per patient, with the threshold method where it was measured, and the mean."""
    columns = ("patient", "slices", "Dice (over its slices)", "threshold method")
    if report.masks is None:
        return columns, ()
    baseline = report.baseline_masks
    rows: list[Row] = []
    for number, one in enumerate(report.masks.patients):
        beside = "" if baseline is None else f"{baseline.patients[number].dice.value:.4f}"
        rows.append((one.patient, one.n_slices, interval_text(one.dice, 4), beside))
    if report.masks.mean is not None:
        beside = "" if baseline is None else interval_text(baseline.mean, 4)
        rows.append(("mean (over patients)", "", interval_text(report.masks.mean, 4), beside))
    return columns, tuple(rows)


def figure_rows(report: EvaluationReport) -> tuple[Row, ...]:
    """Give every figure as one row of ``FIGURE_COLUMNS``, for spreadsheets."""
    rows = _image_figures("image", report.images)
    rows += _image_figures("image without lung boxes", report.whole_image)
    for level, affected in (("image", report.affected), ("image by lesion map", report.lesion_map)):
        if affected is not None:
            rows.append(_row(level, "affected", "auc", affected.auc))
    for one in report.affected_by_patient:
        rows.append(_row(f"image of {one.patient}", "affected", "auc", one.by_class.auc))
    rows += [
        _row("patient", policy.policy, "accuracy", policy.accuracy)
        for policy in report.patients
        if policy.accuracy is not None
    ]
    if report.masks is not None:
        rows += [_row("patient", one.patient, "dice", one.dice) for one in report.masks.patients]
        if report.masks.mean is not None:
            rows.append(_row("all patients", report.masks.structure, "dice", report.masks.mean))
    if report.calibration is not None:
        rows.append(("image", "all", "ece", report.calibration.expected_error, "", ""))
        rows.append(("image", "all", "brier", report.calibration.brier, "", ""))
    return tuple(rows)


def _image_figures(level: str, figures: ClassificationFigures | None) -> list[Row]:
    if figures is None:
        return []
    rows = [_row(level, "all", name, getattr(figures, name)) for name in _OVERALL]
    for one in figures.classes:
        rows += [_row(level, one.name, name, getattr(one, name)) for name in CLASS_FIGURES]
        rows += [(level, one.name, name, getattr(one, name), "", "") for name in _COUNTS]
    return rows


def prediction_rows(one: Evaluation) -> tuple[tuple[str, ...], tuple[Row, ...]]:
    """Give one row per predicted image, with the probability of each class."""
    if one.predictions is None or one.probabilities is None or one.decisions is None:
        return PREDICTION_COLUMNS, ()
    columns = (*PREDICTION_COLUMNS, *(f"p_{name}" for name in one.predictions.classes))
    rows: list[Row] = []
    for row, index in enumerate(one.predictions.indices):
        sample = one.data.samples[index]
        rows.append(
            (
                sample.name,
                sample.patient,
                "" if sample.slice_number is None else sample.slice_number,
                "" if sample.label is None else one.data.classes[sample.label],
                one.predictions.classes[one.decisions[row]],
                *(f"{value:.6f}" for value in one.probabilities[row]),
            )
        )
    return columns, tuple(rows)


def write_csv(path: Path, columns: Sequence[str], rows: Iterable[Row]) -> None:
    """Write a CSV file as UTF-8 with a header line."""
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(columns)
        writer.writerows(rows)


def _row(level: str, name: str, figure: str, value: Interval) -> Row:
    cells = (value.value, value.lower, value.upper)
    return (level, name, figure, *(f"{x:.6f}" if math.isfinite(x) else "" for x in cells))
