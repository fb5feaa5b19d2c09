"""The invariant over all rows: nothing received is unaccounted for.

Every kept instance belongs to a generation of its study; every completed generation has a run;
every run is final, waits, or is worked on under a live lease; every reported run has exactly one
structured report; every report is confirmed, on its way, or visibly dead at each destination.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from sqlalchemy import exists, func, select

from screener.audit.deliveries import ARRIVED
from screener.audit.tables import Delivery, Instance, ResultObjectRow, Run, Study
from screener.domain import DeliveryState, ResultKind, RunState, StudyState

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy import Select
    from sqlalchemy.orm import Session

    from screener.audit.database import Database

#: Rows named for each broken rule.
N_EXAMPLES = 5

_WITH_REPORT = (RunState.REPORTED, RunState.DELIVERED, RunState.CONFIRMED)


class AccountingRule(StrEnum):
    """What must hold for every row."""

    INSTANCE_HAS_GENERATION = "an instance belongs to a generation of its study"
    GENERATION_HAS_RUN = "a completed generation has a run"
    LEASE_IS_LIVE = "a running run is held by a live lease"
    SENDING_IS_LIVE = "a delivery under way is held by a live lease"
    ONE_REPORT = "a reported run has exactly one structured report"
    FAILURE_HAS_REASON = "a failed run says why"
    SUPERSEDED_BY_RUN = "a superseded run names the run that replaced it"
    ROLLED_UP = "a run is delivered or confirmed exactly when its destinations are"
    DEATH_HAS_REASON = "a dead delivery says why"


@dataclass(frozen=True, slots=True)
class Violation:
    """One rule that does not hold."""

    rule: AccountingRule
    n_rows: int
    examples: tuple[str, ...]  #: ids of runs, deliveries, instances or studies


@dataclass(frozen=True, slots=True)
class AccountingReport:
    """The sum of the books."""

    n_studies: int
    n_instances: int
    n_open_studies: int  #: still being received
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
            f"runs: {runs}",
            f"deliveries: {deliveries}",
        ]
        lines += [
            f"BROKEN: {one.rule.value}: not so for {one.n_rows} ({', '.join(one.examples)})"
            for one in self.violations
        ]
        return "\n".join(lines)


def accounting(database: Database, now: datetime, *, grace_s: float = 60.0) -> AccountingReport:
    """Check every rule over all rows.

    Parameters
    ----------
    grace_s
        How long a lease may have expired before that counts: the dispatcher needs a moment.

    Raises
    ------
    DatabaseUnavailable
        The database cannot be read.
    """
    with database.session() as session:
        violations = [
            violation
            for rule, statement in _broken(now - timedelta(seconds=grace_s)).items()
            if (violation := _violation(session, rule, statement)) is not None
        ]
        return AccountingReport(
            n_studies=_count(session, select(Study.study_instance_uid)),
            n_instances=_count(session, select(Instance.instance_id)),
            n_open_studies=_count(session, select(Study.study_instance_uid).where(_is_open())),
            runs_by_state=_by_state(session, Run.state),
            deliveries_by_state=_by_state(session, Delivery.state),
            violations=tuple(violations),
        )


def _is_open() -> Any:
    return (Study.state == StudyState.RECEIVING) & (Study.generation >= 1)


def _broken(late_at: datetime) -> dict[AccountingRule, Select[Any]]:
    """Give for each rule the ids of the rows that break it."""
    return {
        AccountingRule.INSTANCE_HAS_GENERATION: _lost_instances(),
        AccountingRule.GENERATION_HAS_RUN: _forgotten_studies(),
        AccountingRule.LEASE_IS_LIVE: select(Run.run_id).where(
            Run.state == RunState.RUNNING,
            Run.lease_expires_at.is_(None) | (Run.lease_expires_at <= late_at),
        ),
        AccountingRule.SENDING_IS_LIVE: select(Delivery.delivery_id).where(
            Delivery.state == DeliveryState.SENDING,
            Delivery.lease_expires_at.is_(None) | (Delivery.lease_expires_at <= late_at),
        ),
        AccountingRule.ONE_REPORT: select(Run.run_id).where(
            Run.state.in_(_WITH_REPORT), _n_reports() != 1
        ),
        AccountingRule.FAILURE_HAS_REASON: select(Run.run_id).where(
            Run.state == RunState.FAILED, Run.last_error.is_(None)
        ),
        AccountingRule.SUPERSEDED_BY_RUN: select(Run.run_id).where(
            Run.state == RunState.SUPERSEDED, Run.superseded_by_run_id.is_(None)
        ),
        AccountingRule.ROLLED_UP: _badly_rolled_up(),
        AccountingRule.DEATH_HAS_REASON: select(Delivery.delivery_id).where(
            Delivery.state == DeliveryState.DEAD, Delivery.last_detail.is_(None)
        ),
    }


def _lost_instances() -> Select[Any]:
    return (
        select(Instance.instance_id)
        .join(Study, Study.study_instance_uid == Instance.study_instance_uid)
        .where(
            Instance.is_own_result.is_(False),
            (Instance.generation < 1) | (Instance.generation > Study.generation + 1),
        )
    )


def _forgotten_studies() -> Select[Any]:
    has_run = exists().where(
        Run.study_instance_uid == Study.study_instance_uid, Run.generation == Study.generation
    )
    return select(Study.study_instance_uid).where(Study.state != StudyState.RECEIVING, ~has_run)


def _n_reports() -> Any:
    return (
        select(func.count())
        .select_from(ResultObjectRow)
        .where(
            ResultObjectRow.run_id == Run.run_id,
            ResultObjectRow.kind == ResultKind.STRUCTURED_REPORT,
            ResultObjectRow.variant_of.is_(None),
        )
        .correlate(Run)
        .scalar_subquery()
    )


def _badly_rolled_up() -> Select[Any]:
    def some(*states: DeliveryState) -> Any:
        return exists().where(Delivery.run_id == Run.run_id, Delivery.state.in_(states))

    outside = [state for state in DeliveryState if state not in ARRIVED]
    unconfirmed = [state for state in DeliveryState if state is not DeliveryState.CONFIRMED]
    any_at_all = some(*DeliveryState)
    return select(Run.run_id).where(
        ((Run.state == RunState.CONFIRMED) & some(*unconfirmed))
        | ((Run.state == RunState.DELIVERED) & some(*outside))
        | ((Run.state == RunState.REPORTED) & any_at_all & ~some(*outside))
        | ((Run.state == RunState.DELIVERED) & ~some(*unconfirmed))
    )


def _violation(session: Session, rule: AccountingRule, broken: Select[Any]) -> Violation | None:
    n_rows = _count(session, broken)
    if n_rows == 0:
        return None
    examples = session.scalars(broken.limit(N_EXAMPLES))
    return Violation(rule, n_rows, tuple(str(example) for example in examples))


def _count(session: Session, statement: Select[Any]) -> int:
    return session.scalar(select(func.count()).select_from(statement.subquery())) or 0


def _by_state(session: Session, column: Any) -> tuple[tuple[str, int], ...]:
    statement = select(column, func.count()).group_by(column).order_by(column)
    return tuple((state.value, n_rows) for state, n_rows in session.execute(statement))
