"""Frozen values as plain JSON: what the database keeps of a run, what the commands print."""

from __future__ import annotations

import math
import numbers
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from datetime import date, datetime
from enum import Enum
from pathlib import Path
from typing import Any


def to_plain(value: object) -> Any:
    """Turn a frozen value into dictionaries, lists, texts and numbers.

    Times become ISO texts, enums their values, numbers that are not finite become None, since JSON
    has no word for them.

    Raises
    ------
    TypeError
        The value holds something that has no plain form, an array of pixels for example.
    """
    if value is None or (isinstance(value, bool | int | str) and not isinstance(value, Enum)):
        return value
    if isinstance(value, Enum):
        return value.value
    # Numbers of NumPy are among these, without importing it.
    if isinstance(value, numbers.Integral):
        return int(value)
    if isinstance(value, numbers.Real):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, datetime | date):
        return value.isoformat()
    if isinstance(value, Path):
        return str(value)
    return _plain_container(value)


def _plain_container(value: object) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: to_plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Mapping):
        return {str(to_plain(key)): to_plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [to_plain(item) for item in value]
    raise TypeError(f"{type(value).__name__} has no plain form")
