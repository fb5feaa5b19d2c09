"""Recomputing the chain: which rows were changed, deleted, inserted, moved or cut off.

Nothing is repaired. A finding names the rows, so that people can compare them with a backup.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Any, NamedTuple

from sqlalchemy import String, func, select, type_coerce

from screener.audit.chain import (
    GENESIS,
    IS_NUMBERED,
    CheckpointLine,
    checkpoint_mac,
    link,
    read_checkpoints,
    seal_of,
)
from screener.audit.events import digest_of_texts
from screener.audit.tables import Checkpoint, Event
from screener.audit.upkeep_tables import TrailCount

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from sqlalchemy.orm import Session

    from screener.audit.database import Database

#: Rows read at once while walking the chain.
ROWS_AT_ONCE = 1000


class FindingKind(StrEnum):
    """What can be wrong with the trail."""

    CHANGED = "changed"  #: the row says something else than when it was sealed
    MISSING = "missing"  #: numbers are left out: rows were deleted
    FOREIGN = "foreign"  #: the row was not sealed with our key: inserted, or changed and resealed
    MOVED = "moved"  #: the row is genuine but does not belong at this place
    CUT_OFF = "cut-off"  #: a checkpoint knows more events than the database holds
    REWRITTEN = "rewritten"  #: the chain at a checkpoint is not the one that was signed
    FORGED_CHECKPOINT = "forged-checkpoint"  #: a checkpoint is not signed with our key
    LOST_CHECKPOINTS = "lost-checkpoints"  #: the database knows of checkpoints the file lacks
    VANISHED = (
        "vanished"  #: more events were written than there are: deleted before they were sealed
    )


@dataclass(frozen=True, slots=True)
class ChainFinding:
    """One thing that is wrong, over a range of rows or lines."""

    kind: FindingKind
    first: int  #: sequence; line number for checkpoints; event id for unsealed rows
    last: int
    detail: str


@dataclass(frozen=True, slots=True)
class ChainReport:
    """What recomputing the whole chain found."""

    n_events: int  #: sealed
    n_unsealed: int  #: waiting for the sealer
    n_checkpoints: int
    findings: tuple[ChainFinding, ...]

    @property
    def is_intact(self) -> bool:
        """Nothing was found."""
        return not self.findings

    def text(self) -> str:
        """Give the report for people."""
        counts = (
            f"{self.n_events} events sealed, {self.n_unsealed} waiting for the sealer, "
            f"{self.n_checkpoints} checkpoints"
        )
        if self.is_intact:
            return f"The audit trail is intact: {counts}."
        lines = [f"The audit trail was tampered with: {counts}."]
        lines += [
            f"  {one.kind.value}: {one.detail} ({_range(one.first, one.last)})"
            for one in self.findings
        ]
        return "\n".join(lines)


def verify_chain(database: Database, key: bytes, checkpoint_path: Path) -> ChainReport:
    """Recompute every link and compare with every checkpoint.

    Raises
    ------
    DatabaseUnavailable
        The database cannot be read.
    CheckpointsUnreadable
        The file of checkpoints is there and cannot be read.
    """
    walk = _Walk(key)
    with database.session() as session:
        with session.execute(_SEALED.execution_options(yield_per=ROWS_AT_ONCE)) as rows:
            checking = _Checking(key, walk, rows)
            for line in read_checkpoints(checkpoint_path):
                checking.check(line)
            walk.follow(rows)
        found = [*walk.findings, *_check_unsealed(session), *checking.conclude(session)]
        counts = _count_trail(session)
        pointer = session.get(Checkpoint, 1)
        n_promised = pointer.n_events if pointer else 0
    found += _check_pointer(checking.n_signed, n_promised)
    found += _check_count(counts, checking.n_signed)
    return ChainReport(walk.n_events, counts.n_unsealed, checking.n_lines, tuple(_merged(found)))


def count_vanished(database: Database) -> int:
    """Give how many events were written and are neither sealed nor waiting; quick, without a walk.

    Raises
    ------
    DatabaseUnavailable
        The database cannot be read.
    """
    with database.session() as session:
        return _count_trail(session).n_vanished(0)


@dataclass(frozen=True, slots=True)
class _TrailCounts:
    """How many events there should be and are, at one moment."""

    n_written: int | None  #: None where the row that counts is gone
    n_unsealed: int
    last_sequence: int

    def n_vanished(self, n_signed: int) -> int:
        """Give how many are missing beside those that the chain itself misses."""
        if self.n_written is None:
            return 1
        return max(0, self.n_written - max(self.last_sequence, n_signed) - self.n_unsealed)


def _count_trail(session: Session) -> _TrailCounts:
    n_unsealed = select(func.count()).select_from(Event).where(Event.sequence.is_(None))
    # one statement, so that PostgreSQL answers all three from one snapshot
    statement = select(
        select(func.max(TrailCount.n_written)).scalar_subquery(),
        n_unsealed.scalar_subquery(),
        select(func.max(Event.sequence)).where(IS_NUMBERED).scalar_subquery(),
    )
    n_written, waiting, last = session.execute(statement).one()
    return _TrailCounts(n_written, waiting, last or 0)


class _Row(NamedTuple):
    """The columns of one event that the chain covers."""

    event_id: int
    kind: str
    occurred_at: datetime | str  #: as the driver gives it
    study_instance_uid: str | None
    run_id: str | None
    payload: str
    digest: str
    sequence: object  #: a number, unless somebody edited the table
    seal: str | None
    chain_hash: str | None


#: Columns and no objects: a trail has millions of rows.
_SEALED = (
    select(
        *(
            # SQLite's text is nearly the one that was hashed: no need to make a time of it
            type_coerce(column, String()) if column is Event.__table__.c.occurred_at else column
            for column in (Event.__table__.columns[name] for name in _Row._fields)
        )
    )
    .where(Event.sequence.is_not(None))
    .order_by(Event.sequence)
)


@dataclass(slots=True)
class _Walk:
    """One pass along the chain, in the order of the numbers."""

    key: bytes
    n_events: int = 0
    last_sequence: int = 0
    last_hash: str = GENESIS  #: of the row of `last_sequence`
    previous_hash: str | None = GENESIS  #: None after a gap: the link cannot be checked
    findings: list[ChainFinding] = field(default_factory=list)

    def follow(self, rows: Iterable[Any], until: int | None = None) -> None:
        """Go on to the row of this number, or the first beyond; to the end without one."""
        if until is not None and self.last_sequence >= until:
            return
        for row in rows:
            self._visit(_Row._make(row))
            if until is not None and self.last_sequence >= until:
                return

    def _visit(self, event: _Row) -> None:
        sequence = event.sequence
        self.n_events += 1
        if not isinstance(sequence, int) or sequence < 1:  # SQLite keeps anything as a number
            self._find(FindingKind.FOREIGN, event.event_id, event.event_id, "has no number")
            return
        if sequence != self.last_sequence + 1:
            first, last = self.last_sequence + 1, sequence - 1
            self._find(FindingKind.MISSING, first, last, f"{last - first + 1} events are gone")
            self.previous_hash = None
        self.last_sequence, self.last_hash = sequence, _text(event.chain_hash)
        self._judge(event, sequence, is_linked=self._is_linked(sequence, _text(event.seal)))

    def _is_linked(self, sequence: int, event_seal: str) -> bool:
        if self.previous_hash is None:
            return True
        return link(self.key, self.previous_hash, sequence, event_seal) == self.last_hash

    def _judge(self, event: _Row, sequence: int, *, is_linked: bool) -> None:
        is_genuine = (
            _says_what_it_said(event)
            and seal_of(self.key, event.event_id, event.digest) == event.seal
        )
        if is_genuine or is_linked:
            self.previous_hash = self.last_hash
        # a foreign row is stepped over: its successor is linked to the one before it
        if is_genuine and not is_linked:
            self._find(FindingKind.MOVED, sequence, sequence, "does not follow the row before it")
        elif is_linked and not is_genuine:
            self._find(FindingKind.CHANGED, sequence, sequence, f"{event.kind} was altered")
        elif not is_genuine:
            self._find(FindingKind.FOREIGN, sequence, sequence, "was not sealed with our key")

    def _find(self, kind: FindingKind, first: int, last: int, detail: str) -> None:
        self.findings.append(ChainFinding(kind, first, last, detail))


def _says_what_it_said(event: Event | _Row) -> bool:
    texts = (event.kind, event.study_instance_uid, event.run_id, event.payload)
    if not all(text is None or isinstance(text, str) for text in texts):
        return False  # SQLite keeps bytes in a column of texts
    digest = digest_of_texts(
        event.kind, _iso(event.occurred_at), event.study_instance_uid, event.run_id, event.payload
    )
    return digest == event.digest


def _iso(at: datetime | str) -> str:
    if not isinstance(at, str):
        return at.astimezone(UTC).isoformat(timespec="microseconds")
    day, _, time = at.partition(" ")
    return f"{day}T{time}+00:00"


def _text(value: object) -> str:
    """Give a text as the row has it; empty where it is something else."""
    return value if isinstance(value, str) else ""


def _check_unsealed(session: Session) -> list[ChainFinding]:
    statement = select(Event).where(Event.sequence.is_(None)).order_by(Event.event_id)
    return [
        ChainFinding(
            FindingKind.CHANGED, event.event_id, event.event_id, "altered before it was sealed"
        )
        for event in session.scalars(statement)
        if not _says_what_it_said(event)
    ]


@dataclass(slots=True)
class _Checking:
    """The checkpoints beside the walk: each meets the row that it signed, none is kept."""

    key: bytes
    walk: _Walk
    rows: Iterable[Any]
    n_lines: int = 0
    n_signed: int = 0  #: most events that any line claims
    out_of_order: list[CheckpointLine] = field(default_factory=list)
    findings: list[ChainFinding] = field(default_factory=list)

    def check(self, line: CheckpointLine) -> None:
        """Take the next line; lines stand in the order of the events."""
        self.n_lines += 1
        mac = checkpoint_mac(self.key, line.n_events, line.head_hash, line.written_at)
        if mac != line.mac:
            detail = "this checkpoint was not signed with our key"
            self._find(FindingKind.FORGED_CHECKPOINT, self.n_lines, self.n_lines, detail)
            return
        self.n_signed = max(self.n_signed, line.n_events)
        self.walk.follow(self.rows, line.n_events)
        if line.n_events == self.walk.last_sequence:
            self._compare(line, self.walk.last_hash)
        elif line.n_events > self.walk.last_sequence:
            detail = f"the checkpoint of {line.written_at} knows {line.n_events} events"
            self._find(FindingKind.CUT_OFF, self.walk.last_sequence + 1, line.n_events, detail)
        else:
            self.out_of_order.append(line)  # or its row is gone, which the walk has found

    def conclude(self, session: Session) -> list[ChainFinding]:
        """Give what was found, once the walk is over."""
        for line in self.out_of_order:
            statement = select(Event.chain_hash).where(Event.sequence == line.n_events)
            for chain_hash in session.scalars(statement):
                self._compare(line, chain_hash or "")
        return self.findings

    def _compare(self, line: CheckpointLine, chain_hash: str) -> None:
        if chain_hash != line.head_hash:
            detail = f"the checkpoint of {line.written_at} signed another chain"
            self._find(FindingKind.REWRITTEN, line.n_events, line.n_events, detail)

    def _find(self, kind: FindingKind, first: int, last: int, detail: str) -> None:
        self.findings.append(ChainFinding(kind, first, last, detail))


def _check_pointer(n_known: int, n_promised: int) -> list[ChainFinding]:
    if n_known >= n_promised:
        return []
    detail = f"the database knows a checkpoint over {n_promised} events, the file ends at {n_known}"
    return [ChainFinding(FindingKind.LOST_CHECKPOINTS, n_known + 1, n_promised, detail)]


def _check_count(counts: _TrailCounts, n_signed: int) -> list[ChainFinding]:
    n_vanished = counts.n_vanished(n_signed)
    if not n_vanished:
        return []
    detail = "the row that counts the events is gone"
    if counts.n_written is not None:
        detail = (
            f"{counts.n_written} events were written, {n_vanished} of them were deleted before "
            "they were sealed"
        )
    first = counts.last_sequence + 1
    return [ChainFinding(FindingKind.VANISHED, first, first + n_vanished - 1, detail)]


def _merged(findings: Iterable[ChainFinding]) -> list[ChainFinding]:
    """Join neighbours of one kind, so that a renumbered tail is one line."""
    merged: list[ChainFinding] = []
    for one in findings:
        before = merged[-1] if merged else None
        if before and before.kind is one.kind and one.first == before.last + 1:
            merged[-1] = ChainFinding(one.kind, before.first, one.last, before.detail)
        else:
            merged.append(one)
    return merged


def _range(first: int, last: int) -> str:
    return f"row {first}" if first == last else f"rows {first} to {last}"
