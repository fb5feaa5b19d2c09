"""The report of regions: every group has one, the verdict is there, and when there is none."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from screener.domain import LungMask, PatientClass, ResultKind
from screener.report import ReportOptions, build_results
from screener.report.envelope import SERIES_DESCRIPTIONS, SERIES_NUMBERS
from tests.report_factories import make_refusal, make_screening, write_study
from tests.sr_reader import find, groups, read_result, value_of, values

if TYPE_CHECKING:
    from pathlib import Path

    from pydicom import Dataset

    from screener.domain import Screening, SpooledStudy

OPTIONS = ReportOptions(kinds=(ResultKind.VIEWER_REPORT,), n_key_slices=3, maximum_slice_groups=2)


@pytest.fixture
def study(tmp_path: Path) -> SpooledStudy:
    return write_study(tmp_path, 12)


def results_of(screening: Screening, study: SpooledStudy) -> dict[ResultKind, Dataset]:
    return {one.kind: read_result(one) for one in build_results(screening, study, OPTIONS)}


def viewer_of(screening: Screening, study: SpooledStudy) -> Dataset:
    return results_of(screening, study)[ResultKind.VIEWER_REPORT]


def region_of(group: Dataset) -> tuple[list[float], str]:
    """Give the points of a group's region and the instance that it is drawn on."""
    [region] = find(group, "111030")
    [image] = region.ContentSequence
    assert region.GraphicType == "POLYLINE"
    return list(region.GraphicData), str(value_of(image).ReferencedSOPInstanceUID)


def test_every_group_draws_a_box_around_the_lungs(study: SpooledStudy) -> None:
    """Two affected slices, two closed boxes, each on its own slice with its certainty."""
    viewer = viewer_of(make_screening(study, affected=(3, 5)), study)
    drawn = [region_of(group) for group in groups(viewer).values()]
    box = [4, 8, 36, 8, 36, 24, 4, 24, 4, 8]
    assert drawn == [(box, study.instances[index].sop_instance_uid) for index in (3, 5)]
    assert values(viewer, "111012") == [70.3, 70.5]
    assert set(values(viewer, "121071")) == {"840539006"}


def test_no_group_is_without_region_and_no_segment_is_cited(study: SpooledStudy) -> None:
    """Viewers throw on groups that cannot be drawn, so there is none."""
    viewer = viewer_of(make_screening(study), study)
    assert len(find(viewer, "111030")) == len(find(viewer, "125007"))
    assert find(viewer, "121191") == []


def test_verdict_stands_in_the_evaluations(study: SpooledStudy) -> None:
    """The answer for the patient is there although no group says it."""
    viewer = viewer_of(make_screening(study), study)
    assert values(viewer, "111413") == ["840539006"]
    assert values(viewer, "121077")[0].startswith("COVID-19 imaging pattern")
    assert viewer.VerificationFlag == "UNVERIFIED"


def test_most_certain_slices_are_kept(study: SpooledStudy) -> None:
    """The cap of the report holds here too."""
    viewer = viewer_of(make_screening(study, affected=(2, 3, 4, 5)), study)
    uids = [region_of(group)[1] for group in groups(viewer).values()]
    assert uids == [study.instances[index].sop_instance_uid for index in (4, 5)]


def test_normal_study_shows_key_slices(study: SpooledStudy) -> None:
    """Without affected slices the key slices are drawn, found normal."""
    screening = make_screening(study, affected=(), patient_class=PatientClass.NORMAL)
    viewer = viewer_of(screening, study)
    assert values(viewer, "121071") == ["17621005"] * 3
    assert values(viewer, "111012") == [80.0] * 3


def test_tracking_is_that_of_the_report(study: SpooledStudy) -> None:
    """The same finding has the same tracking UID in both reports."""
    results = results_of(make_screening(study, affected=(3, 5)), study)
    tracked = {kind: set(values(document, "112040")) for kind, document in results.items()}
    assert tracked[ResultKind.VIEWER_REPORT] < tracked[ResultKind.STRUCTURED_REPORT]


def test_report_of_regions_is_a_series_of_its_own(study: SpooledStudy) -> None:
    """It cannot be taken for the report, whose series viewers open at the last instance."""
    results = results_of(make_screening(study), study)
    report = results[ResultKind.STRUCTURED_REPORT]
    viewer = results[ResultKind.VIEWER_REPORT]
    assert viewer.SeriesInstanceUID != report.SeriesInstanceUID
    assert viewer.SOPInstanceUID != report.SOPInstanceUID
    assert "PredecessorDocumentsSequence" not in viewer


def test_frame_of_multi_frame_source_is_named(tmp_path: Path) -> None:
    """A box on an enhanced CT names its frame."""
    study = write_study(tmp_path, 1)
    viewer = viewer_of(make_screening(study, n_frames=8, affected=(3,)), study)
    [image] = find(viewer, "111030")[0].ContentSequence
    assert value_of(image).ReferencedFrameNumber == 4


@pytest.mark.parametrize("case", ["no-references", "no-lungs"])
def test_study_without_regions_says_so_in_the_report(tmp_path: Path, case: str) -> None:
    """What cannot be drawn is not written, and the report says why."""
    study = write_study(tmp_path, 12, **({"SOPInstanceUID": "1.2.3"} if case[3] == "r" else {}))
    screening = make_screening(study)
    if case == "no-lungs" and screening.lungs is not None:
        screening = replace(screening, lungs=LungMask(screening.lungs.labels * 0, 0.0, 0.0))
    results = results_of(screening, study)
    assert set(results) == {ResultKind.STRUCTURED_REPORT}
    comments = values(results[ResultKind.STRUCTURED_REPORT], "121106")
    assert any(text.startswith("No report of regions was written") for text in comments)


def test_refused_study_has_no_regions(study: SpooledStudy) -> None:
    """What was not analysed has nothing to draw."""
    assert set(results_of(make_refusal(study), study)) == {ResultKind.STRUCTURED_REPORT}


def test_same_run_gives_the_same_regions(study: SpooledStudy) -> None:
    """Built twice, the same bytes."""
    screening = make_screening(study)
    first, second = (build_results(screening, study, OPTIONS)[1].encoded for _ in range(2))
    assert first == second


def test_every_kind_has_a_number_and_a_description_that_fits() -> None:
    """With the longest product name a Series Description still has 64 characters."""
    assert set(SERIES_NUMBERS) == set(SERIES_DESCRIPTIONS) == set(ResultKind)
    assert len(set(SERIES_NUMBERS.values())) == len(ResultKind)
    assert all(32 + 1 + len(text) <= 64 and "AI" in text for text in SERIES_DESCRIPTIONS.values())
