"""What a person may ask: where studies stand, and why."""

from __future__ import annotations

from typing import TYPE_CHECKING

from screener.audit.queries import StudyStatus, list_studies, study_status
from screener.audit.story import StudyStory, why
from screener.daemon.site import open_site
from screener.errors import WrongUse

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
    return why(open_site(settings).database, study_instance_uid)
