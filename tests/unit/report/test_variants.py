"""The same report in an older class: what changes, what stays, which predecessor it names."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from pydicom import dcmread
from pydicom.uid import ComprehensiveSRStorage, EnhancedSRStorage

from screener.domain import PredecessorReport, ResultKind
from screener.errors import ReportError
from screener.report import ReportOptions, build_results
from screener.report.variants import predecessor_variants, variant_uid, write_variant
from tests.report_factories import make_screening, run_identity, write_study

if TYPE_CHECKING:
    from pathlib import Path

SR = ResultKind.STRUCTURED_REPORT
PREDECESSOR = PredecessorReport("run-0", "1.2.3", "1.2.3.4", "1.2.840.10008.5.1.4.1.1.88.34", "1.9")


@pytest.fixture
def original(tmp_path: Path) -> Path:
    study = write_study(tmp_path, 6)
    run = run_identity(study, version=2, predecessor=PREDECESSOR)
    (report,) = build_results(make_screening(study, run=run), study, ReportOptions(kinds=(SR,)))
    path = tmp_path / "report.dcm"
    path.write_bytes(report.encoded)
    return path


def test_variant_differs_in_identity_alone(original: Path) -> None:
    """Class and UIDs are new, every other element is that of the original."""
    variant = write_variant(original, SR, ComprehensiveSRStorage)
    path = original.with_name("variant.dcm")
    path.write_bytes(variant.encoded)
    before, after = dcmread(original), dcmread(path)
    changed = {one.keyword for one in before if one != after[one.tag]}
    assert changed == {"SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID"}
    assert len(before) == len(after)
    assert after.file_meta.MediaStorageSOPInstanceUID == after.SOPInstanceUID
    assert (variant.sop_class_uid, variant.sop_instance_uid) == (
        ComprehensiveSRStorage,
        after.SOPInstanceUID,
    )


def test_variant_is_the_same_bytes_again_and_another_for_each_class(original: Path) -> None:
    """A retry on another host writes what was written before."""
    first, again = (write_variant(original, SR, ComprehensiveSRStorage) for _ in range(2))
    other = write_variant(original, SR, EnhancedSRStorage)
    assert first.encoded == again.encoded
    assert len({first.sop_instance_uid, other.sop_instance_uid}) == 2
    assert len({first.series_instance_uid, other.series_instance_uid}) == 2


def test_variant_names_the_variant_of_its_predecessor_where_there_is_one(original: Path) -> None:
    """An archive that takes no original holds none of the earlier report either."""
    (uid,) = predecessor_variants(original, ComprehensiveSRStorage)
    assert uid == variant_uid(PREDECESSOR.sop_instance_uid, ComprehensiveSRStorage)
    for known, expected in (((), PREDECESSOR.sop_instance_uid), ((uid,), uid)):
        variant = write_variant(original, SR, ComprehensiveSRStorage, known)
        path = original.with_name("variant.dcm")
        path.write_bytes(variant.encoded)
        [study] = dcmread(path).PredecessorDocumentsSequence
        [series] = study.ReferencedSeriesSequence
        [instance] = series.ReferencedSOPSequence
        assert instance.ReferencedSOPInstanceUID == expected


def test_report_that_is_gone_is_an_error_with_a_name(tmp_path: Path) -> None:
    """No traceback of a library reaches the sender."""
    with pytest.raises(ReportError, match="cannot be read"):
        write_variant(tmp_path / "gone.dcm", SR, ComprehensiveSRStorage)
