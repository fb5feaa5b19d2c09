"""The TLS port: who proves to be a peer gets in, and nobody else gets a byte further.

Covers certificates of every kind, silent and plain clients, versions, reload, renegotiation, a
flood of handshakes, and DCMTK as the sender. Does not cover: revocation, which is left to
short-lived certificates and pins.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import subprocess
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from pynetdicom import AE

from screener.errors import ConfigError
from screener.receive.arrival import AssociationNotice, AssociationOutcome
from screener.receive.peers import Peer, parse_networks
from tests.integration.certificates import NODE_NAME, ClientCertificate, SiteAuthority
from tests.integration.conftest import PATIENCE_S, require_tool
from tests.integration.processes import wait_until
from tests.integration.senders import associate, rejection_codes, store
from tests.receive_factories import CT_IMAGE, EXPLICIT, ct_bytes, write_ct

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pynetdicom.association import Association

    from tests.integration.conftest import RunningListener, StartListener

pytestmark = pytest.mark.integration

LOCAL = parse_networks(("127.0.0.1",))
CT1_NAME, CT2_NAME = "ct1.hospital.example", "ct2.hospital.example"


@pytest.fixture
def site(tmp_path: Path) -> SiteAuthority:
    """The authority of the site."""
    return SiteAuthority(tmp_path / "tls")


@pytest.fixture
def node(start_listener: StartListener, site: SiteAuthority) -> RunningListener:
    """A node that knows two scanners by the names in their certificates, and lets none in plain."""
    peers = (
        Peer("CT1", LOCAL, certificate_names=frozenset({CT1_NAME})),
        Peer("CT2", LOCAL, certificate_names=frozenset({CT2_NAME})),
    )
    return start_listener(
        is_open_to_all=False, peers=peers, tls_files=site.server_files(), acse_timeout_s=2.0
    )


def associate_by_tls(
    node: RunningListener, context: ssl.SSLContext, calling: str = "CT1"
) -> Association:
    """Associate on the TLS port."""
    ae = AE(calling)
    ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = PATIENCE_S
    ae.add_requested_context(CT_IMAGE, [EXPLICIT])
    return ae.associate(
        "127.0.0.1",
        node.listener.tls_port,
        ae_title="SCREENER",
        tls_args=(context, NODE_NAME),
    )


def served_by(node: RunningListener, site: SiteAuthority, name: str = CT1_NAME) -> None:
    """Prove that a peer is served now."""
    assoc = associate_by_tls(node, site.context(site.client(name)))
    assert store(assoc, ct_bytes()) == 0x0000
    assoc.release()


def is_closed(connection: socket.socket) -> bool:
    """Whether the other side closes without sending anything but a TLS alert."""
    connection.settimeout(PATIENCE_S)
    try:
        received = connection.recv(65536)
    except ConnectionError:
        return True
    return not received or received[0] == 21  # TLS alert, RFC 8446 5.1


def dropped_reasons(node: RunningListener) -> list[str]:
    return [
        notice.reason
        for notice in node.notices
        if isinstance(notice, AssociationNotice) and notice.outcome is AssociationOutcome.DROPPED
    ]


# ── who gets in ──────────────────────────────────────────────────────────────────────────────


def test_peer_with_its_certificate_stores(node: RunningListener, site: SiteAuthority) -> None:
    """The name in the certificate is bound to the AE title."""
    served_by(node, site)
    assert node.registered[0].instance.calling_ae_title == "CT1"


def test_pinned_certificate_gets_in(start_listener: StartListener, site: SiteAuthority) -> None:
    """A fingerprint binds the one certificate, whatever its names say; the pair's twin does not."""
    pinned = site.client("any.hospital.example")
    peer = Peer("CT1", LOCAL, certificate_sha256=frozenset({pinned.sha256}))
    node = start_listener(is_open_to_all=False, peers=(peer,), tls_files=site.server_files())
    assoc = associate_by_tls(node, site.context(pinned))
    assert assoc.is_established
    assoc.release()
    twin = site.client("any.hospital.example")
    assert rejection_codes(associate_by_tls(node, site.context(twin))) == (1, 1, 3)


def test_versions_before_1_2_are_refused(node: RunningListener, site: SiteAuthority) -> None:
    """TLS 1.2 and 1.3 are spoken, and what BCP 195 forbids is not."""
    for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
        context = site.context(site.client(CT1_NAME))
        context.minimum_version = context.maximum_version = version
        assoc = associate_by_tls(node, context)
        assert assoc.is_established
        assoc.release()
    offered = node.listener._context
    assert offered is not None
    assert offered.minimum_version is ssl.TLSVersion.TLSv1_2
    ciphers = [str(one["name"]) for one in offered.get_ciphers()]
    assert all("GCM" in name or "CHACHA20" in name for name in ciphers)


# ── 7: who does not ──────────────────────────────────────────────────────────────────────────


