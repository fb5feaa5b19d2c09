"""The demo: a whole node and a test PACS on this machine, real C-STORE in both directions."""

from __future__ import annotations

import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydicom import dcmread

from screener.audit.database import Database
from screener.audit.queries import RunStatus, study_status
from screener.daemon.result_store import OVERLAY_FILE, folder_of_run
from screener.deliver.scu import DeliverableObject, store_objects
from screener.demo.node import RunningNode, running_node, settings_text
from screener.demo.pacs import DemoPacs, StoredFile
from screener.demo.studies import DemoStudy, make_studies, read_studies
from screener.domain import DimseNode, Outcome, ResultKind
from screener.errors import DemoFailed

if TYPE_CHECKING:
    from collections.abc import Sequence

Track = Callable[..., Iterable[Any]]
Say = Callable[[str], None]

SENDER_AE_TITLE = "DEMOSCANNER"
PACS_AE_TITLE = "TESTPACS"
#: Longest wait for the next report, in seconds.
REPORT_LIMIT_S = 600.0
#: How often the demo looks whether the node still lives while it waits, in seconds.
LOOK_EVERY_S = 0.5

#: What came back, by SOP class, and the name it gets in the output folder.
FILE_NAMES = {
    "1.2.840.10008.5.1.4.1.1.88.34": "sr.dcm",
    "1.2.840.10008.5.1.4.1.1.66.4": "seg.dcm",
    "1.2.840.10008.5.1.4.1.1.88.59": "ko.dcm",
    "1.2.840.10008.5.1.4.1.1.7.4": "overlay.dcm",
    "1.2.840.10008.5.1.4.1.1.104.1": "pdf.dcm",
    "1.2.840.10008.5.1.4.1.1.11.1": "gsps.dcm",
}
REPORT_CLASS_UID = "1.2.840.10008.5.1.4.1.1.88.34"


@dataclass(frozen=True, slots=True)
class DemoResult:
    """What came back for one study."""

    label: str
    study_instance_uid: str
    n_instances_sent: int
    result: str  #: class with certainty, or why not analysed
    is_not_analysed: bool
    has_report: bool  #: the test PACS holds the Structured Report
    folder: Path
    files: tuple[str, ...]  #: names below the folder
    note: str  #: what the report says is missing from it, empty where it is complete


@dataclass(frozen=True, slots=True)
class DemoOutcome:
    """What the demo showed."""

    results: tuple[DemoResult, ...]
    out: Path
    seconds: float

    columns = ("study", "images sent", "result", "came back", "where")

    @property
    def is_complete(self) -> bool:
        """Whether a report came back for every study."""
        return all(result.has_report for result in self.results)

    @property
    def is_all_not_analysed(self) -> bool:
        """Whether no study got a decision."""
        return all(result.is_not_analysed for result in self.results)

    def rows(self) -> list[tuple[object, ...]]:
        """Give the rows of the table."""
        return [
            (
                one.label,
                one.n_instances_sent,
                f"{one.result}\n{one.note}".strip(),
                "\n".join(one.files),
                f"{one.folder}/",
            )
            for one in self.results
        ]

    def closing_words(self) -> str:
        """Say where to look and what this was not."""
        pictures = [one.folder / OVERLAY_FILE for one in self.results if OVERLAY_FILE in one.files]
        lines = [f"Finished in {self.seconds:.0f} s; every process of the demo has ended."]
        if pictures:
            lines += ["Pictures to look at:", *(f"  {path}" for path in pictures)]
        lines.append("Reports (sr.dcm) open in any DICOM viewer. Not a medical device; unverified.")
        return "\n".join(lines)


def run_demo(folder: Path | None, out: Path, *, track: Track, say: Say) -> DemoOutcome:
    """Start a node and a test PACS, send studies, wait for their reports, stop everything.

    Parameters
    ----------
    folder
        Somebody's own studies; None makes four synthetic ones.
    out
        What came back is copied here, one folder per study.
    track
        Shows progress while it hands on what it is given.
    say
        Tells a person what happens.

    Raises
    ------
    DemoFailed
        The node did not start, ended by itself, or a report did not come in time.
    WrongUse
        The folder holds no study.
    """
    started_s = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="screener-demo-") as temporary:
        work = Path(temporary)
        source = work / "studies"
        studies = read_studies(folder, source) if folder else make_studies(source, track)
        with DemoPacs(work / "pacs", PACS_AE_TITLE) as pacs, _node(work, pacs.port) as node:
            say(f"The node listens on 127.0.0.1:{node.port}, the test PACS on {pacs.port}.")
            for study in track(studies, description="sending by C-STORE"):
                _send(study, node)
            _wait_for_reports(studies, node, pacs, track)
            results = [_collect(study, node, pacs, out) for study in studies]
        _keep_log(work, out)
    return DemoOutcome(tuple(results), out, time.monotonic() - started_s)


