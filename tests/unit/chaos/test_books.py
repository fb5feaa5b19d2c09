"""The checks of ``make chaos`` can fail: each finds the harm that was done on purpose."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import pytest

from screener.audit.database import Database
from screener.audit.ledger import register_instance
from screener.digest import content_digest
from screener.receive.part10 import FileMeta, encode_file_meta
from tests.audit_factories import STUDY, make_instance, make_received
from tests.chaos.books import check_acknowledged, check_archives, check_files
from tests.chaos.faults import FAULTS

if TYPE_CHECKING:
    from pathlib import Path


@dataclass
class Books:
    """A database with one instance, and its file."""

    url: str
    path: Path
    digest: str

    @property
    def store(self) -> Path:
        return self.path.parent.parent


@pytest.fixture
def books(tmp_path: Path) -> Books:
    """Receive one instance."""
    content = b"a data set, as it was sent"
    digest = content_digest(content)
    path = tmp_path / "store" / digest[:2] / f"{digest}.dcm"
    path.parent.mkdir(parents=True)
    path.write_bytes(encode_file_meta(FileMeta("1.2", "1.2.3", "1.2.840.10008.1.2.1")) + content)
    url = f"sqlite:///{tmp_path / 'audit.sqlite3'}"
    database = Database(url)
    database.upgrade()
    instance = replace(make_instance(), content_digest=digest, path=path)
    register_instance(database, make_received(instance), instance.received_at)
    database.dispose()
    return Books(url, path, digest)


def test_what_was_acknowledged_and_is_held_is_in_order(books: Books) -> None:
    """Nothing is reported where nothing is wrong."""
    assert check_acknowledged(books.url, {(STUDY, books.digest)}) == []
    assert check_files(books.store) == []
    assert check_archives(books.url, []) == []


def test_acknowledged_instance_without_a_row_is_found(books: Books) -> None:
    """The sender remembers an instance that the database does not know."""
    (found,) = check_acknowledged(books.url, {(STUDY, "0" * 64)})
    assert "no row" in found


@pytest.mark.parametrize("harm", ["deleted", "torn"])
def test_acknowledged_instance_without_its_bytes_is_found(books: Books, harm: str) -> None:
    """A file that is gone, or that lost its end, breaks the promise."""
    if harm == "deleted":
        books.path.unlink()
    else:
        books.path.write_bytes(books.path.read_bytes()[:-1])
        (torn,) = check_files(books.store)
        assert books.path.name in torn
    (found,) = check_acknowledged(books.url, {(STUDY, books.digest)})
    assert "not on disk as sent" in found


@dataclass
class OfferedArchive:
    """An archive that remembers what was offered to it, and holds nothing."""

    offered: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))

    def received(self) -> tuple[object, ...]:
        return ()


def test_two_contents_under_one_uid_are_found(books: Books) -> None:
    """A retry that sends other bytes under the same UID breaks the promise."""
    archive = OfferedArchive()
    archive.offered["1.2.3"] |= {"first", "second"}
    (found,) = check_archives(books.url, [archive])  # type: ignore[list-item]
    assert "two contents" in found


def test_faults_are_numbered_once() -> None:
    """A number names one fault, so that a chaos run can be repeated by it."""
    numbers = [fault.number for fault in FAULTS]
    assert len(set(numbers)) == len(numbers)
