"""How commands speak: results on standard output, everything else on standard error."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
)
from rich.table import Table

from screener.audit.plain import to_plain

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

#: Exit codes of every command (design 4).
EXIT_DONE = 0
EXIT_FAILED = 1
EXIT_WRONG_USE = 2
EXIT_NOT_ANALYSED = 3
#: As a shell counts a process that Ctrl-C ended.
EXIT_INTERRUPTED = 130

#: Width of tables where standard output is no terminal, in characters.
PLAIN_WIDTH = 160


def print_json(value: object) -> None:
    """Print one JSON document on standard output."""
    sys.stdout.write(json.dumps(to_plain(value), indent=2, ensure_ascii=False) + "\n")


def print_text(text: str) -> None:
    """Print a text for people on standard output."""
    sys.stdout.write(text.rstrip("\n") + "\n")


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]], title: str = "") -> None:
    """Print a table for people on standard output."""
    table = Table(title=title or None, title_justify="left")
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        # A value from a data set must not be read as markup.
        table.add_row(*(_plain(cell) for cell in row))
    console = Console(markup=False, highlight=False)
    if not console.is_terminal:
        console = Console(markup=False, highlight=False, width=PLAIN_WIDTH)
    console.print(table)


def print_note(text: str) -> None:
    """Say something on standard error that is no result."""
    Console(stderr=True, markup=False, highlight=False, soft_wrap=True).print(text)


def progress_bar(*, is_quiet: bool) -> Progress:
    """Give a progress bar on standard error; silent where the output is for a machine."""
    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=Console(stderr=True),
        disable=is_quiet or not sys.stderr.isatty(),
        transient=True,
    )


def _plain(cell: object) -> str:
    text = "" if cell is None else str(cell)
    return "".join(c if c.isprintable() or c == "\n" else f"\\x{ord(c):02x}" for c in text)
