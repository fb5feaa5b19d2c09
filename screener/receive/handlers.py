"""C-STORE and C-ECHO to a status, and an association to yes or no.

The boundary that never raises: whatever happens to one instance becomes its status, so that one
odd instance never costs its neighbours the association.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import structlog
from pydicom.dataset import Dataset

from screener.domain import SpooledInstance
from screener.errors import DatabaseUnavailable, RefusedInstance, ScreenerError, Transient
from screener.receive.arrival import (
    AssociationNotice,
    AssociationOutcome,
    ReceivedInstance,
    RefusalNotice,
)
from screener.receive.guard import SpoolingProvider, peer_of, plain_address
from screener.receive.header import (
    CommandIdentity,
    ReceivedHeader,
    check_sop_instance_uid,
    parse_header,
)
from screener.receive.status import (
    CANNOT_UNDERSTAND,
    INVALID_SOP_INSTANCE,
    MAX_COMMENT_LENGTH,
    OUT_OF_RESOURCES,
    PROCESSING_FAILURE,
    SOP_CLASS_NOT_SUPPORTED,
    SUCCESS,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime
    from pathlib import Path

    from pynetdicom.events import Event

    from screener.domain import CommitmentReport
    from screener.receive.peers import PeerList
    from screener.receive.spool import PendingInstance, Spool

#: A-ASSOCIATE-RJ (PS3.8 Table 9-21): result, source, reason.
_CALLING_AE_NOT_RECOGNISED = (1, 1, 3)
_CALLED_AE_NOT_RECOGNISED = (1, 1, 7)
_TEMPORARY_CONGESTION = (2, 3, 1)


@dataclass(frozen=True, slots=True)
class _Rejection:
    codes: tuple[int, int, int]
    reason: str


@dataclass(frozen=True, slots=True)
class ReceiverHooks:
    """What the receiver needs from outside.

    ``register`` commits the row of an instance and raises `DatabaseUnavailable` where it cannot;
    ``observe`` writes notices to the audit and must not decide anything; ``now`` reads the clock;
    ``settle`` takes the result of a storage commitment and says whether anybody asked for it.
    """

    register: Callable[[ReceivedInstance], object]
    observe: Callable[[AssociationNotice | RefusalNotice], object]
    now: Callable[[], datetime]
    settle: Callable[[CommitmentReport], bool] = lambda _: False


class ReceiveHandlers:
    """The event handlers of one listener.

    Parameters
    ----------
    ae_title
        Ours; an association for another is refused.
    peers
        Who may speak, and from where.
    spool
        Where instances are kept.
    hooks
        Registration, audit and clock.
    patient_id_salt
        Key of the Patient ID digest.
    """

    def __init__(
        self,
        ae_title: str,
        peers: PeerList,
        spool: Spool,
        hooks: ReceiverHooks,
        patient_id_salt: bytes,
    ) -> None:
        self._ae_title = ae_title
        self._peers = peers
        self._spool = spool
        self._hooks = hooks
        self._salt = patient_id_salt

    # ── instances ────────────────────────────────────────────────────────────────────────────

    def on_echo(self, event: Event) -> int:
        """Answer a C-ECHO."""
        del event
        return SUCCESS

    def on_store(self, event: Event) -> Dataset:
        """Keep one instance and answer a status; success only after file and row are durable."""
        try:
            self._store(event)
        except RefusedInstance as refusal:
            return self._refuse(event, refusal.status, refusal.comment)
        except Transient as error:
            structlog.get_logger().error("store_postponed", error=type(error).__name__)
            is_database = isinstance(error, DatabaseUnavailable)
            comment = "Database is not available" if is_database else "Disk is full"
            return self._refuse(event, OUT_OF_RESOURCES, comment)
        except Exception as error:  # noqa: BLE001 - the boundary; the library would blame the data
            # The class only: the text of an unknown error may hold values of the data set.
            structlog.get_logger().error("store_failed", error=type(error).__name__)
            return self._refuse(event, PROCESSING_FAILURE, "Internal error")
        return _status_of(SUCCESS, "")

    def _store(self, event: Event) -> None:
        pending = _provider_of(event).take(event.request)
        if pending is None:
            raise RefusedInstance(CANNOT_UNDERSTAND, "There is no data set")
        try:
            header = self._read_header(event, pending)
            path = self._spool.keep(pending)
        finally:
            self._spool.discard(pending)
        # From here the file stays whatever happens: without a row the janitor adopts it.
        self._hooks.register(self._received(event, pending, header, path))

    def _read_header(self, event: Event, pending: PendingInstance) -> ReceivedHeader:
        check_sop_instance_uid(pending.meta.sop_instance_uid)
        if pending.meta.sop_class_uid != event.context.abstract_syntax:
            raise RefusedInstance(SOP_CLASS_NOT_SUPPORTED, "SOP class is not of this context")
        command = CommandIdentity(pending.meta.sop_class_uid, pending.meta.sop_instance_uid)
        with pending.open_data_set() as stream:
            return parse_header(
                stream,
                pending.n_data_set_bytes,
                pending.meta.transfer_syntax_uid,
                command,
                self._salt,
            )

    def _received(
        self, event: Event, pending: PendingInstance, header: ReceivedHeader, path: Path
    ) -> ReceivedInstance:
        instance = SpooledInstance(
            study_instance_uid=header.study_instance_uid,
            series_instance_uid=header.series_instance_uid,
            sop_instance_uid=header.sop_instance_uid,
            sop_class_uid=header.sop_class_uid,
            transfer_syntax_uid=pending.meta.transfer_syntax_uid,
            content_digest=pending.content_digest,
            path=path,
            received_at=self._hooks.now(),
            calling_ae_title=pending.meta.source_ae_title or None,
        )
        n_bytes = pending.data_set_offset + pending.n_data_set_bytes
        return ReceivedInstance(instance, header, n_bytes, _address_of(event))

    def _refuse(self, event: Event, status: int, comment: str) -> Dataset:
        self._observe(
            RefusalNotice(
                at=self._hooks.now(),
                address=_address_of(event),
                calling_ae_title=_calling_ae_title_of(event),
                status=status,
                reason=comment,
            )
        )
        return _status_of(status, comment)

    # ── associations ─────────────────────────────────────────────────────────────────────────

    def on_requested(self, event: Event) -> None:
        """Refuse an association that must not be; say nothing where it may go on."""
        # The library goes on where a handler fails; refusing must be what happens then.
        rejection: _Rejection | None = _Rejection(_TEMPORARY_CONGESTION, "it could not be judged")
        try:
            rejection = self._judge(event)
        finally:
            if rejection is not None:
                event.assoc.acse.send_reject(*rejection.codes)
                self._notice(event, AssociationOutcome.REJECTED, rejection.reason)
                event.assoc.kill()

    def _judge(self, event: Event) -> _Rejection | None:
        if _called_ae_title_of(event) != self._ae_title:
            return _Rejection(_CALLED_AE_NOT_RECOGNISED, "called AE title is not ours")
        if not self._peers.is_allowed(_calling_ae_title_of(event), _address_of(event)):
            return _Rejection(_CALLING_AE_NOT_RECOGNISED, "calling AE title is not known here")
        if not self._spool.has_room():
            return _Rejection(_TEMPORARY_CONGESTION, "disk is below its reserve")
        return None

    def on_user_identity(self, event: Event) -> tuple[bool, bytes | None]:
        """Refuse any user identity: we check none, and unchecked must not mean accepted."""
        del event
        return False, None

    def on_accepted(self, event: Event) -> None:
        """Note an association that was accepted."""
        self._notice(event, AssociationOutcome.ACCEPTED)

    def on_rejected(self, event: Event) -> None:
        """Note an association that the library refused."""
        self._notice(event, AssociationOutcome.REJECTED, "limit of associations or user identity")

    def on_released(self, event: Event) -> None:
        """Note an association that ended in order."""
        self._notice(event, AssociationOutcome.RELEASED)

    def on_aborted(self, event: Event) -> None:
        """Note an association that broke off."""
        self._notice(event, AssociationOutcome.ABORTED)

    def on_dropped(self, address: str, reason: str) -> None:
        """Note a connection that was closed unread."""
        self._observe(
            AssociationNotice(AssociationOutcome.DROPPED, self._hooks.now(), address, reason=reason)
        )

    def _notice(self, event: Event, outcome: AssociationOutcome, reason: str = "") -> None:
        self._observe(
            AssociationNotice(
                outcome,
                self._hooks.now(),
                _address_of(event),
                calling_ae_title=_calling_ae_title_of(event),
                called_ae_title=_called_ae_title_of(event),
                reason=reason,
            )
        )

    def _observe(self, notice: AssociationNotice | RefusalNotice) -> None:
        try:
            self._hooks.observe(notice)
        except ScreenerError as error:
            structlog.get_logger().error("notice_lost", error=type(error).__name__)


def _provider_of(event: Event) -> SpoolingProvider:
    provider: Any = event.assoc.dimse
    if not isinstance(provider, SpoolingProvider):
        raise TypeError("the association has no spool")
    return provider


def _address_of(event: Event) -> str:
    return plain_address(peer_of(event.assoc).address)


def _calling_ae_title_of(event: Event) -> str:
    primitive = event.assoc.requestor.primitive
    return str(primitive.calling_ae_title).strip() if primitive else ""


def _called_ae_title_of(event: Event) -> str:
    primitive = event.assoc.requestor.primitive
    return str(primitive.called_ae_title).strip() if primitive else ""


def _status_of(status: int, comment: str) -> Dataset:
    answer = Dataset()
    answer.Status = status
    if status == INVALID_SOP_INSTANCE:
        answer.AffectedSOPInstanceUID = ""  # leaves it out of the answer
    if comment:
        answer.ErrorComment = comment[:MAX_COMMENT_LENGTH]
    return answer
