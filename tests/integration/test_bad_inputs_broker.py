"""Bad inputs 57 and 58 against a real worker on a real Redis: refused, told, and never shown.

Beside `test_bad_inputs_work.py`, which asks the settings and the claims. Does not cover: a million
messages; what each costs is the same.
"""

from __future__ import annotations

import base64
import json
import sys
import uuid
from typing import TYPE_CHECKING

import pytest
import redis

from screener.daemon.site import Site, open_site
from screener.enqueue import QUEUE_SWEEP, SCREEN_RUN, SEAL, make_celery_app
from screener.settings import Settings
from tests.integration.processes import running, wait_until
from tests.integration.sealing import wait_for_seal

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.integration, pytest.mark.timeout(600)]

CANARY = "DOE^JOHN^FROM^A^MESSAGE"
N_FORGED = 2_000
LONG = 100 * 1024 * 1024


def message(
    task: str, arguments: object, content_type: str = "application/json", **embedded: object
) -> bytes:
    """Write what kombu puts into a list of Redis."""
    identifier = str(uuid.uuid4())
    content = json.dumps([arguments, {}, embedded]).encode()
    if content_type == "application/x-python-serialize":
        content = b"cos\nsystem\n(S'" + CANARY.encode() + b"'\ntR."
    return json.dumps(
        {
            "body": base64.b64encode(content).decode(),
            "content-encoding": "utf-8" if "json" in content_type else "binary",
            "content-type": content_type,
            "headers": {"lang": "py", "task": task, "id": identifier, "root_id": identifier},
            "properties": {
                "correlation_id": identifier,
                "delivery_mode": 2,
                "delivery_tag": identifier,
                "delivery_info": {"exchange": "", "routing_key": QUEUE_SWEEP},
                "body_encoding": "base64",
            },
        }
    ).encode()


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, redis_url: str) -> Iterator[Site]:
    """Give a node with a real worker on one queue."""
    tmp_path = tmp_path_factory.mktemp("node")
    path = tmp_path / "screener.toml"
    path.write_text(
        f'data_dir = "{tmp_path / "data"}"\nbroker = {{ url = "{redis_url}" }}\n', encoding="utf-8"
    )
    one = open_site(Settings(data_dir=tmp_path / "data", broker={"url": redis_url}))
    with redis.Redis.from_url(redis_url, socket_timeout=120) as client:
        client.flushall()
    celery = (sys.executable, "-m", "celery", "-A", "workers.app", "worker", "-c", "1")
    arguments = (*celery, "-Q", QUEUE_SWEEP)
    with running(arguments, tmp_path / "worker.log", {"SCREENER_SETTINGS": str(path)}):
        yield one


def ring_for_seal(site: Site) -> None:
    """Send the one message that is ours."""
    make_celery_app(site.settings).send_task(SEAL, queue=QUEUE_SWEEP, expires=600)


def test_input_57_hostile_messages_are_refused_and_not_shown(site: Site, redis_url: str) -> None:
    """Pickle, YAML, unknown tasks, wrong arguments, 100 MB: the worker goes on, its log is mute."""
    hostile = [
        message(SCREEN_RUN, [CANARY], "application/x-python-serialize"),
        message(SCREEN_RUN, [CANARY], "application/x-yaml"),
        message("nobody.knows", [CANARY]),
        message(f"{SEAL}.{CANARY}", []),
        message(SEAL, [CANARY, {"more": CANARY}]),
        message(SEAL, CANARY),
        message(SEAL, [CANARY * (LONG // len(CANARY))]),
        b"no message: " + CANARY.encode(),
        json.dumps({"body": CANARY}).encode(),
        json.dumps([CANARY]).encode(),
        b"[" * 200_000,
        json.dumps({"headers": {"task": [SEAL]}, "properties": []}).encode(),
        message(SEAL, [], callbacks=[{"task": SEAL, "args": [CANARY]}]),
    ]
    with redis.Redis.from_url(redis_url, socket_timeout=120) as client:
        for one in hostile:
            client.lpush(QUEUE_SWEEP, one)
        wait_for_seal(site, lambda: ring_for_seal(site))
        assert not client.llen(QUEUE_SWEEP)
    log = (site.settings.data_path.parent / "worker.log").read_text(errors="replace")
    assert CANARY not in log
    assert len(log) < LONG // 1000


def test_input_58_forged_doorbells_hold_up_nothing(site: Site, redis_url: str) -> None:
    """Thousands of rings for tasks and runs that are none, and one that is: it gets its turn."""
    with redis.Redis.from_url(redis_url, socket_timeout=120) as client:
        for _ in range(N_FORGED):
            client.lpush(QUEUE_SWEEP, message(f"{SEAL}s", [str(uuid.uuid4())]))
        wait_for_seal(site, lambda: ring_for_seal(site))
        wait_until(lambda: client.llen(QUEUE_SWEEP) == 0, "every message was taken", 60)
