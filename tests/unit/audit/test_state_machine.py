"""Random journeys: whatever workers, senders, late slices and people do, the books balance.

Several workers and senders act in any order on two studies, may die, come late, or be asked to
work again. After every step no illegal transition was seen, no two workers hold one study, and
the accounting holds. Time only moves forward; PostgreSQL is covered by the concurrency tests.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any, ClassVar

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from sqlalchemy import event, select

from screener.audit.accounting import accounting
from screener.audit.claims import ClaimedRun, claim_run, expire_leases, fail_run, heartbeat
from screener.audit.database import Database
from screener.audit.deliveries import (
    ClaimedDelivery,
    ObjectStatus,
    claim_confirmation,
    claim_delivery,
    confirm_delivery,
    fail_delivery,
    finish_delivery,
    retry_delivery,
)
from screener.audit.delivery_sweep import expire_delivery_leases, revive_deliveries
from screener.audit.ledger import complete_study, register_instance
from screener.audit.queries import study_status
from screener.audit.results import finish_run
from screener.audit.runs import request_reprocess, revive_runs
from screener.audit.tables import Delivery, Run
from screener.domain import CompletionReason, DeliveryState, RunState, StudyState
from screener.errors import LostClaim, WrongUse
from tests.audit_factories import (
    LEASE_S,
    PATIENCE,
    POLICY,
    STUDY,
    after,
    make_instance,
    make_received,
    make_results,
)

STUDIES = (STUDY, STUDY + "9")
DESTINATIONS = ("archive", "pacs")

RUN_STEPS = {
    RunState.QUEUED: {RunState.RUNNING, RunState.SUPERSEDED},
    RunState.RUNNING: {RunState.REPORTED, RunState.QUEUED, RunState.FAILED, RunState.SUPERSEDED},
    RunState.REPORTED: {RunState.DELIVERED, RunState.CONFIRMED, RunState.SUPERSEDED},
    RunState.DELIVERED: {RunState.CONFIRMED, RunState.SUPERSEDED},
    RunState.CONFIRMED: {RunState.SUPERSEDED},
    RunState.FAILED: {RunState.QUEUED},
    RunState.SUPERSEDED: set[RunState](),
}
DELIVERY_STEPS = {
    DeliveryState.PENDING: {DeliveryState.SENDING},
    DeliveryState.SENDING: {DeliveryState.SENT, DeliveryState.RETRYING, DeliveryState.DEAD},
    DeliveryState.SENT: {DeliveryState.CONFIRMED, DeliveryState.RETRYING, DeliveryState.DEAD},
    DeliveryState.RETRYING: {DeliveryState.SENDING},
    DeliveryState.DEAD: {DeliveryState.RETRYING},
    DeliveryState.CONFIRMED: set[DeliveryState](),
}


def _forget_durability(connection: Any, _record: object) -> None:
    """Nothing here outlives the test, so nothing has to reach the disk."""
    connection.execute("PRAGMA synchronous = OFF")


class Journeys(RuleBasedStateMachine):
    """What can happen, in any order."""

    template: ClassVar[Path]

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="screener-journeys-"))
        shutil.copyfile(self.template, self.folder / "audit.sqlite3")
        self.database = Database(f"sqlite:///{self.folder / 'audit.sqlite3'}")
        event.listen(self.database.engine, "connect", _forget_durability)
        self.seconds = 0.0
        self.n_received = 0
        self.workers: list[ClaimedRun] = []
        self.senders: list[ClaimedDelivery] = []
        self.run_states: dict[str, RunState] = {}
        self.delivery_states: dict[str, DeliveryState] = {}
        self.attempts: dict[str, int] = {}

    def teardown(self) -> None:
        self.database.dispose()
        shutil.rmtree(self.folder)

    @initialize()
    def begin_with_work(self) -> None:
        for study in STUDIES:
            self.receive(study)
            self.complete(study)

    @rule(study=st.sampled_from(STUDIES))
    def receive(self, study: str) -> None:
        self.n_received += 1
        instance = make_instance(self.n_received, study=study)
        register_instance(self.database, make_received(instance), after(self.seconds))

    @rule(study=st.sampled_from(STUDIES))
    def complete(self, study: str) -> None:
        complete_study(
            self.database, study, StudyState.UNVERIFIED, CompletionReason.QUIET,
            after(self.seconds),
        )  # fmt: skip

    @rule(seconds=st.sampled_from([1.0, 30.0, 400.0]))
    def wait(self, seconds: float) -> None:
        self.seconds += seconds

    @rule()
    def sweep(self) -> None:
        expire_leases(self.database, after(self.seconds), POLICY)
        expire_delivery_leases(self.database, after(self.seconds), PATIENCE)

    @rule()
    def take_run(self) -> None:
        claimed = claim_run(self.database, None, "w", LEASE_S, after(self.seconds))
        if claimed is not None:
            assert claimed.attempt > self.attempts.get(claimed.run_id, 0)
            self.attempts[claimed.run_id] = claimed.attempt
            self.workers.append(claimed)

    @rule(data=st.data(), end=st.sampled_from(["report", "fail", "give up", "beat"]))
    def work(self, data: st.DataObject, end: str) -> None:
        """Any worker, also one that lost its claim long ago, says something."""
        if not self.workers:
            return
        claimed = data.draw(st.sampled_from(self.workers))
        is_newest = self.attempts[claimed.run_id] == claimed.attempt
        was_running = self.run_states.get(claimed.run_id) is RunState.RUNNING
        try:
            self._say(claimed, end)
        except LostClaim:
            assert not (is_newest and was_running)
        else:
            assert is_newest

    @rule(study=st.sampled_from(STUDIES))
    def reprocess(self, study: str) -> None:
        try:
            request_reprocess(self.database, study, after(self.seconds))
        except WrongUse:
            status = study_status(self.database, study)
            assert status is not None
            assert status.state is StudyState.RECEIVING

    @rule(study=st.sampled_from(STUDIES))
    def retry(self, study: str) -> None:
        revive_runs(self.database, study, after(self.seconds))
        revive_deliveries(self.database, study, after(self.seconds))

    @rule()
    def take_delivery(self) -> None:
        claimed = claim_delivery(self.database, None, "s", LEASE_S, after(self.seconds))
        if claimed is None:
            claimed = claim_confirmation(
                self.database, DESTINATIONS, "s", LEASE_S, after(self.seconds)
            )
        if claimed is not None:
            self.senders.append(claimed)

    @rule(data=st.data(), end=st.sampled_from(["sent", "confirmed", "retry", "refused"]))
    def send(self, data: st.DataObject, end: str) -> None:
        if not self.senders:
            return
        claimed = data.draw(st.sampled_from(self.senders))
        now = after(self.seconds)
        statuses = [ObjectStatus(one.sop_instance_uid, 0, "stored") for one in claimed.objects]
        try:
            if end == "sent":
                finish_delivery(self.database, claimed, statuses, now)
            elif end == "confirmed":
                confirm_delivery(self.database, claimed, "listed", now)
            elif end == "retry":
                retry_delivery(self.database, claimed, "away", now, PATIENCE)
            else:
                fail_delivery(self.database, claimed, "refused", now)
        except LostClaim:
            return

    @invariant()
    def books_balance(self) -> None:
        report = accounting(self.database, after(self.seconds), grace_s=1e9)
        assert report.is_balanced, report.text()

    @invariant()
    def only_legal_steps(self) -> None:
        with self.database.session() as session:
            runs = session.scalars(select(Run).order_by(Run.version)).all()
            deliveries = session.scalars(select(Delivery)).all()
        for run in runs:
            before = self.run_states.get(run.run_id, RunState.QUEUED)
            assert run.state is before or run.state in RUN_STEPS[before], (before, run.state)
            self.run_states[run.run_id] = run.state
        for one in deliveries:
            old = self.delivery_states.get(one.delivery_id, DeliveryState.PENDING)
            assert one.state is old or one.state in DELIVERY_STEPS[old], (old, one.state)
            self.delivery_states[one.delivery_id] = one.state
        for study in STUDIES:
            mine = [run for run in runs if run.study_instance_uid == study]
            assert [run.version for run in mine] == list(range(1, len(mine) + 1))
            for state in (RunState.RUNNING, RunState.QUEUED):
                assert sum(run.state is state for run in mine) <= 1

    def _say(self, claimed: ClaimedRun, end: str) -> None:
        now = after(self.seconds)
        if end == "report":
            results = make_results(claimed, destinations=DESTINATIONS)
            finish_run(self.database, claimed, results, now)
        elif end == "beat":
            heartbeat(self.database, claimed, LEASE_S, now)
        else:
            is_transient = end == "fail"
            fail_run(
                self.database, claimed, "broken", now, is_transient=is_transient, policy=POLICY
            )


def test_journeys(migrated_file: Path) -> None:
    """No order of events leads to an illegal state or an unbalanced account."""
    Journeys.template = migrated_file
    machine = Journeys.TestCase
    machine.settings = settings(
        max_examples=12,
        stateful_step_count=40,
        deadline=None,
        derandomize=True,
        suppress_health_check=list(HealthCheck),
    )
    machine().runTest()
