"""Settings of a node that is left alone: spool, delivery, audit, retention, alerts, health."""

from __future__ import annotations

import os
from pathlib import Path  # noqa: TC003  pydantic reads it at run time
from typing import Annotated

from pydantic import Field, model_validator

from screener.setting_types import Port, Seconds, Section, TimeOfDay

#: Variable without which `testing.fail_points` is refused.
FAIL_POINTS_VARIABLE = "SCREENER_ALLOW_FAIL_POINTS"


class RetentionSettings(Section):
    """For how many days files stay; 0 keeps them for ever. Rows and events always stay."""

    spool_days: Annotated[float, Field(ge=0)] = 7.0
    quarantine_days: Annotated[float, Field(ge=0)] = 30.0
    results_days: Annotated[float, Field(ge=0)] = 6 * 366.0


class AuditRepositorySettings(Section):
    """Where the trail is sent as DICOM audit messages, by syslog over TLS."""

    host: str = ""
    port: Annotated[int, Field(ge=1, le=65535)] = 6514
    ca_file: Path | None = None
    certificate_file: Path | None = None
    private_key_file: Path | None = None
    timeout_s: Seconds = 10.0
    every_s: Seconds = 5.0

    @model_validator(mode="after")
    def _check_files(self) -> AuditRepositorySettings:
        if self.host and self.ca_file is None:
            raise ValueError("ca_file: name the file of the CA that signed the repository")
        if self.private_key_file is not None and self.certificate_file is None:
            raise ValueError("private_key_file needs certificate_file: give both, or neither")
        return self


class AlertSettings(Section):
    """When waiting becomes an alert."""

    queued_after_s: Seconds = 1800.0
    unsent_after_s: Seconds = 3600.0
    unsealed_after_s: Seconds = 300.0


class HealthSettings(Section):
    """Where health, readiness and metrics are answered by HTTP."""

    host: str = "127.0.0.1"
    port: Port = 0


class TestingSettings(Section):
    """Faults on purpose, for tests of the node itself."""

    fail_points: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _check_allowed(self) -> TestingSettings:
        if self.fail_points and os.environ.get(FAIL_POINTS_VARIABLE) != "yes":
            raise ValueError(
                "fail_points: faults on purpose are for tests alone; remove them, or set "
                f"{FAIL_POINTS_VARIABLE}=yes where nothing real can be lost"
            )
        return self


class SpoolSettings(Section):
    """Where received instances stay, and how much of the disk they may not take."""

    root: Path | None = None
    reserve_bytes: Annotated[int, Field(ge=0)] = 5 * 1024**3
    warn_bytes: Annotated[int, Field(ge=0)] = 20 * 1024**3


class DeliverySettings(Section):
    """How long a destination may be away."""

    lease_s: Seconds = 120.0
    first_retry_s: Seconds = 10.0
    retry_cap_s: Seconds = 900.0
    give_up_after_s: Seconds = 7 * 86400.0
    most_denials: Annotated[int, Field(ge=1)] = 3


class AuditSettings(Section):
    """The event chain and the nightly audit."""

    key_file: Path | None = None
    checkpoint_file: Path | None = None
    seal_every_s: Seconds = 5.0
    nightly_at: TimeOfDay = "02:30"
    pacs: str = ""
    report_dir: Path | None = None
