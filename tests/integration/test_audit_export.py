"""The trail by syslog over TLS to a repository of this test: in order, complete, whatever happens.

Covers: framing and header, mutual trust, a repository that is away, that breaks off in the middle
of a batch, that ends without a closing alert; two exporters. Does not cover: rsyslog or another
product as repository.
"""

from __future__ import annotations

import re
import socket
import ssl
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from screener.audit.events import EventKind, append_event
from screener.audit.export import exported_sequence, oldest_unexported_s
from screener.daemon.exporting import export_now, export_trail, sink_of, write_trail
from screener.daemon.sealing import seal_trail
from screener.daemon.site import Site, open_site, utc_now
from screener.errors import ConfigError, DestinationUnavailable, WrongUse
from screener.settings import Settings
from tests.certificates import Certificate, issue, make_ca

pytestmark = pytest.mark.integration

FRAME = re.compile(rb"(\d+) ")


class Repository:
    """An audit record repository on loopback; breaks off as the test wishes."""

    def __init__(self, ca: Certificate, own: Certificate) -> None:
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(own.certificate, own.private_key)
        self.context.load_verify_locations(ca.certificate)
        self.context.verify_mode = ssl.CERT_REQUIRED
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.lines: list[bytes] = []
        self.n_connections = 0
        self.breaks_after_bytes: int | None = None
        self.says_goodbye = True
        self.thread = threading.Thread(target=self._serve, daemon=True)
        self.thread.start()

    def close(self) -> None:
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        self.thread.join(10)

    def _serve(self) -> None:
        while True:
            try:
                plain, _ = self.listener.accept()
            except OSError:
                return
            self.n_connections += 1
            try:
                with plain:
                    self._read(self.context.wrap_socket(plain, server_side=True))
            except OSError:
                continue

    def _read(self, stream: ssl.SSLSocket) -> None:
        content = b""
        try:
            while part := stream.recv(65536):
                content += part
                if self.breaks_after_bytes is not None and len(content) > self.breaks_after_bytes:
                    linger = struct.pack("ii", 1, 0)  # a machine that dies resets, or is silent
                    stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                    stream.close()
                    return
        finally:
            self._keep_frames(content)
        if self.says_goodbye:
            stream.unwrap()
        stream.close()

    def _keep_frames(self, content: bytes) -> None:
        while head := FRAME.match(content):
            start, length = head.end(), int(head[1])
            if len(content) < start + length:
                return
            self.lines.append(content[start : start + length])
            content = content[start + length :]

    @property
    def sequences(self) -> list[int]:
        found = (re.search(rb'\[meta sequenceId="(\d+)"\]', line) for line in self.lines)
        return [int(one[1]) for one in found if one]


