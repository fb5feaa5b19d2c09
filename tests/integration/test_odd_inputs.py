"""Odd inputs through the whole journey: C-STORE in, valid objects or a named refusal out.

Each series is sent to a listening node as its files are, screened from the ledger by stand-in
models, and what was stored goes through the gate beside its sources. Covers every accepted transfer
syntax that can be made here, multi-frame CT of several shapes, several recordings of one place,
and real series. Does not cover: what real models find.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom import config, dcmread, dcmwrite
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import UID, ExplicitVRBigEndian, ExplicitVRLittleEndian

from screener.audit.ledger import complete_study, load_study
from screener.audit.queries import RunStatus, list_studies, run_status
from screener.audit.story import why
from screener.classify import ClassifyRules
from screener.conformance import Verdict, check_folder
from screener.daemon.execution import execute_next_run
from screener.daemon.site import open_site, utc_now
from screener.deliver.scu import DeliverableObject, store_objects
from screener.demo.pixel_encoding import WRITABLE_SYNTAXES, save
from screener.domain import (
    CompletionReason,
    DimseNode,
    ModelIdentity,
    NotAnalysedReason,
    Outcome,
    ResultKind,
    StudyState,
    VotePolicy,
    VoteRule,
)
from screener.journey import Tools
from screener.settings import Settings
from tests.chest_models import MeanHuClassifier, ThresholdSegmenter
from tests.ct_factories import real_data
from tests.gate_factories import N_SLICES, SIZE, chest_headers
from tests.htj2k_planes import WITH_LUNGS, WITHOUT_LUNGS
from tests.integration.conftest import StartListening
from tests.integration.receivers import settings_for
from tests.integration.test_conformance_matrix import assert_clean, enhanced_chest
from tests.sr_reader import find, value_of

pytestmark = [pytest.mark.integration, pytest.mark.conformance]

HTJ2K_LOSSLESS = "1.2.840.10008.1.2.4.201"
HTJ2K_LOSSLESS_RPCL = "1.2.840.10008.1.2.4.202"
KINDS = (
    ResultKind.STRUCTURED_REPORT,
    ResultKind.SEGMENTATION,
    ResultKind.KEY_OBJECT_SELECTION,
    ResultKind.OVERLAY,
)


@dataclass(frozen=True, slots=True)
class Journey:
    """Where a study that was sent has got to."""

    run: RunStatus
    story: str
    folder: Path  #: sources in `source`, results in `results`

    def check(self) -> Verdict:
        return check_folder(self.folder)

    def read(self, kind: ResultKind) -> Dataset | None:
        """Give a result, None where there is none of this kind."""
        found = list((self.folder / "results").glob(f"{kind.value}-*.dcm"))
        with config.disable_value_validation():
            return dcmread(found[0]) if found else None

    @property
    def lung_frames(self) -> list[tuple[str, int | None]]:
        """Give what the frames of the segmentation cite: instance and frame, in their order."""
        document = self.read(ResultKind.SEGMENTATION)
        assert document is not None
        images = [
            one.DerivationImageSequence[0].SourceImageSequence[0]
            for one in document.PerFrameFunctionalGroupsSequence
        ]
        return [
            (str(one.ReferencedSOPInstanceUID), one.get("ReferencedFrameNumber")) for one in images
        ]


class SendAndScreen:
    """Sends the files of a folder and screens what came of them."""

    def __init__(self, folder: Path, start: StartListening) -> None:
        self._folder = folder / "checked"
        self.source = self._folder / "source"
        self.source.mkdir(parents=True)
        self._settings: Settings = settings_for(
            folder, 1, confirm="none", kinds=tuple(kind.value for kind in KINDS)
        )
        start(self._settings)

    def send(self) -> list[Outcome]:
        """Send every file of the source, each in its own transfer syntax."""
        files = sorted(one for one in self.source.rglob("*") if one.is_file())
        node = self._settings.node
        target = DimseNode("node", node.ae_title, "127.0.0.1", node.port, "TESTPACS")
        return [one.outcome for one in store_objects(target, [_as_sent(one) for one in files])]

    def screen(self) -> Journey:
        """Complete the only study, work on its run, and lay out what was stored."""
        site = open_site(self._settings)
        (study,) = list_studies(site.database)
        assert len(load_study(site.database, study.study_instance_uid).instances) > 0
        run_id = complete_study(
            site.database,
            study.study_instance_uid,
            StudyState.VERIFIED,
            CompletionReason.FORCED,
            utc_now(),
        )
        assert run_id is not None
        assert execute_next_run(site, _tools())
        run = run_status(site.database, run_id)
        assert run is not None
        shutil.copytree(self._settings.results_path / run_id, self._folder / "results")
        story = str(why(site.database, study.study_instance_uid))
        return Journey(run, story, self._folder)


def _as_sent(path: Path) -> DeliverableObject:
    meta = dcmread(path, specific_tags=[], stop_before_pixels=True).file_meta
    return DeliverableObject(
        ResultKind.OVERLAY,
        str(meta.MediaStorageSOPClassUID),
        str(meta.MediaStorageSOPInstanceUID),
        path,
    )


def _tools() -> Tools:
    return Tools(
        segmenter=ThresholdSegmenter(),
        classifier=MeanHuClassifier(),
        models=tuple(
            ModelIdentity(f"{task}-net", "1.0.0", task, digest * 64, "cpu")
            for task, digest in (("lung-segmentation", "a"), ("slice-classification", "b"))
        ),
        policy=VotePolicy("test", VoteRule.AFFECTED_FRACTION),
        classification=ClassifyRules(least_lung_area_mm2=1500.0),
    )


@pytest.fixture
def node(tmp_path: Path, listening: StartListening) -> SendAndScreen:
    """Run a node; put files into `source`, then send and screen."""
    return SendAndScreen(tmp_path, listening)


def write(path: Path, dataset: Dataset, transfer_syntax_uid: str = ExplicitVRLittleEndian) -> None:
    """Write a data set as it is, pixels in the syntax they already have."""
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = UID(transfer_syntax_uid)
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    with config.disable_value_validation():
        dcmwrite(path, dataset, enforce_file_format=True)


def assert_screened(journey: Journey) -> None:
    """There is a decision, all four objects, and no validator that minds."""
    assert journey.run.not_analysed_reason is None
    assert journey.run.patient_class is not None
    assert all(journey.read(kind) is not None for kind in KINDS)
    assert_clean(journey.check())


# ── transfer syntaxes ────────────────────────────────────────────────────────────────────────


def plain_slices(source: Path, transfer_syntax_uid: str) -> None:
    for index, one in enumerate(chest_headers()):
        save(one, source / f"{index:03d}.dcm", transfer_syntax_uid)


def htj2k_slices(source: Path, transfer_syntax_uid: str) -> None:
    """Slices of a body whose two lungs are rectangles, the ends without."""
    for index, one in enumerate(chest_headers()):
        has_lungs = 2 <= index < N_SLICES - 2
        one.PixelRepresentation, one.BitsStored, one.HighBit = 0, 16, 15
        one.RescaleIntercept, one.RescaleSlope = "-1024", "1"
        one.PixelData = encapsulate([WITH_LUNGS if has_lungs else WITHOUT_LUNGS])
        one["PixelData"].VR = "OB"
        one["PixelData"].is_undefined_length = True
        write(source / f"{index:03d}.dcm", one, transfer_syntax_uid)


SINGLE_FRAME: dict[str, Callable[[Path, str], None]] = {
    **dict.fromkeys(WRITABLE_SYNTAXES, plain_slices),
    HTJ2K_LOSSLESS: htj2k_slices,
    HTJ2K_LOSSLESS_RPCL: htj2k_slices,
}
#: What nothing else in the suite decodes; the rest is quick, too, but not all together.
CORE = {HTJ2K_LOSSLESS}


@pytest.mark.parametrize(
    "syntax",
    [one if one in CORE else pytest.param(one, marks=pytest.mark.slow) for one in SINGLE_FRAME],
)
def test_slices_in_every_syntax_are_screened(node: SendAndScreen, syntax: str) -> None:
    """Whatever a scanner compresses with: the same journey, valid objects, every slice cited."""
    SINGLE_FRAME[syntax](node.source, syntax)
    assert set(node.send()) == {Outcome.STORED}
    journey = node.screen()
    assert_screened(journey)
    sent = {str(dcmread(one, stop_before_pixels=True).SOPInstanceUID) for one in _files(node)}
    assert {uid for uid, _ in journey.lung_frames} <= sent


def _files(node: SendAndScreen) -> list[Path]:
    return sorted(node.source.iterdir())


def test_big_endian_is_refused_by_name(node: SendAndScreen) -> None:
    """The retired encoding gets no presentation context: the sender is told, nothing is kept."""
    one = chest_headers()[0]
    one.PixelData = np.frombuffer(one.PixelData, "<i2").astype(">i2").tobytes()
    write(node.source / "0.dcm", one, ExplicitVRBigEndian)
    assert node.send() == [Outcome.SKIPPED]


# ── multi-frame ──────────────────────────────────────────────────────────────────────────────


def compressed(syntax: str) -> Callable[[Path], None]:
    """Write one Enhanced CT whose frames are compressed one by one."""

    def make(source: Path) -> None:
        save(enhanced_chest(), source / "0.dcm", syntax)

    return make


def htj2k_frames(source: Path) -> None:
    dataset = enhanced_chest()
    dataset.PixelRepresentation, dataset.BitsStored, dataset.HighBit = 0, 16, 15
    shared = dataset.SharedFunctionalGroupsSequence[0]
    shared.PixelValueTransformationSequence[0].RescaleIntercept = "-1024"
    inner = [WITH_LUNGS] * (N_SLICES - 4)
    ends = [WITHOUT_LUNGS] * 2
    dataset.PixelData = encapsulate([*ends, *inner, *ends])
    dataset["PixelData"].VR = "OB"
    dataset["PixelData"].is_undefined_length = True
    write(source / "0.dcm", dataset, HTJ2K_LOSSLESS)


def reversed_frames(source: Path) -> None:
    """The first frame is the most cranial."""
    dataset = enhanced_chest()
    _reorder(dataset, list(range(N_SLICES))[::-1])
    write(source / "0.dcm", dataset)


def concatenation(source: Path) -> None:
    """One volume in two instances (PS3.3 C.7.6.16.2.2.4)."""
    for part, frames in enumerate((range(10), range(10, N_SLICES))):
        dataset = enhanced_chest()
        _reorder(dataset, list(frames))
        dataset.SOPInstanceUID = f"{dataset.SOPInstanceUID}.{part + 1}"
        dataset.ConcatenationUID = "2.25.7"
        dataset.InConcatenationNumber = part + 1
        dataset.ConcatenationFrameOffsetNumber = frames[0]
        write(source / f"{part}.dcm", dataset)


def with_localizer_frame(source: Path) -> None:
    """A scout among the frames is left out, and the numbers of the others stay."""
    dataset = enhanced_chest()
    _reorder(dataset, [0, *range(N_SLICES)])
    first = dataset.PerFrameFunctionalGroupsSequence[0]
    first.CTImageFrameTypeSequence[0].FrameType = ["ORIGINAL", "PRIMARY", "LOCALIZER", "NONE"]
    write(source / "0.dcm", dataset)


def everything_per_frame(source: Path) -> None:
    """Orientation, spacing and rescale stand in each frame, none is shared."""
    dataset = enhanced_chest()
    shared = dataset.SharedFunctionalGroupsSequence[0]
    for frame in dataset.PerFrameFunctionalGroupsSequence:
        frame.update(_copied(shared))
    dataset.SharedFunctionalGroupsSequence = [Dataset()]
    write(source / "0.dcm", dataset)


def _reorder(dataset: Dataset, frames: list[int]) -> None:
    """Keep these frames in this order, in place."""
    groups = list(dataset.PerFrameFunctionalGroupsSequence)
    pixels = np.frombuffer(dataset.PixelData, "<i2").reshape(-1, SIZE, SIZE)
    dataset.PerFrameFunctionalGroupsSequence = [_copied(groups[one]) for one in frames]
    dataset.PixelData = pixels[frames].tobytes()
    dataset.NumberOfFrames = len(frames)


def _copied(dataset: Dataset) -> Dataset:
    return Dataset.from_json(dataset.to_json_dict())


MULTI_FRAME: dict[str, Callable[[Path], None]] = {
    "rle": compressed("1.2.840.10008.1.2.5"),
    "jpeg-ls": compressed("1.2.840.10008.1.2.4.80"),
    "jpeg-2000": compressed("1.2.840.10008.1.2.4.90"),
    "jpeg-lossless": compressed("1.2.840.10008.1.2.4.70"),
    "htj2k": htj2k_frames,
    "reversed": reversed_frames,
    "concatenation": concatenation,
    "localizer-frame": with_localizer_frame,
    "per-frame": everything_per_frame,
}
CORE_MULTI_FRAME = {"rle", "concatenation"}


@pytest.mark.parametrize(
    "row",
    [
        one if one in CORE_MULTI_FRAME else pytest.param(one, marks=pytest.mark.slow)
        for one in MULTI_FRAME
    ],
)
def test_frames_are_screened_and_cited(node: SendAndScreen, row: str) -> None:
    """Each slice of the result cites the frame that lies where it does."""
    MULTI_FRAME[row](node.source)
    assert set(node.send()) == {Outcome.STORED}
    journey = node.screen()
    assert_screened(journey)
    assert_cited_where_they_lie(journey, _files(node))


def assert_cited_where_they_lie(journey: Journey, files: list[Path]) -> None:
    """The frame that is cited has the position of the frame that cites it."""
    places = {}
    for source in (dcmread(one, stop_before_pixels=True) for one in files):
        groups = source.PerFrameFunctionalGroupsSequence
        for number, group in enumerate(groups, start=1):
            position = group.PlanePositionSequence[0].ImagePositionPatient
            places[source.SOPInstanceUID, number] = [float(value) for value in position]
    document = journey.read(ResultKind.SEGMENTATION)
    assert document is not None
    frames = document.PerFrameFunctionalGroupsSequence
    for frame, cited in zip(frames, journey.lung_frames, strict=True):
        position = frame.PlanePositionSequence[0].ImagePositionPatient
        assert [float(value) for value in position] == places[cited]


def test_frames_without_their_groups_are_refused_by_name(node: SendAndScreen) -> None:
    """Fewer groups than frames: nobody knows which is which, and the report says so."""
    dataset = enhanced_chest()
    del dataset.PerFrameFunctionalGroupsSequence[-1]
    write(node.source / "0.dcm", dataset)
    node.send()
    assert_refused(node.screen(), NotAnalysedReason.UNREADABLE_PIXELS)


def assert_refused(journey: Journey, reason: NotAnalysedReason) -> None:
    """The report says why, and is valid; there is no segmentation."""
    assert journey.run.not_analysed_reason == reason.value
    assert journey.read(ResultKind.STRUCTURED_REPORT) is not None
    assert journey.read(ResultKind.SEGMENTATION) is None
    # Warnings about what real sources have so: codes of their own, values that are empty there.
    assert [
        (validator, text)
        for _, validator, text in journey.check().findings
        if not text.startswith("Warning")
    ] == []


# ── several recordings of one place ──────────────────────────────────────────────────────────


def two_phases(dataset: Dataset, *, is_by_position: bool) -> None:
    """Record every place twice, in place; the second recording is the one to be used."""
    order = [n % N_SLICES for n in range(2 * N_SLICES)]
    phases = [n // N_SLICES for n in range(2 * N_SLICES)]
    if is_by_position:
        order, phases = sorted(order), [n % 2 for n in range(2 * N_SLICES)]
    _reorder(dataset, order)
    for frame, phase in zip(dataset.PerFrameFunctionalGroupsSequence, phases, strict=True):
        content = Dataset()
        content.FrameAcquisitionNumber = 1
        content.TemporalPositionIndex = phase + 1
        frame.FrameContentSequence = [content]


@pytest.mark.parametrize(
    "is_by_position",
    [
        pytest.param(False, id="phase-major", marks=pytest.mark.slow),
        pytest.param(True, id="position-major"),
    ],
)
def test_one_phase_of_an_enhanced_ct_is_used(node: SendAndScreen, is_by_position: bool) -> None:
    """All slices are of one temporal position, and the report says that there was another."""
    dataset = enhanced_chest()
    two_phases(dataset, is_by_position=is_by_position)
    write(node.source / "0.dcm", dataset)
    node.send()
    journey = node.screen()
    assert_screened(journey)
    groups = dataset.PerFrameFunctionalGroupsSequence
    used = {
        groups[int(number or 0) - 1].FrameContentSequence[0].TemporalPositionIndex
        for _, number in journey.lung_frames
    }
    assert used == {2}
    assert f"{N_SLICES} left out: 2 recordings of the same place, temporal position 2" in (
        journey.story
    )


REPEATS: dict[str, Callable[[int], dict[str, Any]]] = {
    "echo": lambda phase: {"EchoNumbers": phase},
    "temporal-position": lambda phase: {"TemporalPositionIdentifier": phase},
    "energy": lambda phase: {"KVP": str(60 + 40 * phase)},
    "numbers-alone": lambda _: {},
}


@pytest.mark.parametrize(
    "row",
    [
        one if one == "numbers-alone" else pytest.param(one, marks=pytest.mark.slow)
        for one in REPEATS
    ],
)
def test_slices_of_one_recording_are_used(node: SendAndScreen, row: str) -> None:
    """Echoes, phases, energies in one series, sent in no order: never a mixture of both."""
    for phase in (1, 2):
        for index, one in enumerate(chest_headers(**REPEATS[row](phase))):
            one.InstanceNumber = N_SLICES * (phase - 1) + index + 1
            one.SOPInstanceUID = f"{one.SOPInstanceUID}.{phase}"
            # Names put the two recordings in turn, and every second pair the other way round.
            write(node.source / f"{index:03d}-{(phase + index) % 2}.dcm", one)
    node.send()
    journey = node.screen()
    assert_screened(journey)
    assert {uid.rpartition(".")[2] for uid, _ in journey.lung_frames} == {"2"}


# ── real series ──────────────────────────────────────────────────────────────────────────────


@pytest.mark.slow
@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("odd/highdicom/ct_image.dcm", NotAnalysedReason.TOO_FEW_SLICES),
        ("odd/dcmqi/legacy_converted_enhanced_ct.dcm", NotAnalysedReason.TOO_FEW_SLICES),
        ("odd/dcm_qa_ct/GE_head_tilt", NotAnalysedReason.GANTRY_TILTED),
        ("odd/dcm_qa_ct/philips_localizer.dcm", NotAnalysedReason.LOCALIZER_ONLY),
        ("nysbu/A046441_coronal_19010101-43.dcm", NotAnalysedReason.NOT_AXIAL),
    ],
)
def test_real_oddity_is_refused_by_name(
    node: SendAndScreen, path: str, reason: NotAnalysedReason
) -> None:
    """Sent as published: a valid report that says why it was not analysed."""
    found = real_data("dicom", path)
    for one in sorted(found.rglob("*.dcm")) if found.is_dir() else [found]:
        shutil.copy(one, node.source / one.name)
    assert set(node.send()) == {Outcome.STORED}
    assert_refused(node.screen(), reason)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["CAP_cap002", "NORMAL_normal001"])
def test_real_series_says_what_its_identifiers_allow(node: SendAndScreen, name: str) -> None:
    """Without instance and frame-of-reference UIDs no slice and no place can be named.

    Then there is a partial report, with pictures, that says why it has no segmentation. The same
    series with its UIDs has everything.
    """
    for index, file in enumerate(sorted(real_data("dicom", "ctmd", name).iterdir())):
        with config.disable_value_validation():
            dataset = dcmread(file)
            meta = dataset.file_meta
            meta.MediaStorageSOPClassUID = dataset.SOPClassUID
            # Its sender must name it in the command, whatever the data set says.
            meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID or f"2.25.{index + 1}"
            dcmwrite(node.source / file.name, dataset)
    assert set(node.send()) == {Outcome.STORED}
    journey = node.screen()
    report = journey.read(ResultKind.STRUCTURED_REPORT)
    assert report is not None
    assert journey.run.not_analysed_reason is None
    assert journey.read(ResultKind.OVERLAY) is not None
    has_place = journey.read(ResultKind.SEGMENTATION) is not None
    assert has_place == (name == "NORMAL_normal001")
    if not has_place:
        assert report.CompletionFlag == "PARTIAL"
        comments = " ".join(value_of(one) for one in find(report, "121106"))
        assert "no Frame of Reference UID" in comments
