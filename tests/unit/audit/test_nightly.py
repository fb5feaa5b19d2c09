"""The account of a day: comparison, turnaround, page, JSON, and that each day is kept once."""

from __future__ import annotations

import html
import json
from dataclasses import replace
from datetime import UTC, date, datetime, time, timedelta
from time import tzset
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

import pytest

from screener.audit.accounting import AccountingReport, AccountingRule, Violation
from screener.audit.claims import fail_run
from screener.audit.day_book import (
    ledger_of_day,
    missed_days,
    record_audit,
    recorded_audit,
    withdraw_early_audits,
    yesterday_of,
)
from screener.audit.deliveries import claim_delivery, fail_delivery, finish_delivery
from screener.audit.nightly import (
    AccountOutcome,
    LedgerStudy,
    ModelVerification,
    NightlyAudit,
    account_for_day,
    make_audit,
    measure_turnaround,
)
from screener.audit.page import render_html, show_duration, to_json
from screener.audit.runs import request_reprocess
from screener.audit.verification import ChainFinding, ChainReport, FindingKind
from screener.domain import PacsStudy, PatientClass, RunState, StudyState
from tests.audit_factories import (
    LEASE_S,
    NOW,
    POLICY,
    STUDY,
    after,
    claim,
    make_refusal,
    queue_run,
    receive_study,
    report,
)

if TYPE_CHECKING:
    from screener.audit.database import Database

DAY = date(2026, 3, 28)
INTACT = ChainReport(120, 2, 7, ())
BALANCED = AccountingReport(5, 400, 0, 0, 1, 0, (("confirmed", 4),), (("confirmed", 4),), ())


def make_pacs_study(uid: str = STUDY, n_instances: int | None = 3) -> PacsStudy:
    return PacsStudy(uid, "20260328", ("CT",), n_instances)


def make_ledger_study(uid: str = STUDY, **changes: object) -> LedgerStudy:
    study = LedgerStudy(
        study_instance_uid=uid,
        state=StudyState.VERIFIED,
        n_instances=3,
        n_sent_objects=0,
        first_arrival_at=NOW,
        run_state=RunState.CONFIRMED,
        patient_class=PatientClass.NORMAL,
        certainty=0.91,
        not_analysed_reason=None,
        error=None,
        reported_at=after(90),
        confirmed_at=after(95),
        dead_destinations=(),
    )
    return replace(study, **changes)  # type: ignore[arg-type]


def make_nightly(
    pacs: list[PacsStudy] | None = None, ledger: list[LedgerStudy] | None = None, **changes: object
) -> NightlyAudit:
    values: dict[str, object] = {
        "day": DAY,
        "made_at": NOW,
        "pacs_name": "pacs",
        "pacs_studies": [make_pacs_study()] if pacs is None else pacs,
        "pacs_error": None,
        "ledger": [make_ledger_study()] if ledger is None else ledger,
        "chain": INTACT,
        "models": [ModelVerification("lungs", "1.0", "a" * 64, True, "")],
        "accounting": BALANCED,
    }
    return make_audit(**(values | changes))  # type: ignore[arg-type]


# ── comparing ────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("changes", "outcome", "detail"),
    [
        ({}, AccountOutcome.ANALYSED, "normal, certainty 0.91"),
        (
            {"patient_class": None, "not_analysed_reason": "not-a-chest"},
            AccountOutcome.NOT_ANALYSED,
            "Because: not-a-chest.",
        ),
        (
            {"run_state": RunState.FAILED, "error": "model is gone"},
            AccountOutcome.FAILED,
            "model is gone",
        ),
        ({"run_state": RunState.QUEUED}, AccountOutcome.IN_PROGRESS, "Its run is queued."),
        ({"run_state": RunState.RUNNING}, AccountOutcome.IN_PROGRESS, "Its run is running."),
        ({"run_state": None}, AccountOutcome.IN_PROGRESS, "No run was made yet."),
        (
            {"state": StudyState.RECEIVING},
            AccountOutcome.IN_PROGRESS,
            "It is still being received.",
        ),
        (
            {"state": StudyState.RECEIVING, "run_state": RunState.FAILED, "error": "gone"},
            AccountOutcome.FAILED,
            "gone",
        ),
        ({"patient_class": None}, AccountOutcome.FAILED, "neither a decision nor a reason"),
    ],
)
def test_outcome_of_a_study(
    changes: dict[str, object], outcome: AccountOutcome, detail: str
) -> None:
    """Each state of the ledger is one outcome, said in a sentence."""
    (account,) = account_for_day([make_pacs_study()], [make_ledger_study(**changes)])
    assert account.outcome is outcome
    assert detail in account.detail


