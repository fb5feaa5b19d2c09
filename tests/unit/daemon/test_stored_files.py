"""What is screened is what was acknowledged, what is sent is what was stored."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from screener.audit.queries import run_status
from screener.audit.results import finish_run
from screener.daemon.deliveries import deliver
from screener.daemon.site import Site, open_site, utc_now
from screener.daemon.stored_files import check_inputs, damaged_inputs
from screener.digest import content_digest
from screener.domain import DeliveryState, SpooledStudy
from screener.errors import SpoolDamaged, SpoolFull
from screener.settings import Settings
from tests.audit_factories import STUDY, claim, make_instance, make_results, queue_run
from tests.receive_factories import write_ct

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def site(node_folder: Path) -> Site:
    return open_site(
        Settings.model_validate(
            {
                "data_dir": node_folder,
                "destinations": [
                    {"name": "pacs", "ae_title": "PACS", "host": "127.0.0.1", "port": 9},
                ],
            }
        )
    )


def spooled(folder: Path, n_instances: int = 3) -> SpooledStudy:
    files = [write_ct(folder, number) for number in range(1, n_instances + 1)]
    instances = tuple(
        replace(make_instance(number), path=file.path, content_digest=content_digest(file.content))
        for number, file in enumerate(files, start=1)
    )
    return SpooledStudy(STUDY, instances)


def test_files_as_received_may_be_screened(tmp_path: Path) -> None:
    """Nothing was touched."""
    check_inputs(spooled(tmp_path))


@pytest.mark.parametrize("damage", ["one-bit", "shorter", "nothing", "other", "gone", "folder"])
def test_file_that_changed_is_not_screened(tmp_path: Path, damage: str) -> None:
    """One bit of one pixel is enough; the text says how many, and what to do."""
    study = spooled(tmp_path)
    path = study.instances[1].path
    content = path.read_bytes()
    path.unlink()
    if damage == "folder":
        path.mkdir()
    elif damage != "gone":
        changed = content[:-1] + bytes([content[-1] ^ 1])
        kinds = {"one-bit": changed, "shorter": content[:-2], "nothing": b"", "other": b"x" * 9}
        path.write_bytes(kinds[damage])
    assert damaged_inputs(study) == (study.instances[1],)
    with pytest.raises(SpoolDamaged, match=r"1 of 3 files .* use `screener retry`"):
        check_inputs(study)


def test_spool_that_cannot_be_read_now_is_tried_again(tmp_path: Path) -> None:
    """A path through a file that is none, a loop of links: the disk may come back."""
    study = spooled(tmp_path, 1)
    path = study.instances[0].path
    path.unlink()
    path.symlink_to(path)
    with pytest.raises(SpoolFull, match="cannot be read"):
        check_inputs(study)


@pytest.mark.parametrize("damage", ["changed", "gone", "no-objects"])
def test_result_that_changed_is_not_sent(site: Site, tmp_path: Path, damage: str) -> None:
    """The delivery stops visibly, and no destination is called."""
    claimed = claim(site.database, queue_run(site.database))
    results = make_results(claimed)
    paths = [tmp_path / f"{number}.dcm" for number in range(len(results.objects))]
    for path in paths:
        path.write_bytes(b"other bytes than were stored")
    if damage == "gone":
        paths[0].unlink()
    objects = tuple(
        replace(one, path=path) for one, path in zip(results.objects, paths, strict=True)
    )
    (delivery_id,) = finish_run(
        site.database, claimed, replace(results, objects=objects), utc_now()
    )
    if damage == "no-objects":
        with site.database.engine.connect() as connection:
            connection.exec_driver_sql("COMMIT")
            connection.exec_driver_sql("DELETE FROM delivery_objects")
    deliver(site, delivery_id)
    status = run_status(site.database, claimed.run_id)
    assert status is not None
    (stopped,) = status.deliveries
    assert stopped.state is DeliveryState.DEAD
    assert "`screener reprocess`" in (stopped.detail or "")
