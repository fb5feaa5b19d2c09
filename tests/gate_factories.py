"""A drawn chest as any source may send it, taken through the whole journey and to the gate."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from pydicom import Dataset, config, dcmread, dcmwrite
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

from screener.assemble import read_folder
from screener.classify import ClassifyRules
from screener.conformance import Verdict, check_folder
from screener.domain import ResultKind, VotePolicy, VoteRule
from screener.journey import Tools
from screener.pipeline import screen_study
from screener.report import ReportOptions, build_results
from tests.chest_models import MeanHuClassifier, ThresholdSegmenter, chest_hu
from tests.report_factories import STARTED_AT, change_header, ct_header, run_identity

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from screener.domain import Screening

N_SLICES = 24
SPACING_MM = 9.0
SIZE = 64
#: What the gate is shown of a study: every kind of object of which a site may want each.
KINDS = (
    ResultKind.STRUCTURED_REPORT,
    ResultKind.SEGMENTATION,
    ResultKind.KEY_OBJECT_SELECTION,
)


@dataclass(frozen=True, slots=True)
class Examined:
    """One journey, and what the gate says of its end."""

    screening: Screening
    verdict: Verdict
    folder: Path  #: sources in `source`, results in `results`

    def read(self, kind: ResultKind) -> Dataset:
        """Read one of its results."""
        with config.disable_value_validation():
            return dcmread(self.path(kind))

    def path(self, kind: ResultKind) -> Path:
        """Give where one of its results lies."""
        return self.folder / "results" / f"{kind.value}.dcm"

    @property
    def objections(self) -> list[tuple[str, str]]:
        """Validator and text of everything that was found."""
        return [(validator, text) for _, validator, text in self.verdict.findings]


def chest_headers(**changes: Any) -> list[Dataset]:
    """Make the slices of a drawn chest with its pixels, every header with the same changes."""
    headers = []
    with config.disable_value_validation():
        for index, plane in enumerate(chest_hu(N_SLICES, SIZE)):
            values = {
                "Rows": SIZE,
                "Columns": SIZE,
                "PixelSpacing": [4.0, 4.0],
                "ImagePositionPatient": [-126.0, -126.0, SPACING_MM * index - 100.0],
                "SliceThickness": SPACING_MM,
                "BodyPartExamined": "CHEST",
                "PatientPosition": "HFS",
                "SliceLocation": SPACING_MM * index - 100.0,
                "WindowCenter": -600,
                "WindowWidth": 1500,
                "RequestAttributesSequence": [order_item()],
            }
            header = ct_header(index, **values)
            change_header(header, changes)
            header.PixelData = plane.astype("<i2").tobytes()
            header["PixelData"].VR = "OW"
            headers.append(header)
    return headers


def order_item() -> Dataset:
    """Make what a scanner copies of its worklist entry."""
    order = Dataset()
    order.RequestedProcedureID = "RP-17"
    order.RequestedProcedureDescription = "CT chest"
    order.ScheduledProcedureStepID = "SPS-17"
    order.ScheduledProcedureStepDescription = "CT chest"
    return order


def write_headers(folder: Path, headers: Iterable[Dataset]) -> None:
    """Write slices as Part 10, right or wrong as they are."""
    folder.mkdir(parents=True)
    for index, header in enumerate(headers):
        header.file_meta = FileMetaDataset()
        header.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        with config.disable_value_validation():
            header.file_meta.MediaStorageSOPClassUID = header.SOPClassUID
            header.file_meta.MediaStorageSOPInstanceUID = header.SOPInstanceUID
            dcmwrite(folder / f"{index:04d}.dcm", header, enforce_file_format=True)


def examine(
    folder: Path,
    headers: Iterable[Dataset],
    kinds: tuple[ResultKind, ...] = KINDS,
    find_on: Callable[[str], Path | None] | None = None,
) -> Examined:
    """Write slices, screen them with stand-in models, write the results, ask the gate."""
    write_headers(folder / "source", headers)
    return examine_sources(folder, kinds, find_on)


def examine_sources(
    folder: Path,
    kinds: tuple[ResultKind, ...] = KINDS,
    find_on: Callable[[str], Path | None] | None = None,
) -> Examined:
    """Screen what lies in `source`, write the results beside it, ask the gate."""
    study = read_folder(folder / "source", STARTED_AT).studies[0]
    tools = Tools(
        segmenter=ThresholdSegmenter(),
        classifier=MeanHuClassifier(),
        models=(),
        policy=VotePolicy("test", VoteRule.AFFECTED_FRACTION),
        classification=ClassifyRules(least_lung_area_mm2=1500.0),
    )
    screening = screen_study(study, run_identity(study), tools, lambda _: None)
    results = folder / "results"
    results.mkdir()
    for result in build_results(screening, study, ReportOptions(kinds=kinds)):
        (results / f"{result.kind.value}.dcm").write_bytes(result.encoded)
    verdict = check_folder(folder, find_on) if find_on else check_folder(folder)
    return Examined(screening, verdict, folder)


def shift(headers: list[Dataset], index: int, millimetres: float) -> None:
    """Move one slice along z, in place."""
    x, y, z = (float(value) for value in headers[index].ImagePositionPatient)
    headers[index].ImagePositionPatient = [x, y, z + millimetres]


def tilt(headers: list[Dataset], degrees: float) -> None:
    """Tilt every plane as a gantry does, in place."""
    angle = np.deg2rad(degrees)
    for header in headers:
        cosines = [1, 0, 0, 0, float(np.cos(angle)), float(np.sin(angle))]
        header.ImageOrientationPatient = [round(value, 6) for value in cosines]
