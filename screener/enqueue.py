"""The doorbell: names of tasks and queues, and a message that carries one id.

The listener and the scheduler must not import the workers, so tasks are sent by name (ADR 0003).
A lost message costs a sweep, not a study: the dispatcher rings again for what nobody took.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from celery import Celery

    from screener.settings import Settings

SCREEN_RUN = "screener.screen_run"
DELIVER_RESULTS = "screener.deliver_results"
CONFIRM_SENT = "screener.confirm_sent"
SEAL = "screener.seal_trail"
SWEEP = "screener.sweep"
ASK_SOURCES = "screener.ask_sources"
NIGHTLY_AUDIT = "screener.nightly_audit"
WATCH = "screener.watch"
EXPORT = "screener.export_trail"
PURGE = "screener.purge"
#: Every task, with the number of ids that its message carries.
IDS_OF_TASK = {
    SCREEN_RUN: 1,
    DELIVER_RESULTS: 1,
    **dict.fromkeys(
        (CONFIRM_SENT, SEAL, SWEEP, ASK_SOURCES, NIGHTLY_AUDIT, WATCH, EXPORT, PURGE), 0
    ),
}

#: How long a look at the broker may take, in seconds.
BROKER_TIMEOUT_S = 3

QUEUE_STAT = "stat"
QUEUE_ROUTINE = "routine"
QUEUE_DELIVER = "deliver"
QUEUE_SWEEP = "sweep"
QUEUES = (QUEUE_STAT, QUEUE_ROUTINE, QUEUE_DELIVER, QUEUE_SWEEP)


class Doorbell(Protocol):
    """Tells workers that there is something to look at."""

    def ring_run(self, run_id: str, *, is_stat: bool) -> bool:
        """Ring for a run; say whether the message left."""
        ...

    def ring_delivery(self, delivery_id: str) -> bool:
        """Ring for a delivery; say whether the message left."""
        ...


class NoDoorbell:
    """The embedded default: workers poll, nobody rings."""

    def ring_run(self, run_id: str, *, is_stat: bool) -> bool:
        """Do nothing; the workers' own poll finds the run."""
        del run_id, is_stat
        return True

    def ring_delivery(self, delivery_id: str) -> bool:
        """Do nothing; the sender's own poll finds the delivery."""
        del delivery_id
        return True


class CeleryDoorbell:
    """Rings through the broker; a broker that is away is no error, the next sweep rings again."""

    def __init__(self, app: Celery) -> None:
        self._app = app

    def ring_run(self, run_id: str, *, is_stat: bool) -> bool:
        """Send one message to the STAT or the routine queue."""
        return self._send(SCREEN_RUN, run_id, QUEUE_STAT if is_stat else QUEUE_ROUTINE)

    def ring_delivery(self, delivery_id: str) -> bool:
        """Send one message to the queue of the senders."""
        return self._send(DELIVER_RESULTS, delivery_id, QUEUE_DELIVER)

    def _send(self, task: str, identifier: str, queue: str) -> bool:
        from kombu.exceptions import OperationalError  # noqa: PLC0415 - see `open_doorbell`

        try:
            self._app.send_task(task, args=(identifier,), queue=queue, retry=False)
        except OperationalError:
            return False
        return True


def open_doorbell(settings: Settings) -> Doorbell:
    """Give the doorbell that the settings ask for; Celery is imported where there is a broker."""
    if not settings.broker.url:
        return NoDoorbell()
    return CeleryDoorbell(make_celery_app(settings))


def make_celery_app(settings: Settings) -> Celery:
    """Give a Celery application configured as reliability demands (ADR 0003)."""
    from celery import Celery  # noqa: PLC0415 - see `open_doorbell`

    app = Celery("screener", broker=settings.broker.url, backend=None)
    app.conf.update(
        task_serializer="json",
        accept_content=["json"],
        task_ignore_result=True,
        # The database claim decides, not the acknowledgement.
        task_acks_late=False,
        worker_prefetch_multiplier=1,
        worker_disable_prefetch=True,
        task_publish_retry=False,
        task_create_missing_queues=True,
        task_default_queue=QUEUE_ROUTINE,
        worker_hijack_root_logger=False,
        # Our lines are JSON already; Celery would wrap each in a text of its own.
        worker_redirect_stdouts=False,
        worker_send_task_events=False,
        worker_enable_remote_control=False,
        broker_connection_retry_on_startup=True,
        broker_transport_options={
            "visibility_timeout": 3600,
            "socket_timeout": 10,
            "socket_connect_timeout": 3,
            "health_check_interval": 25,
        },
        enable_utc=True,
        timezone="UTC",
    )
    return app


def is_broker_reachable(settings: Settings) -> bool:
    """Say whether the broker of the settings accepts a connection."""
    from kombu.exceptions import OperationalError  # noqa: PLC0415 - see `open_doorbell`

    app = make_celery_app(settings)
    try:
        with app.connection_for_write() as connection:
            connection.ensure_connection(max_retries=1, interval_start=0, timeout=BROKER_TIMEOUT_S)
    except OperationalError:
        return False
    return True
