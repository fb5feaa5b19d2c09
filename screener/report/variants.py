"""The same report in an older SOP class, for an archive that does not take the newer one.

A variant is an object of its own: its UIDs are derived from those of the original and from the
class, so that making it again gives the same bytes. Nothing else changes: the tree is valid in all
three classes (PS3.3 A.35.1, A.35.2, A.35.13), it has no SCOORD3D and no reference within the tree.
"""

from __future__ import annotations

from io import BytesIO
from typing import TYPE_CHECKING, Final

from pydicom import config, dcmread, dcmwrite
from pydicom.errors import InvalidDicomError
from pydicom.uid import (
    UID,
    Comprehensive3DSRStorage,
    ComprehensiveSRStorage,
    EnhancedSRStorage,
)

from screener.domain import ResultObject
from screener.errors import ReportError
from screener.report.uids import derive_uid

if TYPE_CHECKING:
    from collections.abc import Container, Iterator
    from pathlib import Path

    from pydicom import Dataset

    from screener.domain import ResultKind

#: What to offer next instead of a class; a class that is not here has no variant.
FALLBACKS: Final[dict[str, str]] = {
    Comprehensive3DSRStorage: ComprehensiveSRStorage,
    ComprehensiveSRStorage: EnhancedSRStorage,
}


def variant_uid(sop_instance_uid: str, sop_class_uid: str) -> str:
    """Give the SOP Instance UID that a report has in another class."""
    return derive_uid("variant", sop_instance_uid, sop_class_uid)


def write_variant(
    path: Path, kind: ResultKind, sop_class_uid: str, known: Container[str] = ()
) -> ResultObject:
    """Write a stored report, itself a variant or not, as the class that is its fallback.

    Parameters
    ----------
    path
        The stored report.
    known
        SOP Instance UIDs of variants that exist: where a predecessor has one, that one is named,
        since an archive that takes no original holds none.

    Raises
    ------
    ReportError
        The stored original cannot be read.
    """
    with config.disable_value_validation():
        try:
            document = dcmread(path)
        except (InvalidDicomError, OSError, EOFError) as error:
            raise ReportError(f"a stored report cannot be read: {error}") from error
        document.SOPInstanceUID = UID(variant_uid(document.SOPInstanceUID, sop_class_uid))
        document.SeriesInstanceUID = UID(variant_uid(document.SeriesInstanceUID, sop_class_uid))
        document.SOPClassUID = UID(sop_class_uid)
        document.file_meta.MediaStorageSOPClassUID = document.SOPClassUID
        document.file_meta.MediaStorageSOPInstanceUID = document.SOPInstanceUID
        for series, instance in _predecessors(document):
            _rename(series, instance, sop_class_uid, known)
        buffer = BytesIO()
        dcmwrite(buffer, document, enforce_file_format=True)
    return ResultObject(
        kind=kind,
        sop_class_uid=sop_class_uid,
        sop_instance_uid=str(document.SOPInstanceUID),
        series_instance_uid=str(document.SeriesInstanceUID),
        encoded=buffer.getvalue(),
    )


def predecessor_variants(path: Path, sop_class_uid: str) -> tuple[str, ...]:
    """List the UIDs that the predecessors of a stored report would have in another class."""
    with config.disable_value_validation():
        keyword = "PredecessorDocumentsSequence"
        document = dcmread(path, specific_tags=[keyword], stop_before_pixels=True)
        return tuple(
            variant_uid(str(instance.ReferencedSOPInstanceUID), sop_class_uid)
            for _, instance in _predecessors(document)
        )


def _predecessors(document: Dataset) -> Iterator[tuple[Dataset, Dataset]]:
    for study in document.get("PredecessorDocumentsSequence", []):
        for series in study.ReferencedSeriesSequence:
            for instance in series.ReferencedSOPSequence:
                yield series, instance


def _rename(series: Dataset, instance: Dataset, sop_class_uid: str, known: Container[str]) -> None:
    uid = variant_uid(str(instance.ReferencedSOPInstanceUID), sop_class_uid)
    if uid in known:
        instance.ReferencedSOPClassUID = UID(sop_class_uid)
        instance.ReferencedSOPInstanceUID = UID(uid)
        series.SeriesInstanceUID = UID(variant_uid(str(series.SeriesInstanceUID), sop_class_uid))
