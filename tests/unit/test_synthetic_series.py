"""Synthetic series in every guise through selection and decoding: the same HU come back.

Covers each defect that the series writer can put in. The lung model is not asked here.
"""

from pathlib import Path

import numpy as np
import pytest

from models.phantom import Pattern, Phantom, make_phantom, typical_spec
from screener.assemble import (
    DecodingRules,
    RankedStudy,
    SelectionRules,
    decode_series,
    explain_refusal,
    find_study_defects,
    rank_series,
    read_headers,
)
from screener.assemble.pixels import AIR_HU
from screener.demo.pixel_encoding import WRITABLE_SYNTAXES
from screener.demo.series_writer import (
    MultiFrame,
    SeriesDefects,
    write_localizer,
    write_radiograph,
    write_series,
)
from screener.demo.synthetic_identity import SyntheticIdentity
from screener.domain import DefectCode, NotAnalysedReason
from tests.ct_factories import only_study

IDENTITY = SyntheticIdentity("image-path")


@pytest.fixture(scope="module")
def phantom() -> Phantom:
    """One small chest for all tests of this module."""
    return make_phantom(typical_spec(11, Pattern.NORMAL, rows=64, coverage_mm=180.0))


def rank(folder: Path) -> RankedStudy:
    return rank_series(read_headers(only_study(folder)), SelectionRules())


def assert_same_hu(folder: Path, phantom: Phantom, tolerance_hu: int = 0) -> set[DefectCode]:
    """Decode the only series of a folder, compare it, and give what was found wrong with it."""
    study = only_study(folder)
    headers = read_headers(study)
    (selected,) = rank_series(headers, SelectionRules()).qualified
    decoded = decode_series(selected, DecodingRules())
    assert sum(len(batch) for _, batch in decoded.batches()) == len(phantom.volume_hu)
    volume = decoded.volume()
    expected = np.maximum(phantom.volume_hu, AIR_HU).astype(np.int32)
    assert np.abs(volume.volume_hu - expected).max() <= tolerance_hu
    assert volume.spacing_mm == pytest.approx(phantom.spacing_mm, rel=1e-4)
    found = (*find_study_defects(headers), *selected.defects, *decoded.defects)
    return {defect.code for defect in found}


@pytest.mark.parametrize("syntax", WRITABLE_SYNTAXES)
def test_every_transfer_syntax_gives_the_same_hu(
    tmp_path: Path, phantom: Phantom, syntax: str
) -> None:
    """Compressed or not: bit by bit the phantom."""
    write_series(phantom, tmp_path, IDENTITY, SeriesDefects(transfer_syntax_uid=syntax))
    assert assert_same_hu(tmp_path, phantom) == set()


@pytest.mark.parametrize(
    ("defects", "codes"),
    [
        (SeriesDefects(is_reversed=True), set()),
        (SeriesDefects(is_shuffled=True), set()),
        (SeriesDefects(rescale_intercept=-8192), set()),
        (
            SeriesDefects(has_one_sop_instance_uid=True),
            {DefectCode.SHARED_SOP_INSTANCE_UID},
        ),
        (SeriesDefects(has_text_uids=True), {DefectCode.NON_CONFORMANT_UID}),
        (
            SeriesDefects(missing_keywords=("ImageType", "Manufacturer", "Modality")),
            {DefectCode.MISSING_ATTRIBUTE},
        ),
        (SeriesDefects(multi_frame=MultiFrame.LEGACY_CONVERTED), set()),
    ],
    ids=["reversed", "shuffled", "intercept", "one-uid", "text-uids", "missing", "multi-frame"],
)
def test_odd_source_gives_the_same_hu_and_its_defect(
    tmp_path: Path, phantom: Phantom, defects: SeriesDefects, codes: set[DefectCode]
) -> None:
    """However odd the source, the slices are the phantom's, in order; the oddity is told."""
    write_series(phantom, tmp_path, IDENTITY, defects)
    assert assert_same_hu(tmp_path, phantom) == codes


def test_signed_padding_becomes_air_and_is_told(tmp_path: Path, phantom: Phantom) -> None:
    """Outside the scan circle stands padding; inside, the phantom is unchanged."""
    write_series(phantom, tmp_path, IDENTITY, SeriesDefects(has_signed_padding=True))
    (selected,) = rank(tmp_path).qualified
    decoded = decode_series(selected, DecodingRules())
    list(decoded.batches())
    hu = decoded.volume().volume_hu
    assert (hu[:, 0, 0] == AIR_HU).all()
    middle = slice(24, 40)
    assert (hu[:, middle, middle] == phantom.volume_hu[:, middle, middle].clip(AIR_HU)).all()
    assert DefectCode.PIXEL_PADDING in {defect.code for defect in decoded.defects}


def test_gapped_series_is_screened_with_its_gap(tmp_path: Path, phantom: Phantom) -> None:
    """Two missing slices are counted and told."""
    write_series(phantom, tmp_path, IDENTITY, SeriesDefects(missing_slices=(7, 8)))
    (selected,) = rank(tmp_path).qualified
    assert selected.geometry.n_missing_slices == 2
    assert [defect.code for defect in selected.defects] == [DefectCode.SLICE_GAP]


def test_two_volumes_in_one_series_give_one(tmp_path: Path, phantom: Phantom) -> None:
    """Every position twice: one whole volume is used, the other is told."""
    write_series(phantom, tmp_path, IDENTITY, SeriesDefects(has_two_volumes=True))
    (selected,) = rank(tmp_path).qualified
    n_slices = len(phantom.volume_hu)
    assert len(selected.slices) == n_slices
    assert {(d.code, d.n_instances) for d in selected.defects} == {
        (DefectCode.EXCLUDED_INSTANCES, n_slices)
    }


def test_tilted_series_is_refused(tmp_path: Path, phantom: Phantom) -> None:
    """20 degrees of gantry tilt: not as the models know a chest."""
    write_series(phantom, tmp_path, IDENTITY, SeriesDefects(tilt_degrees=20.0))
    assert explain_refusal(rank(tmp_path).ranking).reason is NotAnalysedReason.GANTRY_TILTED


def test_localizer_and_radiograph_are_refused(tmp_path: Path, phantom: Phantom) -> None:
    """Neither is a stack of axial slices."""
    write_localizer(phantom, tmp_path / "scout", IDENTITY)
    assert explain_refusal(rank(tmp_path / "scout").ranking).reason is (
        NotAnalysedReason.LOCALIZER_ONLY
    )
    write_radiograph(phantom, tmp_path / "film", IDENTITY)
    assert explain_refusal(rank(tmp_path / "film").ranking).reason is (
        NotAnalysedReason.UNSUPPORTED_MODALITY
    )
