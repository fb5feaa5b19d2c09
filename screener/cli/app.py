"""The Typer application: its commands in the order people meet them."""

from __future__ import annotations

import errno
import os
import sys
from pathlib import Path
from typing import Annotated

import typer
from typer.exceptions import TyperException

from models.errors import ModelError
from screener.cli import (
    audit_commands,
    conformance_commands,
    evaluation_commands,
    model_commands,
    node_commands,
    quarantine_commands,
    study_commands,
)
from screener.cli.output import (
    EXIT_DONE,
    EXIT_FAILED,
    EXIT_INTERRUPTED,
    EXIT_WRONG_USE,
    print_note,
)
from screener.errors import ConfigError, ScreenerError, WrongUse
from screener.logs import get_log, set_up_logs, where_raised
from screener.settings import SETTINGS_FILE_VARIABLE, LogSettings
from screener.streams import lose_what_nobody_takes
from screener.version import VERSION

#: Ends of a write that are no defect of ours: full, over quota, broken, read-only, too large.
_NOT_WRITTEN = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS, errno.EFBIG})

app = typer.Typer(
    name="screener",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    help="Screen every chest CT: C-STORE in, DICOM Structured Report out, every step audited.\n\n"
    "Not a medical device. Every result is unverified.",
)


def _print_version(value: bool) -> None:
    if value:
        typer.echo(f"screener {VERSION}")
        raise typer.Exit


@app.callback()
def common_options(
    settings: Annotated[
        Path | None,
        typer.Option(help="Settings file (TOML); also $SCREENER_SETTINGS.", show_default=False),
    ] = None,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    """Take the options that stand before the command."""
    del version
    if settings is not None:
        # The children of `serve` and the workers read the same file.
        os.environ[SETTINGS_FILE_VARIABLE] = str(settings.absolute())


node_commands.add_to(app)
model_commands.add_to(app)
evaluation_commands.add_to(model_commands.models_app)
study_commands.add_to(app)
audit_commands.add_to(app)
quarantine_commands.add_to(app)
conformance_commands.add_to(app)


def main() -> None:
    """Run the command line; the one place where an unexpected error becomes an exit code."""
    lose_what_nobody_takes("stderr")  # notes alone go there: they decide nothing
    set_up_logs(LogSettings())  # until the settings are read
    sys.exit(_run())


def _run() -> int:
    try:
        code = app(standalone_mode=False)
        sys.stdout.flush()
    except (ConfigError, WrongUse) as error:
        print_note(f"screener: {error}")
        return EXIT_WRONG_USE
    except (ScreenerError, ModelError) as error:
        print_note(f"screener: {error}")
        return EXIT_FAILED
    except TyperException as error:
        if error.format_message():  # empty where help was shown instead
            print_note(f"screener: {error.format_message()} (see `screener --help`)")
        return EXIT_WRONG_USE
    except (KeyboardInterrupt, typer.Abort):
        print_note("screener: interrupted")
        return EXIT_INTERRUPTED
    except Exception as error:  # noqa: BLE001  boundary: a user never sees a traceback
        _explain(error)
        return EXIT_FAILED
    return code if isinstance(code, int) else EXIT_DONE


def _explain(error: Exception) -> None:
    """Say what no part of ours has translated: output that nobody takes, or a defect."""
    lose_what_nobody_takes("stdout")  # what is left of it must not end the process another way
    if isinstance(error, BrokenPipeError):
        return  # whoever read it has seen enough
    if isinstance(error, OSError) and error.errno in _NOT_WRITTEN:
        what = error.filename or "the output"
        print_note(f"screener: {what} could not be written: {error.strerror}")
        return
    get_log().error("unexpected_error", error=type(error).__name__, detail=where_raised(error))
    print_note(
        f"screener: an error nobody expected ({type(error).__name__}). This is a defect: "
        "please report it with the log above"
    )
