"""Bad inputs 43 to 50: what the ledger makes of instances that contradict each other.

A number names the input in every test of the project. Does not cover: what the report then says.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest

from screener.audit.accounting import accounting
from screener.audit.ledger import expect_instances, load_study, open_studies, register_instance
from screener.audit.quarantine import (
    count_quarantined,
    find_quarantined,
    list_quarantined,
    release_quarantined,
)
from screener.audit.queries import study_status
from screener.audit.registration import Registration
from screener.audit.story import why
from screener.domain import StudyState
from screener.errors import WrongUse
from tests.audit_factories import (
    COMPREHENSIVE_3D_SR,
    NOW,
    STUDY,
    after,
    complete,
    make_instance,
    make_received,
)

if TYPE_CHECKING:
    from screener.audit.database import Database

OTHER_STUDY = STUDY + "7"


def kinds_of(database: Database, study: str = STUDY) -> list[str]:
    return [event.kind for event in why(database, study).events]


def test_input_44_same_bytes_again(database: Database) -> None:
    """One row, one study, no second opening."""
    assert register_instance(database, make_received(), NOW) is Registration.NEW
    assert register_instance(database, make_received(), after(1)) is Registration.DUPLICATE
    assert len(load_study(database, STUDY).instances) == 1
    assert kinds_of(database) == ["study_opened"]


def test_input_44_same_bytes_from_eight_associations_at_once(database: Database) -> None:
    """Whoever is first makes the row; all others hear success as well."""
    start = threading.Barrier(8)
    made: list[Registration] = []

    def register() -> None:
        start.wait()
        made.append(register_instance(database, make_received(), NOW))

    threads = [threading.Thread(target=register) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(made) == [Registration.DUPLICATE] * 7 + [Registration.NEW]
    assert len(load_study(database, STUDY).instances) == 1


def test_input_45_other_bytes_of_the_same_sender(database: Database) -> None:
    """Both are kept and take part; the study is flagged; a closed one is opened again."""
    first = make_instance(1, sop="1.2.3", content="first")
    second = make_instance(1, sop="1.2.3", content="second")
    register_instance(database, make_received(first), NOW)
    complete(database)
    made = register_instance(database, make_received(second), after(800))
    assert made is Registration.CONFLICT
    status = study_status(database, STUDY)
    assert status is not None
    assert (status.generation, status.has_conflict) == (2, True)
    assert load_study(database, STUDY).instances == (first, second)
    assert {"instance_conflicted", "study_reopened"} <= set(kinds_of(database))


def test_input_46_other_bytes_of_another_sender(database: Database) -> None:
    """Kept and shown, with an event of its own, and not screened."""
    first = make_instance(1, sop="1.2.3", content="first")
    second = make_instance(1, sop="1.2.3", content="second", calling_ae_title="STRANGER")
    register_instance(database, make_received(first), NOW)
    made = register_instance(database, make_received(second), after(1))
    assert made is Registration.CONFLICT
    assert load_study(database, STUDY).instances == (first,)
    (kept,) = list_quarantined(database)
    assert (kept.reason, kept.calling_ae_title) == ("sent-by-another", "STRANGER")
    assert {"instance_conflicted", "instance_quarantined"} <= set(kinds_of(database))


def test_input_47_two_patients_in_one_study(database: Database) -> None:
    """An event and a flag; the pipeline refuses the study (`unit/assemble/test_defects.py`)."""
    register_instance(database, make_received(make_instance(1)), NOW)
    other = make_received(make_instance(2), patient_id_digest="0ther")
    register_instance(database, other, after(1))
    status = study_status(database, STUDY)
    assert status is not None
    assert status.has_several_patients
    assert kinds_of(database).count("patients_conflicted") == 1


def test_input_48_one_series_in_two_studies(database: Database) -> None:
    """The second study does not get the slices of the first."""
    series = STUDY + ".1"
    register_instance(database, make_received(make_instance(1, series=series)), NOW)
    stray = make_instance(1, study=OTHER_STUDY, series=series, sop="1.2.9")
    register_instance(database, make_received(stray), after(1))
    assert load_study(database, OTHER_STUDY).instances == ()
    assert [one.reason for one in list_quarantined(database)] == ["series-in-two-studies"]
    assert len(load_study(database, STUDY).instances) == 1


def test_input_49_two_studies_interleaved(database: Database) -> None:
    """Each gets its own instances, in one association or in two."""
    for number in range(1, 11):
        study = STUDY if number % 2 else OTHER_STUDY
        instance = make_instance(number, study=study)
        register_instance(database, make_received(instance), after(number))
    counts = {one.study_instance_uid: one.n_instances for one in open_studies(database)}
    assert counts == {STUDY: 5, OTHER_STUDY: 5}


@pytest.mark.parametrize("date", ["20991231", "00000000", "yesterday", "", "2026-01-01\r\nX"])
def test_input_50_study_date_that_cannot_be(database: Database, date: str) -> None:
    """Stored for people; how old a study is comes from the clock of the node alone."""
    register_instance(database, make_received(study_date=date), NOW)
    (study,) = open_studies(database)
    assert (study.opened_at, study.last_arrival_at) == (NOW, NOW)
    status = study_status(database, STUDY)
    assert status is not None
    assert status.study_date.isprintable()


@pytest.mark.parametrize("value", ["'; drop table studies; --", "%", "_", "a\x00b"])
def test_input_43_values_that_are_commands(database: Database, value: str) -> None:
    """Values are bound parameters, and what PostgreSQL cannot hold is replaced."""
    register_instance(database, make_received(modality=value, study_date=value), NOW)
    status = study_status(database, STUDY)
    assert status is not None
    assert "\x00" not in status.study_date + "".join(status.modalities)
    with pytest.raises(WrongUse):
        find_quarantined(database, value)


# ── quarantine ───────────────────────────────────────────────────────────────────────────────


def test_release_opens_the_study_again(database: Database) -> None:
    """A person's word: the instance takes part from now on, and the audit says so."""
    register_instance(database, make_received(make_instance(1)), NOW)
    bad = make_received(make_instance(2), quarantine_reason="no-patient-id")
    register_instance(database, bad, after(1))
    expect_instances(database, STUDY, 2)
    complete(database)
    (kept,) = find_quarantined(database, bad.instance.content_digest[:12])
    release_quarantined(database, kept.sop_instance_uid, after(900))
    assert count_quarantined(database) == 0
    status = study_status(database, STUDY)
    assert status is not None
    assert (status.state, status.generation) == (StudyState.RECEIVING, 2)
    assert len(load_study(database, STUDY).instances) == 2
    assert open_studies(database)[0].expected_n_instances is None  # the source is asked again
    assert kinds_of(database)[-1] == "instance_released"


