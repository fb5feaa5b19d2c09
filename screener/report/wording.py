"""The sentences people read, in one place.

They say what was found, what was not looked at and what is wrong with the source, and they never
claim a diagnosis: the output is an imaging impression that a physician has to check.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from screener.domain import Decision, PatientClass

if TYPE_CHECKING:
    from screener.domain import NotAnalysed, Screening

#: Stands in every report and picture.
DISCLAIMER: Final = (
    "Not a medical device. Unverified output of artificial intelligence, not for diagnosis: "
    "a physician must read the images."
)
#: Short form, for pictures.
SHORT_DISCLAIMER: Final = "AI result, unverified, not for diagnosis"

#: Stands in every report and picture of a study that came incomplete.
INCOMPLETE: Final = "The study was not complete when it was screened, so a finding may be missing"

#: What people call each answer: an imaging pattern, never a proven disease.
CLASS_NAMES: Final[dict[PatientClass, str]] = {
    PatientClass.NORMAL: "no pattern of COVID-19 or pneumonia",
    PatientClass.COVID_19: "COVID-19 imaging pattern",
    PatientClass.COMMUNITY_ACQUIRED_PNEUMONIA: "community-acquired pneumonia imaging pattern",
    PatientClass.INDETERMINATE: "indeterminate",
}


def say_outcome(screening: Screening) -> str:
    """Say the outcome of a run in one or two sentences."""
    if isinstance(screening.outcome, Decision):
        return _say_decision(screening.outcome)
    return _say_not_analysed(screening.outcome)


def say_defects(screening: Screening, header_notes: tuple[str, ...]) -> tuple[str, ...]:
    """Say each thing that is wrong with the source in one sentence."""
    defects = (f"Source defect ({one.code.value}): {one.detail}" for one in screening.defects)
    notes = (f"Source header: {note}" for note in header_notes)
    return (*defects, *notes)


def say_series(screening: Screening) -> tuple[str, ...]:
    """Say which series was screened and why the others were not, ten at most."""
    shown = 10
    sentences = []
    for candidate in screening.ranking.candidates[:shown]:
        is_selected = (
            candidate.series_instance_uid == screening.ranking.selected_series_instance_uid
        )
        verb = "Screened" if is_selected else "Not screened"
        sentences.append(
            f"{verb}: series {candidate.series_instance_uid} ({candidate.modality or 'no modality'}"
            f", {candidate.n_slices} usable slices of {candidate.n_instances} instances): "
            f"{'; '.join(candidate.reasons) or 'no reason recorded'}"
        )
    left_out = len(screening.ranking.candidates) - shown
    if left_out > 0:
        sentences.append(f"{left_out} further series were not screened.")
    return tuple(sentences)


def say_candidates(screening: Screening) -> list[str]:
    """Say of each series why it was not screened, without its UID."""
    return [
        f"Series {number} ({one.modality or 'no modality'}, {one.n_slices} usable slices of "
        f"{one.n_instances} instances): {'; '.join(one.reasons) or 'no reason recorded'}"
        for number, one in enumerate(screening.ranking.candidates, start=1)
    ]


def _say_decision(decision: Decision) -> str:
    counts = (
        f"{len(decision.affected_slice_indices)} of {decision.n_slices_analysed} analysed slices "
        f"affected, vote policy {decision.policy_name}"
    )
    if decision.patient_class is PatientClass.INDETERMINATE:
        return (
            "INDETERMINATE: the software cannot decide between the classes; this is neither a "
            f"normal nor an abnormal result ({counts}). {decision.explanation}"
        )
    name = CLASS_NAMES[decision.patient_class]
    opening = name[0].upper() + name[1:]
    return (
        f"{opening}, certainty {percent(decision.certainty):.1f} % ({counts}). "
        f"{decision.explanation}"
    )


def _say_not_analysed(outcome: NotAnalysed) -> str:
    reason = outcome.reason.value.replace("-", " ")
    return (
        f"NOT ANALYSED, because {reason}: {outcome.detail.rstrip('.')}. "
        "This is not a normal result: the software made no statement about the lungs."
    )


def percent(share: float) -> float:
    """Give a share of 0 to 1 in percent, rounded to one decimal."""
    return round(100.0 * share, 1)
