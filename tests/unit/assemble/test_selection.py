"""Which series is screened, and the named reason for each that is not."""

from pathlib import Path
from typing import Any

import pytest

from screener.assemble import (
    RankedStudy,
    SelectionRules,
    explain_refusal,
    rank_series,
    read_headers,
    refuse_candidate,
)
from screener.domain import DefectCode, NotAnalysedReason
from screener.errors import NotAnalysable
from tests.ct_factories import (
    SERIES_UID,
    enhanced_dataset,
    only_study,
    write_dataset,
    write_series,
)

OTHER_UID = "1.2.826.0.1.1.2"


def rank(folder: Path) -> RankedStudy:
    return rank_series(read_headers(only_study(folder)), SelectionRules())


def refusal_of(folder: Path) -> NotAnalysedReason:
    ranked = rank(folder)
    assert ranked.qualified == ()
    assert ranked.ranking.selected_series_instance_uid is None
    return explain_refusal(ranked.ranking).reason


def test_axial_series_is_selected_in_order(tmp_path: Path) -> None:
    """Shuffled files become slices from caudal to cranial."""
    ranked = rank(write_series(tmp_path))
    assert ranked.ranking.selected_series_instance_uid == SERIES_UID
    (selected,) = ranked.qualified
    assert selected.locations_mm == tuple(5.0 * n for n in range(24))
    assert selected.defects == ()
    assert ranked.ranking.candidates[0].score > 50


