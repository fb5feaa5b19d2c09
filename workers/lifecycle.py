"""What a worker process opens once, after the fork, and keeps: database and model sessions.

Opened on first use inside the child: a session or a connection made before the fork would be
shared by accident, and CUDA does not survive one.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

from screener.daemon.site import Site, open_site
from screener.daemon.site_logs import set_up_site_logs
from screener.daemon.tools import open_tools
from screener.logs import keep_texts_out
from screener.settings import load_settings

if TYPE_CHECKING:
    from screener.journey import Tools


@cache
def process_site() -> Site:
    """Open settings and database of this process."""
    settings = load_settings()
    set_up_site_logs(settings)
    keep_texts_out()
    return open_site(settings)


@cache
def process_tools() -> Tools:
    """Open the model sessions of this process; a changed byte refuses the start."""
    return open_tools(process_site().settings)
