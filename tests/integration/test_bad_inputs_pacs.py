"""Bad input 60: a PACS that does everything wrong, from the stored result to the delivery's end.

Each row of the table: refused, busy, warned, silent, an answer to another question, aborted, closed
in the middle of an answer. What is offered is the same instance with the same bytes every time.
"""

from __future__ import annotations

import socket
import threading
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest
from pynetdicom.dimse_primitives import C_STORE

from screener.daemon.deliveries import deliver
from screener.daemon.site import open_site
from screener.digest import content_digest
from screener.domain import DeliveryState
from tests.integration.conftest import PATIENCE_S, wait_until
from tests.integration.receivers import REPORT, SEGMENTATION, SYNTAXES, scripted, settings_for
from tests.integration.test_commitment import delivery_of, report_with_files

if TYPE_CHECKING:
    from pathlib import Path

    from pynetdicom.events import Event

pytestmark = pytest.mark.integration

STORE = ((REPORT, SYNTAXES), (SEGMENTATION, SYNTAXES))


@dataclass
class WrongPacs:
    """Does one wrong thing until it is healed, and remembers what it was offered."""

    wrong: str | int
    is_healed: bool = False
    offered: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    released: threading.Event = field(default_factory=threading.Event)

    def on_store(self, event: Event) -> int:
        uid = str(event.request.AffectedSOPInstanceUID)
        content = event.encoded_dataset(include_meta=False)
        self.offered[uid].add(content_digest(content))
        if self.is_healed:
            return 0x0000
        if isinstance(self.wrong, int):
            return self.wrong
        getattr(self, f"_{self.wrong}")(event)
        return 0xA700

    def _silence(self, _: Event) -> None:
        self.released.wait(PATIENCE_S)

    def _abort(self, event: Event) -> None:
        event.assoc.abort()

    def _close(self, event: Event) -> None:
        connection: Any = event.assoc.dul.socket
        connection.socket.send(b"\x04\x00\x00\x00\x01\x00")  # a P-DATA-TF that ends in its head
        connection.socket.shutdown(socket.SHUT_RDWR)

    def _wrong_id(self, event: Event) -> None:
        answer = C_STORE()
        answer.MessageIDBeingRespondedTo = event.request.MessageID + 7
        answer.AffectedSOPClassUID = event.request.AffectedSOPClassUID
        answer.AffectedSOPInstanceUID = event.request.AffectedSOPInstanceUID
        answer.Status = 0x0000
        event.assoc.dimse.send_msg(answer, event.context.context_id)


@pytest.mark.parametrize(
    ("wrong", "ends_as"),
    [
        (0xA700, DeliveryState.RETRYING),
        (0xC000, DeliveryState.DEAD),
        (0xB000, DeliveryState.SENT),
        ("silence", DeliveryState.RETRYING),
        ("wrong_id", DeliveryState.RETRYING),
        ("abort", DeliveryState.RETRYING),
        ("close", DeliveryState.RETRYING),
    ],
    ids=["0xA700", "0xC000", "0xB000", "no-answer", "wrong-message-id", "abort", "closed"],
)
def test_input_60_pacs_that_answers_wrongly(
    tmp_path: Path, wrong: str | int, ends_as: DeliveryState
) -> None:
    """Tried again, refused or taken as the table says; and once the PACS is well, taken once."""
    pacs = WrongPacs(wrong)
    with scripted(*STORE, EVT_C_STORE=pacs.on_store) as port:
        site = open_site(settings_for(tmp_path, port, confirm="none", timeout_s=2.0))
        run_id, delivery_id = report_with_files(site, tmp_path)
        try:
            deliver(site, delivery_id)
        finally:
            pacs.released.set()
        delivery = delivery_of(site, run_id)
        assert delivery.state is ends_as
        if ends_as is not DeliveryState.SENT:
            assert delivery.detail
        pacs.is_healed = True
        if ends_as is DeliveryState.RETRYING:

            def is_sent() -> bool:
                deliver(site, delivery_id)
                return delivery_of(site, run_id).state is DeliveryState.SENT

            wait_until(is_sent)
    assert len(pacs.offered) <= 2  # one report, one segmentation, whatever happened
    assert all(len(contents) == 1 for contents in pacs.offered.values())