@pytest.mark.parametrize(
    ("attributes", "reason"),
    [
        ({"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]}, NotAnalysedReason.LOCALIZER_ONLY),
        ({"ImageType": ["DERIVED", "SECONDARY", "OTHER"]}, NotAnalysedReason.DERIVED_ONLY),
        ({"ImageType": ["DERIVED", "PRIMARY", "MIP"]}, NotAnalysedReason.DERIVED_ONLY),
        ({"ImageOrientationPatient": [1, 0, 0, 0, 0, -1]}, NotAnalysedReason.NOT_AXIAL),
        ({"ImageOrientationPatient": [0, 1, 0, 0, 0, -1]}, NotAnalysedReason.NOT_AXIAL),
        ({"ImageOrientationPatient": [0, 1, 0, -1, 0, 0]}, NotAnalysedReason.BROKEN_GEOMETRY),
        ({"ImageOrientationPatient": None}, NotAnalysedReason.BROKEN_GEOMETRY),
        ({"ImagePositionPatient": None}, NotAnalysedReason.BROKEN_GEOMETRY),
        ({"PixelSpacing": None}, NotAnalysedReason.BROKEN_GEOMETRY),
        ({"SamplesPerPixel": 3}, NotAnalysedReason.UNREADABLE_PIXELS),
        ({"Modality": "MR"}, NotAnalysedReason.UNSUPPORTED_MODALITY),
        (
            {"SOPClassUID": "1.2.840.10008.5.1.4.1.1.1.1", "Modality": "DX"},
            NotAnalysedReason.UNSUPPORTED_MODALITY,
        ),
        (
            {"SOPClassUID": "1.2.840.10008.5.1.4.1.1.88.34", "Modality": "SR", "PixelData": None},
            NotAnalysedReason.NO_IMAGES,
        ),
        ({"SOPClassUID": None}, NotAnalysedReason.NO_IMAGES),
    ],
)
def test_series_without_axial_ct_has_a_named_refusal(
    tmp_path: Path, attributes: dict[str, Any], reason: NotAnalysedReason
) -> None:
    """Never a guess, never a silent drop."""
    assert refusal_of(write_series(tmp_path, **attributes)) is reason


def test_few_slices_and_little_coverage_are_different_refusals(tmp_path: Path) -> None:
    """Three slices are too few; thirty within 29 mm cover too little."""
    assert refusal_of(write_series(tmp_path / "few", [0.0, 5.0, 10.0])) is (
        NotAnalysedReason.TOO_FEW_SLICES
    )
    thin = [float(n) for n in range(30)]
    assert refusal_of(write_series(tmp_path / "thin", thin)) is (
        NotAnalysedReason.TOO_LITTLE_COVERAGE
    )


def test_missing_image_type_manufacturer_modality_is_no_refusal(tmp_path: Path) -> None:
    """The SOP class says CT: that is enough."""
    ranked = rank(write_series(tmp_path, ImageType=None, Manufacturer=None, Modality=None))
    assert len(ranked.qualified) == 1


def test_localizer_inside_the_series_is_left_out_and_reported(tmp_path: Path) -> None:
    """A scout filed into the axial series does not stop it."""
    scout = {"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"], "Rows": 4}
    ranked = rank(write_series(tmp_path, per_slice={3: scout}))
    (selected,) = ranked.qualified
    assert len(selected.slices) == 23
    codes = {defect.code: defect.n_instances for defect in selected.defects}
    assert codes[DefectCode.EXCLUDED_INSTANCES] == 1
    assert codes[DefectCode.SLICE_GAP] == 1


def test_unreadable_slice_is_left_out_and_reported(tmp_path: Path) -> None:
    """One broken header costs one slice, and the report says so."""
    ranked = rank(write_series(tmp_path, per_slice={3: {"BitsAllocated": 32}}))
    codes = [defect.code for defect in ranked.qualified[0].defects]
    assert codes == [DefectCode.UNREADABLE_INSTANCES, DefectCode.SLICE_GAP]


def test_mixed_pixel_spacing_is_broken_geometry(tmp_path: Path) -> None:
    """Half the slices on another grid: no volume can be made of them."""
    other = {n: {"PixelSpacing": [0.7, 0.7]} for n in range(12)}
    assert refusal_of(write_series(tmp_path, per_slice=other)) is NotAnalysedReason.BROKEN_GEOMETRY


def test_two_acquisitions_of_one_place_are_split(tmp_path: Path) -> None:
    """Two phases in one series: the larger is used, the other counted."""
    write_series(tmp_path / "a", AcquisitionNumber=1)
    write_series(
        tmp_path / "b",
        [5.0 * n for n in range(20)],
        per_slice={n: {"SOPInstanceUID": f"1.5.{n}"} for n in range(20)},
        AcquisitionNumber=2,
    )
    (selected,) = rank(tmp_path).qualified
    assert len(selected.slices) == 24
    assert {one.frame.divisions[0] for one in selected.slices} == {"1"}
    assert [(d.code, d.n_instances) for d in selected.defects] == [
        (DefectCode.EXCLUDED_INSTANCES, 20)
    ]


def test_acquisitions_along_the_table_stay_together(tmp_path: Path) -> None:
    """A scan in two steps is one volume."""
    steps = {n: {"AcquisitionNumber": 2} for n in range(12, 24)}
    (selected,) = rank(write_series(tmp_path, per_slice=steps)).qualified
    assert len(selected.slices) == 24


def test_soft_kernel_wins_over_sharp_of_the_same_scan(tmp_path: Path) -> None:
    """Two reconstructions: the one the models know; the loser says by how much it lost."""
    write_series(tmp_path / "a", ConvolutionKernel="B70f")
    write_series(tmp_path / "b", series=OTHER_UID, ConvolutionKernel="B30f")
    ranking = rank(tmp_path).ranking
    assert ranking.selected_series_instance_uid == OTHER_UID
    loser = ranking.candidates[1]
    assert loser.refusal is None
    assert loser.reasons[0].startswith("not selected: ")


def test_chest_wins_over_abdomen_of_the_same_size(tmp_path: Path) -> None:
    """Body part breaks the tie; it never refuses."""
    write_series(tmp_path / "a", BodyPartExamined="ABDOMEN")
    write_series(tmp_path / "b", series=OTHER_UID)
    ranked = rank(tmp_path)
    assert [one.series_instance_uid for one in ranked.qualified] == [OTHER_UID, SERIES_UID]


def test_refused_series_rank_behind_and_keep_their_reason(tmp_path: Path) -> None:
    """The ranking holds every series of the study."""
    write_series(tmp_path / "a")
    write_series(
        tmp_path / "b", [0.0], series=OTHER_UID, ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"]
    )
    candidates = rank(tmp_path).ranking.candidates
    assert [one.refusal for one in candidates] == [None, NotAnalysedReason.LOCALIZER_ONLY]
    assert candidates[1].score == 0.0


def test_nearest_refusal_speaks_for_the_study(tmp_path: Path) -> None:
    """A short axial series says more than the topogram beside it."""
    write_series(tmp_path / "a", [0.0, 5.0])
    write_series(
        tmp_path / "b", [0.0], series=OTHER_UID, ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"]
    )
    refusal = explain_refusal(rank(tmp_path).ranking)
    assert refusal.reason is NotAnalysedReason.TOO_FEW_SLICES
    assert "2 axial slices, at least 16" in refusal.detail
    assert "1 other series" in refusal.detail


def test_candidate_that_fails_the_pixel_gate_hands_over(tmp_path: Path) -> None:
    """After a refusal the next best series leads; after the last, nobody."""
    write_series(tmp_path / "a")
    write_series(tmp_path / "b", series=OTHER_UID)
    ranking = rank(tmp_path).ranking
    first = ranking.selected_series_instance_uid
    assert first is not None
    refusal = NotAnalysable(NotAnalysedReason.NOT_A_CHEST, "no lungs")
    after_one = refuse_candidate(ranking, first, refusal)
    second = after_one.selected_series_instance_uid
    assert second is not None
    assert second != first
    after_two = refuse_candidate(after_one, second, refusal)
    assert after_two.selected_series_instance_uid is None
    assert explain_refusal(after_two).reason is NotAnalysedReason.NOT_A_CHEST


def test_frames_of_a_multi_frame_instance_are_slices(tmp_path: Path) -> None:
    """An Enhanced CT of 24 frames is a series of 24 slices."""
    dataset = enhanced_dataset([5.0 * n for n in reversed(range(24))])
    write_dataset(dataset, tmp_path / "multi")
    (selected,) = rank(tmp_path).qualified
    assert [one.frame.frame_number for one in selected.slices] == list(range(24, 0, -1))


def test_lossy_history_is_reported(tmp_path: Path) -> None:
    """Lossy Image Compression 01 stays with the pixels for ever."""
    (selected,) = rank(write_series(tmp_path, LossyImageCompression="01")).qualified
    assert [defect.code for defect in selected.defects] == [DefectCode.LOSSY_COMPRESSION]


def test_study_without_instances_has_no_images() -> None:
    """Nothing in, a named reason out."""
    assert explain_refusal(rank_series((), SelectionRules()).ranking).reason is (
        NotAnalysedReason.NO_IMAGES
    )
