"""UIDs derived from what a run is, so that a retry writes the same instance.

Instance UIDs name everything that decides the content; series UIDs leave out what may change
between two runs on the same equipment, so that a reprocess adds an instance to the series.
Tracking UIDs follow a concept of a study through all model versions; Device UIDs change with
the model (IHE AIR 6.5.3.1). Form: ``2.25.`` and the decimal of a name-based UUID (PS3.5 B.2).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from uuid import UUID, uuid5

if TYPE_CHECKING:
    from screener.domain import ResultKind, RunIdentity

#: Names of our UUIDs live in this namespace; changing it renames every object ever made.
NAMESPACE: Final = UUID("6f1f0c52-7a3e-4d0b-9a55-0d4b8c1e7f26")


def derive_uid(*names: str) -> str:
    """Give the UID of a list of names; equal names give equal UIDs, at most 44 characters."""
    joined = "".join(f"{len(name)}:{name};" for name in names)
    return f"2.25.{uuid5(NAMESPACE, joined).int}"


def instance_uid(
    run: RunIdentity, series_instance_uid: str, kind: ResultKind, choices_digest: str
) -> str:
    """Give the SOP Instance UID of one result object of a run.

    ``series_instance_uid`` is the screened series, empty where none was selected;
    ``choices_digest`` stands for what the site chose: a report says which objects go with it.
    """
    return derive_uid(
        "instance",
        *_equipment(run, series_instance_uid, kind),
        run.input_digest,
        str(run.version),
        choices_digest,
    )


def result_series_uid(run: RunIdentity, series_instance_uid: str, kind: ResultKind) -> str:
    """Give the Series Instance UID that a kind of result has on one equipment.

    General Equipment and Frame of Reference are constant within a series (PS3.3 A.1.2), so a
    change of code, model, settings or screened series makes a new one.
    """
    return derive_uid("series", *_equipment(run, series_instance_uid, kind))


def tracking_uid(study_instance_uid: str, concept: str) -> str:
    """Give the Tracking UID (0062,0021) of a concept: equal in SR and SEG and in every run."""
    return derive_uid("tracking", study_instance_uid, concept)


def device_uid(name: str, version: str, digest: str) -> str:
    """Give the Device UID (0018,1002) of an algorithm: another model is another device."""
    return derive_uid("device", name, version, digest)


def _equipment(run: RunIdentity, series_instance_uid: str, kind: ResultKind) -> tuple[str, ...]:
    return (
        run.study_instance_uid,
        series_instance_uid,
        run.pipeline,
        *(f"{model.task}={model.digest}" for model in run.models),
        run.settings_digest,
        run.code_version,
        kind.value,
    )
