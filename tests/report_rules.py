"""The rules of the conformance gate on data sets in memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

from screener.conformance import pair_violations, report_violations

if TYPE_CHECKING:
    from pydicom import Dataset


def violations(report: Dataset, segmentation: Dataset | None = None) -> list[str]:
    """Check a report, and its segmentation where there is one, against every rule."""
    found = report_violations(report)
    return found if segmentation is None else [*found, *pair_violations(report, segmentation)]
