"""One accepted connection from its first byte to its last: the acceptor's half of PS3.8 9.2.

One thread runs it, waits in the kernel, and does one thing at a time: a request is answered before
the next is read. So no queue can grow, an idle association costs no processor time, and what is
half received is removed by the same thread that received it.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from screener.receive.arrival import AssociationOutcome
from screener.receive.dimse import (
    C_CANCEL_RQ,
    C_ECHO_RQ,
    C_STORE_RQ,
    N_EVENT_REPORT_RQ,
    UNRECOGNISED_OPERATION,
    Answer,
    encode_answer,
)
from screener.receive.handlers import LIMIT_REACHED, NOT_JUDGED, TOO_LONG, Rejection, StoreRequest
from screener.receive.messages import Message, MessageAssembler
from screener.receive.negotiation import negotiate
from screener.receive.status import SUCCESS
from screener.receive.upper_layer import (
    AbortReason,
    AssociationRequest,
    PduType,
    ProtocolViolation,
    data_values,
    decode_request,
    encode_abort,
    encode_accept,
    encode_command,
    encode_reject,
    encode_release_answer,
)
from screener.receive.wire import PduTooLong, ReadLimits, Wire
from screener.version import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME

if TYPE_CHECKING:
    from screener.receive.commitment import CommitmentHandlers
    from screener.receive.handlers import ReceiveHandlers
    from screener.receive.limits import AssociationCounter
    from screener.receive.peers import Origin
    from screener.receive.spool import Spool

#: Longest A-ASSOCIATE-RQ, in bytes; 128 contexts of ten usual syntaxes need half of it.
MAX_REQUEST_BYTES = 64 * 1024
#: Longest PDU of an established association, in bytes; we announce less, some senders round up.
MAX_DATA_PDU_BYTES = 1024 * 1024
#: How long the peer of an ended association may take to close, in seconds.
CLOSE_S = 2.0
#: A message may be slower than the minimum rate for so long, in seconds: a stall is no attack.
PACE_GRACE_S = 10.0


@dataclass(frozen=True, slots=True)
class AssociationPolicy:
    """Limits of every association."""

    maximum_pdu_bytes: int  #: announced to the peer
    negotiation_s: float  #: for the association request
    idle_s: float  #: without any request, for one PDU, and for taking an answer
    minimum_bytes_per_s: float  #: of a message that is being received


@dataclass(frozen=True, slots=True)
class Services:
    """What every association of a listener works with."""

    handlers: ReceiveHandlers
    commitment: CommitmentHandlers
    spool: Spool
    counter: AssociationCounter
    policy: AssociationPolicy


class AcceptedAssociation:
    """Runs one association on a connected wire.

    Parameters
    ----------
    wire
        The connection; closed in the end.
    origin
        Where it comes from.
    services
        What the listener shares.
    """

    def __init__(self, wire: Wire, origin: Origin, services: Services) -> None:
        self._wire = wire
        self._origin = origin
        self._services = services
        self._request: AssociationRequest | None = None

    def run(self) -> None:
        """Negotiate, serve and end; never raises for what a peer does."""
        try:
            self._run()
        except ProtocolViolation as violation:
            self._abort(violation.reason, str(violation))
        except PduTooLong:
            self._abort(AbortReason.INVALID_PARAMETER, "a PDU is longer than allowed")
        except TimeoutError as error:
            if self._request is None:  # ARTIM: close without a word (PS3.8 Table 9-10, AA-2)
                self._note(AssociationOutcome.ABORTED, "no association request came in time")
            else:
                self._abort(AbortReason.NOT_SPECIFIED, str(error))
        except OSError:
            self._note(AssociationOutcome.ABORTED, "the connection was lost")
        finally:
            self._wire.close()

    # ── negotiation ──────────────────────────────────────────────────────────────────────────

    def _run(self) -> None:
        try:
            request = self._read_request()
        except PduTooLong as error:
            if error.pdu_type != PduType.ASSOCIATE_RQ or error.n_bytes > MAX_DATA_PDU_BYTES:
                raise
            self._reject(TOO_LONG)
            return
        self._request = request
        rejection: Rejection | None = NOT_JUDGED
        is_counted = False
        try:
            rejection = self._services.handlers.judge(request, self._origin)
            if rejection is None:
                is_counted = self._services.counter.try_enter(self._origin.address)
                rejection = None if is_counted else LIMIT_REACHED
        finally:
            if rejection is not None:
                self._reject(rejection)
        try:
            if is_counted:
                self._accept(request)
        finally:
            if is_counted:
                self._services.counter.leave(self._origin.address)

    def _read_request(self) -> AssociationRequest:
        wait_s = self._services.policy.negotiation_s
        pdu_type, body = self._wire.read_pdu(ReadLimits(MAX_REQUEST_BYTES, wait_s, wait_s))
        if pdu_type != PduType.ASSOCIATE_RQ:
            raise _unexpected(pdu_type)
        return decode_request(body)

    def _reject(self, rejection: Rejection) -> None:
        self._note(AssociationOutcome.REJECTED, rejection=rejection)
        self._wire.send(encode_reject(*rejection.codes), self._services.policy.negotiation_s)
        self._wire.drain(CLOSE_S)

    def _accept(self, request: AssociationRequest) -> None:
        answers = negotiate(request)
        policy = self._services.policy
        implementation = (IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME)
        accepted = encode_accept(request, answers, policy.maximum_pdu_bytes, implementation)
        self._wire.send(accepted, policy.negotiation_s)
        self._note(AssociationOutcome.ACCEPTED)
        contexts = {answer.context_id: answer for answer in answers if answer.is_accepted}
        assembler = MessageAssembler(contexts, self._services.spool, request.calling_ae_title)
        try:
            self._serve(request, assembler)
        finally:
            assembler.discard()

    # ── established ──────────────────────────────────────────────────────────────────────────

    def _serve(self, request: AssociationRequest, assembler: MessageAssembler) -> None:
        policy = self._services.policy
        limits = ReadLimits(MAX_DATA_PDU_BYTES, policy.idle_s, policy.idle_s)
        pace = _Pace(policy.minimum_bytes_per_s)
        while True:
            pdu_type, body = self._wire.read_pdu(limits)
            if pdu_type == PduType.DATA_TF:
                pace.check(len(body), is_first=assembler.is_idle)
                for value in data_values(body):
                    message = assembler.take(value)
                    if message is not None:
                        self._serve_message(request, message)
            elif pdu_type == PduType.RELEASE_RQ:
                self._wire.send(encode_release_answer(), policy.idle_s)
                self._note(AssociationOutcome.RELEASED)
                self._wire.drain(CLOSE_S)
                return
            elif pdu_type == PduType.ABORT:
                self._note(AssociationOutcome.ABORTED, "the peer aborted")
                return
            else:
                raise _unexpected(pdu_type)

    def _serve_message(self, request: AssociationRequest, message: Message) -> None:
        answer = self._answer(request, message)
        if answer is None:
            return
        content = encode_answer(message.command, answer)
        pdus = encode_command(message.context.context_id, content, request.maximum_length)
        self._wire.send(pdus, self._services.policy.idle_s)

    def _answer(self, request: AssociationRequest, message: Message) -> Answer | None:
        services, command = self._services, message.command
        if command.field == C_STORE_RQ:
            return services.handlers.store(
                StoreRequest(
                    message.pending,
                    message.context.abstract_syntax,
                    self._origin.address,
                    request.calling_ae_title,
                )
            )
        if command.field == C_ECHO_RQ:
            return Answer(SUCCESS)
        if command.field == N_EVENT_REPORT_RQ:
            syntax = message.context.transfer_syntax
            status = services.commitment.take(command.event_type, message.data_set, syntax)
            return Answer(status)
        if command.field == C_CANCEL_RQ:
            return None  # nothing of ours can be cancelled, and it has no answer (PS3.7 9.3.2.3)
        return Answer(UNRECOGNISED_OPERATION)

    # ── ends ─────────────────────────────────────────────────────────────────────────────────

    def _abort(self, reason: AbortReason, detail: str) -> None:
        self._note(AssociationOutcome.ABORTED, detail)
        try:
            self._wire.send(encode_abort(reason), CLOSE_S)
            self._wire.drain(CLOSE_S)
        except OSError:
            return  # gone already

    def _note(
        self, outcome: AssociationOutcome, reason: str = "", rejection: Rejection | None = None
    ) -> None:
        self._services.handlers.note(outcome, self._origin, self._request, rejection, reason)


class _Pace:
    """The rate of a message that is being received; the time between messages is free."""

    def __init__(self, minimum_bytes_per_s: float) -> None:
        self._minimum_bytes_per_s = minimum_bytes_per_s
        self._started_s = 0.0
        self._n_bytes = 0

    def check(self, n_bytes: int, *, is_first: bool) -> None:
        """Count one PDU; raises `TimeoutError` where the message is too slow."""
        now_s = time.monotonic()
        if is_first:
            self._started_s, self._n_bytes = now_s, 0
        self._n_bytes += n_bytes
        elapsed_s = now_s - self._started_s
        if elapsed_s > PACE_GRACE_S and self._n_bytes < elapsed_s * self._minimum_bytes_per_s:
            raise TimeoutError("a message comes too slowly")


def _unexpected(pdu_type: int) -> ProtocolViolation:
    if pdu_type in set(PduType):
        return ProtocolViolation(AbortReason.UNEXPECTED_PDU, "a PDU came where it has no place")
    return ProtocolViolation(AbortReason.UNRECOGNISED_PDU, "a PDU is of no known type")
