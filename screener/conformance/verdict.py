"""What the gate found, check by check."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class CheckState(StrEnum):
    """How one check ended."""

    PASSED = "passed"
    FINDINGS = "findings"
    NOT_RUN = "not run"  #: the validator is not installed; says nothing about the object


@dataclass(frozen=True, slots=True)
class Check:
    """One validator on one object, or on one study."""

    validator: str
    subject: str  #: name of the file, or the study
    state: CheckState
    findings: tuple[str, ...] = ()
    allowed: tuple[str, ...] = ()  #: reasons for the remarks that are no findings


@dataclass(frozen=True, slots=True)
class Verdict:
    """Everything that was checked in a folder, and what could not be."""

    folder: str
    n_results: int
    n_sources: int
    n_ignored: int  #: files that are no DICOM, and copies
    checks: tuple[Check, ...]
    notes: tuple[str, ...]  #: what could not be compared, and why

    @property
    def findings(self) -> tuple[tuple[str, str, str], ...]:
        """Subject, validator and text of each finding."""
        return tuple(
            (check.subject, check.validator, text)
            for check in self.checks
            for text in check.findings
        )

    @property
    def not_run(self) -> tuple[str, ...]:
        """Names of the validators that are not installed."""
        missing = (one.validator for one in self.checks if one.state is CheckState.NOT_RUN)
        return tuple(dict.fromkeys(missing))

    @property
    def is_clean(self) -> bool:
        """Whether nothing that ran found anything."""
        return not self.findings
