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
    progress_bar,
)
from screener.cli.tables import ALERT_COLUMNS, alert_row
from screener.daemon.stopping import reload_event_of_process, stop_event_of_process
from screener.logs import keep_texts_out
from screener.settings import Settings, load_settings
from screener.streams import lose_what_nobody_takes

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]

database_app = typer.Typer(no_args_is_help=True, help="The audit database.")


def add_to(app: typer.Typer) -> None:
    """Add the commands of this file to the application."""
    for function in (serve, listen, work, deliver, schedule, health, echo, doctor, alerts, purge):
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
    from screener.daemon.scheduling import schedule_until_stopped as run

    _run_process(run)


def health() -> None:
    """Answer /healthz, /readyz and /metrics by HTTP until stopped; `serve` does it by itself.

    Example: `screener --settings screener.toml health`
    """
    from screener.daemon.health import answer_until_stopped as run

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
    accounting: Annotated[
        bool, typer.Option("--accounting", help="Count the books instead: every row, every file.")
    ] = False,
    as_json: AsJson = False,
) -> int:
    """Check everything from outside: port, disk, database, broker, models, destinations.

    With `--accounting`: prove that every instance, run, report and file is accounted for. Exit
    code 1 where something is not in order.

    Example: `screener doctor --only listener` or `screener doctor --accounting --json`
    """
    from screener.daemon.doctor import examine

    if accounting:
        return _print_books(as_json=as_json)
    checks = examine(_settings(), only or ())
    if as_json:
        print_json({"ok": all(check.is_ok for check in checks), "checks": checks})
    else:
        print_table(
            ("check", "result", "detail"),
            ((check.name, "ok" if check.is_ok else "FAILED", check.detail) for check in checks),
        )
    return EXIT_DONE if all(check.is_ok for check in checks) else EXIT_FAILED


def alerts(
    everything: Annotated[
        bool, typer.Option("--all", help="Also those whose cause is gone.")
    ] = False,
    as_json: AsJson = False,
) -> int:
    """List what needs a person: one alert for each cause. Exit code 1 while one is open.

    Example: `screener alerts` or `screener alerts --all --json`
    """
    from screener.daemon.inquiries import alerts_of

    found = alerts_of(_settings(), is_open_only=not everything)
    if as_json:
        print_json(found)
    elif found:
        print_table(ALERT_COLUMNS, (alert_row(one) for one in found))
    else:
        print_text("No alert is open." if not everything else "There was no alert yet.")
    return EXIT_FAILED if any(one.resolved_at is None for one in found) else EXIT_DONE


def purge(
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would go; delete nothing.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Delete the files that the rules of retention let go; the scheduler does it every hour.

    Nothing that a destination has not answered for goes. Rows and events stay, and a purged study
    can be retrieved and screened again.

    Example: `screener purge --dry-run` or `screener purge --json`
    """
    from screener.daemon.purging import plan
    from screener.daemon.purging import purge as run

    settings = _settings()
    with progress_bar(is_quiet=as_json) as bar:
        report = plan(settings) if dry_run else run(settings, bar.track)
    if as_json:
        print_json(report)
        return
    if report.items:
        rows = ((i.study_instance_uid, i.rule.value, i.n_files, i.n_bytes) for i in report.items)
        print_table(("study", "rule", "files", "bytes"), rows)
    word = "would be deleted" if report.is_dry_run else "deleted"
    print_text(f"{report.n_files} files, {report.n_bytes / 2**20:.1f} MiB {word}.")


def _print_books(*, as_json: bool) -> int:
    from screener.daemon.site import open_site
    from screener.daemon.watching import count_books

    report = count_books(open_site(_settings()))
    if as_json:
        print_json({"ok": report.is_balanced, "books": report})
    else:
        print_text(report.text())
        print_text("Everything is accounted for." if report.is_balanced else "NOT BALANCED")
    return EXIT_DONE if report.is_balanced else EXIT_FAILED


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
    from screener.daemon.site_logs import set_up_site_logs

    settings = load_settings()
    set_up_site_logs(settings)
    return settings


def _run_process(run: Callable[..., None], *more: threading.Event) -> None:
    # What a node keeps is about patients: for its own account alone, whatever the shell says.
    os.umask(0o077)
    lose_what_nobody_takes()
    keep_texts_out()
    run(_settings(), stop_event_of_process(), *more)
