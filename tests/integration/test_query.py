"""Asking other nodes by C-FIND and C-ECHO: what they hold, and what it means when they fail.

Covers the test PACS and nodes that leave out, break off or refuse. Orthanc is asked in
`test_deliver.py`.
"""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING

import pytest
from pydicom.dataset import Dataset

from screener.deliver.echo import echo
from screener.deliver.query import confirm_objects, count_instances, find_studies
from screener.deliver.scu import store_objects
from screener.errors import DestinationRefused, DestinationUnavailable
from tests.integration.conftest import PATIENCE_S, free_port
from tests.integration.receivers import (
    REPORT,
    STORE_CT,
    STUDY_ROOT_FIND,
    UUID_TEXT,
    dimse_node,
    scripted,
    write_object,
)
from tests.receive_factories import (
    IMPLICIT,
    STUDY_UID,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from pynetdicom.events import Event

    from screener.demo.pacs import DemoPacs

pytestmark = pytest.mark.integration


# ── asking ───────────────────────────────────────────────────────────────────────────────────


def test_studies_of_a_day_are_listed_with_their_size(pacs: DemoPacs, tmp_path: Path) -> None:
    """The day and the modality decide; UUID text for a UID is no obstacle."""
    store_objects(
        dimse_node(pacs.port),
        [
            write_object(tmp_path, 1),
            write_object(tmp_path, 2),
            write_object(tmp_path, 3, StudyInstanceUID=UUID_TEXT),
            write_object(tmp_path, 4, StudyInstanceUID="1.2.4", StudyDate="20260103"),
            write_object(tmp_path, 5, StudyInstanceUID="1.2.5", Modality="DX"),
        ],
    )
    studies = find_studies(dimse_node(pacs.port), date(2026, 1, 2))
    assert {(one.study_instance_uid, one.n_instances) for one in studies} == {
        (STUDY_UID, 2),
        (UUID_TEXT, 1),
    }
    assert {one.modalities for one in studies} == {("CT",)}
    assert find_studies(dimse_node(pacs.port), date(2020, 1, 1)) == ()


def test_size_of_a_study_is_asked(pacs: DemoPacs, tmp_path: Path) -> None:
    """A number where the node knows, None where it does not."""
    store_objects(
        dimse_node(pacs.port),
        [
            write_object(tmp_path, 1, StudyInstanceUID=UUID_TEXT),
            write_object(tmp_path, 2, StudyInstanceUID=UUID_TEXT),
        ],
    )
    assert count_instances(dimse_node(pacs.port), UUID_TEXT) == 2
    assert count_instances(dimse_node(pacs.port), "1.2.3") is None


def test_confirmation_names_what_the_node_holds(pacs: DemoPacs, tmp_path: Path) -> None:
    """Sent is not confirmed: the one that was never sent is not there."""
    objects = [write_object(tmp_path, 1, REPORT), write_object(tmp_path, 2, REPORT)]
    store_objects(dimse_node(pacs.port), objects[:1])
    confirmed = confirm_objects(dimse_node(pacs.port), objects)
    assert confirmed == {objects[0].sop_instance_uid}


def find_answers(*codes: int) -> Callable[[Event], Iterator[tuple[int, Dataset | None]]]:
    def on_find(_: Event) -> Iterator[tuple[int, Dataset | None]]:
        for code in codes:
            answer = Dataset()
            answer.QueryRetrieveLevel = "STUDY"
            answer.StudyInstanceUID = STUDY_UID
            yield code, answer if code == 0xFF00 else None

    return on_find


FIND = (STUDY_ROOT_FIND, [IMPLICIT])


def test_node_that_says_neither_count_nor_modality_is_believed() -> None:
    """Optional attributes may be absent."""
    with scripted(FIND, EVT_C_FIND=find_answers(0xFF00)) as port:
        (study,) = find_studies(dimse_node(port), date(2026, 1, 2))
        assert count_instances(dimse_node(port), STUDY_UID) is None
    assert (study.n_instances, study.modalities, study.study_date) == (None, (), "")


@pytest.mark.parametrize(
    ("code", "error"), [(0xA700, DestinationUnavailable), (0xA900, DestinationRefused)]
)
def test_list_that_is_cut_short_is_an_error_not_a_short_list(
    code: int, error: type[Exception]
) -> None:
    """A failure after the first answer must not look like a day with one study."""
    with (
        scripted(FIND, EVT_C_FIND=find_answers(0xFF00, code)) as port,
        pytest.raises(error, match=f"0x{code:04X}"),
    ):
        find_studies(dimse_node(port), date(2026, 1, 2))


def test_node_that_breaks_off_its_list_is_unavailable() -> None:
    """An abort between answers."""

    def on_find(event: Event) -> Iterator[tuple[int, Dataset | None]]:
        answer = Dataset()
        answer.QueryRetrieveLevel = "STUDY"
        yield 0xFF00, answer
        event.assoc.abort()

    with scripted(FIND, EVT_C_FIND=on_find) as port, pytest.raises(DestinationUnavailable):
        find_studies(dimse_node(port, timeout_s=5), date(2026, 1, 2))


def test_node_without_query_service_is_refused() -> None:
    """It cannot be asked; that is not the same as an empty day."""
    with (
        scripted(STORE_CT) as port,
        pytest.raises(DestinationRefused, match="no study-root C-FIND"),
    ):
        find_studies(dimse_node(port), date(2026, 1, 2))


# ── echo ─────────────────────────────────────────────────────────────────────────────────────


def test_echo_of_a_node_that_hears_us(pacs: DemoPacs) -> None:
    """Yes, with the time it took."""
    result = echo(dimse_node(pacs.port))
    assert result.is_ok
    assert 0 < result.seconds < PATIENCE_S


def test_echo_that_fails_says_what_to_check() -> None:
    """No exception: the answer is the finding."""
    result = echo(dimse_node(free_port(), timeout_s=2))
    assert not result.is_ok
    assert "check host and port" in result.detail


def test_echo_of_a_node_without_the_service() -> None:
    """A node may store and not echo."""
    with scripted(STORE_CT) as port:
        result = echo(dimse_node(port))
    assert not result.is_ok
    assert "does not accept C-ECHO" in result.detail
