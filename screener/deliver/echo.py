"""Ask a node whether it hears us."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pynetdicom.presentation import build_context

from screener.deliver.association import IMPLICIT_VR_LITTLE_ENDIAN, associated, describe
from screener.errors import DestinationRefused, DestinationUnavailable

if TYPE_CHECKING:
    from screener.domain import DimseNode

#: Verification Service (PS3.4 Annex A).
_VERIFICATION = "1.2.840.10008.1.1"


@dataclass(frozen=True, slots=True)
class EchoResult:
    """What a C-ECHO found out."""

    is_ok: bool
    seconds: float  #: from connecting to the answer
    detail: str  #: one sentence: what is wrong and what to look at, or that it answered


def echo(node: DimseNode) -> EchoResult:
    """Send one C-ECHO; a failure is a result here, not an error."""
    started_s = time.monotonic()
    try:
        with associated(node, [build_context(_VERIFICATION, IMPLICIT_VR_LITTLE_ENDIAN)]) as assoc:
            answer = assoc.send_c_echo() if assoc.is_established else None
    except (DestinationUnavailable, DestinationRefused) as error:
        return EchoResult(False, time.monotonic() - started_s, str(error))
    seconds = time.monotonic() - started_s
    if answer is None:
        return EchoResult(False, seconds, f"{describe(node)} does not accept C-ECHO")
    if "Status" not in answer:
        return EchoResult(False, seconds, f"{describe(node)} did not answer the C-ECHO")
    status = int(answer.Status)
    if status:
        return EchoResult(False, seconds, f"{describe(node)} answered 0x{status:04X}")
    return EchoResult(True, seconds, f"{describe(node)} answered")
