"""One frozen object, read once: a TOML file, then ``SCREENER_*`` variables.

A variable names a key with two underscores for each dot: ``SCREENER_NODE__PORT=11113`` is
``port`` in the table ``[node]``. Every key has a unit in its name and a default here; the file
``deploy/screener.example.toml`` lists them all and a test keeps the two equal.
"""

from __future__ import annotations

import hashlib
import os
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo

from pydantic import BaseModel, Field, ValidationError, model_validator
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
)

from screener.destinations import (
    PROTOCOLS,
    AnyDestination,
    DestinationSettings,
    protocol_of_key,
)
from screener.errors import ConfigError
from screener.screening_settings import (
    InferenceSettings,
    ModelsSettings,
    ReportSettings,
    VoteSettings,
)
from screener.setting_types import (
    AeTitle,
    CertificatePin,
    Network,
    Port,
    Seconds,
    Section,
    SeriesRequirement,
    TimeZone,
)
from screener.upkeep_settings import (
    AlertSettings,
    AuditRepositorySettings,
    AuditSettings,
    DeliverySettings,
    HealthSettings,
    RetentionSettings,
    SpoolSettings,
    TestingSettings,
)

#: Name of the embedded audit database in the data folder.
SQLITE_FILE = "screener.sqlite3"

#: Variable that names the settings file.
SETTINGS_FILE_VARIABLE = "SCREENER_SETTINGS"


class NodeSettings(Section):
    """The DICOM node that scanners and PACS send to."""

    ae_title: AeTitle = "SCREENER"
    host: str = "127.0.0.1"
    port: Port = 11112
    maximum_associations: Annotated[int, Field(ge=1)] = 64
    maximum_associations_per_peer: Annotated[int, Field(ge=1)] = 16
    network_timeout_s: Seconds = 30.0
    minimum_bytes_per_s: Annotated[float, Field(ge=0)] = 2048.0
    tls_port: Port = 0
    tls_certificate_file: Path | None = None
    tls_key_file: Path | None = None
    tls_ca_file: Path | None = None
    time_zone: TimeZone = ""

    @property
    def zone(self) -> ZoneInfo | None:
        """The zone that `time_zone` names; None: that of this machine."""
        return ZoneInfo(self.time_zone) if self.time_zone else None

    @model_validator(mode="after")
    def _check_tls(self) -> NodeSettings:
        files = {
            "tls_certificate_file": self.tls_certificate_file,
            "tls_key_file": self.tls_key_file,
            "tls_ca_file": self.tls_ca_file,
        }
        missing = [name for name, path in files.items() if path is None]
        if self.tls_port and missing:
            raise ValueError(f"tls_port needs {', '.join(missing)}: name the PEM files")
        return self


class PeerSettings(Section):
    """Who may speak: a calling AE title bound to addresses and a certificate. Nobody else."""

    ae_title: AeTitle
    addresses: Annotated[tuple[Network, ...], Field(min_length=1)]
    allow_plain: bool = False
    certificate_sha256: tuple[CertificatePin, ...] = ()
    certificate_names: tuple[Annotated[str, Field(min_length=1)], ...] = ()
    priority: Literal["stat", "routine"] = "routine"
    query_host: str = ""
    query_port: Port = 0
    query_destination: str = ""

    @model_validator(mode="after")
    def _check_query(self) -> PeerSettings:
        if self.query_destination and self.query_port:
            raise ValueError("query_port and query_destination exclude each other: keep one")
        if self.query_host and not self.query_port:
            raise ValueError("query_host needs query_port: give both, or neither")
        if self.query_port and not self.query_host and "/" in self.addresses[0]:
            raise ValueError(
                f"query_host: {self.addresses[0]} is a network; name the host to ask for counts"
            )
        return self

    @property
    def has_certificate(self) -> bool:
        """Whether the peer can prove itself on the TLS port."""
        return bool(self.certificate_sha256 or self.certificate_names)

    @property
    def query_address(self) -> str:
        """Host that is asked for counts: the first address, unless another is named."""
        return self.query_host or self.addresses[0]


