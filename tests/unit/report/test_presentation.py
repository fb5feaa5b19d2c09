"""The presentation state: what it draws where, with which window, and when there is none."""

from __future__ import annotations

from dataclasses import replace
from io import BytesIO
from typing import TYPE_CHECKING

import numpy as np
import pytest
from pydicom import Dataset, dcmread, dcmwrite

from screener.domain import LEFT_LUNG, RIGHT_LUNG, NotAnalysedReason, PatientClass, ResultKind
from screener.report import ReportOptions, build_results
from screener.report.palette import CLASS_COLOURS, LUNG_COLOURS
from tests.presentation_picture import show
from tests.report_factories import make_refusal, make_screening, run_identity, write_study
from tests.sr_reader import values

if TYPE_CHECKING:
    from pathlib import Path

    from screener.domain import Screening, SpooledStudy

OPTIONS = ReportOptions(kinds=(ResultKind.PRESENTATION_STATE,), n_key_slices=3)


@pytest.fixture
def study(tmp_path: Path) -> SpooledStudy:
    return write_study(tmp_path, 12, RescaleIntercept=-1024)


def results_of(screening: Screening, study: SpooledStudy) -> dict[ResultKind, Dataset]:
    results = build_results(screening, study, OPTIONS)
    return {one.kind: dcmread(BytesIO(one.encoded)) for one in results}


def state_of(screening: Screening, study: SpooledStudy) -> Dataset:
    return results_of(screening, study)[ResultKind.PRESENTATION_STATE]


def annotations(state: Dataset, layer: str) -> list[Dataset]:
    return [one for one in state.GraphicAnnotationSequence if one.GraphicLayer == layer]


def test_outlines_enclose_the_lungs_of_their_slice(study: SpooledStudy) -> None:
    """Right and left lung are drawn on their own layers, around their own pixels."""
    state = state_of(make_screening(study, affected=(2, 4, 6)), study)
    for layer, box in (("RIGHT_LUNG", (4, 8, 16, 24)), ("LEFT_LUNG", (24, 10, 36, 24))):
        drawn = annotations(state, layer)
        assert len(drawn) == 3
        [line] = drawn[0].GraphicObjectSequence
        points = np.array(line.GraphicData).reshape(-1, 2)
        assert (*points.min(axis=0), *points.max(axis=0)) == box
        assert points[0].tolist() == points[-1].tolist()
        assert line.NumberOfGraphicPoints == len(points)


def test_words_say_verdict_finding_and_disclaimer(study: SpooledStudy) -> None:
    """Each slice says what the run found, what the slice shows, and that it is no diagnosis."""
    state = state_of(make_screening(study, affected=(2, 4, 6)), study)
    texts = [one.TextObjectSequence[0].UnformattedTextValue for one in annotations(state, "RESULT")]
    assert [text.split("\r\n")[:2] for text in texts] == [
        ["COVID-19 imaging pattern", f"This slice: COVID-19 pattern {share} %"]
        for share in (70, 70, 71)
    ]
    assert all("not for diagnosis" in text.split("\r\n")[2] for text in texts)


def test_words_of_incomplete_study_say_so(study: SpooledStudy) -> None:
    """A finding may be missing from each slice, or from one that did not come."""
    run = run_identity(study, shortfall="10 instances in 1 series, 20 expected")
    state = state_of(replace(make_screening(study), run=run), study)
    for one in annotations(state, "RESULT"):
        assert "study was not complete" in one.TextObjectSequence[0].UnformattedTextValue


def test_images_are_shown_in_the_lung_window(study: SpooledStudy) -> None:
    """Stored values become HU as the source says, then -600 HU in the middle of 1500."""
    state = state_of(make_screening(study), study)
    assert (state.RescaleIntercept, state.RescaleSlope) == (-1024, 1)
    [window] = state.SoftcopyVOILUTSequence
    assert (window.WindowCenter, window.WindowWidth) == (-600, 1500)
    [area] = state.DisplayedAreaSelectionSequence
    assert list(area.PresentationPixelSpacing) == [1.5, 1.25]
    assert list(area.DisplayedAreaBottomRightHandCorner) == [40, 32]


