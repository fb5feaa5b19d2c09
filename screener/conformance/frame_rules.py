"""Rules of objects with frames: each frame lies on the slice it cites, and a map holds shares."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from screener.conformance.tree import first_code

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import NDArray
    from pydicom import Dataset

#: How far a frame may lie from its slice, along the normal, millimetres: Decimal Strings round.
_DISTANCE_MM: Final = 0.05
#: Violations of one kind that are named before the rest is counted.
_NAMED: Final = 3


def place_violations(document: Dataset, sources: Sequence[Dataset]) -> list[str]:
    """Check that every frame lies in the plane of the source that it cites.

    Parameters
    ----------
    document
        Of an image with Per-frame Functional Groups in patient coordinates; no pixels needed.
    sources
        Of the same study. Those of one SOP Instance UID, or without a position, are not compared.
    """
    heights = _positions(sources)
    found = []
    frames = document.get("PerFrameFunctionalGroupsSequence") or []
    for number, frame in enumerate(frames, start=1):
        cited = _cited(frame)
        position = frame.get("PlanePositionSequence")
        if cited not in heights or not position:
            continue
        offset_mm = np.array(position[0].ImagePositionPatient, float) - heights[cited]
        distance_mm = abs(float(offset_mm @ _normal(document, frame)))
        if distance_mm > _DISTANCE_MM:
            found.append(f"frame {number} lies {distance_mm:.1f} mm from the slice that it cites")
    rest = len(found) - _NAMED
    return [*found[:_NAMED], *([f"{rest} more frames lie beside their slices"] if rest > 0 else [])]


def map_violations(document: Dataset, values: NDArray[np.float32]) -> Iterator[str]:
    """Check a parametric map: it says what it holds, in which unit, and holds that."""
    if not np.isfinite(values).all():
        yield "the map holds values that are no numbers"
    mappings = _mappings(document)
    if not mappings:
        yield "no real world value mapping says what the values mean"
    for mapping in mappings:
        if not first_code(mapping, "MeasurementUnitsCodeSequence"):
            yield "the values have no unit"
        if not _quantities(mapping):
            yield "no quantity is named (Quantity Definition)"
        lower = float(mapping.get("DoubleFloatRealWorldValueFirstValueMapped") or 0.0)
        upper = float(mapping.get("DoubleFloatRealWorldValueLastValueMapped") or 0.0)
        if values.size and (values.min() < lower or values.max() > upper):
            yield (
                f"values of {values.min():.3g} to {values.max():.3g} leave the mapped range of "
                f"{lower:.3g} to {upper:.3g}"
            )


def _positions(sources: Sequence[Dataset]) -> Mapping[str, NDArray[np.float64]]:
    found: dict[str, NDArray[np.float64]] = {}
    ambiguous: set[str] = set()
    for one in sources:
        uid = str(one.get("SOPInstanceUID") or "")
        ambiguous |= {uid} & set(found)
        if one.get("ImagePositionPatient"):
            found[uid] = np.array(one.ImagePositionPatient, float)
    return {uid: position for uid, position in found.items() if uid not in ambiguous}


def _cited(frame: Dataset) -> str:
    """Give the SOP Instance UID of the source of a frame, empty for none and for a frame of one."""
    for derivation in frame.get("DerivationImageSequence") or []:
        for source in derivation.get("SourceImageSequence") or []:
            if "ReferencedFrameNumber" not in source:
                return str(source.get("ReferencedSOPInstanceUID") or "")
    return ""


def _normal(document: Dataset, frame: Dataset) -> NDArray[np.float64]:
    shared = document.SharedFunctionalGroupsSequence[0]
    holder = frame if "PlaneOrientationSequence" in frame else shared
    cosines = np.array(holder.PlaneOrientationSequence[0].ImageOrientationPatient, float)
    return np.cross(cosines[:3], cosines[3:])


def _mappings(document: Dataset) -> list[Dataset]:
    shared = document.get("SharedFunctionalGroupsSequence") or []
    frames = document.get("PerFrameFunctionalGroupsSequence") or []
    return [
        mapping
        for holder in (*shared, *frames)
        for mapping in holder.get("RealWorldValueMappingSequence") or []
    ]


def _quantities(mapping: Dataset) -> list[str]:
    items = mapping.get("QuantityDefinitionSequence") or []
    return [code for item in items if (code := first_code(item, "ConceptCodeSequence"))]
