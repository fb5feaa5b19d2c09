"""The files of the TLS port: where they are, and whether they end soon."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from screener.audit.events import EventKind, append_event
from screener.daemon.site import utc_now
from screener.errors import ConfigError, DatabaseUnavailable
from screener.logs import get_log
from screener.receive.tls import TlsFiles, first_expiry

if TYPE_CHECKING:
    from screener.daemon.site import Site
    from screener.settings import Settings

#: From here on it is said every day that a certificate ends.
WARN_BEFORE = timedelta(days=30)


@dataclass(frozen=True, slots=True)
class CertificateAge:
    """When the first certificate of a file ends."""

    name: str  #: key of the settings that names the file
    expires_at: datetime
    left: timedelta  #: negative where it has ended

    @property
    def is_due(self) -> bool:
        """Whether somebody should renew it now."""
        return self.left < WARN_BEFORE


def tls_files(settings: Settings) -> TlsFiles | None:
    """Give the files of the TLS port; None where there is none."""
    node = settings.node
    if node.tls_certificate_file is None or node.tls_key_file is None or node.tls_ca_file is None:
        return None
    return TlsFiles(
        node.tls_certificate_file.expanduser(),
        node.tls_key_file.expanduser(),
        node.tls_ca_file.expanduser(),
    )


def certificate_ages(files: TlsFiles, now: datetime) -> list[CertificateAge]:
    """Look at our certificate and at the authorities.

    Raises
    ------
    ConfigError
        A file holds no certificate.
    """
    key = dict(files.named())["node.tls_key_file"]
    ages = []
    for name, path in files.named():
        if path != key:
            expires_at = first_expiry(path, name)
            ages.append(CertificateAge(name, expires_at, expires_at - now))
    return ages


def warn_of_expiry(site: Site) -> None:
    """Write an event for each certificate that ends within thirty days."""
    files = tls_files(site.settings)
    if files is None:
        return
    try:
        ages = certificate_ages(files, utc_now())
    except ConfigError as error:
        get_log().error("certificate_unreadable", detail=error)
        return
    for age in (age for age in ages if age.is_due):
        payload: dict[str, str | int] = {
            "file": age.name,
            "expires_at": age.expires_at.isoformat(),
            "days_left": age.left.days,
        }
        get_log().warning(
            "certificate_expiring", detail=f"{age.name}: {age.left.days} days left; renew it"
        )
        try:
            with site.database.begin() as session:
                append_event(session, EventKind.CERTIFICATE_EXPIRING, utc_now(), payload=payload)
        except DatabaseUnavailable:
            get_log().error("event_not_written", kind=EventKind.CERTIFICATE_EXPIRING.value)