def test_missing_study_comes_first() -> None:
    """What the PACS holds and we never saw is missing, and heads the list."""
    accounts = account_for_day(
        [make_pacs_study("1.9", 133), make_pacs_study()], [make_ledger_study()]
    )
    assert [(one.study_instance_uid, one.outcome) for one in accounts] == [
        ("1.9", AccountOutcome.MISSING),
        (STUDY, AccountOutcome.ANALYSED),
    ]
    assert (accounts[0].n_instances_in_pacs, accounts[0].n_instances_here) == (133, 0)


def test_studies_that_need_a_person_come_first() -> None:
    """Failed before undelivered before the rest."""
    ledger = [
        make_ledger_study("1"),
        make_ledger_study("2", dead_destinations=("archive",)),
        make_ledger_study("3", run_state=RunState.FAILED, error="x"),
        make_ledger_study("4", run_state=RunState.QUEUED),
    ]
    accounts = account_for_day([], ledger)
    assert [one.study_instance_uid for one in accounts] == ["3", "2", "1", "4"]


def test_study_only_here_is_accounted_for() -> None:
    """A study that the PACS does not list is in the account too."""
    (account,) = account_for_day([], [make_ledger_study()])
    assert account.outcome is AccountOutcome.ANALYSED
    assert not account.is_in_pacs


@pytest.mark.parametrize(
    ("in_pacs", "sent", "expected"), [(3, 0, 0), (5, 2, 0), (5, 0, 2), (None, 0, 0), (2, 0, 0)]
)
def test_instances_that_never_came(in_pacs: int | None, sent: int, expected: int) -> None:
    """The PACS counts our own results too; what is left over never came here."""
    (account,) = account_for_day(
        [make_pacs_study(n_instances=in_pacs)], [make_ledger_study(n_sent_objects=sent)]
    )
    assert account.n_not_received == expected


def test_turnaround_percentiles() -> None:
    """Percentiles are values that occurred, by nearest rank."""
    ledger = [
        make_ledger_study(f"1.{seconds}", reported_at=after(seconds), confirmed_at=None)
        for seconds in range(10, 110, 10)
    ]
    reported, confirmed = measure_turnaround([*ledger, make_ledger_study("2", reported_at=None)])
    assert (reported.n_studies, reported.median_s, reported.p90_s) == (10, 50.0, 90.0)
    assert (reported.p99_s, reported.longest_s) == (100.0, 100.0)
    assert (confirmed.n_studies, confirmed.median_s) == (1, 95.0)
    assert measure_turnaround([])[0].median_s is None


def test_clean_day() -> None:
    """A day on which all is well has no problem and says so."""
    audit = make_nightly()
    assert audit.is_clean
    assert dict(audit.class_mix) == {"normal": 1}
    assert "Every study of the day is accounted for." in render_html(audit)


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"pacs_error": "no answer from PACS@10.0.0.1:104"}, "could not be asked: no answer"),
        ({"pacs": [make_pacs_study("1.9")]}, "1 study of the PACS never came here"),
        (
            {"ledger": [make_ledger_study(run_state=RunState.FAILED, error="x")]},
            "1 study failed",
        ),
        ({"pacs": [make_pacs_study(n_instances=9)]}, "Of 1 study the PACS holds more"),
        (
            {"ledger": [make_ledger_study(dead_destinations=("archive",))]},
            "The results of 1 study were given up",
        ),
        (
            {"chain": replace(INTACT, findings=(ChainFinding(FindingKind.CHANGED, 3, 3, "x"),))},
            "tampered with",
        ),
        (
            {"models": [ModelVerification("lungs", "1.0", "a" * 64, False, "other bytes")]},
            "Model lungs is not the one that is pinned: other bytes",
        ),
        (
            {"accounting": replace(BALANCED, violations=(
                Violation(AccountingRule.ONE_REPORT, 2, ("r",)),))},
            "The books do not balance: a reported run has exactly one structured report (2 rows)",
        ),
    ],
)  # fmt: skip
def test_problems_of_a_day(changes: dict[str, object], problem: str) -> None:
    """Each kind of trouble is one sentence on the page and makes the day unclean."""
    audit = make_nightly(**changes)  # type: ignore[arg-type]
    assert not audit.is_clean
    assert any(problem in one for one in audit.problems)
    assert problem in render_html(audit)
    assert problem in str(to_json(audit)["problems"])


