"""Work on one run: claim it, screen its study, store the results, hand them in.

The same code serves the embedded workers, which poll, and the Celery tasks, which are rung for.
Whatever happens to the process, the claim expires and the dispatcher gives the run to another.
"""

from __future__ import annotations

import platform
from dataclasses import replace
from typing import TYPE_CHECKING

from screener.audit.backoff import RetryPolicy
from screener.audit.claims import (
    ClaimedRun,
    claim_run,
    fail_run,
    heartbeat,
    load_inputs,
    return_run,
)
from screener.audit.events import PendingEvent, event_of
from screener.audit.quarantine import quarantine_content
from screener.audit.results import RunResults, finish_run
from screener.daemon.deadline import ended_if_a_step_hangs
from screener.daemon.fail_points import FailPoint
from screener.daemon.lease import ended_in_time, kept_alive
from screener.daemon.result_store import store_results
from screener.daemon.site import Site, open_site, utc_now
from screener.daemon.stored_files import check_inputs
from screener.daemon.tools import open_tools, report_options, result_digest
from screener.domain import QuarantineReason, Recipient
from screener.errors import LostClaim, ScreenerError, Transient
from screener.facts import LungsSegmented, VolumeAssembled
from screener.journey import PIPELINE
from screener.logs import get_log, where_raised
from screener.pipeline import screen_study, write_results
from screener.version import VERSION

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable

    from screener.audit.results import StoredObject
    from screener.daemon.deadline import Steps
    from screener.domain import RunIdentity, Screening, SpooledStudy
    from screener.errors import StepHung
    from screener.facts import Fact
    from screener.journey import Tools
    from screener.settings import Settings


def work(settings: Settings, stop: threading.Event) -> None:
    """Take runs one after the other until `stop` is set; without a broker, by polling."""
    site = open_site(settings)
    tools = open_tools(settings)
    while not stop.is_set():
        try:
            did_work = execute_next_run(site, tools, stop)
        except Transient as error:
            get_log().warning("worker_waits", reason=type(error).__name__)
            did_work = False
        if not did_work:
            stop.wait(settings.workers.poll_s)


def execute_next_run(site: Site, tools: Tools, stop: threading.Event | None = None) -> bool:
    """Work on the most urgent run that waits; say whether there was one.

    Whoever rang: a ring says that there is something to do, the database says what, so that a
    STAT study never waits behind a routine one whose ring came first.

    Parameters
    ----------
    stop
        Set when the process is to end: a run that then takes longer than `workers.drain_s` goes
        back to the queue, and the process ends with it.
    """
    lease_s = site.settings.workers.lease_s
    claim = claim_run(site.database, None, site.owner, lease_s, utc_now())
    if claim is None:
        return False
    get_log().info(
        "run_started",
        run_id=claim.run_id,
        attempt=claim.attempt,
        study_instance_uid=claim.study_instance_uid,
    )

    def extend() -> None:
        heartbeat(site.database, claim, lease_s, utc_now())

    def hand_back() -> None:
        return_run(site.database, claim, utc_now())
        get_log().warning("run_returned", run_id=claim.run_id, reason="the node stops")

    def give_up(hung: StepHung) -> None:
        _give_back(site, claim, hung, is_transient=True)

    drain_s = site.settings.workers.drain_s
    with (
        kept_alive(extend, lease_s),
        ended_in_time(stop, drain_s, hand_back),
        ended_if_a_step_hangs(give_up) as steps,
    ):
        _work_on(site, tools, claim, steps)
    return True


def _work_on(site: Site, tools: Tools, claim: ClaimedRun, steps: Steps) -> None:
    """Do the work of a claim; the boundary where no error may end the worker."""
    try:
        delivery_ids = _screen(site, tools, claim, steps)
    except LostClaim:
        get_log().warning("run_lost", run_id=claim.run_id, attempt=claim.attempt)
    except Transient as error:
        _give_back(site, claim, error, is_transient=True)
    except ScreenerError as error:
        _give_back(site, claim, error, is_transient=False)
    except Exception as error:  # noqa: BLE001  boundary: one bad study never stops the worker
        get_log().error(
            "run_crashed",
            run_id=claim.run_id,
            error=type(error).__name__,
            detail=where_raised(error),
        )
        _give_back(site, claim, error, is_transient=True)
    else:
        for delivery_id in delivery_ids:
            site.doorbell.ring_delivery(delivery_id)


