"""Read results in tests, with pydicom alone, so that highdicom does not check itself."""

from __future__ import annotations

from io import BytesIO
from typing import TYPE_CHECKING

from pydicom import Dataset, config, dcmread

from screener.conformance.tree import concept_of, find, groups, value_of, values, walk

if TYPE_CHECKING:
    from screener.domain import ResultObject

__all__ = ["concept_of", "find", "groups", "read_result", "value_of", "values", "walk"]


def read_result(result: ResultObject) -> Dataset:
    """Read an encoded result; identifiers of the source may be irregular."""
    with config.disable_value_validation():
        document = dcmread(BytesIO(result.encoded))
        document.decode()
        return document
