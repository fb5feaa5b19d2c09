"""What may be cited, and which header is inherited."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from screener.domain import SpooledStudy
from screener.errors import ReportError
from screener.report.evidence import gather_evidence
from tests.report_factories import (
    ct_header,
    make_refusal,
    make_screening,
    write_instance,
    write_study,
)

if TYPE_CHECKING:
    from pathlib import Path


def test_each_instance_is_listed_once(tmp_path: Path) -> None:
    """Evidence names every instance that was received."""
    study = write_study(tmp_path, 5)
    evidence = gather_evidence(make_screening(study), study)
    assert {one.sop_instance_uid for one in evidence.instances} == {
        one.sop_instance_uid for one in study.instances
    }
    assert evidence.ambiguous_uids == frozenset()


def test_shared_uid_is_listed_once_and_cites_no_slice(tmp_path: Path) -> None:
    """One UID on all slices is evidence of the study, but it names no slice."""
    study = write_study(tmp_path, 5, SOPInstanceUID="1.2.3")
    screening = make_screening(study)
    evidence = gather_evidence(screening, study)
    assert [one.sop_instance_uid for one in evidence.instances] == ["1.2.3"]
    assert screening.volume is not None
    assert {evidence.cite(one) for one in screening.volume.slices} == {None}


def test_empty_uid_is_no_evidence(tmp_path: Path) -> None:
    """An instance without a UID cannot be cited at all."""
    study = write_study(tmp_path, 3, SOPInstanceUID="")
    assert gather_evidence(make_screening(study), study).instances == ()


def test_frames_of_one_instance_are_cited_by_number(tmp_path: Path) -> None:
    """Slices of a multi-frame instance share its UID and differ in the frame."""
    study = write_study(tmp_path, 1)
    screening = make_screening(study, n_frames=6)
    evidence = gather_evidence(screening, study)
    assert screening.volume is not None
    cited = [evidence.cite(one) for one in screening.volume.slices]
    assert [one.frame_numbers for one in cited if one] == [[number] for number in range(1, 7)]


def test_header_of_the_screened_series_is_inherited(tmp_path: Path) -> None:
    """Another series of the study does not give its equipment to the result."""
    other = tmp_path / "other"
    other.mkdir()
    foreign = write_instance(other, ct_header(0, SeriesInstanceUID="1.1", Manufacturer="Else"))
    study = write_study(tmp_path, 3)
    both = SpooledStudy(study.study_instance_uid, (foreign, *study.instances))
    evidence = gather_evidence(make_screening(study), both)
    assert evidence.header.Manufacturer == "Phantom Makers"


def test_unreadable_header_is_passed_over(tmp_path: Path) -> None:
    """One broken file does not cost the report."""
    study = write_study(tmp_path, 3)
    study.instances[0].path.write_bytes(b"")
    evidence = gather_evidence(make_refusal(study), study)
    assert evidence.header.PatientID == "P-1"


def test_study_without_readable_header_is_an_error(tmp_path: Path) -> None:
    """Nothing is invented where no header can be read."""
    study = write_study(tmp_path, 1)
    missing = replace(study.instances[0], path=tmp_path / "gone.dcm")
    with pytest.raises(ReportError, match="1 instances"):
        gather_evidence(make_refusal(study), SpooledStudy(study.study_instance_uid, (missing,)))
