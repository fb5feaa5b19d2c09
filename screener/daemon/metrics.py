"""The numbers of a node in Prometheus text: counts and ages, never a study and never a patient."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from screener.audit.alerts import AlertKind, list_alerts
from screener.audit.backlog import Backlog, measure_backlog
from screener.audit.books import newest_books
from screener.audit.export import exported_sequence
from screener.daemon.exporting import sink_of
from screener.daemon.site import Site, utc_now
from screener.daemon.watching import free_bytes

if TYPE_CHECKING:
    from collections.abc import Iterator

    from screener.audit.books import KeptBooks

Sample = tuple[tuple[str, ...], float]


@dataclass(frozen=True, slots=True)
class Metric:
    """One name with its meaning and labels."""

    name: str
    meaning: str
    labels: tuple[str, ...] = ()


STUDIES = Metric("screener_studies", "Studies by state.", ("state",))
RUNS = Metric("screener_runs", "Runs by state.", ("state",))
DELIVERIES = Metric(
    "screener_deliveries", "Deliveries by destination and state.", ("destination", "state")
)
INSTANCES = Metric("screener_instances", "Received instances whose files are here.")
SPOOL_BYTES = Metric("screener_spool_bytes", "Size of those files.")
QUARANTINE = Metric("screener_quarantined_studies", "Studies with instances in quarantine.")
OLDEST_OPEN = Metric("screener_oldest_open_study_seconds", "Age of the study received longest.")
OLDEST_QUEUED = Metric("screener_oldest_queued_run_seconds", "Wait of the run that waits longest.")
OLDEST_UNSENT = Metric(
    "screener_oldest_unsent_seconds", "Age of the oldest result not sent.", ("destination",)
)
OLDEST_UNCONFIRMED = Metric(
    "screener_oldest_unconfirmed_seconds",
    "Time since the oldest result was sent that is not confirmed.",
    ("destination",),
)
DISK_FREE = Metric("screener_disk_free_bytes", "Free space where the spool is.")
DISK_RESERVE = Metric("screener_disk_reserve_bytes", "Free space below which senders are refused.")
EVENTS = Metric("screener_events_sealed", "Events of the sealed trail.")
UNSEALED = Metric("screener_events_unsealed", "Events that wait for the sealer.")
OLDEST_UNSEALED = Metric("screener_oldest_unsealed_event_seconds", "Wait of the oldest of those.")
UNEXPORTED = Metric("screener_events_unexported", "Sealed events the audit repository lacks.")
ALERTS = Metric("screener_alerts_open", "Open alerts by kind.", ("kind",))
BALANCED = Metric("screener_books_balanced", "1 where the newest accounting broke no rule.")
BOOKS_AGE = Metric("screener_books_age_seconds", "Age of the newest accounting.")

#: Every metric, in the order of the page; documented in docs/reference/metrics.md.
METRICS = (
    STUDIES, RUNS, DELIVERIES, INSTANCES, SPOOL_BYTES, QUARANTINE, OLDEST_OPEN, OLDEST_QUEUED,
    OLDEST_UNSENT, OLDEST_UNCONFIRMED, DISK_FREE, DISK_RESERVE, EVENTS, UNSEALED, OLDEST_UNSEALED,
    UNEXPORTED, ALERTS, BALANCED, BOOKS_AGE,
)  # fmt: skip


def metrics_text(site: Site) -> bytes:
    """Measure now; give the text that Prometheus reads.

    Raises
    ------
    DatabaseUnavailable
        The database cannot be read.
    """
    registry = CollectorRegistry()
    registry.register(_Measured(tuple(_measure(site))))
    return generate_latest(registry)


class _Measured(Collector):
    """Hands on what was measured once; the library would ask twice."""

    def __init__(self, families: tuple[GaugeMetricFamily, ...]) -> None:
        self._families = families

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Give the families."""
        yield from self._families


def _measure(site: Site) -> Iterator[GaugeMetricFamily]:
    now = utc_now()
    backlog = measure_backlog(site.database, now)
    yield from _of_backlog(backlog)
    yield _family(DISK_FREE, [((), free_bytes(site.settings.spool_path))])
    yield _family(DISK_RESERVE, [((), site.settings.spool.reserve_bytes)])
    sink = sink_of(site.settings)
    if sink is not None:
        n_behind = backlog.last_sequence - exported_sequence(site.database, sink.name)
        yield _family(UNEXPORTED, [((), n_behind)])
    open_kinds = [one.kind for one in list_alerts(site.database, is_open_only=True)]
    yield _family(ALERTS, [((kind.value,), open_kinds.count(kind.value)) for kind in AlertKind])
    books = newest_books(site.database)
    if books is not None:
        yield from _of_books(books, (now - books.checked_at).total_seconds())


def _of_books(books: KeptBooks, age_s: float) -> Iterator[GaugeMetricFamily]:
    yield _family(BALANCED, [((), float(books.is_balanced))])
    yield _family(BOOKS_AGE, [((), age_s)])


def _of_backlog(backlog: Backlog) -> Iterator[GaugeMetricFamily]:
    places = backlog.destinations
    yield _family(STUDIES, [((state,), n) for state, n in backlog.studies_by_state])
    yield _family(RUNS, [((state,), n) for state, n in backlog.runs_by_state])
    yield _family(
        DELIVERIES,
        [((one.destination, state), n) for one in places for state, n in one.n_by_state],
    )
    yield _family(INSTANCES, [((), backlog.n_instances)])
    yield _family(SPOOL_BYTES, [((), backlog.n_bytes)])
    yield _family(QUARANTINE, [((), backlog.n_quarantined_studies)])
    yield _family(OLDEST_OPEN, [((), backlog.oldest_open_s)])
    yield _family(OLDEST_QUEUED, [((), backlog.oldest_queued_s)])
    yield _family(OLDEST_UNSENT, [((one.destination,), one.oldest_unsent_s) for one in places])
    yield _family(
        OLDEST_UNCONFIRMED, [((one.destination,), one.oldest_unconfirmed_s) for one in places]
    )
    yield _family(EVENTS, [((), backlog.last_sequence)])
    yield _family(UNSEALED, [((), backlog.n_unsealed_events)])
    yield _family(OLDEST_UNSEALED, [((), backlog.oldest_unsealed_s)])


def _family(metric: Metric, samples: list[Sample]) -> GaugeMetricFamily:
    family = GaugeMetricFamily(metric.name, metric.meaning, labels=metric.labels)
    for labels, value in samples:
        family.add_metric(list(labels), value)
    return family
