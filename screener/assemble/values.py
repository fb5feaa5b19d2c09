"""Read single values out of a data set: strict about type, tolerant of absence.

A value of the wrong kind changes the meaning of an image, so it raises; what only informs has
lenient readers that give nothing instead.
"""

import math
from collections.abc import Callable, Iterable
from typing import Any

from pydicom.dataset import Dataset
from pydicom.multival import MultiValue
from pydicom.sequence import Sequence

from screener.assemble.part10 import PARSE_ERRORS
from screener.assemble.plain_header import PlainHeader
from screener.errors import UnreadablePixels

#: What values are read out of.
Attributes = Dataset | PlainHeader


def value_of(dataset: Attributes, keyword: str) -> Any:
    """Give a value, None when absent or empty."""
    try:
        value = dataset.get(keyword)
    except PARSE_ERRORS as error:
        raise UnreadablePixels(f"{keyword} cannot be read") from error
    if value is None or (isinstance(value, str | MultiValue) and len(value) == 0):
        return None
    return value


def unsigned_of(dataset: Attributes, keyword: str, least: int, most: int) -> int:
    """Read a mandatory US value; any other VR is refused (it would change the meaning)."""
    value = value_of(dataset, keyword)
    if value is None:
        raise UnreadablePixels(f"{keyword} is missing")
    if not isinstance(value, int) or dataset[keyword].VR != "US" or not least <= value <= most:
        raise UnreadablePixels(f"{keyword} is no unsigned short from {least} to {most}")
    return value


def integer_of(dataset: Attributes, keyword: str) -> int | None:
    """Read one integer, None when absent; several values or text raise UnreadablePixels."""
    value = value_of(dataset, keyword)
    if value is None:
        return None
    if isinstance(value, str | MultiValue | list | bytes | tuple):
        raise UnreadablePixels(f"{keyword} is no single number")
    try:
        return int(value)
    except PARSE_ERRORS as error:
        raise UnreadablePixels(f"{keyword} is no number") from error


def number_of(dataset: Attributes, keyword: str) -> float | None:
    """Read one finite number, None when absent; anything else raises UnreadablePixels."""
    value = value_of(dataset, keyword)
    if value is None:
        return None
    numbers = _finite([value], keyword)
    return numbers[0]


def vector_reader(length: int) -> Callable[[Attributes, str], tuple[float, ...] | None]:
    """Make a reader of exactly ``length`` finite numbers, None when absent."""

    def read(dataset: Attributes, keyword: str) -> tuple[float, ...] | None:
        value = value_of(dataset, keyword)
        if value is None:
            return None
        if not isinstance(value, MultiValue | list | tuple) or len(value) != length:
            raise UnreadablePixels(f"{keyword} does not have {length} values")
        return _finite(value, keyword)

    return read


def items_of(dataset: Attributes, keyword: str) -> tuple[Dataset, ...] | None:
    """Read the items of a sequence with all their elements decoded, None when absent."""
    value = value_of(dataset, keyword)
    if value is None:
        return None
    if not isinstance(value, Sequence):
        raise UnreadablePixels(f"{keyword} is no sequence")
    try:
        for item in value:
            item.decode()
    except PARSE_ERRORS as error:
        raise UnreadablePixels(f"{keyword} cannot be read") from error
    return tuple(value)


def _finite(values: Iterable[Any], keyword: str) -> tuple[float, ...]:
    try:
        numbers = tuple(float(value) for value in values)
    except PARSE_ERRORS as error:
        raise UnreadablePixels(f"{keyword} is no number") from error
    if not all(math.isfinite(number) for number in numbers):
        raise UnreadablePixels(f"{keyword} is not finite")
    return numbers


def texts_of(dataset: Attributes, keyword: str) -> tuple[str, ...] | None:
    """Read code strings in upper case, None when absent."""
    value = value_of(dataset, keyword)
    if value is None:
        return None
    values = [value] if isinstance(value, str) else list(value)
    return tuple(str(one).strip().upper() for one in values)


def text_or_empty(dataset: Attributes, keyword: str) -> str:
    """Give the first value as text, empty when absent; for what only informs."""
    try:
        value = value_of(dataset, keyword)
    except UnreadablePixels:
        return ""
    if isinstance(value, MultiValue | list):
        value = value[0] if value else None
    return "" if value is None else str(value).strip("\0 ")


def integer_or_none(dataset: Attributes, keyword: str) -> int | None:
    """Read one integer, None when absent or no number; for what only informs."""
    try:
        return integer_of(dataset, keyword)
    except UnreadablePixels:
        return None
