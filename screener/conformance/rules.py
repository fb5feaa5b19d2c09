"""Rules of a report that no validator knows: TID 1500, IHE AIR equality, evidence, honesty.

Written from PS3.16 and IHE AIR, not from our writer. Each rule gives sentences for what breaks
it; an empty list is a pass. What concerns a segmentation too stands in `segment_rules`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from screener.conformance.objects import LABEL_MAP_SEGMENTATION, SEGMENTATION
from screener.conformance.tree import concept_of, find, first_code, value_of, values, walk

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pydicom import Dataset

_PROCESSING_EQUIPMENT: Final = "109102"
_MEASUREMENT_GROUP: Final = "125007"
_ALGORITHM_NAME: Final = "111001"
_CONTENT_ROOTS: Final = {"126010", "126011", "C0034375"}
#: Attributes that an algorithm has in Contributing Equipment (IHE AIR 6.5.3.1).
_EQUIPMENT_KEYWORDS: Final = (
    "Manufacturer",
    "ManufacturerModelName",
    "SoftwareVersions",
    "DeviceUID",
)
_HUNDRED_PERCENT: Final = 100.0


def report_violations(report: Dataset) -> list[str]:
    """Check a report by itself.

    Parameters
    ----------
    report
        An Imaging Measurement Report; pixel data play no part.

    Returns
    -------
    :
        One sentence per violation.
    """
    found = [*_document(report), *_groups(report), *_evidence(report)]
    if find(report, _ALGORITHM_NAME):
        found += [*_equipment(report), *_named_algorithms(report), *_observer(report)]
        found += _modesty(report)
    return found


def described_algorithms(document: Dataset) -> dict[str, tuple[str, str]]:
    """Give version and maker of each algorithm in Contributing Equipment."""
    return {
        str(item.get("ManufacturerModelName")): (
            str(item.get("SoftwareVersions")),
            str(item.get("Manufacturer")),
        )
        for item in processing_equipment(document)
    }


def processing_equipment(document: Dataset) -> list[Dataset]:
    """List the Contributing Equipment items that describe algorithms."""
    return [
        item
        for item in document.get("ContributingEquipmentSequence") or []
        if first_code(item, "PurposeOfReferenceCodeSequence") == _PROCESSING_EQUIPMENT
    ]


def _document(report: Dataset) -> Iterator[str]:
    """TID 1500: template, observer, procedure, and at least one container of content."""
    templates = report.get("ContentTemplateSequence") or []
    if not templates or templates[0].get("TemplateIdentifier") != "1500":
        yield "the root does not name template 1500"
    if not find(report, "121008") and not find(report, "121012"):
        yield "no person and no device is named as observer (TID 1001)"
    if not find(report, "121058"):
        yield "Procedure reported is missing (TID 1500)"
    children = report.get("ContentSequence") or []
    if not {concept_of(child) for child in children} & _CONTENT_ROOTS:
        yield "no container of measurements or evaluations (TID 1500)"


def _groups(report: Dataset) -> Iterator[str]:
    """TID 1501 and 1411: what each group has exactly once."""
    for number, group in enumerate(find(report, _MEASUREMENT_GROUP), start=1):
        name = _name_of(group, number)
        for concept, words in (("112039", "Tracking Identifier"), ("112040", "Tracking UID")):
            if len([one for one in values(group, concept) if one]) != 1:
                yield f"{name} has not exactly one {words}"
        if len(find(group, "121071")) > 1:
            yield f"{name} has several findings"
        segments = find(group, "121191")
        if segments and not find(group, "121232") and not find(group, "121233"):
            yield f"{name} names no source of its segment (TID 1411)"
        for certainty in values(group, "111012"):
            if not 0.0 <= certainty <= _HUNDRED_PERCENT:
                yield f"{name} has a certainty outside 0 to 100 %"


def _name_of(group: Dataset, number: int) -> str:
    names = [str(one) for one in values(group, "112039") if one]
    return f"group {number} ({names[0]})" if names else f"group {number}"


def _equipment(report: Dataset) -> Iterator[str]:
    """Each algorithm of the tree has an equipment item with all five attributes."""
    named = {str(name) for name in values(report, _ALGORITHM_NAME)}
    for item in processing_equipment(report):
        if str(item.get("ManufacturerModelName")) in named:
            for keyword in _EQUIPMENT_KEYWORDS:
                if not item.get(keyword):
                    yield f"equipment {item.get('ManufacturerModelName')} lacks {keyword}"
    for name in sorted(named - set(described_algorithms(report))):
        yield f"{name} is no equipment"


def _named_algorithms(report: Dataset) -> Iterator[str]:
    """The tree gives each algorithm the version and maker that its equipment item gives."""
    described = described_algorithms(report)
    for group in find(report, _MEASUREMENT_GROUP):
        columns = [values(group, code) for code in (_ALGORITHM_NAME, "111003", "122405")]
        names, versions, makers = columns
        if len(versions) != len(names) or (makers and len(makers) != len(names)):
            yield f"{', '.join(map(str, names)) or 'a group'}: algorithm without version or maker"
            continue
        for name, version, maker in zip(
            names, versions, makers or [None] * len(names), strict=True
        ):
            expected = described.get(str(name))
            if expected is None:
                continue  # said as "no equipment"
            if version != expected[0] or maker not in {None, expected[1]}:
                yield f"{name}: equipment and tree differ"


def _observer(report: Dataset) -> Iterator[str]:
    """The device that observed is one of the equipment items (IHE AIR, table 6.5.3.1-1)."""
    uids = values(report, "121012")
    if not uids:
        return
    for item in processing_equipment(report):
        same = (
            (uids, "DeviceUID"),
            (values(report, "121014"), "Manufacturer"),
            (values(report, "121015"), "ManufacturerModelName"),
        )
        if all(not named or named[0] == str(item.get(keyword)) for named, keyword in same):
            return
    yield "the device observer is no equipment"


def _modesty(report: Dataset) -> Iterator[str]:
    """Software alone neither verifies nor finishes a report."""
    if report.get("VerifyingObserverSequence"):
        return
    if report.get("VerificationFlag") == "VERIFIED":
        yield "VERIFIED without a person who verified"
    if report.get("PreliminaryFlag") == "FINAL":
        yield "FINAL without a person who verified"


def _evidence(report: Dataset) -> Iterator[str]:
    """Every cited instance is evidence, and no segment is cited of anything but a BINARY SEG."""
    listed = {
        instance.get("ReferencedSOPInstanceUID")
        for keyword in (
            "CurrentRequestedProcedureEvidenceSequence",
            "PertinentOtherEvidenceSequence",
        )
        for study in report.get(keyword) or []
        for series in study.get("ReferencedSeriesSequence") or []
        for instance in series.get("ReferencedSOPSequence") or []
    }
    unlisted = {one.get("ReferencedSOPInstanceUID") for one in cited_images(report)} - listed
    for uid in sorted(map(str, unlisted)):
        yield f"{uid} is cited but no evidence"
    for item in map(value_of, find(report, "121191")):
        if item.ReferencedSOPClassUID == LABEL_MAP_SEGMENTATION:
            yield "a segment of a label map is cited; common readers cannot parse such a report"
        elif item.ReferencedSOPClassUID != SEGMENTATION:
            yield f"{item.ReferencedSOPClassUID.name} is cited as a segment"


def cited_images(report: Dataset) -> list[Dataset]:
    """Give the reference of every image item of a tree."""
    return [value_of(item) for item in walk(report) if item.get("ValueType") == "IMAGE"]
