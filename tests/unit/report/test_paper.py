"""The page on paper: what its text says, that it is one sheet, and the object that holds it."""

from __future__ import annotations

from dataclasses import replace
from io import BytesIO
from typing import TYPE_CHECKING

import pytest
from pydicom import dcmread
from reportlab.lib.colors import Color
from reportlab.pdfgen.canvas import Canvas

from screener.domain import DefectCode, PatientClass, ResultKind, SourceDefect
from screener.report import ReportOptions, build_results
from screener.report.palette import CLASS_COLOURS
from screener.report.paper import IDENTITY, render_paper
from tests.report_factories import make_refusal, make_screening, run_identity, write_study

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pydicom import Dataset

    from screener.domain import Screening, SpooledStudy

OPTIONS = ReportOptions(kinds=(ResultKind.ENCAPSULATED_PDF,), n_key_slices=3)


@pytest.fixture
def study(tmp_path: Path) -> SpooledStudy:
    return write_study(tmp_path, 12)


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Collect every line of text that is written on a sheet."""
    lines: list[str] = []
    draw = Canvas.drawString

    def listen(self: Canvas, x: float, y: float, text: str, *others: object) -> None:
        assert y > 20, f"below the sheet: {text}"
        lines.append(text)
        draw(self, x, y, text, *others)

    monkeypatch.setattr(Canvas, "drawString", listen)
    return lines


def document_of(screening: Screening, study: SpooledStudy) -> Dataset:
    return dcmread(BytesIO(build_results(screening, study, OPTIONS)[1].encoded))


def test_sheet_says_the_answer_and_what_it_is_not(study: SpooledStudy, written: list[str]) -> None:
    """Verdict, certainty, volumes and disclaimer are text, not picture."""
    paper = render_paper(make_screening(study))
    assert paper.startswith(b"%PDF-")
    assert paper.count(b"/Type /Page\n") == 1
    text = " ".join(written)
    for words in (
        "COVID-19 imaging pattern",
        "91.0 %",
        "3 of 10 analysed slices affected",
        "Lungs: right",
        "Not a medical device.",
        "a physician must read the images.",
        IDENTITY,
    ):
        assert words in text


def test_sheet_of_refused_study_says_why(study: SpooledStudy, written: list[str]) -> None:
    """Not analysed, because; and that this is no normal result."""
    render_paper(make_refusal(study))
    text = " ".join(written)
    assert "NOT ANALYSED, because localizer only" in text
    assert "This is not a normal result" in text
    assert "Certainty" not in text


@pytest.mark.parametrize("make", [make_screening, make_refusal])
def test_sheet_of_incomplete_study_says_so(
    study: SpooledStudy, written: list[str], make: Callable[..., Screening]
) -> None:
    """Below the answer, and with the numbers among the facts."""
    run = run_identity(study, shortfall="10 instances in 1 series, 20 expected")
    render_paper(replace(make(study), run=run))
    text = " ".join(written)
    assert "The study was not complete when it was screened, so a finding may be missing." in text
    assert "Incomplete: 10 instances in 1 series, 20 expected." in text


def test_answer_has_its_colour(study: SpooledStudy, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first thing painted is the bar in the colour of the answer."""
    colours: list[Color] = []
    monkeypatch.setattr(Canvas, "setFillColor", lambda _self, colour: colours.append(colour))
    render_paper(make_screening(study, affected=(), patient_class=PatientClass.INDETERMINATE))
    expected = tuple(value / 255 for value in CLASS_COLOURS[PatientClass.INDETERMINATE])
    assert colours[0].rgb() == pytest.approx(expected)


def test_too_many_facts_are_cut_and_said(study: SpooledStudy, written: list[str]) -> None:
    """A source with many defects does not run over the footer."""
    defects = tuple(
        SourceDefect(DefectCode.MISSING_ATTRIBUTE, f"Attribute {number} is missing " * 8)
        for number in range(60)
    )
    paper = render_paper(replace(make_screening(study), defects=defects))
    assert paper.count(b"/Type /Page\n") == 1
    assert "More in the report." in written
    assert IDENTITY in written


def test_signs_beyond_the_type_face_are_replaced(study: SpooledStudy, written: list[str]) -> None:
    """Text that the face cannot draw never becomes empty boxes."""
    defect = SourceDefect(DefectCode.MISSING_ATTRIBUTE, "Kernel 肺 ≥ 3")
    render_paper(replace(make_screening(study), defects=(defect,)))
    assert "Source: Kernel ? >= 3" in written


def test_object_holds_the_sheet_and_cites_the_key_slices(study: SpooledStudy) -> None:
    """The PDF comes out as it went in, with its length; identity stands in the header."""
    screening = make_screening(study, affected=(2, 4, 6))
    document = document_of(screening, study)
    length = document.EncapsulatedDocumentLength
    assert document.EncapsulatedDocument[:length] == render_paper(screening)
    assert document.MIMETypeOfEncapsulatedDocument == "application/pdf"
    assert document.VerificationFlag == "UNVERIFIED"
    assert document.BurnedInAnnotation == "NO"
    assert str(document.PatientName) == "Phantom^Paula"
    cited = [one.ReferencedSOPInstanceUID for one in document.SourceInstanceSequence]
    assert cited == [study.instances[index].sop_instance_uid for index in (2, 4, 6)]


def test_same_run_gives_the_same_sheet(study: SpooledStudy) -> None:
    """No clock and no random number: built twice, the same bytes."""
    screening = make_screening(study)
    assert render_paper(screening) == render_paper(screening)
    first, second = (build_results(screening, study, OPTIONS)[1].encoded for _ in range(2))
    assert first == second


def test_sheet_names_nobody(tmp_path: Path, written: list[str]) -> None:
    """Neither name nor number nor UID of the patient stands on it."""
    study = write_study(tmp_path, 12, PatientName="Secret^Sam", PatientID="ID-4711")
    render_paper(make_screening(study))
    text = " ".join(written)
    for secret in ("Secret", "Sam", "4711", "1.2.826"):
        assert secret not in text
