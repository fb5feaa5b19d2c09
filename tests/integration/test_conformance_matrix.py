"""Every input of the matrix through the whole journey to the gate, and proof that the gate fails.

Covers the golden set with its Orthanc round trip, the matrix of defective headers and geometry,
character sets, encodings, and one mutation per rule, each through the product's own gate. The
models are stand-ins; what real ones find is not asked here.
"""

from __future__ import annotations

import json
import os
import urllib.request
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from pydicom import config, dcmread, dcmwrite

from models.phantom import Pattern, make_phantom, typical_spec
from screener.audit.story import why
from screener.conformance import Verdict, check_folder
from screener.conformance.objects import LABEL_MAP_SEGMENTATION
from screener.conformance.programs import find_program
from screener.daemon.deliveries import deliver
from screener.daemon.site import open_site
from screener.deliver import wado
from screener.deliver.archive import WebArchive
from screener.deliver.scu import DeliverableObject, store_objects
from screener.demo.pixel_encoding import JPEG_LOSSLESS_FIRST_ORDER, WRITABLE_SYNTAXES
from screener.demo.series_writer import MultiFrame, SeriesDefects, write_series
from screener.demo.synthetic_identity import SyntheticIdentity
from screener.domain import (
    Decision,
    DeliveryState,
    DimseNode,
    NotAnalysed,
    NotAnalysedReason,
    Outcome,
    PatientClass,
    PredecessorReport,
    ResultKind,
    WebNode,
)
from screener.report import ReportOptions, build_results
from tests.audit_factories import STUDY
from tests.ct_factories import enhanced_dataset
from tests.gate_factories import (
    KINDS,
    N_SLICES,
    SIZE,
    SPACING_MM,
    Examined,
    chest_headers,
    examine,
    examine_sources,
    shift,
    tilt,
    write_headers,
)
from tests.integration.conftest import wait_until
from tests.integration.real_results import delivery_of, report_for_real
from tests.integration.receivers import call, settings_for
from tests.report_factories import (
    make_decision,
    make_refusal,
    make_screening,
    run_identity,
    write_study,
)
from tests.sr_reader import find, groups, values

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from pydicom import Dataset

    from screener.domain import Screening, SpooledStudy
    from tests.integration.conftest import OrthancServer, StartListening

pytestmark = [pytest.mark.integration, pytest.mark.conformance]

SR, SEG = ResultKind.STRUCTURED_REPORT, ResultKind.SEGMENTATION
MAP = ResultKind.PARAMETRIC_MAP


def assert_clean(verdict: Verdict) -> None:
    """Nothing was found, and where CI promised every validator, nothing was left out."""
    assert verdict.findings == ()
    if os.environ.get("CI"):
        assert verdict.not_run == ()
    elif verdict.not_run:
        pytest.skip(f"not installed: {', '.join(verdict.not_run)}")


# ── golden set ───────────────────────────────────────────────────────────────────────────────


def reprocessed(study: SpooledStudy) -> Screening:
    """Make the screening of a second run, whose report replaces the first one's."""
    first = build_results(make_screening(study), study)[0]
    predecessor = PredecessorReport(
        "run-1",
        study.study_instance_uid,
        first.series_instance_uid,
        first.sop_class_uid,
        first.sop_instance_uid,
    )
    return make_screening(study, run=run_identity(study, version=2, predecessor=predecessor))


def indeterminate(study: SpooledStudy) -> Screening:
    """Make a screening whose vote leaves the class open."""
    decision = make_decision(8, (3,), PatientClass.INDETERMINATE)
    return make_screening(study, outcome=replace(decision, certainty=0.0))


GOLDEN: dict[str, Callable[[SpooledStudy], Screening]] = {
    "normal": partial(make_screening, affected=(), patient_class=PatientClass.NORMAL),
    "covid-19": make_screening,
    "cap": partial(make_screening, patient_class=PatientClass.COMMUNITY_ACQUIRED_PNEUMONIA),
    "indeterminate": indeterminate,
    "not-analysed": make_refusal,
    "reprocess": reprocessed,
}