def test_input_07_plain_dicom_on_the_tls_port(node: RunningListener, site: SiteAuthority) -> None:
    """An A-ASSOCIATE-RQ is no ClientHello: closed, others are served."""
    with socket.create_connection(("127.0.0.1", node.listener.tls_port), PATIENCE_S) as plain:
        plain.sendall(bytes((1, 0, 0, 0, 0, 80)) + bytes(80))
        assert is_closed(plain)
    served_by(node, site)


def test_input_07_half_a_client_hello(node: RunningListener, site: SiteAuthority) -> None:
    """A silent and a half handshake hold up nobody, and end by the deadline."""
    address = ("127.0.0.1", node.listener.tls_port)
    with (
        socket.create_connection(address, PATIENCE_S) as silent,
        socket.create_connection(address, PATIENCE_S) as half,
    ):
        half.sendall(bytes.fromhex("16030100c8010000c40303"))
        served_by(node, site)
        assert is_closed(silent)
        assert is_closed(half)
    node.wait_for(lambda: dropped_reasons(node).count("TLS failed: no handshake in time") == 2)


def certificate_of_another_site(site: SiteAuthority, folder: Path) -> ClientCertificate:
    del site
    return SiteAuthority(folder / "elsewhere").client(CT1_NAME)


@pytest.mark.parametrize("kind", ["none", "expired", "other-authority"])
def test_input_07_no_valid_client_certificate(
    node: RunningListener, site: SiteAuthority, tmp_path: Path, kind: str
) -> None:
    """Nobody gets to an association without a certificate of the site that is valid today."""
    certificate = {
        "none": lambda: None,
        "expired": lambda: site.client(CT1_NAME, datetime.now(UTC) - timedelta(days=1)),
        "other-authority": lambda: certificate_of_another_site(site, tmp_path),
    }[kind]()
    with (
        socket.create_connection(("127.0.0.1", node.listener.tls_port), PATIENCE_S) as plain,
        site.context(certificate).wrap_socket(plain, server_hostname=NODE_NAME) as secured,
    ):
        # With TLS 1.3 the client hears of its refusal when it reads.
        secured.settimeout(PATIENCE_S)
        with pytest.raises((ssl.SSLError, ConnectionError)):
            secured.recv(1)
    node.wait_for(lambda: any(one.startswith("TLS failed: ") for one in dropped_reasons(node)))
    served_by(node, site)


def test_input_07_certificate_of_another_ae_title(
    node: RunningListener, site: SiteAuthority
) -> None:
    """A valid certificate is bound to its own title: 1/1/3 for any other."""
    assoc = associate_by_tls(node, site.context(site.client(CT2_NAME)), calling="CT1")
    assert rejection_codes(assoc) == (1, 1, 3)
    node.wait_for(
        lambda: any(
            isinstance(notice, AssociationNotice)
            and (notice.rejection, notice.reason) == ("1/1/3", "the certificate is not this peer's")
            for notice in node.notices
        )
    )


# ── a peer, or an address of one, that means harm ────────────────────────────────────────────


@contextmanager
def openssl_client(
    node: RunningListener, certificate: ClientCertificate, version: str
) -> Iterator[subprocess.Popen[bytes]]:
    """Run OpenSSL's client, which can ask for what Python's cannot; its handshake is done."""
    command = [require_tool("openssl"), "s_client", f"-{version}", "-quiet", "-no_ign_eof"]
    command += ["-connect", f"127.0.0.1:{node.listener.tls_port}"]
    command += ["-cert", str(certificate.chain), "-key", str(certificate.key), "-msg"]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    ) as client:
        for line in client.stdout or ():
            if b"Finished" in line and line.startswith(b"<<<" if version == "tls1_2" else b">>>"):
                break
        try:
            yield client
        finally:
            client.kill()
            if client.stdin is not None:
                with contextlib.suppress(BrokenPipeError):  # what it was told behind its end
                    client.stdin.close()


def test_renegotiation_is_refused(node: RunningListener, site: SiteAuthority) -> None:
    """A handshake costs the node more than the peer: one for each connection (RFC 9325 3.5)."""
    with openssl_client(node, site.client(CT1_NAME), "tls1_2") as client:
        said, _ = client.communicate(b"R\n", PATIENCE_S)
    assert said.count(b"ClientHello") == 1
    assert b"ServerHello" not in said
    assert b"no_renegotiation" in said
    served_by(node, site)


def test_new_keys_again_and_again_do_not_extend_the_deadline(
    node: RunningListener, site: SiteAuthority
) -> None:
    """A peer of TLS 1.3 may change its keys as often as it likes, and is closed all the same."""
    n_changes = 0
    with openssl_client(node, site.client(CT1_NAME), "tls1_3") as client:
        assert client.stdin is not None
        assert client.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            while client.poll() is None:
                client.stdin.write(b"K\n")
                client.stdin.flush()
                for line in client.stdout:
                    if b"KeyUpdate" in line and line.startswith(b">>>"):
                        n_changes += 1
                        break
    assert n_changes > 1
    node.wait_for(
        lambda: any(
            isinstance(one, AssociationNotice)
            and one.reason == "no association request came in time"
            for one in node.notices
        )
    )
    served_by(node, site)


