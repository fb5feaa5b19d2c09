"""What is wrong with a source, in the words of the report."""

from pathlib import Path
from typing import Any

import pytest

from screener.assemble import check_one_patient, find_study_defects, read_headers
from screener.domain import DefectCode, NotAnalysedReason, SourceDefect
from screener.errors import NotAnalysable
from tests.ct_factories import only_study, write_series


def defects_of(folder: Path) -> dict[DefectCode, SourceDefect]:
    return {one.code: one for one in find_study_defects(read_headers(only_study(folder)))}


def test_conformant_study_has_no_defects(tmp_path: Path) -> None:
    """Nothing is reported that is not there."""
    assert defects_of(write_series(tmp_path)) == {}


@pytest.mark.parametrize(
    ("attributes", "code", "text"),
    [
        ({"SOPInstanceUID": "1.2.3"}, DefectCode.SHARED_SOP_INSTANCE_UID, "on 24 instances"),
        ({"SOPInstanceUID": ""}, DefectCode.SHARED_SOP_INSTANCE_UID, "(it is empty)"),
        ({"StudyInstanceUID": "1.2.03.4"}, DefectCode.NON_CONFORMANT_UID, "Study Instance UID"),
        ({"StudyInstanceUID": "ab-cd"}, DefectCode.NON_CONFORMANT_UID, "of 24 instances"),
        ({"ImageType": None}, DefectCode.MISSING_ATTRIBUTE, "ImageType (24)"),
        ({"FrameOfReferenceUID": ""}, DefectCode.MISSING_ATTRIBUTE, "FrameOfReferenceUID (24)"),
        ({"StudyDate": ""}, DefectCode.EMPTY_STUDY_DATE, "24 instances"),
    ],
)
def test_defect_is_named_with_its_count(
    tmp_path: Path, attributes: dict[str, Any], code: DefectCode, text: str
) -> None:
    """Each defect of a source has a code, a sentence and a number."""
    defect = defects_of(write_series(tmp_path, **attributes))[code]
    assert text in defect.detail
    assert defect.n_instances == 24


def test_two_patients_in_one_study_are_refused(tmp_path: Path) -> None:
    """Nobody could say whose lungs the report is about."""
    headers = read_headers(only_study(write_series(tmp_path, per_slice={3: {"PatientID": "P2"}})))
    codes = [defect.code for defect in find_study_defects(headers)]
    assert codes == [DefectCode.SEVERAL_PATIENTS]
    with pytest.raises(NotAnalysable) as caught:
        check_one_patient(headers)
    assert caught.value.reason is NotAnalysedReason.CONFLICTING_PATIENTS
    assert "P2" not in str(caught.value)


def test_empty_patient_id_beside_one_patient_is_no_conflict(tmp_path: Path) -> None:
    """An absent identity contradicts nobody."""
    check_one_patient(
        read_headers(only_study(write_series(tmp_path, per_slice={3: {"PatientID": ""}})))
    )
