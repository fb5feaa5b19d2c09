"""Commands that run the node or look at it from outside."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Annotated

import typer

from screener.cli.output import (
    EXIT_DONE,
    EXIT_FAILED,
    print_json,
    print_table,
    print_text,
)
from screener.daemon.stopping import reload_event_of_process, stop_event_of_process
from screener.logs import set_up_logs
from screener.settings import Settings, load_settings

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]

database_app = typer.Typer(no_args_is_help=True, help="The audit database.")


def add_to(app: typer.Typer) -> None:
    """Add the commands of this file to the application."""
    for function in (serve, listen, work, deliver, schedule, echo, doctor):
        app.command()(function)
    app.add_typer(database_app, name="db")


def serve() -> None:
    """Run the whole node on this machine: listener, workers, senders, scheduler.

    No broker is needed. Stop with Ctrl-C or SIGTERM; nothing that was received is lost. SIGHUP
    reads the TLS files again.

    Example: `screener --settings screener.toml serve`
    """
    from screener.daemon.serve import serve as run

    _run_process(run, reload_event_of_process())


def listen() -> None:
    """Receive studies by C-STORE until stopped; SIGHUP reads the TLS files again.

    Example: `screener --settings screener.toml listen`
    """
    from screener.daemon.listening import listen as run

    _run_process(run, reload_event_of_process())


def work() -> None:
    """Screen waiting runs until stopped, without a broker.

    Example: `screener --settings screener.toml work`
    """
    from screener.daemon.execution import work as run

    _run_process(run)


def deliver() -> None:
    """Send waiting results to their destinations until stopped, without a broker.

    Example: `screener --settings screener.toml deliver`
    """
    from screener.daemon.deliveries import send_until_stopped as run

    _run_process(run)


def schedule() -> None:
    """Find complete studies, expired claims and due audits until stopped, without beat.

    Example: `screener --settings screener.toml schedule`
    """
    from screener.daemon.sweep import sweep_until_stopped as run

    _run_process(run)


def echo(
    node: Annotated[str, typer.Argument(help="A destination or peer by name, or AE@HOST:PORT.")],
    as_json: AsJson = False,
) -> int:
    """Ask a DICOM node whether it answers: C-ECHO, or a search where it speaks DICOMweb.

    Example: `screener echo pacs` or `screener echo ORTHANC@127.0.0.1:4242`
    """
    from screener.daemon.doctor import echo_node

    result = echo_node(_settings(), node)
    if as_json:
        print_json(result)
    else:
        print_text(result.detail)
    return EXIT_DONE if result.is_ok else EXIT_FAILED


def doctor(
    only: Annotated[
        list[str] | None,
        typer.Option(help="Look at this alone; may be given again.", show_default=False),
    ] = None,
    as_json: AsJson = False,
) -> int:
    """Check everything from outside: port, disk, database, broker, models, destinations.

    Example: `screener doctor` or `screener doctor --only listener --only database`
    """
    from screener.daemon.doctor import examine

    checks = examine(_settings(), only or ())
    if as_json:
        print_json({"ok": all(check.is_ok for check in checks), "checks": checks})
    else:
        print_table(
            ("check", "result", "detail"),
            ((check.name, "ok" if check.is_ok else "FAILED", check.detail) for check in checks),
        )
    return EXIT_DONE if all(check.is_ok for check in checks) else EXIT_FAILED


@database_app.command("upgrade")
def upgrade_database(as_json: AsJson = False) -> None:
    """Bring the audit database to the newest schema; safe to run again.

    Example: `screener db upgrade`
    """
    from screener.daemon.site import upgrade_database as upgrade

    revision = upgrade(_settings())
    if as_json:
        print_json({"revision": revision})
    else:
        print_text(f"The audit database is at revision {revision}.")


def _settings() -> Settings:
    settings = load_settings()
    set_up_logs(settings.log)
    return settings


def _run_process(run: Callable[..., None], *more: threading.Event) -> None:
    # What a node keeps is about patients: for its own account alone, whatever the shell says.
    os.umask(0o077)
    run(_settings(), stop_event_of_process(), *more)
