"""TLS of the second port: contexts, the certificate of a peer, and when ours ends.

The BCP 195 profile (DICOM PS3.15 B.12; RFC 8996, RFC 9325): TLS 1.2 at least, 1.3 preferred,
forward secrecy, authenticated ciphers, and a client certificate from the site's own authority.
"""

from __future__ import annotations

import hashlib
import ssl
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from screener.errors import ConfigError
from screener.receive.peers import PeerCertificate

if TYPE_CHECKING:
    from datetime import datetime
    from pathlib import Path

#: Ciphers of TLS 1.2 (RFC 9325 4.2); those of TLS 1.3 are all of this kind.
_CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"
#: Kinds of Subject Alternative Name that identify a node (RFC 5280 4.2.1.6).
_NAME_KINDS = frozenset({"DNS", "IP Address", "URI"})


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """PEM files of the TLS port."""

    certificate: Path  #: ours, with its chain
    key: Path  #: of our certificate, without a password
    authorities: Path  #: that sign the certificates of peers

    def named(self) -> tuple[tuple[str, Path], ...]:
        """Give each file with the key of the settings that names it."""
        return (
            ("node.tls_certificate_file", self.certificate),
            ("node.tls_key_file", self.key),
            ("node.tls_ca_file", self.authorities),
        )


def server_context(files: TlsFiles) -> ssl.SSLContext:
    """Build the context of the listening side.

    Raises
    ------
    ConfigError
        A file cannot be read, or key and certificate do not belong together.
    """
    for name, path in files.named():
        _check_readable(name, path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.verify_mode = ssl.CERT_REQUIRED
    context.set_ciphers(_CIPHERS)
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    # A resumed session would outlive the reload of authorities and pins.
    context.options |= ssl.OP_NO_TICKET
    context.num_tickets = 0
    try:
        # Without a callback OpenSSL would ask for the password at the terminal.
        context.load_cert_chain(files.certificate, files.key, password=lambda: b"")
    except (ssl.SSLError, OSError, ValueError) as error:
        raise ConfigError(
            f"node.tls_key_file: {files.key} is no key without password for the certificate "
            f"{files.certificate}; give the pair that belongs together, as PEM"
        ) from error
    try:
        context.load_verify_locations(cafile=files.authorities)
    except (ssl.SSLError, OSError) as error:
        raise ConfigError(
            f"node.tls_ca_file: {files.authorities} holds no certificate; give those of the "
            "authorities that sign the certificates of your peers, as PEM"
        ) from error
    return context


def peer_certificate(connection: ssl.SSLSocket) -> PeerCertificate:
    """Give what identifies the certificate of an authenticated peer.

    Raises
    ------
    ssl.SSLError
        There is none.
    """
    encoded = connection.getpeercert(binary_form=True)
    decoded = connection.getpeercert()
    if not encoded or not decoded:
        raise ssl.SSLError("the peer showed no certificate")
    names: set[str] = set()
    alternatives: Any = decoded.get("subjectAltName", ())  # pairs of a kind and a name
    names.update(str(name) for kind, name in alternatives if kind in _NAME_KINDS)
    return PeerCertificate(hashlib.sha256(encoded).hexdigest(), frozenset(names))


def first_expiry(path: Path, name: str) -> datetime:
    """Give when the first certificate of a PEM file ends.

    Raises
    ------
    ConfigError
        The file holds no certificate; `name` is the key of the settings that names it.
    """
    _check_readable(name, path)
    try:
        from cryptography import x509  # noqa: PLC0415 - megabytes, for a TLS port alone

        certificates = x509.load_pem_x509_certificates(path.read_bytes())
    except ValueError as error:
        raise ConfigError(f"{name}: {path} holds no certificate; write it as PEM") from error
    return min(certificate.not_valid_after_utc for certificate in certificates)


def _check_readable(name: str, path: Path) -> None:
    try:
        with path.open("rb"):
            pass
    except OSError as error:
        raise ConfigError(
            f"{name}: {path} cannot be read ({error.strerror}); name a PEM file that the "
            "screener's user may read"
        ) from error
