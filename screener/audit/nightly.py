"""The account of a day: what the PACS holds against what the ledger knows.

Pure: the caller asks the PACS and reads the ledger (`day_book`), this compares. Every study of
the day is analysed, not analysed because, failed, in progress, or missing.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from screener.domain import RunState, StudyState

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import date, datetime

    from screener.audit.accounting import AccountingReport
    from screener.audit.verification import ChainReport
    from screener.domain import PacsStudy, PatientClass


class AccountOutcome(StrEnum):
    """What became of a study."""

    ANALYSED = "analysed"
    NOT_ANALYSED = "not-analysed"  #: a result too, with its reason
    FAILED = "failed"
    IN_PROGRESS = "in-progress"
    MISSING = "missing"  #: the PACS holds it, the screener never saw it


@dataclass(frozen=True, slots=True)
class LedgerStudy:
    """What the ledger knows of a study; the newest run decides."""

    study_instance_uid: str
    state: StudyState
    n_instances: int
    n_sent_objects: int  #: of our results, which the PACS counts among its instances
    first_arrival_at: datetime
    run_state: RunState | None
    patient_class: PatientClass | None
    certainty: float | None
    not_analysed_reason: str | None
    error: str | None
    reported_at: datetime | None
    confirmed_at: datetime | None
    dead_destinations: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class StudyAccount:
    """One line of the day's account."""

    study_instance_uid: str
    outcome: AccountOutcome
    detail: str  #: one sentence: the class, the reason, the error, or what is missing
    is_in_pacs: bool
    n_instances_in_pacs: int | None
    n_instances_here: int
    n_not_received: int  #: instances that the PACS holds and we never saw, as far as counts tell
    dead_destinations: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Turnaround:
    """How long something took, in seconds; nearest-rank percentiles."""

    name: str
    n_studies: int
    median_s: float | None
    p90_s: float | None
    p99_s: float | None
    longest_s: float | None


@dataclass(frozen=True, slots=True)
class ModelVerification:
    """Whether a model on disk is the one that is pinned."""

    name: str
    version: str
    digest: str
    is_intact: bool
    detail: str


@dataclass(frozen=True, slots=True)
class NightlyAudit:
    """The whole audit of one day."""

    day: date
    made_at: datetime
    pacs_name: str | None
    pacs_error: str | None  #: why the PACS could not be asked; then nothing can be missing
    accounts: tuple[StudyAccount, ...]
    turnarounds: tuple[Turnaround, ...]
    class_mix: tuple[tuple[str, int], ...]  #: class or reason with its number of studies
    chain: ChainReport
    models: tuple[ModelVerification, ...]
    accounting: AccountingReport

    @property
    def outcome_counts(self) -> tuple[tuple[AccountOutcome, int], ...]:
        """Every outcome with its number of studies."""
        counts = Counter(account.outcome for account in self.accounts)
        return tuple((outcome, counts[outcome]) for outcome in AccountOutcome)

    @property
    def problems(self) -> tuple[str, ...]:
        """What a person has to look at, one sentence each."""
        return tuple(_problems(self))

    @property
    def is_clean(self) -> bool:
        """Nothing needs a person."""
        return not self.problems


def account_for_day(
    pacs_studies: Sequence[PacsStudy], ledger: Sequence[LedgerStudy]
) -> tuple[StudyAccount, ...]:
    """Account for every study that either side knows, the worst first."""
    known = {study.study_instance_uid: study for study in ledger}
    held = {study.study_instance_uid: study for study in pacs_studies}
    accounts = [_account(held.get(uid), known.get(uid), uid) for uid in sorted({*known, *held})]
    return tuple(sorted(accounts, key=_urgency))


def make_audit(
    *,
    day: date,
    made_at: datetime,
    pacs_name: str | None,
    pacs_studies: Sequence[PacsStudy],
    pacs_error: str | None,
    ledger: Sequence[LedgerStudy],
    chain: ChainReport,
    models: Sequence[ModelVerification],
    accounting: AccountingReport,
) -> NightlyAudit:
    """Put the audit of a day together."""
    return NightlyAudit(
        day=day,
        made_at=made_at,
        pacs_name=pacs_name,
        pacs_error=pacs_error,
        accounts=account_for_day(pacs_studies, ledger),
        turnarounds=measure_turnaround(ledger),
        class_mix=_class_mix(ledger),
        chain=chain,
        models=tuple(models),
        accounting=accounting,
    )


def measure_turnaround(ledger: Sequence[LedgerStudy]) -> tuple[Turnaround, ...]:
    """Measure from the first arrival to the report, and to the last confirmation."""
    reported = [
        (study.reported_at - study.first_arrival_at).total_seconds()
        for study in ledger
        if study.reported_at is not None
    ]
    confirmed = [
        (study.confirmed_at - study.first_arrival_at).total_seconds()
        for study in ledger
        if study.confirmed_at is not None
    ]
    return (
        _turnaround("first arrival to report", reported),
        _turnaround("first arrival to confirmation", confirmed),
    )


