"""Read the content tree of a report with pydicom alone, so that its writer does not check itself.

Everything here bears trees that are broken: what cannot be read is empty, and the rules say so.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pydicom import Dataset


def walk(item: Dataset) -> Iterator[Dataset]:
    """Walk a content tree in document order."""
    yield item
    for child in item.get("ContentSequence") or []:
        yield from walk(child)


def concept_of(item: Dataset) -> str:
    """Give the code value of a concept name, empty for unnamed items."""
    return first_code(item, "ConceptNameCodeSequence")


def first_code(item: Dataset, keyword: str) -> str:
    """Give the code value of the first item of a code sequence, empty where there is none."""
    names = item.get(keyword) or []
    if not names:
        return ""
    return str(names[0].get("CodeValue") or names[0].get("LongCodeValue") or "")


def find(item: Dataset, concept: str) -> list[Dataset]:
    """Find the items of a tree by the code value of their concept name."""
    return [one for one in walk(item) if concept_of(one) == concept]


def groups(document: Dataset) -> dict[str, Dataset]:
    """Give the measurement groups by their Tracking Identifier; those without are left out."""
    found = {}
    for group in find(document, "125007"):
        names = values(group, "112039")
        if names:
            found[str(names[0])] = group
    return found


def value_of(item: Dataset) -> Any:
    """Give the value of a content item as a plain value, empty where it holds none.

    Raises
    ------
    ValueError
        Items of this type have no plain value.
    """
    match item.get("ValueType"):
        case "NUM":
            measured = item.get("MeasuredValueSequence") or []
            return float(measured[0].NumericValue) if measured else float("nan")
        case "CODE":
            return first_code(item, "ConceptCodeSequence")
        case "TEXT":
            return str(item.get("TextValue") or "")
        case "UIDREF":
            return str(item.get("UID") or "")
        case "PNAME":
            return str(item.get("PersonName") or "")
        case "IMAGE":
            return item.ReferencedSOPSequence[0]
        case other:
            raise ValueError(f"no plain value of {other}")


def values(item: Dataset, concept: str) -> list[Any]:
    """Give the values of all items of a concept."""
    return [value_of(one) for one in find(item, concept)]
