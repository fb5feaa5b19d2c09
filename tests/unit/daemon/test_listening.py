"""What the listening process hands on: peers and limits, and not every knock on the door."""

from __future__ import annotations

import subprocess
import sys
import threading
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from screener.daemon.listening import (
    DAMPED_FOR_S,
    MOST_DAMPED,
    MOST_WAITING_NOTICES,
    Notice,
    NoticeWriter,
    RefusalDamper,
    listener_settings,
)
from screener.errors import ConfigError
from screener.receive.arrival import AssociationNotice, AssociationOutcome
from screener.settings import PeerSettings, Settings

NOW = datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC)


def test_repeated_refusal_is_let_through_once_a_minute() -> None:
    """A health check that knocks every second makes one event a minute."""
    damper = RefusalDamper()

    passed = [
        damper.lets_through("10.0.0.9", "unknown address", NOW + timedelta(seconds=second))
        for second in range(int(DAMPED_FOR_S) + 1)
    ]

    assert passed == [True] + [False] * (len(passed) - 2) + [True]


def test_other_address_or_reason_is_let_through() -> None:
    """Damping one knocker hides no other."""
    damper = RefusalDamper()
    assert damper.lets_through("10.0.0.9", "unknown address", NOW)

    assert damper.lets_through("10.0.0.8", "unknown address", NOW)
    assert damper.lets_through("10.0.0.9", "too many associations", NOW)


def test_damper_forgets_the_oldest() -> None:
    """A scan from many addresses cannot grow the memory without end."""
    damper = RefusalDamper()
    for number in range(MOST_DAMPED + 1):
        damper.lets_through(f"address {number}", "unknown", NOW)

    assert damper.lets_through("address 0", "unknown", NOW)
    assert not damper.lets_through(f"address {MOST_DAMPED}", "unknown", NOW)


def test_listener_is_closed_unless_peers_are_named() -> None:
    """Without peers nobody is let in; a named peer comes with its addresses."""
    closed = listener_settings(Settings())
    scanner = PeerSettings(ae_title="CT1", addresses=("10.1.0.0/16",), allow_plain=True)
    opened = listener_settings(Settings(peers=(scanner,)))

    assert not closed.is_open_to_all
    assert closed.peers == ()
    assert [peer.ae_title for peer in opened.peers] == ["CT1"]
    assert str(opened.peers[0].networks[0]) == "10.1.0.0/16"


@pytest.mark.parametrize(
    ("peer", "mend"),
    [
        ({}, "CT1 has no way in; give certificate_sha256.*allow_plain = true"),
        ({"certificate_names": ("ct1",)}, "CT1 has a certificate, but nothing listens for TLS"),
    ],
)
def test_peer_without_a_way_in_is_a_wrong_setting(peer: dict[str, Any], mend: str) -> None:
    """Plain DICOM is a word of the site for each peer; nobody waits for a peer in vain."""
    entry = PeerSettings(ae_title="CT1", addresses=("10.1.0.0/16",), **peer)
    with pytest.raises(ConfigError, match=mend):
        listener_settings(Settings(peers=(entry,)))


def test_notices_that_come_too_fast_are_dropped_and_the_rest_is_written() -> None:
    """Whoever hands a notice over never waits, whatever the database does."""
    may_write, written = threading.Event(), []

    def write(notice: Notice) -> None:
        may_write.wait()
        written.append(notice)

    notice = AssociationNotice(AssociationOutcome.DROPPED, NOW, "10.0.0.9")
    with NoticeWriter(write) as writer:
        for _ in range(MOST_WAITING_NOTICES + 100):
            writer.put(notice)
        may_write.set()

    assert MOST_WAITING_NOTICES <= len(written) <= MOST_WAITING_NOTICES + 1


#: What a listener never needs; each was a tenth or more of its memory.
HEAVY = frozenset(
    {"celery", "cryptography", "gdcm", "highdicom", "httpx", "kombu", "numpy", "onnxruntime"}
    | {"PIL", "pydicom", "pynetdicom", "scipy", "torch"}
)


def test_listener_imports_nothing_heavy() -> None:
    """A listener on its embedded defaults stays small: no arrays, no pixels, no other network."""
    code = (
        "import sys; import screener.cli.app; import screener.daemon.listening;"
        "print(*{name.partition('.')[0] for name in sys.modules})"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code], check=True, timeout=120, capture_output=True, text=True
    )
    loaded = set(ended.stdout.split())
    assert "sqlalchemy" in loaded
    assert not loaded & HEAVY
