"""The lungs as a segmentation: frames, references, numbering."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest

from screener.domain import LEFT_LUNG, RIGHT_LUNG, ResultKind
from screener.errors import ReportError
from screener.report import ReportOptions, build_results
from tests.report_factories import make_screening, write_study
from tests.sr_reader import groups, read_result, values

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray
    from pydicom import Dataset

    from screener.domain import Screening, SpooledStudy

OPTIONS = ReportOptions(kinds=(ResultKind.STRUCTURED_REPORT, ResultKind.SEGMENTATION))


@pytest.fixture
def study(tmp_path: Path) -> SpooledStudy:
    return write_study(tmp_path, 7)


def segmentation_of(screening: Screening, study: SpooledStudy) -> Dataset:
    return read_result(build_results(screening, study, OPTIONS)[1])


def labels_by_position(document: Dataset) -> dict[float, NDArray[np.uint8]]:
    """Rebuild label planes from the frames, by z."""
    pixels = document.pixel_array.reshape(-1, document.Rows, document.Columns)
    labels = {item.SegmentNumber: item.SegmentLabel for item in document.SegmentSequence}
    planes: dict[float, NDArray[np.uint8]] = {}
    for frame, item in zip(pixels, document.PerFrameFunctionalGroupsSequence, strict=True):
        z_mm = float(item.PlanePositionSequence[0].ImagePositionPatient[2])
        plane = planes.setdefault(z_mm, np.zeros(frame.shape, np.uint8))
        number = item.SegmentIdentificationSequence[0].ReferencedSegmentNumber
        plane[frame > 0] = RIGHT_LUNG if labels[number] == "Right lung" else LEFT_LUNG
    return planes


def test_voxels_equal_the_mask_where_they_lie(study: SpooledStudy) -> None:
    """Each plane comes back at its position, right stays right."""
    screening = make_screening(study)
    planes = labels_by_position(segmentation_of(screening, study))
    assert screening.lungs is not None
    assert screening.volume is not None
    expected = {
        one.position_mm[2]: plane
        for one, plane in zip(screening.volume.slices, screening.lungs.labels, strict=True)
        if plane.any()
    }
    assert planes.keys() == expected.keys()
    for z_mm, plane in planes.items():
        np.testing.assert_array_equal(plane, expected[z_mm])


def test_each_frame_cites_the_slice_it_was_drawn_on(study: SpooledStudy) -> None:
    """Frames of both lungs cite the instance of their position, the series lists each once."""
    screening = make_screening(study)
    document = segmentation_of(screening, study)
    by_z = {-100.0 + 5.0 * at: one.sop_instance_uid for at, one in enumerate(study.instances)}
    for item in document.PerFrameFunctionalGroupsSequence:
        z_mm = float(item.PlanePositionSequence[0].ImagePositionPatient[2])
        source = item.DerivationImageSequence[0].SourceImageSequence[0]
        assert source.ReferencedSOPInstanceUID == by_z[z_mm]
    [series] = document.ReferencedSeriesSequence
    listed = [one.ReferencedSOPInstanceUID for one in series.ReferencedInstanceSequence]
    assert sorted(listed) == sorted(by_z.values())


@pytest.mark.parametrize("uid", [None, "", "1.2.3"])
def test_nothing_is_cited_that_does_not_exist(tmp_path: Path, uid: str | None) -> None:
    """No reference of the segmentation names an instance that the study does not hold."""
    changes = {} if uid is None else {"SOPInstanceUID": uid}
    study = write_study(tmp_path, 6, **changes)
    document = segmentation_of(make_screening(study), study)
    cited = {str(one.value) for one in document.iterall() if one.tag == 0x00081155}
    held = {one.sop_instance_uid for one in study.instances}
    assert cited == (held if uid is None else set())


def test_frames_of_a_multi_frame_source_are_cited_by_number(tmp_path: Path) -> None:
    """An enhanced source is cited as one instance with frame numbers."""
    study = write_study(tmp_path, 1, SOPClassUID="1.2.840.10008.5.1.4.1.1.2.1")
    document = segmentation_of(make_screening(study, n_frames=6), study)
    cited = {
        (
            float(item.PlanePositionSequence[0].ImagePositionPatient[2]),
            item.DerivationImageSequence[0].SourceImageSequence[0].ReferencedFrameNumber,
        )
        for item in document.PerFrameFunctionalGroupsSequence
    }
    assert cited == {(-100.0 + 5.0 * at, at + 1) for at in range(1, 5)}
    [instance] = document.ReferencedSeriesSequence[0].ReferencedInstanceSequence
    assert instance.ReferencedSOPClassUID == "1.2.840.10008.5.1.4.1.1.2.1"


def test_shared_uid_gives_lungs_without_slice_references(tmp_path: Path) -> None:
    """With a Frame of Reference the lungs lie where they lie, even if no slice can be cited."""
    study = write_study(tmp_path, 7, SOPInstanceUID="1.2.3")
    document = segmentation_of(make_screening(study), study)
    assert len(labels_by_position(document)) == 5
    assert "ReferencedSeriesSequence" not in document
    for item in document.PerFrameFunctionalGroupsSequence:
        assert "DerivationImageSequence" not in item


def test_absent_lung_has_no_segment(study: SpooledStudy) -> None:
    """A removed lung is reported with its volume, and numbers stay consecutive."""
    screening = make_screening(study)
    assert screening.lungs is not None
    labels = np.where(screening.lungs.labels == LEFT_LUNG, LEFT_LUNG, 0).astype(np.uint8)
    one_lung = replace(screening.lungs, labels=labels, right_volume_ml=0.0)
    report, document = map(
        read_result, build_results(replace(screening, lungs=one_lung), study, OPTIONS)
    )
    [segment] = document.SegmentSequence
    assert (segment.SegmentNumber, segment.SegmentLabel) == (1, "Left lung")
    assert values(groups(report)["Left lung"], "121191")[0].ReferencedSegmentNumber == 1
    assert values(groups(report)["Right lung"], "118565006") == [0.0]
    assert values(groups(report)["Right lung"], "121191") == []


def test_empty_mask_is_said_and_not_written(study: SpooledStudy) -> None:
    """No voxels, no segmentation, and the report says so."""
    screening = make_screening(study)
    assert screening.lungs is not None
    empty = replace(screening.lungs, labels=np.zeros_like(screening.lungs.labels))
    results = build_results(replace(screening, lungs=empty), study, OPTIONS)
    assert len(results) == 1
    assert any("mask is empty" in text for text in values(read_result(results[0]), "121106"))


def test_over_long_frame_of_reference_is_said_and_not_written(study: SpooledStudy) -> None:
    """A UID that DICOM cannot hold gives no segmentation."""
    screening = make_screening(study, frame_of_reference_uid="1." + "2" * 70)
    assert len(build_results(screening, study, OPTIONS)) == 1


def test_mask_of_other_shape_is_an_error(study: SpooledStudy) -> None:
    """A mask that does not fit its volume is never written."""
    screening = make_screening(study)
    assert screening.lungs is not None
    wrong = replace(screening.lungs, labels=screening.lungs.labels[:-1])
    with pytest.raises(ReportError, match="shape"):
        build_results(replace(screening, lungs=wrong), study, OPTIONS)


def test_unknown_slice_thickness_is_the_spacing(study: SpooledStudy) -> None:
    """Slice Thickness is Type 1 in the result; a source without it gets the slice spacing."""
    screening = make_screening(study)
    assert screening.volume is not None
    slices = tuple(replace(one, slice_thickness_mm=None) for one in screening.volume.slices)
    volume = replace(screening.volume, slices=slices)
    document = segmentation_of(replace(screening, volume=volume), study)
    measures = document.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
    assert measures.SliceThickness == 5.0
    assert measures.PixelSpacing == [1.5, 1.25]
