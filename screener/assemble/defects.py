"""Find out what is wrong with the source of a whole study, from its headers.

A defect is said in the report and does not stop the screening; two patients in one study do.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Sequence

from screener.assemble.headers import InstanceHeader
from screener.domain import DefectCode, NotAnalysedReason, SourceDefect
from screener.errors import NotAnalysable

#: PS3.5 9.1: numeric components without leading zeros, at most 64 characters.
_CONFORMANT_UID = re.compile(r"(?:0|[1-9]\d*)(?:\.(?:0|[1-9]\d*))+")
_MAX_UID_LENGTH = 64


def find_study_defects(headers: Sequence[InstanceHeader]) -> tuple[SourceDefect, ...]:
    """Give what is wrong with the instances of a study as such.

    Parameters
    ----------
    headers
        All instances of one study.
    """
    found = (
        _shared_uids(headers),
        _non_conformant_uids(headers),
        _missing_attributes(headers),
        _empty_study_date(headers),
        _several_patients(headers),
    )
    return tuple(defect for defect in found if defect is not None)


def check_one_patient(headers: Sequence[InstanceHeader]) -> None:
    """Refuse a study whose instances name different patients (reliability catalogue, case 47).

    Raises
    ------
    NotAnalysable
        CONFLICTING_PATIENTS.
    """
    n_patients = len({header.patient_digest for header in headers if header.patient_digest})
    if n_patients > 1:
        raise NotAnalysable(
            NotAnalysedReason.CONFLICTING_PATIENTS,
            f"the instances of this study carry {n_patients} different Patient IDs",
        )


def _shared_uids(headers: Sequence[InstanceHeader]) -> SourceDefect | None:
    """Find SOP Instance UIDs that stand on several contents (design 3.1)."""
    contents: dict[str, set[str]] = defaultdict(set)
    for header in headers:
        contents[header.instance.sop_instance_uid].add(header.instance.content_digest)
    shared = {uid: len(digests) for uid, digests in contents.items() if len(digests) > 1}
    if not shared:
        return None
    n_instances = sum(shared.values())
    empty = " (it is empty)" if "" in shared else ""
    uids = "one SOP Instance UID stands" if len(shared) == 1 else f"{len(shared)} UIDs stand"
    return SourceDefect(
        DefectCode.SHARED_SOP_INSTANCE_UID,
        f"{uids} on {n_instances} instances with different contents{empty}; all were kept",
        n_instances,
    )


def _non_conformant_uids(headers: Sequence[InstanceHeader]) -> SourceDefect | None:
    levels: Counter[str] = Counter()
    n_instances = 0
    for header in headers:
        instance = header.instance
        wrong = [
            level
            for level, uid in (
                ("Study", instance.study_instance_uid),
                ("Series", instance.series_instance_uid),
                ("SOP", instance.sop_instance_uid),
            )
            if uid and not _is_conformant(uid)
        ]
        levels.update(wrong)
        n_instances += bool(wrong)
    if not n_instances:
        return None
    names = ", ".join(f"{level} Instance UID" for level in levels)
    return SourceDefect(
        DefectCode.NON_CONFORMANT_UID,
        f"{names} of {n_instances} instances break the rules of DICOM PS3.5 9.1",
        n_instances,
    )


def _is_conformant(uid: str) -> bool:
    return len(uid) <= _MAX_UID_LENGTH and _CONFORMANT_UID.fullmatch(uid) is not None


def _missing_attributes(headers: Sequence[InstanceHeader]) -> SourceDefect | None:
    counts = Counter(keyword for header in headers for keyword in header.missing)
    if not counts:
        return None
    names = ", ".join(f"{keyword} ({count})" for keyword, count in sorted(counts.items()))
    return SourceDefect(
        DefectCode.MISSING_ATTRIBUTE,
        f"attributes that must be there are not, with the number of instances: {names}",
        sum(bool(header.missing) for header in headers),
    )


def _empty_study_date(headers: Sequence[InstanceHeader]) -> SourceDefect | None:
    n_instances = sum(header.is_study_date_empty for header in headers)
    if not n_instances:
        return None
    return SourceDefect(
        DefectCode.EMPTY_STUDY_DATE, f"no Study Date in {n_instances} instances", n_instances
    )


def _several_patients(headers: Sequence[InstanceHeader]) -> SourceDefect | None:
    digests = {header.patient_digest for header in headers if header.patient_digest}
    if len(digests) < 2:  # noqa: PLR2004  one patient is as it should be
        return None
    return SourceDefect(
        DefectCode.SEVERAL_PATIENTS, f"{len(digests)} different Patient IDs", len(headers)
    )