@pytest.fixture(scope="module")
def ca(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return make_ca(tmp_path_factory.mktemp("ca"))


@pytest.fixture
def repository(tmp_path: Path, ca: Certificate) -> Iterator[Repository]:
    with running(ca, tmp_path) as one:
        yield one


@contextmanager
def running(ca: Certificate, folder: Path) -> Iterator[Repository]:
    one = Repository(ca, issue(ca, folder, "repository"))
    try:
        yield one
    finally:
        one.close()


@pytest.fixture
def site(tmp_path: Path, node_folder: Path, ca: Certificate, repository: Repository) -> Site:
    return open_site(settings_for(tmp_path, ca, repository.port))


def settings_for(folder: Path, ca: Certificate, port: int) -> Settings:
    own = issue(ca, folder, "node")
    return Settings.model_validate(
        {
            "data_dir": folder / "node",
            "audit_repository": {
                "host": "localhost",
                "port": port,
                "ca_file": ca.certificate,
                "certificate_file": own.certificate,
                "private_key_file": own.private_key,
                "timeout_s": 5.0,
            },
        }
    )


def write_events(site: Site, n_events: int) -> None:
    with site.database.begin() as session:
        for number in range(n_events):
            payload = {"process": f"p{number}", "version": "1", "host": "h" * 200}
            append_event(session, EventKind.NODE_STARTED, utc_now(), payload=payload)
    seal_trail(site)


def mark(site: Site) -> int:
    sink = sink_of(site.settings)
    assert sink is not None
    return exported_sequence(site.database, sink.name)


def test_trail_arrives_in_order_with_its_header(site: Site, repository: Repository) -> None:
    """Facility 10, severity 5, our message id, an audit message each, numbers without a gap."""
    write_events(site, 7)
    assert export_trail(site) == 7
    assert repository.sequences == list(range(1, 8))
    pattern = rb"<85>1 \d{4}-\d\d-\d\dT[\d:.]+Z \S+ screener - DICOM\+RFC3881 \[meta [^]]+\] "
    assert all(re.match(pattern + b"\xef\xbb\xbf<AuditMessage>", one) for one in repository.lines)
    assert export_trail(site) == 0
    assert repository.n_connections == 1


def test_repository_that_is_away_loses_nothing(tmp_path: Path, ca: Certificate) -> None:
    """Events wait where they are, and all of them come, in order, when it is back."""
    with running(ca, tmp_path) as before:
        port = before.port
    site = open_site(settings_for(tmp_path, ca, port))
    for _ in range(3):
        write_events(site, 400)
        with pytest.raises(DestinationUnavailable, match="audit repository localhost"):
            export_trail(site)
    sink = sink_of(site.settings)
    assert sink is not None
    assert oldest_unexported_s(site.database, sink.name, utc_now()) > 0
    with running(ca, tmp_path) as back:
        moved = site.settings.audit_repository.model_copy(update={"port": back.port})
        settings = site.settings.model_copy(update={"audit_repository": moved})
        assert export_now(settings) == 1200
        assert back.sequences == list(range(1, 1201))


def test_broken_batch_is_sent_again(site: Site, repository: Repository) -> None:
    """What a dying repository may have read does not count; order and completeness do."""
    write_events(site, 300)
    repository.breaks_after_bytes = 100_000
    with pytest.raises(DestinationUnavailable):
        export_trail(site)
    assert mark(site) == 0
    repository.breaks_after_bytes = None
    repository.lines.clear()
    assert export_trail(site) == 300
    assert repository.sequences == list(range(1, 301))


def test_orderly_end_without_goodbye_counts(site: Site, repository: Repository) -> None:
    """Not every product answers the closing alert; an end without a reset says enough."""
    repository.says_goodbye = False
    write_events(site, 3)
    assert export_trail(site) == 3
    assert mark(site) == 3


def test_repository_of_another_ca_gets_nothing(
    site: Site, tmp_path: Path, repository: Repository
) -> None:
    """Trust is the site's CA alone."""
    write_events(site, 1)
    stranger = make_ca(tmp_path, "stranger")
    other = site.settings.audit_repository.model_copy(update={"ca_file": stranger.certificate})
    settings = site.settings.model_copy(update={"audit_repository": other})
    with pytest.raises(DestinationUnavailable):
        export_now(settings)
    assert repository.lines == []


def test_certificate_that_is_none_is_named(site: Site, tmp_path: Path) -> None:
    """A wrong file is a wrong setting, with its mend."""
    write_events(site, 1)
    (tmp_path / "nonsense.pem").write_text("nonsense")
    entry = site.settings.audit_repository.model_copy(update={"ca_file": tmp_path / "nonsense.pem"})
    with pytest.raises(ConfigError, match="check ca_file"):
        export_now(site.settings.model_copy(update={"audit_repository": entry}))


def test_two_exporters_lose_nothing(site: Site, repository: Repository) -> None:
    """A repository may get a batch twice; never a gap."""
    write_events(site, 900)
    threads = [threading.Thread(target=export_trail, args=(site,)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    export_trail(site)
    assert set(repository.sequences) == set(range(1, 901))
    assert mark(site) == 900


def test_range_is_written_to_a_file(site: Site, tmp_path: Path) -> None:
    """Any part of the trail, again and again, one message a line."""
    write_events(site, 5)
    path = tmp_path / "trail.xml"
    assert write_trail(site.settings, path, 2, 4) == 3
    assert len(path.read_bytes().splitlines()) == 3
    with pytest.raises(WrongUse, match="cannot be written"):
        write_trail(site.settings, tmp_path / "no" / "folder", 1, None)


def test_export_without_repository_is_wrong_use(tmp_path: Path) -> None:
    """The text says what to set."""
    with pytest.raises(WrongUse, match=r"audit_repository\.host"):
        export_now(Settings.model_validate({"data_dir": tmp_path}))
