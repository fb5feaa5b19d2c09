"""Rules about the patient: a result is about who its source is about, in readable text."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from pydicom.config import RAISE
from pydicom.valuerep import validate_value

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pydicom import Dataset

#: What an archive matches on.
IDENTITY: Final = ("PatientName", "PatientID", "StudyID", "AccessionNumber")
_TEXT: Final = frozenset({"PN", "LO", "SH", "ST", "LT", "UT", "UC"})
#: What encoders and decoders leave in the place of text that they could not take.
_REPLACED: Final = re.compile("\\?\\?|\N{REPLACEMENT CHARACTER}")


def identity_violations(result: Dataset, sources: Sequence[Dataset]) -> list[str]:
    """Check that a result repeats the identity of its study, compared as text.

    Parameters
    ----------
    sources
        Of the same study; without any there is nothing to compare.
    """
    return [
        f"{keyword} is not that of any source"
        for keyword in IDENTITY
        if sources and not any(is_same(result, one, keyword) for one in sources)
    ]


def text_violations(result: Dataset, sources: Sequence[Dataset]) -> list[str]:
    """Check that no text was replaced by question marks, unless the source has it so."""
    return [
        f"{keyword} holds replaced characters"
        for keyword in sorted(_replaced(result))
        if not any(is_same(result, one, keyword) for one in sources if keyword in one)
    ]


def is_same(one: Dataset, other: Dataset, keyword: str) -> bool:
    """Say whether two data sets have the same text in an attribute; absent equals empty.

    Text of ``other`` that was read as Latin-1 and is UTF-8 is also compared as that: its source
    declares no character set, or one that does not exist.
    """
    text, source_text = _plain(one.get(keyword)), _plain(other.get(keyword))
    return text in {source_text, _read_as_utf_8(source_text)}


def is_valid_text(value_representation: str, text: str) -> bool:
    """Say whether a text is a value that its representation allows (PS3.5 6.2)."""
    try:
        validate_value(value_representation, text, RAISE)
    except ValueError:
        return False
    return True


def _plain(value: Any) -> str:
    # Empty groups of a name at its end mean the same as none (PS3.5 6.2.1.1).
    # pydicom leaves the escape sequence of ISO 2022 IR 58 in the text that it decodes.
    return "" if value is None else str(value).replace("\x1b$)A", "").strip(" ").rstrip("=^")


def _read_as_utf_8(text: str) -> str:
    try:
        return text.encode("latin-1").decode("utf-8")
    except UnicodeError:
        return text


def _replaced(dataset: Dataset) -> set[str]:
    found = set()
    for element in dataset:
        if element.VR == "SQ":
            for item in element.value or []:
                found |= _replaced(item)
        elif element.VR in _TEXT and _REPLACED.search(str(element.value or "")):
            found.add(element.keyword or str(element.tag))
    return found
