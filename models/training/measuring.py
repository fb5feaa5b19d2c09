"""Measure a trained network on one side of the split, with intervals by patient."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.datasets import LabelledImages, PatientSource
from models.evaluation.bootstrap import Interval, choose_resampling, mean_interval
from models.evaluation.calibration import Calibration, fit_temperature, measure_calibration, softmax
from models.evaluation.classification import ClassificationFigures, Decided, measure_classification
from models.evaluation.operating_point import ChosenPoint, OperatingRule, choose_threshold, untuned
from models.training.decision_offset import Settled
from models.training.graphs import class_logits
from models.training.prepared import PreparedImages

#: A temperature is written within these limits, as the manifest has them.
_TEMPERATURES = (0.01, 100.0)


@dataclass(frozen=True, slots=True)
class MeasuredClasses:
    """Figures of a classifier on one side of the split, and what they were computed from."""

    side: str
    figures: ClassificationFigures
    calibration: Calibration
    decided: Decided
    logits: NDArray[np.float64]
    indices: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class MeasuredMasks:
    """Dice of one side of the split: mean over images of each patient, then over patients.

    The interval is over ``interval_over``: patients, or the images of the one patient there is.
    """

    side: str
    dice: Interval
    interval_over: str
    n_patients: int
    per_image: tuple[float, ...]
    indices: tuple[int, ...]


def fitted_temperature(logits: Tensor, labels: Tensor) -> float:
    """Fit the temperature on validation data; 1 where they hold one class alone."""
    known = labels.numpy().astype(np.int64)
    if len(set(known.tolist())) < 2:  # noqa: PLR2004  any temperature would do
        return 1.0
    found = fit_temperature(known, class_logits(logits).double().numpy())
    return float(np.clip(found, *_TEMPERATURES))


def chosen_point(logits: Tensor, labels: Tensor, temperature: float, name: str) -> ChosenPoint:
    """Choose the threshold on validation data where there are two classes."""
    known = labels.numpy().astype(np.int64)
    probabilities = softmax(class_logits(logits).double().numpy(), temperature)
    if probabilities.shape[1] != 2 or len(set(known.tolist())) < 2:  # noqa: PLR2004  no threshold
        return untuned()
    return choose_threshold(probabilities[:, 1], known == 1, OperatingRule.YOUDEN, name)


def measure_classes(
    data: LabelledImages,
    prepared: PreparedImages,
    settled: Settled,
    temperature: float,
    *,
    side: str,
) -> MeasuredClasses:
    """Measure class logits; the decision is the likeliest class where no other was settled."""
    logits64 = class_logits(settled.logits[side]).double().numpy()
    probabilities = softmax(logits64, temperature)
    decisions = settled.decisions.get(side)
    labels = prepared.targets.numpy().astype(np.int64)
    patients = tuple(data.samples[n].patient for n in prepared.indices)
    decided = Decided(
        data.classes,
        labels,
        probabilities,
        probabilities.argmax(axis=1).astype(np.int64) if decisions is None else decisions,
        patients,
    )
    resampling = choose_resampling(
        patients, are_patients_known=data.patient_source is not PatientSource.IMAGE
    )
    return MeasuredClasses(
        side=side,
        figures=measure_classification(decided, resampling),
        calibration=measure_calibration(labels, probabilities),
        decided=decided,
        logits=logits64,
        indices=prepared.indices,
    )


def measure_masks(
    data: LabelledImages, prepared: PreparedImages, logits: Tensor, *, side: str
) -> MeasuredMasks:
    """Measure mask logits on the network's grid."""
    found, truth = logits > 0, prepared.targets > 0
    axes = (1, 2, 3)
    both = (found & truth).sum(axes, dtype=torch.float64)
    total = found.sum(axes, dtype=torch.float64) + truth.sum(axes, dtype=torch.float64)
    values = torch.where(total > 0, 2.0 * both / total.clamp_min(1.0), 1.0).tolist()
    by_patient: dict[str, list[float]] = {}
    for index, value in zip(prepared.indices, values, strict=True):
        by_patient.setdefault(data.samples[index].patient, []).append(value)
    means = [float(np.mean(one)) for one in by_patient.values()]
    return MeasuredMasks(
        side=side,
        dice=mean_interval(means if len(means) > 1 else values),
        interval_over="patients" if len(means) > 1 else "images of one patient",
        n_patients=len(means),
        per_image=tuple(values),
        indices=prepared.indices,
    )