def test_picture_has_outlines_at_the_lungs_and_words_above(study: SpooledStudy) -> None:
    """Drawn as the standard says: colours of both lungs on their edges, the window below."""
    state = state_of(make_screening(study, affected=(2, 4, 6)), study)
    picture = np.asarray(show(state, dcmread(study.instances[2].path), 400), int)
    assert picture.shape == (384, 400, 3)  # 32 rows of 1.5 mm, 40 columns of 1.25 mm
    right, left = LUNG_COLOURS[RIGHT_LUNG], LUNG_COLOURS[LEFT_LUNG]
    for place, colour in (
        ((96, 100), right),  # upper edges of the boxes
        ((120, 300), left),
        ((150, 40), right),  # outer edges
        ((150, 360), left),
        ((150, 100), (56, 56, 56)),  # within: -1022 HU in a window from -1350 to 150
        ((370, 390), (56, 56, 56)),
    ):
        assert np.abs(picture[place] - colour).max() <= 35, place  # CIELab is rounded
    words = np.abs(picture - CLASS_COLOURS[PatientClass.COVID_19]).max(axis=2) <= 35
    rows, columns = np.nonzero(words)
    assert rows.size > 200
    assert rows.max() <= 0.14 * 384
    assert columns.max() <= 0.6 * 400


def test_every_annotated_image_is_referenced(study: SpooledStudy) -> None:
    """The series list names the key slices, each once."""
    state = state_of(make_screening(study, affected=(2, 4, 6)), study)
    [series] = state.ReferencedSeriesSequence
    listed = [one.ReferencedSOPInstanceUID for one in series.ReferencedImageSequence]
    assert listed == [study.instances[index].sop_instance_uid for index in (2, 4, 6)]
    drawn = {
        one.ReferencedImageSequence[0].ReferencedSOPInstanceUID
        for one in state.GraphicAnnotationSequence
    }
    assert drawn == set(listed)


def test_frames_of_one_instance_are_listed_together(tmp_path: Path) -> None:
    """An enhanced CT is one image with several frame numbers."""
    study = write_study(tmp_path, 1)
    state = state_of(make_screening(study, n_frames=8, affected=(2, 4, 6)), study)
    [image] = state.ReferencedSeriesSequence[0].ReferencedImageSequence
    assert list(image.ReferencedFrameNumber) == [3, 5, 7]
    assert annotations(state, "RESULT")[1].ReferencedImageSequence[0].ReferencedFrameNumber == 5


def test_rescale_of_frames_is_read(tmp_path: Path) -> None:
    """Multi-frame sources keep their rescale values in functional groups."""
    transformation, shared = Dataset(), Dataset()
    transformation.RescaleIntercept, transformation.RescaleSlope = -1000, 2
    shared.PixelValueTransformationSequence = [transformation]
    study = write_study(
        tmp_path,
        1,
        RescaleIntercept=None,
        RescaleSlope=None,
        SharedFunctionalGroupsSequence=[shared],
    )
    state = state_of(make_screening(study, n_frames=8, affected=(2, 4)), study)
    assert (state.RescaleIntercept, state.RescaleSlope) == (-1000, 2)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"SOPInstanceUID": "1.2.3.4"}, "no reference would name a slice"),
        ({"RescaleSlope": None}, "does not say how its values become HU"),
    ],
)
def test_study_that_cannot_be_annotated_says_so_in_the_report(
    tmp_path: Path, changes: dict[str, str | None], reason: str
) -> None:
    """No presentation state is written, and the report says why."""
    study = write_study(tmp_path, 12, **changes)
    results = results_of(make_screening(study), study)
    assert set(results) == {ResultKind.STRUCTURED_REPORT}
    assert any(reason in text for text in values(results[ResultKind.STRUCTURED_REPORT], "121106"))


def test_slices_with_other_rescale_values_are_not_drawn_on(study: SpooledStudy) -> None:
    """One presentation state has one rescale, so a mixed series gets none."""
    header = dcmread(study.instances[4].path)
    header.RescaleIntercept = 0
    dcmwrite(study.instances[4].path, header)
    results = results_of(make_screening(study, affected=(2, 4, 6)), study)
    assert set(results) == {ResultKind.STRUCTURED_REPORT}


def test_refused_study_has_no_annotations(study: SpooledStudy) -> None:
    """What was not analysed is not drawn on."""
    results = results_of(make_refusal(study, NotAnalysedReason.NOT_A_CHEST), study)
    assert set(results) == {ResultKind.STRUCTURED_REPORT}


def test_same_run_gives_the_same_annotations(study: SpooledStudy) -> None:
    """Built twice, the same bytes."""
    screening = make_screening(study)
    first, second = (build_results(screening, study, OPTIONS)[1].encoded for _ in range(2))
    assert first == second
