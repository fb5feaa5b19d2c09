"""The chain finds every kind of tampering done by SQL; also run on PostgreSQL.

Covered: changed, deleted, inserted, reordered and cut-off rows, forged and lost checkpoints, the
triggers, rows deleted before the sealer saw them. Not covered, because it cannot be noticed: the
same by somebody who lowers the count of events in that time as well (ADR 0023).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from screener.audit.chain import (
    checkpoint_mac,
    load_key,
    make_key_file,
    read_checkpoints,
    seal,
)
from screener.audit.events import EventKind, append_event, canonical_json, event_digest
from screener.audit.verification import ChainReport, FindingKind, count_vanished, verify_chain
from screener.errors import CheckpointsUnreadable, ConfigError, SpoolFull
from tests.audit_factories import NOW, STUDY, after

if TYPE_CHECKING:
    from pathlib import Path

    from screener.audit.database import Database

KEY = bytes(range(32))


@pytest.fixture
def checkpoints(tmp_path: Path) -> Path:
    return tmp_path / "outside" / "audit.checkpoints"


def write_events(database: Database, n_events: int, first: int = 1) -> None:
    with database.begin() as session:
        for number in range(first, first + n_events):
            append_event(
                session,
                EventKind.RUN_SUPERSEDED,
                after(number),
                study_instance_uid=STUDY,
                payload={"by_run_id": f"run-{number}"},
            )
            session.flush()


def sealed(database: Database, checkpoints: Path, n_events: int = 6) -> None:
    write_events(database, n_events)
    assert seal(database, KEY, NOW, checkpoints) == n_events


def tamper(database: Database, *statements: str) -> None:
    """Do what somebody with full rights on the database could do."""
    with database.engine.begin() as connection:
        if database.dialect == "postgresql":
            connection.execute(text("ALTER TABLE events DISABLE TRIGGER ALL"))
        else:
            connection.execute(text("DROP TRIGGER events_no_update"))
            connection.execute(text("DROP TRIGGER events_no_delete"))
        for statement in statements:
            connection.execute(text(statement))


def verify(database: Database, checkpoints: Path) -> ChainReport:
    return verify_chain(database, KEY, checkpoints)


def found(database: Database, checkpoints: Path) -> list[tuple[FindingKind, int, int]]:
    report = verify(database, checkpoints)
    assert not report.is_intact
    return [(one.kind, one.first, one.last) for one in report.findings]


def test_untouched_chain_is_intact(database: Database, checkpoints: Path) -> None:
    """Sealing in several goes gives one chain, with a checkpoint each, and nothing to find."""
    sealed(database, checkpoints)
    write_events(database, 3, first=7)
    assert seal(database, KEY, after(60), checkpoints) == 3
    assert seal(database, KEY, after(65), checkpoints) == 0
    write_events(database, 1, first=10)
    report = verify(database, checkpoints)
    assert report.is_intact
    assert (report.n_events, report.n_unsealed, report.n_checkpoints) == (9, 1, 2)
    assert "intact" in report.text()


def test_empty_chain_is_intact(database: Database, checkpoints: Path) -> None:
    """Before anything happened there is nothing to seal and nothing wrong."""
    assert seal(database, KEY, NOW, checkpoints) == 0
    assert verify(database, checkpoints).is_intact
    assert not checkpoints.exists()


def test_long_chain_is_sealed_in_parts(database: Database, checkpoints: Path) -> None:
    """More events than one transaction seals still make one chain."""
    sealed(database, checkpoints, 1203)
    report = verify(database, checkpoints)
    assert report.is_intact
    assert report.n_events == 1203


def test_changed_payload(database: Database, checkpoints: Path) -> None:
    """A row that says something else is named."""
    sealed(database, checkpoints)
    tamper(database, """UPDATE events SET payload = '{"by_run_id":"x"}' WHERE sequence = 3""")
    assert found(database, checkpoints) == [(FindingKind.CHANGED, 3, 3)]


@pytest.mark.parametrize(
    "change",
    ["kind = 'run_failed'", "study_instance_uid = '1.2'", "run_id = 'r'", "seal = 'f00'"],
)
def test_changed_column(database: Database, checkpoints: Path, change: str) -> None:
    """Every column is covered, the seal itself too."""
    sealed(database, checkpoints)
    tamper(database, f"UPDATE events SET {change} WHERE sequence = 3")  # noqa: S608
    kinds = {kind for kind, first, last in found(database, checkpoints) if first <= 3 <= last}
    assert kinds & {FindingKind.CHANGED, FindingKind.FOREIGN}


def test_changed_with_fresh_digest(database: Database, checkpoints: Path) -> None:
    """Somebody who recomputes the digest still lacks the key."""
    sealed(database, checkpoints)
    digest = event_digest("run_superseded", after(3), STUDY, None, '{"by_run_id":"x"}')
    tamper(
        database,
        f"""UPDATE events SET payload = '{{"by_run_id":"x"}}', digest = '{digest}'
        WHERE sequence = 3""",  # noqa: S608
    )
    assert found(database, checkpoints) == [(FindingKind.CHANGED, 3, 3)]


def test_deleted_row(database: Database, checkpoints: Path) -> None:
    """A hole in the numbers is named, and nothing beside it is blamed."""
    sealed(database, checkpoints)
    tamper(database, "DELETE FROM events WHERE sequence IN (3, 4)")
    assert found(database, checkpoints) == [(FindingKind.MISSING, 3, 4)]


def test_deleted_row_with_renumbered_rest(database: Database, checkpoints: Path) -> None:
    """Closing the hole moves the genuine rows to places where they do not belong."""
    sealed(database, checkpoints)
    tamper(
        database,
        "DELETE FROM events WHERE sequence = 3",
        "UPDATE events SET sequence = sequence - 101 WHERE sequence > 3",
        "UPDATE events SET sequence = sequence + 100 WHERE sequence < 0",
    )
    assert found(database, checkpoints) == [
        (FindingKind.MOVED, 3, 5),
        (FindingKind.CUT_OFF, 6, 6),
    ]


def test_inserted_row(database: Database, checkpoints: Path) -> None:
    """A row that our sealer never saw is foreign; the genuine ones behind it were moved."""
    sealed(database, checkpoints)
    digest = event_digest("run_failed", NOW, STUDY, None, "{}")
    tamper(
        database,
        "UPDATE events SET sequence = sequence + 100 WHERE sequence > 3",
        "UPDATE events SET sequence = sequence - 99 WHERE sequence > 100",
        "INSERT INTO events (event_id, kind, occurred_at, study_instance_uid, payload, digest,"  # noqa: S608
        " sequence, seal, chain_hash) SELECT 999, 'run_failed', occurred_at, study_instance_uid,"
        f" '{{}}', '{digest}', 4, seal, chain_hash FROM events WHERE sequence = 1",
    )
    kinds = found(database, checkpoints)
    assert (FindingKind.FOREIGN, 4, 4) in kinds
    assert (FindingKind.MOVED, 5, 7) in kinds


def test_reordered_rows(database: Database, checkpoints: Path) -> None:
    """Two genuine rows that changed places are found, both."""
    sealed(database, checkpoints)
    tamper(
        database,
        "UPDATE events SET sequence = -3 WHERE sequence = 3",
        "UPDATE events SET sequence = 3 WHERE sequence = 4",
        "UPDATE events SET sequence = 4 WHERE sequence = -3",
    )
    moved = [(first, last) for kind, first, last in found(database, checkpoints)
             if kind is FindingKind.MOVED]  # fmt: skip
    assert moved[0][0] == 3
    assert moved[-1][1] >= 4


def test_cut_off_tail(database: Database, checkpoints: Path) -> None:
    """A chain that lost its end is whole in itself; the checkpoint outside knows better."""
    sealed(database, checkpoints)
    tamper(
        database,
        "DELETE FROM events WHERE sequence > 4",
        "UPDATE checkpoints SET n_events = 4",
    )
    assert found(database, checkpoints) == [(FindingKind.CUT_OFF, 5, 6)]


def test_rewritten_with_another_key(database: Database, checkpoints: Path) -> None:
    """A chain sealed anew under another key is foreign from end to end."""
    sealed(database, checkpoints)
    tamper(database, "UPDATE events SET sequence = NULL, seal = NULL, chain_hash = NULL")
    with database.begin() as session:
        session.execute(text("DELETE FROM checkpoints"))
    seal(database, b"another key of thirty-two bytes!", NOW, checkpoints.with_name("other"))
    assert (FindingKind.FOREIGN, 1, 6) in found(database, checkpoints)


def test_changed_before_it_was_sealed(database: Database, checkpoints: Path) -> None:
    """A row that waits for the sealer is watched by its digest."""
    write_events(database, 1)
    tamper(database, "UPDATE events SET payload = '{}'")
    assert found(database, checkpoints) == [(FindingKind.CHANGED, 1, 1)]
    seal(database, KEY, NOW, checkpoints)
    assert found(database, checkpoints) == [(FindingKind.CHANGED, 1, 1)]


def test_deleted_before_it_was_sealed(database: Database, checkpoints: Path) -> None:
    """A row that no seal covers yet is missed by the count of what was written."""
    sealed(database, checkpoints)
    write_events(database, 3, first=7)
    tamper(database, "DELETE FROM events WHERE sequence IS NULL AND event_id <> 8")
    assert found(database, checkpoints) == [(FindingKind.VANISHED, 7, 8)]
    assert count_vanished(database) == 2
    seal(database, KEY, NOW, checkpoints)
    assert found(database, checkpoints) == [(FindingKind.VANISHED, 8, 9)]


def test_count_of_events_only_grows(database: Database, checkpoints: Path) -> None:
    """Plain SQL cannot lower the count to hide a deleted row."""
    write_events(database, 2)
    for statement in ("UPDATE trail_counts SET n_written = 1", "DELETE FROM trail_counts"):
        with pytest.raises(DBAPIError, match="only grows"), database.begin() as session:
            session.execute(text(statement))
    assert count_vanished(database) == 0


def test_count_that_is_gone_is_a_finding(database: Database, checkpoints: Path) -> None:
    """Somebody who removes the count itself does not stop the proof."""
    sealed(database, checkpoints)
    with database.engine.begin() as connection:
        if database.dialect == "postgresql":
            connection.execute(text("ALTER TABLE trail_counts DISABLE TRIGGER ALL"))
        else:
            connection.execute(text("DROP TRIGGER trail_counts_no_delete"))
        connection.execute(text("DELETE FROM trail_counts"))
    assert found(database, checkpoints) == [(FindingKind.VANISHED, 7, 7)]
    assert count_vanished(database) == 1


def test_transaction_that_fails_counts_nothing(database: Database, checkpoints: Path) -> None:
    """The count belongs to the transaction: what was rolled back was never written."""

    def fail_after_an_event() -> None:
        with database.begin() as session:
            append_event(session, EventKind.NODE_STARTED, NOW)
            session.flush()
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail_after_an_event()
    sealed(database, checkpoints)
    assert verify(database, checkpoints).is_intact


def test_forged_checkpoint(database: Database, checkpoints: Path) -> None:
    """A line that our key did not sign, or that is none at all, is named."""
    sealed(database, checkpoints)
    line = checkpoints.read_text()
    checkpoints.write_text(line + line.replace('"n_events":6', '"n_events":5') + "garbage\n")
    assert found(database, checkpoints) == [(FindingKind.FORGED_CHECKPOINT, 2, 3)]


def test_checkpoints_out_of_order(database: Database, checkpoints: Path) -> None:
    """Lines that changed places are compared all the same; a false one is found."""
    sealed(database, checkpoints, 3)
    write_events(database, 3, first=4)
    seal(database, KEY, NOW, checkpoints)
    first, second = checkpoints.read_text().splitlines(keepends=True)
    checkpoints.write_text(second + first + first)
    assert verify(database, checkpoints).is_intact
    at = after(9).isoformat()
    mac = checkpoint_mac(KEY, 3, "0" * 64, at)
    line = {"n_events": 3, "head_hash": "0" * 64, "written_at": at, "mac": mac}
    checkpoints.write_text(second + canonical_json(line) + "\n")
    assert found(database, checkpoints) == [(FindingKind.REWRITTEN, 3, 3)]


def test_checkpoint_that_was_cut_while_written(database: Database, checkpoints: Path) -> None:
    """A crash in the middle of a line is no forgery; the next line takes its place."""
    sealed(database, checkpoints, 3)
    whole = checkpoints.read_text()
    checkpoints.write_text(whole + whole[:70])
    assert verify(database, checkpoints).is_intact
    write_events(database, 1, first=4)
    seal(database, KEY, NOW, checkpoints)
    assert len(checkpoints.read_text().splitlines()) == 2
    assert verify(database, checkpoints).is_intact
    checkpoints.write_text(whole[:70])
    assert found(database, checkpoints) == [(FindingKind.LOST_CHECKPOINTS, 1, 4)]


def test_checkpoints_that_cannot_be_read(database: Database, checkpoints: Path) -> None:
    """An error with its mend, not an intact trail."""
    sealed(database, checkpoints, 1)
    checkpoints.unlink()
    checkpoints.mkdir()
    with pytest.raises(CheckpointsUnreadable, match="let the screener's user read it"):
        verify(database, checkpoints)


@pytest.mark.parametrize(
    "change",
    [
        "seal = 'é' || seal",
        "chain_hash = x'00ff'",
        "payload = CAST(x'ff' AS TEXT)",
        "payload = x'7b7d'",
        "digest = x'00'",
        "occurred_at = 'never'",
        "study_instance_uid = x'31'",
        "sequence = 'three'",
        "sequence = -3",
    ],
)
def test_value_that_cannot_be(database: Database, checkpoints: Path, change: str) -> None:
    """SQLite keeps any value in any column; each is a finding, and sealing goes on."""
    if database.dialect != "sqlite":
        pytest.skip("PostgreSQL refuses such values")
    sealed(database, checkpoints)
    tamper(database, f"UPDATE events SET {change} WHERE sequence = 3")  # noqa: S608
    write_events(database, 1, first=7)
    seal(database, KEY, NOW, checkpoints)
    report = verify(database, checkpoints)
    assert not report.is_intact
    assert report.n_events == 7


def test_lost_checkpoint_file(database: Database, checkpoints: Path) -> None:
    """Removing the file outside does not go unnoticed either."""
    sealed(database, checkpoints)
    checkpoints.unlink()
    assert found(database, checkpoints) == [(FindingKind.LOST_CHECKPOINTS, 1, 6)]


def test_checkpoint_is_caught_up(database: Database, tmp_path: Path) -> None:
    """A disk that refused the checkpoint gets it with the next call; the seal stands already."""
    write_events(database, 2)
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    with pytest.raises(SpoolFull):
        seal(database, KEY, NOW, blocked / "checkpoints")
    later = tmp_path / "checkpoints"
    assert seal(database, KEY, after(5), later) == 0
    assert [one.n_events for one in read_checkpoints(later)] == [2]
    assert verify(database, later).is_intact


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE events SET payload = '{}'",
        "UPDATE events SET sequence = 99 WHERE sequence = 2",
        "UPDATE events SET sequence = NULL, seal = NULL, chain_hash = NULL",
        "DELETE FROM events",
        "DELETE FROM events WHERE sequence IS NULL",
    ],
)
def test_triggers_refuse_changes(database: Database, checkpoints: Path, statement: str) -> None:
    """Plain SQL cannot change or delete an event, sealed or not."""
    sealed(database, checkpoints, 2)
    write_events(database, 1, first=3)
    with pytest.raises(DBAPIError, match="append only"), database.begin() as session:
        session.execute(text(statement))
    assert verify(database, checkpoints).is_intact


def test_trigger_lets_the_sealer_change_nothing_else(database: Database) -> None:
    """Sealing and altering in one statement is refused."""
    write_events(database, 1)
    statement = "UPDATE events SET sequence = 1, seal = 's', chain_hash = 'c', payload = '{}'"
    with pytest.raises(DBAPIError, match="append only"), database.begin() as session:
        session.execute(text(statement))


def test_key_file_is_made_once_and_private(tmp_path: Path) -> None:
    """The key is made for its owner alone and kept."""
    path = tmp_path / "keys" / "audit.key"
    key = make_key_file(path)
    assert len(key) == 32
    assert path.stat().st_mode & 0o777 == 0o600
    assert make_key_file(path) == key


@pytest.mark.parametrize(
    ("content", "mode", "mend"),
    [
        ("zz", 0o600, "hexadecimal"),
        ("ab" * 8, 0o600, "fewer than 32"),
        ("ab" * 32, 0o644, "chmod 600"),
    ],
)
def test_key_file_that_cannot_be_used(tmp_path: Path, content: str, mode: int, mend: str) -> None:
    """A weak, broken or readable key is refused with its mend."""
    path = tmp_path / "audit.key"
    path.write_text(content)
    path.chmod(mode)
    with pytest.raises(ConfigError, match=mend):
        load_key(path)
