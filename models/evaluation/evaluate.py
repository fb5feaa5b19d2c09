"""Measure one model on one data set: predict, calibrate, decide, count, vote, time."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from models.datasets import OUT_OF_FOLD, TEST, LabelledImages, PatientSource
from models.errors import DatasetInvalid
from models.evaluation.affected import (
    affected_by_patient,
    affected_figures,
    affected_scores,
    affected_truth,
)
from models.evaluation.bootstrap import N_RESAMPLES, Resampling, choose_resampling
from models.evaluation.calibration import measure_calibration, softmax
from models.evaluation.class_names import match_classes
from models.evaluation.classification import (
    ClassificationFigures,
    Decided,
    measure_classification,
)
from models.evaluation.flattery import measure_flattery
from models.evaluation.operating_point import OperatingRule, decide, untuned
from models.evaluation.patients import PolicyFigures, Vote, measure_policy, slices_by_patient
from models.evaluation.prediction import Predictions
from models.evaluation.report import (
    AffectedFigures,
    EvaluationReport,
    data_facts,
    model_facts,
)
from models.evaluation.runners import (
    Predict,
    measure_cost,
    measure_lung_folds,
    measure_lungs,
    open_predictor,
)
from models.evaluation.tuning import tune
from models.manifest import HuWindow, Task
from models.registry import ModelFolder

_TWO = 2
#: Fewer patients than this say little about others, however the interval is drawn.
_FEW_PATIENTS = 10


def _plain(indices: Sequence[int]) -> Iterable[int]:
    return indices


@dataclass(frozen=True, slots=True)
class EvaluationSettings:
    """How to measure.

    Parameters
    ----------
    window
        What grey pictures were made with, or HU are to be made grey with; None where units agree.
    part
        Which part of the data was taken, for the record.
    class_map
        What classes of the data stand for, where names differ.
    validation
        Data to choose temperature and threshold on; None takes those of the manifest.
    rule
        What the threshold is to be best for.
    by_likeliest
        Decide for the likeliest class, as most publications do; no threshold is used.
    allow_leaks_because
        Why validation data may share patients or pictures with the data; empty refuses.
    votes
        Vote policies by name; empty votes on nobody.
    lungs
        Lung model whose boxes a slice model looks into; None shows it whole images.
    lung_folds
        Lung models of a cross-validation with the patients each has not learnt from; they are
        measured instead of the model.
    with_whole_image
        Measure a slice model without lung boxes too.
    with_flattery
        Measure what a split by slices would have flattered.
    with_cost
        Count operations and time the model against MobileNetV2.
    track
        Wraps indices of images for a progress bar.
    """

    window: HuWindow | None = None
    part: str = ""
    class_map: Mapping[str, str] = field(default_factory=dict)
    validation: LabelledImages | None = None
    rule: OperatingRule = OperatingRule.YOUDEN
    by_likeliest: bool = False
    allow_leaks_because: str = ""
    votes: Mapping[str, Vote] = field(default_factory=dict)
    lungs: ModelFolder | None = None
    lung_folds: Sequence[tuple[ModelFolder, Sequence[str]]] = ()
    with_whole_image: bool = False
    with_flattery: bool = False
    with_cost: bool = True
    threads: int = 1
    seed: int = 0
    n_resamples: int = N_RESAMPLES
    track: Callable[[Sequence[int]], Iterable[int]] = _plain


@dataclass(frozen=True, slots=True)
class Evaluation:
    """A report with what its plots and tables of images are drawn from.

    ``probabilities`` and ``decisions`` are of every sample in ``predictions``, labelled or not;
    ``decided`` of the labelled ones. All are None for a segmentation.
    """

    report: EvaluationReport
    data: LabelledImages
    predictions: Predictions | None = None
    probabilities: NDArray[np.float64] | None = None
    decisions: NDArray[np.int64] | None = None
    decided: Decided | None = None


def evaluate(folder: ModelFolder, data: LabelledImages, settings: EvaluationSettings) -> Evaluation:
    """Measure a model of any task.

    Raises
    ------
    DatasetInvalid
        The data do not fit the model; the message says what mends it.
    LeakingSplit
        Validation data and data have a patient or a picture in common.
    ModelError
        The model does not open or fails.
    """
    if len(data) == 0:
        raise DatasetInvalid(f"{data.name} has no images in this part; choose another --part")
    report = EvaluationReport(
        model=model_facts(folder.manifest),
        data=data_facts(data, settings.part, _assumptions(settings)),
        cost=measure_cost(folder, data, settings.window, settings.threads)
        if settings.with_cost
        else None,
        remarks=_learnt_here(folder, data, settings.part),
    )
    if settings.lung_folds:
        masks, baseline = measure_lung_folds(
            settings.lung_folds, data, settings.window, settings.threads, settings.track
        )
        remark = (f"cross-validation: {len(settings.lung_folds)} models, each on unseen patients",)
        report = replace(report, masks=masks, baseline_masks=baseline, remarks=remark)
        return Evaluation(report, data)
    if folder.manifest.task is Task.LUNG_SEGMENTATION:
        masks, baseline = measure_lungs(
            folder, data, settings.window, settings.threads, settings.track
        )
        return Evaluation(replace(report, masks=masks, baseline_masks=baseline), data)
    return _evaluate_classes(folder, data, settings, report)


def _evaluate_classes(
    folder: ModelFolder,
    data: LabelledImages,
    settings: EvaluationSettings,
    report: EvaluationReport,
) -> Evaluation:
    predict = open_predictor(
        folder, settings.lungs, settings.window, settings.threads, settings.track
    )
    predictions = predict(data)
    temperature, point = tune(
        folder.manifest,
        data,
        settings.validation,
        predict,
        class_map=settings.class_map,
        rule=settings.rule,
        allow_leaks_because=settings.allow_leaks_because,
    )
    if settings.by_likeliest:
        point = untuned()
    probabilities = softmax(predictions.logits, temperature.value)
    threshold = point.threshold if len(predictions.classes) == _TWO else None
    labelled = labelled_rows(data, predictions, settings.class_map)
    report = replace(
        report,
        decision=point,
        temperature=temperature,
        patients=_votes(data, predictions, probabilities, settings),
        flattery=measure_flattery(data) if settings.with_flattery else None,
        remarks=report.remarks + _remarks(data, predictions, len(labelled[0])),
    )
    decisions = decide(probabilities, threshold)
    if len(labelled[0]) == 0:
        return Evaluation(report, data, predictions, probabilities, decisions)
    decided = _decided(data, predictions, probabilities, threshold, labelled)
    one = Evaluation(report, data, predictions, probabilities, decisions, decided)
    report = _measure_labelled(one, predictions, decided, labelled[0], settings)
    whole = _whole_image(folder, data.subset(predictions.indices), report, settings)
    return replace(one, report=replace(report, whole_image=whole))


def _decided(
    data: LabelledImages,
    predictions: Predictions,
    probabilities: NDArray[np.float64],
    threshold: float | None,
    labelled: tuple[NDArray[np.int64], NDArray[np.int64]],
) -> Decided:
    """Decide the rows that have labels."""
    rows, labels = labelled
    return Decided(
        classes=predictions.classes,
        labels=labels,
        probabilities=probabilities[rows],
        decisions=decide(probabilities[rows], threshold),
        patients=tuple(data.samples[predictions.indices[row]].patient for row in rows),
    )


def _measure_labelled(
    one: Evaluation,
    predictions: Predictions,
    decided: Decided,
    rows: NDArray[np.int64],
    settings: EvaluationSettings,
) -> EvaluationReport:
    """Add every figure that needs labels to the report."""
    resampling = _resampling(decided, one.data, settings)
    threshold = (one.report.decision or untuned()).threshold
    shares = predictions.lesion_shares
    return replace(
        one.report,
        images=measure_classification(decided, resampling),
        affected=_affected(decided, threshold, resampling),
        affected_by_patient=affected_by_patient(
            decided, None if shares is None else shares[rows], threshold, settings.seed
        ),
        lesion_map=_lesion_map(decided, predictions, rows, resampling),
        calibration=measure_calibration(decided.labels, decided.probabilities),
        uncalibrated=measure_calibration(decided.labels, softmax(predictions.logits[rows])),
    )


def labelled_rows(
    data: LabelledImages, predictions: Predictions, class_map: Mapping[str, str]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Give the rows of the predictions that have a label, and their labels as the model's classes.

    Raises
    ------
    DatasetInvalid
        A class of the data is none of the model's.
    """
    labels = data.labels()[list(predictions.indices)]
    rows = np.flatnonzero(labels >= 0)
    if len(rows) == 0:
        return rows, labels[rows]
    used = sorted(set(labels[rows].tolist()))
    names = [data.classes[label] for label in used]
    stated = {name: to for name, to in class_map.items() if name in names}
    of_model = dict(zip(used, match_classes(names, predictions.classes, stated), strict=True))
    return rows, np.array([of_model[label] for label in labels[rows].tolist()], dtype=np.int64)


