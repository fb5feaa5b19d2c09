"""What a report knows to be missing, which makes it PARTIAL (PS3.3 C.17.2)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from screener.domain import Decision, DefectCode, ResultKind
from screener.report.seg import why_no_segmentation
from screener.report.wording import INCOMPLETE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from screener.domain import Screening
    from screener.report.options import ReportOptions


@dataclass(frozen=True, slots=True)
class Shortfall:
    """One thing that is missing: in a few words for the flag, and as a sentence."""

    words: str  #: short: all of them together stand in 64 characters, VR LO
    comment: str


def find_shortfalls(screening: Screening, options: ReportOptions) -> tuple[Shortfall, ...]:
    """List what is missing of the study, of its slices and of the results.

    What nobody asked for is not missing; nor are slices of a study that has no decision.
    """
    return tuple(_find(screening, options))


def describe_shortfalls(shortfalls: tuple[Shortfall, ...]) -> str:
    """Give the Completion Flag Description (0040,A492), at most 64 characters."""
    words = "; ".join(one.words for one in shortfalls)
    return words[0].upper() + words[1:]


def _find(screening: Screening, options: ReportOptions) -> Iterator[Shortfall]:
    missing = screening.run.shortfall
    if missing is not None:
        yield Shortfall(
            "study incomplete",
            f"{INCOMPLETE}: {missing.rstrip('.')}.",
        )
    if not isinstance(screening.outcome, Decision):
        return
    if any(one.code is DefectCode.SLICE_GAP for one in screening.defects):
        yield Shortfall(
            "slices missing",
            "Slices are missing within the screened series; nothing is said about what they show.",
        )
    why = why_no_segmentation(screening) if ResultKind.SEGMENTATION in options.kinds else None
    if why is not None:
        yield Shortfall(
            "no lung segmentation", f"The lungs are not delivered as a segmentation: {why}."
        )
