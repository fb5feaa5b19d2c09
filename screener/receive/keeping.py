"""What was written to the spool becomes an instance with a name, whichever way it came."""

from __future__ import annotations

from typing import TYPE_CHECKING

from screener.domain import SpooledInstance
from screener.receive.arrival import ReceivedInstance
from screener.receive.header import CommandIdentity, ReceivedHeader, parse_header

if TYPE_CHECKING:
    from datetime import datetime
    from pathlib import Path

    from screener.receive.spool import PendingInstance


def header_of(pending: PendingInstance, patient_id_salt: bytes) -> ReceivedHeader:
    """Read who and what a pending instance is, and check that its own meta says the same.

    Raises
    ------
    RefusedInstance
        As `parse_header`.
    SpoolFull
        It could not be written.
    """
    meta = pending.meta
    command = CommandIdentity(meta.sop_class_uid, meta.sop_instance_uid)
    return parse_header(
        pending.read_at,
        pending.n_data_set_bytes,
        meta.transfer_syntax_uid,
        command,
        patient_id_salt,
    )


def received_instance(
    pending: PendingInstance,
    header: ReceivedHeader,
    path: Path,
    received_at: datetime,
    peer_address: str | None,
) -> ReceivedInstance:
    """Give the instance that was kept at `path`, ready to be registered."""
    instance = SpooledInstance(
        study_instance_uid=header.study_instance_uid,
        series_instance_uid=header.series_instance_uid,
        sop_instance_uid=header.sop_instance_uid,
        sop_class_uid=header.sop_class_uid,
        transfer_syntax_uid=pending.meta.transfer_syntax_uid,
        content_digest=pending.content_digest,
        path=path,
        received_at=received_at,
        calling_ae_title=pending.meta.source_ae_title or None,
    )
    n_bytes = pending.data_set_offset + pending.n_data_set_bytes
    return ReceivedInstance(instance, header, n_bytes, peer_address)
