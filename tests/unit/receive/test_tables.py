"""Statuses, contexts, peers and connection limits: the tables the listener decides by."""

from __future__ import annotations

import threading

import pytest
from pydicom.uid import UID
from pynetdicom.service_class import StorageServiceClass
from pynetdicom.sop_class import uid_to_service_class

from screener.receive import status as status_module
from screener.receive.contexts import ACCEPTED_CLASSES, ACCEPTED_SYNTAXES, ClassRole, role_of
from screener.receive.limits import AssociationCounter, ConnectionLimits, plain_address
from screener.receive.peers import Origin, Peer, PeerCertificate, PeerList, parse_networks
from screener.receive.status import STATUSES


def test_every_status_constant_has_its_row() -> None:
    """A status that is answered is documented, once."""
    constants = {
        value
        for name, value in vars(status_module).items()
        if name.isupper() and isinstance(value, int) and name != "MAX_COMMENT_LENGTH"
    }
    assert sorted(row.value for row in STATUSES) == sorted(constants)


def test_accepted_classes_are_storage_classes_without_repeats() -> None:
    """The network library serves each of them, and each stands once."""
    uids = [accepted.sop_class_uid for accepted in ACCEPTED_CLASSES]
    assert len(set(uids)) == len(uids)
    assert {uid_to_service_class(uid) for uid in uids} == {StorageServiceClass}


def test_accepted_syntaxes_exclude_deflated_and_big_endian() -> None:
    """Deflated is a bomb, big endian is retired."""
    uids = {syntax.transfer_syntax_uid for syntax in ACCEPTED_SYNTAXES}
    assert len(uids) == len(ACCEPTED_SYNTAXES)
    assert all(UID(uid).is_transfer_syntax for uid in uids)
    assert not any(UID(uid).is_deflated for uid in uids)
    assert all(UID(uid).is_little_endian for uid in uids)


@pytest.mark.parametrize(
    ("sop_class_uid", "role"),
    [
        ("1.2.840.10008.5.1.4.1.1.2.1", ClassRole.SCREENED),
        ("1.2.840.10008.5.1.4.1.1.1.1", ClassRole.OTHER_IMAGE),
        ("1.2.840.10008.5.1.4.1.1.88.34", ClassRole.COMPANION),
        ("1.2.840.10008.5.1.4.1.1.4", None),
    ],
)
def test_role_of_a_class(sop_class_uid: str, role: ClassRole | None) -> None:
    """CT is screened, radiographs are refused by name, reports travel along, MR is not taken."""
    assert role_of(sop_class_uid) is role


NETWORKS = parse_networks(("10.1.2.0/24",))
PIN = "ab" * 32


def test_peer_is_a_title_and_an_address() -> None:
    """Either alone does not get in; case matters."""
    peers = PeerList((Peer("CT1", NETWORKS, allow_plain=True),))
    assert peers.refusal("CT1", Origin("10.1.2.3")) == ""
    for title, address in (("CT1", "10.1.3.3"), ("ct1", "10.1.2.3"), ("CT2", "10.1.2.3")):
        assert "not known from this address" in peers.refusal(title, Origin(address))
    assert peers.is_known_address("10.1.2.9")
    assert not peers.is_known_address("127.0.0.1")


def test_plain_connections_need_a_word_of_the_site() -> None:
    """Without `allow_plain` a peer comes by TLS, and its address is unknown to the plain port."""
    peers = PeerList((Peer("CT1", NETWORKS, certificate_sha256=frozenset({PIN})),))
    assert not peers.is_known_address("10.1.2.9")
    assert peers.is_known_address("10.1.2.9", is_tls=True)
    assert "without TLS" in peers.refusal("CT1", Origin("10.1.2.9"))


@pytest.mark.parametrize(
    ("certificate", "is_let_in"),
    [
        (PeerCertificate(PIN, frozenset()), True),
        (PeerCertificate("cd" * 32, frozenset({"CT1.hospital.example"})), True),
        (PeerCertificate("cd" * 32, frozenset({"ct2.hospital.example"})), False),
        (PeerCertificate("cd" * 32, frozenset()), False),
    ],
    ids=["pin", "name", "name-of-another", "any-other"],
)
def test_certificate_is_bound_to_its_peer(certificate: PeerCertificate, is_let_in: bool) -> None:
    """A pin or a name of the certificate must be the peer's own."""
    peer = Peer(
        "CT1",
        NETWORKS,
        certificate_sha256=frozenset({PIN}),
        certificate_names=frozenset({"ct1.hospital.example"}),
    )
    refusal = PeerList((peer,)).refusal("CT1", Origin("10.1.2.3", certificate))
    assert (refusal == "") is is_let_in


def test_a_peer_without_certificate_is_not_let_in_by_any_other() -> None:
    """That the site's authority signed it does not make it this peer's."""
    peers = PeerList((Peer("CT1", NETWORKS, allow_plain=True),))
    stranger = PeerCertificate(PIN, frozenset({"other.hospital.example"}))
    assert "certificate" in peers.refusal("CT1", Origin("10.1.2.3", stranger))


def test_nobody_gets_in_without_peers() -> None:
    """Closed by default."""
    assert not PeerList(()).is_known_address("127.0.0.1")
    assert not PeerList((), is_open_to_all=True).refusal("ANY", Origin("127.0.0.1"))


def test_limits_count_per_address_and_in_total() -> None:
    """Each limit has its own reason; leaving makes room."""
    limits = ConnectionLimits(3, 2)
    assert [limits.enter("10.0.0.1") for _ in range(2)] == ["", ""]
    assert limits.enter("10.0.0.1") == "too many connections from this address"
    assert limits.enter("10.0.0.2") == ""
    assert limits.enter("10.0.0.3") == "too many connections"
    limits.leave("10.0.0.1")
    assert limits.enter("10.0.0.3") == ""


def test_associations_are_counted_per_address_and_in_total() -> None:
    """Beyond either limit there is none; leaving makes room."""
    counter = AssociationCounter(3, 2)
    assert [counter.try_enter("10.0.0.1") for _ in range(3)] == [True, True, False]
    assert [counter.try_enter(f"10.0.0.{n}") for n in (2, 3)] == [True, False]
    counter.leave("10.0.0.1")
    assert counter.try_enter("10.0.0.3")


def test_limits_tell_when_nobody_is_left() -> None:
    """Waiting ends when the last one leaves, and not before."""
    limits = ConnectionLimits(3, 3)
    limits.enter("10.0.0.1")
    assert not limits.wait_until_empty(0.01)
    leaver = threading.Timer(0.02, limits.leave, ("10.0.0.1",))
    leaver.start()
    assert limits.wait_until_empty(5)
    leaver.join()


@pytest.mark.parametrize(
    ("address", "plain"),
    [("10.1.2.3", "10.1.2.3"), ("::ffff:10.1.2.3", "10.1.2.3"), ("fe80::1%eth0", "fe80::1")],
)
def test_address_is_written_as_the_settings_write_it(address: str, plain: str) -> None:
    """IPv4 in IPv6 clothes and scope names do not hide a peer."""
    assert plain_address(address) == plain