def _resampling(decided: Decided, data: LabelledImages, settings: EvaluationSettings) -> Resampling:
    return choose_resampling(
        decided.patients,
        are_patients_known=data.patient_source is not PatientSource.IMAGE,
        seed=settings.seed,
        n=settings.n_resamples,
    )


def _affected(decided: Decided, threshold: float, resampling: Resampling) -> AffectedFigures | None:
    truth = affected_truth(decided)
    if truth is None:
        return None
    scores = affected_scores(decided.classes, decided.probabilities)
    return affected_figures(scores, truth, threshold, decided.patients, resampling)


def _lesion_map(
    decided: Decided, predictions: Predictions, rows: NDArray[np.int64], resampling: Resampling
) -> AffectedFigures | None:
    truth = affected_truth(decided)
    if truth is None or predictions.lesion_shares is None:
        return None
    return affected_figures(
        predictions.lesion_shares[rows], truth, None, decided.patients, resampling
    )


def _whole_image(
    folder: ModelFolder,
    data: LabelledImages,
    report: EvaluationReport,
    settings: EvaluationSettings,
) -> ClassificationFigures | None:
    """Measure the same slices again without lung boxes: the ablation that the papers report."""
    if not settings.with_whole_image or settings.lungs is None:
        return None
    if report.temperature is None or report.decision is None:
        return None
    predict: Predict = open_predictor(
        folder, None, settings.window, settings.threads, settings.track
    )
    predictions = predict(data)
    labelled = labelled_rows(data, predictions, settings.class_map)
    probabilities = softmax(predictions.logits, report.temperature.value)
    threshold = report.decision.threshold if len(predictions.classes) == _TWO else None
    decided = _decided(data, predictions, probabilities, threshold, labelled)
    return measure_classification(decided, _resampling(decided, data, settings))


