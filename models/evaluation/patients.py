"""From slices to patients under several vote policies, and how often each is right.

The vote itself is the node's and is handed in: `models` does not know it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.datasets import LabelledImages
from models.evaluation.bootstrap import Interval, mean_interval


@dataclass(frozen=True, slots=True)
class VoteOutcome:
    """What a policy says of one patient; ``decision`` is a class or another word for doubt."""

    decision: str
    certainty: float


#: Class names, indices of slices along the body, probabilities ``(slices, classes)``, distance of
#: slices in mm; gives the decision. Raises nothing for few slices: that is a decision too.
Vote = Callable[[tuple[str, ...], NDArray[np.int64], NDArray[np.float32], float], VoteOutcome]


@dataclass(frozen=True, slots=True)
class PatientSlices:
    """The classified slices of one patient, from caudal to cranial.

    ``truth`` is the class of the patient, None where it is unknown. ``probabilities`` is
    ``(slices, classes)``, ``slice_indices`` count all slices of the patient, classified or not.
    """

    patient: str
    truth: str | None
    slice_indices: NDArray[np.int64]
    probabilities: NDArray[np.float32]
    spacing_mm: float


@dataclass(frozen=True, slots=True)
class PatientVerdict:
    """One patient under one policy."""

    patient: str
    truth: str | None
    decision: str
    certainty: float
    n_slices: int


@dataclass(frozen=True, slots=True)
class PolicyFigures:
    """One policy over all patients whose class is known; doubt is neither right nor wrong.

    ``accuracy`` counts doubt as not right and has its interval over patients; it is None where no
    patient's class is known.
    """

    policy: str
    n_patients: int
    n_right: int
    n_in_doubt: int
    n_wrong: int
    accuracy: Interval | None
    verdicts: tuple[PatientVerdict, ...]


def slices_by_patient(
    data: LabelledImages,
    indices: Sequence[int],
    probabilities: NDArray[np.float64],
    name_of: Callable[[str], str],
) -> tuple[PatientSlices, ...]:
    """Sort classified slices by patient and along the body; patients without a place are left out.

    Parameters
    ----------
    data
        The data set; slices need a height.
    indices
        Which samples were classified.
    probabilities
        ``(images, classes)``, in that order.
    name_of
        Turns a class of the data into that of the model.
    """
    row_of = {index: row for row, index in enumerate(indices)}
    found: list[PatientSlices] = []
    for patient in data.patients():
        placed = [(s.height_mm, n) for n, s in enumerate(data.samples) if s.patient == patient]
        heights = sorted((height, n) for height, n in placed if height is not None)
        rows = [(place, row_of[n]) for place, (_, n) in enumerate(heights) if n in row_of]
        if not rows or len(heights) < 2:  # noqa: PLR2004  a distance needs two
            continue
        label = data.samples[heights[0][1]].patient_label
        found.append(
            PatientSlices(
                patient=patient,
                truth=None if label is None else name_of(data.classes[label]),
                slice_indices=np.array([place for place, _ in rows], dtype=np.int64),
                probabilities=probabilities[[row for _, row in rows]].astype(np.float32),
                spacing_mm=float(np.median(np.diff([height for height, _ in heights]))),
            )
        )
    return tuple(found)


def measure_policy(
    policy: str, vote: Vote, classes: tuple[str, ...], patients: Sequence[PatientSlices]
) -> PolicyFigures:
    """Vote on every patient and count."""
    verdicts = []
    for one in patients:
        outcome = vote(classes, one.slice_indices, one.probabilities, one.spacing_mm)
        verdicts.append(
            PatientVerdict(
                patient=one.patient,
                truth=one.truth,
                decision=outcome.decision,
                certainty=outcome.certainty,
                n_slices=len(one.slice_indices),
            )
        )
    known = [one for one in verdicts if one.truth is not None]
    right = [one.decision == one.truth for one in known]
    n_in_doubt = sum(one.decision not in classes for one in known)
    return PolicyFigures(
        policy=policy,
        n_patients=len(known),
        n_right=sum(right),
        n_in_doubt=n_in_doubt,
        n_wrong=len(known) - sum(right) - n_in_doubt,
        accuracy=mean_interval(right) if known else None,
        verdicts=tuple(verdicts),
    )
