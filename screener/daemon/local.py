"""``screener screen DIR``: the whole journey in this process; no node, broker or database.

What this screens is the same as in the daemon: the same pipeline, models, settings and report.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from screener.assemble.folder import read_folder
from screener.audit.plain import to_plain
from screener.daemon.result_store import OVERLAY_FILE, store_results
from screener.daemon.site import utc_now
from screener.daemon.tools import open_tools, report_options, result_digest
from screener.domain import (
    Decision,
    NotAnalysed,
    NotAnalysedReason,
    RunIdentity,
    RunReason,
    Screening,
    SeriesRanking,
    SpooledStudy,
)
from screener.errors import Permanent, WrongUse
from screener.journey import PIPELINE
from screener.pipeline import screen_study, write_results
from screener.version import VERSION

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from screener.journey import Tools
    from screener.settings import Settings


@dataclass(frozen=True, slots=True)
class LocalScreening:
    """One study of a folder, screened; or the folder in which no study was."""

    study_instance_uid: str
    screening: Screening | None
    nothing_because: NotAnalysed | None  #: where there is no screening
    failure: str | None  #: a permanent error: no result at all
    files: tuple[Path, ...]  #: what was written
    ignored: tuple[tuple[Path, str], ...]  #: files of the folder that are no instances, and why

    @property
    def outcome(self) -> Decision | NotAnalysed | None:
        """The decision, or why there is none; None where screening failed."""
        return self.screening.outcome if self.screening else self.nothing_because

    @property
    def is_not_analysed(self) -> bool:
        """Whether the honest answer is that there is no decision."""
        return isinstance(self.outcome, NotAnalysed)

    @property
    def has_failed(self) -> bool:
        """Whether an error left no result."""
        return self.failure is not None

    def text(self) -> str:
        """Say it for people, in a few lines."""
        lines = [f"Study {self.study_instance_uid}" if self.study_instance_uid else "No study"]
        outcome = self.outcome
        if self.failure is not None:
            lines.append(f"  FAILED: {self.failure}")
        elif isinstance(outcome, Decision):
            lines.append(f"  {outcome.patient_class.value}, certainty {outcome.certainty:.0%}")
            lines.append(f"  {outcome.explanation}")
        elif outcome is not None:
            lines.append(f"  not analysed, because {outcome.reason.value}: {outcome.detail}")
        if self.screening:
            lines += [f"  source: {defect.detail}" for defect in self.screening.defects]
        lines += [f"  {path}" for path in self.files]
        lines.append("  Not a medical device; unverified.")
        return "\n".join(lines)


def screen_folder(
    settings: Settings,
    folder: Path,
    out: Path | None,
    track: Callable[..., Iterable[SpooledStudy]],
) -> list[LocalScreening]:
    """Screen every study below a folder.

    Parameters
    ----------
    folder
        Looked through with all its subfolders; file names do not matter.
    out
        Results are written here, one folder per study; None writes nothing.
    track
        Shows progress while it hands on the studies.

    Returns
    -------
    :
        At least one: a folder without images is a refusal with a name.

    Raises
    ------
    WrongUse
        The folder does not exist.
    """
    if not folder.is_dir():
        raise WrongUse(f"{folder} is no folder; give one that holds DICOM files")
    contents = read_folder(folder, utc_now())
    if not contents.studies:
        return [_nothing_in(folder, contents.n_files, contents.ignored)]
    tools = open_tools(settings)
    return [
        _screen_one(settings, tools, study, out, contents.ignored)
        for study in track(contents.studies, description="screening")
    ]


def summary_of(one: LocalScreening) -> dict[str, Any]:
    """Give what ``--json`` prints for one study."""
    screening, outcome = one.screening, one.outcome
    return {
        "study_instance_uid": one.study_instance_uid or None,
        "outcome": _outcome_word(one),
        "decision": to_plain(outcome) if isinstance(outcome, Decision) else None,
        "certainty": outcome.certainty if isinstance(outcome, Decision) else None,
        "not_analysed": to_plain(outcome) if isinstance(outcome, NotAnalysed) else None,
        "error": one.failure,
        "n_instances": screening.n_instances if screening else 0,
        "n_slices": screening.volume.geometry.n_slices if screening and screening.volume else 0,
        "geometry": to_plain(screening.volume.geometry) if screening and screening.volume else None,
        "lung_volumes_ml": {
            "right": screening.lungs.right_volume_ml,
            "left": screening.lungs.left_volume_ml,
        }
        if screening and screening.lungs
        else None,
        "series_ranking": to_plain(screening.ranking if screening else SeriesRanking((), None)),
        "source_defects": to_plain(screening.defects) if screening else [],
        "models": to_plain(screening.run.models) if screening else [],
        "seconds_by_step": dict(screening.seconds_by_step) if screening else {},
        "ignored_files": [{"path": str(path), "reason": why} for path, why in one.ignored],
        "files": [str(path) for path in one.files],
        "notice": "Not a medical device; unverified.",
    }


def _outcome_word(one: LocalScreening) -> str:
    if one.has_failed:
        return "failed"
    return "not-analysed" if one.is_not_analysed else "decided"


def _screen_one(
    settings: Settings,
    tools: Tools,
    study: SpooledStudy,
    out: Path | None,
    ignored: tuple[tuple[Path, str], ...],
) -> LocalScreening:
    run = RunIdentity(
        run_id=str(uuid.uuid4()),
        study_instance_uid=study.study_instance_uid,
        reason=RunReason.LOCAL,
        input_digest=study.input_digest,
        pipeline=PIPELINE,
        code_version=VERSION,
        settings_digest=result_digest(settings),
        version=1,
        started_at=utc_now(),
        models=tools.models,
    )
    try:
        screening = screen_study(study, run, tools, lambda _fact: None)
        files = _write(settings, screening, study, out) if out else ()
    except Permanent as error:
        return LocalScreening(study.study_instance_uid, None, None, str(error), (), ignored)
    return LocalScreening(study.study_instance_uid, screening, None, None, files, ignored)


def _write(
    settings: Settings, screening: Screening, study: SpooledStudy, out: Path
) -> tuple[Path, ...]:
    objects = write_results(screening, study, report_options(settings))
    stored = store_results(out, screening, objects)
    return (*(one.path for one in stored), stored[0].path.parent / OVERLAY_FILE)


def _nothing_in(
    folder: Path, n_files: int, ignored: tuple[tuple[Path, str], ...]
) -> LocalScreening:
    detail = f"{folder} holds {n_files} files, none of them a DICOM image"
    reason = NotAnalysed(NotAnalysedReason.NO_IMAGES, detail)
    return LocalScreening("", None, reason, None, (), ignored)
