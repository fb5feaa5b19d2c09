"""Real CT through the image path: which is accepted, which is refused, and why.

Covers: header reading, selection, geometry, decoding of 15 encodings, the shipped lung model, the
chest gate, and the vote on published series outside the repository. Skips visibly where they are
absent. Does not cover: what the slice classifier makes of them (see its model card).
"""

from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from models.registry import find_model
from models.session import LungSegmenter, Provider, SliceClassifier
from screener.assemble import (
    GeometryRules,
    SelectionRules,
    decode_series,
    explain_refusal,
    rank_series,
    read_folder,
    read_headers,
)
from screener.assemble.headers import CT_IMAGE_STORAGE, SliceHeader, read_instance_header
from screener.assemble.part10 import digest_data_set, read_part10_header
from screener.assemble.pixels import read_frame_hu
from screener.assemble.volume import DecodingRules
from screener.domain import (
    Decision,
    DefectCode,
    NotAnalysed,
    NotAnalysedReason,
    Screening,
    VotePolicy,
    VoteRule,
)
from screener.journey import Tools
from screener.pipeline import screen_study
from tests.ct_factories import RECEIVED_AT, instance, only_study, real_data, run_of

pytestmark = pytest.mark.integration

#: Bit-identical by the documentation of the test data: the lossless encodings of one slice.
LOSSLESS = (
    "BigEndianExplicit", "DeflatedExplicit", "JPEG2000LosslessOnly", "JPEGLSLossless",
    "JPEGProcess14SV1", "JPEGProcess14Transfer", "LittleEndianExplicit", "LittleEndianImplicit",
    "RLELossless",
)  # fmt: skip
#: Largest difference to the original in HU that the lossy encodings of the same slice show.
LOSSY = {
    "JPEG2000Transfer": 5,
    "JPEGLSLossy": 1,
    "JPEGProcess1Transfer": 64,
    "JPEGProcess2_4": 36,
    "JPEGProcess6_8": 36,
    "JPEGProcess10_12": 36,
}


@cache
def shipped_tools() -> Tools:
    """Open the shipped models once."""
    return Tools(
        segmenter=LungSegmenter(find_model("lung_segmentation"), provider=Provider.CPU, threads=2),
        classifier=SliceClassifier(
            find_model("slice_classifier"), provider=Provider.CPU, threads=2
        ),
        models=(),
        policy=VotePolicy("test", VoteRule.AFFECTED_FRACTION),
    )


@cache
def screen(path: Path, tools: Tools | None = None) -> Screening:
    """Screen the only study of a folder with the shipped models."""
    study = only_study(path)
    return screen_study(study, run_of(study), tools or shipped_tools(), lambda _: None)


@pytest.mark.parametrize(
    ("series", "n_slices", "spacing_mm"),
    [
        ("ctmd/COVID_P002", 133, 2.0),
        ("ctmd/CAP_cap002", 64, 2.0),
        ("ctmd/NORMAL_normal001", 64, 2.0),
        ("lctsc/Case_005_jpegls", 73, 3.0),
    ],
)
def test_chest_series_is_screened_with_every_slice(
    series: str, n_slices: int, spacing_mm: float
) -> None:
    """Not one slice vanishes, and two lungs of plausible size are found."""
    screening = screen(real_data("dicom", series))
    assert isinstance(screening.outcome, Decision)
    assert screening.volume is not None
    assert screening.lungs is not None
    assert len(screening.volume.slices) == n_slices
    assert screening.volume.spacing_mm[0] == pytest.approx(spacing_mm)
    locations = [one.location_mm for one in screening.volume.slices]
    assert locations == sorted(locations)
    assert 800 < screening.lungs.right_volume_ml < 5000
    assert 800 < screening.lungs.left_volume_ml < 5000


def test_shared_and_empty_uids_are_said() -> None:
    """All 133 slices of P002 carry the same, empty SOP Instance UID; UIDs are UUID text."""
    defects = {one.code: one for one in screen(real_data("dicom", "ctmd/COVID_P002")).defects}
    assert set(defects) == {
        DefectCode.SHARED_SOP_INSTANCE_UID,
        DefectCode.NON_CONFORMANT_UID,
        DefectCode.MISSING_ATTRIBUTE,
        DefectCode.EMPTY_STUDY_DATE,
    }
    assert all(defect.n_instances == 133 for defect in defects.values())


def test_clean_series_has_no_defects() -> None:
    """What is right is not reported."""
    assert screen(real_data("dicom", "ctmd/NORMAL_normal001")).defects == ()


def test_slices_run_from_caudal_to_cranial() -> None:
    """Labels of P002 run cranial to caudal: the lowest slice shows less lung than the middle."""
    screening = screen(real_data("dicom", "ctmd/COVID_P002"))
    assert screening.volume is not None
    assert screening.lungs is not None
    z_mm = [one.position_mm[2] for one in screening.volume.slices]
    assert z_mm[0] == pytest.approx(-437.7)
    assert z_mm[-1] == pytest.approx(-173.7)
    areas = (screening.lungs.labels > 0).sum(axis=(1, 2))
    assert areas[:5].sum() == 0
    assert areas[60] > 20_000


