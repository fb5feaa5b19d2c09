"""What values of settings can be: one type for each kind, with a text that says what is right."""

from __future__ import annotations

import ipaddress
import re
from typing import Annotated
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

#: PS3.5 6.2, AE: 1 to 16 characters without control characters or backslash.
_AE_TITLE = re.compile(r"^[ -\[\]-~]{1,16}$")
_REQUIRED_SERIES = re.compile(r"^[A-Z]{2,16}(:[1-9]\d{0,4})?$")
_TIME_OF_DAY = re.compile(r"([01]\d|2[0-3]):[0-5]\d")
_SHA256 = re.compile(r"^([0-9a-f]{64})?$")


def _check_ae_title(value: str) -> str:
    if not _AE_TITLE.match(value) or not value.strip():
        raise ValueError("an AE title has 1 to 16 printable ASCII characters and no backslash")
    return value.strip()


def _check_address(value: str) -> str:
    try:
        ipaddress.ip_network(value, strict=False)
    except ValueError as error:
        raise ValueError("write an IP address or a network such as 10.1.2.0/24") from error
    return value


def _check_sha256(value: str) -> str:
    if not _SHA256.match(value):
        raise ValueError("write 64 lower-case hexadecimal digits, as `screener models list` shows")
    return value


def _check_pin(value: str) -> str:
    pin = value.replace(":", "").lower()
    if not re.fullmatch(r"[0-9a-f]{64}", pin):
        raise ValueError(
            "write the SHA-256 fingerprint of the certificate, 64 hexadecimal digits, as "
            "`openssl x509 -noout -fingerprint -sha256 -in FILE` shows it"
        )
    return pin


def _check_required_series(value: str) -> str:
    if not _REQUIRED_SERIES.match(value):
        raise ValueError('write a modality, or one with its least instances, such as "CT:30"')
    return value


def _check_time_of_day(value: str) -> str:
    if not _TIME_OF_DAY.fullmatch(value):
        raise ValueError('write hours and minutes from "00:00" to "23:59", such as "02:30"')
    return value


def _check_time_zone(value: str) -> str:
    try:
        return value and ZoneInfo(value).key
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise ValueError(
            "write a name of the IANA list such as Europe/Berlin; where this machine has no such "
            "list, install its package tzdata"
        ) from error


AeTitle = Annotated[str, AfterValidator(_check_ae_title)]
Network = Annotated[str, AfterValidator(_check_address)]
Sha256 = Annotated[str, AfterValidator(_check_sha256)]
CertificatePin = Annotated[str, AfterValidator(_check_pin)]
TimeOfDay = Annotated[str, AfterValidator(_check_time_of_day)]
TimeZone = Annotated[str, AfterValidator(_check_time_zone)]
SeriesRequirement = Annotated[str, AfterValidator(_check_required_series)]
Port = Annotated[int, Field(ge=0, le=65535)]
Seconds = Annotated[float, Field(gt=0)]


class Section(BaseModel):
    """A table of the settings: closed and unchangeable."""

    model_config = ConfigDict(extra="forbid", frozen=True)
