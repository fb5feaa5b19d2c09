"""Random journeys: whatever workers, senders, late slices and people do, the books balance.

Several workers and senders act in a random but repeatable order on two studies, may die, come late
or be asked to work again. After every step no illegal transition was seen, no two workers hold one
study, and the accounting holds. Time only moves forward; PostgreSQL is covered by the tests of
simultaneous claims.
"""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any

import numpy as np
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

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

STUDIES = (STUDY, STUDY + "9")
DESTINATIONS = ("archive", "pacs")
N_STEPS = 250
SEEDS = (1, 2, 3, 4)

RUN_STEPS = {
    RunState.QUEUED: {RunState.RUNNING, RunState.SUPERSEDED},
    RunState.RUNNING: {RunState.REPORTED, RunState.QUEUED, RunState.FAILED, RunState.SUPERSEDED},
    RunState.REPORTED: {RunState.DELIVERED, RunState.CONFIRMED, RunState.SUPERSEDED},
    # back where a destination forgot what it had taken
    RunState.DELIVERED: {RunState.CONFIRMED, RunState.REPORTED, RunState.SUPERSEDED},
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

#: What can happen, with its weight.
STEPS = {
    "receive": 1, "complete": 3, "wait": 6, "sweep": 3, "take_run": 6, "work": 6, "reprocess": 1,
    "retry": 1, "take_delivery": 10, "send": 12,
}  # fmt: skip


class Journeys:
    """Two studies, and everybody who acts on them."""

    def __init__(self, database: Database, seed: int) -> None:
        self.database = database
        self.chance = np.random.default_rng(seed)
        self.seconds = 0.0
        self.n_received = 0
        self.workers: list[ClaimedRun] = []
        self.senders: list[ClaimedDelivery] = []
        self.run_states: dict[str, RunState] = {}
        self.delivery_states: dict[str, DeliveryState] = {}
        self.attempts: dict[str, int] = {}
        self.reached: set[RunState | DeliveryState] = set()

    @property
    def now(self) -> Any:
        return after(self.seconds)

    def any_of(self, choices: Sequence[Any]) -> Any:
        return choices[int(self.chance.integers(len(choices)))]

    def recent(self, choices: Sequence[Any]) -> Any:
        """Mostly the newest, sometimes one that lost its claim long ago."""
        return choices[-1] if self.chance.random() < 0.7 else self.any_of(choices)

    def step(self) -> None:
        weights = np.array(list(STEPS.values())) / sum(STEPS.values())
        getattr(self, str(self.chance.choice(list(STEPS), p=weights)))()
        if self.chance.random() < 0.2:
            self.check_books()

    def receive(self) -> None:
        self.n_received += 1
        instance = make_instance(self.n_received, study=self.any_of(STUDIES))
        register_instance(self.database, make_received(instance), self.now)

    def complete(self) -> None:
        study = self.any_of(STUDIES)
        verdict = (StudyState.UNVERIFIED, CompletionReason.QUIET)
        complete_study(self.database, study, *verdict, self.now)

    def wait(self) -> None:
        self.seconds += self.any_of([1.0, 10.0, 30.0, 400.0])

    def sweep(self) -> None:
        expire_leases(self.database, self.now, POLICY)
        expire_delivery_leases(self.database, self.now, PATIENCE)

    def take_run(self) -> None:
        claimed = claim_run(self.database, None, "w", LEASE_S, self.now)
        if claimed is not None:
            assert claimed.attempt > self.attempts.get(claimed.run_id, 0)
            self.attempts[claimed.run_id] = claimed.attempt
            self.workers.append(claimed)

    def work(self) -> None:
        if not self.workers:
            return
        claimed = self.recent(self.workers)
        is_newest = self.attempts[claimed.run_id] == claimed.attempt
        was_running = self.run_states.get(claimed.run_id) is RunState.RUNNING
        try:
            self.say(claimed)
        except LostClaim:
            assert not (is_newest and was_running)
        else:
            assert is_newest

    def say(self, claimed: ClaimedRun) -> None:
        end = self.any_of(["report", "report", "fail", "give up", "beat"])
        if end == "report":
            results = make_results(claimed, destinations=DESTINATIONS)
            finish_run(self.database, claimed, results, self.now)
        elif end == "beat":
            heartbeat(self.database, claimed, LEASE_S, self.now)
        else:
            fail_run(
                self.database, claimed, "broken", self.now,
                is_transient=end == "fail", policy=POLICY,
            )  # fmt: skip

    def reprocess(self) -> None:
        study = self.any_of(STUDIES)
        try:
            request_reprocess(self.database, study, self.now)
        except WrongUse:
            status = study_status(self.database, study)
            assert status is None or status.state is StudyState.RECEIVING

    def retry(self) -> None:
        study = self.any_of(STUDIES)
        revive_runs(self.database, study, self.now)
        revive_deliveries(self.database, study, self.now)

    def take_delivery(self) -> None:
        claimed = claim_confirmation(self.database, DESTINATIONS, "s", LEASE_S, self.now)
        if claimed is None:
            claimed = claim_delivery(self.database, None, "s", LEASE_S, self.now)
        if claimed is not None:
            self.senders.append(claimed)

    def send(self) -> None:
        if not self.senders:
            return
        claimed = self.recent(self.senders)
        statuses = [ObjectStatus(one.sop_instance_uid, 0, "stored") for one in claimed.objects]
        end = self.any_of(["sent", "sent", "sent", "confirmed", "confirmed", "retry", "refused"])
        try:
            if end == "sent":
                finish_delivery(self.database, claimed, statuses, self.now)
            elif end == "confirmed":
                confirm_delivery(self.database, claimed, "listed", self.now)
            elif end == "retry":
                retry_delivery(self.database, claimed, "away", self.now, PATIENCE)
            else:
                fail_delivery(self.database, claimed, "refused", self.now)
        except LostClaim:
            return

    def check_books(self) -> None:
        report = accounting(self.database, self.now, grace_s=1e9)
        assert report.is_balanced, report.text()

    def check_steps(self) -> None:
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
        self.reached |= {*self.run_states.values(), *self.delivery_states.values()}
        for study in STUDIES:
            mine = [run for run in runs if run.study_instance_uid == study]
            assert [run.version for run in mine] == list(range(1, len(mine) + 1))
            for state in (RunState.RUNNING, RunState.QUEUED):
                assert sum(run.state is state for run in mine) <= 1


def _forget_durability(connection: Any, _record: object) -> None:
    """Nothing here outlives the test, so nothing has to reach the disk."""
    connection.execute("PRAGMA synchronous = OFF")


def test_journeys(tmp_path: Path, migrated_file: Path) -> None:
    """No order of events leads to an illegal state or an unbalanced account."""
    reached: set[RunState | DeliveryState] = set()
    for seed in SEEDS:
        path = tmp_path / f"{seed}.sqlite3"
        shutil.copyfile(migrated_file, path)
        database = Database(f"sqlite:///{path}")
        event.listen(database.engine, "connect", _forget_durability)
        journeys = Journeys(database, seed)
        for _ in range(N_STEPS):
            journeys.step()
            journeys.check_steps()
        journeys.check_books()
        database.dispose()
        reached |= journeys.reached
    assert reached == {*RunState, *DeliveryState}  # they went everywhere
