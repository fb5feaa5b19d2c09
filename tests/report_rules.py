"""Rules of results that no validator knows: IHE AIR equality, tracking, evidence.

Each rule gives sentences for what breaks it; an empty list is a pass.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.sr_reader import find, groups, value_of, values, walk

if TYPE_CHECKING:
    from pydicom import Dataset


def violations(report: Dataset, segmentation: Dataset | None = None) -> list[str]:
    """Check a report, and its segmentation where there is one, against every rule."""
    found = [*_equipment(report), *_named_algorithms(report), *_evidence(report)]
    if segmentation is not None:
        found += [*_segment_algorithms(report, segmentation), *_tracking(report, segmentation)]
    return found


def _described(report: Dataset) -> dict[str, tuple[str, str]]:
    """Give version and maker of each algorithm in Contributing Equipment."""
    return {
        str(item.get("ManufacturerModelName")): (
            str(item.get("SoftwareVersions")),
            str(item.get("Manufacturer")),
        )
        for item in report.ContributingEquipmentSequence
        if item.PurposeOfReferenceCodeSequence[0].CodeValue == "109102"
    }


def _equipment(report: Dataset) -> list[str]:
    """Each algorithm of the tree has an equipment item with all five attributes."""
    keywords = ("Manufacturer", "ManufacturerModelName", "SoftwareVersions", "DeviceUID")
    named = set(values(report, "111001"))
    missing = [
        f"equipment {item.get('ManufacturerModelName')} lacks {keyword}"
        for item in report.ContributingEquipmentSequence
        if item.get("ManufacturerModelName") in named
        for keyword in keywords
        if not item.get(keyword)
    ]
    return missing + [f"{name} is no equipment" for name in named - set(_described(report))]


def _named_algorithms(report: Dataset) -> list[str]:
    described = _described(report)
    return [
        f"{name}: equipment and tree differ"
        for group in groups(report).values()
        for name, version, maker in zip(
            *(values(group, code) for code in ("111001", "111003", "122405")), strict=True
        )
        if described.get(name) != (version, maker)
    ]


def _segment_algorithms(report: Dataset, segmentation: Dataset) -> list[str]:
    described = _described(report)
    algorithms = [
        segment.SegmentationAlgorithmIdentificationSequence[0]
        for segment in segmentation.SegmentSequence
    ]
    return [
        f"{one.AlgorithmName}: equipment and segment differ"
        for one in algorithms
        if described.get(one.AlgorithmName) != (one.AlgorithmVersion, one.AlgorithmSource)
    ]


def _tracking(report: Dataset, segmentation: Dataset) -> list[str]:
    tracked = groups(report)
    return [
        f"{segment.TrackingID}: tracking UIDs differ"
        for segment in segmentation.SegmentSequence
        if values(tracked[segment.TrackingID], "112040") != [segment.TrackingUID]
    ]


def _evidence(report: Dataset) -> list[str]:
    """Every cited instance is evidence, and no segment is cited of anything but a SEG."""
    listed = {
        instance.ReferencedSOPInstanceUID
        for study in report.get("CurrentRequestedProcedureEvidenceSequence", [])
        for series in study.ReferencedSeriesSequence
        for instance in series.ReferencedSOPSequence
    }
    cited = [value_of(item) for item in walk(report) if item.get("ValueType") == "IMAGE"]
    unlisted = {one.ReferencedSOPInstanceUID for one in cited} - listed
    wrong = [
        f"{item.ReferencedSOPClassUID.name} is cited as a segment"
        for item in map(value_of, find(report, "121191"))
        if item.ReferencedSOPClassUID != "1.2.840.10008.5.1.4.1.1.66.4"
    ]
    return [f"{uid} is cited but no evidence" for uid in sorted(unlisted)] + wrong
