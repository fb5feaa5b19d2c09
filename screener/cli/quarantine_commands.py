"""Commands about instances that were kept but will not be screened."""

from __future__ import annotations

from typing import Annotated

import typer

from screener.cli.output import print_json, print_note, print_table, print_text
from screener.logs import set_up_logs
from screener.settings import Settings, load_settings

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]
Name = Annotated[
    str,
    typer.Argument(
        help="SOP Instance UID, or the first characters of a digest.", show_default=False
    ),
]

quarantine_app = typer.Typer(
    no_args_is_help=True, help="Instances that were kept but will not be screened."
)


def add_to(app: typer.Typer) -> None:
    """Add the commands of this file to the application."""
    app.add_typer(quarantine_app, name="quarantine")


@quarantine_app.command("list")
def list_instances(
    study_uid: Annotated[
        str | None, typer.Argument(help="Study Instance UID; all without.", show_default=False)
    ] = None,
    as_json: AsJson = False,
) -> None:
    """List what is in quarantine, and why.

    Example: `screener quarantine list`
    """
    from screener.daemon.inquiries import quarantined

    rows = quarantined(_settings(), study_uid)
    if as_json:
        print_json(rows)
    elif not rows:
        print_note("Nothing is in quarantine.")
    else:
        print_table(
            ("study", "instance", "digest", "reason", "from", "received"),
            (
                (
                    row.study_instance_uid,
                    row.sop_instance_uid,
                    row.content_digest[:12],
                    row.reason,
                    row.calling_ae_title or "(folder)",
                    f"{row.received_at:%Y-%m-%d %H:%M}",
                )
                for row in rows
            ),
        )


@quarantine_app.command("show")
def show_instance(name: Name, as_json: AsJson = False) -> None:
    """Show one instance in quarantine, with the file that holds it.

    Example: `screener quarantine show 1.2.826.0.1.3680043.8.498.1.7`
    """
    from screener.daemon.inquiries import find_in_quarantine

    rows = find_in_quarantine(_settings(), name)
    if as_json:
        print_json(rows)
        return
    for row in rows:
        print_text(
            f"instance         {row.sop_instance_uid}\n"
            f"study            {row.study_instance_uid}\n"
            f"series           {row.series_instance_uid}\n"
            f"reason           {row.reason}\n"
            f"from             {row.calling_ae_title or '(folder)'}\n"
            f"received         {row.received_at:%Y-%m-%d %H:%M:%S} UTC\n"
            f"SOP class        {row.sop_class_uid}\n"
            f"transfer syntax  {row.transfer_syntax_uid}\n"
            f"digest           {row.content_digest}\n"
            f"file             {row.path} ({row.n_bytes} bytes)\n"
        )


@quarantine_app.command("release")
def release_instance(name: Name, as_json: AsJson = False) -> None:
    """Let an instance take part in screenings after all; its study is opened again.

    Who releases what cannot be decoded gets a run that says so. The release is in the audit.

    Example: `screener quarantine release 1.2.826.0.1.3680043.8.498.1.7`
    """
    from screener.daemon.inquiries import release_from_quarantine

    rows = release_from_quarantine(_settings(), name)
    if as_json:
        print_json(rows)
        return
    for row in rows:
        print_text(f"Released {row.sop_instance_uid} of study {row.study_instance_uid}.")


def _settings() -> Settings:
    settings = load_settings()
    set_up_logs(settings.log)
    return settings
