"""What a person may set going: one more run of a study, another chance for what stopped."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

from screener.audit.delivery_sweep import revive_deliveries
from screener.audit.queries import RunStatus, run_status, study_status
from screener.audit.runs import request_reprocess, revive_runs
from screener.daemon.retrieval import bring_back
from screener.daemon.site import open_site, utc_now
from screener.daemon.sweep import complete_by_person
from screener.domain import RunState
from screener.errors import WrongUse

if TYPE_CHECKING:
    from screener.settings import Settings

#: How often a waiting person's run is looked at, in seconds.
LOOK_EVERY_S = 0.5

_WAITING = frozenset({RunState.QUEUED, RunState.RUNNING})


def reprocess_study(settings: Settings, study_instance_uid: str) -> str:
    """Queue one more run of a study and ring for it; give the run id.

    What the spool no longer has is retrieved first, where a destination says how.

    Raises
    ------
    WrongUse
        The study is unknown or still being received.
    StudyNotRetrieved
        Files of it are gone, and not all came back.
    DestinationUnavailable, DestinationRefused
        The node that has it cannot be asked, or does not give it.
    """
    site = open_site(settings)
    bring_back(site, study_instance_uid)
    run_id = request_reprocess(site.database, study_instance_uid, utc_now())
    site.doorbell.ring_run(run_id, is_stat=False)
    return run_id


def complete_now(settings: Settings, study_instance_uid: str) -> str:
    """End the wait for a study that is being received, and ring for its run; give the run id.

    Raises
    ------
    WrongUse
        The study is unknown, or is not being received.
    """
    site = open_site(settings)
    run_id = complete_by_person(site, study_instance_uid)
    site.doorbell.ring_run(run_id, is_stat=False)
    return run_id


def wait_for_run(settings: Settings, run_id: str, limit_s: float) -> RunStatus:
    """Wait until a run has ended, or `limit_s` has passed; give where it stands."""
    site = open_site(settings)
    pause = threading.Event()
    deadline_s = time.monotonic() + limit_s
    while True:
        status = run_status(site.database, run_id)
        if status is None:
            raise WrongUse(f"run {run_id} is not in the audit database")
        if status.state not in _WAITING or time.monotonic() > deadline_s:
            return status
        pause.wait(LOOK_EVERY_S)


def retry_stopped(settings: Settings, identifier: str) -> list[str]:
    """Revive the failed runs and dead deliveries of a run or study; give their ids.

    Raises
    ------
    WrongUse
        Neither a run nor a study has that id.
    """
    site = open_site(settings)
    is_run = run_status(site.database, identifier) is not None
    if not is_run and study_status(site.database, identifier) is None:
        raise WrongUse(
            f"{identifier} is neither a run nor a study of the audit database; "
            "`screener status` lists what is"
        )
    now = utc_now()
    return [
        *revive_runs(site.database, identifier, now),
        *revive_deliveries(site.database, identifier, now),
    ]
