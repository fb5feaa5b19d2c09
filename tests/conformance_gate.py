"""Independent readers and validators of DICOM results, as the conformance tests run them."""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from screener.conformance.allowances import ALLOWANCES, Condition
from screener.conformance.masks import read_nrrd
from screener.conformance.programs import find_program, run_program

if TYPE_CHECKING:
    from collections.abc import Iterable

    import numpy as np
    from numpy.typing import NDArray


def tool(name: str) -> Path:
    """Find a tool beside Python or on PATH; without it skip, but fail where CI promised it."""
    found = find_program(name)
    if found is None:
        if os.environ.get("CI"):
            pytest.fail(f"{name} is not installed; `make test` installs it")
        pytest.skip(f"{name} is not installed")
    return found


def run(name: str, *arguments: str | Path) -> tuple[int, list[str]]:
    """Run a tool; give its exit code and the lines of both outputs."""
    output = run_program(tool(name), arguments)
    return output.exit_code, list(output.lines)


def complaints(file: Path, allowed_too: Iterable[str] = ()) -> list[str]:
    """Give what dciodvfy says of a file beyond the closed list.

    Parameters
    ----------
    allowed_too
        Patterns for what an irregular source makes unavoidable.
    """
    always = [one for one in ALLOWANCES if one.condition is Condition.ALWAYS]
    _, lines = run("dciodvfy", "-new", file)
    return [
        line
        for line in lines
        if not any(one.match("dciodvfy", line) for one in always)
        and not any(re.fullmatch(pattern, line) for pattern in allowed_too)
    ]


def read_by_dcmqi(report: Path, folder: Path) -> dict[str, Any]:
    """Read a TID 1500 report with dcmqi; give its description."""
    output = folder / "report.json"
    code, lines = run("tid1500reader", "--inputDICOM", report, "--outputMetadata", output)
    assert code == 0, lines
    metadata: dict[str, Any] = json.loads(output.read_text(encoding="utf-8"))
    return metadata


@dataclass(frozen=True, slots=True)
class ReadSegment:
    """One segment as dcmqi read it."""

    voxels: NDArray[np.uint8]  #: (slices, rows, columns) of the bounding planes
    origin_mm: tuple[float, ...]  #: of the first voxel, x y z
    attributes: dict[str, Any]


def read_segments_by_dcmqi(segmentation: Path, folder: Path) -> list[ReadSegment]:
    """Read a segmentation with dcmqi, segments in the order of their numbers."""
    arguments = ("--inputDICOM", segmentation, "--outputDirectory", folder, "--prefix", "seg")
    code, lines = run("segimage2itkimage", *arguments)
    assert code == 0, lines
    metadata = json.loads((folder / "seg-meta.json").read_text(encoding="utf-8"))
    segments = []
    for number, (attributes,) in enumerate(metadata["segmentAttributes"], start=1):
        voxels, origin_mm = read_nrrd(folder / f"seg-{number}.nrrd")
        segments.append(ReadSegment(voxels, origin_mm, attributes))
    return segments