# ── page ─────────────────────────────────────────────────────────────────────────────────────


def test_page_loads_nothing_and_escapes() -> None:
    """The page is one file without scripts, and no value can become markup."""
    hostile = make_ledger_study(
        run_state=RunState.FAILED, error="<script>alert(1)</script>", dead_destinations=("<b>",)
    )
    page = render_html(make_nightly(ledger=[hostile]))
    assert "<script" not in page
    assert "&lt;script&gt;alert(1)" in page
    assert "Given up at &lt;b&gt;" in page
    assert "://" not in page
    assert "src=" not in page


@pytest.mark.parametrize(
    "value", ["<script>alert(1)</script>", '"><img onerror=x>', "{{7*7}}", "=cmd()"]
)
def test_input_41_values_that_are_markup(value: str) -> None:
    """A page shows what came as text; names of patients are in no table at all."""
    study = make_ledger_study(run_state=RunState.FAILED, error=value, dead_destinations=(value,))
    page = render_html(make_nightly(ledger=[study]))
    assert "<script" not in page
    assert "<img" not in page
    assert html.escape(value, quote=False) in html.unescape(page).replace("<", "&lt;").replace(
        ">", "&gt;"
    )


def test_page_of_an_empty_day() -> None:
    """A day without studies is said in words."""
    page = render_html(make_nightly([], [], pacs_name=None, models=[]))
    assert "Neither the PACS nor the ledger knows a CT study of this day." in page
    assert "No study has a result yet." in page
    assert "no PACS is set" in page


def test_json_is_plain() -> None:
    """The JSON holds everything the page shows, and only JSON."""
    content = json.loads(json.dumps(to_json(make_nightly()), allow_nan=False))
    assert content["is_clean"] is True
    assert content["outcome_counts"]["analysed"] == 1
    assert content["accounts"][0]["outcome"] == "analysed"
    assert content["day"] == "2026-03-28"


@pytest.mark.parametrize(
    ("seconds", "shown"), [(None, "–"), (45, "45 s"), (300, "5.0 min"), (9000, "2.5 h")]
)
def test_duration_shown(seconds: float | None, shown: str) -> None:
    """Durations are shown in the unit people would use."""
    assert show_duration(seconds) == shown


# ── day book ─────────────────────────────────────────────────────────────────────────────────


def test_ledger_of_a_day(database: Database) -> None:
    """The studies of the day and those the PACS names, with the newest run of each."""
    report(database, claim(database, queue_run(database)))
    claimed = claim_delivery(database, None, "s", LEASE_S, after(840))
    assert claimed is not None
    finish_delivery(database, claimed, [], after(841))
    refused = claim(database, queue_run(database, study="1.2"))
    report(database, refused, outcome=make_refusal(), destinations=("archive",))
    dead = claim_delivery(database, None, "s", LEASE_S, after(842))
    assert dead is not None
    fail_delivery(database, dead, "unknown AE title", after(843))
    failed = claim(database, queue_run(database, study="1.3"))
    fail_run(database, failed, "gone", after(850), is_transient=False, policy=POLICY)
    receive_study(database, study="1.4")
    by_uid = {one.study_instance_uid: one for one in ledger_of_day(database, DAY, [])}
    assert set(by_uid) == {STUDY, "1.2", "1.3", "1.4"}
    assert (by_uid[STUDY].n_sent_objects, by_uid[STUDY].patient_class) == (2, "covid-19")
    assert by_uid[STUDY].reported_at == after(830)
    assert by_uid["1.2"].not_analysed_reason == "localizer-only"
    assert by_uid["1.2"].dead_destinations == ("archive",)
    assert (by_uid["1.3"].run_state, by_uid["1.3"].error) == (RunState.FAILED, "gone")
    assert by_uid["1.3"].reported_at is None
    assert by_uid["1.4"].run_state is None
    other_day = ledger_of_day(database, date(2026, 3, 1), ["1.2", "9.9"])
    assert [one.study_instance_uid for one in other_day] == ["1.2"]