def _screen(site: Site, tools: Tools, claim: ClaimedRun, steps: Steps) -> tuple[str, ...]:
    settings = site.settings
    steps.begin("claim", _step_limit_s(settings, 0))
    site.fail_points.reach(FailPoint.AFTER_CLAIM)
    study = load_inputs(site.database, claim)
    check_inputs(study)
    n_slices = len(study.instances)
    run = _identity(settings, tools, claim)
    events: list[PendingEvent] = []

    def record(fact: Fact) -> None:
        nonlocal n_slices
        events.append(event_of(fact, utc_now()))
        if isinstance(fact, VolumeAssembled):
            n_slices = max(n_slices, fact.n_slices)  # one instance may hold many
        steps.begin(events[-1].kind.value, _step_limit_s(settings, n_slices))
        if isinstance(fact, LungsSegmented):
            site.fail_points.reach(FailPoint.MID_RUN)

    steps.begin("inputs", _step_limit_s(settings, n_slices))
    impossible: list[str] = []  # in quarantine with the report: a retry sees the same study
    screening = screen_study(study, run, _watched(site, tools, impossible.append), record)
    stored = _store_report(site, study, screening)
    recipients = tuple(Recipient(entry.name, entry.kinds) for entry in settings.destinations)
    delivery_ids = finish_run(
        site.database,
        claim,
        RunResults(
            screening=screening,
            objects=stored,
            destinations=recipients,
            host=platform.node(),
            device=platform.processor() or platform.machine(),
            events=tuple(events),
            impossible=tuple(impossible),
        ),
        utc_now(),
    )
    site.fail_points.reach(FailPoint.AFTER_COMMIT)
    get_log().info("run_reported", run_id=claim.run_id, count=len(stored))
    return delivery_ids


def _watched(site: Site, tools: Tools, on_impossible: Callable[[str], None]) -> Tools:
    """Let what cannot be decoded safely go into quarantine at once, and hear of the impossible."""

    def set_aside(content_digest: str) -> None:
        quarantine_content(site.database, content_digest, QuarantineReason.PIXELS_UNSAFE, utc_now())

    decoding = replace(tools.decoding, on_unsafe=set_aside, on_impossible=on_impossible)
    return replace(tools, decoding=decoding)


def _store_report(
    site: Site, study: SpooledStudy, screening: Screening
) -> tuple[StoredObject, ...]:
    """Write the objects of a screening, and bring them to stable storage."""
    reach = site.fail_points.reach
    reach(FailPoint.BEFORE_REPORT)
    results = write_results(screening, study, report_options(site.settings))
    stored = store_results(
        site.settings.results_path, screening, results, lambda: reach(FailPoint.MID_RESULTS)
    )
    reach(FailPoint.AFTER_RESULTS)
    return stored


def _step_limit_s(settings: Settings, n_slices: int) -> float:
    workers = settings.workers
    return workers.step_limit_s + workers.step_limit_per_slice_s * n_slices


def _identity(settings: Settings, tools: Tools, claim: ClaimedRun) -> RunIdentity:
    return claim.identity(
        pipeline=PIPELINE,
        code_version=VERSION,
        settings_digest=result_digest(settings),
        models=tools.models,
    )


def _give_back(site: Site, claim: ClaimedRun, error: Exception, *, is_transient: bool) -> None:
    # Only our own errors have texts that are safe to keep: no value of a data set in them.
    detail = str(error) if isinstance(error, ScreenerError) else type(error).__name__
    workers = site.settings.workers
    policy = RetryPolicy(workers.first_retry_s, workers.retry_cap_s, workers.max_attempts)
    try:
        state = fail_run(
            site.database, claim, detail, utc_now(), is_transient=is_transient, policy=policy
        )
    except LostClaim:
        get_log().warning("run_lost", run_id=claim.run_id, attempt=claim.attempt)
    else:
        get_log().warning(
            "run_stopped", run_id=claim.run_id, error=type(error).__name__, state=state.value
        )
