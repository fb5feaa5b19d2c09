"""structlog set-up: JSON or terminal on standard error; only allow-listed keys may appear.

No patient data: values are identifiers, counts, codes and fixed words. A value is cut and its
control characters are escaped, so that no sender can forge a line.
"""

from __future__ import annotations

import logging
import sys
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any

import structlog

if TYPE_CHECKING:
    from structlog.typing import EventDict, FilteringBoundLogger

    from screener.settings import LogSettings

#: Longest value in a log line, in characters.
MAX_VALUE_LENGTH = 200

#: Keys that may appear. Anything else is replaced by a marker, so that a slip cannot leak.
ALLOWED_KEYS = frozenset(
    {
        "ae_title", "address", "attempt", "called_ae_title", "calling_ae_title", "child", "count",
        "date", "delivery_id", "destination", "detail", "digest", "error", "event", "exit_code",
        "host", "kind", "level", "n_instances", "n_slices", "outcome", "path", "pid", "port",
        "process", "provider", "reason", "run_id", "seconds", "signal", "sop_instance_uid",
        "state", "status", "study_instance_uid", "timestamp", "version", "logger",
    }
)  # fmt: skip


def _allow_listed(_logger: Any, _method: str, event: EventDict) -> EventDict:
    return {key: _clean(value) if key in ALLOWED_KEYS else "[key not allowed]"
            for key, value in event.items()}  # fmt: skip


def _clean(value: object) -> object:
    if isinstance(value, int | float | bool) or value is None:
        return value
    text = str(value)[:MAX_VALUE_LENGTH]
    return "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in text)


def set_up_logs(settings: LogSettings) -> None:
    """Send every log line to standard error in the chosen form."""
    as_json = settings.format == "json" or (settings.format == "auto" and not sys.stderr.isatty())
    last = (
        structlog.processors.JSONRenderer()
        if as_json
        else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    )
    level = getattr(logging, settings.level.upper())
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            _allow_listed,
            last,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.WriteLoggerFactory(file=sys.stderr),
        cache_logger_on_first_use=False,
    )
    # Libraries may print values of data sets (reliability: pydicom warnings, pynetdicom events).
    for library in ("pynetdicom", "pydicom", "highdicom", "sqlalchemy", "alembic"):
        logging.getLogger(library).setLevel(logging.CRITICAL)


def get_log() -> FilteringBoundLogger:
    """Give a logger; its lines appear as :func:`set_up_logs` decided."""
    log: FilteringBoundLogger = structlog.get_logger()
    return log


def where_raised(error: BaseException, depth: int = 3) -> str:
    """Name the innermost frames of an error, without its text, which may hold patient data."""
    frames = traceback.extract_tb(error.__traceback__)[-depth:]
    return " < ".join(
        f"{Path(frame.filename).name}:{frame.lineno} {frame.name}" for frame in reversed(frames)
    )
