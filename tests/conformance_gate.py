"""Independent readers and validators of DICOM results, as the conformance tests run them."""

from __future__ import annotations

import gzip
import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from screener.report.codes import PRIVATE_SCHEME

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

#: All that dciodvfy may say of a result: the name of the object, that Device UID is younger than
#: its tables, and that it does not know private schemes.
ALLOWED = (
    r"(Comprehensive3DSR|Segmentation|KeyObjectSelectionDocument)",
    (
        r"Warning - </ContributingEquipmentSequence\(0018,a001\)\[\d+\]/DeviceUID\(0018,1002\)>"
        r" - Attribute is not present in standard DICOM IOD"
    ),
    (
        rf"Warning - <.*/CodingSchemeDesignator\(0008,0102\)\[1\]>"
        rf" - Unrecognized defined term = <{PRIVATE_SCHEME}>"
    ),
)
_TIMEOUT_S = 120


def tool(name: str) -> str:
    """Find a tool beside Python or on PATH; without it skip, but fail where CI promised it."""
    beside = Path(sys.executable).parent / name
    found = str(beside) if beside.exists() else shutil.which(name)
    if found is None:
        if os.environ.get("CI"):
            pytest.fail(f"{name} is not installed; `make test` installs it")
        pytest.skip(f"{name} is not installed")
    return found


def run(name: str, *arguments: str | Path) -> tuple[int, list[str]]:
    """Run a tool; give its exit code and the lines of both outputs."""
    done = subprocess.run(
        [tool(name), *map(str, arguments)],
        capture_output=True,
        text=True,
        errors="replace",
        timeout=_TIMEOUT_S,
        check=False,
    )
    return done.returncode, [*done.stdout.splitlines(), *done.stderr.splitlines()]


def complaints(file: Path, allowed_too: Iterable[str] = ()) -> list[str]:
    """Give what dciodvfy says of a file beyond the closed list.

    Parameters
    ----------
    allowed_too
        Patterns for what an irregular source makes unavoidable.
    """
    patterns = (*ALLOWED, *allowed_too)
    _, lines = run("dciodvfy", "-new", file)
    return [
        line
        for line in lines
        if line.strip() and not any(re.fullmatch(pattern, line) for pattern in patterns)
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


def read_nrrd(file: Path) -> tuple[NDArray[np.uint8], tuple[float, ...]]:
    """Read the small part of NRRD that dcmqi writes: gzip or raw, axis-parallel, 8 or 16 bit."""
    header, data = file.read_bytes().split(b"\n\n", 1)
    fields = dict(
        line.split(": ", 1) for line in header.decode("ascii").splitlines() if ": " in line
    )
    if fields["encoding"] in {"gzip", "gz"}:
        data = gzip.decompress(data)
    types = {"unsigned char": np.uint8, "uint8": np.uint8, "short": np.int16, "int16": np.int16}
    sizes = [int(size) for size in fields["sizes"].split()]
    voxels = np.frombuffer(data, types[fields["type"]]).reshape(sizes[::-1]).astype(np.uint8)
    origin_mm = tuple(float(one) for one in fields["space origin"].strip("()").split(","))
    return voxels, origin_mm
