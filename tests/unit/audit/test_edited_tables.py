"""Tables edited by hand: a value that cannot be read costs its own row, and nobody else's.

SQLite alone: PostgreSQL refuses most of these values by itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from sqlalchemy import text

from screener.audit.backlog import measure_backlog
from screener.audit.claims import claim_run
from screener.audit.deliveries import claim_delivery
from screener.audit.ledger import open_studies, register_instance
from screener.audit.queries import list_studies
from screener.audit.story import why
from screener.audit.telling import render_story
from screener.audit.waits import LongestWaits, mend_lost_times, mend_waits
from tests.audit_factories import (
    LEASE_S,
    STUDY,
    after,
    claim,
    make_instance,
    make_received,
    queue_run,
    report,
)

if TYPE_CHECKING:
    from screener.audit.database import Database

OTHER = STUDY + "9"
OPEN = STUDY + "8"
LONGEST = LongestWaits(LEASE_S, 60.0, LEASE_S, 60.0)

#: What a person may write into the rows of one study.
EDITS = [
    (
        "UPDATE studies SET state = x'ff00', study_date = CAST(x'ff' AS TEXT)",
        "UPDATE runs SET state = 'lost', patient_class = 'lost', certainty = 'high'",
        "UPDATE runs SET evidence = '{'",
        "UPDATE deliveries SET state = 'lost'",
        "UPDATE slice_results SET location_mm = 'x', probabilities = '{'",
    ),
    (
        "UPDATE studies SET state = 'receiving', completion_reason = 'lost', generation = 'many'",
        "UPDATE studies SET last_arrival_at = 'never', opened_at = '0000-00-00 00:00:00.000000'",
        "UPDATE series SET last_arrival_at = '', n_instances = 'x'",
    ),
    (
        "UPDATE runs SET state = 'queued', reason = 'lost', queued_at = 'x', not_before_at = ''",
        "UPDATE runs SET attempt = 'x', started_at = 'x', evidence = '[1]'",
        "UPDATE deliveries SET state = 'pending', not_before_at = '', attempt = 'x'",
        "UPDATE result_objects SET kind = 'lost', n_bytes = 'x'",
        "UPDATE instances SET received_at = 'x'",
    ),
    (
        "UPDATE runs SET state = 'running', lease_expires_at = 'never'",
        "UPDATE deliveries SET state = 'sending', lease_expires_at = 'never'",
    ),
]


@pytest.mark.parametrize("edited", EDITS)
def test_damaged_row_stops_nobody_else(database: Database, edited: tuple[str, ...]) -> None:
    """Studies are listed, told, completed, claimed and sent all the same."""
    report(database, claim(database, queue_run(database)))
    report(database, claim(database, queue_run(database, study=OTHER)))
    _edit(database, *edited)
    waiting = queue_run(database, study=OPEN)
    mend_waits(database, LONGEST, after(900))
    mend_lost_times(database, LONGEST, after(900))

    assert {one.study_instance_uid for one in list_studies(database)} == {STUDY, OTHER, OPEN}
    assert why(database, STUDY).status.study_instance_uid == STUDY
    measure_backlog(database, after(900))
    open_studies(database)
    assert waiting in _claim_all(database)
    assert OTHER in _send_all(database)


def test_damaged_report_and_trail_do_not_stop_a_claim(database: Database) -> None:
    """The report before is gone, its completion is no JSON: the next run can still be claimed."""
    report(database, claim(database, queue_run(database)))
    _edit(database, "DELETE FROM delivery_objects")
    _edit(database, "DELETE FROM result_objects")
    _edit(database, "DROP TRIGGER events_no_update")
    _edit(database, "UPDATE events SET payload = '{'")
    register_instance(database, make_received(make_instance(99)), after(900))
    waiting = queue_run(database)
    assert waiting in _claim_all(database)
    assert next(event.payload for event in why(database, STUDY).events) == {}
    assert "cannot be told: a row was edited" in render_story(why(database, STUDY))


@pytest.mark.parametrize("evidence", ['{"a": 1}', '{"ranking": 1}', "[]", "null"])
def test_story_of_edited_evidence_is_told(database: Database, evidence: str) -> None:
    """JSON of another shape costs its lines, not the answer to why."""
    report(database, claim(database, queue_run(database)))
    _edit(database, f"UPDATE runs SET evidence = '{evidence}'")  # noqa: S608  of a test
    assert "attempt(s)" in render_story(why(database, STUDY))


def _edit(database: Database, *statements: str) -> None:
    with database.engine.connect() as connection:
        connection.exec_driver_sql("COMMIT")
        connection.exec_driver_sql("PRAGMA foreign_keys = OFF")
        for statement in statements:
            is_of_study = statement.startswith("UPDATE") and "events" not in statement
            where = _OF_STUDY[statement.split()[1]] if is_of_study else ""
            connection.execute(text(statement + where))


_OF_RUN = f" WHERE run_id IN (SELECT run_id FROM runs WHERE study_instance_uid = '{STUDY}')"  # noqa: S608
_OF_UID = f" WHERE study_instance_uid = '{STUDY}'"
_OF_STUDY = {
    **dict.fromkeys(("studies", "series", "instances", "runs", "deliveries"), _OF_UID),
    **dict.fromkeys(("result_objects", "slice_results"), _OF_RUN),
}


def _claim_all(database: Database) -> set[str]:
    found = set()
    while (one := claim_run(database, None, "w1", LEASE_S, after(2000))) is not None:
        found.add(one.run_id)
    return found


def _send_all(database: Database) -> set[str]:
    found = set()
    while (one := claim_delivery(database, None, "s1", LEASE_S, after(2000))) is not None:
        found.add(one.study_instance_uid)
    return found
