"""The nightly audit as one self-contained page for people, and as JSON for machines."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from screener.audit.nightly import AccountOutcome
from screener.audit.plain import to_plain

if TYPE_CHECKING:
    from collections.abc import Sequence

    from screener.audit.nightly import NightlyAudit

#: What people read for each outcome.
OUTCOME_WORDS = {
    AccountOutcome.ANALYSED: "analysed",
    AccountOutcome.NOT_ANALYSED: "not analysed, with reason",
    AccountOutcome.IN_PROGRESS: "in progress",
    AccountOutcome.FAILED: "failed",
    AccountOutcome.MISSING: "missing",
}

_SECONDS_PER_MINUTE = 60
_SECONDS_PER_HOUR = 3600


@dataclass(frozen=True, slots=True)
class Bar:
    """One bar of a chart."""

    label: str
    count: int
    share: float  #: of the longest bar, 0 to 1
    style: str  #: class of the style sheet


def to_json(audit: NightlyAudit) -> dict[str, Any]:
    """Give the audit as plain JSON."""
    content: dict[str, Any] = to_plain(audit)
    content["is_clean"] = audit.is_clean
    content["problems"] = list(audit.problems)
    content["outcome_counts"] = {outcome.value: n for outcome, n in audit.outcome_counts}
    return content


def render_html(audit: NightlyAudit) -> str:
    """Give the audit as one page without scripts and without anything to load."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["duration"] = show_duration
    counts = dict(audit.outcome_counts)
    return environment.get_template("nightly.html.j2").render(
        audit=audit,
        words=OUTCOME_WORDS,
        n_studies=len(audit.accounts),
        outcomes=[(outcome, counts[outcome]) for outcome in OUTCOME_WORDS],
        class_bars=_bars(audit.class_mix),
        accounts=audit.accounts,
    )


def show_duration(seconds: float | None) -> str:
    """Show a duration in the unit people would use."""
    if seconds is None:
        return "–"
    if seconds < 2 * _SECONDS_PER_MINUTE:
        return f"{seconds:.0f} s"
    if seconds < 2 * _SECONDS_PER_HOUR:
        return f"{seconds / _SECONDS_PER_MINUTE:.1f} min"
    return f"{seconds / _SECONDS_PER_HOUR:.1f} h"


def _bars(counted: Sequence[tuple[str, int]]) -> list[Bar]:
    longest = max((count for _, count in counted), default=0)
    return [
        Bar(label, count, count / longest, "refused" if label.startswith("not ") else "class")
        for label, count in counted
    ]
