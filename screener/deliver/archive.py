"""A destination as the rest of the system sees it: it takes, holds, lists and gives back.

How it is spoken to is decided in one place, by the class: DIMSE or DICOMweb. Both give the same
outcomes and raise the same errors.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from screener.deliver import echo, qido, query, scu, stow, wado
from screener.deliver.web import DICOM_JSON
from screener.deliver.web_errors import describe
from screener.errors import DestinationRefused, DestinationUnavailable

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import date

    from screener.deliver.scu import DeliverableObject, InstanceStatus
    from screener.domain import DimseNode, PacsStudy, WebNode


#: What is asked of a DICOMweb service: transaction, resource, media type, used for.
WEB_TRANSACTIONS: tuple[tuple[str, str, str, str], ...] = (
    ("Store (STOW-RS)", f"POST {qido.STUDIES}", stow.CONTENT_TYPE, "delivering results"),
    (
        "Search (QIDO-RS)",
        f"GET {qido.STUDIES}",
        DICOM_JSON,
        "nightly audit, expected counts, `screener echo`",
    ),
    ("Search (QIDO-RS)", f"GET {qido.SERIES_OF_STUDY}", DICOM_JSON, "retrieval"),
    (
        "Search (QIDO-RS)",
        f"GET {qido.INSTANCES_OF_SERIES}",
        DICOM_JSON,
        "confirmation of deliveries, counting what a retrieval brings",
    ),
    ("Retrieve (WADO-RS)", f"GET {qido.SERIES}", wado.ACCEPT, "`screener reprocess`"),
)


class Archive(Protocol):
    """What every destination can be asked.

    Each method raises `DestinationUnavailable` where trying later can help, `DestinationRefused`
    where it cannot; only `echo` gives its failure as a result.
    """

    @property
    def query_service(self) -> str:
        """Name of the service that questions go to, for people."""

    def store(self, objects: Sequence[DeliverableObject]) -> tuple[InstanceStatus, ...]:
        """Send objects; one status for each, in the same order."""

    def confirm(self, objects: Sequence[DeliverableObject]) -> frozenset[str]:
        """Give the SOP Instance UIDs of those that it says it holds."""

    def find_studies(self, study_date: date) -> tuple[PacsStudy, ...]:
        """List the studies of one day that have CT."""

    def count_instances(self, study_instance_uid: str) -> int | None:
        """Say how many instances a study has; None where it does not say or know it."""

    def find_series(self, study_instance_uid: str) -> tuple[tuple[str, str], ...]:
        """List Series Instance UID and Modality of every series of a study."""

    def echo(self) -> echo.EchoResult:
        """Say whether it answers."""


@dataclass(frozen=True, slots=True)
class DimseArchive:
    """A destination that is spoken to by DIMSE."""

    node: DimseNode

    @property
    def query_service(self) -> str:
        """Name of the service that questions go to."""
        return "C-FIND"

    def store(self, objects: Sequence[DeliverableObject]) -> tuple[InstanceStatus, ...]:
        """Send objects by C-STORE."""
        return scu.store_objects(self.node, objects)

    def confirm(self, objects: Sequence[DeliverableObject]) -> frozenset[str]:
        """Ask for each object by C-FIND."""
        return query.confirm_objects(self.node, objects)

    def find_studies(self, study_date: date) -> tuple[PacsStudy, ...]:
        """List the CT studies of one day by C-FIND."""
        return query.find_studies(self.node, study_date)

    def count_instances(self, study_instance_uid: str) -> int | None:
        """Ask for the size of a study by C-FIND."""
        return query.count_instances(self.node, study_instance_uid)

    def find_series(self, study_instance_uid: str) -> tuple[tuple[str, str], ...]:
        """List the series of a study by C-FIND."""
        return query.find_series(self.node, study_instance_uid)

    def echo(self) -> echo.EchoResult:
        """Send a C-ECHO."""
        return echo.echo(self.node)


@dataclass(frozen=True, slots=True)
class WebArchive:
    """A destination that is spoken to by DICOMweb."""

    node: WebNode

    @property
    def query_service(self) -> str:
        """Name of the service that questions go to."""
        return "QIDO-RS"

    def store(self, objects: Sequence[DeliverableObject]) -> tuple[InstanceStatus, ...]:
        """Send objects by STOW-RS."""
        return stow.store_objects(self.node, objects)

    def confirm(self, objects: Sequence[DeliverableObject]) -> frozenset[str]:
        """Ask for each object by QIDO-RS."""
        return qido.confirm_objects(self.node, objects)

    def find_studies(self, study_date: date) -> tuple[PacsStudy, ...]:
        """List the CT studies of one day by QIDO-RS."""
        return qido.find_studies(self.node, study_date)

    def count_instances(self, study_instance_uid: str) -> int | None:
        """Ask for the size of a study by QIDO-RS."""
        return qido.count_instances(self.node, study_instance_uid)

    def find_series(self, study_instance_uid: str) -> tuple[tuple[str, str], ...]:
        """List the series of a study by QIDO-RS."""
        return qido.find_series(self.node, study_instance_uid)

    def echo(self) -> echo.EchoResult:
        """Ask for any one study: DICOMweb has no echo."""
        started_s = time.monotonic()
        try:
            qido.ask_anything(self.node)
        except (DestinationUnavailable, DestinationRefused) as error:
            return echo.EchoResult(False, time.monotonic() - started_s, str(error))
        detail = f"{describe(self.node)} answered"
        return echo.EchoResult(True, time.monotonic() - started_s, detail)
