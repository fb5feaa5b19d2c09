"""The event chain of this site: its key, its sealer, its proof."""

from __future__ import annotations

from typing import TYPE_CHECKING

from screener.audit.chain import make_key_file, seal
from screener.audit.events import EventKind, JsonValue, append_event
from screener.audit.verification import ChainReport, verify_chain
from screener.daemon.site import Site, open_site, utc_now
from screener.errors import ConfigError

if TYPE_CHECKING:
    from screener.settings import Settings

#: Findings that one event names; the command shows them all.
FINDINGS_IN_EVENT = 20


def trail_key(settings: Settings) -> bytes:
    """Read the key of the chain; the first process of a new site makes it.

    Raises
    ------
    ConfigError
        The file cannot be made, what is there is no key, or it is gone though it sealed a trail.
    """
    path, checkpoints = settings.key_path, settings.checkpoint_path
    if not path.exists() and checkpoints.exists():
        raise ConfigError(
            f"audit.key_file: {path} is gone, and with it the checkpoints in {checkpoints} were "
            "signed; restore your copy. A new key is made only where there are no checkpoints: "
            "move them away if the old trail need not be proved any more"
        )
    return make_key_file(path)


def seal_trail(site: Site) -> int:
    """Seal what came since the last time; give how many events."""
    settings = site.settings
    return seal(site.database, trail_key(settings), utc_now(), settings.checkpoint_path)


def verify_trail(settings: Settings) -> ChainReport:
    """Seal the rest, recompute the chain, and record that somebody looked."""
    site = open_site(settings)
    seal_trail(site)
    report = verify_chain(site.database, trail_key(settings), settings.checkpoint_path)
    kind = EventKind.CHAIN_VERIFIED if report.is_intact else EventKind.CHAIN_BROKEN
    payload: dict[str, JsonValue] = {
        "n_events": report.n_events,
        "n_checkpoints": report.n_checkpoints,
    }
    if not report.is_intact:
        payload["findings"] = [finding.detail for finding in report.findings[:FINDINGS_IN_EVENT]]
    with site.database.begin() as session:
        append_event(session, kind, utc_now(), payload=payload)
    return report
