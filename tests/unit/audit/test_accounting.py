"""Every accounting rule notices the row that breaks it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from sqlalchemy import text

from screener.audit.accounting import AccountingRule, accounting
from screener.audit.deliveries import claim_delivery
from tests.audit_factories import LEASE_S, STUDY, after, claim, queue_run, report

if TYPE_CHECKING:
    from screener.audit.database import Database

OTHER = STUDY + "9"


@pytest.fixture
def busy(database: Database) -> Database:
    """One study whose report is being sent, one whose run is being worked on."""
    report(database, claim(database, queue_run(database)))
    claim_delivery(database, None, "s1", LEASE_S, after(840))
    claim(database, queue_run(database, study=OTHER), seconds=840)
    return database


def test_busy_database_is_balanced(busy: Database) -> None:
    """Work under live leases is in order, and the counts are right."""
    books = accounting(busy, after(841))
    assert books.is_balanced, books.text()
    assert (books.n_studies, books.n_instances, books.n_open_studies) == (2, 6, 0)
    assert books.runs_by_state == (("reported", 1), ("running", 1))
    assert books.deliveries_by_state == (("sending", 1),)
    assert "6 instances of 2 studies" in books.text()


def test_expired_leases_break_the_books(busy: Database) -> None:
    """Work that nobody took back long after its lease shows that no dispatcher runs."""
    books = accounting(busy, after(840 + LEASE_S + 61))
    assert [one.rule for one in books.violations] == [
        AccountingRule.LEASE_IS_LIVE,
        AccountingRule.SENDING_IS_LIVE,
    ]


@pytest.mark.parametrize(
    ("damage", "rule"),
    [
        ("UPDATE instances SET generation = 0", AccountingRule.INSTANCE_HAS_GENERATION),
        ("UPDATE instances SET generation = 3", AccountingRule.INSTANCE_HAS_GENERATION),
        ("UPDATE studies SET generation = 2", AccountingRule.GENERATION_HAS_RUN),
        ("UPDATE result_objects SET kind = 'seg'", AccountingRule.ONE_REPORT),
        ("UPDATE result_objects SET kind = 'sr'", AccountingRule.ONE_REPORT),
        ("UPDATE runs SET state = 'failed'", AccountingRule.FAILURE_HAS_REASON),
        ("UPDATE runs SET state = 'superseded'", AccountingRule.SUPERSEDED_BY_RUN),
        ("UPDATE runs SET state = 'delivered'", AccountingRule.ROLLED_UP),
        ("UPDATE runs SET state = 'confirmed'", AccountingRule.ROLLED_UP),
        ("UPDATE deliveries SET state = 'sent'", AccountingRule.ROLLED_UP),
        ("UPDATE deliveries SET state = 'confirmed'", AccountingRule.ROLLED_UP),
        ("UPDATE deliveries SET state = 'dead'", AccountingRule.DEATH_HAS_REASON),
        ("UPDATE runs SET lease_expires_at = NULL", AccountingRule.LEASE_IS_LIVE),
        ("UPDATE deliveries SET lease_expires_at = NULL", AccountingRule.SENDING_IS_LIVE),
    ],
)
def test_damage_is_noticed(busy: Database, damage: str, rule: AccountingRule) -> None:
    """A row changed by hand breaks its rule, and the report names it."""
    with busy.begin() as session:
        session.execute(text(damage))
    books = accounting(busy, after(841))
    broken = {one.rule: one for one in books.violations}
    assert rule in broken
    assert broken[rule].n_rows >= 1
    assert broken[rule].examples
    assert f"BROKEN: {rule.value}" in books.text()
