"""Variants of a report in the books: stored beside the original, told, then sent instead of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import select

from screener.audit.database import insert_if_absent
from screener.audit.deliveries import held, write_statuses
from screener.audit.delivery_claims import tell
from screener.audit.events import EventKind
from screener.audit.tables import DeliveryObject, ResultObjectRow

if TYPE_CHECKING:
    from collections.abc import Collection
    from datetime import datetime

    from screener.audit.database import Database
    from screener.audit.deliveries import ObjectStatus
    from screener.audit.delivery_claims import ClaimedDelivery
    from screener.audit.results import StoredObject


def add_variant(
    database: Database,
    claim: ClaimedDelivery,
    variant: StoredObject,
    refused: ObjectStatus,
    now: datetime,
) -> None:
    """Note a variant that lies in a file, and that this destination gets it instead.

    Parameters
    ----------
    refused
        What is kept of the object that the destination does not take.

    Raises
    ------
    LostClaim
        Another holds the delivery now; nothing was written.
    """
    with held(database, claim) as (session, delivery):
        values = {
            "sop_instance_uid": variant.sop_instance_uid,
            "run_id": claim.run_id,
            "kind": variant.kind,
            "sop_class_uid": variant.sop_class_uid,
            "series_instance_uid": variant.series_instance_uid,
            "path": str(variant.path),
            "digest": variant.digest,
            "n_bytes": variant.n_bytes,
            "variant_of": refused.sop_instance_uid,
        }
        # Another destination may have needed it before.
        insert_if_absent(session, ResultObjectRow, values)
        for_destination = {
            "delivery_id": claim.delivery_id,
            "sop_instance_uid": variant.sop_instance_uid,
        }
        insert_if_absent(session, DeliveryObject, for_destination)
        write_statuses(session, claim, [refused])
        tell(
            session,
            delivery,
            EventKind.VARIANT_STORED,
            now,
            {
                "sop_instance_uid": variant.sop_instance_uid,
                "sop_class_uid": variant.sop_class_uid,
                "variant_of": refused.sop_instance_uid,
                "digest": variant.digest,
                "detail": refused.comment,
            },
        )


def find_results(database: Database, sop_instance_uids: Collection[str]) -> frozenset[str]:
    """Give those of the UIDs that name result objects of ours."""
    statement = select(ResultObjectRow.sop_instance_uid).where(
        ResultObjectRow.sop_instance_uid.in_(sop_instance_uids)
    )
    with database.session() as session:
        return frozenset(session.scalars(statement))
