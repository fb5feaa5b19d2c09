"""Derived UIDs: what renames an object, and what must not."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from pydicom.uid import UID

from screener.domain import ResultKind
from screener.report.uids import derive_uid, instance_uid, result_series_uid, tracking_uid
from tests.report_factories import SERIES_UID, run_identity, write_study

if TYPE_CHECKING:
    from pathlib import Path

    from screener.domain import RunIdentity

KIND = ResultKind.STRUCTURED_REPORT


@pytest.fixture
def run(tmp_path: Path) -> RunIdentity:
    return run_identity(write_study(tmp_path, 1))


def test_derive_uid_of_any_names_is_a_valid_uid() -> None:
    """A derived UID is a UUID-derived UID that DICOM allows."""
    uid = UID(derive_uid("Größe", ""))
    assert uid.is_valid
    assert uid.startswith("2.25.")


def test_derive_uid_of_shifted_names_differs() -> None:
    """Names are kept apart, so their borders cannot be moved."""
    assert derive_uid("ab", "c") != derive_uid("a", "bc")


def test_instance_uid_of_equal_runs_is_equal(run: RunIdentity) -> None:
    """The clock and the run id do not rename a result: a lost database sends no duplicates."""
    later = replace(run, run_id="other", started_at=run.started_at + timedelta(days=1))
    assert instance_uid(run, SERIES_UID, KIND, "") == instance_uid(later, SERIES_UID, KIND, "")


@pytest.mark.parametrize(
    "changes",
    [
        {"study_instance_uid": "1.2.3"},
        {"input_digest": "f" * 64},
        {"pipeline": "other"},
        {"settings_digest": "f" * 64},
        {"code_version": "9.9.9"},
        {"version": 2},
        {"models": ()},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_instance_uid_of_changed_run_differs(run: RunIdentity, changes: dict[str, object]) -> None:
    """Whatever decides the content renames the object."""
    changed = replace(run, **changes)  # type: ignore[arg-type]
    assert instance_uid(run, SERIES_UID, KIND, "") != instance_uid(changed, SERIES_UID, KIND, "")


def test_instance_uid_of_other_series_and_kind_differs(run: RunIdentity) -> None:
    """Objects of one run never share a UID."""
    uids = {
        instance_uid(run, series, kind, "") for series in (SERIES_UID, "") for kind in ResultKind
    }
    assert len(uids) == 2 * len(ResultKind)


def test_series_uid_of_next_run_on_same_equipment_is_kept(run: RunIdentity) -> None:
    """A reprocess with the same models adds an instance to the series."""
    again = replace(run, version=2, input_digest="f" * 64)
    assert result_series_uid(run, SERIES_UID, KIND) == result_series_uid(again, SERIES_UID, KIND)


def test_series_uid_of_other_model_differs(run: RunIdentity) -> None:
    """Equipment is constant within a series, so another model opens another one."""
    retrained = replace(run, models=(replace(run.models[0], digest="d" * 64), run.models[1]))
    assert result_series_uid(run, SERIES_UID, KIND) != result_series_uid(
        retrained, SERIES_UID, KIND
    )


def test_tracking_uid_of_concepts_differs_by_study_and_concept() -> None:
    """A tracking UID names one thing of one study."""
    uids = {tracking_uid(study, concept) for study in ("1.2", "1.3") for concept in ("a", "b")}
    assert len(uids) == 4