def test_reprocess_does_not_look_slow(database: Database) -> None:
    """The first report counts for the turnaround, however much later it is made again."""
    report(database, claim(database, queue_run(database)))
    again = request_reprocess(database, STUDY, after(90_000))
    report(database, claim(database, again, seconds=90_000), seconds=90_001)
    (study,) = ledger_of_day(database, DAY, [])
    assert study.reported_at == after(830)


def test_audit_is_recorded_once(database: Database) -> None:
    """Two schedulers make one audit of a day."""
    content = to_json(make_nightly())
    assert record_audit(database, DAY, content, NOW, is_clean=True)
    assert not record_audit(database, DAY, {"other": 1}, NOW, is_clean=False)
    assert recorded_audit(database, DAY) == content


def test_audit_is_due_until_recorded(database: Database) -> None:
    """Due from the set time on, at any later hour; then done."""

    def missed(now: datetime) -> tuple[date, ...]:
        return missed_days(database, now, at=time(2, 30), zone=UTC, longest_days=31)

    before, later = (datetime(2026, 3, 29, hour, 31, tzinfo=UTC) for hour in (1, 23))
    assert missed(before) == ()
    assert missed(later) == (DAY,)
    record_audit(database, DAY, {}, later, is_clean=True)
    assert missed(later) == ()


def test_every_night_that_was_missed_is_made_up(database: Database) -> None:
    """Oldest first, gaps too, since the first audit; not yesterday's before its hour."""

    def missed(now: datetime, longest_days: int = 31) -> list[int]:
        at = time(2, 30)
        days = missed_days(database, now, at=at, zone=UTC, longest_days=longest_days)
        return [(day - DAY).days for day in days]

    record_audit(database, DAY, {}, NOW, is_clean=True)
    later = datetime(2026, 3, 29, 2, 31, tzinfo=UTC) + timedelta(days=6)
    assert missed(later) == [1, 2, 3, 4, 5, 6]
    assert missed(later - timedelta(minutes=2)) == [1, 2, 3, 4, 5]
    record_audit(database, DAY + timedelta(days=4), {}, later, is_clean=True)
    assert missed(later) == [1, 2, 3, 5, 6]
    assert missed(later, longest_days=3) == [5, 6]


def test_node_without_an_audit_starts_with_yesterday(database: Database) -> None:
    """Before its first night there was no node to account for."""
    now = datetime(2026, 3, 29, 12, tzinfo=UTC)
    assert missed_days(database, now, at=time(2, 30), zone=UTC, longest_days=31) == (DAY,)


def test_audit_of_a_clock_that_was_ahead_is_made_again(database: Database) -> None:
    """A day that was not over is due once it is; an audit made at its time stays."""
    record_audit(database, DAY, {}, NOW, is_clean=True)
    ahead = NOW + timedelta(days=2)
    record_audit(database, DAY + timedelta(days=1), {}, ahead, is_clean=True)
    assert withdraw_early_audits(database, ahead, zone=UTC, longest_days=31) == 0
    assert withdraw_early_audits(database, NOW, zone=UTC, longest_days=31) == 1
    assert withdraw_early_audits(database, NOW, zone=UTC, longest_days=31) == 0
    assert recorded_audit(database, DAY) == {}
    assert recorded_audit(database, DAY + timedelta(days=1)) is None


def test_audit_of_a_day_that_is_not_over_is_made_again(database: Database) -> None:
    """A person asked for today's in the afternoon: it stands until the day is over."""
    today, at = date(2026, 3, 29), time(2, 30)
    afternoon = datetime(2026, 3, 29, 15, tzinfo=UTC)
    record_audit(database, DAY, {}, afternoon, is_clean=True)
    record_audit(database, today, {}, afternoon, is_clean=True)
    assert withdraw_early_audits(database, afternoon, zone=UTC, longest_days=31) == 0
    next_day = afternoon + timedelta(days=1)
    assert withdraw_early_audits(database, next_day, zone=UTC, longest_days=31) == 1
    assert missed_days(database, next_day, at=at, zone=UTC, longest_days=31) == (today,)


