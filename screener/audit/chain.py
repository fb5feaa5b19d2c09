"""The keyed hash chain over the events, and what it can tell.

Writers of events do not wait for each other: a sealer, one at a time, numbers what was committed
and links it: ``chain_hash = HMAC(key, previous chain_hash ‖ canonical [sequence, seal])`` with
``seal = HMAC(key, canonical [event id, digest])``. Checkpoints (count, head, time, MAC) go to a
file outside the database, so that a chain cut off at its end is noticed too. The key lies outside
as well. Rows that vanish before the sealer saw them are missed by their number alone: each
transaction counts the events that it writes (ADR 0023).
"""

from __future__ import annotations

import hmac
import json
import os
import secrets
from dataclasses import dataclass
from datetime import UTC
from typing import TYPE_CHECKING, BinaryIO

from sqlalchemy import select, text, update

from screener.audit.database import insert_if_absent
from screener.audit.events import canonical_json, json_text
from screener.audit.tables import Checkpoint, Event
from screener.durable import sync_folder
from screener.errors import CheckpointsUnreadable, ConfigError, SpoolFull

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime
    from pathlib import Path

    from sqlalchemy.orm import Session

    from screener.audit.database import Database

KEY_LENGTH_BYTES = 32
#: An event has its number; SQLite would take a text for a larger one.
IS_NUMBERED = Event.sequence.between(1, 2**62)
#: What stands before the first link.
GENESIS = "0" * 64
#: Events sealed in one transaction, so that other writers wait for milliseconds only.
EVENTS_PER_SEAL = 500
#: PostgreSQL advisory lock of the sealer.
SEALER_LOCK = 0x5EA1E4

#: Longer than any checkpoint.
_LONGEST_LINE_BYTES = 4096
_POINTER_ID = 1


@dataclass(frozen=True, slots=True)
class CheckpointLine:
    """How long the chain was, and its head, at one time; signed."""

    n_events: int
    head_hash: str
    written_at: str  #: ISO, UTC
    mac: str


def make_key_file(path: Path) -> bytes:
    """Make the key of the chain, readable by its owner only; an existing key is kept.

    Raises
    ------
    ConfigError
        The file cannot be made, or what is there cannot be a key.
    """
    key = secrets.token_bytes(KEY_LENGTH_BYTES)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return load_key(path)
    except OSError as error:
        raise ConfigError(
            f"audit.key_file: {path} cannot be made: {error.strerror}; give a writable path"
        ) from error
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        file.write(key.hex() + "\n")
        file.flush()
        os.fsync(file.fileno())
    return key


def load_key(path: Path) -> bytes:
    """Read the key of the chain.

    Raises
    ------
    ConfigError
        There is none, it is too short, or others than its owner may read it.
    """
    try:
        mode = path.stat().st_mode
        key = bytes.fromhex(path.read_text(encoding="ascii").strip())
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"audit.key_file: {path} holds no readable key of hexadecimal digits"
        ) from error
    if mode & 0o077:
        raise ConfigError(f"audit.key_file: others may read {path}; run chmod 600 on it")
    if len(key) < KEY_LENGTH_BYTES:
        raise ConfigError(f"audit.key_file: {path} holds fewer than {KEY_LENGTH_BYTES} bytes")
    return key


# ── sealing ──────────────────────────────────────────────────────────────────────────────────


def seal(database: Database, key: bytes, now: datetime, checkpoint_path: Path) -> int:
    """Number and link every committed event, then write a checkpoint.

    Safe when several processes try at once: they queue.

    Returns
    -------
    :
        How many events were sealed now.

    Raises
    ------
    DatabaseUnavailable
        The database cannot be written.
    SpoolFull
        The checkpoint file cannot be written; the next call writes it.
    """
    n_sealed = 0
    while _has_unsealed(database):
        n_sealed += _seal_some(database, key)
    _write_checkpoint(database, key, now, checkpoint_path)
    return n_sealed


def seal_of(key: bytes, event_id: int, digest: str) -> str:
    """Give the keyed seal of one event, which says that the sealer saw exactly this."""
    return _hmac(key, f"[{event_id},{json_text(digest)}]")  # canonical, and quicker


def link(key: bytes, previous_hash: str, sequence: int, event_seal: str) -> str:
    """Give the chain hash of one event after the one before."""
    return _hmac(key, f"{previous_hash}[{sequence},{json_text(event_seal)}]")


def read_checkpoints(path: Path) -> Iterator[CheckpointLine]:
    """Read the checkpoint file line by line; a line that is none comes back with an empty MAC.

    What stands behind the last line end was never finished, and is no line.

    Raises
    ------
    CheckpointsUnreadable
        The file is there and cannot be read.
    """
    try:
        with path.open(encoding="utf-8", errors="replace", newline="\n") as lines:
            for line in lines:
                if line.endswith("\n") and line.strip():
                    yield _parse_checkpoint(line)
    except FileNotFoundError:
        return
    except OSError as error:
        raise CheckpointsUnreadable(
            f"audit.checkpoint_file: {path} cannot be read ({error.strerror}); let the screener's "
            "user read it"
        ) from error


