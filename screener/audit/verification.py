"""Recomputing the chain: which rows were changed, deleted, inserted, moved or cut off.

Nothing is repaired. A finding names the rows, so that people can compare them with a backup.
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

from sqlalchemy import func, select

from screener.audit.chain import (
    GENESIS,
    CheckpointLine,
    checkpoint_mac,
    link,
    read_checkpoints,
    seal_of,
)
from screener.audit.events import event_digest
from screener.audit.tables import Checkpoint, Event
from screener.audit.upkeep_tables import TrailCount

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
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
    """
    checkpoints = read_checkpoints(checkpoint_path)
    walk = _Walk(key, {one.n_events for one in checkpoints})
    with database.session() as session:
        statement = select(Event).where(Event.sequence.is_not(None)).order_by(Event.sequence)
        for event in session.scalars(statement.execution_options(yield_per=ROWS_AT_ONCE)):
            walk.visit(event)
            session.expunge(event)
        unsealed = _check_unsealed(session)
        counts = _count_trail(session)
        pointer = session.get(Checkpoint, 1)
        n_promised = pointer.n_events if pointer else 0
    found = [*walk.findings, *unsealed]
    found += _check_checkpoints(key, checkpoints, walk)
    found += _check_pointer(checkpoints, n_promised)
    found += _check_count(counts, max((one.n_events for one in checkpoints), default=0))
    return ChainReport(walk.n_events, counts.n_unsealed, len(checkpoints), tuple(_merged(found)))


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
        select(func.max(Event.sequence)).scalar_subquery(),
    )
    n_written, waiting, last = session.execute(statement).one()
    return _TrailCounts(n_written, waiting, last or 0)


@dataclass(slots=True)
class _Walk:
    """One pass along the chain, in the order of the numbers."""

    key: bytes
    wanted: set[int]  #: sequences whose chain hash a checkpoint knows
    n_events: int = 0
    last_sequence: int = 0
    previous_hash: str | None = GENESIS  #: None after a gap: the link cannot be checked
    hashes: dict[int, str] = field(default_factory=dict)
    findings: list[ChainFinding] = field(default_factory=list)

    def visit(self, event: Event) -> None:
        sequence = event.sequence or 0
        self.n_events += 1
        if sequence != self.last_sequence + 1:
            first, last = self.last_sequence + 1, sequence - 1
            self._find(FindingKind.MISSING, first, last, f"{last - first + 1} events are gone")
            self.previous_hash = None
        self.last_sequence = sequence
        chain_hash = event.chain_hash or ""
        is_linked = self._is_linked(sequence, event.seal or "", chain_hash)
        self._judge(event, sequence, is_linked=is_linked)
        if sequence in self.wanted:
            self.hashes[sequence] = chain_hash

    def _is_linked(self, sequence: int, event_seal: str, chain_hash: str) -> bool:
        if self.previous_hash is None:
            return True
        expected = link(self.key, self.previous_hash, sequence, event_seal)
        return hmac.compare_digest(expected, chain_hash)

    def _judge(self, event: Event, sequence: int, *, is_linked: bool) -> None:
        is_genuine = _says_what_it_said(event) and hmac.compare_digest(
            seal_of(self.key, event.event_id, event.digest), event.seal or ""
        )
        if is_genuine or is_linked:
            self.previous_hash = event.chain_hash
        # a foreign row is stepped over: its successor is linked to the one before it
        if is_genuine and not is_linked:
            self._find(FindingKind.MOVED, sequence, sequence, "does not follow the row before it")
        elif is_linked and not is_genuine:
            self._find(FindingKind.CHANGED, sequence, sequence, f"{event.kind} was altered")
        elif not is_genuine:
            self._find(FindingKind.FOREIGN, sequence, sequence, "was not sealed with our key")

    def _find(self, kind: FindingKind, first: int, last: int, detail: str) -> None:
        self.findings.append(ChainFinding(kind, first, last, detail))


def _says_what_it_said(event: Event) -> bool:
    digest = event_digest(
        event.kind, event.occurred_at, event.study_instance_uid, event.run_id, event.payload
    )
    return hmac.compare_digest(digest, event.digest)


def _check_unsealed(session: Session) -> list[ChainFinding]:
    statement = select(Event).where(Event.sequence.is_(None)).order_by(Event.event_id)
    return [
        ChainFinding(
            FindingKind.CHANGED, event.event_id, event.event_id, "altered before it was sealed"
        )
        for event in session.scalars(statement)
        if not _says_what_it_said(event)
    ]


def _check_checkpoints(
    key: bytes, checkpoints: Sequence[CheckpointLine], walk: _Walk
) -> list[ChainFinding]:
    found = []
    for number, one in enumerate(checkpoints, start=1):
        mac = checkpoint_mac(key, one.n_events, one.head_hash, one.written_at)
        if not hmac.compare_digest(mac, one.mac):
            detail = "this checkpoint was not signed with our key"
            found.append(ChainFinding(FindingKind.FORGED_CHECKPOINT, number, number, detail))
        elif one.n_events > walk.last_sequence:
            detail = f"the checkpoint of {one.written_at} knows {one.n_events} events"
            first = walk.last_sequence + 1
            found.append(ChainFinding(FindingKind.CUT_OFF, first, one.n_events, detail))
        elif one.n_events in walk.hashes and walk.hashes[one.n_events] != one.head_hash:
            detail = f"the checkpoint of {one.written_at} signed another chain"
            found.append(ChainFinding(FindingKind.REWRITTEN, one.n_events, one.n_events, detail))
    return found


def _check_pointer(checkpoints: Sequence[CheckpointLine], n_promised: int) -> list[ChainFinding]:
    n_known = max((one.n_events for one in checkpoints), default=0)
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