def test_flood_of_handshakes_holds_up_nobody_else(
    start_listener: StartListener, site: SiteAuthority
) -> None:
    """Half, broken and whole handshakes from the address of one peer, while another sends."""
    noisy = "127.0.0.2"
    peers = (
        Peer("CT1", LOCAL, certificate_names=frozenset({CT1_NAME})),
        Peer("CT2", parse_networks((noisy,)), certificate_names=frozenset({CT2_NAME})),
    )
    node = start_listener(
        is_open_to_all=False, peers=peers, tls_files=site.server_files(), acse_timeout_s=2.0
    )
    is_over = threading.Event()
    context = site.context(None)
    n_made = [0] * 6

    def flood(number: int) -> None:
        while not is_over.is_set():
            n_made[number] += 1
            _shake_hands(node, noisy, context, number % 3)

    with ThreadPoolExecutor(len(n_made)) as pool:
        floods = [pool.submit(flood, number) for number in range(len(n_made))]
        try:
            for _ in range(3):
                served_by(node, site)
            wait_until(
                lambda: min(n_made) > 1 or any(one.done() for one in floods),
                "every flood to come twice",
            )
            served_by(node, site)
        finally:
            is_over.set()
    for one in floods:
        one.result()
    assert len(node.registered) == 4
    assert node.listener.wait_until_idle(PATIENCE_S)


def _shake_hands(node: RunningListener, address: str, context: ssl.SSLContext, kind: int) -> None:
    """Begin a handshake and stop, send what is none, or go through it without a certificate."""
    with contextlib.suppress(OSError), socket.socket() as plain:
        plain.settimeout(PATIENCE_S)
        plain.bind((address, 0))
        plain.connect(("127.0.0.1", node.listener.tls_port))
        if kind == 0:
            plain.sendall(bytes.fromhex("16030100c8010000c40303"))
        elif kind == 1:
            plain.sendall(bytes.fromhex("1603010005") + bytes(5))
            plain.recv(1)
        else:
            with context.wrap_socket(plain, server_hostname=NODE_NAME) as secured:
                secured.recv(1)


def test_plain_port_drops_who_must_come_by_tls(node: RunningListener) -> None:
    """No peer of that address may come plain: not a byte is read."""
    with socket.create_connection(("127.0.0.1", node.port), PATIENCE_S) as plain:
        assert is_closed(plain)


def test_plain_port_rejects_the_peer_that_must_come_by_tls(
    start_listener: StartListener, site: SiteAuthority
) -> None:
    """Its neighbour at the same address may come plain; it may not."""
    peers = (
        Peer("CT1", LOCAL, certificate_names=frozenset({CT1_NAME})),
        Peer("CT2", LOCAL, allow_plain=True),
    )
    node = start_listener(is_open_to_all=False, peers=peers, tls_files=site.server_files())
    assert rejection_codes(associate(node, calling="CT1")) == (1, 1, 3)
    assoc = associate(node, calling="CT2")
    assert assoc.is_established
    assoc.release()


# ── files ────────────────────────────────────────────────────────────────────────────────────


def test_reload_takes_new_certificates_and_keeps_open_associations(
    node: RunningListener, site: SiteAuthority
) -> None:
    """A renewed certificate is shown to the next peer; nobody is thrown out."""
    client = site.client(CT1_NAME)
    context = site.context(client)
    assoc = associate_by_tls(node, context)
    before = shown_certificate(node, context)
    site.server_files()
    node.listener.reload_tls()
    assert shown_certificate(node, context) != before
    assert store(assoc, ct_bytes()) == 0x0000
    assoc.release()


def test_reload_of_broken_files_keeps_the_old_ones(
    node: RunningListener, site: SiteAuthority
) -> None:
    """A mistake in the files is an error with a mend, and costs no service."""
    key = site.server_files().key
    key.write_text("no key", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"node\.tls_key_file"):
        node.listener.reload_tls()
    served_by(node, site)


def shown_certificate(node: RunningListener, context: ssl.SSLContext) -> bytes:
    with (
        socket.create_connection(("127.0.0.1", node.listener.tls_port), PATIENCE_S) as plain,
        context.wrap_socket(plain, server_hostname=NODE_NAME) as secured,
    ):
        return secured.getpeercert(binary_form=True) or b""


def test_dcmtk_stores_by_tls(node: RunningListener, site: SiteAuthority, tmp_path: Path) -> None:
    """Another implementation with the profile of BCP 195."""
    program = require_tool("storescu")
    client = site.client(CT1_NAME)
    folder = tmp_path / "series"
    folder.mkdir()
    files = [str(write_ct(folder, number).path) for number in range(1, 4)]
    authority = str(tmp_path / "tls" / "ca.pem")
    result = subprocess.run(
        [
            *(program, "+tls", str(client.key), str(client.chain), "--add-cert-file", authority),
            *("-aec", "SCREENER", "-aet", "CT1", "127.0.0.1", str(node.listener.tls_port)),
            *files,
        ],
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert len(node.registered) == 3
