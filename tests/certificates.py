"""A site's own CA and certificates under it, made by OpenSSL for one test."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class Certificate:
    """A certificate with its private key, as PEM files."""

    certificate: Path
    private_key: Path


def make_ca(folder: Path, name: str = "site-ca") -> Certificate:
    """Make a CA."""
    made = Certificate(folder / f"{name}.pem", folder / f"{name}.key")
    _openssl(
        *("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"),
        *("-days", "2", "-subj", f"/CN={name}", "-addext", "basicConstraints=critical,CA:TRUE"),
        *("-keyout", str(made.private_key), "-out", str(made.certificate)),
    )
    return made


def issue(ca: Certificate, folder: Path, name: str) -> Certificate:
    """Make a certificate for this machine, signed by the CA."""
    made = Certificate(folder / f"{name}.pem", folder / f"{name}.key")
    request = folder / f"{name}.csr"
    _openssl(
        *("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"),
        *("-subj", f"/CN={name}", "-keyout", str(made.private_key), "-out", str(request)),
    )
    extensions = folder / f"{name}.ext"
    extensions.write_text("subjectAltName=DNS:localhost,IP:127.0.0.1\n")
    _openssl(
        *("x509", "-req", "-in", str(request), "-CA", str(ca.certificate)),
        *("-CAkey", str(ca.private_key), "-CAcreateserial", "-days", "2"),
        *("-extfile", str(extensions), "-out", str(made.certificate)),
    )
    return made


def _openssl(*arguments: str) -> None:
    subprocess.run(["openssl", *arguments], check=True, capture_output=True)
