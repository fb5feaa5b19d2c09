"""Send the sealed trail to the audit record repository, in order, as long as it takes.

The mark of what was sent moves only after the repository has read it. While it is away nothing
else notices: the events wait where they are.
"""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

from screener.audit.export import (
    every_sealed_event,
    exported_sequence,
    note_export,
    sealed_events,
)
from screener.audit.messages import AuditSource, SealedEvent, audit_message
from screener.daemon.sealing import seal_trail
from screener.daemon.site import Site, open_site, utc_now
from screener.deliver.syslog import SyslogSink, send_lines, syslog_line
from screener.errors import WrongUse
from screener.logs import get_log

if TYPE_CHECKING:
    from pathlib import Path

    from screener.settings import Settings


def export_trail(site: Site) -> int:
    """Send what the repository lacks; give how many events. Without a repository do nothing.

    Raises
    ------
    DestinationUnavailable
        The repository is away; what it got before stands, the next call goes on from there.
    """
    sink = sink_of(site.settings)
    if sink is None:
        return 0
    source = _source(site.settings)
    n_sent, after = 0, exported_sequence(site.database, sink.name)
    while events := sealed_events(site.database, after):
        send_lines(sink, [_line(event, source) for event in events])
        last = events[-1].sequence
        if not note_export(site.database, sink.name, after, last, utc_now()):
            return n_sent  # another sends too, and was faster
        n_sent, after = n_sent + len(events), last
    if n_sent:
        get_log().info("trail_exported", count=n_sent, destination=sink.name)
    return n_sent


def export_now(settings: Settings) -> int:
    """Seal the rest and send it to the repository of the settings.

    Raises
    ------
    WrongUse
        The settings name no repository.
    """
    if sink_of(settings) is None:
        raise WrongUse("no repository: set audit_repository.host, or give --out FILE")
    site = open_site(settings)
    seal_trail(site)
    return export_trail(site)


def write_trail(settings: Settings, path: Path, first: int, last: int | None) -> int:
    """Write a range of the trail as audit messages into a file, one a line; give how many.

    Raises
    ------
    WrongUse
        The file cannot be written.
    """
    site = open_site(settings)
    seal_trail(site)
    source = _source(settings)
    n_written = 0
    try:
        with path.open("wb") as stream:
            for event in every_sealed_event(site.database, first, last):
                stream.write(audit_message(event, source) + b"\n")
                n_written += 1
    except OSError as error:
        raise WrongUse(f"{path} cannot be written ({error.strerror}); name another") from error
    return n_written


def sink_of(settings: Settings) -> SyslogSink | None:
    """Give the repository of the settings; None where there is none."""
    entry = settings.audit_repository
    if not entry.host or entry.ca_file is None:
        return None
    return SyslogSink(
        host=entry.host,
        port=entry.port,
        ca_file=entry.ca_file,
        certificate_file=entry.certificate_file,
        private_key_file=entry.private_key_file,
        timeout_s=entry.timeout_s,
    )


def _source(settings: Settings) -> AuditSource:
    return AuditSource(
        settings.node.ae_title, socket.gethostname(), settings.report.institution_name
    )


def _line(event: SealedEvent, source: AuditSource) -> bytes:
    message = audit_message(event, source)
    return syslog_line(message, event.sequence, event.occurred_at, source.host)
