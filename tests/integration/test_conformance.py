"""Results under validators and readers that are not ours.

Covers dciodvfy with a closed list of remarks, dcentvfy against the source, DCMTK's SR parser,
dcmqi's readers of TID 1500 and SEG, and our rules for what none of them knows; on synthetic
series with and without defects and, where it is there, on real CT. Does not cover an archive: see
the acceptance tests.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from pydicom import config, dcmread, dcmwrite

from models.phantom import Pattern, PhantomSpec, make_phantom
from screener.assemble import decode_series, rank_series, read_headers
from screener.assemble.folder import read_folder
from screener.assemble.selection import SelectionRules
from screener.assemble.volume import DecodingRules
from screener.demo.series_writer import MultiFrame, SeriesDefects, write_series
from screener.demo.synthetic_identity import SyntheticIdentity
from screener.domain import (
    LEFT_LUNG,
    RIGHT_LUNG,
    LungMask,
    PatientClass,
    ResultKind,
    Screening,
    SpooledStudy,
)
from screener.report import Charset, ReportClass, ReportOptions, build_results
from screener.report.envelope import SOP_CLASSES
from tests.conformance_gate import complaints, read_by_dcmqi, read_segments_by_dcmqi, run
from tests.report_factories import (
    STARTED_AT,
    make_decision,
    make_probabilities,
    make_ranking,
    make_refusal,
    make_screening,
    run_identity,
    write_study,
)
from tests.report_rules import violations

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray
    from pydicom import Dataset

    from screener.domain import Volume

pytestmark = [pytest.mark.integration, pytest.mark.conformance]

DATA = Path(os.environ.get("SCREENER_TEST_DATA", "../shared/data"))
#: Lungs of the whole phantom in few voxels.
SPEC = PhantomSpec(
    seed=7,
    pattern=Pattern.COVID_19,
    n_slices=32,
    slice_spacing_mm=10.0,
    rows=112,
    columns=112,
    pixel_spacing_mm=3.4,
)
EVERY_KIND = ReportOptions(kinds=tuple(ResultKind))
#: What sources without identifiers or with retired name forms make dciodvfy say.
SOURCE_REMARKS = (
    r"Warning - <.*> - Missing attribute or value that would be needed to build DICOMDIR",
    r"Warning - <.*> - Value dubious for this VR \[PN\] = .* - Retired Person Name form",
)
#: A Study Instance UID that is UUID text cannot be written otherwise: the archive has it so.
TEXT_UID_REMARKS = (
    r"Error - </StudyInstanceUID\(0020,000d\)> - Illegal root for UID = <.*>",
    r"Error - </StudyInstanceUID\(0020,000d\)\[1\]> - Value invalid for this VR \[UI\] = .*",
)


@dataclass(frozen=True, slots=True)
class Written:
    """The result files of one screening."""

    screening: Screening
    study: SpooledStudy
    files: dict[ResultKind, Path]

    def read(self, kind: ResultKind) -> Dataset:
        with config.disable_value_validation():
            return dcmread(self.files[kind])


def write_results(
    screening: Screening,
    study: SpooledStudy,
    folder: Path,
    options: ReportOptions = EVERY_KIND,
) -> Written:
    folder.mkdir(exist_ok=True)
    files = {}
    for result in build_results(screening, study, options):
        if options is EVERY_KIND:
            assert result.sop_class_uid == SOP_CLASSES[result.kind]
        files[result.kind] = folder / f"{result.kind.value}.dcm"
        files[result.kind].write_bytes(result.encoded)
    return Written(screening, study, files)


def read_volume(folder: Path) -> tuple[SpooledStudy, Volume]:
    """Take the series of a folder through the real assemble step."""
    study = read_folder(folder, STARTED_AT).studies[0]
    ranked = rank_series(read_headers(study), SelectionRules())
    assert ranked.qualified, [one.reasons for one in ranked.ranking.candidates]
    decoded = decode_series(ranked.qualified[0], DecodingRules())
    for _ in decoded.batches():
        pass
    return study, decoded.volume()


def screen(study: SpooledStudy, volume: Volume, labels: NDArray[np.uint8]) -> Screening:
    """Make the screening of a real volume: true lungs, made-up probabilities."""
    voxel_ml = float(np.prod(volume.spacing_mm)) / 1000.0
    volumes_ml = [float((labels == label).sum()) * voxel_ml for label in (RIGHT_LUNG, LEFT_LUNG)]
    n_slices = len(volume.slices)
    affected = tuple(range(n_slices // 3, n_slices // 2))
    return Screening(
        run=run_identity(study),
        n_instances=len(study.instances),
        ranking=make_ranking(study, selected=volume.series_instance_uid),
        defects=(),
        outcome=make_decision(n_slices, affected, PatientClass.COVID_19),
        volume=volume,
        lungs=LungMask(labels, *volumes_ml),
        probabilities=make_probabilities(n_slices, affected),
    )


@pytest.fixture(scope="module")
def phantom_results(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Written]:
    """Write, assemble and report the phantom with chosen defects; each choice once."""
    phantom = make_phantom(SPEC)
    made: dict[SeriesDefects, Written] = {}

    def make(defects: SeriesDefects) -> Written:
        if defects not in made:
            folder = tmp_path_factory.mktemp("phantom")
            write_series(phantom, folder / "ct", SyntheticIdentity(name="phantom"), defects)
            study, volume = read_volume(folder / "ct")
            kept = [at for at in range(SPEC.n_slices) if at not in defects.missing_slices]
            screening = screen(study, volume, phantom.lung_labels[kept])
            made[defects] = write_results(screening, study, folder / "results")
        return made[defects]

    return make


CONFORMANT = SeriesDefects()
SERIES = {
    "conformant": CONFORMANT,
    "reversed": SeriesDefects(is_reversed=True),
    "gap": SeriesDefects(missing_slices=(15,)),
    "legacy-converted": SeriesDefects(multi_frame=MultiFrame.LEGACY_CONVERTED),
    "missing-attributes": SeriesDefects(
        missing_keywords=("PatientName", "PatientBirthDate", "StudyTime", "SliceThickness")
    ),
}


@pytest.mark.parametrize("name", SERIES)
def test_results_pass_dciodvfy(phantom_results: Callable[..., Written], name: str) -> None:
    """Every object of every series is valid but for the closed list of remarks."""
    written = phantom_results(SERIES[name])
    assert set(written.files) == set(ResultKind)
    for file in written.files.values():
        assert complaints(file, SOURCE_REMARKS) == []


@pytest.mark.parametrize("name", SERIES)
def test_results_keep_our_rules(phantom_results: Callable[..., Written], name: str) -> None:
    """Equality of algorithms, tracking UIDs and evidence hold for every series."""
    written = phantom_results(SERIES[name])
    report, segmentation = map(
        written.read, (ResultKind.STRUCTURED_REPORT, ResultKind.SEGMENTATION)
    )
    assert violations(report, segmentation) == []


@pytest.mark.parametrize(
    "kind",
    [
        ResultKind.STRUCTURED_REPORT,
        ResultKind.KEY_OBJECT_SELECTION,
        ResultKind.VIEWER_REPORT,
    ],
)
def test_documents_are_read_by_dcmtk(
    phantom_results: Callable[..., Written], kind: ResultKind
) -> None:
    """A second SR parser reads the trees without an error."""
    code, lines = run("dsrdump", phantom_results(CONFORMANT).files[kind])
    assert code == 0
    assert [line for line in lines if line.startswith(("E:", "F:"))] == []


@pytest.mark.parametrize("name", ["conformant", "legacy-converted"])
def test_annotations_pass_dcmpschk(phantom_results: Callable[..., Written], name: str) -> None:
    """A second toolkit accepts the presentation state."""
    code, lines = run(
        "dcmpschk", phantom_results(SERIES[name]).files[ResultKind.PRESENTATION_STATE]
    )
    assert code == 0
    assert [line for line in lines if line.startswith(("E:", "F:"))] == []


def test_results_agree_with_the_source(phantom_results: Callable[..., Written]) -> None:
    """Patient and study attributes are the same in the source and in every result."""
    written = phantom_results(CONFORMANT)
    sources = [one.path for one in written.study.instances]
    _, lines = run("dcentvfy", *sources, *written.files.values())
    assert [line for line in lines if "Error" in line] == []


def test_report_is_read_by_dcmqi(phantom_results: Callable[..., Written], tmp_path: Path) -> None:
    """An independent reader finds every group, both volumes and the certainties."""
    written = phantom_results(CONFORMANT)
    metadata = read_by_dcmqi(written.files[ResultKind.STRUCTURED_REPORT], tmp_path)
    groups = {one["TrackingIdentifier"]: one for one in metadata["Measurements"]}
    n_affected = SPEC.n_slices // 2 - SPEC.n_slices // 3
    assert len(metadata["Measurements"]) == 1 + 3 + 2 + n_affected
    lungs = written.screening.lungs
    assert lungs is not None
    for name, volume_ml in (
        ("Right lung", lungs.right_volume_ml),
        ("Left lung", lungs.left_volume_ml),
    ):
        [item] = groups[name]["measurementItems"]
        assert float(item["value"]) == pytest.approx(volume_ml, abs=0.06)
        assert groups[name]["ReferencedSegment"] in {1, 2}
    [certainty] = groups["Patient: COVID-19"]["measurementItems"]
    assert float(certainty["value"]) == 91.0
    assert metadata["VerificationFlag"] == "UNVERIFIED"
    assert metadata["CompletionFlag"] == "COMPLETE"


def test_regions_are_read_by_dcmqi(phantom_results: Callable[..., Written], tmp_path: Path) -> None:
    """An independent reader finds a group with its certainty for every affected slice."""
    written = phantom_results(CONFORMANT)
    metadata = read_by_dcmqi(written.files[ResultKind.VIEWER_REPORT], tmp_path)
    n_affected = SPEC.n_slices // 2 - SPEC.n_slices // 3
    assert len(metadata["Measurements"]) == n_affected
    for group in metadata["Measurements"]:
        [item] = group["measurementItems"]
        assert 70.0 <= float(item["value"]) < 73.0
    assert violations(written.read(ResultKind.VIEWER_REPORT)) == []


@pytest.mark.parametrize("name", ["conformant", "reversed", "legacy-converted"])
def test_lungs_are_read_by_dcmqi(
    phantom_results: Callable[..., Written], name: str, tmp_path: Path
) -> None:
    """An independent reader gets back the voxels of the mask; right is right."""
    written = phantom_results(SERIES[name])
    lungs, volume = written.screening.lungs, written.screening.volume
    assert lungs is not None
    assert volume is not None
    segments = read_segments_by_dcmqi(written.files[ResultKind.SEGMENTATION], tmp_path)
    assert [one.attributes["SegmentLabel"] for one in segments] == ["Right lung", "Left lung"]
    for label, segment in zip((RIGHT_LUNG, LEFT_LUNG), segments, strict=True):
        modifier = segment.attributes["SegmentedPropertyTypeModifierCodeSequence"]
        assert modifier["CodeMeaning"] == ("Right" if label == RIGHT_LUNG else "Left")
        first = round((segment.origin_mm[2] - volume.slices[0].position_mm[2]) / 10.0)
        expected = (lungs.labels == label)[first : first + segment.voxels.shape[0]]
        np.testing.assert_array_equal(segment.voxels > 0, expected)
        assert int((segment.voxels > 0).sum()) == int((lungs.labels == label).sum())


def test_refusal_passes_every_gate(tmp_path: Path) -> None:
    """A report that says "not analysed" is as valid as any other."""
    study = write_study(tmp_path, 3)
    written = write_results(make_refusal(study), study, tmp_path / "results")
    file = written.files[ResultKind.STRUCTURED_REPORT]
    assert complaints(file) == []
    assert run("dsrdump", file)[0] == 0
    assert violations(written.read(ResultKind.STRUCTURED_REPORT)) == []
    assert len(read_by_dcmqi(file, tmp_path)["Measurements"]) == 1
    for file in written.files.values():
        assert complaints(file) == []


@pytest.mark.parametrize(
    ("charset", "name"),
    [
        (["", "ISO 2022 IR 87"], "Yamada^Tarou=山田^太郎=やまだ^たろう"),
        (["", "ISO 2022 IR 149"], "Hong^Gildong=洪^吉洞=홍^길동"),
        ("ISO_IR 100", "Müller^Jürgen"),
    ],
)
def test_names_in_other_scripts_pass(tmp_path: Path, charset: str | list[str], name: str) -> None:
    """Results of Japanese, Korean and Latin-1 sources are valid and hold the same name."""
    study = write_study(tmp_path, 5, SpecificCharacterSet=charset, PatientName=name)
    written = write_results(make_screening(study, affected=(2,)), study, tmp_path / "results")
    for kind, file in written.files.items():
        assert complaints(file) == []
        assert str(written.read(kind).PatientName) == name


@pytest.mark.parametrize("report_class", [ReportClass.COMPREHENSIVE, ReportClass.ENHANCED])
def test_older_report_classes_pass(report_class: ReportClass, tmp_path: Path) -> None:
    """The same tree is valid in the classes that older archives know, and other readers agree."""
    study = write_study(tmp_path, 8)
    options = ReportOptions(report_class=report_class)
    written = write_results(make_screening(study), study, tmp_path / "results", options)
    file = written.files[ResultKind.STRUCTURED_REPORT]
    assert complaints(file) == []
    assert run("dsrdump", file)[0] == 0
    assert len(read_by_dcmqi(file, tmp_path)["Measurements"]) == 1 + 3 + 2 + 3


@pytest.mark.parametrize(
    ("charset", "name"),
    [
        (["", "ISO 2022 IR 87"], "Yamada^Tarou=山田^太郎=やまだ^たろう"),
        (["", "ISO 2022 IR 149"], "Hong^Gildong=洪^吉洞=홍^길동"),
        ("ISO_IR 100", "Müller^Jürgen"),
    ],
)
def test_character_set_of_the_source_passes(
    tmp_path: Path, charset: str | list[str], name: str
) -> None:
    """Results in the source's own character set are valid, and agree with it byte by byte."""
    study = write_study(tmp_path, 5, SpecificCharacterSet=charset, PatientName=name)
    options = ReportOptions(kinds=tuple(ResultKind), charset=Charset.SOURCE)
    screening = make_screening(study, affected=(2,))
    written = write_results(screening, study, tmp_path / "results", options)
    for kind, file in written.files.items():
        assert complaints(file) == []
        assert str(written.read(kind).PatientName) == name
    sources = [one.path for one in study.instances]
    _, lines = run("dcentvfy", *sources, *written.files.values())
    assert [line for line in lines if "Error" in line] == []


