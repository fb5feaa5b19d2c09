"""The validators and readers that are not ours: which there are and how each is asked.

Each gives its remarks as lines; which of them are findings is decided by the closed list.
"""

from __future__ import annotations

import json
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from screener.assemble.part10 import PARSE_ERRORS
from screener.conformance.masks import read_map, read_nrrd, read_segments
from screener.conformance.programs import ProgramOutput, run_program
from screener.conformance.tree import find, groups

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from screener.conformance.objects import DicomObject

#: Most sources that are compared with the results of their study.
MAXIMUM_SOURCES: Final = 1_000


@dataclass(frozen=True, slots=True)
class Validator:
    """One program that looks at one object.

    Parameters
    ----------
    name
        Name of the program.
    purpose
        What it finds, for people.
    applies
        Whether it has anything to say about an object.
    ask
        Runs the program on an object and gives its remarks; none is a pass.
    """

    name: str
    purpose: str
    applies: Callable[[DicomObject], bool]
    ask: Callable[[Path, DicomObject], Sequence[str]]


def _dciodvfy(program: Path, one: DicomObject) -> Sequence[str]:
    output = run_program(program, ("-new", one.path))
    return output.lines or (f"said nothing, exit code {output.exit_code}",)


def _dcmtk(program: Path, one: DicomObject) -> Sequence[str]:
    output = run_program(program, (one.path,))
    return _complaints(output)


def _dcmpschk(program: Path, one: DicomObject) -> Sequence[str]:
    """Give each complaint as one line; the verdict adds nothing where there are some."""
    remarks: list[str] = []
    is_new, verdict = True, "said nothing"
    for line in run_program(program, (one.path,)).lines:
        text = line.partition(":")[2].strip()
        if not text or text.startswith("Test"):
            is_new = True
        elif is_new or text.startswith("Error:"):
            remarks.append(text)
            is_new = not text.startswith("Error:")
        else:
            remarks[-1] += f" | {text}"
        verdict = text
    return remarks if remarks or verdict.startswith("Test passed") else (verdict,)


def _complaints(output: ProgramOutput) -> list[str]:
    """Give the lines that DCMTK marks, and the exit code where it says that there are some."""
    marked = [line for line in output.lines if line.startswith(("W:", "E:", "F:"))]
    if output.exit_code and not any(line.startswith(("E:", "F:")) for line in marked):
        marked.append(f"exit code {output.exit_code}")
    return marked


def _tid1500reader(program: Path, one: DicomObject) -> Sequence[str]:
    with tempfile.TemporaryDirectory() as folder:
        written = Path(folder, "report.json")
        output = run_program(program, ("--inputDICOM", one.path, "--outputMetadata", written))
        if output.exit_code or not written.exists():
            return (f"exit code {output.exit_code}: {' | '.join(output.lines[-2:])}",)
        try:
            metadata = json.loads(written.read_text(encoding="utf-8", errors="replace"))
        except ValueError:
            return ("writes no valid JSON",)
    measured = metadata.get("Measurements") or []
    read = sorted(str(group.get("TrackingIdentifier")) for group in measured)
    n_groups = len(find(one.dataset, "125007"))
    if len(read) != n_groups:
        return (f"reads {len(read)} of {n_groups} measurement groups",)
    names = set(groups(one.dataset))
    return [f"reads no group {name!r}" for name in sorted(names - set(read))]


def _segimage2itkimage(program: Path, one: DicomObject) -> Sequence[str]:
    try:
        expected = {segment.number: segment.n_voxels for segment in read_segments(one.path)}
    except PARSE_ERRORS as error:
        return (f"cannot be compared: pixels cannot be read ({type(error).__name__})",)
    with tempfile.TemporaryDirectory() as folder:
        arguments = ("--inputDICOM", one.path, "--outputDirectory", folder, "--prefix", "seg")
        output = run_program(program, arguments)
        if output.exit_code:
            return (f"exit code {output.exit_code}: {' | '.join(output.lines[-2:])}",)
        try:
            read = _count_voxels(Path(folder))
        except (OSError, ValueError, LookupError) as error:
            return (f"writes what cannot be read ({type(error).__name__})",)
    return [
        f"segment {number}: reads {read.get(number)} voxels, there are {n_voxels}"
        for number, n_voxels in expected.items()
        # What lies outside all segments has a number in a label map and is no segment.
        if number and read.get(number) != n_voxels and (n_voxels or number in read)
    ]


def _count_voxels(folder: Path) -> dict[int, int]:
    metadata = json.loads((folder / "seg-meta.json").read_text(encoding="utf-8", errors="replace"))
    counted = {}
    for number, group in enumerate(metadata["segmentAttributes"], start=1):
        voxels, _ = read_nrrd(folder / f"seg-{number}.nrrd")
        for attributes in group:
            label = int(attributes["labelID"])
            counted[label] = int(np.count_nonzero(voxels == label))
    return counted


def _paramap2itkimage(program: Path, one: DicomObject) -> Sequence[str]:
    try:
        expected = read_map(one.path)
    except PARSE_ERRORS as error:
        return (f"cannot be compared: values cannot be read ({type(error).__name__})",)
    with tempfile.TemporaryDirectory() as folder:
        named = ("--prefix", "map", "--outputType", "nrrd")
        arguments = ("--inputDICOM", one.path, "--outputDirectory", folder, *named)
        output = run_program(program, arguments)
        if output.exit_code:
            return (f"exit code {output.exit_code}: {' | '.join(output.lines[-2:])}",)
        try:
            values, _ = read_nrrd(Path(folder, "map-pmap.nrrd"))
        except (OSError, ValueError, LookupError) as error:
            return (f"writes what cannot be read ({type(error).__name__})",)
    # It stacks frames by position, so their order may differ.
    is_same = values.size == expected.size and np.array_equal(
        np.sort(values, axis=None), np.sort(expected, axis=None)
    )
    return () if is_same else ("reads other values than there are",)


def is_any(_: DicomObject) -> bool:
    """Say yes to every object."""
    return True


VALIDATORS: Final = (
    Validator("dciodvfy", "attributes and values of the information object", is_any, _dciodvfy),
    Validator("dcmdump", "encoding of the file", is_any, _dcmtk),
    Validator("dsrdump", "content tree of a report", lambda one: one.is_report, _dcmtk),
    Validator("dcmpschk", "presentation state", lambda one: one.is_presentation_state, _dcmpschk),
    Validator(
        "tid1500reader",
        "measurement groups, read by another toolkit",
        lambda one: one.is_measurement_report,
        _tid1500reader,
    ),
    Validator(
        "segimage2itkimage",
        "voxels of each segment, read by another toolkit",
        lambda one: one.is_segmentation,
        _segimage2itkimage,
    ),
    Validator(
        "paramap2itkimage",
        "values of a map, read by another toolkit",
        lambda one: one.is_map,
        _paramap2itkimage,
    ),
)

#: The one that looks at a whole study.
ENTITY_VALIDATOR: Final = "dcentvfy"
ENTITY_PURPOSE: Final = "same patient and study in results and sources"


def ask_about_entities(
    program: Path, results: Sequence[DicomObject], sources: Sequence[DicomObject]
) -> list[str]:
    """Compare the objects of one study; remarks about two sources are not about us."""
    compared = [*results, *sources[:MAXIMUM_SOURCES]]
    output = run_program(program, [one.path for one in compared])
    ours = [f"<{one.path}>" for one in results]
    return [line for line in output.lines if any(path in line for path in ours)]
