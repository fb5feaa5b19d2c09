"""The start-up janitor: files that were kept but never registered get their row.

A crash between rename and commit leaves such a file. Its sender was not told "success" and will
send it again, but may not: what is on the disk is not lost either way.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from screener.digest import digest_rest
from screener.domain import SpooledInstance
from screener.errors import RefusedInstance
from screener.receive.arrival import ReceivedInstance
from screener.receive.header import CommandIdentity, parse_header
from screener.receive.part10 import read_file_meta

if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from pathlib import Path

    from screener.receive.spool import Spool


@dataclass(frozen=True, slots=True)
class AdoptionReport:
    """What the janitor found."""

    n_abandoned: int  #: half-received files removed
    n_adopted: int  #: kept files that had no row and now have one
    damaged: tuple[Path, ...]  #: kept files that are not what their name says; left where they are


def adopt_orphans(
    spool: Spool,
    known_digests: Callable[[Collection[str]], Collection[str]],
    register: Callable[[ReceivedInstance], object],
    patient_id_salt: bytes,
) -> AdoptionReport:
    """Remove half-received files and register kept files that have no row.

    Safe while listeners run: a file that is being registered meanwhile is a duplicate to the
    ledger.

    Parameters
    ----------
    spool
        The folder to look through.
    known_digests
        Gives those of the digests it is handed that have a row.
    register
        Commits the row of one instance.
    patient_id_salt
        Key of the Patient ID digest.

    Raises
    ------
    DatabaseUnavailable
        As `known_digests` and `register` do.
    """
    n_abandoned = spool.remove_abandoned()
    n_adopted = 0
    damaged: list[Path] = []
    for paths in spool.shards():
        known = set(known_digests([path.stem for path in paths])) if paths else set()
        for path in paths:
            if path.stem in known:
                continue
            received = _read_back(path, patient_id_salt)
            if received is None:
                damaged.append(path)
            else:
                register(received)
                n_adopted += 1
    return AdoptionReport(n_abandoned, n_adopted, tuple(damaged))


def _read_back(path: Path, salt: bytes) -> ReceivedInstance | None:
    """Read a kept file again; None where it is damaged."""
    with path.open("rb") as stream:
        try:
            meta = read_file_meta(stream)
            offset = stream.tell()
            if digest_rest(stream) != path.stem:
                return None
            n_bytes = path.stat().st_size
            command = CommandIdentity(meta.sop_class_uid, meta.sop_instance_uid)
            header = parse_header(
                lambda at, n: os.pread(stream.fileno(), n, offset + at),
                n_bytes - offset,
                meta.transfer_syntax_uid,
                command,
                salt,
            )
        except (ValueError, RefusedInstance):
            return None
    instance = SpooledInstance(
        study_instance_uid=header.study_instance_uid,
        series_instance_uid=header.series_instance_uid,
        sop_instance_uid=header.sop_instance_uid,
        sop_class_uid=header.sop_class_uid,
        transfer_syntax_uid=meta.transfer_syntax_uid,
        content_digest=path.stem,
        path=path,
        received_at=datetime.fromtimestamp(path.stat().st_mtime, UTC),
        calling_ae_title=meta.source_ae_title or None,
    )
    return ReceivedInstance(instance, header, n_bytes, peer_address=None)