def _account(held: PacsStudy | None, known: LedgerStudy | None, uid: str) -> StudyAccount:
    n_in_pacs = held.n_instances if held else None
    if known is None:
        outcome, detail = AccountOutcome.MISSING, "The PACS holds it; it never came here."
    else:
        outcome, detail = _outcome(known)
    n_here = known.n_instances if known else 0
    n_ours = known.n_sent_objects if known else 0
    return StudyAccount(
        study_instance_uid=uid,
        outcome=outcome,
        detail=detail,
        is_in_pacs=held is not None,
        n_instances_in_pacs=n_in_pacs,
        n_instances_here=n_here,
        n_not_received=0 if n_in_pacs is None else max(0, n_in_pacs - n_here - n_ours),
        dead_destinations=known.dead_destinations if known else (),
    )


def _urgency(account: StudyAccount) -> int:
    if account.outcome in {AccountOutcome.MISSING, AccountOutcome.FAILED}:
        return 0
    if account.n_not_received or account.dead_destinations:
        return 1
    return 2 + list(AccountOutcome).index(account.outcome)


def _outcome(known: LedgerStudy) -> tuple[AccountOutcome, str]:
    if known.run_state is RunState.FAILED:
        return AccountOutcome.FAILED, known.error or "The run failed without a word."
    if known.state is StudyState.RECEIVING:
        return AccountOutcome.IN_PROGRESS, "It is still being received."
    if known.run_state is None:
        return AccountOutcome.IN_PROGRESS, "No run was made yet."
    if known.run_state in {RunState.QUEUED, RunState.RUNNING}:
        return AccountOutcome.IN_PROGRESS, f"Its run is {known.run_state.value}."
    if known.not_analysed_reason is not None:
        return AccountOutcome.NOT_ANALYSED, f"Because: {known.not_analysed_reason}."
    if known.patient_class is None:
        return AccountOutcome.FAILED, "The run ended with neither a decision nor a reason."
    certainty = "" if known.certainty is None else f", certainty {known.certainty:.2f}"
    return AccountOutcome.ANALYSED, f"{known.patient_class.value}{certainty}"


def _problems(audit: NightlyAudit) -> Iterable[str]:
    counts = dict(audit.outcome_counts)
    if audit.pacs_error:
        yield f"The PACS could not be asked: {audit.pacs_error}"
    if counts[AccountOutcome.MISSING]:
        yield f"{_n_studies(counts[AccountOutcome.MISSING])} of the PACS never came here."
    if counts[AccountOutcome.FAILED]:
        yield f"{_n_studies(counts[AccountOutcome.FAILED])} failed."
    n_incomplete = sum(
        account.n_not_received > 0 and account.outcome is not AccountOutcome.MISSING
        for account in audit.accounts
    )
    if n_incomplete:
        yield f"Of {_n_studies(n_incomplete)} the PACS holds more instances than came here."
    n_undelivered = sum(bool(account.dead_destinations) for account in audit.accounts)
    if n_undelivered:
        yield f"The results of {_n_studies(n_undelivered)} were given up at a destination."
    if not audit.chain.is_intact:
        yield "The audit trail was tampered with."
    for model in audit.models:
        if not model.is_intact:
            yield f"Model {model.name} is not the one that is pinned: {model.detail}"
    for violation in audit.accounting.violations:
        yield f"The books do not balance: {violation.rule.value} ({violation.n_rows} rows)."


def _n_studies(count: int) -> str:
    return "1 study" if count == 1 else f"{count} studies"


def _class_mix(ledger: Sequence[LedgerStudy]) -> tuple[tuple[str, int], ...]:
    counts: Counter[str] = Counter()
    for study in ledger:
        if study.not_analysed_reason is not None:
            counts["not analysed: " + study.not_analysed_reason] += 1
        elif study.patient_class is not None:
            counts[study.patient_class.value] += 1
    return tuple(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def _turnaround(name: str, seconds: Sequence[float]) -> Turnaround:
    ordered = sorted(seconds)
    return Turnaround(
        name=name,
        n_studies=len(ordered),
        median_s=_percentile(ordered, 0.5),
        p90_s=_percentile(ordered, 0.9),
        p99_s=_percentile(ordered, 0.99),
        longest_s=ordered[-1] if ordered else None,
    )


def _percentile(ordered: Sequence[float], share: float) -> float | None:
    """Nearest rank: the smallest value that at least this share of the values does not exceed."""
    if not ordered:
        return None
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]
