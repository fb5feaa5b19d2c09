"""A certificate authority of a site for the tests, and certificates of every kind it may see."""

from __future__ import annotations

import hashlib
import ssl
from dataclasses import dataclass
from typing import TYPE_CHECKING

import trustme

from screener.receive.tls import TlsFiles

if TYPE_CHECKING:
    from datetime import datetime
    from pathlib import Path

NODE_NAME = "screener.hospital.example"


@dataclass(frozen=True, slots=True)
class ClientCertificate:
    """A certificate with its key, as files."""

    chain: Path
    key: Path
    sha256: str


class SiteAuthority:
    """Signs certificates; writes files into a folder."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._authority = trustme.CA()
        self._authority.cert_pem.write_to_path(folder / "ca.pem")

    def server_files(self, not_after: datetime | None = None) -> TlsFiles:
        """Write what the listening side needs; the same paths each time."""
        issued = self._authority.issue_cert(NODE_NAME, not_after=not_after)
        chain, key = self._folder / "node.crt", self._folder / "node.key"
        chain.write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
        issued.private_key_pem.write_to_path(key)
        return TlsFiles(chain, key, self._folder / "ca.pem")

    def client(self, name: str, not_after: datetime | None = None) -> ClientCertificate:
        """Issue a certificate for a DNS name."""
        issued = self._authority.issue_cert(name, not_after=not_after)
        chain, key = self._folder / f"{name}.crt", self._folder / f"{name}.key"
        chain.write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
        issued.private_key_pem.write_to_path(key)
        der = ssl.PEM_cert_to_DER_cert(issued.cert_chain_pems[0].bytes().decode())
        return ClientCertificate(chain, key, hashlib.sha256(der).hexdigest())

    def context(self, certificate: ClientCertificate | None) -> ssl.SSLContext:
        """Give the context of a client that trusts this authority."""
        context = ssl.create_default_context(cafile=str(self._folder / "ca.pem"))
        if certificate is not None:
            context.load_cert_chain(certificate.chain, certificate.key)
        return context
