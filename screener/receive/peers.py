"""Who may speak to us: a calling AE title, bound to addresses. Nobody else gets in."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass

IpNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True, slots=True)
class Peer:
    """One node that may send."""

    ae_title: str
    networks: tuple[IpNetwork, ...]


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

    def is_known_address(self, address: str) -> bool:
        """Whether any peer may come from this address."""
        return self._is_open_to_all or any(_is_within(address, peer) for peer in self._peers)

    def is_allowed(self, ae_title: str, address: str) -> bool:
        """Whether this AE title may come from this address; upper and lower case differ."""
        return self._is_open_to_all or any(
            peer.ae_title == ae_title and _is_within(address, peer) for peer in self._peers
        )


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