class CompletionSettings(Section):
    """When a study is thought complete (design 3.2)."""

    series_quiet_s: Seconds = 60.0
    study_quiet_s: Seconds = 600.0
    hard_cap_s: Seconds = 5400.0
    required_series: tuple[SeriesRequirement, ...] = ()


class DatabaseSettings(Section):
    """The audit database: SQLite by default, PostgreSQL by URL."""

    url: str = ""


class BrokerSettings(Section):
    """The doorbell. Without a URL workers poll the database: nothing else changes."""

    url: str = ""


class WorkerSettings(Section):
    """How runs are worked on."""

    processes: Annotated[int, Field(ge=1)] = 1
    poll_s: Seconds = 0.25
    sweep_s: Seconds = 1.0
    lease_s: Seconds = 60.0
    max_attempts: Annotated[int, Field(ge=1)] = 3
    first_retry_s: Seconds = 5.0
    retry_cap_s: Seconds = 300.0
    ring_again_s: Seconds = 2.0
    drain_s: Seconds = 60.0
    step_limit_s: Seconds = 600.0
    step_limit_per_slice_s: Seconds = 2.0
    chore_limit_s: Seconds = 900.0


class LogSettings(Section):
    """Logs go to standard error: JSON for machines, lines for a terminal."""

    format: Literal["json", "terminal", "auto"] = "auto"
    level: Literal["debug", "info", "warning", "error"] = "info"
    uids: Literal["plain", "hashed"] = "plain"


