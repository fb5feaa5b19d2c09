"""The report: what stands in its tree and its header."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from screener.domain import (
    DefectCode,
    NotAnalysedReason,
    PatientClass,
    PredecessorReport,
    ResultKind,
    SourceDefect,
)
from screener.report import ContentQualification, ReportOptions, build_results, envelope
from tests.report_factories import (
    SERIES_UID,
    make_refusal,
    make_screening,
    run_identity,
    write_study,
)
from tests.sr_reader import concept_of, find, groups, read_result, value_of, values, walk

if TYPE_CHECKING:
    from pathlib import Path

    from pydicom import Dataset

    from screener.domain import SpooledStudy

CERTAINTY = "111012"


@pytest.fixture
def study(tmp_path: Path) -> SpooledStudy:
    return write_study(tmp_path, 10)


@pytest.fixture
def report(study: SpooledStudy) -> Dataset:
    return read_result(build_results(make_screening(study), study)[0])


def test_report_comes_first_and_is_unverified(report: Dataset) -> None:
    """The first object is the SR; software neither verifies nor finishes."""
    assert report.SOPClassUID.name == "Comprehensive 3D SR Storage"
    assert report.CompletionFlag == "COMPLETE"
    assert report.VerificationFlag == "UNVERIFIED"
    assert report.PreliminaryFlag == "PRELIMINARY"
    assert report.ContentQualification == "RESEARCH"
    assert "AI" in report.SeriesDescription


def test_report_has_one_group_per_class_with_its_certainty(report: Dataset) -> None:
    """Each class of the classifier has its own finding and Certainty of Finding in percent."""
    found = {
        name: (values(group, "121071"), values(group, CERTAINTY))
        for name, group in groups(report).items()
        if name.startswith("Patient: ")
    }
    assert found == {
        "Patient: Normal": (["17621005"], [6.0]),
        "Patient: COVID-19": (["840539006"], [91.0]),
        "Patient: Community acquired pneumonia": (["385093006"], [3.0]),
    }


def test_summary_counts_and_assesses(report: Dataset) -> None:
    """The summary says how many slices, which answer, that it ran, and that it is no device."""
    summary = groups(report)["Study summary"]
    assert values(summary, "N-ANALYSED") == [8.0]
    assert values(summary, "N-AFFECTED") == [3.0]
    assert values(summary, "PCT-AFFECTED") == [37.5]
    assert values(summary, "111413") == ["840539006"]
    assert values(summary, "111017") == ["111242"]
    assert any("Not a medical device" in text for text in values(summary, "121106"))
    assert "COVID-19 imaging pattern, certainty 91.0 %" in values(summary, "121077")[0]


def test_lungs_cite_segments_with_equal_tracking_uids(study: SpooledStudy) -> None:
    """Volume, side, segment number and tracking UID of a lung agree between SR and SEG."""
    report, segmentation, *_ = map(read_result, build_results(make_screening(study), study))
    for segment in segmentation.SegmentSequence:
        group = groups(report)[segment.SegmentLabel]
        cited = values(group, "121191")[0]
        assert cited.ReferencedSOPInstanceUID == segmentation.SOPInstanceUID
        assert cited.ReferencedSegmentNumber == segment.SegmentNumber
        assert values(group, "112040") == [segment.TrackingUID]
        modifier = segment.SegmentedPropertyTypeCodeSequence[
            0
        ].SegmentedPropertyTypeModifierCodeSequence[0]
        assert values(group, "272741003") == [modifier.CodeValue]
    right = values(groups(report)["Right lung"], "118565006")
    assert right == [pytest.approx(8 * 16 * 12 * 5.0 * 1.5 * 1.25 / 1000, abs=0.05)]


def test_affected_slices_cite_their_image(report: Dataset, study: SpooledStudy) -> None:
    """Each affected slice has a group with its probability and the one image it is."""
    slices = [group for name, group in groups(report).items() if name.startswith("Slice ")]
    cited = [values(group, "121112")[0].ReferencedSOPInstanceUID for group in slices]
    assert cited == [study.instances[index].sop_instance_uid for index in (2, 3, 4)]
    assert [values(group, CERTAINTY) for group in slices] == [[70.2], [70.3], [70.4]]


def test_affected_slices_over_the_cap_are_said(study: SpooledStudy) -> None:
    """The report says how many affected slices it does not list."""
    options = ReportOptions(maximum_slice_groups=2)
    screening = make_screening(study, affected=(1, 2, 3, 4, 5))
    report = read_result(build_results(screening, study, options)[0])
    names = [name for name in groups(report) if name.startswith("Slice ")]
    assert [name.split()[1] for name in names] == ["5", "6"]
    assert any("2 of 5 affected slices" in text for text in values(report, "121106"))


def test_every_image_in_the_tree_is_evidence(report: Dataset) -> None:
    """What the tree cites, the evidence lists; and the evidence lists all that was received."""
    listed = {
        instance.ReferencedSOPInstanceUID
        for study in report.CurrentRequestedProcedureEvidenceSequence
        for series in study.ReferencedSeriesSequence
        for instance in series.ReferencedSOPSequence
    }
    cited = {
        value_of(item).ReferencedSOPInstanceUID
        for item in walk(report)
        if item.get("ValueType") == "IMAGE"
    }
    assert cited <= listed
    assert len(listed) == 10 + 1


def test_algorithms_agree_wherever_they_are_named(study: SpooledStudy) -> None:
    """Name, version and manufacturer are equal in equipment, tree, observer and segments."""
    report, segmentation, *_ = map(read_result, build_results(make_screening(study), study))
    equipment = {
        item.ManufacturerModelName: (item.SoftwareVersions, item.Manufacturer)
        for item in report.ContributingEquipmentSequence
        if "DeviceUID" in item
    }
    assert len(equipment) == 3
    for group in groups(report).values():
        [name], [version], [maker] = (
            values(group, code) for code in ("111001", "111003", "122405")
        )
        assert equipment[name] == (version, maker)
    [device] = [
        item
        for item in report.ContributingEquipmentSequence
        if item.get("DeviceUID") == values(report, "121012")[0]
    ]
    assert device.ManufacturerModelName == values(report, "121015")[0]
    assert device.Manufacturer == values(report, "121014")[0] == report.Manufacturer
    for segment in segmentation.SegmentSequence:
        algorithm = segment.SegmentationAlgorithmIdentificationSequence[0]
        assert equipment[algorithm.AlgorithmName] == (
            algorithm.AlgorithmVersion,
            algorithm.AlgorithmSource,
        )


def test_other_model_is_another_device_with_the_same_tracking(study: SpooledStudy) -> None:
    """A retrained model renames the objects and its device, but not what they track."""
    screening = make_screening(study)
    models = tuple(replace(model, digest="e" * 64) for model in screening.run.models)
    retrained = replace(screening, run=replace(screening.run, models=models))
    before, after = (read_result(build_results(one, study)[0]) for one in (screening, retrained))
    assert before.SOPInstanceUID != after.SOPInstanceUID
    assert before.SeriesInstanceUID != after.SeriesInstanceUID
    devices = [
        {item.get("DeviceUID") for item in one.ContributingEquipmentSequence} - {None}
        for one in (before, after)
    ]
    assert len(devices[0] & devices[1]) == 1
    assert values(before, "112040") == values(after, "112040")


def test_rebuild_gives_the_same_bytes(study: SpooledStudy) -> None:
    """The same run gives the same objects, bit by bit."""
    screening = make_screening(study)
    assert build_results(screening, study) == build_results(screening, study)


def test_indeterminate_is_said_and_not_normal(study: SpooledStudy) -> None:
    """An open decision has its own code and its own words."""
    screening = make_screening(study, patient_class=PatientClass.INDETERMINATE)
    report = read_result(build_results(screening, study)[0])
    assert set(values(report, "111413")) == {"82334004"}
    assert values(report, "121077")[0].startswith("INDETERMINATE")


def test_normal_study_has_no_findings(study: SpooledStudy) -> None:
    """Nothing found is not the same as not analysed."""
    screening = make_screening(study, affected=(), patient_class=PatientClass.NORMAL)
    report = read_result(build_results(screening, study)[0])
    assert set(values(report, "111017")) == {"111241"}
    assert set(values(report, "111413")) == {"17621005"}


@pytest.mark.parametrize("reason", NotAnalysedReason)
def test_refused_study_says_why(study: SpooledStudy, reason: NotAnalysedReason) -> None:
    """Every refusal is a report with evidence, its reason as code and words, and no class."""
    results = build_results(make_refusal(study, reason), study)
    report = read_result(results[0])
    assert [one.kind for one in results] == [ResultKind.STRUCTURED_REPORT]
    assert set(values(report, "111017")) == {"111245"}
    assert set(values(report, "111413")) == {"NOT-ANALYSED"}
    assert len(set(values(report, "NA-REASON"))) == 1
    assert values(report, "121077")[0].startswith("NOT ANALYSED, because ")
    assert find(report, CERTAINTY) == []
    assert "CurrentRequestedProcedureEvidenceSequence" in report


def test_refused_study_with_a_mask_delivers_no_lungs(study: SpooledStudy) -> None:
    """What a model marked in a refused study is not passed on as lungs."""
    looked_at = make_screening(study)
    refusal = replace(make_refusal(study), volume=looked_at.volume, lungs=looked_at.lungs)
    results = build_results(refusal, study)
    assert [one.kind for one in results] == [ResultKind.STRUCTURED_REPORT]
    assert read_result(results[0]).CompletionFlag == "COMPLETE"


def test_defects_of_the_source_are_said(study: SpooledStudy) -> None:
    """What is wrong with the source stands in the summary in plain words."""
    defect = SourceDefect(DefectCode.SLICE_GAP, "4 slices are missing at -120 mm.", 4)
    report = read_result(build_results(make_screening(study, defects=(defect,)), study)[0])
    comments = values(groups(report)["Study summary"], "121106")
    assert "Source defect (slice-gap): 4 slices are missing at -120 mm." in comments
    assert report.CompletionFlag == "PARTIAL"
    assert report.CompletionFlagDescription == "Slices missing"


def test_source_without_frame_of_reference_is_partial(tmp_path: Path) -> None:
    """Without a Frame of Reference there is no SEG; volumes stay, the report says PARTIAL."""
    study = write_study(tmp_path, 6, FrameOfReferenceUID=None)
    screening = make_screening(study, frame_of_reference_uid=None)
    results = build_results(screening, study)
    report = read_result(results[0])
    assert ResultKind.SEGMENTATION not in {one.kind for one in results}
    assert report.CompletionFlag == "PARTIAL"
    assert report.CompletionFlagDescription
    assert any("Frame of Reference" in text for text in values(report, "121106"))
    assert len(find(report, "118565006")) == 2
    assert find(report, "121191") == []


MISSING = "10 instances in 1 series, 20 expected; last arrival 601 s ago, first 700 s ago"


def test_study_that_came_incomplete_is_partial(study: SpooledStudy) -> None:
    """Fewer instances than the source has: flag, description and a sentence with the numbers."""
    screening = make_screening(study, run=run_identity(study, shortfall=MISSING))
    report = read_result(build_results(screening, study)[0])
    assert report.CompletionFlag == "PARTIAL"
    assert report.CompletionFlagDescription == "Study incomplete"
    assert any(MISSING in text for text in values(groups(report)["Study summary"], "121106"))


def test_refused_study_that_came_incomplete_is_partial(study: SpooledStudy) -> None:
    """Too few slices may be too few arrivals: a refusal says it too."""
    screening = replace(make_refusal(study), run=run_identity(study, shortfall=MISSING))
    report = read_result(build_results(screening, study)[0])
    assert report.CompletionFlagDescription == "Study incomplete"


def test_all_that_is_missing_fits_the_description(tmp_path: Path) -> None:
    """Study, slices and segmentation are missing: one description that LO can hold."""
    study = write_study(tmp_path, 6, FrameOfReferenceUID=None)
    screening = make_screening(
        study,
        frame_of_reference_uid=None,
        defects=(SourceDefect(DefectCode.SLICE_GAP, "1 gap", 1),),
        run=run_identity(study, shortfall=MISSING),
    )
    kinds = (ResultKind.SEGMENTATION, ResultKind.VIEWER_REPORT)
    results = build_results(screening, study, ReportOptions(kinds=kinds))
    report = read_result(results[0])
    said = report.CompletionFlagDescription
    assert said == "Study incomplete; slices missing; no lung segmentation"
    assert {read_result(one).CompletionFlag for one in results} == {"PARTIAL"}


def test_unwanted_segmentation_is_not_missing(study: SpooledStudy) -> None:
    """What the site does not want does not make the report partial."""
    options = ReportOptions(kinds=(ResultKind.STRUCTURED_REPORT,))
    results = build_results(make_screening(study), study, options)
    assert len(results) == 1
    assert read_result(results[0]).CompletionFlag == "COMPLETE"


def test_shared_uid_leaves_slices_named_by_position(tmp_path: Path) -> None:
    """One UID on all slices: no slice is cited wrongly, each says where it is."""
    study = write_study(
        tmp_path, 8, SOPInstanceUID="uuid-4c8d", StudyInstanceUID="89a-b", SeriesInstanceUID="9-c"
    )
    results = build_results(make_screening(study), study)
    report = read_result(results[0])
    assert report.StudyInstanceUID == "89a-b"
    assert find(report, "121112") == find(report, "111028") == []
    assert ResultKind.KEY_OBJECT_SELECTION not in {one.kind for one in results}
    slices = [name for name in groups(report) if name.startswith("Slice ")]
    assert slices[0] == "Slice 3 of 8 from the feet, z -90.0 mm"
    assert any("position only" in text for text in values(report, "121106"))


def test_reprocess_names_its_predecessor(study: SpooledStudy) -> None:
    """A new run has a new UID, the next number in the series, and names what it replaces."""
    first = build_results(make_screening(study), study)[0]
    predecessor = PredecessorReport(
        "run-1",
        study.study_instance_uid,
        first.series_instance_uid,
        first.sop_class_uid,
        first.sop_instance_uid,
    )
    run = run_identity(study, run_id="run-2", version=2, predecessor=predecessor)
    second = build_results(make_screening(study, run=run), study)[0]
    report = read_result(second)
    [named] = (
        report.PredecessorDocumentsSequence[0].ReferencedSeriesSequence[0].ReferencedSOPSequence
    )
    assert named.ReferencedSOPInstanceUID == first.sop_instance_uid
    assert second.sop_instance_uid != first.sop_instance_uid
    assert second.series_instance_uid == first.series_instance_uid
    assert report.InstanceNumber == 2


def test_order_and_options_stand_in_the_header(study: SpooledStudy) -> None:
    """The accession number makes a referenced request; the site's names are written."""
    options = ReportOptions(
        institution_name="Hospital", content_qualification=ContentQualification.PRODUCT
    )
    report = read_result(build_results(make_screening(study), study, options)[0])
    assert report.ReferencedRequestSequence[0].AccessionNumber == "A-17"
    assert report.InstitutionName == "Hospital"
    assert report.ContentQualification == "PRODUCT"