@pytest.fixture(scope="module")
def golden(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write the golden set once: a folder per case, each with its sources."""
    root = tmp_path_factory.mktemp("golden")
    for name, make in GOLDEN.items():
        folder = root / name
        (folder / "source").mkdir(parents=True)
        study = write_study(folder / "source", 8)
        for result in build_results(make(study), study, ReportOptions(kinds=tuple(ResultKind))):
            (folder / f"{result.kind.value}.dcm").write_bytes(result.encoded)
    return root


@pytest.mark.parametrize("case", GOLDEN)
def test_golden_case_passes_the_gate(golden: Path, case: str) -> None:
    """Every outcome there is: no validator and no rule objects."""
    verdict = check_folder(golden / case)
    assert_clean(verdict)
    assert verdict.notes == ()
    n_left_out = {
        "not-analysed": len(ResultKind) - 3,  # all but report, pictures and page
        "normal": 1,  # nothing is affected: no map
    }
    assert verdict.n_results == len(ResultKind) - n_left_out.get(case, 0)


def test_golden_set_passes_after_a_round_trip(
    golden: Path, orthanc: OrthancServer, tmp_path: Path
) -> None:
    """What Orthanc gives back is the same data set, and passes the gate again.

    By default it takes no label map; that is skipped, and is why a label map is not the default.
    """
    files = sorted((golden / "covid-19").rglob("*.dcm"))
    objects = deliverable(files)
    node = DimseNode("orthanc", orthanc.ae_title, "127.0.0.1", orthanc.dicom_port, "SCREENER")
    statuses = store_objects(node, objects)
    skipped = [
        one.path.name
        for one, status in zip(objects, statuses, strict=True)
        if status.outcome is Outcome.SKIPPED
    ]
    assert skipped == ["labelmap.dcm"]
    assert {one.outcome for one in statuses} == {Outcome.STORED, Outcome.SKIPPED}
    files = [file for file in files if file.name not in skipped]
    returned_to = tmp_path / "returned"
    returned_to.mkdir()
    for number, instance in enumerate(json.loads(fetch(f"{orthanc.url}/instances"))):
        file = returned_to / f"{number}.dcm"
        file.write_bytes(fetch(f"{orthanc.url}/instances/{instance}/file"))
    returned = {one.SOPInstanceUID: one for one in map(dcmread, returned_to.iterdir())}
    assert len(returned) == len(files)
    for file in files:
        sent = dcmread(file)
        assert returned[sent.SOPInstanceUID] == sent
    assert_clean(check_folder(returned_to))


def test_archive_commits_to_every_kind(
    orthanc: OrthancServer, listening: StartListening, tmp_path: Path
) -> None:
    """Each object that Orthanc took it also answers for, by storage commitment."""
    settings = settings_for(tmp_path, orthanc.dicom_port, orthanc.ae_title)
    site = open_site(settings)
    listening(settings)
    call(f"{orthanc.url}/modalities/screener", "PUT", ["SCREENER", "127.0.0.1", settings.node.port])
    run_id, delivery_id = report_for_real(site, tmp_path / "run", tuple(ResultKind))
    deliver(site, delivery_id)
    wait_until(lambda: delivery_of(site, run_id).state is DeliveryState.CONFIRMED)
    confirmed = [
        one for one in why(site.database, STUDY).events if one.kind == "delivery_confirmed"
    ]
    n_sent = len(ResultKind) - 1  # Orthanc takes no label map
    detail = str(confirmed[0].payload["detail"])
    assert str(detail).startswith(f"storage commitment for {n_sent} of {n_sent} objects")


def test_golden_set_passes_after_dicomweb(
    golden: Path, web_orthanc: OrthancServer, tmp_path: Path
) -> None:
    """STOW-RS, QIDO-RS and WADO-RS: every file comes back byte for byte, and passes again."""
    there = WebArchive(WebNode("orthanc", web_orthanc.web_url))
    objects = deliverable(sorted((golden / "covid-19").rglob("*.dcm")))
    assert {one.outcome for one in there.store(objects)} == {Outcome.STORED}
    assert there.confirm(objects) == {one.sop_instance_uid for one in objects}
    study_instance_uid = str(dcmread(objects[0].path).StudyInstanceUID)
    assert there.count_instances(study_instance_uid) == len(objects)
    series = [uid for uid, _ in there.find_series(study_instance_uid)]
    returned = Returned(tmp_path / "returned")
    assert wado.get_series(there.node, study_instance_uid, series, returned) == len(objects)
    assert sorted(one.read_bytes() for one in returned.folder.iterdir()) == sorted(
        one.path.read_bytes() for one in objects
    )
    assert_clean(check_folder(returned.folder))


class Returned:
    """Writes what a service gives back into a folder."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self.folder = folder

    def take(self, chunks: Iterator[bytes]) -> None:
        number = len(list(self.folder.iterdir()))
        (self.folder / f"{number}.dcm").write_bytes(b"".join(chunks))


def deliverable(files: Iterable[Path]) -> list[DeliverableObject]:
    """Take files as what is delivered; the kind plays no part in the sending."""
    headers = [(file, dcmread(file, stop_before_pixels=True)) for file in files]
    return [
        DeliverableObject(SR, str(one.SOPClassUID), str(one.SOPInstanceUID), file)
        for file, one in headers
    ]


def fetch(url: str) -> bytes:
    with urllib.request.urlopen(url) as answer:  # noqa: S310  Orthanc on this machine
        return bytes(answer.read())


# ── input matrix ─────────────────────────────────────────────────────────────────────────────

HEADERS: dict[str, dict[str, Any]] = {
    **{
        f"no-{keyword}": {keyword: None}
        for keyword in (
            "PatientID", "PatientName", "PatientBirthDate", "PatientSex", "StudyID",
            "AccessionNumber", "StudyDate", "StudyTime", "ReferringPhysicianName",
            "SpecificCharacterSet", "SeriesNumber", "StudyDescription", "Manufacturer",
            "PositionReferenceIndicator", "SliceThickness", "InstanceNumber",
            "PatientPosition", "WindowCenter", "SliceLocation", "RequestAttributesSequence",
        )
    },
    "sex-is-w": {"PatientSex": "W"},
    "sex-is-u": {"PatientSex": "U"},
    "birth-date-is-a-year": {"PatientBirthDate": "1970"},
    "name-of-70": {"PatientName": "N" * 70},
    "study-id-of-20": {"StudyID": "7" * 20},
    "accession-number-of-20": {"AccessionNumber": "A" * 20},
    "age-without-unit": {"PatientAge": "56"},
    "description-of-80": {"StudyDescription": "D" * 80},
    "study-uid-of-69": {"StudyInstanceUID": "1.2." + "3" * 65},
    "study-uid-with-leading-zero": {"StudyInstanceUID": "1.2.03.4"},
    "study-uid-is-uuid-text": {"StudyInstanceUID": "B05E7EA6-4D3C-4E3F-AD0E-6E1C0A6F3D21"},
    "thickness-empty": {"SliceThickness": ""},
    "instance-number-empty": {"InstanceNumber": ""},
    "pixels-not-square": {"PixelSpacing": [4.0, 4.4]},
}  # fmt: skip


#: All of Type 2 at once stands for each alone, which `make conformance` asks too.
HEADERS["no-type-2"] = {keyword: None for row in list(HEADERS)[:9] for keyword in HEADERS[row]}


def core_first(rows: Iterable[str], core: Callable[[str], bool]) -> list[Any]:
    """Mark the rows outside the core as slow: each is quick, together they are not."""
    return [row if core(row) else pytest.param(row, marks=pytest.mark.slow) for row in rows]


def is_core_header(row: str) -> bool:
    return not row.startswith("no-") or row in {
        "no-type-2",
        "no-SliceThickness",
        "no-InstanceNumber",
        "no-RequestAttributesSequence",
    }


@pytest.mark.parametrize("row", core_first(HEADERS, is_core_header))
def test_defective_header_gives_valid_objects(tmp_path: Path, row: str) -> None:
    """A decision, all three objects, and no objection that the source does not explain."""
    done = examine(tmp_path, chest_headers(**HEADERS[row]))
    assert isinstance(done.screening.outcome, Decision)
    assert done.verdict.n_results == len(KINDS)
    assert_clean(done.verdict)


@pytest.mark.parametrize("uid", [None, "1.2." + "3" * 65], ids=["absent", "of-69"])
def test_without_frame_of_reference_the_report_is_partial(tmp_path: Path, uid: str | None) -> None:
    """No segmentation can be written; the lungs stay in the report, which says what is missing."""
    done = examine(tmp_path, chest_headers(FrameOfReferenceUID=uid))
    assert_clean(done.verdict)
    assert not done.path(SEG).exists()
    report = done.read(SR)
    assert report.CompletionFlag == "PARTIAL"
    assert report.CompletionFlagDescription
    assert {"Right lung", "Left lung"} <= set(groups(report))


@pytest.mark.parametrize(
    "keyword", ["ImageOrientationPatient", "ImagePositionPatient", "PixelSpacing"]
)
def test_slices_without_place_are_refused_by_name(tmp_path: Path, keyword: str) -> None:
    """What places a slice cannot be guessed."""
    done = examine(tmp_path, chest_headers(**{keyword: None}))
    assert reason_of(done) is NotAnalysedReason.BROKEN_GEOMETRY
    assert_clean(done.verdict)


def reason_of(done: Examined) -> NotAnalysedReason:
    assert isinstance(done.screening.outcome, NotAnalysed)
    return done.screening.outcome.reason


def with_gap(headers: list[Dataset]) -> None:
    del headers[N_SLICES // 2]


def with_jitter(headers: list[Dataset]) -> None:
    for index in range(0, N_SLICES, 2):
        shift(headers, index, 0.02)


def with_duplicate_position(headers: list[Dataset]) -> None:
    shift(headers, 5, -SPACING_MM)


def with_localizer(headers: list[Dataset]) -> None:
    headers[0].ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]
    headers[0].ImageOrientationPatient = [1, 0, 0, 0, 0, -1]


def with_two_frames_of_reference(headers: list[Dataset]) -> None:
    headers[0].FrameOfReferenceUID = "1.2.826.0.1.99"


def with_shuffled_files(headers: list[Dataset]) -> None:
    """Let neither names of files nor instance numbers tell the order; only positions do."""
    order = np.random.default_rng(5).permutation(len(headers))
    headers[:] = [headers[index] for index in order]
    for number, header in enumerate(headers, start=1):
        header.InstanceNumber = number


GEOMETRY: dict[str, Callable[[list[Dataset]], None]] = {
    "missing-slice": with_gap,
    "reversed": lambda headers: headers.reverse(),
    "shuffled": with_shuffled_files,
    "jitter": with_jitter,
    "duplicate-position": with_duplicate_position,
    "localizer-inside": with_localizer,
    "two-frames-of-reference": with_two_frames_of_reference,
    "tilt-of-5-degrees": partial(tilt, degrees=5.0),
}


@pytest.mark.parametrize("row", GEOMETRY)
def test_defective_geometry_gives_valid_objects(tmp_path: Path, row: str) -> None:
    """The series is screened as it lies, and every object says so validly."""
    headers = chest_headers()
    GEOMETRY[row](headers)
    done = examine(tmp_path, headers)
    assert isinstance(done.screening.outcome, Decision)
    assert_clean(done.verdict)


def test_gantry_tilt_is_refused_by_name(tmp_path: Path) -> None:
    """15 degrees are no chest as the models know it."""
    headers = chest_headers()
    tilt(headers, 15.0)
    done = examine(tmp_path, headers)
    assert reason_of(done) is NotAnalysedReason.GANTRY_TILTED
    assert_clean(done.verdict)


def test_mixed_pixel_spacing_is_never_merged(tmp_path: Path) -> None:
    """Slices on another grid stay out: no mask with a geometry that is silently wrong."""
    headers = chest_headers()
    for header in headers[:3]:
        header.PixelSpacing = [2.0, 2.0]
    done = examine(tmp_path, headers)
    assert_clean(done.verdict)
    assert done.screening.volume is not None
    assert {one.pixel_spacing_mm for one in done.screening.volume.slices} == {(4.0, 4.0)}


def test_half_of_another_grid_is_refused_by_name(tmp_path: Path) -> None:
    """Where no grid holds enough of the series nothing is guessed."""
    headers = chest_headers()
    for header in headers[: N_SLICES // 2]:
        header.PixelSpacing = [2.0, 2.0]
    done = examine(tmp_path, headers)
    assert reason_of(done) is NotAnalysedReason.BROKEN_GEOMETRY
    assert_clean(done.verdict)


def test_two_patients_in_one_study_are_refused_by_name(tmp_path: Path) -> None:
    """One study of two people has no result about either."""
    headers = chest_headers()
    for header in headers[: N_SLICES // 2]:
        header.PatientID, header.PatientName = "P-2", "Other^Olga"
    done = examine(tmp_path, headers)
    assert reason_of(done) is NotAnalysedReason.CONFLICTING_PATIENTS


# ── character sets ───────────────────────────────────────────────────────────────────────────


CORE_CHARACTER_SETS = {
    "ISO_IR 100",
    "ISO_IR 148",
    "ISO_IR 166",
    "\\ISO 2022 IR 87",
    "\\ISO 2022 IR 149",
    "GB18030",
    "",
}
CHARACTER_SETS = {
    "ISO_IR 100": "Müller^Jürgen",
    "ISO_IR 101": "Dvořák^Antonín",
    "ISO_IR 144": "Люкceмбypг^Анна",
    "ISO_IR 126": "Διονυσιος^Νικος",
    "ISO_IR 127": "قباني^لنزار",
    "ISO_IR 138": "שרון^דבורה",
    "ISO_IR 148": "Çavuşoğlu^İbrahim",
    "ISO_IR 166": "นามสกุล^ชื่อ",
    "ISO_IR 13": "ﾔﾏﾀﾞ^ﾀﾛｳ",
    "\\ISO 2022 IR 87": "Yamada^Tarou=山田^太郎=やまだ^たろう",
    "ISO 2022 IR 13\\ISO 2022 IR 87": "ﾔﾏﾀﾞ^ﾀﾛｳ=山田^太郎=やまだ^たろう",
    "\\ISO 2022 IR 149": "Hong^Gildong=洪^吉洞=홍^길동",
    "GB18030": "Wang^XiaoDong=王^小东",
    "GBK": "Wang^XiaoDong=王^小东",
    "ISO_IR 192": "Wang^XiaoDong=王^小東=せかい",
    "ISO_IR 6": "Plain^Paul",
    "": "Plain^Paul",
}


@pytest.mark.parametrize(
    "charset", core_first(CHARACTER_SETS, lambda row: row in CORE_CHARACTER_SETS)
)
def test_name_reads_the_same_after_the_journey(tmp_path: Path, charset: str) -> None:
    """Whatever the source declares: the same name, in UTF-8, and nothing replaced."""
    name, declared = CHARACTER_SETS[charset], charset.split("\\")
    changes = {"SpecificCharacterSet": declared if len(declared) > 1 else charset}
    done = examine(tmp_path, chest_headers(PatientName=name, **changes))
    assert_clean(done.verdict)
    for kind in KINDS:
        assert done.read(kind).SpecificCharacterSet == "ISO_IR 192"
        assert str(done.read(kind).PatientName) == name


@dataclass(frozen=True, slots=True)
class EncodedName:
    """A name in the bytes of a source, which no writer of ours would write."""

    declared: str
    encoded: bytes
    read_as: str
    said: str = ""  #: in the report


GBK_NAME = "王^小东".encode("gbk")
ENCODED_NAMES = {
    "gb-2312-by-escape": EncodedName(  # PS3.5 K.2
        "\\ISO 2022 IR 58",
        b"Zhang^XiaoDong=\x1b$)A\xd5\xc5^\x1b$)A\xd0\xa1\xb6\xab=",
        "Zhang^XiaoDong=张^小东",  # an empty last group is none
    ),
    "unknown-set": EncodedName("ISO_IR 999", b"Plain^Paul", "Plain^Paul"),
    "utf-8-called-unknown": EncodedName(
        "KLINGON", "Müller^J".encode(), "Müller^J", "does not exist, its text was read as UTF-8"
    ),
    "latin-1-called-unknown": EncodedName(
        "KLINGON", "Müller^J".encode("latin-1"), "Müller^J", "was read as Latin-1"
    ),
    "gbk-undeclared": EncodedName(
        "", GBK_NAME, GBK_NAME.decode("latin-1"), "no character set, its text was read as Latin-1"
    ),
    "gbk-called-ascii": EncodedName(
        "ISO_IR 6", GBK_NAME, GBK_NAME.decode("latin-1"), "was read as Latin-1"
    ),
    "utf-8-undeclared": EncodedName(
        "", "王^小东".encode(), "王^小东", "no character set, its text was read as UTF-8"
    ),
    "latin-1-called-utf-8": EncodedName(
        "ISO_IR 192", "Müller^J".encode("latin-1"), "M\N{REPLACEMENT CHARACTER}ller^J", "decode"
    ),
}


@pytest.mark.parametrize(
    "row", core_first(ENCODED_NAMES, lambda row: row.startswith(("utf-8", "gb-")))
)
def test_encoded_name_is_carried_and_said(tmp_path: Path, row: str) -> None:
    """Right, wrong or undeclared: one reading everywhere, and the report says what was guessed."""
    case = ENCODED_NAMES[row]
    name, charset = b"@" * len(case.encoded), ["ISO 2022 IR 100", "ISO 2022 IR 87"]
    headers = chest_headers(PatientName=name.decode(), SpecificCharacterSet=charset)
    write_headers(tmp_path / "source", headers)
    written = "\\".join(charset).encode()
    declared = case.declared.encode().ljust(len(written))
    for file in (tmp_path / "source").iterdir():
        content = file.read_bytes().replace(name, case.encoded)
        assert written in content
        file.write_bytes(content.replace(written, declared))
    done = examine_sources(tmp_path)
    assert_clean(done.verdict)
    for kind in KINDS:
        assert str(done.read(kind).PatientName) == case.read_as
    assert any(case.said in text for text in values(done.read(SR), "121106"))


# ── encodings and multi-frame ────────────────────────────────────────────────────────────────


ENCODINGS = {
    **{uid: SeriesDefects(transfer_syntax_uid=uid) for uid in WRITABLE_SYNTAXES},
    "legacy-converted": SeriesDefects(multi_frame=MultiFrame.LEGACY_CONVERTED),
    "one-uid": SeriesDefects(has_one_sop_instance_uid=True),
}
CORE_ENCODINGS = {JPEG_LOSSLESS_FIRST_ORDER, "legacy-converted", "one-uid"}


@pytest.mark.parametrize("row", core_first(ENCODINGS, lambda row: row in CORE_ENCODINGS))
def test_encoded_series_gives_valid_objects(tmp_path: Path, row: str) -> None:
    """Compressed or not, in one file or in many: screened, and every object is valid."""
    phantom = make_phantom(typical_spec(11, Pattern.NORMAL, rows=SIZE, coverage_mm=180.0))
    write_series(phantom, tmp_path / "source", SyntheticIdentity("encoded"), ENCODINGS[row])
    done = examine_sources(tmp_path)
    assert isinstance(done.screening.outcome, Decision), done.screening.outcome
    assert_clean(done.verdict)


def test_enhanced_ct_gives_valid_objects(tmp_path: Path) -> None:
    """A true Enhanced CT: one instance, its slices cited by frame number."""
    dataset = enhanced_chest()
    write_headers(tmp_path / "source", [dataset])
    done = examine_sources(tmp_path)
    assert isinstance(done.screening.outcome, Decision), done.screening.outcome
    assert_clean(done.verdict)
    segmentation = done.read(SEG)
    frame = segmentation.PerFrameFunctionalGroupsSequence[0]
    image = frame.DerivationImageSequence[0].SourceImageSequence[0]
    assert image.ReferencedSOPInstanceUID == dataset.SOPInstanceUID
    assert 1 <= image.ReferencedFrameNumber <= N_SLICES


def enhanced_chest() -> Dataset:
    """Put the drawn chest into one Enhanced CT instance."""
    slices = chest_headers()
    positions_mm = [float(one.ImagePositionPatient[2]) for one in slices]
    dataset = enhanced_dataset(positions_mm, PatientName="Phantom^Paula", StudyTime="101112")
    dataset.Rows = dataset.Columns = SIZE
    dataset.PixelRepresentation = 1
    dataset.PixelData = b"".join(one.PixelData for one in slices)
    dataset["PixelData"].VR = "OW"
    shared = dataset.SharedFunctionalGroupsSequence[0]
    shared.PixelMeasuresSequence[0].PixelSpacing = [4.0, 4.0]
    shared.PixelMeasuresSequence[0].SliceThickness = SPACING_MM
    shared.PixelValueTransformationSequence[0].RescaleIntercept = "0"
    for frame, one in zip(dataset.PerFrameFunctionalGroupsSequence, slices, strict=True):
        frame.PlanePositionSequence[0].ImagePositionPatient = one.ImagePositionPatient
    return dataset


# ── the gate can fail ────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Mutation:
    """One thing done to a golden object, and who must object."""

    kind: ResultKind
    change: Callable[[Dataset], None]
    validator: str
    words: str  #: in the objection


def delete(keyword: str) -> Callable[[Dataset], None]:
    return lambda document: delattr(document, keyword)


def set_to(keyword: str, value: Any) -> Callable[[Dataset], None]:
    return lambda document: setattr(document, keyword, value)


def change_equipment(keyword: str, value: Any) -> Callable[[Dataset], None]:
    def change(document: Dataset) -> None:
        items = document.ContributingEquipmentSequence
        item = next(
            one for one in items if one.get("ManufacturerModelName") == "lung-segmentation-net"
        )
        setattr(item, keyword, value)

    return change


def change_tree(concept: str, keyword: str, value: Any) -> Callable[[Dataset], None]:
    def change(document: Dataset) -> None:
        setattr(find(document, concept)[0], keyword, value)

    return change


def swap_sides_of_report(document: Dataset) -> None:
    """Let the group of the right lung say left."""
    [side] = find(groups(document)["Right lung"], "272741003")
    side.ConceptCodeSequence[0].CodeValue = "7771000"
    side.ConceptCodeSequence[0].CodeMeaning = "Left"


def swap_sides_of_segments(document: Dataset) -> None:
    """Let the modifiers of both lungs, and nothing else, change places."""
    # A label map counts what is outside as a segment too, which has no side.
    segments = [one for one in document.SegmentSequence if one.SegmentNumber]
    kinds = [one.SegmentedPropertyTypeCodeSequence[0] for one in segments]
    first, second = (one.SegmentedPropertyTypeModifierCodeSequence for one in kinds)
    kinds[0].SegmentedPropertyTypeModifierCodeSequence = second
    kinds[1].SegmentedPropertyTypeModifierCodeSequence = first


def mirror(document: Dataset) -> None:
    """Turn every plane over, as a wrong axis order would."""
    shared = document.SharedFunctionalGroupsSequence[0]
    shared.PlaneOrientationSequence[0].ImageOrientationPatient = [-1, 0, 0, 0, 1, 0]


def remove_evidence(document: Dataset) -> None:
    [study] = document.CurrentRequestedProcedureEvidenceSequence
    for series in study.ReferencedSeriesSequence:
        series.ReferencedSOPSequence = list(series.ReferencedSOPSequence)[:1]


def change_segment(keyword: str, value: Any) -> Callable[[Dataset], None]:
    return lambda document: setattr(document.SegmentSequence[0], keyword, value)


def change_segment_algorithm(document: Dataset) -> None:
    segment = document.SegmentSequence[0]
    segment.SegmentationAlgorithmIdentificationSequence[0].AlgorithmVersion = "9.9"


def change_volume(document: Dataset) -> None:
    [volume] = find(groups(document)["Right lung"], "118565006")
    volume.MeasuredValueSequence[0].NumericValue = 1.5


def shared(document: Dataset) -> Dataset:
    groups_of_all: Dataset = document.SharedFunctionalGroupsSequence[0]
    return groups_of_all


def raise_values(document: Dataset) -> None:
    values = np.frombuffer(document.FloatPixelData, "<f4") + np.float32(2.0)
    document.FloatPixelData = values.tobytes()


def move_frames(document: Dataset) -> None:
    """Put every frame 2 mm above its slice, as a wrong spacing would."""
    for frame in document.PerFrameFunctionalGroupsSequence:
        place = frame.PlanePositionSequence[0]
        x, y, z = map(float, place.ImagePositionPatient)
        place.ImagePositionPatient = [x, y, z + 2.0]


def cite_label_map(document: Dataset) -> None:
    for item in find(document, "121191"):
        item.ReferencedSOPSequence[0].ReferencedSOPClassUID = LABEL_MAP_SEGMENTATION


MUTATIONS = {
    **{
        f"no-{keyword}": Mutation(SR, delete(keyword), "dciodvfy", keyword)
        for keyword in (
            "CompletionFlag",
            "VerificationFlag",
            "ContentDate",
            "PatientID",
            "Modality",
        )
    },
    "no-label-of-segment": Mutation(
        SEG, lambda one: delattr(one.SegmentSequence[0], "SegmentLabel"), "dciodvfy", "SegmentLabel"
    ),
    "no-key-object-title": Mutation(
        ResultKind.KEY_OBJECT_SELECTION, delete("ConceptNameCodeSequence"), "dciodvfy", "Concept"
    ),
    "broken-tree": Mutation(SR, change_tree("111012", "ValueType", "NOTHING"), "dsrdump", "E:"),
    "no-date-of-marks": Mutation(
        ResultKind.PRESENTATION_STATE, delete("PresentationCreationDate"), "dcmpschk", ""
    ),
    "side-of-report": Mutation(SR, swap_sides_of_report, "rules", ""),
    "side-of-segments": Mutation(SEG, swap_sides_of_segments, "rules", "right lung lies"),
    "mirrored-segments": Mutation(SEG, mirror, "rules", "right lung lies"),
    "model-version-of-equipment": Mutation(
        SR, change_equipment("SoftwareVersions", "9.9"), "rules", "differ"
    ),
    "model-version-of-tree": Mutation(
        SR, change_tree("111003", "TextValue", "9.9"), "rules", "differ"
    ),
    "model-version-of-segment": Mutation(SEG, change_segment_algorithm, "rules", "differ"),
    "maker-of-equipment": Mutation(SR, change_equipment("Manufacturer", "X"), "rules", "differ"),
    "no-device-uid": Mutation(SR, change_equipment("DeviceUID", None), "rules", "DeviceUID"),
    "name-of-equipment": Mutation(
        SR, change_equipment("ManufacturerModelName", "X"), "rules", "no equipment"
    ),
    "observer": Mutation(SR, change_tree("121012", "UID", "1.2.3"), "rules", "observer"),
    "no-evidence": Mutation(SR, remove_evidence, "rules", "no evidence"),
    "tracking-uid": Mutation(SEG, change_segment("TrackingUID", "1.2.3"), "rules", "tracking"),
    "volume": Mutation(SR, change_volume, "rules", "volume"),
    "patient-id": Mutation(SR, set_to("PatientID", "P-2"), "rules", "PatientID"),
    "patient-id-seen-by-others": Mutation(SR, set_to("PatientID", "P-2"), "dcentvfy", "PatientID"),
    "replaced-name": Mutation(SR, set_to("PatientName", "????^?"), "rules", "replaced"),
    "verified": Mutation(SR, set_to("VerificationFlag", "VERIFIED"), "rules", "VERIFIED"),
    "final": Mutation(SR, set_to("PreliminaryFlag", "FINAL"), "rules", "FINAL"),
    "certainty": Mutation(
        SR,
        lambda one: setattr(find(one, "111012")[0].MeasuredValueSequence[0], "NumericValue", 140),
        "rules",
        "certainty",
    ),
    "no-date-of-pictures": Mutation(
        ResultKind.OVERLAY, delete("ConversionType"), "dciodvfy", "ConversionType"
    ),
    "no-title-of-page": Mutation(
        ResultKind.ENCAPSULATED_PDF,
        delete("MIMETypeOfEncapsulatedDocument"),
        "dciodvfy",
        "MIMETypeOfEncapsulatedDocument",
    ),
    "no-mapping-of-map": Mutation(
        MAP, lambda one: delattr(shared(one), "RealWorldValueMappingSequence"), "rules", "mapping"
    ),
    "no-quantity-of-map": Mutation(
        MAP,
        lambda one: delattr(
            shared(one).RealWorldValueMappingSequence[0], "QuantityDefinitionSequence"
        ),
        "rules",
        "no quantity",
    ),
    "values-of-map": Mutation(MAP, raise_values, "rules", "leave the mapped range"),
    "no-content-label-of-map": Mutation(MAP, delete("ContentLabel"), "dciodvfy", "ContentLabel"),
    "frames-of-map": Mutation(MAP, move_frames, "rules", "from the slice that it cites"),
    "frames-of-segments": Mutation(SEG, move_frames, "rules", "from the slice that it cites"),
    "device-of-map": Mutation(
        MAP, change_equipment("SoftwareVersions", "9.9"), "rules", "stands for"
    ),
    "side-of-label-map": Mutation(
        ResultKind.LABEL_MAP, swap_sides_of_segments, "rules", "right lung lies"
    ),
    "label-map-in-report": Mutation(SR, cite_label_map, "rules", "label map is cited"),
    "no-tracking-identifier": Mutation(
        SR, change_tree("112039", "TextValue", ""), "rules", "Tracking Identifier"
    ),
}


@pytest.fixture(scope="module")
def original(golden: Path) -> Path:
    return golden / "covid-19"


@pytest.mark.parametrize("name", MUTATIONS)
def test_gate_catches_a_mutation(original: Path, tmp_path: Path, name: str) -> None:
    """One wrong thing in an otherwise golden set is named by the one who must see it."""
    mutation = MUTATIONS[name]
    kept = {f"{kind.value}.dcm" for kind in (SR, SEG, mutation.kind)}
    for file in original.rglob("*.dcm"):
        if file.parent.name == "source" or file.name in kept:
            (tmp_path / f"{file.parent.name}-{file.name}").write_bytes(file.read_bytes())
    [target] = tmp_path.glob(f"covid-19-{mutation.kind.value}.dcm")
    with config.disable_value_validation():
        document = dcmread(target)
        mutation.change(document)
        dcmwrite(target, document)
    # The others would only take time: who must object is named.
    verdict = check_folder(tmp_path, lambda name: only(mutation.validator, name))
    assert any(
        validator == mutation.validator and mutation.words in text
        for _, validator, text in verdict.findings
    ), verdict.findings


def only(validator: str, name: str) -> Path | None:
    """Find no program but the one of a validator; our own rules need none."""
    return find_program(name) if name == validator else None


def test_gate_catches_a_new_model_under_an_old_device_uid(golden: Path, tmp_path: Path) -> None:
    """A model that changed everywhere but in its Device UID is told from the run before."""
    for case in ("covid-19", "reprocess"):
        file = golden / case / "sr.dcm"
        (tmp_path / f"{case}.dcm").write_bytes(file.read_bytes())
    assert check_folder(tmp_path).findings == ()
    later = tmp_path / "reprocess.dcm"
    document = dcmread(later)
    change_equipment("SoftwareVersions", "1.1.0")(document)
    for group in find(document, "125007"):
        names = [one.TextValue for one in find(group, "111001")]
        for version in find(group, "111003"):
            version.TextValue = "1.1.0" if "lung-segmentation-net" in names else version.TextValue
    document.save_as(later)
    texts = [text for _, _, text in check_folder(tmp_path).findings]
    assert texts
    assert all("stands for lung-segmentation-net 1.0.0" in text for text in texts)


def test_gate_catches_a_cut_file(original: Path, tmp_path: Path) -> None:
    """A file that ends too early is found, not skipped."""
    whole = (original / "sr.dcm").read_bytes()
    (tmp_path / "cut.dcm").write_bytes(whole[: len(whole) // 2])
    assert not check_folder(tmp_path).is_clean


def test_gate_catches_a_lost_source(original: Path, tmp_path: Path) -> None:
    """A cited slice that its own series does not hold is a dangling reference."""
    for file in original.rglob("*.dcm"):
        (tmp_path / f"{file.parent.name}-{file.name}").write_bytes(file.read_bytes())
    (tmp_path / "source-0003.dcm").unlink()
    texts = [text for _, validator, text in check_folder(tmp_path).findings if validator == "rules"]
    assert any("its series does not hold" in text for text in texts)
