"""Where fuzzing starts: honest inputs of every target, and those that once were findings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from screener.receive.part10 import FileMeta, encode_file_meta
from tests.integration.raw_peer import command, context, data_pdu, item, pdu, request_pdu
from tests.receive_factories import (
    CT_IMAGE,
    EXPLICIT,
    IMPLICIT,
    ct_bytes,
    ct_dataset,
    encode,
    report_dataset,
)

_ECHO = command(0x0030)
#: (0008,1140) SQ of undefined length, and an item of undefined length.
_NEST = bytes.fromhex("0800401153510000fffffffffeff00e0ffffffff")

SEEDS: Mapping[str, Sequence[bytes]] = {
    "pdu_framing": (
        request_pdu(),
        request_pdu([context(1), context(3, "1.2.840.10008.1.20.1")]) + pdu(5, bytes(4)),
        data_pdu(1, 3, _ECHO) + data_pdu(1, 3, command(1, data_set_type=1)) + data_pdu(1, 2, b"x"),
        pdu(7, bytes(4)),
    ),
    "association_request": (
        request_pdu()[6:],
        request_pdu(user_items=item(0x58, bytes((1, 1, 0, 2)) + b"me" + bytes(2)))[6:],
        request_pdu(user_items=item(0x54, b"\x00\x051.2.3\x00\x01"))[6:],
    ),
    "command_set": (_ECHO, command(1, data_set_type=1), command(0x0100), command(0x0FFF)),
    "header_parse": (
        b"\x00" + ct_bytes(),
        b"\x01" + encode(ct_dataset(), IMPLICIT),
        b"\x02" + ct_bytes(PixelData=None) + bytes.fromhex("e07f10004f420000ffffffff"),
        b"\x00" + _NEST * 100,
    ),
    "validation": (b"", bytes(30), bytes(range(90))),
    "file_meta": (encode_file_meta(FileMeta(CT_IMAGE, "1.2.3", EXPLICIT, "CT1")) + ct_bytes(),),
    "commitment_report": (
        b"\x00" + encode(report_dataset()),
        b"\x01" + encode(report_dataset(), IMPLICIT),
        b"\x00" + encode(report_dataset(is_undefined=True)),
    ),
}
