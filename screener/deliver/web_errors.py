"""What a DICOMweb service can answer and do wrong, in words, and whether to try again.

As for DIMSE (`association.py`): what a person mends at the other end is tried again, so that the
delivery goes on by itself.
"""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from enum import StrEnum
from typing import TYPE_CHECKING

import httpx

from screener.errors import DestinationRefused, DestinationUnavailable

if TYPE_CHECKING:
    from collections.abc import Mapping

    from screener.domain import WebNode

#: Longest wait that a service may ask for, in seconds; a slip there must not stop us for days.
LONGEST_RETRY_AFTER_S = 3600.0


class Meaning(StrEnum):
    """What an HTTP status means for what was asked."""

    DONE = "done"
    ABSENT = "the service has no such thing"
    SOME_STORED = "some instances stored; the body says which"
    CONTENT = "refused for its content; sent one by one to find the culprit"
    LATER = "tried again later"


@dataclass(frozen=True, slots=True)
class WebStatus:
    """One HTTP status (PS3.18 Table 8.5-1)."""

    code: int
    meaning: Meaning
    text: str  #: what to look at


STATUSES: tuple[WebStatus, ...] = (
    WebStatus(200, Meaning.DONE, "answered"),
    WebStatus(202, Meaning.SOME_STORED, "took some of it"),
    WebStatus(204, Meaning.DONE, "has nothing that matches"),
    WebStatus(400, Meaning.CONTENT, "says that the request is wrong"),
    WebStatus(401, Meaning.LATER, "does not know us; check the token, user or certificate"),
    WebStatus(403, Meaning.LATER, "does not allow it; give this user the right there"),
    WebStatus(404, Meaning.ABSENT, "has no such resource; check that url is its DICOMweb root"),
    WebStatus(405, Meaning.LATER, "does not serve this; check that url is its DICOMweb root"),
    WebStatus(406, Meaning.LATER, "cannot answer in the media type that was asked for"),
    WebStatus(408, Meaning.LATER, "waited too long for us"),
    WebStatus(409, Meaning.CONTENT, "stored none of it"),
    WebStatus(413, Meaning.CONTENT, "says that it is too large; raise its limit of a request"),
    WebStatus(415, Meaning.CONTENT, "does not take this kind of object"),
    WebStatus(422, Meaning.CONTENT, "cannot use the content"),
    WebStatus(429, Meaning.LATER, "is asked too often"),
    WebStatus(500, Meaning.LATER, "has a fault of its own; look at its log"),
    WebStatus(501, Meaning.LATER, "does not serve this; check that url is its DICOMweb root"),
    WebStatus(502, Meaning.LATER, "is not reached by its own gateway"),
    WebStatus(503, Meaning.LATER, "is busy or being serviced"),
    WebStatus(504, Meaning.LATER, "is not reached by its own gateway"),
    WebStatus(507, Meaning.LATER, "has no space left"),
)
_BY_CODE = {one.code: one for one in STATUSES}


def status_of(code: int) -> WebStatus:
    """Say what an HTTP status means; one that is not listed is tried again later."""
    known = _BY_CODE.get(code)
    return known or WebStatus(code, Meaning.LATER, "answered what we do not know")


def describe(node: WebNode) -> str:
    """Name a service in an error."""
    return node.url


def judge_status(
    node: WebNode, code: int, headers: Mapping[str, str], *, must_be: int | None = None
) -> None:
    """Let a status pass that means success.

    Raises
    ------
    DestinationUnavailable
        Trying later can help, or a person can mend it there.
    DestinationRefused
        The same question will be refused again.
    """
    status = status_of(code)
    if code == must_be or (must_be is None and status.meaning is Meaning.DONE):
        return
    text = f"{describe(node)} {status.text} (HTTP {code})"
    if status.meaning is Meaning.CONTENT:
        raise DestinationRefused(node.name, text, code)
    if must_be is not None and httpx.codes.is_success(code):
        raise DestinationRefused(
            node.name, f"{describe(node)} gave only a part (HTTP {code})", code
        )
    raise DestinationUnavailable(f"{node.name}: {text}", retry_after_s(headers))


