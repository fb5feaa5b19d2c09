"""`make bench`: lung Dice end to end, and speed as ratios measured side by side in one run.

Machines are shared and noisy, so no absolute figure is a result: the pipeline and ONNX Runtime
alone take turns on the same slices, and the ratio of their medians is printed with its spread.
"""

from __future__ import annotations

import argparse
import io
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pydicom
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track
from rich.table import Table

from models.phantom import Pattern, make_phantom, typical_spec
from models.registry import find_model
from models.session import LungSegmenter, Provider, SliceClassifier
from screener.assemble.folder import read_folder
from screener.classify import lung_bearing_slices, lung_boxes
from screener.daemon.site import utc_now
from screener.daemon.tools import open_tools, report_options
from screener.demo.series_writer import SeriesDefects, write_series
from screener.demo.synthetic_identity import SyntheticIdentity
from screener.domain import (
    ResultKind,
    RunIdentity,
    RunReason,
    Screening,
    SpooledStudy,
    Volume,
)
from screener.journey import PIPELINE, Tools
from screener.pipeline import screen_study, write_results
from screener.report import ReportOptions
from screener.settings import Settings, load_settings
from screener.version import VERSION
from tests.bench_receive import print_receiving

#: Turns that pipeline and runtime take, after one warm-up each.
N_TURNS = 3
#: Slices in one batch of ONNX Runtime alone, which has no lanes to keep busy.
BATCH_SIZE_ALONE = 8
JPEG_LOSSLESS_SV1 = "1.2.840.10008.1.2.4.70"


@dataclass(frozen=True, slots=True)
class Case:
    """One study to measure on."""

    name: str
    folder: Path
    truth: NDArray[np.bool_] | None = None  #: (slices, rows, columns), ascending z


PARTS = ("dice", "speed", "receiving", "results")


