"""The head line of every picture and page: the answer, its colour, and how it came about."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from screener.domain import Decision, PatientClass
from screener.report.palette import CLASS_COLOURS, NOT_ANALYSED
from screener.report.wording import CLASS_NAMES, percent

if TYPE_CHECKING:
    from screener.domain import Screening
    from screener.report.palette import Colour


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a page says first."""

    title: str
    colour: Colour
    lines: tuple[str, ...]  #: the figures, then the explanation


def verdict_of(screening: Screening) -> Verdict:
    """Give the head line of a screening."""
    outcome = screening.outcome
    if not isinstance(outcome, Decision):
        reason = outcome.reason.value.replace("-", " ")
        return Verdict(
            "Not analysed",
            NOT_ANALYSED,
            (f"because {reason}: {outcome.detail}", "This is not a normal result."),
        )
    counts = (
        f"{len(outcome.affected_slice_indices)} of {outcome.n_slices_analysed} analysed slices "
        f"affected ({percent(outcome.affected_fraction):.1f} %), vote policy {outcome.policy_name}"
    )
    colour = CLASS_COLOURS[outcome.patient_class]
    if outcome.patient_class is PatientClass.INDETERMINATE:
        title = "Indeterminate: neither normal nor abnormal"
        return Verdict(title, colour, (counts, outcome.explanation))
    name = CLASS_NAMES[outcome.patient_class]
    return Verdict(
        name[0].upper() + name[1:],
        colour,
        (f"certainty {percent(outcome.certainty):.1f} %, {counts}", outcome.explanation),
    )
