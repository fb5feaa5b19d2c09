"""The dispatcher: what is complete, expired, waiting or unsealed, found and set going.

Every step is safe to run twice and in two processes at once, and waits for nobody but the database.
Losing all messages of a broker costs one sweep, not a study.
"""

from __future__ import annotations

from itertools import takewhile
from typing import TYPE_CHECKING

from screener.assemble.stability import (
    CompletionRules,
    RequiredSeries,
    SeriesArrivals,
    StudyArrivals,
    judge_stability,
)
from screener.audit.backoff import RetryPolicy
from screener.audit.claims import expire_leases
from screener.audit.delivery_sweep import (
    due_deliveries,
    expire_delivery_leases,
    mark_deliveries_rung,
)
from screener.audit.ledger import OpenStudy, complete_study, open_studies
from screener.audit.runs import mark_rung, unrung_runs
from screener.audit.waits import LongestWaits, mend_lost_times, mend_waits, spare_overdue_leases
from screener.daemon.fail_points import FailPoint
from screener.daemon.site import Site, utc_now
from screener.deliver.web_errors import LONGEST_RETRY_AFTER_S
from screener.destinations import DimseDestinationSettings
from screener.errors import DamagedRow, WrongUse
from screener.logs import get_log

if TYPE_CHECKING:
    from datetime import datetime

    from screener.settings import CompletionSettings, Settings


def sweep(site: Site) -> None:
    """Do one round: complete studies, end dead claims, ring for what waits."""
    now = utc_now()
    _mend_waits(site, now)
    for study in open_studies(site.database):
        _complete_if_sound(site, study, now)
    site.fail_points.reach(FailPoint.MID_SWEEP)
    _end_silent_claims(site, now)
    _ring(site, now)


def _complete_if_sound(site: Site, study: OpenStudy, now: datetime) -> None:
    """Complete a study where it is time; one whose rows were edited holds up no other."""
    try:
        _complete(site, study, _arrivals(study), now)
    except DamagedRow as error:
        uid = study.study_instance_uid
        get_log().error("study_damaged", study_instance_uid=uid, detail=error)


def complete_by_person(site: Site, study_instance_uid: str) -> str:
    """End the wait for a study now; give its run.

    Raises
    ------
    WrongUse
        The study is unknown, or is not being received.
    """
    now = utc_now()
    for study in open_studies(site.database):
        if study.study_instance_uid == study_instance_uid:
            arrivals = _arrivals(study, is_forced=True)
            run_id = _complete(site, study, arrivals, now)
            if run_id is not None:
                return run_id
    raise WrongUse(
        f"study {study_instance_uid} is not being received; `screener status` says where it "
        "stands, `screener reprocess` screens it again"
    )


def _complete(site: Site, study: OpenStudy, arrivals: StudyArrivals, now: datetime) -> str | None:
    verdict = judge_stability(arrivals, _rules(site.settings.completion), now)
    if verdict is None:
        return None
    run_id = complete_study(
        site.database,
        study.study_instance_uid,
        verdict.state,
        verdict.reason,
        now,
        detail=verdict.detail,
        last_arrival_at=study.last_arrival_at,
    )
    if run_id is not None:
        get_log().info(
            "study_completed",
            study_instance_uid=study.study_instance_uid,
            reason=verdict.reason.value,
            run_id=run_id,
        )
    return run_id


def _rules(completion: CompletionSettings) -> CompletionRules:
    return CompletionRules(
        completion.series_quiet_s,
        completion.study_quiet_s,
        completion.hard_cap_s,
        tuple(_required(text) for text in completion.required_series),
    )


def _required(text: str) -> RequiredSeries:
    modality, _, least = text.partition(":")
    return RequiredSeries(modality, int(least or 1))


def _arrivals(study: OpenStudy, *, is_forced: bool = False) -> StudyArrivals:
    return StudyArrivals(
        study.study_instance_uid,
        study.opened_at,
        tuple(
            SeriesArrivals(
                one.series_instance_uid, one.n_instances, one.last_arrival_at, one.modality
            )
            for one in study.series
        ),
        n_expected_instances=study.expected_n_instances,
        is_forced=is_forced,
    )


def _mend_waits(site: Site, now: datetime) -> None:
    longest = _longest_waits(site.settings)
    if back_s := mend_waits(site.database, longest, now):
        get_log().error("clock_went_back", seconds=round(back_s))
    if n_mended := mend_lost_times(site.database, longest, now):
        get_log().error("lost_times_mended", count=n_mended)
    if n_spared := spare_overdue_leases(site.database, longest, now):
        get_log().warning("leases_spared", count=n_spared)


def _longest_waits(settings: Settings) -> LongestWaits:
    workers, delivery = settings.workers, settings.delivery
    asked = [
        one.commitment_timeout_s
        if isinstance(one, DimseDestinationSettings)
        else LONGEST_RETRY_AFTER_S
        for one in settings.destinations
    ]
    return LongestWaits(
        run_lease_s=workers.lease_s,
        run_retry_s=max(workers.first_retry_s, workers.retry_cap_s),
        delivery_lease_s=delivery.lease_s,
        delivery_retry_s=max(delivery.first_retry_s, delivery.retry_cap_s, *asked),
    )


def _end_silent_claims(site: Site, now: datetime) -> None:
    workers, delivery = site.settings.workers, site.settings.delivery
    run_policy = RetryPolicy(workers.first_retry_s, workers.retry_cap_s, workers.max_attempts)
    for run_id in expire_leases(site.database, now, run_policy):
        get_log().warning("run_lease_expired", run_id=run_id)
    delivery_policy = RetryPolicy(
        delivery.first_retry_s, delivery.retry_cap_s, give_up_after_s=delivery.give_up_after_s
    )
    for delivery_id in expire_delivery_leases(site.database, now, delivery_policy):
        get_log().warning("delivery_lease_expired", delivery_id=delivery_id)


def _ring(site: Site, now: datetime) -> None:
    """Ring for what waits; a broker that does not take one ring is not asked for the others."""
    older_than_s = site.settings.workers.ring_again_s
    runs = unrung_runs(site.database, now, older_than_s)
    rung = takewhile(lambda run: site.doorbell.ring_run(run.run_id, is_stat=run.is_stat), runs)
    mark_rung(site.database, [run.run_id for run in rung], now)
    due = due_deliveries(site.database, now, older_than_s)
    sent = takewhile(lambda one: site.doorbell.ring_delivery(one.delivery_id), due)
    mark_deliveries_rung(site.database, [one.delivery_id for one in sent], now)
