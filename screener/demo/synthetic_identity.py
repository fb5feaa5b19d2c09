"""Who a synthetic study pretends to be about, and the UIDs that follow from its names."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from datetime import UTC, datetime

#: Our own name space: the same names give the same UIDs everywhere.
_NAMESPACE = uuid.UUID("5ea0c1f4-5b58-4f7d-9a0e-6e1c0a6f3d21")


def derived_uid(*names: str) -> str:
    """Give the UID that follows from names, under the root of PS3.5 B.2.

    Examples
    --------
    >>> derived_uid("demo", "study") == derived_uid("demo", "study")
    True
    """
    return f"2.25.{uuid.uuid5(_NAMESPACE, chr(0).join(names)).int}"


def derived_uuid_text(*names: str) -> str:
    """Give the same identity as letters and hyphens: not a valid UID (PS3.5 9.1), yet seen."""
    return str(uuid.uuid5(_NAMESPACE, chr(0).join(names))).upper()


@dataclass(frozen=True, slots=True)
class SyntheticIdentity:
    """Names of a synthetic study; series of one study share `name`.

    Raises
    ------
    ValueError
        `study_at` has no time zone.
    """

    name: str  #: from it follow the UIDs of study and frame of reference
    study_at: datetime = datetime(2026, 1, 5, 9, 30, tzinfo=UTC)  #: aware
    series_name: str = "chest"
    series_number: int = 1
    patient_id: str = ""  #: when empty it follows from `name`
    patient_name: str = "Synthetic^Phantom"
    accession_number: str = ""
    body_part: str = "CHEST"
    study_description: str = "Synthetic chest CT"

    def __post_init__(self) -> None:
        if self.study_at.tzinfo is None:
            raise ValueError(f"study_at is {self.study_at}; give it a time zone.")
        if not self.patient_id:
            number = uuid.uuid5(_NAMESPACE, self.name).int % 10**6
            object.__setattr__(self, "patient_id", f"SYNTHETIC-{number:06d}")

    @property
    def study_instance_uid(self) -> str:
        """UID of the study."""
        return derived_uid("study", self.name)

    @property
    def series_instance_uid(self) -> str:
        """UID of the series."""
        return derived_uid("series", self.name, self.series_name)

    @property
    def frame_of_reference_uid(self) -> str:
        """UID of the frame of reference, shared by the series of a study."""
        return derived_uid("frame of reference", self.name)

    def sop_instance_uid(self, name: str) -> str:
        """Give the UID of one instance of the series."""
        return derived_uid("instance", self.name, self.series_name, name)
