"""How a site names where results go: one class of settings for each protocol.

A destination without `protocol` is a DIMSE node. Each class knows its own keys and no other, so
that a key in the wrong place is an error and not a surprise.
"""

from __future__ import annotations

import ipaddress
from pathlib import Path  # noqa: TC003 - read at run time to make the settings
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    Discriminator,
    Field,
    Tag,
    model_validator,
)

from screener.domain import ResultKind
from screener.setting_types import AeTitle, Seconds, Section

PROTOCOLS = ("dimse", "dicomweb")


def _check_url(value: str) -> str:
    mend = "write the root of the service, such as https://pacs.example/dicom-web"
    try:
        parts = urlsplit(value)
        has_port = parts.port != 0
    except ValueError as error:
        raise ValueError(mend) from error
    is_plain = value.isascii() and value.isprintable() and " " not in value
    if not (is_plain and has_port and parts.hostname and parts.scheme in {"https", "http"}):
        raise ValueError(mend)
    if parts.username or parts.password or parts.query or parts.fragment:
        raise ValueError(
            "no user, password, query or fragment may stand in it; secrets go into "
            "bearer_token_file or basic_auth_file"
        )
    return value.rstrip("/")


class _AnyDestinationSettings(Section):
    """What every destination has."""

    name: Annotated[str, Field(min_length=1, max_length=64)]
    kinds: Annotated[tuple[ResultKind, ...], Field(min_length=1)] = (
        ResultKind.STRUCTURED_REPORT,
        ResultKind.SEGMENTATION,
    )
    timeout_s: Seconds = 30.0


class DimseDestinationSettings(_AnyDestinationSettings):
    """A DICOM node that results go to by C-STORE."""

    protocol: Literal["dimse"] = "dimse"
    ae_title: AeTitle
    host: str
    port: Annotated[int, Field(ge=1, le=65535)]
    confirm: Literal["commitment", "query", "none"] = "query"
    commitment_timeout_s: Seconds = 300.0
    retrieve: Literal["get", "move", "none"] = "none"


class WebDestinationSettings(_AnyDestinationSettings):
    """A DICOMweb service that results go to by STOW-RS."""

    protocol: Literal["dicomweb"]
    url: Annotated[str, AfterValidator(_check_url)]
    tls_ca_file: Path | None = None
    tls_certificate_file: Path | None = None
    tls_key_file: Path | None = None
    bearer_token_file: Path | None = None
    basic_auth_file: Path | None = None
    confirm: Literal["query", "none"] = "query"
    retrieve: Literal["wado", "none"] = "none"

    @model_validator(mode="after")
    def _check_security(self) -> WebDestinationSettings:
        if self.tls_key_file and not self.tls_certificate_file:
            raise ValueError("tls_key_file needs tls_certificate_file: give both, or neither")
        if self.bearer_token_file and self.basic_auth_file:
            raise ValueError("bearer_token_file and basic_auth_file exclude each other: keep one")
        if self.url.startswith("https:"):
            return self
        if self.tls_ca_file or self.tls_certificate_file:
            raise ValueError(
                "tls_ca_file and tls_certificate_file need TLS: let url begin with https"
            )
        if (self.bearer_token_file or self.basic_auth_file) and not _is_loopback(self.url):
            raise ValueError(
                "a secret over http can be read by anybody on the way: let url begin with https"
            )
        return self


def _is_loopback(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _protocol_of(value: Any) -> str:
    protocol = value.get("protocol", "dimse") if isinstance(value, dict) else value.protocol
    return str(protocol)


#: Either, as code that serves both takes it.
DestinationSettings = DimseDestinationSettings | WebDestinationSettings

#: Either, as the settings read it.
AnyDestination = Annotated[
    Annotated[DimseDestinationSettings, Tag("dimse")]
    | Annotated[WebDestinationSettings, Tag("dicomweb")],
    Discriminator(_protocol_of),
]


def protocol_of_key(key: str) -> str | None:
    """Name the one protocol that has a key; None where none or both have it."""
    is_dimse = key in DimseDestinationSettings.model_fields
    is_web = key in WebDestinationSettings.model_fields
    if is_dimse == is_web:
        return None
    return "dimse" if is_dimse else "dicomweb"
