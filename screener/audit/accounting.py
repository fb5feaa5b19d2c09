"""The invariant over all rows: nothing received is unaccounted for.

Every kept instance belongs to one generation of its study; every completed generation has a run;
every run is final, waits, or is worked on under a live lease; every reported run has exactly one
structured report; every report is confirmed, on its way, or visibly dead at each destination; and
what the rows name lies in files, what lies in the spool has its row.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from sqlalchemy import String, cast, func, select

from screener.audit.accounting_rules import AccountingRule, broken_rows
from screener.audit.files import FileFindings, look_at_files
from screener.audit.inputs import IS_OPEN
from screener.audit.tables import Delivery, Instance, Run, Study

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime
    from pathlib import Path

    from sqlalchemy import Select
    from sqlalchemy.orm import Session

    from screener.audit.database import Database

__all__ = ["AccountingReport", "AccountingRule", "Violation", "accounting"]

#: Rows named for each broken rule.
N_EXAMPLES = 5


@dataclass(frozen=True, slots=True)
class Violation:
    """One rule that does not hold."""

    rule: AccountingRule
    n_rows: int
    examples: tuple[str, ...]  #: ids of runs, deliveries, instances or studies; names of files


@dataclass(frozen=True, slots=True)
class AccountingReport:
    """The sum of the books."""

    n_studies: int
    n_instances: int
    n_quarantined: int
    n_purged: int  #: instances whose files are gone by rule
    n_open_studies: int  #: still being received
    n_files: int  #: instances and results whose files were looked for
    runs_by_state: tuple[tuple[str, int], ...]
    deliveries_by_state: tuple[tuple[str, int], ...]
    violations: tuple[Violation, ...]

    @property
    def is_balanced(self) -> bool:
        """No rule is broken."""
        return not self.violations

    def text(self) -> str:
        """Give the report for people."""
        runs = ", ".join(f"{n} {state}" for state, n in self.runs_by_state) or "none"
        deliveries = ", ".join(f"{n} {state}" for state, n in self.deliveries_by_state) or "none"
        received = f"{self.n_instances} instances of {self.n_studies} studies"
        lines = [
            f"{received}, {self.n_open_studies} still being received",
            f"of the instances: {self.n_quarantined} in quarantine, {self.n_purged} purged",
            f"runs: {runs}",
            f"deliveries: {deliveries}",
            f"files looked for: {self.n_files}",
        ]
        lines += [
            f"BROKEN: {one.rule.value}: not so for {one.n_rows} ({', '.join(one.examples)})"
            for one in self.violations
        ]
        return "\n".join(lines)


def accounting(
    database: Database,
    now: datetime,
    *,
    grace_s: float = 60.0,
    store: Path | None = None,
    shards: Sequence[str] | None = None,
) -> AccountingReport:
    """Check every rule over all rows.

    Parameters
    ----------
    grace_s
        How long a lease may have expired, or a file be without a row, before that counts: the
        dispatcher and the listener need a moment.
    store
        Folder of kept instances; None looks at no file.
    shards
        Look only at files whose digest, or whose run id, begins so (two hexadecimal digits each),
        and compare only such runs with the trail; None looks at all.

    Raises
    ------
    DatabaseUnavailable
        The database cannot be read.
    """
    late_at = now - timedelta(seconds=grace_s)
    files = FileFindings() if store is None else look_at_files(database, store, shards, late_at)
    with database.session() as session:
        violations = [
            violation
            for rule, statement in broken_rows(late_at, database.dialect, shards).items()
            if (violation := _violation(session, rule, statement)) is not None
        ]
        violations += _violations_of_files(files)
        quarantined = Instance.quarantine_reason.is_not(None)
        return AccountingReport(
            n_studies=_count(session, select(Study.study_instance_uid)),
            n_instances=_count(session, select(Instance.instance_id)),
            n_quarantined=_count(session, select(Instance.instance_id).where(quarantined)),
            n_purged=_count(
                session, select(Instance.instance_id).where(Instance.purged_at.is_not(None))
            ),
            n_open_studies=_count(session, select(Study.study_instance_uid).where(IS_OPEN)),
            n_files=files.n_looked_for,
            runs_by_state=_by_state(session, Run.state),
            deliveries_by_state=_by_state(session, Delivery.state),
            violations=tuple(violations),
        )


def _violations_of_files(files: FileFindings) -> list[Violation]:
    found = (
        (AccountingRule.ROW_HAS_FILE, files.missing),
        (AccountingRule.FILE_HAS_ROW, files.stray),
    )
    return [Violation(rule, len(names), names[:N_EXAMPLES]) for rule, names in found if names]


def _violation(session: Session, rule: AccountingRule, broken: Select[Any]) -> Violation | None:
    n_rows = _count(session, broken)
    if n_rows == 0:
        return None
    examples = session.scalars(broken.limit(N_EXAMPLES))
    return Violation(rule, n_rows, tuple(str(example) for example in examples))


def _count(session: Session, statement: Select[Any]) -> int:
    return session.scalar(select(func.count()).select_from(statement.subquery())) or 0


def _by_state(session: Session, column: Any) -> tuple[tuple[str, int], ...]:
    state = cast(column, String)  # as text: a state that nobody knows must not stop the count
    statement = select(state, func.count()).group_by(state).order_by(state)
    return tuple((str(name), n_rows) for name, n_rows in session.execute(statement))