class Settings(BaseSettings):
    """Everything a site can choose."""

    model_config = SettingsConfigDict(
        env_prefix="SCREENER_", env_nested_delimiter="__", extra="forbid", frozen=True
    )

    data_dir: Path = Path("~/.local/share/screener")
    node: NodeSettings = NodeSettings()
    peers: tuple[PeerSettings, ...] = ()
    spool: SpoolSettings = SpoolSettings()
    completion: CompletionSettings = CompletionSettings()
    database: DatabaseSettings = DatabaseSettings()
    broker: BrokerSettings = BrokerSettings()
    workers: WorkerSettings = WorkerSettings()
    models: ModelsSettings = ModelsSettings()
    inference: InferenceSettings = InferenceSettings()
    vote: VoteSettings = VoteSettings()
    report: ReportSettings = ReportSettings()
    destinations: tuple[AnyDestination, ...] = ()
    delivery: DeliverySettings = DeliverySettings()
    audit: AuditSettings = AuditSettings()
    retention: RetentionSettings = RetentionSettings()
    audit_repository: AuditRepositorySettings = AuditRepositorySettings()
    alerts: AlertSettings = AlertSettings()
    health: HealthSettings = HealthSettings()
    log: LogSettings = LogSettings()
    testing: TestingSettings = TestingSettings()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Variables win over the file, which comes in as keyword arguments."""
        del settings_cls, dotenv_settings, file_secret_settings
        return (env_settings, init_settings)

    @model_validator(mode="after")
    def _check_across_sections(self) -> Settings:
        names = [destination.name for destination in self.destinations]
        if len(set(names)) != len(names):
            raise ValueError("destinations: two share a name; give each its own")
        if self.audit.pacs and self.audit.pacs not in names:
            raise ValueError(
                f"audit.pacs: '{self.audit.pacs}' is no destination; use one of {names}"
            )
        for peer in self.peers:
            if peer.query_destination and peer.query_destination not in names:
                raise ValueError(
                    f"peers: query_destination '{peer.query_destination}' is no destination; use "
                    f"one of {names}"
                )
        wait = self.completion
        if not wait.series_quiet_s <= wait.study_quiet_s <= wait.hard_cap_s:
            raise ValueError(
                "completion: series_quiet_s, study_quiet_s and hard_cap_s must not decrease in "
                f"this order; found {wait.series_quiet_s}, {wait.study_quiet_s}, {wait.hard_cap_s}"
            )
        if len(names) > 1 and not self.audit.pacs:
            raise ValueError(
                f"audit.pacs: name the destination that the nightly audit asks, one of {names}"
            )
        titles = [peer.ae_title for peer in self.peers]
        if len(set(titles)) != len(titles):
            raise ValueError("peers: two share an AE title; list both addresses in one peer")
        return self

    @property
    def data_path(self) -> Path:
        """Folder of everything the screener keeps."""
        return self.data_dir.expanduser().absolute()

    @property
    def spool_path(self) -> Path:
        """Folder of received instances."""
        return (self.spool.root or self.data_path / "spool").expanduser().absolute()

    @property
    def results_path(self) -> Path:
        """Folder of encoded results, one folder per run."""
        return self.data_path / "results"

    @property
    def database_url(self) -> str:
        """SQLAlchemy URL of the audit database."""
        return self.database.url or f"sqlite:///{self.data_path / SQLITE_FILE}"

    @property
    def key_path(self) -> Path:
        """File with the key of the event chain."""
        return (self.audit.key_file or self.data_path / "audit.key").expanduser().absolute()

    @property
    def checkpoint_path(self) -> Path:
        """File with the checkpoints of the event chain, outside the database."""
        default = self.data_path / "audit.checkpoints"
        return (self.audit.checkpoint_file or default).expanduser().absolute()

    @property
    def audit_report_path(self) -> Path:
        """Folder of nightly audit pages."""
        return (self.audit.report_dir or self.data_path / "audits").expanduser().absolute()

    @property
    def result_digest(self) -> str:
        """sha256 over the settings that can change a result; stands in the derived UIDs.

        Where to listen, to send and to store changes no result and is left out, so that moving
        a node does not rename its reports.
        """
        # Names only: folder and pin change nothing, and the graphs' own digests stand beside.
        names = {"lungs": {"name"}, "slices": {"name"}}
        text = self.model_dump_json(
            include={"vote": True, "report": True, "models": names, "node": {"time_zone"}}
        )
        return hashlib.sha256(text.encode()).hexdigest()


def load_settings(path: Path | None = None) -> Settings:
    """Read the settings file, then the variables over it.

    Parameters
    ----------
    path
        TOML file; None takes the file named by ``SCREENER_SETTINGS``, and without it the defaults.

    Raises
    ------
    ConfigError
        Unreadable file, unknown key or wrong value; the text names key, value and mend.
    """
    if path is None and os.environ.get(SETTINGS_FILE_VARIABLE):
        path = Path(os.environ[SETTINGS_FILE_VARIABLE])
    content = {} if path is None else _read_toml(path)
    # SETTINGS itself is consumed here; as a field it would be an unknown key.
    try:
        return Settings(**content)
    except ValidationError as error:
        raise ConfigError(_explain(error, path)) from error
    except SettingsError as error:
        # The text names the key and the cause holds the value, which may be a password.
        raise ConfigError(f"{error}: write lists and tables in variables as JSON") from error


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(
            f"settings file {path} cannot be read: {error.strerror}. Give another with --settings"
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"settings file {path} is no valid TOML: {error}") from error


def _explain(error: ValidationError, path: Path | None) -> str:
    where = f"settings file {path}" if path else "settings"
    lines = []
    for item in error.errors():
        # The protocol of a destination stands in the way to its keys, and is none of them.
        parts = [str(part) for part in item["loc"] if part not in PROTOCOLS]
        key = ".".join(parts) or "(whole file)"
        if item["type"] == "union_tag_invalid":
            found = item["input"]["protocol"]
            lines.append(f"{key}.protocol: write one of {PROTOCOLS} (found: {found!r})")
        elif item["type"] == "extra_forbidden" and (protocol := protocol_of_key(parts[-1])):
            lines.append(f'{key}: this key needs protocol = "{protocol}"; or remove it')
        elif item["type"] == "extra_forbidden":
            lines.append(f"{key}: unknown key; see deploy/screener.example.toml for all keys")
        elif item["type"] == "missing":
            lines.append(f"{key}: missing; add it")
        else:
            lines.append(f"{key}: {item['msg']} (found: {_shown(key, item['input'])})")
    return f"{where} cannot be used:\n  " + "\n  ".join(lines)


def _shown(key: str, value: object) -> str:
    """Show a value in an error, but never one that may hold a password."""
    if key.endswith("url") or isinstance(value, dict | BaseModel):
        return "not shown"
    return repr(value)


__all__ = [
    "SETTINGS_FILE_VARIABLE",
    "SQLITE_FILE",
    "DestinationSettings",
    "Settings",
    "load_settings",
]