def test_report_of_300_slices_is_small(tmp_path: Path) -> None:
    """300 slices, all affected: at most 250 kB."""
    study = write_study(tmp_path, 300)
    screening = make_screening(study, affected=tuple(range(1, 299)))
    results = build_results(screening, study)
    assert len(results[0].encoded) <= 250_000


# ── the gates themselves ─────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "keyword", ["CompletionFlag", "VerificationFlag", "ContentDate", "PatientID"]
)
def test_gate_fails_on_a_missing_attribute(
    phantom_results: Callable[..., Written], keyword: str, tmp_path: Path
) -> None:
    """A report without a mandatory attribute does not pass dciodvfy."""
    report = phantom_results(CONFORMANT).read(ResultKind.STRUCTURED_REPORT)
    delattr(report, keyword)
    broken = tmp_path / "broken.dcm"
    dcmwrite(broken, report)
    assert any(keyword in line for line in complaints(broken))


def test_gate_fails_on_a_missing_equipment_attribute(
    phantom_results: Callable[..., Written],
) -> None:
    """An algorithm without Device UID, or of another version, breaks our rules."""
    for keyword, value in (("DeviceUID", None), ("SoftwareVersions", "9.9")):
        report = phantom_results(CONFORMANT).read(ResultKind.STRUCTURED_REPORT)
        item = next(one for one in report.ContributingEquipmentSequence if "DeviceUID" in one)
        setattr(item, keyword, value)
        assert violations(report) != []


