"""structlog set-up: JSON or terminal on standard error; only allow-listed keys may appear.

No patient data: values are identifiers, counts, codes and fixed words. A value is cut, its control
characters are escaped, and in a terminal it is quoted, so that no sender can forge a line or a
pair of a line. Where the site says so, UIDs appear as keyed hashes.
"""

from __future__ import annotations

import hmac
import json
import logging
import re
import sys
import threading
import traceback
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import structlog

if TYPE_CHECKING:
    from collections.abc import Callable

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
        "source", "state", "status", "study_instance_uid", "subject", "timestamp",
        "transaction_uid", "version", "logger",
    }
)  # fmt: skip


#: What stands before the hash of a UID, so that a reader knows what it is.
HASHED_UID_PREFIX = "uid:"
#: Digits of the hash, hexadecimal: 64 bits, no collision among millions of studies.
HASHED_UID_LENGTH = 16

#: A UID inside a text: five components or more (an IP address has four), or one made of a UUID.
_UID_IN_TEXT = re.compile(r"(?<![\w.])(?:[0-2](?:\.\d+){4,}|2\.25\.\d+)(?![\w.]*\w)")
#: In a terminal, anything else is quoted.
_PLAIN_VALUE = re.compile(r"^[\w.:/@+-]+$")


def hashed_uid(uid: str, key: bytes) -> str:
    """Give what stands for a UID in the log of a site that hashes them.

    The same UID gives the same text at one site, so that lines can be joined; without the key
    nobody can go back, or try UIDs.
    """
    digest = hmac.digest(key, uid.encode(), "sha256").hex()
    return HASHED_UID_PREFIX + digest[:HASHED_UID_LENGTH]


def _hides_uids(key: bytes) -> Callable[[Any, str, EventDict], EventDict]:
    def hide(_logger: Any, _method: str, event: EventDict) -> EventDict:
        return {name: _without_uids(name, value, key) for name, value in event.items()}

    return hide


def _without_uids(name: str, value: object, key: bytes) -> object:
    if isinstance(value, int | float | bool) or value is None:
        return value
    if name.endswith("_uid"):
        return hashed_uid(str(value), key)
    return _UID_IN_TEXT.sub(lambda found: hashed_uid(found[0], key), str(value))


def _allow_listed(_logger: Any, _method: str, event: EventDict) -> EventDict:
    return {key: _clean(value) if key in ALLOWED_KEYS else "[key not allowed]"
            for key, value in event.items()}  # fmt: skip


def _clean(value: object) -> object:
    if isinstance(value, int | float | bool) or value is None:
        return value
    text = str(value)[:MAX_VALUE_LENGTH]
    return "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in text)


def _quoted(_logger: Any, _method: str, event: EventDict) -> EventDict:
    own = {"event", "level", "timestamp"}  # no sender chooses these
    return {key: value if key in own else _in_quotes(value) for key, value in event.items()}


def _in_quotes(value: object) -> object:
    if not isinstance(value, str) or _PLAIN_VALUE.match(value):
        return value
    return json.dumps(value, ensure_ascii=False)


def set_up_logs(settings: LogSettings, uid_key: bytes | None = None) -> None:
    """Send every log line to standard error in the chosen form.

    Parameters
    ----------
    uid_key
        Key under which UIDs are hashed; None leaves them plain.
    """
    as_json = settings.format == "json" or (settings.format == "auto" and not sys.stderr.isatty())
    last = (
        [structlog.processors.JSONRenderer()]
        if as_json
        else [_quoted, structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())]
    )
    level = getattr(logging, settings.level.upper())
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            *([] if uid_key is None else [_hides_uids(uid_key)]),
            _allow_listed,
            *last,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.WriteLoggerFactory(file=sys.stderr),
        cache_logger_on_first_use=False,
    )
    # Libraries may print values of data sets (reliability: pydicom warnings, pynetdicom events).
    for library in ("pynetdicom", "pydicom", "highdicom", "sqlalchemy", "alembic"):
        logging.getLogger(library).setLevel(logging.CRITICAL)


def keep_texts_out() -> None:
    """Let Python itself tell errors of threads, warnings and stray log lines without their texts.

    For processes of the node: what the interpreter prints by default holds the text of the error,
    which may be a value of a data set.
    """

    def on_thread(told: threading.ExceptHookArgs) -> None:
        if told.exc_value is not None:
            _tell("thread_crashed", told.exc_value)

    def on_unraisable(told: Any) -> None:
        if told.exc_value is not None:
            _tell("error_ignored", told.exc_value)

    def on_warning(  # noqa: PLR0917  Python's own signature
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        del message, file, line  # they may hold values
        where = f"{Path(filename).name}:{lineno}"
        get_log().warning("library_warned", kind=category.__name__, detail=where)

    # What a library logs and nobody handles Python prints as it is.
    logging.lastResort = TextlessHandler(logging.WARNING)
    threading.excepthook = on_thread
    sys.unraisablehook = on_unraisable
    warnings.showwarning = on_warning


class TextlessHandler(logging.Handler):
    """Tells that a library has said something, and where; not what: it may repeat a message.

    What a library formats itself comes with its pattern, which is a sentence of its source.
    """

    def emit(self, record: logging.LogRecord) -> None:
        """Write one line of ours."""
        pattern = record.msg if record.args and isinstance(record.msg, str) else ""
        error = record.exc_info[0] if record.exc_info else None
        get_log().log(
            record.levelno,
            "library_said",
            logger=record.name,
            reason=pattern.strip().partition("\n")[0],
            error=error.__name__ if error else "",
            detail=f"{record.filename}:{record.lineno}",
        )


def _tell(event: str, error: BaseException) -> None:
    get_log().error(event, error=type(error).__name__, detail=where_raised(error))


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