def retry_after_s(headers: Mapping[str, str]) -> float | None:
    """Read Retry-After (RFC 9110 10.2.3), seconds or a date; None where it is not usable."""
    value = headers.get("Retry-After", "").strip()
    if value.isascii() and value.isdecimal():
        return min(float(value[:10]), LONGEST_RETRY_AFTER_S)
    try:
        at = parsedate_to_datetime(value)
    except ValueError:
        return None
    if at.tzinfo is None:
        at = at.replace(tzinfo=UTC)
    return min(max((at - datetime.now(UTC)).total_seconds(), 0.0), LONGEST_RETRY_AFTER_S)


def failed_request(node: WebNode, error: Exception) -> DestinationUnavailable:
    """Say why there was no answer, or no end of it."""
    where = describe(node)
    tls = _tls_error_of(error)
    if tls is not None:
        return DestinationUnavailable(f"{node.name}: {where}: {_tls_words(tls)}")
    if isinstance(error, httpx.TimeoutException):
        text = f"{where} did not answer within {node.timeout_s:g} s"
        if isinstance(error, httpx.ConnectTimeout):
            text = f"no connection to {where} within {node.timeout_s:g} s; check the firewall"
        return DestinationUnavailable(f"{node.name}: {text}")
    if isinstance(error, httpx.ConnectError):
        text = f"no connection to {where}; check host and port, that it runs, and the firewall"
        return DestinationUnavailable(f"{node.name}: {text}")
    if isinstance(error, httpx.LocalProtocolError):
        text = "our own file changed while it was sent"
        return DestinationUnavailable(f"{node.name}: {text}")
    return broken_off(node, "broke off or does not speak HTTP")


def broken_off(node: WebNode, words: str) -> DestinationUnavailable:
    """Say that an answer cannot be used to its end."""
    return DestinationUnavailable(f"{node.name}: {describe(node)} {words}")


def not_dicom_json(node: WebNode, content_type: str) -> DestinationUnavailable:
    """Say that something else answered than a DICOMweb service."""
    found = content_type.partition(";")[0].strip()[:64] or "no media type"
    return DestinationUnavailable(
        f"{node.name}: {describe(node)} answered with {_printable(found)}, not with readable DICOM "
        "JSON; check that url is its DICOMweb root and that no login page stands before it"
    )


def not_multipart(node: WebNode, words: str) -> DestinationUnavailable:
    """Say that a retrieval brought something else than instances."""
    return DestinationUnavailable(f"{node.name}: {describe(node)} {words}")


def too_large(node: WebNode, limit_bytes: int) -> DestinationUnavailable:
    """Say that an answer is larger than any should be."""
    text = f"answered more than {limit_bytes // 2**20} MiB of JSON"
    return DestinationUnavailable(f"{node.name}: {describe(node)} {text}")


def too_slow(node: WebNode) -> DestinationUnavailable:
    """Say that an answer trickles."""
    return DestinationUnavailable(f"{node.name}: {describe(node)} did not come to an end in time")


def redirected(node: WebNode, target: httpx.URL | None) -> DestinationUnavailable:
    """Say where a service sent us that we do not go."""
    host = _printable(f"{target.scheme}://{target.host}"[:80]) if target else "nowhere"
    return DestinationUnavailable(
        f"{node.name}: {describe(node)} sends us to {host}; results go only where url says: write "
        "the right address there"
    )


def too_many_redirects(node: WebNode) -> DestinationUnavailable:
    """Say that a service sends us in circles."""
    return DestinationUnavailable(f"{node.name}: {describe(node)} redirects without end")


def _printable(text: str) -> str:
    return "".join(c for c in text if c.isprintable())


def _tls_error_of(error: BaseException | None) -> ssl.SSLError | None:
    """Find the TLS error that a library has wrapped."""
    for _ in range(8):
        if error is None or isinstance(error, ssl.SSLError):
            return error
        error = error.__cause__ or error.__context__
    return None


def _tls_words(error: ssl.SSLError) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return (
            f"its certificate is not trusted ({_printable(error.verify_message)}); name the "
            "authority that signed it in tls_ca_file, and the host as the certificate does"
        )
    reason = (error.reason or "TLS error").replace("_", " ").lower()
    return (
        f"no TLS connection ({reason}); check that the port speaks TLS and whether it wants our "
        "tls_certificate_file"
    )


__all__ = ["STATUSES", "Meaning", "WebStatus"]
