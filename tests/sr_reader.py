"""Read an SR tree in tests, with pydicom alone, so that highdicom does not check itself."""

from __future__ import annotations

from io import BytesIO
from typing import TYPE_CHECKING, Any

from pydicom import Dataset, config, dcmread

if TYPE_CHECKING:
    from collections.abc import Iterator

    from screener.domain import ResultObject


def read_result(result: ResultObject) -> Dataset:
    """Read an encoded result; identifiers of the source may be irregular."""
    with config.disable_value_validation():
        document = dcmread(BytesIO(result.encoded))
        document.decode()
        return document


def walk(item: Dataset) -> Iterator[Dataset]:
    """Walk a content tree in document order."""
    yield item
    for child in item.get("ContentSequence", []):
        yield from walk(child)


def concept_of(item: Dataset) -> str:
    """Give the code value of a concept name, empty for unnamed items."""
    names = item.get("ConceptNameCodeSequence")
    return str(names[0].CodeValue) if names else ""


def find(item: Dataset, concept: str) -> list[Dataset]:
    """Find the items of a tree by the code value of their concept name."""
    return [one for one in walk(item) if concept_of(one) == concept]


def groups(document: Dataset) -> dict[str, Dataset]:
    """Give the measurement groups by their Tracking Identifier."""
    return {find(group, "112039")[0].TextValue: group for group in find(document, "125007")}


def value_of(item: Dataset) -> Any:
    """Give the value of a content item as a plain value."""
    match item.ValueType:
        case "NUM":
            return float(item.MeasuredValueSequence[0].NumericValue)
        case "CODE":
            return str(item.ConceptCodeSequence[0].CodeValue)
        case "TEXT":
            return str(item.TextValue)
        case "UIDREF":
            return str(item.UID)
        case "IMAGE":
            return item.ReferencedSOPSequence[0]
        case other:
            raise ValueError(f"no plain value of {other}")


def values(item: Dataset, concept: str) -> list[Any]:
    """Give the values of all items of a concept."""
    return [value_of(one) for one in find(item, concept)]
