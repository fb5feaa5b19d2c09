"""Rows of the tables that commands print."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from screener.audit.alerts import AlertStatus
    from screener.audit.queries import RunStatus, StudyStatus

STATUS_COLUMNS = (
    "study",
    "state",
    "instances",
    "run",
    "result",
    "deliveries",
    "last arrival (UTC)",
)

ALERT_COLUMNS = ("alert", "about", "detail", "since (UTC)", "until (UTC)")


def alert_row(alert: AlertStatus) -> tuple[object, ...]:
    """Give one alert as a row of `ALERT_COLUMNS`."""
    until = f"{alert.resolved_at:%Y-%m-%d %H:%M:%S}" if alert.resolved_at else "open"
    since = f"{alert.raised_at:%Y-%m-%d %H:%M:%S}"
    return (alert.kind, alert.subject, alert.detail, since, until)


def status_row(study: StudyStatus) -> tuple[object, ...]:
    """Give one study as a row of `STATUS_COLUMNS`."""
    run = study.run
    return (
        study.study_instance_uid,
        study.state.value,
        f"{study.n_instances}"
        + (f" ({study.n_quarantined} in quarantine)" if study.n_quarantined else ""),
        f"{run.version}: {run.state.value}" if run else "",
        result_of(run) if run else "",
        ", ".join(f"{one.destination} {one.state.value}" for one in run.deliveries) if run else "",
        f"{study.last_arrival_at:%Y-%m-%d %H:%M:%S}",
    )


def result_of(run: RunStatus) -> str:
    """Say in a few words what a run found; empty while it has found nothing."""
    if run.patient_class is not None and run.certainty is not None:
        return f"{run.patient_class.value} ({run.certainty:.0%})"
    if run.not_analysed_reason:
        return f"not analysed: {run.not_analysed_reason}"
    return f"failed: {run.last_error}" if run.last_error else ""
