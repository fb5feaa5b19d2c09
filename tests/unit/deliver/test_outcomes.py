"""What each C-STORE status means for a delivery."""

from __future__ import annotations

import pytest
from pydicom.dataset import Dataset

from screener.deliver.query import plain_text
from screener.deliver.scu import outcome_of
from screener.domain import Outcome


@pytest.mark.parametrize(
    ("status", "outcome"),
    [
        (0x0000, Outcome.STORED),
        (0xB000, Outcome.STORED_WITH_WARNING),
        (0xB006, Outcome.STORED_WITH_WARNING),
        (0xB007, Outcome.STORED_WITH_WARNING),
        (0x0111, Outcome.STORED_WITH_WARNING),
        (0xA700, Outcome.RETRY),
        (0xA7FF, Outcome.RETRY),
        (0x0110, Outcome.RETRY),
        (0x0124, Outcome.RETRY),
        (0xA900, Outcome.REFUSED),
        (0xC000, Outcome.REFUSED),
        (0x0122, Outcome.SKIPPED),
        (0x1234, Outcome.REFUSED),
    ],
)
def test_status_has_one_outcome(status: int, outcome: Outcome) -> None:
    """Stored, stored with a remark, worth another try, or refused."""
    assert outcome_of(status) is outcome


def test_answer_is_read_as_text_whatever_it_holds() -> None:
    """Absent, empty, several and numeric values become text."""
    answer = Dataset()
    answer.ModalitiesInStudy = ["CT", "SR"]
    answer.NumberOfStudyRelatedInstances = 12
    answer.StudyDate = ""
    assert plain_text(answer, "ModalitiesInStudy") == "CT\\SR"
    assert plain_text(answer, "NumberOfStudyRelatedInstances") == "12"
    assert plain_text(answer, "StudyDate") == ""
    assert plain_text(answer, "StudyInstanceUID") == ""