def _votes(
    data: LabelledImages,
    predictions: Predictions,
    probabilities: NDArray[np.float64],
    settings: EvaluationSettings,
) -> tuple[PolicyFigures, ...]:
    if not settings.votes:
        return ()

    def name_of(name: str) -> str:
        stated = {name: settings.class_map[name]} if name in settings.class_map else {}
        return predictions.classes[match_classes((name,), predictions.classes, stated)[0]]

    patients = slices_by_patient(data, predictions.indices, probabilities, name_of)
    if not patients:
        return ()
    return tuple(
        measure_policy(name, vote, predictions.classes, patients)
        for name, vote in settings.votes.items()
    )


def _assumptions(settings: EvaluationSettings) -> tuple[str, ...]:
    stated = []
    if settings.window is not None:
        stated.append(
            f"pictures show {settings.window.lower_hu:g} to {settings.window.upper_hu:g} HU"
        )
    stated += [f"{name} counts as {to}" for name, to in settings.class_map.items()]
    if settings.allow_leaks_because:
        stated.append(f"leaks allowed: {settings.allow_leaks_because}")
    return tuple(stated)


def _learnt_here(folder: ModelFolder, data: LabelledImages, part: str) -> tuple[str, ...]:
    """Warn where a model meets the data set that it has learnt from, and not its test part."""
    sources = {source.name for source in folder.manifest.training_data}
    if data.name not in sources or part == TEST:
        return ()
    if any(f"{data.name}, {OUT_OF_FOLD}," in one.measured_on for one in folder.manifest.metrics):
        warning = f"the model has learnt from every image of {data.name} but its test list: "
        return (f"{warning}these figures mean nothing, those out of fold stand in its card",)
    warning = f"the model has learnt from, or was tuned on, images of {data.name}: "
    return (f"{warning}figures hold only for images that were not among them",)


def _remarks(data: LabelledImages, predictions: Predictions, n_labelled: int) -> tuple[str, ...]:
    remarks = []
    if predictions.without_lungs:
        n = len(predictions.without_lungs)
        remarks.append(f"{n} slices show too little lung to be judged and are not counted")
    n_unlabelled = len(predictions.indices) - n_labelled
    if n_unlabelled:
        remarks.append(f"{n_unlabelled} images have no label and are predicted only")
    if data.patient_source is PatientSource.IMAGE:
        remarks.append("patients are unknown: intervals are over images, and too narrow if not")
    elif data.patient_source is PatientSource.BLOCK:
        remarks.append("patients are unknown: intervals are over blocks of neighbouring images")
    elif 1 < len(data.patients()) < _FEW_PATIENTS:
        remarks.append(f"{len(data.patients())} patients: intervals over so few are rough")
    elif len(data.patients()) == 1:
        remarks.append("one patient: intervals are over images, which resemble their neighbours")
    return tuple(remarks)
