"""Instances that are registered together end as those that are registered one after another."""

from __future__ import annotations

import random
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import select, text

from screener.audit.group_commit import GroupRegistrar
from screener.audit.ledger import Registration, register_instance
from screener.audit.registration import ReceivedInstance, register_all
from screener.audit.tables import Event, Instance, Series, Study
from screener.audit.upkeep_tables import TrailCount
from screener.errors import DatabaseUnavailable
from tests.audit_factories import (
    COMPREHENSIVE_3D_SR,
    NOW,
    STUDY,
    complete,
    make_instance,
    make_received,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from screener.audit.database import Database

N_THREADS = 8
#: What no database takes as text: a lone surrogate.
UNENCODABLE = "\ud800"


def everything(database: Database) -> dict[str, list[tuple[Any, ...]]]:
    """Give every row that a registration may write; running numbers count, times do not differ."""
    with database.engine.connect() as connection:
        return {
            table.__tablename__: [tuple(row) for row in connection.execute(select(table.__table__))]
            for table in (Study, Series, Instance, Event, TrailCount)
        }


def arrivals(seed: int) -> list[ReceivedInstance]:
    """Draw what senders do: slices, duplicates, conflicts, results of ours, strays, quarantine."""
    draw = random.Random(seed)  # noqa: S311 - a draw for a test
    batch = []
    for _ in range(40):
        number = draw.randint(1, 6)
        study = f"{STUDY}.{draw.randint(1, 2)}"
        instance = make_instance(
            number,
            study=study,
            series=draw.choice([study + ".1", study + ".1", STUDY + ".shared"]),
            content=draw.choice([None, None, f"other {number}"]),
            calling_ae_title=draw.choice(["SCANNER", "SCANNER", "OTHER"]),
            sop_class=draw.choice([make_instance().sop_class_uid] * 4 + [COMPREHENSIVE_3D_SR]),
        )
        batch.append(
            make_received(
                instance,
                patient_id_digest=draw.choice(["5a17"] * 5 + ["other"]),
                is_own_result=instance.sop_class_uid == COMPREHENSIVE_3D_SR and draw.random() < 0.5,
                is_stat=draw.random() < 0.1,
                is_non_conformant=draw.random() < 0.1,
                quarantine_reason=draw.choice([None] * 6 + ["pixels-too-short"]),
            )
        )
    return batch


@pytest.mark.parametrize("seed", range(6))
def test_batch_writes_what_single_registrations_write(
    seed: int, open_database: Callable[[], Database]
) -> None:
    """However arrivals are cut into transactions, every row and every answer is the same."""
    # One study after another, as a batch takes them; within a study the order of arrival.
    batch = sorted(arrivals(seed), key=lambda one: one.instance.study_instance_uid)
    one_by_one, together = open_database(), open_database()
    expected = [register_instance(one_by_one, one, NOW) for one in batch]
    draw, found = random.Random(seed), list[Registration]()  # noqa: S311
    while len(found) < len(batch):
        part = batch[len(found) : len(found) + draw.randint(1, 12)]
        found += register_all(together, part, NOW)
    assert found == expected
    assert len(set(found)) > 1
    assert everything(together) == everything(one_by_one)


def test_batch_opens_a_completed_study_once(database: Database) -> None:
    """Late instances of one batch make one new generation, told once."""
    register_instance(database, make_received(make_instance(1)), NOW)
    complete(database)
    register_all(database, [make_received(make_instance(number)) for number in (2, 3, 4)], NOW)
    rows = everything(database)
    assert [row[2] for row in rows["studies"]] == [2]
    assert sum("study_reopened" in row for row in rows["events"]) == 1


def register_at_once(
    registrar: GroupRegistrar, batch: Sequence[ReceivedInstance]
) -> list[Registration | Exception]:
    """Register each from a thread of its own."""
    barrier = threading.Barrier(len(batch))

    def register(received: ReceivedInstance) -> Registration | Exception:
        barrier.wait(60)
        try:
            return registrar.register(received)
        except (DatabaseUnavailable, ValueError) as error:
            return error

    with ThreadPoolExecutor(len(batch)) as pool:
        return list(pool.map(register, batch))


def test_those_who_wait_together_commit_together(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While one commit is on its way the others gather; the next commit takes them all."""
    sizes: list[int] = []
    others_wait = threading.Event()

    def slow(database: Database, batch: Sequence[ReceivedInstance], now: Any) -> Any:
        sizes.append(len(batch))
        if len(sizes) == 1:
            others_wait.wait(60)
        return register_all(database, batch, now)

    monkeypatch.setattr("screener.audit.group_commit.register_all", slow)
    registrar = GroupRegistrar(database, lambda: NOW)
    batch = [make_received(make_instance(number)) for number in range(1, N_THREADS + 1)]

    def wait_for_all() -> None:
        while len(registrar._waiting) < N_THREADS - 1:
            threading.Event().wait(0.01)
        others_wait.set()

    watcher = threading.Thread(target=wait_for_all)
    watcher.start()
    assert register_at_once(registrar, batch) == [Registration.NEW] * N_THREADS
    watcher.join()
    assert sizes == [1, N_THREADS - 1]
    assert len(everything(database)["instances"]) == N_THREADS


def test_one_that_breaks_a_rule_costs_no_other(database: Database) -> None:
    """An instance that no transaction takes fails alone; those beside it are committed."""
    registrar = GroupRegistrar(database, lambda: NOW)
    batch = [make_received(make_instance(number)) for number in range(1, N_THREADS)]
    broken = make_received(make_instance(99, calling_ae_title=UNENCODABLE))
    for _ in range(3):  # whoever leads the batch, and whatever is in it
        answers = register_at_once(registrar, [*batch, broken])
        assert isinstance(answers.pop(), ValueError)
        assert [answer for answer in answers if isinstance(answer, Exception)] == []
    assert len(everything(database)["instances"]) == len(batch)


def test_nothing_is_committed_without_a_database(database: Database) -> None:
    """Every waiting sender hears that the database is away, and the next one after it is back."""
    registrar = GroupRegistrar(database, lambda: NOW)
    with database.engine.begin() as connection:
        connection.execute(text("ALTER TABLE instances RENAME TO gone"))
    batch = [make_received(make_instance(number)) for number in range(1, N_THREADS + 1)]
    answers = register_at_once(registrar, batch)
    assert all(isinstance(answer, DatabaseUnavailable) for answer in answers)
    with database.engine.begin() as connection:
        connection.execute(text("ALTER TABLE gone RENAME TO instances"))
    assert everything(database)["studies"] == []
    assert register_at_once(registrar, batch) == [Registration.NEW] * N_THREADS
