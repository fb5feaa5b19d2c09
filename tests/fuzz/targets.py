"""What is fuzzed, with what it may do: one function for each door that strangers' bytes come to.

A target takes bytes and returns; it raises only what its door is known to raise, which it catches.
Anything else that comes out, more than `MOST_S` of processor time or `MOST_BYTES` of memory is a
finding. `hypothesis` drives them in the tests and `python -m tests.fuzz` for as long as wished.
"""

from __future__ import annotations

import atexit
import io
import shutil
import socket
import struct
import tempfile
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path

from screener.errors import RefusedInstance
from screener.receive.commitment import read_report
from screener.receive.contexts import ACCEPTED_SYNTAXES
from screener.receive.dimse import Answer, decode_command, encode_answer
from screener.receive.elements import MalformedDataSet
from screener.receive.header import CommandIdentity, parse_header
from screener.receive.messages import MessageAssembler
from screener.receive.negotiation import ContextAnswer, negotiate
from screener.receive.part10 import read_file_meta
from screener.receive.spool import Spool
from screener.receive.upper_layer import (
    PduType,
    ProtocolViolation,
    data_values,
    decode_request,
    encode_accept,
    encode_command,
)
from screener.receive.wire import ReadLimits, Wire
from tests.receive_factories import CT_IMAGE, EXPLICIT, IMPLICIT, SERIES_UID, ct_bytes, reader_of

#: Most processor time of one input, in seconds.
MOST_S = 2.0
#: Most memory that one input may add, in bytes.
MOST_BYTES = 256 * 1024 * 1024

Target = Callable[[bytes], None]

_LIMITS = ReadLimits(1024 * 1024, idle_s=0.01, whole_s=0.01)
_CONTEXTS = {1: ContextAnswer(1, CT_IMAGE, EXPLICIT, 0)}


def pdu_framing(content: bytes) -> None:
    """Bytes on a connection to PDUs, and each PDU to what it says."""
    ours, theirs = socket.socketpair()
    wire, assembler = Wire(ours), MessageAssembler(_CONTEXTS, _spool(), "CT1")
    with theirs:
        theirs.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 * 1024 * 1024)
        theirs.settimeout(1)
        try:
            theirs.sendall(content[: 200 * 1024])
            theirs.shutdown(socket.SHUT_WR)
            while True:
                pdu_type, body = wire.read_pdu(_LIMITS)
                _read(pdu_type, body, assembler)
        except (OSError, ProtocolViolation):
            return  # what a door may raise
        finally:
            assembler.discard()
            wire.close()


@cache
def _spool() -> Spool:
    folder = Path(tempfile.mkdtemp(prefix="screener-fuzz-"))
    atexit.register(shutil.rmtree, folder)
    return Spool(folder, 0)


def _read(pdu_type: int, body: memoryview, assembler: MessageAssembler) -> None:
    if pdu_type == PduType.ASSOCIATE_RQ:
        request = decode_request(body)
        answers = negotiate(request)
        assert len(answers) == len(request.contexts)
        encode_accept(request, answers, 131072, ("1.2.3", "FUZZ"))
    elif pdu_type == PduType.DATA_TF:
        for value in data_values(body):
            message = assembler.take(value)
            if message is not None and message.pending is not None:
                _spool().discard(message.pending)


def association_request(content: bytes) -> None:
    """The variable part of an A-ASSOCIATE-RQ."""
    try:
        request = decode_request(memoryview(content))
    except ProtocolViolation:
        return
    answers = negotiate(request)
    encoded = encode_accept(request, answers, 131072, ("1.2.3", "FUZZ"))
    assert struct.unpack_from(">L", encoded, 2)[0] == len(encoded) - 6


def command_set(content: bytes) -> None:
    """A DIMSE command set, and the answer to it."""
    try:
        command = decode_command(content)
    except ProtocolViolation:
        return
    answer = encode_answer(command, Answer(0x0000))
    for length in (0, 1, 7, 128, 16384):
        encode_command(1, answer, length)


def header_parse(content: bytes) -> None:
    """An encoded data set to who it is; the first byte chooses the transfer syntax."""
    if not content:
        return
    syntax = ACCEPTED_SYNTAXES[content[0] % len(ACCEPTED_SYNTAXES)].transfer_syntax_uid
    body = content[1:]
    command = CommandIdentity(CT_IMAGE, f"{SERIES_UID}.1")
    try:
        header = parse_header(reader_of(body), len(body), syntax, command, b"salt")
    except RefusedInstance as refusal:
        if refusal.status not in {0x0117, 0xA900, 0xC000}:
            raise
        return
    assert header.study_instance_uid
    assert header.series_instance_uid
    assert "\\" not in header.study_instance_uid + header.series_instance_uid


def validation(content: bytes) -> None:
    """Bytes over the values of an ordinary slice: quarantined, refused, or what it was."""
    whole = bytearray(b"\x00" + ct_bytes())
    for at in range(0, len(content) - 2, 3):
        place, value = struct.unpack_from("<HB", content, at)
        whole[1 + place % (len(whole) - 1)] = value
    header_parse(bytes(whole))


def file_meta(content: bytes) -> None:
    """The beginning of a file in the spool, as the janitor reads it."""
    try:
        read_file_meta(io.BytesIO(content))
    except ValueError:
        return


def commitment_report(content: bytes) -> None:
    """The result of a storage commitment; the first byte chooses the transfer syntax."""
    syntax = IMPLICIT if content[:1] == b"\x01" else EXPLICIT
    try:
        report = read_report(content[1:], syntax)
    except MalformedDataSet:
        return
    assert all(uid for uid in report.committed)
    assert all(uid and 0 <= reason < 1 << 16 for uid, reason in report.failures)


TARGETS: Mapping[str, Target] = {
    target.__name__: target
    for target in (
        pdu_framing,
        association_request,
        command_set,
        header_parse,
        validation,
        file_meta,
        commitment_report,
    )
}
