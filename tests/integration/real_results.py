"""Runs whose results are real objects on disk, ready to be delivered."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from screener.audit.queries import run_status
from screener.audit.results import StoredObject, finish_run
from screener.daemon.result_store import store_object
from screener.daemon.site import Site, utc_now
from screener.report import ReportOptions, build_results
from tests.audit_factories import claim, make_results, queue_run
from tests.report_factories import make_screening, write_study

if TYPE_CHECKING:
    from pathlib import Path

    from screener.audit.queries import DeliveryStatus
    from screener.domain import ResultKind


def report_for_real(site: Site, folder: Path, kinds: tuple[ResultKind, ...]) -> tuple[str, str]:
    """Finish a run with real result objects on disk; give its run and its delivery."""
    folder.mkdir(exist_ok=True)
    study = write_study(folder, 6)
    results = build_results(make_screening(study), study, ReportOptions(kinds=kinds))
    stored: tuple[StoredObject, ...] = tuple(store_object(folder, one) for one in results)
    claimed = claim(site.database, queue_run(site.database))
    handed_in = replace(make_results(claimed), objects=stored)
    (entry,) = handed_in.destinations
    handed_in = replace(handed_in, destinations=(replace(entry, kinds=kinds),))
    (delivery_id,) = finish_run(site.database, claimed, handed_in, utc_now())
    return claimed.run_id, delivery_id


def delivery_of(site: Site, run_id: str) -> DeliveryStatus:
    status = run_status(site.database, run_id)
    assert status is not None
    return status.deliveries[0]