def checkpoint_mac(key: bytes, n_events: int, head_hash: str, written_at: str) -> str:
    """Give the signature of a checkpoint."""
    return _hmac(key, canonical_json(["checkpoint", n_events, head_hash, written_at]))


def _hmac(key: bytes, content: str) -> str:
    """Give HMAC-SHA256 in hexadecimal."""
    return hmac.digest(key, content.encode(), "sha256").hex()


def _has_unsealed(database: Database) -> bool:
    with database.session() as session:
        statement = select(Event.event_id).where(Event.sequence.is_(None)).limit(1)
        return session.execute(statement).first() is not None


def _seal_some(database: Database, key: bytes) -> int:
    with database.begin() as session:
        if database.dialect == "postgresql":  # on SQLite the write transaction is the lock
            session.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": SEALER_LOCK})
        sequence, previous = _head(session)
        statement = (
            select(Event.event_id, Event.digest)
            .where(Event.sequence.is_(None))
            .order_by(Event.event_id)
            .limit(EVENTS_PER_SEAL)
        )
        sealed: list[dict[str, object]] = []
        for event_id, digest in session.execute(statement).all():
            sequence += 1
            event_seal = seal_of(key, event_id, digest)
            previous = link(key, previous, sequence, event_seal)
            sealed.append(
                {
                    "event_id": event_id,
                    "sequence": sequence,
                    "seal": event_seal,
                    "chain_hash": previous,
                }
            )
        if sealed:
            session.execute(update(Event), sealed)
        return len(sealed)


def _head(session: Session) -> tuple[int, str]:
    statement = (
        select(Event.sequence, Event.chain_hash)
        .where(IS_NUMBERED)
        .order_by(Event.sequence.desc())
        .limit(1)
    )
    row = session.execute(statement).first()
    return (0, GENESIS) if row is None else (row[0] or 0, row[1] or GENESIS)


def _write_checkpoint(database: Database, key: bytes, now: datetime, path: Path) -> None:
    """Append a line where the file lags behind the chain; the file comes after the commit.

    The other order would let a crash in between look like a chain that was cut off.
    """
    with database.session() as session:
        n_events, head_hash = _head(session)
        pointer = session.get(Checkpoint, _POINTER_ID)
        is_written = pointer is not None and pointer.n_events >= n_events
    if n_events == 0 or is_written:
        return
    at = now.astimezone(UTC).isoformat(timespec="microseconds")
    line = {
        "n_events": n_events,
        "head_hash": head_hash,
        "written_at": at,
        "mac": checkpoint_mac(key, n_events, head_hash, at),
    }
    _append_durably(path, canonical_json(line) + "\n")
    values = {"n_events": n_events, "head_hash": head_hash, "written_at": now}
    with database.begin() as session:
        is_first = insert_if_absent(session, Checkpoint, {"checkpoint_id": _POINTER_ID, **values})
        if not is_first:  # two sealers may come here in either order: the pointer only advances
            behind = (Checkpoint.checkpoint_id == _POINTER_ID) & (Checkpoint.n_events < n_events)
            session.execute(update(Checkpoint).where(behind).values(**values))


def _append_durably(path: Path, line: str) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        is_new = not path.exists()
        descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600)
        with os.fdopen(descriptor, "r+b") as file:
            # A line that a crash or a full disk cut was never promised: the next one replaces it.
            file.truncate(_end_of_last_line(file))
            file.write(line.encode())
            file.flush()
            os.fsync(file.fileno())
        if is_new:
            sync_folder(path.parent)
    except OSError as error:
        raise SpoolFull(f"checkpoint file {path} cannot be written: {error.strerror}") from error


def _end_of_last_line(file: BinaryIO) -> int:
    """Give the offset behind the last line end; lines are far shorter than what is read."""
    n_bytes = file.seek(0, os.SEEK_END)
    start = max(0, n_bytes - _LONGEST_LINE_BYTES)
    file.seek(start)
    tail = file.read()
    return start + tail.rfind(b"\n") + 1 if b"\n" in tail or start == 0 else n_bytes


def _parse_checkpoint(line: str) -> CheckpointLine:
    try:
        content = json.loads(line)
        return CheckpointLine(
            n_events=int(content["n_events"]),
            head_hash=str(content["head_hash"]),
            written_at=str(content["written_at"]),
            mac=str(content["mac"]),
        )
    except (ValueError, KeyError, TypeError):
        return CheckpointLine(n_events=0, head_hash="", written_at="", mac="")
