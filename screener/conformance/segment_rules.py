"""Rules between a report and its segmentation, and between voxels and what is said of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from screener.conformance.rules import described_algorithms
from screener.conformance.tree import find, groups, value_of, values

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pydicom import Dataset

    from screener.conformance.masks import Segment

#: SNOMED CT codes of the sides, and the word that a label uses.
_SIDES: Final = {"24028007": "right", "7771000": "left"}
_RIGHT, _LEFT = _SIDES
_LUNG: Final = "39607008"
#: Volumes are written with one decimal.
_ROUNDING_ML: Final = 0.06
#: Share by which a volume may differ where slices are not evenly spaced.
_VOLUME_SHARE: Final = 0.02


def pair_violations(report: Dataset, segmentation: Dataset) -> list[str]:
    """Check what a report says of a segmentation against what that says of itself.

    Parameters
    ----------
    report, segmentation
        An Imaging Measurement Report and a segmentation that it cites; no pixels needed.

    Returns
    -------
    :
        One sentence per violation.
    """
    return [
        *_segment_algorithms(report, segmentation),
        *_tracking(report, segmentation),
        *_laterality(report, segmentation),
    ]


def _segment_algorithms(report: Dataset, segmentation: Dataset) -> Iterator[str]:
    """Algorithm Identification of each segment equals the equipment of both objects."""
    for segment in segmentation.SegmentSequence:
        items = segment.get("SegmentationAlgorithmIdentificationSequence") or []
        if not items:
            if segment.get("SegmentAlgorithmType") != "MANUAL":
                yield f"segment {segment.get('SegmentNumber')} names no algorithm"
            continue
        one = items[0]
        said = (str(one.get("AlgorithmVersion")), str(one.get("AlgorithmSource")))
        for document, words in ((report, "report"), (segmentation, "segmentation")):
            if described_algorithms(document).get(str(one.get("AlgorithmName"))) != said:
                yield f"{one.get('AlgorithmName')}: equipment of the {words} and segment differ"


def _tracking(report: Dataset, segmentation: Dataset) -> Iterator[str]:
    """A segment and its group are tracked by the same UID."""
    tracked = groups(report)
    for segment in segmentation.SegmentSequence:
        name = str(segment.get("TrackingID") or "")
        if name not in tracked:
            yield f"segment {segment.get('SegmentNumber')} is in no group of the report"
        elif values(tracked[name], "112040") != [segment.get("TrackingUID")]:
            yield f"{name}: tracking UIDs differ"


def _laterality(report: Dataset, segmentation: Dataset) -> Iterator[str]:
    """A group and the segment it cites are on the same side."""
    sides = {
        int(segment.SegmentNumber): _modifier(segment) for segment in segmentation.SegmentSequence
    }
    for name, group in groups(report).items():
        said = values(group, "272741003")
        for item in map(value_of, find(group, "121191")):
            if item.ReferencedSOPInstanceUID != segmentation.SOPInstanceUID:
                continue
            number = int(item.get("ReferencedSegmentNumber") or 0)
            if number not in sides:
                yield f"{name}: segment {number} does not exist"
            elif said != [side for side in [sides[number]] if side]:
                yield f"{name}: laterality of report and segment {number} differ"


def _modifier(segment: Dataset) -> str:
    kinds = segment.get("SegmentedPropertyTypeCodeSequence") or []
    modifiers = kinds[0].get("SegmentedPropertyTypeModifierCodeSequence") if kinds else None
    return str(modifiers[0].get("CodeValue") or "") if modifiers else ""


def voxel_violations(segmentation: Dataset, segments: Sequence[Segment]) -> list[str]:
    """Check what a segmentation says of its segments against their voxels: left is left.

    Parameters
    ----------
    segmentation
        No pixels needed.
    segments
        The same segments as read from its pixels.
    """
    found = [
        f"segment {one.number} is called {one.label!r}, its code says {_SIDES[one.laterality]}"
        for one in segments
        if one.laterality in _SIDES
        and any(word in one.label.lower() for word in _SIDES.values())
        and _SIDES[one.laterality] not in one.label.lower()
    ]
    lungs = {int(item.SegmentNumber) for item in segmentation.SegmentSequence if _is_lung(item)}
    middles_mm = {
        one.laterality: one.mean_x_mm
        for one in segments
        if one.number in lungs and one.mean_x_mm is not None
    }
    # Patient coordinates grow to the left (PS3.3 C.7.6.2.1.1).
    if {_RIGHT, _LEFT} <= set(middles_mm) and middles_mm[_RIGHT] >= middles_mm[_LEFT]:
        found.append("the right lung lies to the left of the left lung")
    return found


def _is_lung(segment: Dataset) -> bool:
    kinds = segment.get("SegmentedPropertyTypeCodeSequence") or []
    return bool(kinds) and kinds[0].get("CodeValue") == _LUNG


def volume_violations(
    report: Dataset, segmentation_uid: str, segments: Sequence[Segment]
) -> list[str]:
    """Check the volumes of a report against the voxels of the segments that it cites."""
    by_number = {one.number: one for one in segments}
    found: list[str] = []
    for name, group in groups(report).items():
        for item in map(value_of, find(group, "121191")):
            segment = by_number.get(int(item.get("ReferencedSegmentNumber") or 0))
            if item.ReferencedSOPInstanceUID != segmentation_uid or segment is None:
                continue
            found += [
                f"{name}: volume {volume_ml} cm3, but {segment.n_voxels} voxels hold "
                f"{segment.volume_ml:.1f} cm3"
                for volume_ml in values(group, "118565006")
                if not _agrees(volume_ml, segment.volume_ml)
            ]
    return found


def _agrees(said_ml: float, counted_ml: float | None) -> bool:
    if counted_ml is None:
        return True
    return abs(said_ml - counted_ml) <= max(_ROUNDING_ML, _VOLUME_SHARE * counted_ml)
