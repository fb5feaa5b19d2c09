"""The door to HTTP: one DICOMweb service, asked within limits (PS3.18).

Everything that a service can do wrong ends in a named error: it is trusted with nothing but its
answer. Redirects leave its origin never, bodies have a largest size and a longest time, and what
is not DICOM JSON or the media type that was asked for is refused by name. No error text holds a
body, a header or a secret.
"""

from __future__ import annotations

import json
import logging
import ssl
import time
from collections.abc import Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import httpx

from screener.deliver.web_errors import (
    broken_off,
    failed_request,
    judge_status,
    not_dicom_json,
    redirected,
    too_large,
    too_many_redirects,
    too_slow,
)
from screener.deliver.web_security import authorization, tls_context
from screener.version import VERSION

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from screener.domain import WebNode

#: Names and values of a query string; a list repeats its name.
Query = Mapping[str, str | int | tuple[str, ...]]

DICOM_JSON = "application/dicom+json"
#: What may stand before a DICOM JSON answer; the second is what proxies make of the first.
_JSON_TYPES = frozenset({DICOM_JSON, "application/json"})

#: Largest DICOM JSON answer, in bytes; a page of 500 instances takes about 1 MB.
LARGEST_JSON_BYTES = 32 * 1024 * 1024
#: A whole DICOM JSON answer may take so many times the time limit for one wait.
LONGEST_JSON_WAITS = 4
#: Redirects that are followed within one origin.
MOST_REDIRECTS = 3

_NO_CONTENT = 204


@dataclass(frozen=True, slots=True)
class WebAnswer:
    """What a service answered."""

    status: int
    headers: Mapping[str, str]
    document: Any  #: parsed DICOM JSON; None where there is none


