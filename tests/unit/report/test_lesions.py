"""Where the classifier saw something: on the grid of a picture, in colour, and as an object."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image
from pydicom import dcmread
from pydicom.filebase import DicomBytesIO

from screener.domain import Decision, PatientClass, ResultKind
from screener.report import ReportOptions, build_results
from screener.report.activation import activation_colour, colour_activation
from screener.report.lesions import Extent, SliceLesions, lesions_of
from screener.report.parametric_map import CELL
from screener.report.planes import crop_around_lungs, render_slice
from tests.report_factories import make_refusal, make_screening, write_study
from tests.sr_reader import find, read_result

if TYPE_CHECKING:
    from pathlib import Path

    from pydicom import Dataset

    from screener.domain import Screening, SpooledStudy

MAP, SR = ResultKind.PARAMETRIC_MAP, ResultKind.STRUCTURED_REPORT


def build(
    screening: Screening, study: SpooledStudy, *kinds: ResultKind
) -> dict[ResultKind, Dataset]:
    results = build_results(screening, study, ReportOptions(kinds=kinds))
    return {one.kind: read_result(one) for one in results}


def comments_of(report: Dataset) -> str:
    return " ".join(str(one.TextValue) for one in find(report, "121106"))


@pytest.fixture
def study(tmp_path: Path) -> SpooledStudy:
    return write_study(tmp_path, 8)


# ── grid and colour ──────────────────────────────────────────────────────────────────────────


def test_map_spans_exactly_its_box() -> None:
    """Its hot corner stays where it is, and outside the box there is nothing."""
    values = np.zeros((4, 4), np.float32)
    values[0, 3] = 1.0
    lesions = SliceLesions(Extent(10, 20, 30, 60), values)
    plane = lesions.resample(Extent(0, 0, 40, 80), (40, 80))
    assert plane.shape == (80, 40)
    assert plane[25, 28] > 0.9
    assert plane[:, :10].max() == plane[:20].max() == plane[60:].max() == 0.0
    assert plane[20:60, 30:].max() == 0.0
    rows, columns = np.nonzero(plane > 0.5)
    assert (rows.min(), columns.max()) == (20, 29)
    part = lesions.resample(Extent(20, 20, 30, 40), (10, 20))
    np.testing.assert_allclose(part, plane[20:40, 20:30], atol=1e-6)


def test_slice_without_map_has_none(study: SpooledStudy) -> None:
    """Slices that were not classified, and models that give no maps."""
    screening = make_screening(study)
    said = screening.probabilities
    assert said is not None
    assert lesions_of(screening, 0) is None
    assert lesions_of(screening, 2) is not None
    assert lesions_of(replace(screening, probabilities=replace(said, lesions=None)), 2) is None


def test_colour_is_in_the_lungs_alone_and_grows_with_the_probability() -> None:
    """Grey stays grey where nothing was seen and where no lung is."""
    picture = Image.new("RGB", (30, 30), (100, 100, 100))
    lungs = Image.fromarray(np.pad(np.full((20, 10), 255, np.uint8), ((5, 5), (0, 20))))
    shares = np.zeros((30, 30), np.float32)
    shares[10:14], shares[16:20] = 0.5, 1.0
    drawn = np.asarray(colour_activation(picture, shares, lungs)).astype(int)
    assert (drawn[0:9] == 100).all()
    assert (drawn[:, 20:] == 100).all()
    away = np.abs(drawn - 100).sum(axis=2)
    assert 0 < away[12, 5] < away[18, 5]
    brightness = [sum(activation_colour(share)) for share in (0.2, 0.5, 0.8, 1.0)]
    assert brightness == sorted(brightness)


def test_picture_shows_where_something_was_seen(study: SpooledStudy) -> None:
    """With the map the hot part of the slice changes its colour, the rest does not."""
    screening = make_screening(study)
    assert screening.volume is not None
    crop = crop_around_lungs(screening.volume, screening.lungs, 1.0)
    arguments = (screening.volume, screening.lungs, 3, crop, (200, 200))
    plain = np.asarray(render_slice(*arguments)).astype(int)
    seen = np.asarray(render_slice(*arguments, lesions=lesions_of(screening, 3))).astype(int)
    changed = np.abs(seen - plain).sum(axis=2) > 0
    rows, columns = np.nonzero(changed)
    assert 0 < changed.mean() < 0.2
    # Hot cells are rows 5 and 6, columns 1 and 2 of 8: below and on the patient's right.
    assert rows.mean() > 100
    assert columns.mean() < 100


# ── the object ───────────────────────────────────────────────────────────────────────────────


def test_map_lies_where_it_was_seen(study: SpooledStudy) -> None:
    """Values, spacing and position: the hottest cell is where the map of the slice is hot."""
    screening = make_screening(study)
    document = build(screening, study, SR, MAP)[MAP]
    values = document.pixel_array
    assert values.shape == (3, 4, 8)
    assert values.dtype == np.float32
    shared = document.SharedFunctionalGroupsSequence[0]
    spacing_mm = [float(one) for one in shared.PixelMeasuresSequence[0].PixelSpacing]
    assert spacing_mm == [CELL * 1.5, CELL * 1.25]
    frames = document.PerFrameFunctionalGroupsSequence
    heights = [float(one.PlanePositionSequence[0].ImagePositionPatient[2]) for one in frames]
    assert sorted(heights) == [-90.0, -85.0, -80.0]
    for at, frame in enumerate(frames):
        x, y, z = map(float, frame.PlanePositionSequence[0].ImagePositionPatient)
        slice_index = round((z + 100.0) / 5.0)
        # The box starts at row 8 and column 4; 1.5 pixels further is the centre of a cell of four.
        assert (x, y) == (-20.0 + 5.5 * 1.25, -30.0 + 9.5 * 1.5)
        row, column = np.unravel_index(values[at].argmax(), values[at].shape)
        # Rows 5 and 6 of 8 over 16 pixels are pixels 10 to 13; columns 1 and 2 are 4 to 11.
        assert row == 2
        assert column in {1, 2}
        lesions = lesions_of(screening, slice_index)
        assert lesions is not None
        # Each slice has a peak of its own, so that frames cannot change places.
        share = values[at].max() / lesions.probabilities.max()
        assert share == pytest.approx(values[0].max() / peak_of(screening, heights[0]), rel=0.01)
        source = frame.DerivationImageSequence[0].SourceImageSequence[0]
        assert source.ReferencedSOPInstanceUID.endswith(f".4.{slice_index + 1}")
    mapping = shared.RealWorldValueMappingSequence[0]
    assert mapping.QuantityDefinitionSequence[0].ConceptCodeSequence[0].CodeValue == "130402"


def peak_of(screening: Screening, z_mm: float) -> float:
    lesions = lesions_of(screening, round((z_mm + 100.0) / 5.0))
    assert lesions is not None
    return float(lesions.probabilities.max())


def test_report_leads_to_the_map(study: SpooledStudy) -> None:
    """The root result cites it, and it is evidence."""
    built = build(make_screening(study), study, SR, MAP)
    [item] = find(built[SR], "130402")
    uid = item.ReferencedSOPSequence[0].ReferencedSOPInstanceUID
    assert uid == built[MAP].SOPInstanceUID
    [evidence] = built[SR].CurrentRequestedProcedureEvidenceSequence
    listed = [
        one.ReferencedSOPInstanceUID
        for series in evidence.ReferencedSeriesSequence
        for one in series.ReferencedSOPSequence
    ]
    assert uid in listed


def test_map_that_cannot_be_written_is_said(study: SpooledStudy) -> None:
    """No decision, nothing affected, no place, no maps: the report says which."""
    screening = make_screening(study)
    said = screening.probabilities
    assert said is not None
    assert isinstance(screening.outcome, Decision)
    nothing = replace(screening.outcome, affected_slice_indices=())
    cases = {
        "the study was not analysed": make_refusal(study),
        "no slice is affected": replace(screening, outcome=nothing),
        "no valid Frame of Reference UID": make_screening(study, frame_of_reference_uid=None),
        "the classifier gives no maps": replace(
            screening, probabilities=replace(said, lesions=None)
        ),
    }
    for words, one in cases.items():
        built = build(one, study, SR, MAP)
        assert MAP not in built
        assert words in comments_of(built[SR])


def test_map_is_the_same_bytes_again(study: SpooledStudy) -> None:
    """A rebuild of the same run, map and label map too."""
    kinds = (SR, MAP, ResultKind.LABEL_MAP)
    first, again = (
        build_results(make_screening(study), study, ReportOptions(kinds=kinds)) for _ in range(2)
    )
    assert [one.encoded for one in first] == [one.encoded for one in again]
    assert {one.kind for one in first} == set(kinds)


def test_other_choices_give_other_uids(study: SpooledStudy) -> None:
    """A report that cites a map is not the one that cites none, and may not be taken for it."""
    screening = make_screening(study)
    chosen = [ReportOptions(kinds=kinds) for kinds in ((SR, MAP), (SR,))]
    with_map, without = (build_results(screening, study, one)[0] for one in chosen)
    assert with_map.encoded != without.encoded
    assert with_map.sop_instance_uid != without.sop_instance_uid


def test_vote_that_could_not_be_held_is_no_failure_of_everything(study: SpooledStudy) -> None:
    """The lungs were found; CID 6047 tells that from a study that nothing could read."""
    refusal = make_refusal(study)
    partly = replace(refusal, lungs=make_screening(study).lungs)
    for screening, expected in ((refusal, "111245"), (partly, "111243")):
        report = build(screening, study, SR)[SR]
        codes = {one.ConceptCodeSequence[0].CodeValue for one in find(report, "111017")}
        assert codes == {expected}


def test_label_map_holds_the_mask_and_is_never_cited(study: SpooledStudy) -> None:
    """Common readers cannot parse a report that cites one; the lungs then have no segment."""
    screening = make_screening(study, patient_class=PatientClass.NORMAL)
    results = build_results(screening, study, ReportOptions(kinds=(SR, ResultKind.LABEL_MAP)))
    report, label_map = (dcmread(DicomBytesIO(one.encoded)) for one in results)
    assert label_map.SegmentationType == "LABELMAP"
    assert screening.lungs is not None
    labels = screening.lungs.labels
    np.testing.assert_array_equal(label_map.pixel_array, labels[labels.any(axis=(1, 2))])
    assert find(report, "121191") == []
