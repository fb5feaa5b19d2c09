"""The figures of a report as a card and a manifest carry them."""

import json
import math

from models.evaluation.bootstrap import Interval
from models.evaluation.report import EvaluationReport
from models.manifest import Metric


def card_metrics(report: EvaluationReport) -> tuple[Metric, ...]:
    """Give the figures worth a line in a manifest, each with data and number of subjects.

    Masks: Dice of each patient and their mean. Classes: accuracy and AUC over images, affected or
    not for each patient who has both kinds of slices, and each vote policy over patients.
    """
    found = [*_mask_metrics(report), *_image_metrics(report)]
    for policy in report.patients:
        if policy.accuracy is not None:
            where = (
                f"{report.data.name}, {policy.n_right} right, {policy.n_in_doubt} in doubt, "
                f"{policy.n_wrong} wrong; interval over patients"
            )
            name = f"accuracy of patients by {policy.policy}"
            found.append(_metric(name, policy.accuracy, where, policy.n_patients))
    return tuple(one for one in found if math.isfinite(one.value))


def card_text(report: EvaluationReport) -> str:
    """Give a table for ``card.md`` and the same figures as ``[[metrics]]`` of a manifest."""
    metrics = card_metrics(report)
    lines = ["| measured on | figure | 95 % interval |", "| --- | --- | --- |"]
    lines += [
        f"| {one.measured_on} | {one.name} {one.value:.3f} | {one.lower:.3f} to {one.upper:.3f} |"
        for one in metrics
    ]
    for one in metrics:
        lines += [
            "",
            "[[metrics]]",
            f"name = {json.dumps(one.name, ensure_ascii=False)}",
            *(f"{key} = {getattr(one, key):.4f}" for key in ("value", "lower", "upper")),
            f"measured_on = {json.dumps(one.measured_on, ensure_ascii=False)}",
            f"n_subjects = {one.n_subjects}",
        ]
    return "\n".join(lines) + "\n"


def _mask_metrics(report: EvaluationReport) -> list[Metric]:
    if report.masks is None:
        return []
    name = report.data.name
    found = [
        _metric(
            "dice", one.dice, f"{name} {one.patient}, {one.n_slices} slices; over its slices", 1
        )
        for one in report.masks.patients
    ]
    if report.masks.mean is not None:
        n_patients = len(report.masks.patients)
        where = f"{name}, {n_patients} patients, whole series; interval over patients"
        found.insert(0, _metric("dice", report.masks.mean, where, n_patients))
    return found


def _image_metrics(report: EvaluationReport) -> list[Metric]:
    figures, name = report.images, report.data.name
    if figures is None:
        return []
    how = figures.resampling
    where = f"{name}, {figures.n_images} images; interval over {how.n_units} {how.unit.value}s"
    found = [
        _metric("accuracy of images", figures.accuracy, where, figures.n_patients),
        _metric("area under the curve, mean over classes", figures.auc, where, figures.n_patients),
    ]
    for one in report.affected_by_patient:
        n_slices = one.by_class.n_affected + one.by_class.n_normal
        counts = f"{one.by_class.n_affected} of {n_slices} slices with lungs affected"
        where = f"{name} {one.patient}, {counts}; interval over its slices, which are alike"
        found.append(
            _metric("area under the curve, infected slice or not", one.by_class.auc, where, 1)
        )
        if one.by_lesion_map is not None:
            figure = one.by_lesion_map.auc
            found.append(_metric("area under the curve, by the lesion map", figure, where, 1))
    return found


def _metric(name: str, figure: Interval, measured_on: str, n_subjects: int) -> Metric:
    return Metric(name, figure.value, figure.lower, figure.upper, measured_on, n_subjects)
