"""Which remarks of a validator are findings: all but those of the closed list."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from screener.conformance.allowances import ALLOWANCES, Condition
from screener.conformance.identity_rules import is_same, is_valid_text
from screener.conformance.verdict import Check, CheckState

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pydicom import Dataset

    from screener.conformance.allowances import Allowance
    from screener.conformance.objects import DicomObject

#: How dcentvfy names the attribute and the two files that it compared.
_COMPARISON: Final = re.compile(
    r".* Element=<(?P<keyword>\w+)> .*for file <(?P<one>.+?)> versus <(?P<other>.+?)>( Value .*)?"
)
#: Values of Patient's Sex (PS3.3 C.7.1.1).
_SEXES: Final = frozenset({"", "M", "F", "O"})


def judge(
    validator: str,
    subject: str,
    remarks: Iterable[str],
    results: Sequence[DicomObject],
    sources: Sequence[DicomObject],
) -> Check:
    """Sort the remarks of one validator into findings and what the closed list allows.

    Parameters
    ----------
    results, sources
        The objects that the remarks are about, and the sources of their study: the conditions of
        the list are decided on these.
    """
    findings, allowed = [], []
    for remark in remarks:
        entry = _find_allowance(validator, remark, results, sources)
        if entry is None:
            findings.append(remark)
        else:
            allowed.append(entry.reason)
    state = CheckState.FINDINGS if findings else CheckState.PASSED
    return Check(validator, subject, state, tuple(findings), tuple(dict.fromkeys(allowed)))


def _find_allowance(
    validator: str, remark: str, results: Sequence[DicomObject], sources: Sequence[DicomObject]
) -> Allowance | None:
    for entry in ALLOWANCES:
        found = entry.match(validator, remark)
        if found and _holds(entry.condition, found, results, sources):
            return entry
    return None


def _holds(
    condition: Condition,
    found: re.Match[str],
    results: Sequence[DicomObject],
    sources: Sequence[DicomObject],
) -> bool:
    match condition:
        case Condition.ALWAYS:
            return True
        case Condition.VALUE_OF_SOURCE:
            return all(
                any(is_same(one.dataset, other.dataset, found["keyword"]) for other in sources)
                for one in results
            )
        case Condition.READS_THE_SAME:
            pair = _compared(found[0], results, sources)
            return pair is not None and is_same(pair.result, pair.source, pair.keyword)
        case Condition.INVALID_IN_SOURCE:
            pair = _compared(found[0], results, sources)
            return pair is not None and _is_shortened(pair)
        case Condition.MISSING_IN_SOURCE:
            pair = _compared(found[0], results, sources)
            return pair is not None and not pair.source.get(pair.keyword)


@dataclass(frozen=True, slots=True)
class _Pair:
    """What dcentvfy compared."""

    keyword: str
    result: Dataset
    source: Dataset


def _compared(
    remark: str, results: Sequence[DicomObject], sources: Sequence[DicomObject]
) -> _Pair | None:
    found = _COMPARISON.fullmatch(remark)
    if found is None:
        return None
    paths = (found["one"], found["other"])
    ours = [one for one in results if str(one.path) in paths]
    theirs = [one for one in sources if str(one.path) in paths]
    if len(ours) != 1 or len(theirs) != 1:
        return None
    return _Pair(found["keyword"], ours[0].dataset, theirs[0].dataset)


def _is_shortened(pair: _Pair) -> bool:
    """Whether the source's value is invalid and the result's is the start of it, or nothing."""
    if pair.keyword not in pair.source:
        return False
    said = str(pair.source[pair.keyword].value)
    is_valid = is_valid_text(pair.source[pair.keyword].VR, said)
    if pair.keyword == "PatientSex":
        is_valid = is_valid and said in _SEXES
    return not is_valid and said.startswith(str(pair.result.get(pair.keyword) or ""))
