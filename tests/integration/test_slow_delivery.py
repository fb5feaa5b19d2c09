"""A delivery that takes longer than its lease: kept by who works on it, and sent once."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import select

from screener.audit.backoff import RetryPolicy
from screener.audit.delivery_sweep import expire_delivery_leases
from screener.audit.tables import Delivery
from screener.daemon.deliveries import deliver
from screener.daemon.site import open_site, utc_now
from screener.domain import DeliveryState
from tests.integration.conftest import PATIENCE_S, wait_until
from tests.integration.receivers import scripted, settings_for
from tests.integration.test_commitment import STORE, report_with_files

if TYPE_CHECKING:
    from datetime import datetime
    from pathlib import Path

    from pynetdicom.events import Event

    from screener.daemon.site import Site

pytestmark = pytest.mark.integration

LEASE_S = 2.0


def lease_end(site: Site, delivery_id: str) -> datetime | None:
    with site.database.session() as session:
        return session.scalar(
            select(Delivery.lease_expires_at).where(Delivery.delivery_id == delivery_id)
        )


def test_delivery_longer_than_its_lease_is_sent_once(tmp_path: Path) -> None:
    """While the first sender waits for its answer nobody else may take the delivery."""
    asked, answer = threading.Event(), threading.Event()
    offered: list[str] = []

    def on_store(event: Event) -> int:
        offered.append(str(event.request.AffectedSOPInstanceUID))
        asked.set()
        answer.wait(PATIENCE_S)
        return 0x0000

    with scripted(*STORE, EVT_C_STORE=on_store) as port:
        settings = settings_for(tmp_path, port, confirm="none")
        site = open_site(
            settings.model_copy(
                update={"delivery": settings.delivery.model_copy(update={"lease_s": LEASE_S})}
            )
        )
        run_id, delivery_id = report_with_files(site, tmp_path)
        sender = threading.Thread(target=deliver, args=(site, delivery_id))
        sender.start()
        assert asked.wait(PATIENCE_S)
        first_end = lease_end(site, delivery_id)
        assert first_end is not None
        policy = RetryPolicy(0.01, 0.01)

        def is_past_its_lease() -> bool:
            assert expire_delivery_leases(site.database, utc_now(), policy) == ()
            deliver(site, delivery_id)  # another sender: finds nothing to take
            return utc_now() > first_end

        wait_until(is_past_its_lease)
        answer.set()
        sender.join(PATIENCE_S)
    assert len(offered) == len(set(offered)) == 2
    with site.database.session() as session:
        row = session.get_one(Delivery, delivery_id)
        assert (row.state, row.attempt, row.run_id) == (DeliveryState.SENT, 1, run_id)
