"""The key object selection."""

from __future__ import annotations

from typing import TYPE_CHECKING

from screener.domain import PatientClass, ResultKind
from screener.report import ReportOptions, build_results
from tests.report_factories import make_screening, write_study
from tests.sr_reader import read_result

if TYPE_CHECKING:
    from pathlib import Path

    from pydicom import Dataset

OPTIONS = ReportOptions(
    kinds=(ResultKind.STRUCTURED_REPORT, ResultKind.KEY_OBJECT_SELECTION), n_key_slices=3
)


def images_of(document: Dataset) -> list[Dataset]:
    return [item for item in document.ContentSequence if item.ValueType == "IMAGE"]


def test_key_objects_cite_the_affected_slices(tmp_path: Path) -> None:
    """The selection names the key slices, unnamed as TID 2010 wants, with the study's header."""
    study = write_study(tmp_path, 9)
    result = build_results(make_screening(study), study, OPTIONS)[1]
    document = read_result(result)
    cited = [one.ReferencedSOPSequence[0].ReferencedSOPInstanceUID for one in images_of(document)]
    assert cited == [study.instances[index].sop_instance_uid for index in (2, 3, 4)]
    assert not any("ConceptNameCodeSequence" in one for one in images_of(document))
    assert document.StudyDescription == "Chest"
    assert document.PatientAge == "066Y"


def test_key_objects_of_normal_study_show_lung(tmp_path: Path) -> None:
    """A normal study has key slices too: what was looked at."""
    study = write_study(tmp_path, 9)
    screening = make_screening(study, affected=(), patient_class=PatientClass.NORMAL)
    assert len(images_of(read_result(build_results(screening, study, OPTIONS)[1]))) == 3


def test_key_frames_of_one_instance_are_one_item(tmp_path: Path) -> None:
    """Frames of a multi-frame source are cited together, by number."""
    study = write_study(tmp_path, 1, SOPClassUID="1.2.840.10008.5.1.4.1.1.2.1")
    result = build_results(make_screening(study, n_frames=9), study, OPTIONS)[1]
    [image] = images_of(read_result(result))
    assert image.ReferencedSOPSequence[0].ReferencedFrameNumber == [3, 4, 5]
