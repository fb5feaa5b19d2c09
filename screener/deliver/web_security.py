"""How we know a DICOMweb service, and how it knows us: TLS and secrets, both from files.

Files are read for every session, so that a renewed certificate or token needs no restart. Nothing
here can switch verification off.
"""

from __future__ import annotations

import base64
import re
import ssl
from typing import TYPE_CHECKING, NoReturn

from screener.errors import DestinationUnavailable

if TYPE_CHECKING:
    from pathlib import Path

    from screener.domain import WebNode

#: RFC 6750 2.1: what a bearer token is made of.
_TOKEN = re.compile(r"[A-Za-z0-9._~+/-]+=*")
#: RFC 7617 2: user without colon, then the password; no control characters.
_USER_AND_PASSWORD = re.compile(r"[^:\x00-\x1f\x7f]+:[^\x00-\x1f\x7f]*")
#: Larger files are no secrets.
_LARGEST_SECRET_BYTES = 64 * 1024


def tls_context(node: WebNode) -> ssl.SSLContext:
    """Make the TLS context of a node: its authorities, our certificate, TLS 1.2 or later.

    Raises
    ------
    DestinationUnavailable
        A certificate or key cannot be used; the text names the setting and the file.
    """
    if not node.url.startswith("https:"):
        return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # trusts nobody, and is not asked
    try:
        context = ssl.create_default_context(cafile=node.tls_ca_file)
    except (OSError, ssl.SSLError) as error:
        _complain(node, "tls_ca_file", node.tls_ca_file, _words(error))
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if node.tls_certificate_file is not None:
        try:
            context.load_cert_chain(
                node.tls_certificate_file, node.tls_key_file, password=_no_password
            )
        except (OSError, ssl.SSLError, _KeyIsEncrypted) as error:
            _complain(node, "tls_certificate_file", node.tls_certificate_file, _words(error))
    return context


def authorization(node: WebNode) -> dict[str, str]:
    """Give the header that names us; empty where the node asks for none.

    Raises
    ------
    DestinationUnavailable
        The file cannot be read or holds no such secret; the text names the setting and the file.
    """
    if node.bearer_token_file is not None:
        token = _secret(node, "bearer_token_file", node.bearer_token_file)
        if not _TOKEN.fullmatch(token):
            _complain(node, "bearer_token_file", node.bearer_token_file, "it holds no bearer token")
        return {"Authorization": f"Bearer {token}"}
    if node.basic_auth_file is not None:
        pair = _secret(node, "basic_auth_file", node.basic_auth_file)
        if not _USER_AND_PASSWORD.fullmatch(pair):
            _complain(node, "basic_auth_file", node.basic_auth_file, "write user:password into it")
        return {"Authorization": f"Basic {base64.b64encode(pair.encode()).decode()}"}
    return {}


class _KeyIsEncrypted(Exception):
    """The library asked for the password of a key; asking a person would stop the sender."""


def _no_password() -> NoReturn:
    raise _KeyIsEncrypted


def _secret(node: WebNode, key: str, path: Path) -> str:
    try:
        with path.open("rb") as file:
            return file.read(_LARGEST_SECRET_BYTES).decode("utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        _complain(node, key, path, _words(error))


def _words(error: Exception) -> str:
    """Say what is wrong with a file, without any of its content."""
    if isinstance(error, _KeyIsEncrypted):
        return "its key is encrypted; give one without a passphrase that only this user may read"
    if isinstance(error, ssl.SSLError):
        return f"it is no usable PEM file ({error.reason or 'TLS error'})"
    if isinstance(error, OSError):
        return error.strerror or "it cannot be read"
    return "it is no text"


def _complain(node: WebNode, key: str, path: Path | None, words: str) -> NoReturn:
    raise DestinationUnavailable(f"{node.name}: {key} {path}: {words}") from None