@contextmanager
def _node(work: Path, pacs_port: int) -> Iterator[RunningNode]:
    settings_file = work / "screener.toml"
    settings_file.write_text(
        settings_text(work / "data", pacs_port, SENDER_AE_TITLE), encoding="utf-8"
    )
    with running_node(settings_file, work / "screener.log") as node:
        yield node


def _send(study: DemoStudy, node: RunningNode) -> None:
    target = DimseNode(
        name="the node",
        ae_title=node.settings.node.ae_title,
        host="127.0.0.1",
        port=node.port,
        calling_ae_title=SENDER_AE_TITLE,
    )
    images = [
        # Kinds matter to results only; an image that is not taken is an error below.
        DeliverableObject(ResultKind.OVERLAY, one.sop_class_uid, one.sop_instance_uid, one.path)
        for one in study.study.instances
    ]
    answers = store_objects(target, images)
    refused = [one for one in answers if one.outcome is not Outcome.STORED]
    if refused:
        raise DemoFailed(
            f"{study.label}: {len(refused)} of {len(answers)} images were not taken; "
            f"the first: {refused[0].comment}"
        )


def _wait_for_reports(
    studies: Sequence[DemoStudy], node: RunningNode, pacs: DemoPacs, track: Track
) -> None:
    waiting = {study.study.study_instance_uid for study in studies}

    def arrivals() -> Iterator[str]:
        while waiting:
            uid = _next_report(waiting, node, pacs)
            waiting.remove(uid)
            yield uid

    for _ in track(arrivals(), total=len(waiting), description="waiting for reports"):
        pass


def _next_report(waiting: set[str], node: RunningNode, pacs: DemoPacs) -> str:
    pause = threading.Event()
    deadline_s = time.monotonic() + REPORT_LIMIT_S
    while time.monotonic() < deadline_s:
        node.check_alive()
        arrived = {
            one.study_instance_uid
            for one in pacs.received()
            if one.sop_class_uid == REPORT_CLASS_UID
        }
        for uid in waiting & arrived:
            if _is_final(node, uid):
                return uid
        pause.wait(LOOK_EVERY_S)
    raise DemoFailed(
        f"{len(waiting)} reports did not come within {REPORT_LIMIT_S:.0f} s; "
        "look into the log of the node"
    )


def _is_final(node: RunningNode, study_instance_uid: str) -> bool:
    """Whether the database, too, says that the destination has everything."""
    run = _run_of(node, study_instance_uid)
    return run is not None and run.delivered_at is not None


def _run_of(node: RunningNode, study_instance_uid: str) -> RunStatus | None:
    database = Database(node.settings.database_url)
    try:
        status = study_status(database, study_instance_uid)
    finally:
        database.dispose()
    return status.run if status else None


def _collect(study: DemoStudy, node: RunningNode, pacs: DemoPacs, out: Path) -> DemoResult:
    uid = study.study.study_instance_uid
    target = out / study.label
    target.mkdir(parents=True, exist_ok=True)
    names = [_copy(one, target) for one in _latest(pacs.received(), uid)]
    run = _run_of(node, uid)
    if run is not None:
        overlay = folder_of_run(node.settings.results_path, run.run_id) / OVERLAY_FILE
        if overlay.exists():
            shutil.copyfile(overlay, target / OVERLAY_FILE)
            names.append(OVERLAY_FILE)
    return DemoResult(
        label=study.label,
        study_instance_uid=uid,
        n_instances_sent=len(study.study.instances),
        result=_words(run),
        is_not_analysed=run is not None and run.not_analysed_reason is not None,
        has_report=FILE_NAMES[REPORT_CLASS_UID] in names,
        folder=target,
        files=tuple(names),
        note=_note_of(target / FILE_NAMES[REPORT_CLASS_UID]),
    )


def _note_of(report: Path) -> str:
    """Read why a report is partial (PS3.3 C.17.2, Completion Flag Description)."""
    if not report.exists():
        return ""
    header = dcmread(report, specific_tags=["CompletionFlagDescription"])
    return str(header.get("CompletionFlagDescription", ""))


def _latest(files: Iterable[StoredFile], study_instance_uid: str) -> list[StoredFile]:
    """Give the result objects of a study, one per SOP class, the last that came."""
    by_class = {
        one.sop_class_uid: one
        for one in files
        if one.study_instance_uid == study_instance_uid and one.sop_class_uid in FILE_NAMES
    }
    return sorted(by_class.values(), key=lambda one: list(FILE_NAMES).index(one.sop_class_uid))


def _copy(one: StoredFile, target: Path) -> str:
    name = FILE_NAMES[one.sop_class_uid]
    shutil.copyfile(one.path, target / name)
    return name


def _words(run: RunStatus | None) -> str:
    if run is None:
        return "no run"
    if run.patient_class is not None and run.certainty is not None:
        return f"{run.patient_class.value} ({run.certainty:.0%})"
    if run.not_analysed_reason is not None:
        return f"not analysed, because {run.not_analysed_reason}"
    return run.state.value


def _keep_log(work: Path, out: Path) -> None:
    out.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(work / "screener.log", out / "screener.log")
