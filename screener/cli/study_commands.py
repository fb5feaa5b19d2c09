"""Commands that have studies as their subject."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from screener.cli.output import (
    EXIT_DONE,
    EXIT_FAILED,
    EXIT_NOT_ANALYSED,
    print_json,
    print_note,
    print_table,
    print_text,
    progress_bar,
)
from screener.cli.tables import STATUS_COLUMNS, result_of, status_row
from screener.domain import RunState
from screener.settings import Settings, load_settings

if TYPE_CHECKING:
    from screener.daemon.local import LocalScreening

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]
StudyUid = Annotated[str, typer.Argument(help="Study Instance UID.", show_default=False)]


def add_to(app: typer.Typer) -> None:
    """Add the commands of this file to the application."""
    for function in (screen, complete, reprocess, retry, status, why, demo):
        app.command()(function)


def screen(
    directory: Annotated[Path, typer.Argument(help="Folder with DICOM files.", show_default=False)],
    out: Annotated[
        Path | None, typer.Option(help="Write SR, SEG and overlay here.", show_default=False)
    ] = None,
    as_json: AsJson = False,
) -> int:
    """Screen the studies of a folder in this process, without node, broker or database.

    Ends with exit code 3 where no study of the folder could be analysed.

    Example: `screener screen ./study --out ./results`
    """
    from screener.daemon.local import screen_folder, summary_of

    settings = _settings()
    with progress_bar(is_quiet=as_json) as bar:
        screenings = screen_folder(settings, directory, out, bar.track)
    if as_json:
        summaries = [summary_of(one) for one in screenings]
        print_json(summaries[0] if len(summaries) == 1 else summaries)
    else:
        for one in screenings:
            print_text(one.text())
    return _exit_code(screenings)


def complete(study_uid: StudyUid, as_json: AsJson = False) -> None:
    """Screen a study now that is still being received: a person says that it is complete.

    Example: `screener complete 1.2.826.0.1.3680043.8.498.1`
    """
    from screener.daemon.reprocess import complete_now

    run_id = complete_now(_settings(), study_uid)
    if as_json:
        print_json({"run_id": run_id, "study_instance_uid": study_uid})
    else:
        print_text(f"Complete, forced by a person. Run {run_id} waits for a worker.")


def reprocess(
    study_uid: StudyUid,
    wait_s: Annotated[
        float, typer.Option("--wait", min=0, help="Wait so many seconds for the new report.")
    ] = 0.0,
    as_json: AsJson = False,
) -> int:
    """Screen a study again; the new report names the one it replaces.

    Example: `screener reprocess 1.2.826.0.1.3680043.8.498.1 --wait 120`
    """
    from screener.daemon.reprocess import reprocess_study, wait_for_run

    settings = _settings()
    run_id = reprocess_study(settings, study_uid)
    with progress_bar(is_quiet=as_json or not wait_s) as bar:
        bar.add_task("screening again", total=None)
        run = wait_for_run(settings, run_id, wait_s)
    if as_json:
        print_json(run)
    else:
        print_text(f"Run {run_id}: {run.state.value}, {result_of(run) or 'no result yet'}.")
        print_note(f"Follow it with: screener status {study_uid}")
    if run.state is RunState.FAILED:
        return EXIT_FAILED
    return EXIT_NOT_ANALYSED if run.not_analysed_reason else EXIT_DONE


def retry(
    identifier: Annotated[
        str, typer.Argument(help="Run id, or Study Instance UID.", show_default=False)
    ],
    as_json: AsJson = False,
) -> None:
    """Give failed runs and dead deliveries of a study another chance.

    Example: `screener retry 1.2.826.0.1.3680043.8.498.1`
    """
    from screener.daemon.reprocess import retry_stopped

    revived = retry_stopped(_settings(), identifier)
    if as_json:
        print_json({"revived": revived})
    else:
        nothing = "Nothing to try again: no failed run and no dead delivery."
        print_text(f"Tried again: {', '.join(revived)}." if revived else nothing)


def status(
    study_uid: Annotated[
        str | None, typer.Argument(help="Study Instance UID; all without.", show_default=False)
    ] = None,
    as_json: AsJson = False,
) -> int:
    """Show where studies stand.

    Example: `screener status` or `screener status 1.2.826.0.1.3680043.8.498.1 --json`
    """
    from screener.daemon.inquiries import status_of

    rows = status_of(_settings(), study_uid)
    if as_json:
        print_json(rows[0] if study_uid else rows)
        return EXIT_DONE
    if not rows:
        print_note("No study has come yet.")
        return EXIT_DONE
    print_table(STATUS_COLUMNS, (status_row(row) for row in rows))
    return EXIT_DONE


def why(study_uid: StudyUid, as_json: AsJson = False) -> None:
    """Tell the story of a study from the audit database alone.

    Example: `screener why 1.2.826.0.1.3680043.8.498.1`
    """
    from screener.audit.telling import render_story
    from screener.daemon.inquiries import story_of

    story = story_of(_settings(), study_uid)
    if as_json:
        print_json(story)
    else:
        print_text(render_story(story))


def demo(
    study: Annotated[
        Path | None, typer.Option(help="Send this folder instead.", show_default=False)
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder for what came back.")] = Path("demo-results"),
    as_json: AsJson = False,
) -> int:
    """Start a whole node with a test PACS, send studies, and show what comes back.

    Everything runs on free ports of this machine and is stopped again; only the reports,
    segmentations and pictures in the output folder stay.

    Example: `screener demo` or `screener demo --study ./my-study`
    """
    from screener.demo.run import run_demo

    with progress_bar(is_quiet=as_json) as bar:
        outcome = run_demo(study, out, track=bar.track, say=print_note)
    if as_json:
        print_json(outcome)
    else:
        print_table(outcome.columns, outcome.rows(), "What came back to the test PACS")
        print_text(outcome.closing_words())
    if not outcome.is_complete:
        return EXIT_FAILED
    if study is not None and outcome.is_all_not_analysed:
        return EXIT_NOT_ANALYSED
    return EXIT_DONE


def _exit_code(screenings: list[LocalScreening]) -> int:
    if any(one.has_failed for one in screenings):
        return EXIT_FAILED
    if all(one.is_not_analysed for one in screenings):
        return EXIT_NOT_ANALYSED
    return EXIT_DONE


def _settings() -> Settings:
    from screener.daemon.site_logs import set_up_site_logs

    settings = load_settings()
    set_up_site_logs(settings)
    return settings