class WebSession:
    """Asks one service; made by `connected`."""

    def __init__(self, node: WebNode, client: httpx.Client) -> None:
        self.node = node
        self._client = client

    def get_json(self, path: str, query: Query, *, may_be_absent: bool = False) -> Any:
        """Ask for DICOM JSON.

        Parameters
        ----------
        may_be_absent
            Whether the path names something that the service may not have; else a missing path
            (404) is an error.

        Returns
        -------
        :
            The parsed document; None where the service has nothing.

        Raises
        ------
        DestinationUnavailable, DestinationRefused
            There was no such answer.
        """
        with self._got(path, DICOM_JSON, query) as answer:
            code = answer.status_code
            if code == _NO_CONTENT or (may_be_absent and code == httpx.codes.NOT_FOUND):
                return None
            judge_status(self.node, code, answer.headers)
            document = self._json_of(answer)
        if document is None:
            raise not_dicom_json(self.node, answer.headers.get("Content-Type", ""))
        return document

    @contextmanager
    def stream(self, path: str, accept: str) -> Iterator[tuple[str, Iterator[bytes]]]:
        """Ask for a body of any size; gives its Content-Type and its bytes as they come.

        Raises
        ------
        DestinationUnavailable, DestinationRefused
            The service does not give it, or breaks off; also while the bytes are read.
        """
        with self._got(path, accept, {}) as answer:
            judge_status(self.node, answer.status_code, answer.headers, must_be=httpx.codes.OK)
            yield answer.headers.get("Content-Type", ""), self._bytes_of(answer)

    def post(
        self, path: str, content_type: str, content: Iterable[bytes], n_bytes: int
    ) -> WebAnswer:
        """Send a body of known size; gives the status and the DICOM JSON that came with it.

        A redirect is not followed: the body would have to be sent twice.

        Raises
        ------
        DestinationUnavailable
            There was no answer, or one that says to come again later.
        """
        headers = {
            "Content-Type": content_type,
            "Content-Length": str(n_bytes),
            "Accept": DICOM_JSON,
        }
        request = self._client.build_request(
            "POST", self.node.url + path, content=content, headers=headers
        )
        with self._sent(request) as answer:
            if answer.is_redirect:
                raise redirected(self.node, _target(answer))
            return WebAnswer(answer.status_code, answer.headers, self._json_of(answer))

    @contextmanager
    def _got(self, path: str, accept: str, query: Query) -> Iterator[httpx.Response]:
        """Send a GET and follow what stays within the origin."""
        url = httpx.URL(self.node.url + path, params=dict(query)) if query else self.node.url + path
        request = self._client.build_request("GET", url, headers={"Accept": accept})
        for _ in range(MOST_REDIRECTS + 1):
            with self._sent(request) as answer:
                if not answer.is_redirect:
                    yield answer
                    return
                target = _target(answer)
                if target is None or _origin(target) != _origin(request.url):
                    raise redirected(self.node, target)
                request = self._client.build_request("GET", target, headers={"Accept": accept})
        raise too_many_redirects(self.node)

    @contextmanager
    def _sent(self, request: httpx.Request) -> Iterator[httpx.Response]:
        try:
            answer = self._client.send(request, stream=True)
        except (httpx.HTTPError, httpx.InvalidURL, ssl.SSLError, OSError) as error:
            raise failed_request(self.node, error) from error
        try:
            yield answer
        finally:
            answer.close()

    def _json_of(self, answer: httpx.Response) -> Any:
        """Read a small body as DICOM JSON; None where it is something else."""
        until_s = time.monotonic() + LONGEST_JSON_WAITS * self.node.timeout_s
        body = bytearray()
        for chunk in self._bytes_of(answer):
            body += chunk
            if len(body) > LARGEST_JSON_BYTES:
                raise too_large(self.node, LARGEST_JSON_BYTES)
            if time.monotonic() > until_s:
                raise too_slow(self.node)
        media_type = answer.headers.get("Content-Type", "").partition(";")[0].strip().lower()
        # Some services send failures without saying what they are written in.
        if media_type not in _JSON_TYPES and (media_type or answer.is_success):
            return None
        try:
            document = json.loads(body)
        except (ValueError, RecursionError):
            return None
        return document if isinstance(document, dict | list) else None

    def _bytes_of(self, answer: httpx.Response) -> Iterator[bytes]:
        encoding = answer.headers.get("Content-Encoding", "identity").strip().lower()
        if encoding not in {"identity", ""}:
            # We ask for none: a small body could unfold without limit.
            raise broken_off(self.node, f"answered in content coding '{encoding[:16]}' unasked")
        try:
            yield from answer.iter_raw()  # as they come: a chunk size would wait for its fill
        except (httpx.HTTPError, httpx.StreamError, ssl.SSLError, OSError) as error:
            raise failed_request(self.node, error) from error


@contextmanager
def connected(node: WebNode) -> Iterator[WebSession]:
    """Open a session with a service; every wait has the time limit of the node.

    Certificates are always verified. Proxies, ``.netrc`` and other settings of the environment
    are left alone: what a site did not write down does not steer where results go.

    Raises
    ------
    DestinationUnavailable
        A file with a certificate or a secret cannot be used.
    """
    for library in ("httpx", "httpcore"):  # their lines hold URLs and headers
        logging.getLogger(library).setLevel(logging.CRITICAL)
    headers = {"Accept-Encoding": "identity", "User-Agent": f"ct-screener/{VERSION}"}
    with httpx.Client(
        headers=headers | authorization(node),
        verify=tls_context(node),
        timeout=node.timeout_s,
        trust_env=False,
        follow_redirects=False,
        limits=httpx.Limits(max_connections=1),
    ) as client:
        yield WebSession(node, client)


def _target(answer: httpx.Response) -> httpx.URL | None:
    """Read where a redirect leads; None where it does not say so."""
    try:
        return answer.request.url.join(answer.headers.get("Location", ""))
    except (httpx.InvalidURL, ValueError):
        return None


def _origin(url: httpx.URL) -> tuple[str, str, int | None]:
    port = url.port or {"http": 80, "https": 443}.get(url.scheme)
    return url.scheme, url.host, port
