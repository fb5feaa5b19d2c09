"""Which slices stand for the study."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from screener.domain import PatientClass
from screener.errors import ReportError
from screener.report.key_slices import list_affected_slices, most_certain, select_key_slices
from tests.report_factories import make_screening, write_study

if TYPE_CHECKING:
    from pathlib import Path

    from screener.domain import Screening


@pytest.fixture
def screening(tmp_path: Path) -> Screening:
    return make_screening(write_study(tmp_path, 30), affected=tuple(range(5, 25)))


def test_affected_slices_carry_their_class_and_probability(screening: Screening) -> None:
    """The class is the most probable abnormal one, its probability the classifier's."""
    first = list_affected_slices(screening)[0]
    assert first.slice_index == 5
    assert first.patient_class is PatientClass.COVID_19
    assert first.probability == pytest.approx(0.705)


def test_affected_slice_without_probabilities_is_an_error(screening: Screening) -> None:
    """A decision that names a slice nobody classified contradicts itself."""
    outcome = replace(screening.outcome, affected_slice_indices=(0,))  # type: ignore[type-var]
    with pytest.raises(ReportError, match="slice 0"):
        list_affected_slices(replace(screening, outcome=outcome))


def test_unknown_class_name_is_an_error(screening: Screening) -> None:
    """A class without a coded concept cannot be reported under another name."""
    assert screening.probabilities is not None
    renamed = replace(screening.probabilities, class_names=("normal", "flu", "cap"))
    with pytest.raises(ReportError, match="flu"):
        list_affected_slices(replace(screening, probabilities=renamed))


def test_most_certain_keeps_the_order_along_the_patient(screening: Screening) -> None:
    """The cap keeps the highest probabilities and lists them from the feet up."""
    kept = most_certain(list_affected_slices(screening), 3)
    assert [one.slice_index for one in kept] == [22, 23, 24]


def test_key_slices_spread_over_the_affected_extent(screening: Screening) -> None:
    """Neighbours do not crowd out other regions."""
    chosen = select_key_slices(screening, 4)
    assert len(chosen) == 4
    assert chosen == tuple(sorted(chosen))
    assert chosen[-1] - chosen[0] >= 12


def test_key_slices_of_few_affected_slices_are_all_of_them(tmp_path: Path) -> None:
    """Fewer affected slices than places are shown all."""
    screening = make_screening(write_study(tmp_path, 12), affected=(4, 7))
    assert select_key_slices(screening, 6) == (4, 7)


def test_key_slices_of_normal_study_hold_lung(tmp_path: Path) -> None:
    """Without affected slices the picture shows the lungs at even distances."""
    screening = make_screening(
        write_study(tmp_path, 20), affected=(), patient_class=PatientClass.NORMAL
    )
    chosen = select_key_slices(screening, 5)
    assert screening.lungs is not None
    assert set(chosen) <= set(screening.lungs.lung_slices.tolist())
    assert len(set(chosen)) == 5
