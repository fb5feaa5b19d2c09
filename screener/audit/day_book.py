"""What the database knows for the nightly audit, and the audits it keeps."""

from __future__ import annotations

import hashlib
from datetime import date, datetime, time, timedelta, tzinfo
from typing import TYPE_CHECKING, Any

from sqlalchemy import delete, func, select

from screener.audit.database import insert_if_absent
from screener.audit.deliveries import ARRIVED
from screener.audit.events import EventKind, JsonValue, append_event, canonical_json
from screener.audit.nightly import LedgerStudy
from screener.audit.tables import Audit, Delivery, DeliveryObject, Run, Series, Study
from screener.audit.waits import CLOCK_TOLERANCE_S
from screener.domain import DeliveryState

if TYPE_CHECKING:
    from collections.abc import Collection

    from sqlalchemy import ColumnElement
    from sqlalchemy.orm import Session

    from screener.audit.database import Database

#: Studies asked for in one question to the database.
UIDS_PER_QUERY = 500


def ledger_of_day(
    database: Database, day: date, pacs_study_uids: Collection[str]
) -> tuple[LedgerStudy, ...]:
    """Give the studies of a day: those of the PACS, and those that carry the day as Study Date."""
    found: dict[str, LedgerStudy] = {}
    ordered = sorted(pacs_study_uids)
    parts = [ordered[i : i + UIDS_PER_QUERY] for i in range(0, len(ordered), UIDS_PER_QUERY)]
    conditions: list[ColumnElement[bool]] = [Study.study_instance_uid.in_(part) for part in parts]
    conditions.append(Study.study_date == f"{day:%Y%m%d}")
    with database.session() as session:
        for condition in conditions:
            for study in session.scalars(select(Study).where(condition, Study.generation >= 1)):
                found[study.study_instance_uid] = _ledger_study(session, study)
    return tuple(found[uid] for uid in sorted(found))


def record_audit(
    database: Database, day: date, content: dict[str, Any], now: datetime, *, is_clean: bool
) -> bool:
    """Keep the audit of a day, once.

    Parameters
    ----------
    content
        The audit as plain JSON.

    Returns
    -------
    :
        False where the day has its audit already; nothing was written then.
    """
    values = {"day": day, "recorded_at": now, "is_clean": is_clean, "content": content}
    with database.begin() as session:
        if not insert_if_absent(session, Audit, values):
            return False
        digest = hashlib.sha256(canonical_json(content).encode()).hexdigest()
        append_event(
            session,
            EventKind.DAY_AUDITED,
            now,
            payload={"day": day.isoformat(), "is_clean": is_clean, "content_digest": digest},
        )
        return True


def recorded_audit(database: Database, day: date) -> dict[str, Any] | None:
    """Give the kept audit of a day, None where there is none."""
    with database.session() as session:
        row = session.get(Audit, day)
        return None if row is None else row.content


def withdraw_early_audits(
    database: Database, now: datetime, *, zone: tzinfo | None, longest_days: int
) -> int:
    """Take back audits of days that were not over when they were made.

    A person may ask for the audit of today; a clock that was ahead makes one, and so did a node
    that took its days from another time zone. The trail keeps that they were made, and that the
    clock went back.

    Parameters
    ----------
    zone, longest_days
        As in `missed_days`: what could not be made up again stays.

    Returns
    -------
    :
        How many; their days are due again when they are over.
    """
    today = now.astimezone(zone).date()
    oldest = _oldest(today, longest_days)
    with database.session() as session:  # nearly always the end: no writer waits for this
        kept = session.execute(select(Audit.day, Audit.recorded_at)).all()
    ahead = [one for one in kept if one.recorded_at > now + timedelta(seconds=CLOCK_TOLERANCE_S)]
    again = [one for one in kept if oldest <= one.day < today]
    early = [one for one in again if one.recorded_at.astimezone(zone).date() <= one.day]
    days = {one.day for one in (*ahead, *early)}
    if not days:
        return 0
    with database.begin() as session:
        session.execute(delete(Audit).where(Audit.day.in_(days)))
        if ahead:
            seconds = max(round((one.recorded_at - now).total_seconds()) for one in ahead)
            payload: dict[str, JsonValue] = {"seconds": seconds, "n_rows": len(ahead)}
            append_event(session, EventKind.CLOCK_WENT_BACK, now, payload=payload)
    return len(days)


