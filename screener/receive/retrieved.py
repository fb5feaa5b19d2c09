"""Instances that come back as Part 10 files (WADO-RS) go the way of all others.

The same spool, the same bounded header, the same row. Preamble and file meta of the other side are
read and dropped: what we keep is the data set, byte for byte, behind file meta of our own.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from screener.errors import RefusedInstance
from screener.receive.arrival import RefusalNotice
from screener.receive.contexts import ACCEPTED_CLASSES, ACCEPTED_SYNTAXES
from screener.receive.header import check_sop_instance_uid
from screener.receive.keeping import header_of, received_instance
from screener.receive.part10 import HEAD_BYTES, FileMeta, foreign_meta_length, parse_foreign_meta
from screener.receive.status import CANNOT_UNDERSTAND, SOP_CLASS_NOT_SUPPORTED

if TYPE_CHECKING:
    from collections.abc import Iterator

    from screener.receive.handlers import ReceiverHooks
    from screener.receive.spool import Spool

#: File meta of any maker is smaller; what is larger is no DICOM file.
MAX_META_BYTES = 64 * 1024

#: PS3.5 6.2, AE.
_AE_TITLE_LENGTH = 16

_CLASSES = frozenset(accepted.sop_class_uid for accepted in ACCEPTED_CLASSES)
_SYNTAXES = frozenset(accepted.transfer_syntax_uid for accepted in ACCEPTED_SYNTAXES)


class PartReceiver:
    """Keeps Part 10 files that arrive in pieces.

    Parameters
    ----------
    source
        Name of the service that gives them; stands where an AE title would, cut to its length.
    spool
        Where instances are kept.
    hooks
        Registration, audit and clock.
    patient_id_salt
        Key of the Patient ID digest.
    """

    def __init__(
        self, source: str, spool: Spool, hooks: ReceiverHooks, patient_id_salt: bytes
    ) -> None:
        self._source = source[:_AE_TITLE_LENGTH]
        self._spool = spool
        self._hooks = hooks
        self._salt = patient_id_salt

    def take(self, chunks: Iterator[bytes]) -> None:
        """Keep one instance and register it.

        Raises
        ------
        RefusedInstance
            It is none that we accept; the audit hears of it.
        SpoolFull, DatabaseUnavailable
            It cannot be kept now.
        """
        try:
            self._keep(chunks)
        except RefusedInstance as refusal:
            notice = RefusalNotice(
                at=self._hooks.now(),
                address="",
                calling_ae_title=self._source,
                status=refusal.status,
                reason=str(refusal),
            )
            self._hooks.observe(notice)
            raise

    def _keep(self, chunks: Iterator[bytes]) -> None:
        meta, begun = _read_meta(chunks, self._source)
        pending = self._spool.begin(meta)
        try:
            pending.write(begun)
            for chunk in chunks:
                pending.write(chunk)
            header = header_of(pending, self._salt)
            path = self._spool.keep(pending)
        finally:
            self._spool.discard(pending)
        self._hooks.register(received_instance(pending, header, path, self._hooks.now(), None))


def _read_meta(chunks: Iterator[bytes], source: str) -> tuple[FileMeta, bytes]:
    """Read the file meta; gives ours for it, and the first bytes of the data set."""
    begun = bytearray()
    try:
        _fill(begun, chunks, HEAD_BYTES)
        length = foreign_meta_length(bytes(begun[:HEAD_BYTES]))
        if length > MAX_META_BYTES:
            raise ValueError("the file meta is too large")  # noqa: TRY301 - one answer to all
        _fill(begun, chunks, length)
        foreign = parse_foreign_meta(bytes(begun[:length]))
    except ValueError as error:
        raise RefusedInstance(CANNOT_UNDERSTAND, "It is no DICOM file") from error
    check_sop_instance_uid(foreign.sop_instance_uid)
    if foreign.sop_class_uid not in _CLASSES:
        raise RefusedInstance(SOP_CLASS_NOT_SUPPORTED, "SOP class is not accepted here")
    if foreign.transfer_syntax_uid not in _SYNTAXES:
        raise RefusedInstance(CANNOT_UNDERSTAND, "Transfer syntax is not accepted here")
    return replace(foreign, source_ae_title=source), bytes(begun[length:])


def _fill(begun: bytearray, chunks: Iterator[bytes], n_bytes: int) -> None:
    while len(begun) < n_bytes:
        chunk = next(chunks, None)
        if chunk is None:
            raise ValueError("the file ends too early")
        begun += chunk
