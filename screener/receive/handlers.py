"""An instance to a status, and an association to yes or no; no network here.

The boundary that never raises: whatever happens to one instance becomes its status, so that one
odd instance never costs its neighbours the association.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog

from screener.errors import DatabaseUnavailable, RefusedInstance, ScreenerError, Transient
from screener.receive.arrival import (
    AssociationNotice,
    AssociationOutcome,
    RefusalNotice,
)
from screener.receive.dimse import Answer
from screener.receive.header import check_sop_instance_uid
from screener.receive.keeping import header_of, received_instance
from screener.receive.status import (
    CANNOT_UNDERSTAND,
    INVALID_SOP_INSTANCE,
    MAX_COMMENT_LENGTH,
    OUT_OF_RESOURCES,
    PROCESSING_FAILURE,
    SOP_CLASS_NOT_SUPPORTED,
    SUCCESS,
)
from screener.receive.upper_layer import APPLICATION_CONTEXT

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from screener.domain import CommitmentReport
    from screener.receive.arrival import ReceivedInstance
    from screener.receive.peers import Origin, PeerList
    from screener.receive.spool import PendingInstance, Spool
    from screener.receive.upper_layer import AssociationRequest, UserIdentity

#: User identity types whose fields travel in clear text: user name, and password (PS3.7 D.3.3.7).
_CLEAR_TEXT_IDENTITIES = frozenset({1, 2})


@dataclass(frozen=True, slots=True)
class Rejection:
    """Why an association is refused."""

    codes: tuple[int, int, int]  #: result, source, reason of the A-ASSOCIATE-RJ
    reason: str  #: fixed text for the audit


#: A-ASSOCIATE-RJ (PS3.8 Table 9-21): result, source, reason.
_APPLICATION_CONTEXT_NOT_SUPPORTED = (1, 1, 2)
_CALLING_AE_NOT_RECOGNISED = (1, 1, 3)
_CALLED_AE_NOT_RECOGNISED = (1, 1, 7)
_NO_REASON = (2, 2, 1)
_PROTOCOL_VERSION_NOT_SUPPORTED = (1, 2, 2)
_TEMPORARY_CONGESTION = (2, 3, 1)
_LOCAL_LIMIT_EXCEEDED = (2, 3, 2)

#: The request is longer than any honest one; trying again cannot help.
TOO_LONG = Rejection((1, 3, 2), "the association request is longer than allowed")
#: As many associations are open as may be.
LIMIT_REACHED = Rejection(_LOCAL_LIMIT_EXCEEDED, "as many associations are open as may be")
#: Judging failed: what cannot be judged does not get in.
NOT_JUDGED = Rejection(_TEMPORARY_CONGESTION, "it could not be judged")


@dataclass(frozen=True, slots=True)
class ReceiverHooks:
    """What the receiver needs from outside.

    ``register`` commits the row of an instance and raises `DatabaseUnavailable` where it cannot;
    ``observe`` writes notices to the audit, must not decide anything and must not wait: it is
    called by the thread that accepts connections; ``now`` reads the clock;
    ``settle`` takes the result of a storage commitment and says whether anybody asked for it.
    """

    register: Callable[[ReceivedInstance], object]
    observe: Callable[[AssociationNotice | RefusalNotice], object]
    now: Callable[[], datetime]
    settle: Callable[[CommitmentReport], bool] = lambda _: False


@dataclass(frozen=True, slots=True)
class StoreRequest:
    """One C-STORE request whose data set, if it has one, is in the spool."""

    pending: PendingInstance | None
    context_sop_class_uid: str  #: abstract syntax of its presentation context
    address: str
    calling_ae_title: str


class ReceiveHandlers:
    """What one listener decides.

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

    def store(self, request: StoreRequest) -> Answer:
        """Keep one instance and answer a status; success only after file and row are durable."""
        try:
            self._store(request)
        except RefusedInstance as refusal:
            return self._refuse(request, refusal.status, refusal.comment)
        except Transient as error:
            structlog.get_logger().error("store_postponed", error=type(error).__name__)
            is_database = isinstance(error, DatabaseUnavailable)
            comment = "Database is not available" if is_database else "Disk is full"
            return self._refuse(request, OUT_OF_RESOURCES, comment)
        except Exception as error:  # noqa: BLE001 - the boundary; the sender would lose the others
            # The class only: the text of an unknown error may hold values of the data set.
            structlog.get_logger().error("store_failed", error=type(error).__name__)
            return self._refuse(request, PROCESSING_FAILURE, "Internal error")
        return Answer(SUCCESS)

    def _store(self, request: StoreRequest) -> None:
        pending = request.pending
        if pending is None:
            raise RefusedInstance(CANNOT_UNDERSTAND, "There is no data set")
        try:
            check_sop_instance_uid(pending.meta.sop_instance_uid)
            if pending.meta.sop_class_uid != request.context_sop_class_uid:
                raise RefusedInstance(SOP_CLASS_NOT_SUPPORTED, "SOP class is not of this context")
            header = header_of(pending, self._salt)
            path = self._spool.keep(pending)
        finally:
            self._spool.discard(pending)
        # From here the file stays whatever happens: without a row the janitor adopts it.
        at, address = self._hooks.now(), request.address
        self._hooks.register(received_instance(pending, header, path, at, address))

    def _refuse(self, request: StoreRequest, status: int, comment: str) -> Answer:
        self._observe(
            RefusalNotice(
                at=self._hooks.now(),
                address=request.address,
                calling_ae_title=request.calling_ae_title,
                status=status,
                reason=comment,
            )
        )
        # A UID that is none must not go back: it could forge a line in the sender's log.
        is_named = status != INVALID_SOP_INSTANCE
        return Answer(status, comment[:MAX_COMMENT_LENGTH], names_instance=is_named)

    # ── associations ─────────────────────────────────────────────────────────────────────────

    def judge(self, request: AssociationRequest, origin: Origin) -> Rejection | None:
        """Say why an association is refused; None where it may be."""
        if not request.protocol_version & 1:
            return Rejection(_PROTOCOL_VERSION_NOT_SUPPORTED, "protocol version is not ours")
        if request.application_context != APPLICATION_CONTEXT:
            return Rejection(_APPLICATION_CONTEXT_NOT_SUPPORTED, "application context is not ours")
        if request.called_ae_title != self._ae_title:
            return Rejection(_CALLED_AE_NOT_RECOGNISED, "called AE title is not ours")
        refusal = self._peers.refusal(request.calling_ae_title, origin)
        if refusal:
            return Rejection(_CALLING_AE_NOT_RECOGNISED, refusal)
        if request.user_identity is not None:
            return Rejection(_NO_REASON, _identity_refusal(request.user_identity, origin))
        if not self._spool.has_room():
            return Rejection(_TEMPORARY_CONGESTION, "disk is below its reserve")
        return None

    def note(
        self,
        outcome: AssociationOutcome,
        origin: Origin,
        request: AssociationRequest | None = None,
        rejection: Rejection | None = None,
        reason: str = "",
    ) -> None:
        """Tell what happened to an association."""
        codes = "/".join(str(code) for code in rejection.codes) if rejection else ""
        self._observe(
            AssociationNotice(
                outcome,
                self._hooks.now(),
                origin.address,
                calling_ae_title=request.calling_ae_title if request else "",
                called_ae_title=request.called_ae_title if request else "",
                reason=rejection.reason if rejection else reason,
                rejection=codes,
            )
        )

    def _observe(self, notice: AssociationNotice | RefusalNotice) -> None:
        try:
            self._hooks.observe(notice)
        except ScreenerError as error:
            structlog.get_logger().error("notice_lost", error=type(error).__name__)


def _identity_refusal(identity: UserIdentity, origin: Origin) -> str:
    """Say why a user identity is refused: we check none, and unchecked must not mean accepted."""
    kind = identity.identity_type
    if kind in _CLEAR_TEXT_IDENTITIES and not origin.is_tls:
        return f"user identity of type {kind} in clear text"
    return f"user identity of type {kind} cannot be checked here"
