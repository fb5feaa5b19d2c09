"""What a site may choose of the report: class and character set; and how it rates images."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from pydicom.uid import ComprehensiveSRStorage, EnhancedSRStorage

from screener.domain import DefectCode, ResultKind, SourceDefect
from screener.report import Charset, ReportClass, ReportOptions, build_results
from tests.report_factories import make_refusal, make_screening, write_study
from tests.sr_reader import concept_of, find, read_result, value_of, values

if TYPE_CHECKING:
    from pathlib import Path

    from pydicom import Dataset

    from screener.domain import Screening, SpooledStudy

YAMADA = "Yamada^Tarou=山田^太郎=やまだ^たろう"
JAPANESE = ("", "ISO 2022 IR 87")


@pytest.fixture
def study(tmp_path: Path) -> SpooledStudy:
    return write_study(tmp_path, 8)


def report_of(screening: Screening, study: SpooledStudy, **options: object) -> Dataset:
    chosen = ReportOptions(kinds=(ResultKind.STRUCTURED_REPORT,), **options)  # type: ignore[arg-type]
    return read_result(build_results(screening, study, chosen)[0])


@pytest.mark.parametrize(
    ("report_class", "sop_class_uid"),
    [
        (ReportClass.COMPREHENSIVE, ComprehensiveSRStorage),
        (ReportClass.ENHANCED, EnhancedSRStorage),
    ],
)
def test_older_classes_hold_the_same_tree(
    study: SpooledStudy, report_class: ReportClass, sop_class_uid: str
) -> None:
    """Only the class differs; no content is lost."""
    screening = make_screening(study)
    newest = report_of(screening, study)
    older = report_of(screening, study, report_class=report_class)
    assert older.SOPClassUID == sop_class_uid
    assert older.ContentSequence == newest.ContentSequence
    assert older.CurrentRequestedProcedureEvidenceSequence == (
        newest.CurrentRequestedProcedureEvidenceSequence
    )


def test_root_says_the_result_in_codes_and_words(study: SpooledStudy) -> None:
    """Readers that skip groups find assessment and conclusion in Qualitative Evaluations."""
    [container] = find(report_of(make_screening(study), study), "C0034375")
    items = {concept_of(item): value_of(item) for item in container.ContentSequence}
    assert items["111413"] == "840539006"
    assert items["111017"] == "111242"
    assert items["121077"].startswith("COVID-19 imaging pattern, certainty 91.0 %")


def test_root_of_refused_study_says_not_analysed(study: SpooledStudy) -> None:
    """A refusal cannot be read as a normal result there either."""
    [container] = find(report_of(make_refusal(study), study), "C0034375")
    items = {concept_of(item): value_of(item) for item in container.ContentSequence}
    assert items["111413"] == "NOT-ANALYSED"
    assert items["121077"].startswith("NOT ANALYSED")


@pytest.mark.parametrize(
    ("defect", "quality"),
    [
        (None, "RID12"),
        (DefectCode.MISSING_ATTRIBUTE, "RID12"),
        (DefectCode.SLICE_GAP, "RID13"),
        (DefectCode.LOSSY_COMPRESSION, "RID13"),
    ],
)
def test_defects_of_the_images_limit_their_quality(
    study: SpooledStudy, defect: DefectCode | None, quality: str
) -> None:
    """Lossy or incomplete series are of limited quality; a missing name is no such thing."""
    defects = (SourceDefect(defect, "One thing is wrong."),) if defect else ()
    report = report_of(replace(make_screening(study), defects=defects), study)
    assert values(report, "130550") == [quality]


def test_refused_study_has_no_quality(study: SpooledStudy) -> None:
    """What was not looked at is not rated."""
    assert find(report_of(make_refusal(study), study), "130550") == []


@pytest.mark.parametrize("kind", [ResultKind.STRUCTURED_REPORT, ResultKind.SEGMENTATION])
def test_character_set_of_the_source_is_kept_on_request(tmp_path: Path, kind: ResultKind) -> None:
    """The bytes of the name are those of the source, and it reads the same."""
    study = write_study(tmp_path, 6, SpecificCharacterSet=list(JAPANESE), PatientName=YAMADA)
    options = ReportOptions(charset=Charset.SOURCE)
    results = build_results(make_screening(study, affected=(2,)), study, options)
    [result] = [one for one in results if one.kind is kind]
    document = read_result(result)
    assert tuple(document.SpecificCharacterSet) == JAPANESE
    assert str(document.PatientName) == YAMADA
    assert b"\x1b$B" in result.encoded


def test_character_set_that_cannot_hold_the_text_gives_way(tmp_path: Path) -> None:
    """Text beyond the declared set makes UTF-8, never question marks."""
    study = write_study(tmp_path, 6, PatientName="Müller^Jürgen")
    screening = make_screening(study, affected=(2,))
    defect = SourceDefect(DefectCode.MISSING_ATTRIBUTE, "Kernel 肺 is unknown.")
    report = report_of(replace(screening, defects=(defect,)), study, charset=Charset.SOURCE)
    assert report.SpecificCharacterSet == "ISO_IR 192"
    assert any("Kernel 肺" in text for text in values(report, "121106"))
    assert str(report.PatientName) == "Müller^Jürgen"


@pytest.mark.filterwarnings("ignore:Unknown encoding")
def test_character_set_nobody_knows_gives_way(tmp_path: Path) -> None:
    """A declaration that is no character set is not repeated."""
    study = write_study(tmp_path, 6)
    changed = study.instances[0].path.read_bytes().replace(b"ISO_IR 100", b"ISO_IR 999")
    study.instances[0].path.write_bytes(changed)
    report = report_of(make_screening(study, affected=(2,)), study, charset=Charset.SOURCE)
    assert report.SpecificCharacterSet == "ISO_IR 192"
