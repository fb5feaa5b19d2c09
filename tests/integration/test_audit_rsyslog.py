"""The trail by syslog over TLS to a real rsyslog: mutual trust, every message, in order, whole.

`test_audit_export.py` covers what a repository can do wrong. Skipped where rsyslog and
rsyslog-gnutls are not installed: `make services` does not, for Debian would start a system service.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from screener.daemon.exporting import export_trail
from screener.daemon.site import open_site
from tests.certificates import issue, make_ca
from tests.integration.processes import free_port, is_listening, running, wait_until
from tests.integration.test_audit_export import settings_for, write_events

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(
        not Path("/usr/sbin/rsyslogd").exists() or not [*Path("/usr/lib").glob("*/rsyslog/*gtls*")],
        reason="rsyslog or rsyslog-gnutls is not installed",
    ),
]

N_EVENTS = 600
CONFIGURATION = """
global(workDirectory="{folder}" maxMessageSize="64k"
  defaultNetstreamDriverCAFile="{ca}"
  defaultNetstreamDriverCertFile="{certificate}"
  defaultNetstreamDriverKeyFile="{key}")
module(load="imtcp" streamDriver.name="gtls" streamDriver.mode="1"
  streamDriver.authMode="x509/certvalid")
template(name="raw" type="string" string="%rawmsg%\\n")
input(type="imtcp" address="127.0.0.1" port="{port}")
action(type="omfile" file="{received}" template="raw" asyncWriting="off")
"""


def test_rsyslog_receives_the_trail(tmp_path: Path) -> None:
    """A product of somebody else takes all of it, and the numbers have no gap."""
    ca = make_ca(tmp_path)
    own = issue(ca, tmp_path, "repository")
    port, received = free_port(), tmp_path / "received.log"
    configuration = tmp_path / "rsyslog.conf"
    configuration.write_text(
        CONFIGURATION.format(
            folder=tmp_path,
            ca=ca.certificate,
            certificate=own.certificate,
            key=own.private_key,
            port=port,
            received=received,
        ),
        encoding="utf-8",
    )
    arguments = ["/usr/sbin/rsyslogd", "-n", "-f", str(configuration)]
    arguments += ["-i", str(tmp_path / "rsyslog.pid")]
    with running(arguments, tmp_path / "rsyslogd.log"):
        wait_until(lambda: is_listening(port), "rsyslog listens", 30)
        site = open_site(settings_for(tmp_path, ca, port))
        write_events(site, N_EVENTS)
        assert export_trail(site) == N_EVENTS

        def numbers() -> list[int]:
            text = received.read_text(encoding="utf-8") if received.exists() else ""
            return [int(one) for one in re.findall(r'\[meta sequenceId="(\d+)"\]', text)]

        wait_until(lambda: len(numbers()) >= N_EVENTS, "rsyslog wrote every message", 60)
        assert numbers() == list(range(1, N_EVENTS + 1))
        lines = received.read_text(encoding="utf-8").splitlines()
        assert all(line.endswith("</AuditMessage>") for line in lines)