def test_release_within_an_open_study_waits_with_it(database: Database) -> None:
    """Nothing is opened that is open."""
    register_instance(database, make_received(quarantine_reason="no-patient-id"), NOW)
    (released,) = release_quarantined(database, make_instance().sop_instance_uid, after(5))
    assert released.reason == "no-patient-id"
    status = study_status(database, STUDY)
    assert status is not None
    assert (status.generation, status.n_quarantined) == (1, 0)
    assert len(load_study(database, STUDY).instances) == 1


def test_release_of_what_opens_no_study_keeps_the_books(database: Database) -> None:
    """A report under a series of two studies, released before its own study was ever opened."""
    shared = STUDY + ".5"
    register_instance(database, make_received(make_instance(1, series=shared)), NOW)
    stray = make_instance(2, study=OTHER_STUDY, series=shared, sop_class=COMPREHENSIVE_3D_SR)
    register_instance(database, make_received(stray), after(1))
    release_quarantined(database, stray.sop_instance_uid, after(5))
    assert [one.study_instance_uid for one in open_studies(database)] == [STUDY]
    assert accounting(database, after(6)).is_balanced


def test_release_of_nothing_is_wrong_use(database: Database) -> None:
    """A name that is not in quarantine, a pattern among them, releases nothing."""
    register_instance(database, make_received(), NOW)
    for name in ("1.2.3", "%%%%%%%%", make_instance().sop_instance_uid):
        with pytest.raises(WrongUse, match="no instance in quarantine"):
            release_quarantined(database, name, NOW)
