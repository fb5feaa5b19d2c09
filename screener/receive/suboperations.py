"""Instances that come back on an association of ours (C-GET) go the way of all others.

The same spool, the same bounded header, the same row before "success"; only who opened the
association differs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydicom.dataset import Dataset

from screener.receive.contexts import ACCEPTED_CLASSES, ACCEPTED_SYNTAXES, ClassRole
from screener.receive.guard import (
    SpoolingProvider,
    bound_reads,
    check_library,
    configure_library,
    peer_of,
)
from screener.receive.handlers import ReceiveHandlers, ReceiverHooks, StoreRequest
from screener.receive.limits import plain_address
from screener.receive.peers import PeerList

if TYPE_CHECKING:
    from pynetdicom.events import Event

    from screener.receive.dimse import Answer
    from screener.receive.spool import Spool

#: What is asked back: SOP class and transfer syntax, each pair a presentation context of its own,
#: so that a node can send every instance as it holds it. Companions are not screened.
RETRIEVED_CONTEXTS: tuple[tuple[str, str], ...] = tuple(
    (accepted.sop_class_uid, syntax.transfer_syntax_uid)
    for accepted in ACCEPTED_CLASSES
    if accepted.role is not ClassRole.COMPANION
    for syntax in ACCEPTED_SYNTAXES
)

#: How long one read may take where the association has no limit of its own, in seconds.
_READ_S = 60.0


class SubOperationReceiver:
    """Takes the C-STORE sub-operations of one association that we opened.

    Parameters
    ----------
    ae_title
        Ours.
    spool
        Where instances are kept.
    hooks
        Registration, audit and clock.
    patient_id_salt
        Key of the Patient ID digest.
    """

    def __init__(
        self, ae_title: str, spool: Spool, hooks: ReceiverHooks, patient_id_salt: bytes
    ) -> None:
        check_library()
        configure_library()
        self._spool = spool
        self._handlers = ReceiveHandlers(ae_title, PeerList(()), spool, hooks, patient_id_salt)
        self._provider: SpoolingProvider | None = None

    def on_connected(self, event: Event) -> None:
        """Let data sets go to the spool while they arrive, before the first can come."""
        self._provider = SpoolingProvider(event.assoc, self._spool)
        event.assoc.dimse = self._provider
        bound_reads(event.assoc, event.assoc.network_timeout or _READ_S)

    def on_store(self, event: Event) -> Dataset:
        """Keep one instance and answer a status."""
        if self._provider is None:
            raise TypeError("the association has no spool")
        peer = peer_of(event.assoc)
        return _status_of(
            self._handlers.store(
                StoreRequest(
                    pending=self._provider.take(event.request),
                    context_sop_class_uid=str(event.context.abstract_syntax),
                    address=plain_address(peer.address),
                    calling_ae_title=str(peer.ae_title).strip(),
                )
            )
        )

    def close(self) -> None:
        """Remove what was half received."""
        if self._provider is not None:
            self._provider.discard_all()


def _status_of(answer: Answer) -> Dataset:
    status = Dataset()
    status.Status = answer.status
    if not answer.names_instance:
        status.AffectedSOPInstanceUID = ""  # leaves it out of the answer
    if answer.comment:
        status.ErrorComment = answer.comment
    return status
