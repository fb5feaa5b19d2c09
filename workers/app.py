"""The Celery application that ``celery -A workers.app`` looks for, and its beat schedule."""

from __future__ import annotations

from datetime import time

from celery.schedules import crontab

from screener.enqueue import (
    NIGHTLY_AUDIT,
    QUEUE_SWEEP,
    SWEEP,
    make_celery_app,
)
from screener.settings import Settings, load_settings

#: A sweep message older than this many sweeps is dropped: the next one does its work.
SWEEPS_UNTIL_STALE = 5


def beat_schedule(settings: Settings) -> dict[str, dict[str, object]]:
    """Give what beat sends and when; every task is safe to send twice."""
    nightly_at = time.fromisoformat(settings.audit.nightly_at_utc)
    return {
        "sweep": {
            "task": SWEEP,
            "schedule": settings.workers.sweep_s,
            "options": {
                "queue": QUEUE_SWEEP,
                "expires": SWEEPS_UNTIL_STALE * settings.workers.sweep_s,
            },
        },
        "nightly-audit": {
            "task": NIGHTLY_AUDIT,
            "schedule": crontab(hour=nightly_at.hour, minute=nightly_at.minute),
            "options": {"queue": QUEUE_SWEEP},
        },
    }


settings = load_settings()
app = make_celery_app(settings)
app.conf.beat_schedule = beat_schedule(settings)
app.conf.imports = ("workers.tasks",)
