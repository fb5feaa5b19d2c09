"""Any disease against normal, on images: what finds a patient, whatever the disease is called."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from models.evaluation.bootstrap import (
    Resampling,
    choose_resampling,
    draw_weights,
    interval,
)
from models.evaluation.classification import Decided, resample_figures
from models.evaluation.operating_point import decide
from models.evaluation.report import AffectedFigures, PatientAffected

#: The class that stands for no disease, where a model has it.
NORMAL = "normal"


def affected_truth(decided: Decided) -> NDArray[np.bool_] | None:
    """Tell which images are labelled with a disease; None where that is no question of its own.

    It is none where the model has no class *normal*, or only one besides it, or where the labels
    are all normal or all not.
    """
    if NORMAL not in decided.classes or len(decided.classes) == 2:  # noqa: PLR2004  see above
        return None
    truth = np.asarray(decided.labels != decided.classes.index(NORMAL))
    return None if truth.all() or not truth.any() else truth


def affected_scores(
    classes: Sequence[str], probabilities: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Give the probability of any disease, ``(images,)``."""
    return np.asarray(1.0 - probabilities[:, list(classes).index(NORMAL)])


def affected_figures(
    scores: NDArray[np.float64],
    truth: NDArray[np.bool_],
    threshold: float | None,
    patients: Sequence[str],
    resampling: Resampling,
) -> AffectedFigures:
    """Measure a score of being affected.

    Parameters
    ----------
    scores
        0 to 1, ``(images,)``.
    truth
        Which images are affected.
    threshold
        Score from which an image counts as affected; None for the median score, where a score has
        no scale of its own and its AUC alone matters.
    patients
        The patient of each image.
    resampling
        How the intervals are drawn.
    """
    cut = float(np.median(scores)) if threshold is None else threshold
    probabilities = np.stack([1.0 - scores, scores], axis=1)
    decided = Decided(
        classes=(NORMAL, "affected"),
        labels=truth.astype(np.int64),
        probabilities=probabilities,
        decisions=decide(probabilities, cut),
        patients=tuple(patients),
    )
    resampled = resample_figures(decided, draw_weights(decided.patients, resampling))
    whole = resample_figures(decided, np.ones((1, len(truth))))
    auc, recall, specificity = (
        interval(float(whole[name][0, 1]), resampled[name][:, 1])
        for name in ("auc", "recall", "specificity")
    )
    n_affected = int(truth.sum())
    return AffectedFigures(n_affected, len(truth) - n_affected, cut, auc, recall, specificity)


def affected_by_patient(
    decided: Decided, lesion_shares: NDArray[np.float64] | None, threshold: float, seed: int
) -> tuple[PatientAffected, ...]:
    """Measure each patient who has affected and normal slices, with intervals over the slices."""
    if affected_truth(decided) is None:
        return ()
    truth = decided.labels != decided.classes.index(NORMAL)
    scores = affected_scores(decided.classes, decided.probabilities)
    found = []
    for patient in dict.fromkeys(decided.patients):
        rows = np.flatnonzero(np.asarray(decided.patients) == patient)
        if truth[rows].all() or not truth[rows].any():
            continue
        names = [patient] * len(rows)
        how = choose_resampling(names, are_patients_known=False, seed=seed)
        by_class = affected_figures(scores[rows], truth[rows], threshold, names, how)
        by_map = (
            None
            if lesion_shares is None
            else affected_figures(lesion_shares[rows], truth[rows], None, names, how)
        )
        found.append(PatientAffected(patient, by_class, by_map))
    return tuple(found)
