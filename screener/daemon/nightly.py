"""The nightly audit: ask the PACS what it holds of a day, account for every study, say so.

Beat rings for it and the embedded scheduler looks for it; whoever finds the day without an audit
makes it, and the database keeps one per day.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import time
from typing import TYPE_CHECKING, Any

from screener.audit.accounting import accounting
from screener.audit.day_book import (
    ledger_of_day,
    missed_days,
    record_audit,
    withdraw_early_audits,
    yesterday_of,
)
from screener.audit.nightly import ModelVerification, NightlyAudit, make_audit
from screener.audit.page import render_html, to_json
from screener.audit.verification import verify_chain
from screener.daemon.deadline import ended_if_stuck
from screener.daemon.sealing import seal_trail, trail_key
from screener.daemon.site import Site, archive_of, open_site, utc_now
from screener.daemon.tools import list_manifests, verify_models
from screener.errors import DestinationRefused, DestinationUnavailable, ModelFailure, WrongUse
from screener.logs import get_log

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import date
    from pathlib import Path

    from screener.domain import PacsStudy
    from screener.settings import DestinationSettings, Settings

#: A nightly audit is looked for this often, in seconds; whether it is due the database knows.
LOOK_FOR_AUDIT_EVERY_S = 60.0
#: PostgreSQL advisory lock of who makes a nightly audit.
AUDITOR_LOCK = 7_403_159_004
#: A node that was off makes up the audits of so many days, a holiday; older ones a person asks for.
LONGEST_MADE_UP_DAYS = 31
#: An archive that lists the studies of a day for longer than this, in seconds, hangs.
LONGEST_QUESTION_S = 1800.0


@dataclass(frozen=True, slots=True)
class WrittenAudit:
    """An audit with the files it was written to."""

    audit: NightlyAudit
    html_path: Path
    json_path: Path

    @property
    def document(self) -> dict[str, Any]:
        """The audit as plain JSON."""
        return to_json(self.audit)


def run_nightly(
    settings: Settings, day: date | None, *, pacs_name: str = "", folder: Path | None = None
) -> WrittenAudit:
    """Account for one day and write the page; a day may be audited again by hand.

    Parameters
    ----------
    day
        None takes yesterday, in the zone of the node.
    pacs_name
        Destination to ask; empty takes ``audit.pacs``, or the only destination there is.
    folder
        Where the pages go; None takes ``audit.report_dir``.

    Raises
    ------
    WrongUse
        No destination has that name, or there is none to choose.
    """
    site = open_site(settings)
    entry = _pacs(settings, pacs_name)
    if day is None:
        day = yesterday_of(utc_now(), settings.node.zone)
    return _write(site, _audit(site, day, entry), folder or settings.audit_report_path)


def run_nightly_if_due(site: Site) -> bool:
    """Make the oldest audit that is missing, one at a time; say whether one was made."""
    if not site.settings.destinations or not _missed(site):
        return False
    with site.database.alone(AUDITOR_LOCK) as is_alone:
        missed = _missed(site) if is_alone else ()
        if not missed:  # somebody else makes it, or has made it meanwhile
            return False
        audit = _audit(site, missed[0], _pacs(site.settings, ""))
        _write(site, audit, site.settings.audit_report_path)
        return True


def _missed(site: Site) -> tuple[date, ...]:
    now, zone, longest_days = utc_now(), site.settings.node.zone, LONGEST_MADE_UP_DAYS
    if n_early := withdraw_early_audits(site.database, now, zone=zone, longest_days=longest_days):
        get_log().warning("audits_withdrawn", count=n_early, reason="their days were not over")
    at = time.fromisoformat(site.settings.audit.nightly_at)
    return missed_days(site.database, now, at=at, zone=zone, longest_days=longest_days)


def _pacs(settings: Settings, name: str) -> DestinationSettings:
    wanted = name or settings.audit.pacs
    if not wanted and len(settings.destinations) == 1:
        return settings.destinations[0]
    for entry in settings.destinations:
        if entry.name == wanted:
            return entry
    names = ", ".join(entry.name for entry in settings.destinations) or "none"
    if wanted:
        raise WrongUse(f"{wanted} is no destination; there are: {names}")
    raise WrongUse(f"which PACS to ask? Set audit.pacs or give --pacs; destinations: {names}")


def _audit(site: Site, day: date, entry: DestinationSettings) -> NightlyAudit:
    settings = site.settings
    seal_trail(site)
    studies, error = _ask(settings, day, entry)
    now = utc_now()
    return make_audit(
        day=day,
        made_at=now,
        pacs_name=entry.name,
        pacs_studies=studies,
        pacs_error=error,
        ledger=ledger_of_day(site.database, day, [study.study_instance_uid for study in studies]),
        chain=verify_chain(site.database, trail_key(settings), settings.checkpoint_path),
        models=_verify_models(settings),
        accounting=accounting(site.database, now),
    )


def _ask(
    settings: Settings, day: date, entry: DestinationSettings
) -> tuple[tuple[PacsStudy, ...], str | None]:
    try:
        with ended_if_stuck(LONGEST_QUESTION_S, "nightly audit"):
            return archive_of(settings, entry).find_studies(day), None
    except (DestinationUnavailable, DestinationRefused) as error:
        return (), str(error)


def _verify_models(settings: Settings) -> list[ModelVerification]:
    try:
        manifests = {manifest.name: manifest for manifest in list_manifests(settings)}
        verdicts = verify_models(settings, lambda folders, **_: _each(folders))
    except ModelFailure as error:
        return [ModelVerification("models", "", "", is_intact=False, detail=str(error))]
    return [
        ModelVerification(
            name=verdict.name,
            version=manifests[verdict.name].version,
            digest=manifests[verdict.name].sha256,
            is_intact=verdict.is_ok,
            detail="the file is the pinned one" if verdict.is_ok else verdict.detail,
        )
        for verdict in verdicts
    ]


def _each(folders: Iterable[Any]) -> Iterable[Any]:
    return folders


def _write(site: Site, audit: NightlyAudit, folder: Path) -> WrittenAudit:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise WrongUse(f"{folder} cannot be a folder ({error.strerror}); name another") from error
    html_path = folder / f"audit-{audit.day}.html"
    json_path = folder / f"audit-{audit.day}.json"
    document = to_json(audit)
    html_path.write_text(render_html(audit), encoding="utf-8")
    json_path.write_text(
        json.dumps(document, indent=2, ensure_ascii=False) + "\n", encoding="utf-8"
    )
    record_audit(site.database, audit.day, document, utc_now(), is_clean=audit.is_clean)
    get_log().info("day_audited", date=str(audit.day), count=len(audit.accounts))
    return WrittenAudit(audit, html_path, json_path)
