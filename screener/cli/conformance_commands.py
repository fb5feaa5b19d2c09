"""The command that checks result objects."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from screener.cli.output import EXIT_DONE, EXIT_FAILED, print_json, print_table, print_text

if TYPE_CHECKING:
    from screener.conformance import Check, Verdict


def add_to(app: typer.Typer) -> None:
    """Add the commands of this file to the application."""
    app.command()(conformance)


def conformance(
    directory: Annotated[
        Path, typer.Argument(help="Folder with result objects.", show_default=False)
    ],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")] = False,
) -> int:
    """Check the result objects of a folder with every validator that is installed.

    Asks dciodvfy, dcentvfy, dcmdump, dsrdump, dcmpschk, tid1500reader and segimage2itkimage, then
    our own rules for TID 1500 and IHE AIR. Source images in the same folder are compared with the
    results. A validator that is not installed is listed as not run, never as passed. Remarks of
    validators may quote the patient.

    Exit code 1 where anything is found.

    Example: `screener conformance ./results`
    """
    from screener.conformance import check_folder

    verdict = check_folder(directory)
    if as_json:
        print_json(
            {
                "is_clean": verdict.is_clean,
                "not_run": verdict.not_run,
                "n_findings": len(verdict.findings),
                "verdict": verdict,
            }
        )
    else:
        _print_verdict(verdict)
    return EXIT_DONE if verdict.is_clean else EXIT_FAILED


def _print_verdict(verdict: Verdict) -> None:
    print_table(
        ("object", "validator", "outcome", "what"),
        ((one.subject, one.validator, one.state.value, _say(one)) for one in verdict.checks),
        f"{verdict.n_results} result objects, {verdict.n_sources} sources",
    )
    for note in verdict.notes:
        print_text(f"Note: {note}.")
    if verdict.not_run:
        print_text(f"Not installed, so not run: {', '.join(verdict.not_run)}.")
    n_findings = len(verdict.findings)
    print_text(f"{n_findings} findings." if n_findings else "Nothing found by what was run.")


def _say(check: Check) -> str:
    if check.findings:
        return "\n".join(check.findings)
    return f"{len(check.allowed)} kinds of remark allowed" if check.allowed else ""
