"""Logs of one site: with the key of the site where UIDs are to be hashed."""

from __future__ import annotations

import hmac
from typing import TYPE_CHECKING

from screener.daemon.sealing import trail_key
from screener.logs import set_up_logs

if TYPE_CHECKING:
    from screener.settings import Settings


def set_up_site_logs(settings: Settings) -> None:
    """Send the log of this process where and how the settings say.

    Raises
    ------
    ConfigError
        UIDs are to be hashed and the key of the site cannot be read or made.
    """
    is_hashed = settings.log.uids == "hashed"
    set_up_logs(settings.log, log_uid_key(settings) if is_hashed else None)


def log_uid_key(settings: Settings) -> bytes:
    """Derive the key of hashed UIDs from the site's key: one secret to keep."""
    return hmac.digest(trail_key(settings), b"log uid", "sha256")
