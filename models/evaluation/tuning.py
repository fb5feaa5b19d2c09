"""Temperature and threshold: from validation data where they are given, else from the manifest.

Nothing is ever chosen on the data that figures are reported for; a patient or a picture on both
sides is refused.
"""

from collections.abc import Mapping

import numpy as np

from models.datasets import LabelledImages, PatientSource
from models.datasets.splits import pixel_digests
from models.errors import LeakingSplit
from models.evaluation.affected import NORMAL, affected_scores
from models.evaluation.calibration import fit_temperature, softmax
from models.evaluation.class_names import match_classes
from models.evaluation.operating_point import (
    OF_MANIFEST,
    ChosenPoint,
    OperatingRule,
    choose_threshold,
)
from models.evaluation.report import Temperature
from models.evaluation.runners import Predict
from models.manifest import Manifest

_TWO = 2


def tune(
    manifest: Manifest,
    data: LabelledImages,
    validation: LabelledImages | None,
    predict: Predict,
    *,
    class_map: Mapping[str, str],
    rule: OperatingRule,
    allow_leaks_because: str,
) -> tuple[Temperature, ChosenPoint]:
    """Choose temperature and threshold.

    The threshold is about the second of two classes, and about any disease where there are more and
    one of them is *normal*.

    Parameters
    ----------
    manifest
        Of the model; its own values serve where there are no validation data.
    data
        What will be reported on; looked at to find leaks, never to choose.
    validation
        What to choose on.
    predict
        Gives logits of a data set.
    class_map
        What classes of the data stand for.
    rule
        What the threshold is to be best for.
    allow_leaks_because
        Accepts leaks, for the record.

    Raises
    ------
    LeakingSplit
        A patient or a picture is in both sets.
    DatasetInvalid
        The validation data lack a class.
    """
    if validation is None:
        point = manifest.operating_point
        return (
            Temperature(manifest.calibration.temperature, manifest.calibration.fitted_by),
            ChosenPoint(point.threshold, OF_MANIFEST, point.chosen_by, 0),
        )
    if not allow_leaks_because.strip():
        refuse_common(data, validation)
    predictions = predict(validation)
    labels = validation.labels()[list(predictions.indices)]
    rows = np.flatnonzero(labels >= 0)
    order = match_classes(validation.classes, predictions.classes, _known(class_map, validation))
    known = np.array([order[label] for label in labels[rows].tolist()], dtype=np.int64)
    name = f"{validation.name} (validation)"
    temperature = fit_temperature(known, predictions.logits[rows])
    probabilities = softmax(predictions.logits[rows], temperature)
    fitted = Temperature(temperature, f"least cross entropy on {name}, {len(rows)} images")
    if len(predictions.classes) == _TWO:
        scores, truth = probabilities[:, 1], known == 1
    elif NORMAL in predictions.classes:
        scores = affected_scores(predictions.classes, probabilities)
        truth = known != predictions.classes.index(NORMAL)
    else:
        return fitted, ChosenPoint(0.5, "the likeliest class", "nothing", 0)
    return fitted, choose_threshold(scores, np.asarray(truth), rule, name)


def refuse_common(data: LabelledImages, validation: LabelledImages) -> None:
    """Refuse validation data that share a patient or a picture with the data.

    Raises
    ------
    LeakingSplit
        They do; the message names the first.
    """
    patients: set[str] = set()
    if data.patient_source is not PatientSource.IMAGE:
        patients = set(data.patients()) & set(validation.patients())
    digests = pixel_digests(data, range(len(data)))
    seen = {digest: n for n, digest in digests.items()}
    of_validation = pixel_digests(validation, range(len(validation)))
    twins = [(seen[d], n) for n, d in of_validation.items() if d in seen]
    if patients:
        raise LeakingSplit(
            f"{len(patients)} patients are in the data and in the validation data, for example "
            f"{min(patients)}; divide them by patient, or say why it is accepted (--allow-leaks)"
        )
    if twins:
        first, second = twins[0]
        raise LeakingSplit(
            f"{len(twins)} pictures are in the data and in the validation data, for example "
            f"{data.samples[first].name} = {validation.samples[second].name}; remove them from "
            "one, or say why it is accepted (--allow-leaks)"
        )


def _known(class_map: Mapping[str, str], data: LabelledImages) -> dict[str, str]:
    return {name: to for name, to in class_map.items() if name in data.classes}