@pytest.mark.parametrize(
    ("zone", "before", "due"),
    [
        ("America/St_Johns", "2026-03-29T04:59Z", "2026-03-29T05:00Z"),  # summer: 2.5 hours late
        ("America/Los_Angeles", "2026-03-29T09:29Z", "2026-03-29T09:30Z"),
        ("Asia/Kolkata", "2026-03-28T20:59Z", "2026-03-28T21:00Z"),
        ("Pacific/Kiritimati", "2026-03-28T12:29Z", "2026-03-28T12:30Z"),
        # The clock goes from 2:00 to 3:00 in this night: there is no half past two.
        ("Europe/Berlin", "2026-03-29T00:59Z", "2026-03-29T01:00Z"),
    ],
)
def test_day_of_the_audit_is_that_of_the_site(
    database: Database, zone: str, before: str, due: str
) -> None:
    """A scanner dates its studies by its own clock: no day is audited before it is over there."""

    def missed(now: str) -> tuple[date, ...]:
        at, here = datetime.fromisoformat(now), ZoneInfo(zone)
        return missed_days(database, at, at=time(2, 30), zone=here, longest_days=31)

    record_audit(database, DAY - timedelta(days=1), {}, NOW, is_clean=True)
    assert missed(before) == ()
    assert missed(due) == (DAY,)
    assert yesterday_of(datetime.fromisoformat(due), ZoneInfo(zone)) == DAY


def test_hour_that_comes_twice_has_one_audit(database: Database) -> None:
    """The clock goes back from 3:00 to 2:00: half past two is twice, the audit once."""
    berlin, sunday = ZoneInfo("Europe/Berlin"), date(2026, 10, 25)

    def missed(now: datetime) -> tuple[date, ...]:
        return missed_days(database, now, at=time(2, 30), zone=berlin, longest_days=31)

    first = datetime(2026, 10, 25, 0, 31, tzinfo=UTC)
    assert missed(first) == (sunday - timedelta(days=1),)
    record_audit(database, sunday - timedelta(days=1), {}, first, is_clean=True)
    for minutes in (0, 28, 29, 60, 24 * 60 - 2):  # 2:31 again is 60 minutes later
        now = first + timedelta(minutes=minutes)
        assert withdraw_early_audits(database, now, zone=berlin, longest_days=31) == 0
        assert missed(now) == ()
    assert missed(first + timedelta(hours=25)) == (sunday,)


def test_node_without_a_zone_takes_that_of_its_machine(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the machine shows on its wall is where its day ends."""
    early, due = (datetime(2026, 3, 29, hour, 1, tzinfo=UTC) for hour in (4, 5))
    monkeypatch.setenv("TZ", "America/St_Johns")
    tzset()
    try:
        record_audit(database, DAY - timedelta(days=1), {}, NOW, is_clean=True)
        assert missed_days(database, early, at=time(2, 30), zone=None, longest_days=31) == ()
        assert missed_days(database, due, at=time(2, 30), zone=None, longest_days=31) == (DAY,)
    finally:
        monkeypatch.undo()
        tzset()


def test_change_of_zone_takes_back_only_what_can_be_made_again(database: Database) -> None:
    """Audits of a node that now counts its days further west came early; years of them stay."""
    for n_days in (400, 2):
        day = DAY - timedelta(days=n_days)
        made_at = datetime(day.year, day.month, day.day, 2, 31, tzinfo=UTC) + timedelta(days=1)
        record_audit(database, day, {}, made_at, is_clean=True)
    newest, west = DAY - timedelta(days=2), ZoneInfo("America/Los_Angeles")
    assert withdraw_early_audits(database, NOW, zone=UTC, longest_days=31) == 0
    assert withdraw_early_audits(database, NOW, zone=west, longest_days=31) == 1
    assert recorded_audit(database, newest) is None
    assert recorded_audit(database, DAY - timedelta(days=400)) == {}
