"""Who may speak to us: an AE title, bound to addresses and a client certificate. Nobody else.

An AE title is a name, no credential: anybody can say it. What proves a peer is its certificate;
without TLS its address has to do, and only where the site says so for that peer.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field

IpNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True, slots=True)
class PeerCertificate:
    """What identifies the certificate that a peer proved to hold."""

    sha256: str  #: of its DER form, hexadecimal
    names: frozenset[str]  #: DNS, IP and URI names of its Subject Alternative Name extension


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a connection comes from, as far as it is proved."""

    address: str
    certificate: PeerCertificate | None = None  #: None where there is no TLS

    @property
    def is_tls(self) -> bool:
        """Whether the connection is encrypted and its peer authenticated."""
        return self.certificate is not None


@dataclass(frozen=True, slots=True)
class Peer:
    """One node that may send."""

    ae_title: str
    networks: tuple[IpNetwork, ...]
    allow_plain: bool = False  #: whether it may come without TLS
    certificate_sha256: frozenset[str] = field(default=frozenset())  #: pins; any one of them
    certificate_names: frozenset[str] = field(default=frozenset())  #: names; any one of them

    def owns(self, certificate: PeerCertificate) -> bool:
        """Whether a certificate is this peer's."""
        names = {name.lower() for name in certificate.names}
        return certificate.sha256 in self.certificate_sha256 or any(
            name.lower() in names for name in self.certificate_names
        )


class PeerList:
    """All nodes that may send.

    Parameters
    ----------
    peers
        The nodes; an AE title that stands in none is refused.
    is_open_to_all
        Let anybody in, whatever the AE title and address; for tests and isolated networks.
    """

    def __init__(self, peers: tuple[Peer, ...], *, is_open_to_all: bool = False) -> None:
        self._peers = peers
        self._is_open_to_all = is_open_to_all

    def is_known_address(self, address: str, *, is_tls: bool = False) -> bool:
        """Whether any peer may come from this address, with TLS or without."""
        return self._is_open_to_all or any(
            _is_within(address, peer) and (is_tls or peer.allow_plain) for peer in self._peers
        )

    def refusal(self, ae_title: str, origin: Origin) -> str:
        """Say why this AE title may not come from there; empty where it may.

        Upper and lower case differ.
        """
        if self._is_open_to_all:
            return ""
        found = [
            peer
            for peer in self._peers
            if peer.ae_title == ae_title and _is_within(origin.address, peer)
        ]
        if not found:
            return "calling AE title is not known from this address"
        if origin.certificate is None:
            allowed = any(peer.allow_plain for peer in found)
            return "" if allowed else "this peer may not come without TLS"
        allowed = any(peer.owns(origin.certificate) for peer in found)
        return "" if allowed else "the certificate is not this peer's"


def parse_networks(addresses: tuple[str, ...]) -> tuple[IpNetwork, ...]:
    """Turn addresses and networks as the settings write them into networks.

    Raises
    ------
    ValueError
        One is neither.
    """
    return tuple(ipaddress.ip_network(address, strict=False) for address in addresses)


def _is_within(address: str, peer: Peer) -> bool:
    parsed = ipaddress.ip_address(address)
    return any(parsed in network for network in peer.networks)
