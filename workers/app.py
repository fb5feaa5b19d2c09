"""The Celery application that ``celery -A workers.app`` looks for, and its beat schedule."""

from __future__ import annotations

import logging

from celery.signals import setup_logging

from screener.daemon.asking import ASK_EVERY_S
from screener.daemon.nightly import LOOK_FOR_AUDIT_EVERY_S
from screener.daemon.purging import PURGE_EVERY_S
from screener.daemon.site_logs import set_up_site_logs
from screener.daemon.watching import COUNT_EVERY_S
from screener.enqueue import (
    ASK_SOURCES,
    CONFIRM_SENT,
    EXPORT,
    NIGHTLY_AUDIT,
    PURGE,
    QUEUE_DELIVER,
    QUEUE_SWEEP,
    SEAL,
    SWEEP,
    WATCH,
    make_celery_app,
)
from screener.logs import TextlessHandler, keep_texts_out
from screener.settings import Settings, load_settings
from screener.streams import lose_what_nobody_takes
from workers.beat import SCHEDULER
from workers.consumer import CONSUMER
from workers.transport import TRANSPORT

#: A message that waited this many periods is dropped: the next one does its work.
PERIODS_UNTIL_STALE = 5


def beat_schedule(settings: Settings) -> dict[str, dict[str, object]]:
    """Give what beat sends and when; every task is safe to send twice."""
    # A short wait must still hold a question: it is first asked at half of the study's quiet time.
    ask_every_s = min(ASK_EVERY_S, settings.completion.study_quiet_s / 4)
    return {
        "sweep": _every(settings.workers.sweep_s, SWEEP, QUEUE_SWEEP),
        # A silent source takes a sender for its time limit: questions must not pile up.
        "ask": _every(ask_every_s, ASK_SOURCES, QUEUE_DELIVER, n_periods=1),
        "seal": _every(settings.audit.seal_every_s, SEAL, QUEUE_SWEEP),
        "watch": _every(COUNT_EVERY_S, WATCH, QUEUE_SWEEP),
        "export": _every(settings.audit_repository.every_s, EXPORT, QUEUE_DELIVER),
        "purge": _every(PURGE_EVERY_S, PURGE, QUEUE_DELIVER),
        "confirm": _every(settings.delivery.first_retry_s, CONFIRM_SENT, QUEUE_DELIVER),
        # An audit reads the whole chain and asks a PACS: no study must wait for it.
        "nightly-audit": _every(LOOK_FOR_AUDIT_EVERY_S, NIGHTLY_AUDIT, QUEUE_DELIVER, n_periods=1),
    }


def _every(
    period_s: float, task: str, queue: str, n_periods: int = PERIODS_UNTIL_STALE
) -> dict[str, object]:
    return {
        "task": task,
        "schedule": period_s,
        "options": {"queue": queue, "expires": n_periods * period_s},
    }


@setup_logging.connect  # type: ignore[untyped-decorator]
def _set_up_logs(**_: object) -> None:
    """Let Celery write through our log: its own prints bodies of messages and texts of errors."""
    set_up_site_logs(settings)
    keep_texts_out()
    for library in ("celery", "kombu", "billiard", "py.warnings"):
        logger = logging.getLogger(library)
        logger.handlers = [TextlessHandler(logging.WARNING)]
        logger.propagate = False


# Worker and beat print a banner, which ends them where its disk is full.
lose_what_nobody_takes()
settings = load_settings()
app = make_celery_app(settings)
app.conf.beat_schedule = beat_schedule(settings)
app.conf.beat_scheduler = SCHEDULER
app.conf.worker_consumer = CONSUMER
app.conf.imports = ("workers.tasks",)
if settings.broker.url.startswith(("redis", "unix")):
    app.conf.broker_transport = TRANSPORT
