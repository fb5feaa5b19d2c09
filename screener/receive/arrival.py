"""What the receiver tells the rest: an instance was kept, an association did something."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime

    from screener.domain import SpooledInstance
    from screener.receive.header import ReceivedHeader


@dataclass(frozen=True, slots=True)
class ReceivedInstance:
    """One instance on stable storage, to be registered before its sender hears "success"."""

    instance: SpooledInstance
    header: ReceivedHeader
    n_bytes: int  #: of the file
    peer_address: str | None  #: IP address it came from; None where the janitor found it


class AssociationOutcome(StrEnum):
    """What happened to an association."""

    ACCEPTED = "accepted"
    REJECTED = "rejected"  #: refused with a reason
    RELEASED = "released"  #: ended in order
    ABORTED = "aborted"  #: ended by abort, time-out or a lost connection
    DROPPED = "dropped"  #: the connection was closed before anything was read


@dataclass(frozen=True, slots=True)
class AssociationNotice:
    """One thing that happened to an association; for the audit."""

    outcome: AssociationOutcome
    at: datetime
    address: str
    calling_ae_title: str = ""
    called_ae_title: str = ""
    reason: str = ""
    rejection: str = ""  #: result, source and reason of the A-ASSOCIATE-RJ, such as 1/1/3


@dataclass(frozen=True, slots=True)
class RefusalNotice:
    """One instance that was not taken; for the audit."""

    at: datetime
    address: str
    calling_ae_title: str
    status: int  #: what the sender was answered
    reason: str  #: fixed text, no value of the data set
