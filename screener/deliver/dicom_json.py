"""Read DICOM JSON (PS3.18 Annex F) tolerantly: what is not as it should be counts as absent."""

from __future__ import annotations

from typing import Any

#: Longest value that is looked at, in characters; UIDs have 64.
_MAX_LENGTH = 1024


def items_of(document: Any, tag: str) -> list[dict[str, Any]]:
    """Give the items of a sequence; `tag` as eight hexadecimal digits."""
    return [item for item in _values(document, tag) if isinstance(item, dict)]


def text_of(document: Any, tag: str) -> str:
    """Give the first value of an attribute as text; empty where there is none."""
    return next(iter(texts_of(document, tag)), "")


def texts_of(document: Any, tag: str) -> tuple[str, ...]:
    """Give every value of an attribute as text."""
    values = (str(value) for value in _values(document, tag) if isinstance(value, str | int))
    return tuple(value[:_MAX_LENGTH].strip(" \x00") for value in values)


def integer_of(document: Any, tag: str) -> int | None:
    """Give the first value of an attribute as a number; None where there is none."""
    text = text_of(document, tag)
    return int(text) if text.isascii() and text.isdecimal() and len(text) <= 10 else None  # noqa: PLR2004 - more than any count has


def _values(document: Any, tag: str) -> list[Any]:
    element = document.get(tag) if isinstance(document, dict) else None
    values = element.get("Value") if isinstance(element, dict) else None
    return values if isinstance(values, list) else []