def test_gate_fails_on_missing_evidence(phantom_results: Callable[..., Written]) -> None:
    """A cited slice that the evidence does not list breaks our rules."""
    report = phantom_results(CONFORMANT).read(ResultKind.STRUCTURED_REPORT)
    [study] = report.CurrentRequestedProcedureEvidenceSequence
    for series in study.ReferencedSeriesSequence:
        series.ReferencedSOPSequence = list(series.ReferencedSOPSequence)[:1]
    assert any("no evidence" in one for one in violations(report))


def test_gate_fails_on_other_tracking(phantom_results: Callable[..., Written]) -> None:
    """Segments that track something else than the report break our rules."""
    written = phantom_results(CONFORMANT)
    segmentation = written.read(ResultKind.SEGMENTATION)
    segmentation.SegmentSequence[0].TrackingUID = "1.2.3"
    report = written.read(ResultKind.STRUCTURED_REPORT)
    assert any("tracking" in one for one in violations(report, segmentation))


# ── real CT ──────────────────────────────────────────────────────────────────────────────────


def real_folder(name: str) -> Path:
    folder = DATA / "dicom" / name
    if not folder.is_dir():
        pytest.skip(f"real CT is not here: {folder}")
    return folder


def test_real_chest_with_expert_mask_passes(tmp_path: Path) -> None:
    """A real series with an expert's lungs: valid, and the voxels come back."""
    folder = real_folder("lctsc/Case_005_jpegls")
    study, volume = read_volume(folder)
    with np.load(folder.parent / "Case_005_lungmask.npz") as stored:
        mask = stored[stored.files[0]] > 0
    middle = mask.shape[2] // 2
    labels = np.where(mask, RIGHT_LUNG, 0).astype(np.uint8)
    labels[:, :, middle:][mask[:, :, middle:]] = LEFT_LUNG
    written = write_results(screen(study, volume, labels), study, tmp_path / "results")
    for file in written.files.values():
        assert complaints(file, SOURCE_REMARKS) == []
    segments = read_segments_by_dcmqi(written.files[ResultKind.SEGMENTATION], tmp_path)
    assert [int((one.voxels > 0).sum()) for one in segments] == [
        int((labels == RIGHT_LUNG).sum()),
        int((labels == LEFT_LUNG).sum()),
    ]


