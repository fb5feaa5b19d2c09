"""The promise, checked from outside: by the sender's memory, the files, the archive, the database.

Nothing here trusts the node's own accounting; that is asked too, and must agree.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import select

from screener.audit.database import Database
from screener.audit.tables import DeliveryObject, Instance, ResultObjectRow, Run
from screener.digest import content_digest
from screener.domain import ResultKind, RunState
from tests.integration.processes import wait_until
from tests.integration.receivers import data_set_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.chaos.archive import Archive
    from tests.chaos.modality import ChaosStudy, Modality
    from tests.chaos.node import ChaosNode

#: Longest time from the end of a fault to the last report, in seconds; for a failing run only.
SETTLED_S = 900.0
_FINAL = {"confirmed", "failed", "superseded"}


def wait_until_settled(node: ChaosNode, studies: Sequence[ChaosStudy]) -> None:
    """Wait until the newest run of every study is confirmed, or has visibly failed."""

    def is_settled() -> bool:
        found = [node.status(study.study_instance_uid) for study in studies]
        return all(
            one is not None
            and one.state.value != "receiving"
            and one.run is not None
            and (
                one.run.state.value in _FINAL
                or any(delivery.state.value == "dead" for delivery in one.run.deliveries)
            )
            for one in found
        )

    wait_until(is_settled, "every study is reported or visibly stopped", SETTLED_S)


def check_books(
    node: ChaosNode,
    modalities: Sequence[Modality],
    archives: Sequence[Archive],
    studies: Sequence[ChaosStudy],
    *,
    may_fail: bool = False,
) -> list[str]:
    """Give every broken promise, in words; an empty list is what is wanted.

    Parameters
    ----------
    may_fail
        Whether a study may end as *failed* with a reason; else each must be confirmed.
    """
    broken = [
        *check_acknowledged(
            node.services.database_url,
            {one for modality in modalities for one in modality.acknowledged},
        ),
        *check_files(node.data / "spool" / "store"),
        *_check_runs(node, studies, may_fail=may_fail),
        *check_archives(node.services.database_url, archives),
    ]
    accounting = node.screener("doctor", "--accounting", "--json")
    if accounting.returncode != 0:
        broken.append(f"screener doctor --accounting: {accounting.stdout}{accounting.stderr}")
    verified = node.screener("audit", "verify", "--json")
    if verified.returncode != 0:
        broken.append(f"screener audit verify: {verified.stdout}{verified.stderr}")
    return broken


def check_acknowledged(database_url: str, promised: set[tuple[str, str]]) -> list[str]:
    """Whatever was answered with success has one row, and a file with exactly these bytes.

    Parameters
    ----------
    promised
        Study Instance UID and content digest of each data set as it was sent.
    """
    database = Database(database_url)
    try:
        with database.session() as session:
            rows = session.execute(
                select(Instance.study_instance_uid, Instance.content_digest, Instance.path)
            ).all()
    finally:
        database.dispose()
    held = {(row.study_instance_uid, row.content_digest): row.path for row in rows}
    broken = [f"acknowledged, but no row: {one}" for one in sorted(promised - set(held))]
    if len(rows) != len(held):
        broken.append(f"{len(rows)} rows for {len(held)} instances")
    for identity in sorted(promised & set(held)):
        path = Path(held[identity])
        content = data_set_of(path) if path.is_file() else b""
        if content_digest(content) != identity[1]:
            broken.append(f"acknowledged, but not on disk as sent: {identity}")
    return broken


def check_files(store: Path) -> list[str]:
    """No file under a final name is torn: its name is the digest of what is in it."""
    return [
        f"torn file {path.name}"
        for path in sorted(store.glob("*/*.dcm"))
        if content_digest(data_set_of(path)) != path.stem
    ]


def _check_runs(node: ChaosNode, studies: Sequence[ChaosStudy], *, may_fail: bool) -> list[str]:
    """Each study ends with one living result; each run that reported has one report."""
    broken = []
    for study in studies:
        status = node.status(study.study_instance_uid)
        if status is None or status.run is None:
            broken.append(f"{study.study_instance_uid}: no run")
            continue
        run = status.run
        if run.state is RunState.FAILED and may_fail and run.last_error:
            continue
        if run.state is not RunState.CONFIRMED:
            details = [
                f"{one.destination} {one.state.value}: {one.detail}" for one in run.deliveries
            ]
            broken.append(
                f"{study.study_instance_uid}: run {run.version} is {run.state.value} after "
                f"{run.attempt} attempts ({run.last_error}; {'; '.join(details)})"
            )
    return broken


def check_archives(database_url: str, archives: Sequence[Archive]) -> list[str]:
    """What the database calls stored is there with the same bytes; one content for each UID."""
    database = Database(database_url)
    try:
        with database.session() as session:
            reports = session.execute(
                select(ResultObjectRow.run_id, ResultObjectRow.sop_instance_uid).where(
                    ResultObjectRow.kind == ResultKind.STRUCTURED_REPORT
                )
            ).all()
            stored = set(
                session.scalars(
                    select(DeliveryObject.sop_instance_uid).where(
                        DeliveryObject.outcome.in_(("stored", "stored-with-warning"))
                    )
                )
            )
            confirmed_runs = set(
                session.scalars(select(Run.run_id).where(Run.state == RunState.CONFIRMED))
            )
    finally:
        database.dispose()
    broken = []
    for archive in archives:
        several = [uid for uid, contents in archive.offered.items() if len(contents) > 1]
        broken += [f"two contents were offered under {uid}" for uid in several]
        held = {one.sop_instance_uid for one in archive.received()}
        needed = {
            row.sop_instance_uid
            for row in reports
            if row.run_id in confirmed_runs and row.sop_instance_uid in stored
        }
        broken += [f"confirmed report {uid} is not in the archive" for uid in needed - held]
    per_run: dict[str, int] = {}
    for row in reports:
        per_run[row.run_id] = per_run.get(row.run_id, 0) + 1
    broken += [f"run {run_id} has {n} reports" for run_id, n in per_run.items() if n != 1]
    return broken