def test_times_are_the_start_of_the_run_in_the_zone_of_the_source(tmp_path: Path) -> None:
    """Content time is when the analysis started, in the source's own offset."""
    study = write_study(tmp_path, 4, TimezoneOffsetFromUTC="+0530")
    report = read_result(build_results(make_screening(study, affected=(1,)), study)[0])
    assert report.ContentDate == "20260304"
    assert str(report.ContentTime).startswith("103607")
    assert report.TimezoneOffsetFromUTC == "+0530"


def test_times_are_those_of_the_site_where_the_source_names_no_zone(tmp_path: Path) -> None:
    """No offset is written, for it would move the study's own times; other zone, other UID."""
    study = write_study(tmp_path, 4)
    reports = [
        read_result(
            build_results(
                make_screening(study, affected=(1,)), study, ReportOptions(time_zone=zone)
            )[0]
        )
        for zone in ("", "America/St_Johns", "Asia/Kolkata")
    ]
    times = [f"{report.ContentDate} {str(report.ContentTime)[:6]}" for report in reports]
    assert times == ["20260304 050607", "20260304 013607", "20260304 103607"]
    assert not any("TimezoneOffsetFromUTC" in report for report in reports)
    assert len({report.SOPInstanceUID for report in reports}) == 3


def test_times_in_utc_need_no_list_of_time_zones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A machine without one reports all the same, as long as no zone is named."""
    monkeypatch.setattr(envelope, "ZoneInfo", lambda name: pytest.fail(f"{name} was looked up"))
    study = write_study(tmp_path, 4)
    report = read_result(build_results(make_screening(study, affected=(1,)), study)[0])
    assert str(report.ContentTime)[:6] == "050607"


def test_radiograph_gets_its_refusal(tmp_path: Path) -> None:
    """A study that holds no CT is reported under the name of what it is."""
    study = write_study(tmp_path, 1, Modality="DX", SOPClassUID="1.2.840.10008.5.1.4.1.1.1.1")
    refusal = make_refusal(study, NotAnalysedReason.UNSUPPORTED_MODALITY)
    report = read_result(build_results(refusal, study)[0])
    assert values(report, "121058") == ["43468-8"]
    [evidence] = report.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence
    assert evidence.SeriesInstanceUID == SERIES_UID
    assert evidence.ReferencedSOPSequence[0].ReferencedSOPClassUID.name.startswith("Digital X-Ray")


def test_tree_is_tid_1500_with_tracked_groups(report: Dataset) -> None:
    """The root names its template, and every group has a tracking identifier and UID."""
    assert concept_of(report) == "126000"
    assert report.ContentTemplateSequence[0].TemplateIdentifier == "1500"
    for group in find(report, "125007"):
        assert len(find(group, "112039")) == len(find(group, "112040")) == 1