@pytest.mark.parametrize("name", ["COVID_P002", "CAP_cap002"])
def test_real_series_without_instance_uids_is_reported(name: str, tmp_path: Path) -> None:
    """133 slices that no UID tells apart: a report that is valid but for the study's own UID."""
    study, volume = read_volume(real_folder(f"ctmd/{name}"))
    labels = np.zeros(volume.volume_hu.shape, np.uint8)
    labels[5:-5, 200:300, 100:200] = RIGHT_LUNG
    labels[5:-5, 200:300, 300:400] = LEFT_LUNG
    written = write_results(screen(study, volume, labels), study, tmp_path)
    assert set(written.files) == {
        ResultKind.STRUCTURED_REPORT,
        ResultKind.OVERLAY,
        ResultKind.ENCAPSULATED_PDF,
    }
    for file in written.files.values():
        assert complaints(file, (*SOURCE_REMARKS, *TEXT_UID_REMARKS)) == []
    report = written.read(ResultKind.STRUCTURED_REPORT)
    assert report.CompletionFlag == "PARTIAL"
    assert report.StudyInstanceUID == study.study_instance_uid
    assert violations(report) == []


def test_real_enhanced_ct_is_cited_by_frame(tmp_path: Path) -> None:
    """A real multi-frame CT: frame references, valid objects."""
    file = real_folder("odd") / "dcmqi" / "legacy_converted_enhanced_ct.dcm"
    study = read_folder(file, STARTED_AT).studies[0]
    header = dcmread(file, stop_before_pixels=True)
    template = make_screening(study, n_frames=3, affected=(1,))
    assert template.volume is not None
    volume = replace(
        template.volume, frame_of_reference_uid=str(header.get("FrameOfReferenceUID") or "1.2.3")
    )
    written = write_results(replace(template, volume=volume), study, tmp_path / "results")
    for result in written.files.values():
        assert complaints(result, SOURCE_REMARKS) == []
