"""An upgrade from the first schema with a row in every state: all of them reach a final state.

The rows are written as the first version wrote them, by SQL over the schema of revision 0001.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, MetaData, Table, select, text

from screener.audit.accounting import accounting
from screener.audit.claims import claim_run, expire_leases
from screener.audit.database import Database
from screener.audit.deliveries import (
    ObjectStatus,
    claim_confirmation,
    claim_delivery,
    confirm_delivery,
    finish_delivery,
)
from screener.audit.delivery_sweep import expire_delivery_leases, revive_deliveries
from screener.audit.events import EventKind, event_digest
from screener.audit.ledger import complete_study, open_studies
from screener.audit.runs import revive_runs
from screener.audit.schema import migrate
from screener.audit.tables import Delivery, Run, Study
from screener.audit.verification import count_vanished
from screener.domain import CompletionReason, DeliveryState, RunState, StudyState
from tests.audit_factories import (
    CT_IMAGE_STORAGE,
    LEASE_S,
    NOW,
    PATIENCE,
    POLICY,
    after,
    report,
)

LATER = after(86400)
RUN_STATES = [state.value for state in RunState]
DELIVERY_STATES = [state.value for state in DeliveryState]
REPORTED_STATES = ("reported", "delivered", "confirmed")

#: What the trail says of a row that has come to a state.
TOLD_OF_RUN = {
    "reported": EventKind.RUN_REPORTED,
    "delivered": EventKind.RUN_REPORTED,
    "confirmed": EventKind.RUN_REPORTED,
    "failed": EventKind.RUN_FAILED,
    "superseded": EventKind.RUN_SUPERSEDED,
}
TOLD_OF_DELIVERY = {
    "sent": (EventKind.DELIVERY_SENT,),
    "confirmed": (EventKind.DELIVERY_SENT, EventKind.DELIVERY_CONFIRMED),
    "dead": (EventKind.DELIVERY_DIED,),
}


@pytest.fixture
def old(tmp_path: Path) -> Iterator[Database]:
    """Give a database at the first revision with a row in every state."""
    database = Database(f"sqlite:///{tmp_path / 'old.sqlite3'}")
    with database.engine.begin() as connection:
        migrate(connection, "0001")
        fill(connection)
    yield database
    database.dispose()


def fill(connection: Connection) -> None:
    """Write a study for each state of a run, and one for each state of a delivery."""
    metadata = MetaData()
    metadata.reflect(connection)
    write = Writer(connection, metadata)
    write.study("1.1", state="receiving", completed_at=None, completion_reason=None)
    for number, state in enumerate(RUN_STATES):
        uid = f"1.2.{number}"
        write.study(uid)
        write.run(uid, state)
        if state in REPORTED_STATES:
            sent = {"reported": "pending", "delivered": "sent", "confirmed": "confirmed"}[state]
            write.delivery(uid, sent)
    for number, state in enumerate(DELIVERY_STATES):
        uid = f"1.3.{number}"
        write.study(uid)
        write.run(uid, {"sent": "delivered", "confirmed": "confirmed"}.get(state, "reported"))
        write.delivery(uid, state)
    write.event(EventKind.NODE_STARTED, None, None)


class Writer:
    """Writes rows by column name; what is required and not given is empty, 0 or the beginning."""

    def __init__(self, connection: Connection, metadata: MetaData) -> None:
        self.connection = connection
        self.metadata = metadata

    def row(self, table_name: str, **values: Any) -> None:
        table: Table = self.metadata.tables[table_name]
        empty = {"VARCHAR": "", "TEXT": "", "INTEGER": 0, "BIGINT": 0, "BOOLEAN": False, "JSON": {}}
        for column in table.columns:
            if column.name not in values and not column.nullable and not column.primary_key:
                values[column.name] = empty.get(str(column.type).split("(")[0], NOW)
        given = {name: value for name, value in values.items() if name in table.columns}
        naive = {
            name: value.replace(tzinfo=None) if hasattr(value, "tzinfo") else value
            for name, value in given.items()
        }
        self.connection.execute(table.insert().values(**naive))

    def event(self, kind: EventKind, uid: str | None, run_id: str | None) -> None:
        digest = event_digest(kind.value, NOW, uid, run_id, "{}")
        about = {"study_instance_uid": uid, "run_id": run_id}
        self.row("events", kind=kind.value, occurred_at=NOW, payload="{}", digest=digest, **about)

    def study(self, uid: str, **changes: Any) -> None:
        values = {
            "state": "unverified",
            "generation": 1,
            "completed_at": after(700),
            "completion_reason": "quiet-time-passed",
        }
        self.row("studies", study_instance_uid=uid, **(values | changes))
        series = {"study_instance_uid": uid, "series_instance_uid": f"{uid}.1"}
        self.row("series", **series, modality="CT", n_instances=1)
        self.row(
            "instances",
            **series,
            sop_instance_uid=f"{uid}.1.1",
            sop_class_uid=CT_IMAGE_STORAGE,
            content_digest=f"digest of {uid}",
            path=f"/spool/{uid}",
            generation=1,
            received_at=after(1),
        )

    def run(self, uid: str, state: str) -> None:
        is_reported = state in REPORTED_STATES
        told = TOLD_OF_RUN.get(state)
        if told is not None:
            self.event(told, uid, f"run of {uid}")
        held = {"lease_owner": "gone", "lease_expires_at": after(900)} if state == "running" else {}
        self.row(
            "runs",
            run_id=f"run of {uid}",
            study_instance_uid=uid,
            generation=1,
            version=1,
            reason="new-study",
            state=state,
            n_instances=1,
            attempt=0 if state == "queued" else 1,
            last_error="the GPU is away" if state == "failed" else None,
            pipeline="chest-ct" if is_reported else None,
            superseded_by_run_id=f"run of {uid}" if state == "superseded" else None,
            finished_at=after(830) if is_reported else None,
            confirmed_at=after(840) if state == "confirmed" else None,
            **held,
        )
        if is_reported:
            self.row(
                "result_objects",
                sop_instance_uid=f"{uid}.9",
                run_id=f"run of {uid}",
                kind="sr",
                path=f"/results/{uid}",
            )

    def delivery(self, uid: str, state: str) -> None:
        held = {"lease_owner": "gone", "lease_expires_at": after(900)} if state == "sending" else {}
        has_arrived = state in {"sent", "confirmed"}
        for told in TOLD_OF_DELIVERY.get(state, ()):
            self.event(told, uid, f"run of {uid}")
        self.row(
            "deliveries",
            delivery_id=f"delivery of {uid}",
            run_id=f"run of {uid}",
            study_instance_uid=uid,
            run_version=1,
            destination="pacs",
            state=state,
            sent_at=after(835) if has_arrived else None,
            confirmed_at=after(840) if state == "confirmed" else None,
            last_detail="refused" if state == "dead" else None,
            **held,
        )
        self.row(
            "delivery_objects",
            delivery_id=f"delivery of {uid}",
            sop_instance_uid=f"{uid}.9",
            outcome="stored" if has_arrived else None,
        )


def test_rows_of_every_state_survive_the_upgrade(old: Database) -> None:
    """Nothing is lost and nothing is out of order, but what a dead process held."""
    old.upgrade()
    assert old.is_current()
    with old.session() as session:
        assert sorted({run.state for run in session.scalars(select(Run))}) == sorted(RunState)
        states = {one.state for one in session.scalars(select(Delivery))}
        assert sorted(states) == sorted(DeliveryState)
    books = accounting(old, after(901))
    assert books.is_balanced, books.text()
    late = accounting(old, LATER)
    assert {one.rule.name for one in late.violations} == {"LEASE_IS_LIVE", "SENDING_IS_LIVE"}
    assert count_vanished(old) == 0


def test_rows_of_every_state_reach_a_final_state(old: Database) -> None:
    """The dispatcher, a worker and a sender of today finish what the old version began."""
    old.upgrade()
    for study in open_studies(old):
        complete_study(
            old, study.study_instance_uid, StudyState.UNVERIFIED, CompletionReason.QUIET, LATER
        )
    expire_leases(old, LATER, POLICY)
    expire_delivery_leases(old, LATER, PATIENCE)
    with old.session() as session:
        uids = session.scalars(select(Study.study_instance_uid)).all()
    for uid in uids:
        revive_runs(old, uid, LATER)
        revive_deliveries(old, uid, LATER)
    much_later = LATER + timedelta(days=1)
    while (claimed := claim_run(old, None, "w1", LEASE_S, much_later)) is not None:
        report(old, claimed, seconds=3 * 86400)
    while (sent := claim_delivery(old, None, "s1", LEASE_S, after(4 * 86400))) is not None:
        statuses = [ObjectStatus(one.sop_instance_uid, 0, "stored") for one in sent.objects]
        finish_delivery(old, sent, statuses, after(4 * 86400))
    now = after(5 * 86400)
    while (asked := claim_confirmation(old, ["pacs"], "s1", LEASE_S, now)) is not None:
        confirm_delivery(old, asked, "C-FIND lists all", now)
    with old.session() as session:
        ended = {run.state for run in session.scalars(select(Run))}
        assert ended == {RunState.CONFIRMED, RunState.SUPERSEDED}
        states = {one.state for one in session.scalars(select(Delivery))}
        assert states == {DeliveryState.CONFIRMED}
    books = accounting(old, now)
    assert books.is_balanced, books.text()


def test_events_of_before_are_counted(old: Database) -> None:
    """The count starts at what is there: an old event that vanishes is missed as well."""
    old.upgrade()
    with old.engine.begin() as connection:
        n_events = connection.scalar(text("SELECT count(*) FROM events"))
        connection.execute(text("DROP TRIGGER events_no_delete"))
        connection.execute(text("DELETE FROM events"))
    assert n_events
    assert count_vanished(old) == n_events
