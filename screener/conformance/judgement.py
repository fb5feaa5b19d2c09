"""Which remarks of a validator are findings: all but those of the closed list."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from screener.conformance.allowances import ALLOWANCES, Condition
from screener.conformance.identity_rules import is_same
from screener.conformance.verdict import Check, CheckState

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from screener.conformance.allowances import Allowance
    from screener.conformance.objects import DicomObject

#: How dcentvfy names the attribute and the two files that it compared.
_COMPARISON: Final = re.compile(
    r".* Element=<(?P<keyword>\w+)> .*for file <(?P<one>.+?)> versus <(?P<other>.+?)>( Value .*)?"
)


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
        if entry.matches(validator, remark) and _holds(entry, remark, results, sources):
            return entry
    return None


def _holds(
    entry: Allowance, remark: str, results: Sequence[DicomObject], sources: Sequence[DicomObject]
) -> bool:
    match entry.condition:
        case Condition.ALWAYS:
            return True
        case Condition.STUDY_UID_OF_SOURCE:
            known = {one.study_instance_uid for one in sources}
            return bool(results) and {one.study_instance_uid for one in results} <= known
        case Condition.EQUAL_WHEN_DECODED:
            return _is_equal_when_decoded(remark, (*results, *sources))


def _is_equal_when_decoded(remark: str, objects: Sequence[DicomObject]) -> bool:
    found = _COMPARISON.fullmatch(remark)
    if found is None:
        return False
    by_path = {str(one.path): one for one in objects}
    pair = [by_path.get(found[name]) for name in ("one", "other")]
    if pair[0] is None or pair[1] is None:
        return False
    one, other = pair[0].dataset, pair[1].dataset
    keyword = found["keyword"]
    has_other_characters = one.get("SpecificCharacterSet") != other.get("SpecificCharacterSet")
    return has_other_characters and keyword in one and is_same(one, other, keyword)
