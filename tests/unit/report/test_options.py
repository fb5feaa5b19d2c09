"""What a site may choose."""

from __future__ import annotations

from typing import Any

import pytest

from screener.errors import ConfigError
from screener.report import ContentQualification, ReportOptions


def test_default_is_research() -> None:
    """Nobody gets PRODUCT without asking for it."""
    assert ReportOptions().content_qualification is ContentQualification.RESEARCH


@pytest.mark.parametrize(
    "wrong",
    [
        {"product_name": ""},
        {"manufacturer": "x" * 65},
        {"institution_name": "a\\b"},
        {"maximum_slice_groups": -1},
        {"n_key_slices": 0},
    ],
    ids=lambda wrong: next(iter(wrong)),
)
def test_value_that_dicom_cannot_hold_is_refused(wrong: dict[str, Any]) -> None:
    """A wrong option fails when it is made, with its name."""
    with pytest.raises(ConfigError, match=f"report.{next(iter(wrong)).removeprefix('n_')}"):
        ReportOptions(**wrong)
