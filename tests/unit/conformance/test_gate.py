"""The gate without validators: what it reads, what it says when nothing is installed, exit codes.

Does not cover the validators themselves: see tests/integration/test_conformance_matrix.py.
"""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest
from pydicom import dcmread, dcmwrite

from screener.cli import app
from screener.conformance import ALLOWANCES, VALIDATORS, Check, CheckState, check_folder
from screener.conformance.programs import run_program
from screener.errors import WrongUse
from screener.report import build_results
from tests.report_factories import make_screening, write_study


def nothing_installed(_: str) -> None:
    """Find no program."""


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """A report, a segmentation and key objects beside their eight slices."""
    (tmp_path / "source").mkdir()
    study = write_study(tmp_path / "source", 8)
    for result in build_results(make_screening(study), study):
        (tmp_path / f"{result.kind.value}.dcm").write_bytes(result.encoded)
    return tmp_path


def test_missing_validators_are_not_run_and_not_passed(results: Path) -> None:
    """Only our own rules pass; every program is named as not run."""
    verdict = check_folder(results, nothing_installed)
    passed = {one.validator for one in verdict.checks if one.state is CheckState.PASSED}
    assert passed == {"rules"}
    expected = {one.name for one in VALIDATORS} - {"dcmpschk", "paramap2itkimage"} | {"dcentvfy"}
    assert set(verdict.not_run) == expected
    assert (verdict.n_results, verdict.n_sources) == (3, 8)


def test_nothing_is_written_into_the_folder(results: Path) -> None:
    """A site's folder stays as it is."""
    before = sorted(results.rglob("*"))
    check_folder(results)
    assert sorted(results.rglob("*")) == before


def test_report_without_its_segmentation_is_noted(results: Path) -> None:
    """What could not be compared is said."""
    (results / "seg.dcm").unlink()
    [note] = check_folder(results, nothing_installed).notes
    assert "segmentation" in note


def test_result_without_study_is_a_finding(results: Path) -> None:
    """A DICOM file that names no study is no file to pass over."""
    document = dcmread(results / "ko.dcm")
    del document.StudyInstanceUID
    dcmwrite(results / "ko.dcm", document)
    findings = check_folder(results, nothing_installed).findings
    assert [(subject, validator) for subject, validator, _ in findings] == [("ko.dcm", "reader")]


@pytest.mark.parametrize("make", [Path.mkdir, Path.touch, lambda _: None])
def test_folder_without_results_is_wrong_use(tmp_path: Path, make: object) -> None:
    """Empty, no folder, or not there: never clean."""
    folder = tmp_path / "folder"
    make(folder)  # type: ignore[operator]
    with pytest.raises(WrongUse):
        check_folder(folder, nothing_installed)


def test_sources_alone_are_wrong_use(results: Path) -> None:
    """Images are no results."""
    with pytest.raises(WrongUse, match="no result object"):
        check_folder(results / "source", nothing_installed)


def test_every_allowance_has_a_reason_and_its_own_pattern() -> None:
    """A list that grows without reasons is no list."""
    assert all(one.reason.endswith(".") for one in ALLOWANCES)
    entries = [(one.validator, one.pattern, one.condition) for one in ALLOWANCES]
    assert len(entries) == len(set(entries))
    names = {validator.name for validator in VALIDATORS} | {"dcentvfy"}
    assert {one.validator for one in ALLOWANCES} <= names


def test_no_allowance_excuses_an_error_without_condition() -> None:
    """Errors of the primary validator are excused by what the source holds, or not at all."""
    line = "Error - </CompletionFlag(0040,a491)> - Missing attribute for Type 1 Required"
    assert not any(one.match("dciodvfy", line) for one in ALLOWANCES)


def test_silent_validator_does_not_pass(results: Path, tmp_path: Path) -> None:
    """A program that ends without a word has not said that all is well."""
    program = results / "silent"
    program.write_text("#!/bin/sh\nexit 0\n", encoding="ascii")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    verdict = check_folder(results, {"dciodvfy": program}.get)
    states = {one.state for one in verdict.checks if one.validator == "dciodvfy"}
    assert states == {CheckState.FINDINGS}


def test_program_says_both_outputs_and_its_code(tmp_path: Path) -> None:
    """Nothing that a validator says is lost."""
    program = tmp_path / "talks"
    program.write_text("#!/bin/sh\necho one\necho two >&2\nexit 7\n", encoding="ascii")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    output = run_program(program, ())
    assert (output.exit_code, output.lines) == (7, ("one", "two"))


@pytest.mark.parametrize(("patient_id", "code"), [("P-1", 0), ("P-2", 1)])
def test_command_says_what_it_found(
    results: Path, capsys: pytest.CaptureFixture[str], patient_id: str, code: int
) -> None:
    """Exit code and JSON agree; a wrong patient is found without any program."""
    document = dcmread(results / "sr.dcm")
    document.PatientID = patient_id
    dcmwrite(results / "sr.dcm", document)
    assert app(["conformance", str(results), "--json"], standalone_mode=False) == code
    said = json.loads(capsys.readouterr().out)
    assert said["is_clean"] is (code == 0)
    checks = [Check(**one) for one in said["verdict"]["checks"]]
    assert ("rules", "sr.dcm") in {(one.validator, one.subject) for one in checks}
    assert any(one.findings for one in checks if one.validator == "rules") is (code == 1)


def test_command_on_no_folder_is_wrong_use(tmp_path: Path) -> None:
    """The boundary turns it into exit code 2."""
    with pytest.raises(WrongUse):
        app(["conformance", str(tmp_path / "nowhere")], standalone_mode=False)
