"""Bad inputs 32 and 51, from files to the answer: never a guess, always a reason to report."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pydicom
import pytest
from pydicom.dataelem import DataElement
from pydicom.uid import ImplicitVRLittleEndian

from screener.assemble import DecodingRules, SelectionRules
from screener.domain import DefectCode, NotAnalysed, NotAnalysedReason
from tests.chest_models import chest_hu
from tests.ct_factories import only_study, write_dataset, write_series
from tests.unit.test_pipeline import POSITIONS_MM, screen, write_volume

if TYPE_CHECKING:
    from pathlib import Path

RESCALE_INTERCEPT, RESCALE_SLOPE = 0x00281052, 0x00281053
CORONAL = [1.0, 0.0, 0.0, 0.0, 0.0, -1.0]


def refusal_of(folder: Path) -> NotAnalysed:
    screening, _ = screen(only_study(folder))
    assert isinstance(screening.outcome, NotAnalysed)
    return screening.outcome


@pytest.mark.parametrize(
    ("tag", "text"),
    [
        *((RESCALE_SLOPE, text) for text in ("0", "NaN", "-inf", "1e999", "1e300", "1,5")),
        *((RESCALE_SLOPE, text) for text in ("1" * 400, "DOE^JOHN")),
        *((RESCALE_INTERCEPT, text) for text in ("1e300", "-1e300", "NaN")),
    ],
    ids=lambda one: str(one)[:8],
)
def test_input_32_rescale_that_is_no_number(tmp_path: Path, tag: int, text: str) -> None:
    """No Hounsfield unit can be had from it: quarantine, and the value is not repeated."""
    write_volume(tmp_path, chest_hu()[:24])
    for path in tmp_path.iterdir():
        dataset = pydicom.dcmread(path)
        # Implicit VR: the bytes of a decimal string, whatever pydicom thinks of them.
        dataset[tag] = DataElement(tag, "LT", text)
        write_dataset(dataset, path, ImplicitVRLittleEndian)
    study = only_study(tmp_path)
    quarantined: list[str] = []
    screening, _ = screen(study, decoding=DecodingRules(on_impossible=quarantined.append))
    refusal = screening.outcome
    assert isinstance(refusal, NotAnalysed)
    assert refusal.reason is NotAnalysedReason.UNREADABLE_PIXELS
    assert len(text) == 1 or text not in refusal.detail
    assert quarantined == [one.content_digest for one in study.instances]


def test_input_51_slices_with_a_wide_gap(tmp_path: Path) -> None:
    """60 mm are missing: what lay there nobody can say."""
    write_series(tmp_path, [*POSITIONS_MM[:20], *(one + 60 for one in POSITIONS_MM[20:])])
    assert refusal_of(tmp_path).reason is NotAnalysedReason.BROKEN_GEOMETRY


def test_input_51_two_slices_at_each_position(tmp_path: Path) -> None:
    """The newest of each is taken, and the defect stands in the report."""
    hu = np.concatenate([chest_hu(), chest_hu()])
    write_volume(tmp_path / "a", hu[:48])
    write_volume(tmp_path / "b", hu[48:], SOPInstanceUID="")
    screening, _ = screen(only_study(tmp_path))
    assert screening.volume is not None
    assert len(screening.volume.slices) == 48
    assert DefectCode.DUPLICATE_POSITION in [one.code for one in screening.defects]


def test_input_51_mixed_orientation(tmp_path: Path) -> None:
    """Half axial, half coronal under one series: the axial half is too small to be a chest."""
    half = {n: {"ImageOrientationPatient": CORONAL} for n in range(0, 24, 2)}
    write_series(tmp_path, per_slice=half)
    assert refusal_of(tmp_path).reason is NotAnalysedReason.TOO_FEW_SLICES


def test_input_51_one_slice(tmp_path: Path) -> None:
    """One slice is no volume."""
    write_series(tmp_path, [0.0])
    assert refusal_of(tmp_path).reason is NotAnalysedReason.TOO_FEW_SLICES


def test_input_51_thousands_of_slices(tmp_path: Path) -> None:
    """More than any chest has: refused before a pixel is read, with the number."""
    write_series(tmp_path, [0.25 * n for n in range(40)])
    screening, _ = screen(only_study(tmp_path), selection=SelectionRules(most_slices=39))
    assert isinstance(screening.outcome, NotAnalysed)
    assert screening.outcome.reason is NotAnalysedReason.BROKEN_GEOMETRY
    assert "40 axial slices" in screening.outcome.detail
    assert SelectionRules().most_slices < 5000
