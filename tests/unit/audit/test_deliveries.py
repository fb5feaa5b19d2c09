"""Deliveries from pending to confirmed or dead, and what they make of their run; both databases."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from screener.audit.backoff import RetryPolicy
from screener.audit.commitments import (
    ask_commitment,
    await_commitment,
    settle_commitment,
    withdraw_commitment,
)
from screener.audit.deliveries import (
    ClaimedDelivery,
    ObjectStatus,
    claim_confirmation,
    claim_delivery,
    confirm_delivery,
    extend_delivery,
    fail_delivery,
    finish_delivery,
    postpone_confirmation,
    retry_delivery,
)
from screener.audit.delivery_sweep import (
    due_deliveries,
    expire_delivery_leases,
    mark_deliveries_rung,
    revive_deliveries,
)
from screener.audit.queries import run_status
from screener.audit.runs import request_reprocess
from screener.audit.story import why
from screener.domain import CommitmentReport, DeliveryState, RunState
from screener.errors import LostClaim
from tests.audit_factories import (
    LEASE_S,
    PATIENCE,
    STUDY,
    after,
    claim,
    queue_run,
    report,
)

if TYPE_CHECKING:
    from screener.audit.database import Database


def report_to(database: Database, *destinations: str) -> str:
    """Report a study that goes to these destinations; give the run."""
    claimed = claim(database, queue_run(database))
    report(database, claimed, destinations=destinations)
    return claimed.run_id


def take(database: Database, destination: str = "pacs", seconds: float = 840) -> ClaimedDelivery:
    claimed = claim_delivery(
        database, None, "s1", LEASE_S, after(seconds), destinations=[destination]
    )
    assert claimed is not None
    return claimed


def stored(claimed: ClaimedDelivery) -> list[ObjectStatus]:
    return [ObjectStatus(one.sop_instance_uid, 0x0000, "stored") for one in claimed.objects]


def send(database: Database, destination: str = "pacs", seconds: float = 840) -> ClaimedDelivery:
    claimed = take(database, destination, seconds)
    finish_delivery(database, claimed, stored(claimed), after(seconds + 1))
    return claimed


def states(database: Database, run_id: str) -> tuple[RunState, list[DeliveryState]]:
    status = run_status(database, run_id)
    assert status is not None
    return status.state, [one.state for one in status.deliveries]


def test_delivery_way_to_confirmed(database: Database) -> None:
    """Sent is what the status says, confirmed is what the PACS says; the run follows."""
    run_id = report_to(database, "pacs")
    claimed = take(database)
    assert [one.kind.value for one in claimed.objects] == ["seg", "sr"]
    assert states(database, run_id) == (RunState.REPORTED, [DeliveryState.SENDING])
    finish_delivery(database, claimed, stored(claimed), after(841))
    assert states(database, run_id) == (RunState.DELIVERED, [DeliveryState.SENT])
    confirm_delivery(database, claimed, "C-FIND lists 2 of 2", after(842))
    assert states(database, run_id) == (RunState.CONFIRMED, [DeliveryState.CONFIRMED])
    answers = [one.answers[0] for one in why(database, STUDY).runs[0].objects]
    assert [(one.destination, one.status, one.outcome) for one in answers] == [
        ("pacs", 0, "stored"),
        ("pacs", 0, "stored"),
    ]


def test_dead_destination_holds_up_nobody(database: Database) -> None:
    """One destination refuses for ever, the other gets and confirms everything."""
    run_id = report_to(database, "archive", "pacs")
    fail_delivery(database, take(database, "archive"), "unknown AE title", after(841))
    claimed = send(database, "pacs")
    confirm_delivery(database, claimed, "listed", after(843))
    assert states(database, run_id) == (
        RunState.REPORTED,
        [DeliveryState.DEAD, DeliveryState.CONFIRMED],
    )


def test_run_is_delivered_with_the_last_destination(database: Database) -> None:
    """The run waits for all its destinations."""
    run_id = report_to(database, "archive", "pacs")
    send(database, "archive")
    assert states(database, run_id)[0] is RunState.REPORTED
    send(database, "pacs")
    assert states(database, run_id)[0] is RunState.DELIVERED


def test_delivery_is_claimed_once(database: Database) -> None:
    """Two senders do not send the same report at the same time."""
    report_to(database, "pacs")
    claimed = take(database)
    assert claim_delivery(database, None, "s2", LEASE_S, after(841)) is None
    assert claim_delivery(database, claimed.delivery_id, "s2", LEASE_S, after(841)) is None


def test_retry_waits_and_remembers_what_arrived(database: Database) -> None:
    """After a partial answer only the pause and the outcome of each object stay."""
    report_to(database, "pacs")
    claimed = take(database)
    first, second = claimed.objects
    statuses = [
        ObjectStatus(first.sop_instance_uid, 0x0000, "stored"),
        ObjectStatus(second.sop_instance_uid, 0xA700, "retry", "out of resources"),
    ]
    state = retry_delivery(
        database, claimed, "out of resources", after(841), PATIENCE, statuses=statuses
    )
    assert state is DeliveryState.RETRYING
    assert claim_delivery(database, None, "s1", LEASE_S, after(842)) is None
    again = take(database, seconds=852)
    assert [one.last_outcome for one in again.objects] == ["stored", "retry"]
    assert again.attempt == 2


def test_retry_gives_up_after_its_patience(database: Database) -> None:
    """A PACS that is away for eight hours is waited for, one that is away for a week is not."""
    run_id = report_to(database, "pacs")

    def fail_at(seconds: float) -> DeliveryState:
        claimed = take(database, seconds=seconds)
        return retry_delivery(database, claimed, "no answer", after(seconds), PATIENCE)

    during_the_night = [fail_at(840.0 + 900 * number) for number in range(32)]
    assert set(during_the_night) == {DeliveryState.RETRYING}
    assert fail_at(830 + 7 * 86400.0) is DeliveryState.DEAD
    assert states(database, run_id) == (RunState.REPORTED, [DeliveryState.DEAD])
    assert why(database, STUDY).events[-1].kind == "delivery_died"


def test_revived_delivery_has_its_patience_again(database: Database) -> None:
    """`screener retry` lets a dead delivery begin anew."""
    run_id = report_to(database, "pacs")
    fail_delivery(database, take(database), "unknown AE title", after(841))
    assert len(revive_deliveries(database, STUDY, after(9000))) == 1
    assert revive_deliveries(database, run_id, after(9001)) == ()
    send(database, seconds=9002)
    assert states(database, run_id)[0] is RunState.DELIVERED


def test_fencing_of_senders(database: Database) -> None:
    """A sender that was silent too long writes nothing; its successor does."""
    report_to(database, "pacs")
    late = take(database)
    assert expire_delivery_leases(database, after(1000), PATIENCE) == (late.delivery_id,)
    second = take(database, seconds=1020)
    with pytest.raises(LostClaim):
        finish_delivery(database, late, stored(late), after(1021))
    with pytest.raises(LostClaim):
        fail_delivery(database, late, "late", after(1021))
    finish_delivery(database, second, stored(second), after(1022))


def test_lease_is_extended_while_it_is_held(database: Database) -> None:
    """A sender that works is left alone; one that gave back or lost its claim extends nothing."""
    report_to(database, "pacs")
    held = take(database)
    extend_delivery(database, held, LEASE_S, after(890))
    assert expire_delivery_leases(database, after(880 + LEASE_S), PATIENCE) == ()
    finish_delivery(database, held, stored(held), after(900))
    with pytest.raises(LostClaim):
        extend_delivery(database, held, LEASE_S, after(901))
    asker = claim_confirmation(database, ["pacs"], "s1", LEASE_S, after(902))
    assert asker is not None
    with pytest.raises(LostClaim):
        extend_delivery(database, held, LEASE_S, after(903))
    extend_delivery(database, asker, LEASE_S, after(903))


def test_confirm_needs_sending_first(database: Database) -> None:
    """What was never sent cannot be confirmed."""
    report_to(database, "pacs")
    with pytest.raises(LostClaim):
        confirm_delivery(database, take(database), "listed", after(841))


def test_confirmation_is_asked_for_later(database: Database) -> None:
    """A PACS that does not list the report yet is asked again, and again after longer."""
    run_id = report_to(database, "pacs")
    claimed = send(database)
    postpone_confirmation(database, claimed, "0 of 2 listed", after(842), PATIENCE)
    assert claim_confirmation(database, ["pacs"], "s1", LEASE_S, after(843)) is None
    assert claim_confirmation(database, ["archive"], "s1", LEASE_S, after(900)) is None
    asked = claim_confirmation(database, ["pacs"], "s1", LEASE_S, after(900))
    assert asked is not None
    assert claim_confirmation(database, ["pacs"], "s2", LEASE_S, after(901)) is None
    with pytest.raises(LostClaim):
        confirm_delivery(database, claimed, "late", after(901))
    confirm_delivery(database, asked, "listed", after(901))
    assert states(database, run_id)[0] is RunState.CONFIRMED


def test_confirmation_left_open_is_taken_up_again(database: Database) -> None:
    """A sender that dies while asking leaves the question, not the state, open."""
    run_id = report_to(database, "pacs")
    send(database)
    assert claim_confirmation(database, ["pacs"], "s1", LEASE_S, after(900)) is not None
    assert len(expire_delivery_leases(database, after(1000), PATIENCE)) == 1
    assert states(database, run_id)[1] == [DeliveryState.SENT]
    assert claim_confirmation(database, ["pacs"], "s2", LEASE_S, after(1001)) is not None


def test_forgetful_destination_gets_it_again(database: Database) -> None:
    """A PACS that lost what it had taken gets the same bytes again; the run steps back."""
    run_id = report_to(database, "pacs")
    send(database)
    assert states(database, run_id)[0] is RunState.DELIVERED
    asked = claim_confirmation(database, ["pacs"], "s1", LEASE_S, after(900))
    assert asked is not None
    forgotten = [ObjectStatus(one.sop_instance_uid, None, "forgotten") for one in asked.objects]
    state = retry_delivery(database, asked, "listed none", after(901), PATIENCE, statuses=forgotten)
    assert state is DeliveryState.RETRYING
    assert states(database, run_id) == (RunState.REPORTED, [DeliveryState.RETRYING])
    again = take(database, seconds=920)
    assert {one.last_outcome for one in again.objects} == {"forgotten"}


def test_reports_of_a_study_keep_their_order(database: Database) -> None:
    """A newer report waits behind the one it replaces, at that destination only."""
    report_to(database, "archive", "pacs")
    second = claim(database, request_reprocess(database, STUDY, after(900)), seconds=900)
    report(database, second, seconds=930, destinations=("archive", "pacs"))
    older = take(database, "pacs", 931)
    assert claim_delivery(
        database, None, "s2", LEASE_S, after(931), destinations=["pacs"]
    ) is None  # fmt: skip
    finish_delivery(database, older, stored(older), after(932))
    newer = take(database, "pacs", 933)
    assert newer.run_id == second.run_id
    finish_delivery(database, newer, stored(newer), after(934))
    runs = why(database, STUDY).runs
    assert [run.status.state for run in runs] == [RunState.SUPERSEDED, RunState.REPORTED]
    fail_delivery(database, take(database, "archive", 935), "refused", after(936))
    assert take(database, "archive", 937).run_id == second.run_id


def test_deliveries_are_rung_for_until_taken(database: Database) -> None:
    """The dispatcher rings again for what no sender took."""
    report_to(database, "pacs")
    (due,) = due_deliveries(database, after(840), 2.0)
    assert mark_deliveries_rung(database, [due.delivery_id], after(840)) == 1
    assert due_deliveries(database, after(841), 2.0) == ()
    assert len(due_deliveries(database, after(842), 2.0)) == 1
    take(database)
    assert due_deliveries(database, after(900), 2.0) == ()
    assert mark_deliveries_rung(database, [], after(900)) == 0


def test_retry_counts_attempts_where_the_policy_does(database: Database) -> None:
    """A policy may also limit the tries."""
    report_to(database, "pacs")
    twice = RetryPolicy(first_retry_s=1.0, retry_cap_s=1.0, max_attempts=2)
    assert (
        retry_delivery(database, take(database), "away", after(841), twice)
        is DeliveryState.RETRYING
    )
    last = take(database, seconds=850)
    assert retry_delivery(database, last, "away", after(851), twice) is DeliveryState.DEAD


# ── storage commitment ───────────────────────────────────────────────────────────────────────

TRANSACTION = "2.25.17"
TAKEN = ("stored", "stored-with-warning")
DENIALS = RetryPolicy(first_retry_s=10.0, retry_cap_s=900.0, max_attempts=2)


def ask(database: Database, transaction_uid: str = TRANSACTION) -> ClaimedDelivery:
    """Claim the confirmation of what was sent, and ask for a commitment."""
    claimed = claim_confirmation(database, ["pacs"], "s1", LEASE_S, after(3000))
    assert claimed is not None
    ask_commitment(database, claimed, transaction_uid, after(3001))
    return claimed


def answer(
    database: Database, n_failed: int = 0, transaction_uid: str = TRANSACTION
) -> DeliveryState | None:
    """Let the destination report that the first objects failed, and answer for the others."""
    uids = [one.sop_instance_uid for one in why(database, STUDY).runs[0].objects]
    report_of = CommitmentReport(
        transaction_uid,
        frozenset(uids[n_failed:]),
        tuple((uid, 0x0112) for uid in uids[:n_failed]),
    )
    return settle_commitment(database, report_of, TAKEN, after(3002), DENIALS)


def test_commitment_confirms_while_the_asker_still_holds_it(database: Database) -> None:
    """A fast report wins over the claim that asked; the asker then has nothing to wait for."""
    run_id = report_to(database, "pacs")
    send(database)
    claimed = ask(database)
    assert answer(database) is DeliveryState.CONFIRMED
    assert states(database, run_id) == (RunState.CONFIRMED, [DeliveryState.CONFIRMED])
    with pytest.raises(LostClaim):
        await_commitment(database, claimed, after(4000))
    assert answer(database, 1) is DeliveryState.CONFIRMED  # late: it changes nothing


def test_commitment_that_does_not_come_is_found_again(database: Database) -> None:
    """Nobody claims it while the report may come; afterwards the claim says what was asked."""
    report_to(database, "pacs")
    send(database)
    await_commitment(database, ask(database), after(4000))
    assert claim_confirmation(database, ["pacs"], "s1", LEASE_S, after(3999)) is None
    again = claim_confirmation(database, ["pacs"], "s1", LEASE_S, after(4001))
    assert again is not None
    assert again.commitment_uid == TRANSACTION


def test_request_that_did_not_get_through_is_asked_anew(database: Database) -> None:
    """Its transaction is forgotten, and a report of it belongs to nobody."""
    report_to(database, "pacs")
    send(database)
    withdraw_commitment(database, ask(database), "no answer", after(3002), PATIENCE)
    assert answer(database) is None
    again = claim_confirmation(database, ["pacs"], "s1", LEASE_S, after(4001))
    assert again is not None
    assert again.commitment_uid is None


def test_destination_that_disowns_again_and_again_is_dead(database: Database) -> None:
    """What it took and does not answer for is sent again, but not for ever."""
    run_id = report_to(database, "pacs")
    send(database)
    ask(database)
    assert answer(database, 1) is DeliveryState.RETRYING
    again = take(database, seconds=3100)
    assert sorted(str(one.last_outcome) for one in again.objects) == ["not-committed", "stored"]
    finish_delivery(database, again, stored(again), after(3101))
    claimed = claim_confirmation(database, ["pacs"], "s1", LEASE_S, after(3102))
    assert claimed is not None
    assert claimed.commitment_uid is None
    ask_commitment(database, claimed, "2.25.18", after(3103))
    assert answer(database, 2, "2.25.18") is DeliveryState.DEAD
    assert states(database, run_id) == (RunState.REPORTED, [DeliveryState.DEAD])
    assert revive_deliveries(database, run_id, after(3200)) == (claimed.delivery_id,)


def test_object_that_the_report_leaves_out_is_not_committed(database: Database) -> None:
    """Silence about an object is no commitment, whatever the event type says."""
    report_to(database, "pacs")
    send(database)
    ask(database)
    nothing = CommitmentReport(TRANSACTION, frozenset(), ())
    state = settle_commitment(database, nothing, TAKEN, after(3002), DENIALS)
    assert state is DeliveryState.RETRYING
    assert "it is not in the result" in str(
        why(database, STUDY).runs[0].status.deliveries[0].detail
    )