def yesterday_of(now: datetime, zone: tzinfo | None) -> date:
    """Give the day that ended last in a zone; None: that of this machine."""
    return now.astimezone(zone).date() - timedelta(days=1)


def missed_days(
    database: Database, now: datetime, *, at: time, zone: tzinfo | None, longest_days: int
) -> tuple[date, ...]:
    """Give the days that are over for long enough and have no audit yet, oldest first.

    Asked again and again, so that neither a stop, a clock change nor a second scheduler matters.

    Parameters
    ----------
    at
        When yesterday's audit is due, time of day in `zone`.
    zone
        Where the days begin and end: a Study Date is the scanner's, and west of Greenwich the day
        of UTC is over hours before the scanner's is. None: that of this machine.
    longest_days
        How many days back an audit is still made up. Before the first audit there was no node to
        account for: then it is yesterday alone.
    """
    local, yesterday = now.astimezone(zone), yesterday_of(now, zone)
    newest = yesterday if local.time() >= at else yesterday - timedelta(days=1)
    oldest = _oldest(local.date(), longest_days)
    with database.session() as session:
        first = session.scalar(select(func.min(Audit.day)))
        kept = set(session.scalars(select(Audit.day).where(Audit.day >= oldest)))
    day = max(oldest, first) if first is not None else yesterday
    missed = []
    while day <= newest:
        if day not in kept:
            missed.append(day)
        day += timedelta(days=1)
    return tuple(missed)


def _oldest(today: date, longest_days: int) -> date:
    return today - timedelta(days=longest_days)


def _ledger_study(session: Session, study: Study) -> LedgerStudy:
    uid = study.study_instance_uid
    n_instances = session.scalar(
        select(func.sum(Series.n_instances)).where(Series.study_instance_uid == uid)
    )
    newest = select(Run).where(Run.study_instance_uid == uid).order_by(Run.version.desc()).limit(1)
    run = session.scalars(newest).one_or_none()
    # A reprocess years later must not look like a slow answer: the first report counts.
    firsts = select(func.min(Run.finished_at), func.min(Run.confirmed_at)).where(
        Run.study_instance_uid == uid, Run.pipeline.is_not(None)
    )
    first_reported_at, first_confirmed_at = session.execute(firsts).one()
    dead = select(Delivery.destination).where(
        Delivery.study_instance_uid == uid, Delivery.state == DeliveryState.DEAD
    )
    return LedgerStudy(
        study_instance_uid=uid,
        state=study.state,
        n_instances=n_instances or 0,
        n_sent_objects=_count_sent(session, uid),
        first_arrival_at=study.first_arrival_at,
        run_state=run.state if run else None,
        patient_class=run.patient_class if run else None,
        certainty=run.certainty if run else None,
        not_analysed_reason=run.not_analysed_reason if run else None,
        error=run.last_error if run else None,
        reported_at=first_reported_at,
        confirmed_at=first_confirmed_at,
        dead_destinations=tuple(sorted(set(session.scalars(dead)))),
    )


def _count_sent(session: Session, uid: str) -> int:
    """Count our result objects that some destination holds; each object once."""
    statement = (
        select(func.count(func.distinct(DeliveryObject.sop_instance_uid)))
        .join(Delivery, Delivery.delivery_id == DeliveryObject.delivery_id)
        .where(Delivery.study_instance_uid == uid, Delivery.state.in_(ARRIVED))
    )
    return session.scalar(statement) or 0
