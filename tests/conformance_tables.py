"""Tables of the conformance statement that are read off what the report step really writes."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydicom.sr.coding import Code
from pydicom.uid import UID

from screener.domain import ResultKind
from screener.report import ReportOptions, build_results, codes
from screener.report.envelope import SERIES_NUMBERS
from screener.report.header import TYPE_2
from tests.report_factories import (
    STARTED_AT,
    make_screening,
    run_identity,
    write_study,
)
from tests.sr_reader import read_result

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pydicom import Dataset

Row = tuple[str, ...]
#: The objects whose attributes are listed one by one: all, in the order of their series.
_LISTED = tuple(sorted(ResultKind, key=SERIES_NUMBERS.__getitem__))
_COPIED = "copied"
_COPIED_OR_EMPTY = "copied; empty where the source has none"
#: What two small studies cannot show.
_SAID = {
    "StudyInstanceUID": _COPIED,
    "StudyDescription": _COPIED,
    "FrameOfReferenceUID": _COPIED,
    "PositionReferenceIndicator": _COPIED_OR_EMPTY,
    **dict.fromkeys(
        (
            "SourceImageSequence",
            "SourceInstanceSequence",
            "PageNumberVector",
            "NumberOfFrames",
            "GraphicAnnotationSequence",
            "GraphicLayerSequence",
            "DimensionOrganizationType",
            "FloatPixelData",
            "EncapsulatedDocument",
            "EncapsulatedDocumentLength",
        ),
        "generated",
    ),
    "DisplayedAreaSelectionSequence": "as the slices",
    "RescaleIntercept": _COPIED,
    "RescaleSlope": _COPIED,
    "Rows": "as the slices or the picture",
    "Columns": "as the slices or the picture",
    "SharedFunctionalGroupsSequence": "as the slices",
    "ContentQualification": "setting `report.content_qualification`",
    "CompletionFlag": (
        "`COMPLETE`; `PARTIAL` with a description where the study, slices of the series "
        "or the segmentation are missing"
    ),
}
_PATIENT_GROUP = 0x0010
#: Longest fixed value that is printed, in characters.
_PRINTED = 40


def created_rows() -> Iterator[Row]:
    """Give each kind of object that is created: setting, class, modality, series."""
    with tempfile.TemporaryDirectory() as folder:
        objects = _build(Path(folder), tuple(ResultKind), "first")
    for kind, document in sorted(objects.items(), key=lambda one: SERIES_NUMBERS[one[0]]):
        name = str(UID(document.SOPClassUID).name).removesuffix(" Storage")
        series = f"{document.SeriesNumber}, {document.SeriesDescription}"
        yield f"`{kind.value}`", name, f"`{document.SOPClassUID}`", document.Modality, series


def attribute_rows() -> Iterator[Row]:
    """Give each attribute of the listed objects: where it is and where its value comes from."""
    with tempfile.TemporaryDirectory() as folder:
        first = _build(Path(folder, "first"), _LISTED, "first")
        second = _build(Path(folder, "second"), _LISTED, "second")
    keywords = {e.tag: e.keyword for one in first.values() for e in one if e.keyword}
    for tag, keyword in sorted(keywords.items()):
        holders = [kind for kind in _LISTED if keyword in first[kind]]
        sources = {kind: _source_of(keyword, first[kind], second[kind]) for kind in holders}
        for source in dict.fromkeys(sources.values()):
            kinds = ", ".join(f"`{kind.value}`" for kind in holders if sources[kind] == source)
            name = first[holders[0]][keyword].name
            yield name, f"({tag.group:04X},{tag.element:04X})", kinds, source


def _source_of(keyword: str, first: Dataset, second: Dataset) -> str:
    """Say where a value comes from, by what two sources and runs that differ make of it."""
    value = first[keyword].value
    if keyword in _SAID:
        return _SAID[keyword]
    if keyword in TYPE_2:
        return _COPIED_OR_EMPTY
    if first[keyword].tag.group == _PATIENT_GROUP:
        return _COPIED
    if value in (None, "") or (first[keyword].VR == "SQ" and not value):
        return "empty"
    if keyword not in second or first[keyword].value != second[keyword].value:
        return "generated"
    text = str(value)
    is_short = first[keyword].VR != "SQ" and len(text) <= _PRINTED
    return f"fixed: `{text}`" if is_short else "fixed"


def _build(folder: Path, kinds: tuple[ResultKind, ...], name: str) -> dict[ResultKind, Dataset]:
    """Build the objects of one of two studies that differ in all that a source can change."""
    folder.mkdir(exist_ok=True)
    is_first = name == "first"
    changes: dict[str, Any] = (
        {}
        if is_first
        else {
            "StudyInstanceUID": "1.2.826.0.1.3680043.8.498.91",
            "SeriesInstanceUID": "1.2.826.0.1.3680043.8.498.92",
            "AccessionNumber": "B-18",
        }
    )
    study = write_study(folder, 8 if is_first else 10, **changes)
    screening = make_screening(study)
    if not is_first:
        run = run_identity(
            study, version=2, settings_digest="d" * 64, started_at=STARTED_AT + timedelta(1.1)
        )
        models = tuple(replace(one, version="2.0.0") for one in run.models)
        run = replace(run, models=models, code_version="0.2.0")
        screening = replace(screening, run=run)
    results = build_results(screening, study, ReportOptions(kinds=kinds))
    return {one.kind: read_result(one) for one in results}


def code_rows() -> Iterator[Row]:
    """Give every coded concept that a result may hold."""
    found: set[Code] = set()
    for value in vars(codes).values():
        if isinstance(value, Code):
            found.add(value)
        elif isinstance(value, dict):
            found |= {one for one in value.values() if isinstance(one, Code)}
    for code in sorted(found, key=lambda one: (one.scheme_designator, one.value)):
        yield code.scheme_designator, f"`{code.value}`", code.meaning
