"""Which slices stand for the study: in the image library, the key objects and the picture."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from screener.domain import Decision, PatientClass
from screener.errors import ReportError

if TYPE_CHECKING:
    from screener.domain import Screening, SliceProbabilities


@dataclass(frozen=True, slots=True)
class AffectedSlice:
    """One affected slice with the abnormal class that is most probable in it."""

    slice_index: int
    patient_class: PatientClass
    probability: float  #: 0 to 1, of that class


def list_affected_slices(screening: Screening) -> tuple[AffectedSlice, ...]:
    """List the affected slices of a decision from caudal to cranial.

    Raises
    ------
    ReportError
        An affected slice has no probabilities, or a class has no coded concept.
    """
    if not isinstance(screening.outcome, Decision) or not screening.outcome.affected_slice_indices:
        return ()
    if screening.probabilities is None:
        raise ReportError("the decision names affected slices, but the run has no probabilities")
    rows = {int(index): row for row, index in enumerate(screening.probabilities.slice_indices)}
    affected = []
    for index in sorted(screening.outcome.affected_slice_indices):
        if index not in rows:
            raise ReportError(f"slice {index} is affected but has no probabilities")
        affected.append(_affected_slice(index, rows[index], screening.probabilities))
    return tuple(affected)


def patient_class_of(class_name: str) -> PatientClass:
    """Give the patient class that a model's class name stands for.

    Raises
    ------
    ReportError
        The name is none of ours, so no concept could be written for it.
    """
    try:
        return PatientClass(class_name)
    except ValueError as error:
        known = ", ".join(one.value for one in PatientClass)
        raise ReportError(f"class {class_name!r} has no coded concept; known: {known}") from error


def most_certain(affected: tuple[AffectedSlice, ...], n_most: int) -> tuple[AffectedSlice, ...]:
    """Keep the slices of highest probability, in their order along the patient."""
    ranked = sorted(affected, key=lambda one: (-one.probability, one.slice_index))[:n_most]
    return tuple(sorted(ranked, key=lambda one: one.slice_index))


def select_key_slices(screening: Screening, n_most: int) -> tuple[int, ...]:
    """Select slices that show the result, from caudal to cranial.

    Affected slices are spread over their extent, so that neighbours do not crowd out other
    regions: each of ``n_most`` equal parts gives the most certain slice of its middle half.
    Without affected slices, lung-bearing slices are taken at even distances.
    """
    if screening.volume is None:
        return ()
    affected = list_affected_slices(screening)
    if affected:
        parts = np.array_split(np.arange(len(affected)), min(n_most, len(affected)))
        middles = (part[part.size // 4 : part.size - part.size // 4] for part in parts)
        best = (max(middle, key=lambda at: affected[at].probability) for middle in middles)
        return tuple(affected[int(at)].slice_index for at in best)
    candidates = (
        screening.lungs.lung_slices
        if screening.lungs is not None and screening.lungs.lung_slices.size
        else np.arange(len(screening.volume.slices))
    )
    # Ends of the lungs show little: keep away from them by half a step.
    n_slices = min(n_most, candidates.size)
    positions = (np.arange(n_slices) + 0.5) * candidates.size / n_slices
    return tuple(int(candidates[int(position)]) for position in positions)


def _affected_slice(index: int, row: int, probabilities: SliceProbabilities) -> AffectedSlice:
    abnormal = [
        (float(probabilities.probabilities[row, column]), patient_class_of(name))
        for column, name in enumerate(probabilities.class_names)
        if patient_class_of(name) is not PatientClass.NORMAL
    ]
    if not abnormal:
        raise ReportError("the classifier has no abnormal class, yet a slice is affected")
    probability, patient_class = max(abnormal, key=lambda pair: pair[0])
    return AffectedSlice(index, patient_class, probability)
