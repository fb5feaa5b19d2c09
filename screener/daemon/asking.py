"""Ask the sources of quiet studies how many instances they have, beside the sweep.

A source that does not answer costs its whole time limit. So this is a chore of its own, for which
no completion waits, and a source that was silent once is left alone for the rest of the round.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from screener.audit.ledger import UncountedStudy, expect_instances, uncounted_studies
from screener.daemon.deadline import ended_if_stuck
from screener.daemon.site import Site, archive_of, utc_now
from screener.deliver.query import count_instances
from screener.domain import DimseNode
from screener.errors import DestinationRefused, DestinationUnavailable
from screener.logs import get_log

if TYPE_CHECKING:
    from collections.abc import Sequence

    from screener.settings import CompletionSettings, PeerSettings

#: With a broker it is asked this often, in seconds: a silent source then takes one sender, not two.
ASK_EVERY_S = 30.0
#: A question that takes longer than this, in seconds, hangs.
LONGEST_QUESTION_S = 600.0


def ask_sources(site: Site) -> None:
    """Ask for every quiet study whose number is unknown; safe in two processes at once.

    Raises
    ------
    DatabaseUnavailable
        The database cannot be read or written.
    """
    peers = [one for one in site.settings.peers if one.query_port or one.query_destination]
    if not peers:
        return
    quiet_since = utc_now() - timedelta(seconds=_ask_after_s(site.settings.completion))
    for study in uncounted_studies(site.database, quiet_since):
        sources = [one for one in peers if one.ae_title in study.calling_ae_titles]
        silent = _ask(site, study, sources)
        peers = [one for one in peers if one not in silent]


def _ask_after_s(completion: CompletionSettings) -> float:
    """Give the quiet time before the question; it leaves time to answer before the wait ends."""
    return min(completion.series_quiet_s, completion.study_quiet_s / 2)


def _ask(
    site: Site, study: UncountedStudy, sources: Sequence[PeerSettings]
) -> tuple[PeerSettings, ...]:
    """Keep the first number that a source says; gives the sources that did not answer."""
    silent: list[PeerSettings] = []
    uid = study.study_instance_uid
    for peer in sources:
        try:
            with ended_if_stuck(LONGEST_QUESTION_S, "question to a source"):
                n_instances = _count(site, peer, uid)
        except (DestinationUnavailable, DestinationRefused) as error:
            get_log().warning(
                "source_not_asked", ae_title=peer.ae_title, reason=type(error).__name__
            )
            if isinstance(error, DestinationUnavailable):
                silent.append(peer)
            continue
        if n_instances is not None:
            expect_instances(site.database, uid, n_instances, last_arrival_at=study.last_arrival_at)
            break
    return tuple(silent)


def _count(site: Site, peer: PeerSettings, study_instance_uid: str) -> int | None:
    """Ask the peer itself, or the destination that knows what it has."""
    for entry in site.settings.destinations:
        if entry.name == peer.query_destination:
            return archive_of(site.settings, entry).count_instances(study_instance_uid)
    return count_instances(_query_node(site, peer), study_instance_uid)


def _query_node(site: Site, peer: PeerSettings) -> DimseNode:
    return DimseNode(
        name=peer.ae_title,
        ae_title=peer.ae_title,
        host=peer.query_address,
        port=peer.query_port,
        calling_ae_title=site.settings.node.ae_title,
        timeout_s=site.settings.node.network_timeout_s,
    )
