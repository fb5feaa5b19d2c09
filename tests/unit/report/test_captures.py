"""The secondary capture: its frames, what each cites, and that nobody can be told by it."""

from __future__ import annotations

from dataclasses import replace
from io import BytesIO
from typing import TYPE_CHECKING

import numpy as np
import pytest
from pydicom import dcmread

from screener.domain import NotAnalysedReason, PatientClass, ResultKind
from screener.report import ReportOptions, build_results
from screener.report.palette import CLASS_COLOURS, LUNG_COLOURS, WARNING
from screener.report.slice_frames import FRAME, MOST_SLICES, list_frame_slices, render_frames
from tests.report_factories import make_refusal, make_screening, run_identity, write_study

if TYPE_CHECKING:
    from pathlib import Path

    from pydicom import Dataset

    from screener.domain import Screening, SpooledStudy

OPTIONS = ReportOptions(kinds=(ResultKind.OVERLAY,), n_key_slices=3)


@pytest.fixture
def study(tmp_path: Path) -> SpooledStudy:
    return write_study(tmp_path, 12)


def capture_of(screening: Screening, study: SpooledStudy) -> Dataset:
    [encoded] = [
        one.encoded
        for one in build_results(screening, study, OPTIONS)
        if one.kind is ResultKind.OVERLAY
    ]
    return dcmread(BytesIO(encoded))


def test_every_key_slice_has_a_frame_that_cites_it(study: SpooledStudy) -> None:
    """The page comes first and cites nothing, then the slices from the head down."""
    screening = make_screening(study, affected=(2, 4, 6))
    capture = capture_of(screening, study)
    assert capture.NumberOfFrames == 4
    assert list(capture.PageNumberVector) == [1, 2, 3, 4]
    first, *others = capture.PerFrameFunctionalGroupsSequence
    assert "DerivationImageSequence" not in first
    cited = [
        frame.DerivationImageSequence[0].SourceImageSequence[0].ReferencedSOPInstanceUID
        for frame in others
    ]
    assert cited == [study.instances[index].sop_instance_uid for index in (6, 4, 2)]
    assert [one.ReferencedSOPInstanceUID for one in capture.SourceImageSequence] == cited


def test_frames_show_lungs_and_whether_the_slice_is_affected(study: SpooledStudy) -> None:
    """Both contours stand on a slice frame, and its border has the colour of the finding."""
    frame = capture_of(make_screening(study, affected=(2, 4, 6)), study).pixel_array[1]
    assert frame.shape == (FRAME[1], FRAME[0], 3)
    for colour in (*LUNG_COLOURS.values(), CLASS_COLOURS[PatientClass.COVID_19]):
        assert (frame == np.array(colour, np.uint8)).all(axis=-1).sum() > 500


def test_every_frame_of_incomplete_study_says_so(study: SpooledStudy) -> None:
    """In the head of the page and of each slice, since any frame may be looked at alone."""
    complete = make_screening(study)
    run = run_identity(study, shortfall="10 instances in 1 series, 20 expected")
    for before, after in zip(
        render_frames(complete, 3), render_frames(replace(complete, run=run), 3), strict=True
    ):
        heads = [np.asarray(frame, int)[:120] for frame in (before, after)]
        marked = [int((np.abs(head - WARNING).max(axis=2) <= 20).sum()) for head in heads]
        assert marked[0] == 0
        assert marked[1] > 200


def test_frames_of_normal_study_are_not_marked_as_affected(study: SpooledStudy) -> None:
    """No pixel of a slice picture's border is in the colour of a disease."""
    screening = make_screening(study, affected=(), patient_class=PatientClass.NORMAL)
    frame = np.asarray(render_frames(screening, 2)[1])
    border = frame[66:630, 22]
    assert not (border == np.array(CLASS_COLOURS[PatientClass.COVID_19])).all(axis=-1).any()


def test_frames_of_multi_frame_source_cite_the_frame(tmp_path: Path) -> None:
    """A slice of an enhanced CT is cited by its frame number."""
    study = write_study(tmp_path, 1)
    capture = capture_of(make_screening(study, n_frames=8, affected=(3,)), study)
    numbers = [one.ReferencedFrameNumber for one in capture.SourceImageSequence]
    assert numbers == [4]


def test_capture_without_citable_slices_cites_nothing(tmp_path: Path) -> None:
    """Slices that share a UID are drawn, but no reference would lead back to them."""
    study = write_study(tmp_path, 12, SOPInstanceUID="1.2.3.4")
    capture = capture_of(make_screening(study), study)
    assert capture.NumberOfFrames == 4
    assert "SourceImageSequence" not in capture


def test_capture_of_refused_study_is_the_page_alone(study: SpooledStudy) -> None:
    """Not analysed: one frame, no body part claimed."""
    refusal = make_refusal(study, NotAnalysedReason.NOT_A_CHEST)
    capture = capture_of(refusal, study)
    assert capture.NumberOfFrames == 1
    assert "PageNumberVector" not in capture
    assert "BodyPartExamined" not in capture


def test_capture_inherits_the_study_and_burns_no_identity_in(tmp_path: Path) -> None:
    """Two patients with the same lungs have the same pixels, and their own names in the header."""
    pixels = []
    for name in ("Phantom^Paula", "Somebody^Else"):
        folder = tmp_path / name
        folder.mkdir()
        study = write_study(folder, 12, PatientName=name, PatientID=name)
        capture = capture_of(make_screening(study), study)
        assert str(capture.PatientName) == name
        assert capture.StudyDescription == "Chest"
        assert capture.PatientAge == "066Y"
        assert capture.BurnedInAnnotation == "NO"
        pixels.append(capture.PixelData)
    assert pixels[0] == pixels[1]


def test_same_run_gives_the_same_capture(study: SpooledStudy) -> None:
    """Built twice, the same bytes."""
    screening = make_screening(study)
    first, second = (build_results(screening, study, OPTIONS)[1].encoded for _ in range(2))
    assert first == second


def test_frames_have_an_upper_limit(tmp_path: Path) -> None:
    """A site that wants many key slices still gets an object of a reasonable size."""
    study = write_study(tmp_path, 40)
    screening = make_screening(study, affected=tuple(range(2, 38)))
    assert len(list_frame_slices(screening, 30)) == MOST_SLICES
