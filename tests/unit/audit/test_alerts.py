"""One alert for one cause: raised once, resolved once, told both times; and the kept books."""

from __future__ import annotations

from sqlalchemy import select

from screener.audit.accounting import accounting
from screener.audit.alerts import AlertKind, Condition, list_alerts, settle_alerts
from screener.audit.backlog import measure_backlog
from screener.audit.books import keep_books, newest_books
from screener.audit.database import Database
from screener.audit.deliveries import claim_delivery, fail_delivery
from screener.audit.ledger import register_instance
from screener.audit.tables import Event
from screener.domain import DeliveryState
from tests.audit_factories import (
    LEASE_S,
    NOW,
    STUDY,
    after,
    claim,
    make_instance,
    make_received,
    queue_run,
    report,
)

DISK = Condition(AlertKind.DISK_LOW, "spool", "18 GiB free")


def kinds_of_events(database: Database) -> list[str]:
    with database.session() as session:
        statement = select(Event.kind).where(Event.kind.like("alert%")).order_by(Event.event_id)
        return list(session.scalars(statement))


def test_cause_that_holds_on_is_one_alert(database: Database) -> None:
    """Seen a hundred times, raised once; the detail stays fresh."""
    assert settle_alerts(database, [DISK], NOW).raised == (DISK,)
    lower = Condition(DISK.kind, DISK.subject, "17 GiB free")
    for minute in range(1, 100):
        settled = settle_alerts(database, [lower], after(60 * minute))
        assert (settled.raised, settled.resolved) == ((), ())
    (alert,) = list_alerts(database, is_open_only=True)
    assert (alert.detail, alert.raised_at, alert.last_seen_at) == (
        "17 GiB free", NOW, after(60 * 99),
    )  # fmt: skip
    assert kinds_of_events(database) == ["alert_raised"]


def test_cause_that_is_gone_is_resolved_and_may_come_again(database: Database) -> None:
    """Two outages are two alerts, each with its beginning and end."""
    for minute, conditions in enumerate(([DISK], [], [], [DISK])):
        settle_alerts(database, conditions, after(60 * minute))
    assert len(list_alerts(database, is_open_only=True)) == 1
    assert len(list_alerts(database, is_open_only=False)) == 2
    assert kinds_of_events(database) == ["alert_raised", "alert_resolved", "alert_raised"]


def test_cause_that_is_looked_for_in_turns_stays_open(database: Database) -> None:
    """A sixteenth of the spool is looked at each minute: not there means not seen."""
    in_turns = {(DISK.kind.value, DISK.subject): 1000.0}
    settle_alerts(database, [DISK], NOW)
    for minute in range(1, 17):
        assert settle_alerts(database, [], after(60 * minute), in_turns=in_turns).resolved == ()
    (resolved,) = settle_alerts(database, [], after(60 * 17), in_turns=in_turns).resolved
    assert resolved.subject == DISK.subject
    assert kinds_of_events(database) == ["alert_raised", "alert_resolved"]


def test_watcher_leaves_alone_what_it_did_not_look_at(database: Database) -> None:
    """Who looks at the disk says nothing about the books."""
    settle_alerts(database, [DISK], NOW)
    settle_alerts(database, [], after(60), kinds=[AlertKind.BOOKS_UNBALANCED])
    assert len(list_alerts(database, is_open_only=True)) == 1


def test_books_are_kept_once(database: Database) -> None:
    """The newest accounting stands alone, with its time."""
    assert newest_books(database) is None
    for minute in (1, 2):
        keep_books(database, accounting(database, after(60 * minute)), after(60 * minute))
    books = newest_books(database)
    assert books is not None
    assert books.checked_at == after(120)
    assert books.is_balanced
    assert books.content["n_studies"] == 0


def test_backlog_counts_what_waits_and_how_long(database: Database) -> None:
    """Ages run from when something could have been done."""
    queue_run(database, study=STUDY + ".7")
    report(database, claim(database, queue_run(database)), destinations=("pacs", "late"))
    sending = claim_delivery(database, None, "s1", LEASE_S, after(840), destinations=["late"])
    assert sending is not None
    fail_delivery(database, sending, "refused", after(850))
    quarantined = make_received(
        make_instance(1, study=STUDY + ".8"), quarantine_reason="no-patient-id"
    )
    register_instance(database, quarantined, after(860))

    backlog = measure_backlog(database, after(1700))
    assert backlog.oldest_queued_s == 1000
    assert backlog.oldest_open_s == 840
    assert backlog.n_quarantined_studies == 1
    assert backlog.n_unsealed_events > 0
    late, pacs = backlog.destinations
    assert (late.destination, late.n(DeliveryState.DEAD), late.oldest_unsent_s) == ("late", 1, 0)
    assert (pacs.destination, pacs.n(DeliveryState.PENDING)) == ("pacs", 1)
    assert pacs.oldest_unsent_s == 870
