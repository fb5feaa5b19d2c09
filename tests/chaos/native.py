"""Small programs in C beside the faults: what Python would be too slow for, or cannot do."""

from __future__ import annotations

import subprocess
from pathlib import Path


def compile_native(name: str, target: Path, *options: str) -> Path:
    """Compile a source file of this folder."""
    source = Path(__file__).with_name(name)
    subprocess.run(["cc", *options, "-O2", "-o", str(target), str(source)], check=True)
    return target