def test_lungs_of_the_held_out_case_agree_with_the_expert() -> None:
    """End to end from JPEG-LS files to the labelled mask, against the expert's outline."""
    path = real_data("dicom", "lctsc/Case_005_jpegls")
    with np.load(real_data("dicom", "lctsc/Case_005_lungmask.npz")) as stored:
        expert = stored[stored.files[0]] > 0
    screening = screen(path)
    assert screening.lungs is not None
    found = screening.lungs.labels > 0
    assert found.shape == expert.shape
    dice = 2.0 * (found & expert).sum() / (found.sum() + expert.sum())
    assert dice >= 0.97


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("odd/diana2", NotAnalysedReason.LOCALIZER_ONLY),
        ("odd/dcm_qa_ct/philips_localizer.dcm", NotAnalysedReason.LOCALIZER_ONLY),
        ("odd/dcm_qa_ct/GE_head_tilt", NotAnalysedReason.GANTRY_TILTED),
        ("odd/highdicom/dx_image.dcm", NotAnalysedReason.UNSUPPORTED_MODALITY),
        ("odd/highdicom/seg_image_ct_binary.dcm", NotAnalysedReason.NO_IMAGES),
        ("odd/highdicom/sr_document.dcm", NotAnalysedReason.NO_IMAGES),
        ("odd/highdicom/ct_image.dcm", NotAnalysedReason.TOO_FEW_SLICES),
        ("odd/orthanc-tests", NotAnalysedReason.DERIVED_ONLY),
        ("odd/suyashkumar", NotAnalysedReason.DERIVED_ONLY),
        ("odd/dcmqi/legacy_converted_enhanced_ct.dcm", NotAnalysedReason.TOO_FEW_SLICES),
        ("nysbu/A046441_coronal_19010101-43.dcm", NotAnalysedReason.NOT_AXIAL),
        ("nysbu/A046441_sagittal_19010101-050.dcm", NotAnalysedReason.NOT_AXIAL),
        ("nysbu/A067967_axial_19001231-270.dcm", NotAnalysedReason.TOO_FEW_SLICES),
    ],
)
def test_other_dicom_has_a_named_refusal(path: str, reason: NotAnalysedReason) -> None:
    """Never a decision, never a traceback."""
    screening = screen(real_data("dicom", path))
    assert isinstance(screening.outcome, NotAnalysed)
    assert screening.outcome.reason is reason


@pytest.mark.parametrize("path", ["images", "dicom/odd/totalseg"])
def test_files_without_study_are_ignored_with_reasons(path: str) -> None:
    """Pictures are no DICOM; data sets without Study Instance UID belong to no study."""
    contents = read_folder(real_data(path), RECEIVED_AT)
    assert contents.studies == ()
    assert len(contents.ignored) == contents.n_files > 0
    assert "no study in" in contents.explain_emptiness()


def test_tilted_head_is_no_chest_even_if_tilt_were_allowed() -> None:
    """The pixel gate stands on its own: sinuses are no lungs."""
    tools = replace(
        shipped_tools(),
        selection=SelectionRules(
            geometry=GeometryRules(refused_tilt_degrees=45.0, refused_missing_share=0.9)
        ),
    )
    screening = screen(real_data("dicom", "odd/dcm_qa_ct/GE_head_tilt"), tools)
    assert isinstance(screening.outcome, NotAnalysed)
    assert screening.outcome.reason is NotAnalysedReason.NOT_A_CHEST


def test_abdomen_without_sop_class_is_refused_by_both_gates() -> None:
    """20 slices at the base of the lungs: too short; and no chest if length were allowed."""
    files = sorted(real_data("dicom/odd/totalseg/example_ct_dicom").iterdir())
    headers = [
        read_instance_header(
            instance(n, path=file, content_digest=digest_data_set(file),
                     transfer_syntax_uid=read_part10_header(file).transfer_syntax_uid)
        )
        for n, file in enumerate(files)
    ]  # fmt: skip
    ranked = rank_series(headers, SelectionRules())
    assert explain_refusal(ranked.ranking).reason is NotAnalysedReason.TOO_LITTLE_COVERAGE
    (selected,) = rank_series(headers, SelectionRules(least_coverage_mm=10.0)).qualified
    decoded = decode_series(selected, DecodingRules())
    assert sum(len(batch) for _, batch in decoded.batches()) == 20
    assert selected.slices[0].header.instance.sop_class_uid == CT_IMAGE_STORAGE


@pytest.mark.parametrize("encoding", LOSSLESS)
def test_lossless_encoding_decodes_bit_for_bit(encoding: str) -> None:
    """Nine encodings of one slice equal the original, pixel by pixel."""
    assert np.array_equal(_decode(_encoded_as(encoding)), _decode(_original()))


@pytest.mark.parametrize(("encoding", "largest_hu"), LOSSY.items())
def test_lossy_encoding_decodes_within_its_loss(encoding: str, largest_hu: int) -> None:
    """Lossy and retired encodings decode too, and stay within what the encoder lost."""
    difference = np.abs(_decode(_encoded_as(encoding)).astype(np.int32) - _decode(_original()))
    assert 0 < difference.max() <= largest_hu


def test_signed_padding_becomes_air() -> None:
    """A GE slice with padding -2000 and intercept -1024 has no -3024 HU."""
    hu = _decode(real_data("dicom/nysbu/A046441_axial_19001111-045.dcm"))
    assert hu.min() == -1024


def _original() -> Path:
    return real_data("dicom/odd/cornerstone/CTImage.dcm")


def _encoded_as(encoding: str) -> Path:
    (path,) = real_data("dicom/odd/cornerstone").glob(f"CTImage.dcm_{encoding}*")
    return path


def _decode(path: Path) -> np.ndarray:
    (header,) = read_headers(only_study(path))
    return read_frame_hu(SliceHeader(header, header.frames[0]))[0]
