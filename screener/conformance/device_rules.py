"""A rule over all results of a folder: one Device UID is one algorithm, whatever it is called.

IHE AIR 6.5.3.1: an algorithm that changes gets another Device UID. One object cannot show that; two
of different runs can.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from screener.conformance.rules import processing_equipment

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from pydicom import Dataset

#: Name, version and maker of an algorithm.
Description = tuple[str, str, str]


def describe_devices(documents: Iterable[Dataset]) -> Mapping[str, frozenset[Description]]:
    """Collect what is said of each Device UID in Contributing Equipment."""
    found: dict[str, set[Description]] = defaultdict(set)
    for document in documents:
        for item in processing_equipment(document):
            if item.get("DeviceUID"):
                found[str(item.DeviceUID)].add(
                    (
                        str(item.get("ManufacturerModelName") or ""),
                        str(item.get("SoftwareVersions") or ""),
                        str(item.get("Manufacturer") or ""),
                    )
                )
    return {uid: frozenset(said) for uid, said in found.items()}


def device_violations(
    document: Dataset, devices: Mapping[str, frozenset[Description]]
) -> list[str]:
    """Check that no Device UID of an object stands for two algorithms in the folder."""
    violations = []
    for item in processing_equipment(document):
        said = devices.get(str(item.get("DeviceUID") or ""), frozenset())
        if len(said) > 1:
            names = " and ".join(sorted(f"{name} {version}" for name, version, _ in said))
            violations.append(f"Device UID {item.DeviceUID} stands for {names}")
    return violations