def main() -> None:
    """Measure and print the parts that were asked for."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench",
        description="Measure side by side and print ratios; every part takes some minutes.",
        epilog="Example: python -m tests.bench receiving results",
    )
    parser.add_argument("part", nargs="*", help=f"any of {', '.join(PARTS)}; all without")
    chosen = parser.parse_args().part or PARTS
    if unknown := set(chosen) - set(PARTS):
        parser.error(f"no such part: {', '.join(sorted(unknown))}; choose from {', '.join(PARTS)}")
    measure(tuple(chosen), Console(width=110))


def measure(parts: tuple[str, ...], console: Console) -> None:
    """Measure and print."""
    settings = load_settings()
    tools = open_tools(settings)
    with tempfile.TemporaryDirectory(prefix="screener-bench-") as folder:
        cases = find_cases(Path(folder), console)
        if "dice" in parts:
            print_dice(cases, settings, tools, console)
        if "speed" in parts:
            print_speed(cases, tools, console)
        if "receiving" in parts:
            print_receiving(Path(folder), console)
        if "results" in parts:
            print_results(cases, tools, console)
    console.print(f"load average {os.getloadavg()}, {os.cpu_count()} cores")


def find_cases(folder: Path, console: Console) -> list[Case]:
    """Give the real cases where they are, and a synthetic one always."""
    spec = typical_spec(5, Pattern.COVID_19)
    phantom = make_phantom(spec)
    write_series(
        phantom,
        folder / "synthetic",
        SyntheticIdentity(name="bench"),
        SeriesDefects(transfer_syntax_uid=JPEG_LOSSLESS_SV1),
    )
    cases = [Case("synthetic, JPEG Lossless", folder / "synthetic", phantom.lung_labels > 0)]
    data = Path(os.environ.get("SCREENER_TEST_DATA", "../shared/data"))
    lctsc = data / "dicom" / "lctsc"
    if not lctsc.is_dir():
        console.print(f"{lctsc} is not there: real cases are left out (set SCREENER_TEST_DATA)")
        return cases
    truth = np.load(lctsc / "Case_005_lungmask.npz")
    mask = np.asarray(truth["masks"]) > 0
    cases.append(Case("LCTSC Case_005, JPEG-LS", lctsc / "Case_005_jpegls", mask))
    cases.append(Case("COVID_P002, JPEG Lossless", data / "dicom" / "ctmd" / "COVID_P002"))
    return cases


def print_dice(cases: list[Case], settings: Settings, tools: Tools, console: Console) -> None:
    """Print lung Dice from DICOM in to the mask out of the segmentation object."""
    table = Table(title="Lungs: DICOM in, mask out of the DICOM segmentation", title_justify="left")
    for column in ("case", "slices", "Dice whole series", "worst slice with lung > 10 cm²"):
        table.add_column(column)
    for case in cases:
        if case.truth is None:
            continue
        study, screening = screen(case, tools)
        mask = mask_of_segmentation(screening, study, settings)
        worst = min(
            dice(got, true)
            for got, true in zip(mask, case.truth, strict=True)
            if true.sum() > slice_pixels(screening)
        )
        table.add_row(case.name, str(len(mask)), f"{dice(mask, case.truth):.4f}", f"{worst:.3f}")
    console.print(table)


def print_speed(cases: list[Case], tools: Tools, console: Console) -> None:
    """Print slices per second of the pipeline against ONNX Runtime alone, taking turns."""
    alone = runtime_alone(tools)
    table = Table(title=f"Speed, medians of {N_TURNS} turns", title_justify="left")
    for column in ("case", "slices", "pipeline, slices/s", "runtime alone", "ratio (range)"):
        table.add_column(column)
    for case in cases:
        study, screening = screen(case, tools)
        whole, bare = take_turns(
            lambda study=study: screen_study(study, run_of(study, tools), tools, ignore),
            networks_alone(screening, alone),
            lambda turns, name=case.name: track(turns, name, console=console, transient=True),
        )
        ratios = [b / w for b, w in zip(bare, whole, strict=True)]
        n_slices = len(volume_of(screening).slices)
        table.add_row(
            case.name,
            str(n_slices),
            f"{n_slices / statistics.median(whole):.1f}",
            f"{n_slices / statistics.median(bare):.1f}",
            f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})",
        )
    console.print(table)
    console.print("The pipeline reads, decodes, segments, labels, classifies and votes.")


#: The result set whose cost is measured.
RESULT_SET = ReportOptions(
    kinds=(
        ResultKind.STRUCTURED_REPORT,
        ResultKind.SEGMENTATION,
        ResultKind.KEY_OBJECT_SELECTION,
        ResultKind.OVERLAY,
    )
)


def print_results(cases: list[Case], tools: Tools, console: Console) -> None:
    """Print what the result set costs against both networks, taking turns, and its size."""
    alone = runtime_alone(tools)
    table = Table(title="Results (SR, SEG, KO, overlay) against networks", title_justify="left")
    for column in ("case", "slices", "results / networks (range)", "report, kB", "whole set, MB"):
        table.add_column(column)
    for case in cases:
        study, screening = screen(case, tools)
        written, bare = take_turns(
            lambda study=study, screening=screening: write_results(screening, study, RESULT_SET),
            networks_alone(screening, alone),
            lambda turns, name=case.name: track(turns, name, console=console, transient=True),
        )
        ratios = [w / b for w, b in zip(written, bare, strict=True)]
        sizes = [len(one.encoded) for one in write_results(screening, study, RESULT_SET)]
        table.add_row(
            case.name,
            str(len(volume_of(screening).slices)),
            f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})",
            f"{sizes[0] / 1e3:.0f}",
            f"{sum(sizes) / 1e6:.1f}",
        )
    console.print(table)


def take_turns(
    first: Callable[[], object],
    second: Callable[[], object],
    show: Callable[[range], Iterable[int]],
) -> tuple[list[float], list[float]]:
    """Run both once to warm up, then in turns; give the seconds of each turn."""
    first()
    second()
    times: tuple[list[float], list[float]] = ([], [])
    for _ in show(range(N_TURNS)):
        times[0].append(seconds(first))
        times[1].append(seconds(second))
    return times


def runtime_alone(tools: Tools) -> Tools:
    """Give the same networks as ONNX Runtime runs them by itself: all cores on one large batch."""
    n_cores = len(os.sched_getaffinity(0))
    lungs, slices = (find_model(one.name) for one in tools.models)
    return replace(
        tools,
        decoding=replace(tools.decoding, batch_size=BATCH_SIZE_ALONE),
        segmenter=LungSegmenter(lungs, provider=Provider.CPU, threads=n_cores),
        classifier=SliceClassifier(slices, provider=Provider.CPU, threads=n_cores),
    )


def networks_alone(screening: Screening, tools: Tools) -> Callable[[], None]:
    """Give a call that runs both networks on the tensors of a screening, and nothing else."""
    volume, lungs = volume_of(screening), screening.lungs
    assert lungs is not None
    chosen = lung_bearing_slices(volume, lungs, tools.classification)
    boxes = lung_boxes(lungs.labels[chosen])
    hu = volume.volume_hu[chosen]
    n_segmented, n_classified = tools.decoding.batch_size, tools.classification.batch_size

    def run() -> None:
        for start in range(0, len(volume.slices), n_segmented):
            tools.segmenter.logits(volume.volume_hu[start : start + n_segmented])
        for start in range(0, len(hu), n_classified):
            part = slice(start, start + n_classified)
            tools.classifier.predict(hu[part], boxes[part])

    return run


def screen(case: Case, tools: Tools) -> tuple[SpooledStudy, Screening]:
    """Screen a case once."""
    (study,) = read_folder(case.folder, utc_now()).studies
    return study, screen_study(study, run_of(study, tools), tools, ignore)


def run_of(study: SpooledStudy, tools: Tools) -> RunIdentity:
    """Give the identity of a run that is never stored."""
    return RunIdentity(
        run_id="bench",
        study_instance_uid=study.study_instance_uid,
        reason=RunReason.LOCAL,
        input_digest=study.input_digest,
        pipeline=PIPELINE,
        code_version=VERSION,
        settings_digest="",
        version=1,
        started_at=utc_now(),
        models=tools.models,
    )


def mask_of_segmentation(
    screening: Screening, study: SpooledStudy, settings: Settings
) -> NDArray[np.bool_]:
    """Encode the results, and read both lungs back from the segmentation by plane position."""
    objects = write_results(screening, study, report_options(settings))
    encoded = next(one.encoded for one in objects if one.kind is ResultKind.SEGMENTATION)
    segmentation = pydicom.dcmread(io.BytesIO(encoded))
    volume = volume_of(screening)
    heights = np.array([one.position_mm[2] for one in volume.slices])
    mask = np.zeros(volume.volume_hu.shape, dtype=np.bool_)
    frames = zip(segmentation.PerFrameFunctionalGroupsSequence, pixels(segmentation), strict=True)
    for groups, frame in frames:
        z_mm = float(groups.PlanePositionSequence[0].ImagePositionPatient[2])
        mask[int(np.abs(heights - z_mm).argmin())] |= frame > 0
    return mask


def pixels(segmentation: pydicom.Dataset) -> NDArray[np.uint8]:
    """Give the frames of a segmentation, ``(frames, rows, columns)``."""
    stored: NDArray[np.uint8] = segmentation.pixel_array
    return stored.reshape(-1, segmentation.Rows, segmentation.Columns)


def volume_of(screening: Screening) -> Volume:
    """Give the volume of a screening that must have one."""
    if screening.volume is None:
        raise SystemExit(f"a case of the bench was not analysed: {screening.outcome}")
    return screening.volume


def slice_pixels(screening: Screening) -> float:
    """Give 10 square centimetres in pixels."""
    _, row_mm, column_mm = volume_of(screening).spacing_mm
    return 1000.0 / (row_mm * column_mm)


def dice(first: NDArray[np.bool_], second: NDArray[np.bool_]) -> float:
    """Give the Dice coefficient of two masks, 0 to 1."""
    return float(2.0 * (first & second).sum() / (first.sum() + second.sum()))


def seconds(call: Callable[[], object]) -> float:
    """Time one call."""
    started_s = time.perf_counter()
    call()
    return time.perf_counter() - started_s


def ignore(_fact: object) -> None:
    """Hear a fact and forget it."""


if __name__ == "__main__":
    main()
