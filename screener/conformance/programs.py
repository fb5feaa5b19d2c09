"""Find and run the validators that are installed on this machine."""

from __future__ import annotations

import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

#: Longest run of one validator on one file, in seconds; all need far less than one.
TIMEOUT_S: Final = 120.0


@dataclass(frozen=True, slots=True)
class ProgramOutput:
    """What a program said."""

    exit_code: int  #: 124 where it was ended because it took too long
    lines: tuple[str, ...]  #: standard output, then standard error; empty lines left out


def find_program(name: str) -> Path | None:
    """Find a program beside Python or on PATH, None where it is not installed."""
    beside = Path(sys.executable).parent / name
    if beside.exists():
        return beside
    found = shutil.which(name)
    return Path(found) if found else None


def run_program(program: Path, arguments: Sequence[str | Path]) -> ProgramOutput:
    """Run a program to its end.

    Parameters
    ----------
    arguments
        Files by absolute path, so that none is taken for an option.
    """
    try:
        done = subprocess.run(
            [program, *map(str, arguments)],
            capture_output=True,
            text=True,
            errors="replace",
            timeout=TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return ProgramOutput(124, (f"ended after {TIMEOUT_S:.0f} s without an answer",))
    lines = [*done.stdout.splitlines(), *done.stderr.splitlines()]
    return ProgramOutput(done.returncode, tuple(line for line in lines if line.strip()))
