"""Commands of the quality officer."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Annotated

import typer

from screener.cli.output import EXIT_DONE, EXIT_FAILED, print_json, print_table, print_text
from screener.errors import WrongUse
from screener.settings import Settings, load_settings

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]

audit_app = typer.Typer(no_args_is_help=True, help="Account for every study; prove the trail.")


def add_to(app: typer.Typer) -> None:
    """Add the commands of this file to the application."""
    app.add_typer(audit_app, name="audit")


@audit_app.command("nightly")
def nightly(
    day: Annotated[str, typer.Option("--date", help="Day to account for; yesterday without.")] = "",
    pacs: Annotated[str, typer.Option(help="Destination to ask; audit.pacs without.")] = "",
    out: Annotated[
        Path | None, typer.Option(help="Folder of the pages; audit.report_dir without.")
    ] = None,
    as_json: AsJson = False,
) -> int:
    """Compare what the PACS holds of a day with the ledger, and write a page about it.

    Exit code 1 where a study is missing or failed, or the chain or a model does not verify.

    Example: `screener audit nightly --date 2026-11-20`
    """
    from screener.daemon.nightly import run_nightly

    written = run_nightly(_settings(), _day(day), pacs_name=pacs, folder=out)
    audit = written.audit
    if as_json:
        print_json(written.document)
    else:
        print_table(
            ("study", "outcome", "detail"),
            ((one.study_instance_uid, one.outcome.value, one.detail) for one in audit.accounts),
            f"Audit of {audit.day} against {audit.pacs_name}",
        )
        print_text("\n".join(audit.problems) or "Every study is accounted for.")
        print_text(f"Page: {written.html_path}\nJSON: {written.json_path}")
    return EXIT_DONE if audit.is_clean else EXIT_FAILED


@audit_app.command("verify")
def verify(as_json: AsJson = False) -> int:
    """Recompute the event chain and compare it with its checkpoints.

    Exit code 1 where a row was changed, deleted, inserted, reordered or cut off.

    Example: `screener audit verify`
    """
    from screener.daemon.sealing import verify_trail

    report = verify_trail(_settings())
    if as_json:
        print_json(report)
    else:
        print_text(report.text())
    return EXIT_DONE if report.is_intact else EXIT_FAILED


@audit_app.command("export")
def export(
    out: Annotated[
        Path | None, typer.Option(help="Write to this file instead of sending.", show_default=False)
    ] = None,
    first: Annotated[int, typer.Option("--from", min=1, help="Number of the first event.")] = 1,
    last: Annotated[
        int | None, typer.Option("--to", min=1, help="Number of the last event; all without.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Send the trail to the audit record repository, or write it, as DICOM audit messages.

    Sending goes on where the last time ended; the node does the same by itself. A file gets one
    message a line, any range, again and again.

    Example: `screener audit export` or `screener audit export --out trail.xml --from 1000`
    """
    from screener.daemon.exporting import export_now, write_trail

    settings = _settings()
    if out is None:
        if first != 1 or last is not None:
            raise WrongUse("--from and --to choose what is written to a file; give --out too")
        n_events = export_now(settings)
    else:
        n_events = write_trail(settings, out, first, last)
    if as_json:
        print_json({"n_events": n_events, "file": out})
    else:
        print_text(f"{n_events} events {'sent' if out is None else f'written to {out}'}.")


def _day(text: str) -> date | None:
    if not text:
        return None
    try:
        return date.fromisoformat(text)
    except ValueError as error:
        raise WrongUse(f"--date {text}: write it as 2026-11-20") from error


def _settings() -> Settings:
    from screener.daemon.site_logs import set_up_site_logs

    settings = load_settings()
    set_up_site_logs(settings)
    return settings
