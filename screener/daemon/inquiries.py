"""What a person may ask: where studies stand, and why."""

from __future__ import annotations

from typing import TYPE_CHECKING

from screener.audit.alerts import AlertStatus, list_alerts
from screener.audit.quarantine import (
    QuarantinedInstance,
    find_quarantined,
    list_quarantined,
    release_quarantined,
)
from screener.audit.queries import StudyStatus, every_study_uid, list_studies, study_status
from screener.audit.story import StudyStory, why
from screener.daemon.site import Site, open_site, utc_now
from screener.daemon.site_logs import log_uid_key
from screener.errors import WrongUse
from screener.logs import HASHED_UID_PREFIX, get_log, hashed_uid

if TYPE_CHECKING:
    from screener.settings import Settings


def status_of(settings: Settings, study_instance_uid: str | None) -> tuple[StudyStatus, ...]:
    """Say where one study stands, or the newest of all.

    Raises
    ------
    WrongUse
        The study is unknown.
    """
    site = open_site(settings)
    if study_instance_uid is None:
        return list_studies(site.database)
    study_instance_uid = _named(site, study_instance_uid)
    status = study_status(site.database, study_instance_uid)
    if status is None:
        raise WrongUse(
            f"study {study_instance_uid} is not in the audit database; "
            "`screener status` lists what is"
        )
    return (status,)


def story_of(settings: Settings, study_instance_uid: str) -> StudyStory:
    """Tell the story of a study from the database alone.

    Raises
    ------
    WrongUse
        The study is unknown.
    """
    site = open_site(settings)
    return why(site.database, _named(site, study_instance_uid))


def _named(site: Site, text: str) -> str:
    """Give the Study Instance UID that a hash of the log stands for; anything else as it is."""
    if not text.startswith(HASHED_UID_PREFIX):
        return text
    key = log_uid_key(site.settings)
    for uid in every_study_uid(site.database):
        if hashed_uid(uid, key) == text:
            return uid
    raise WrongUse(f"no study of the audit database has the hash {text} under the key of this site")


def alerts_of(settings: Settings, *, is_open_only: bool) -> tuple[AlertStatus, ...]:
    """Give the alerts, newest first."""
    return list_alerts(open_site(settings).database, is_open_only=is_open_only)


def quarantined(
    settings: Settings, study_instance_uid: str | None
) -> tuple[QuarantinedInstance, ...]:
    """List what is in quarantine, of one study or of all."""
    return list_quarantined(open_site(settings).database, study_instance_uid)


def find_in_quarantine(settings: Settings, name: str) -> tuple[QuarantinedInstance, ...]:
    """Give what a SOP Instance UID or the beginning of a digest names in quarantine.

    Raises
    ------
    WrongUse
        Nothing there is named so.
    """
    return find_quarantined(open_site(settings).database, name)


def release_from_quarantine(settings: Settings, name: str) -> tuple[QuarantinedInstance, ...]:
    """Let instances take part in screenings after all.

    Raises
    ------
    WrongUse
        Nothing in quarantine is named so.
    """
    released = release_quarantined(open_site(settings).database, name, utc_now())
    for one in released:
        get_log().warning(
            "instance_released",
            sop_instance_uid=one.sop_instance_uid,
            study_instance_uid=one.study_instance_uid,
            reason=one.reason,
        )
    return released
