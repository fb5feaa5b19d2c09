"""Syslog over TLS to an audit record repository (PS3.15 A.6, RFC 5424, RFC 5425).

Syslog knows no answer. The closing of the connection serves as one: our closing alert is answered
by the peer, or by an orderly end, only after it has read everything before; a peer that ends with
unread data resets the connection instead. So a batch that returns was read, and one that raises
is sent again, whole.
"""

from __future__ import annotations

import socket
import ssl
from dataclasses import dataclass
from datetime import UTC
from typing import TYPE_CHECKING

from screener.errors import ConfigError, DestinationUnavailable

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime
    from pathlib import Path

#: Facility 10, security and authorisation; severity 5, normal but significant (PS3.15 A.6).
PRIORITY = 10 * 8 + 5
MSGID = "DICOM+RFC3881"
APP_NAME = "screener"
#: RFC 5424 7.3.1: the sequence number of `meta` starts again after this.
_LARGEST_SEQUENCE_ID = 2**31 - 1
#: RFC 5424 6.4: UTF-8 is announced by a byte order mark.
_BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True)
class SyslogSink:
    """Where the audit record repository listens, and how both sides prove who they are."""

    host: str
    port: int
    ca_file: Path
    certificate_file: Path | None
    private_key_file: Path | None
    timeout_s: float

    @property
    def name(self) -> str:
        """Host and port."""
        return f"{self.host}:{self.port}"


def syslog_line(message: bytes, sequence: int, at: datetime, host: str) -> bytes:
    """Give one SYSLOG-MSG of RFC 5424 with the audit message as its text.

    Parameters
    ----------
    sequence
        Number of the event; a repository sees a gap.
    host
        Our own name.
    """
    time = at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    sequence_id = (sequence - 1) % _LARGEST_SEQUENCE_ID + 1
    head = (
        f"<{PRIORITY}>1 {time} {host or '-'} {APP_NAME} - {MSGID} "
        f'[meta sequenceId="{sequence_id}"] '
    )
    return head.encode("ascii", "replace") + _BOM + message


def open_context(sink: SyslogSink) -> ssl.SSLContext:
    """Give the TLS side: 1.2 or later, the site's CA alone, our certificate where there is one.

    Raises
    ------
    ConfigError
        A file cannot be read or is none.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_verify_locations(sink.ca_file)
        if sink.certificate_file is not None:
            context.load_cert_chain(sink.certificate_file, sink.private_key_file)
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(
            f"audit_repository: a certificate cannot be read ({error}); check ca_file, "
            "certificate_file and private_key_file"
        ) from error
    return context


def send_lines(sink: SyslogSink, lines: Sequence[bytes]) -> None:
    """Send a batch over one connection; returning means that the peer has read all of it.

    Raises
    ------
    DestinationUnavailable
        No connection, no trust, or it broke: send the whole batch again.
    ConfigError
        Our own certificates cannot be used.
    """
    context = open_context(sink)
    try:
        with (
            socket.create_connection((sink.host, sink.port), sink.timeout_s) as plain,
            context.wrap_socket(plain, server_hostname=sink.host) as stream,
        ):
            for line in lines:
                stream.sendall(b"%d %s" % (len(line), line))  # RFC 5425 4.3: octet counting
            _close_in_order(stream)
    except (OSError, ssl.SSLError) as error:
        reason = getattr(error, "strerror", None) or type(error).__name__
        raise DestinationUnavailable(f"audit repository {sink.name}: {reason}") from error


def _close_in_order(stream: ssl.SSLSocket) -> None:
    try:
        stream.unwrap()
    except ssl.SSLEOFError:
        return  # ended without its closing alert, but after reading all: no reset came
    except OSError as error:
        if error.errno != 0:  # OpenSSL's word for an orderly end without the alert
            raise
