"""Column types that read whatever lies in a row, and conditions that find what should not.

SQLite keeps any value in any column, PostgreSQL times without an end (`tolerant_postgres`), and
people edit tables by hand. A value that cannot be read must cost the row that holds it, not the
question of which it is one row of many: the sweep, a claim or a list would fail for every study. So
reading never fails; the accounting names the row (`accounting_rules`), and what waits for a time
that is none is put right (`waits`).
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from sqlalchemy import (
    JSON,
    BigInteger,
    DateTime,
    Dialect,
    Float,
    Integer,
    String,
    case,
    false,
    func,
    literal,
    or_,
    type_coerce,
)
from sqlalchemy.dialects.sqlite import DATETIME as SQLITE_DATETIME
from sqlalchemy.types import TypeDecorator

if TYPE_CHECKING:
    from collections.abc import Callable
    from enum import StrEnum

    from sqlalchemy import ColumnElement
    from sqlalchemy.types import TypeEngine

#: What a text that is no time reads as: long ago, so that nothing waits for it.
NO_TIME = datetime(1970, 1, 1, tzinfo=UTC)
#: Times outside these are none either: with the days of a rule added they would overflow.
FIRST_TIME = datetime(1900, 1, 1, tzinfo=UTC)
LAST_TIME = datetime(2999, 12, 31, tzinfo=UTC)
#: The end of a whole number; one more, and PostgreSQL refuses the whole statement.
LAST_NUMBER = 2**31 - 1
#: Longest value of an enumeration, in characters.
MAX_WORD_LENGTH = 40

#: A time as SQLite keeps it; without the fraction where a person wrote it.
_TIME = "[0-9][0-9][0-9][0-9]-[0-9][0-9]-[0-9][0-9] [0-9][0-9]:[0-9][0-9]:[0-9][0-9]"
_TIME_PATTERNS = (_TIME, _TIME + "." + "[0-9]" * 6)


class UnknownWord(str):
    """A value that its enumeration does not have; equal to no member, and shown as it stands."""

    __slots__ = ()

    @property
    def value(self) -> str:
        """The text itself, as a member would give it."""
        return str(self)


class Word(TypeDecorator["StrEnum"]):
    """A member of an enumeration, kept as its value: a new member needs no migration."""

    impl = String
    cache_ok = True

    def __init__(self, words: type[StrEnum]) -> None:
        super().__init__(MAX_WORD_LENGTH)
        self.words = words

    def process_bind_param(self, value: StrEnum | str | None, dialect: Dialect) -> str | None:
        """Give the value to the driver; what the enumeration does not have is refused."""
        del dialect
        return None if value is None else self.words(value).value

    def process_result_value(self, value: Any, dialect: Dialect) -> Any:
        """Give the member, or the text where there is none of that value."""
        del dialect
        if value is None:
            return None
        try:
            return self.words(value)
        except ValueError:
            return UnknownWord(value)


class _ReadableTime(SQLITE_DATETIME):
    """SQLite's time, for which any text is one."""

    def result_processor(self, dialect: Dialect, coltype: object) -> Callable[[Any], Any]:
        """Read a time; give `NO_TIME` for what is none."""
        read = super().result_processor(dialect, coltype)

        def readable(value: Any) -> Any:
            try:
                return read(value) if read else value
            except (ValueError, TypeError):
                return NO_TIME.replace(tzinfo=None)

        return readable


class UtcDateTime(TypeDecorator[datetime]):
    """An aware time in UTC; SQLite, which knows no zones, keeps it as UTC."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """Choose how the dialect keeps times."""
        if dialect.name == "sqlite":
            return dialect.type_descriptor(_ReadableTime())  # type: ignore[no-untyped-call]
        return dialect.type_descriptor(DateTime(timezone=True))

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Refuse naive times; give UTC to the driver."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("times in the audit database are aware; this one has no zone")
        in_utc = value.astimezone(UTC)
        return in_utc.replace(tzinfo=None) if dialect.name == "sqlite" else in_utc

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Give UTC to the reader; `NO_TIME` for what is far from every time."""
        if value is None:
            return None
        aware = value.replace(tzinfo=UTC) if dialect.name == "sqlite" else value
        return aware.astimezone(UTC) if FIRST_TIME <= aware <= LAST_TIME else NO_TIME


class WholeNumber(TypeDecorator[int]):
    """A whole number; what is none reads as 0."""

    impl = Integer
    cache_ok = True

    def process_result_value(self, value: Any, dialect: Dialect) -> Any:
        """Give the number; SQLite may hand out anything."""
        del dialect
        return value if value is None or isinstance(value, int | float) else 0


class LargeNumber(WholeNumber):
    """A whole number of 64 bits."""

    impl = BigInteger
    cache_ok = True


class Number(TypeDecorator[float]):
    """A number; what is none reads as not-a-number."""

    impl = Float
    cache_ok = True

    def process_result_value(self, value: Any, dialect: Dialect) -> Any:
        """Give the number; SQLite may hand out anything."""
        del dialect
        return value if value is None or isinstance(value, int | float) else float("nan")


def one_more(n: int) -> int:
    """Count one more; at the end of its kind, where only an edit leads, a count stands still."""
    return min(n + 1, LAST_NUMBER)


def one_more_of(column: Any) -> ColumnElement[int]:
    """Give the same as an expression."""
    return case((column < LAST_NUMBER, column + 1), else_=column)


def read_object(text: str | bytes) -> dict[str, Any]:
    """Read a JSON object as a row keeps it; what is none reads as empty."""
    try:
        found = json.loads(text)
    except (ValueError, TypeError):
        return {}
    return found if isinstance(found, dict) else {}


def is_unreadable(column: Any, dialect: str) -> ColumnElement[bool]:
    """Give the condition that a column holds what is no value of its kind; never so for NULL."""
    kind = column.type
    found: ColumnElement[bool] = false()
    if isinstance(kind, Word):
        words = [word.value for word in kind.words]
        found = column.is_not(None) & func.coalesce(column, "", type_=String()).not_in(words)
    elif isinstance(kind, UtcDateTime):
        is_far = (column < FIRST_TIME) | (column > LAST_TIME)
        is_none = _is_no_time(column) if dialect == "sqlite" else is_far
        found = column.is_not(None) & is_none
    elif dialect != "sqlite":
        pass  # its other columns hold what their types say
    elif isinstance(kind, Integer | WholeNumber):
        found = func.typeof(column).not_in(("integer", "null"))
    elif isinstance(kind, Number):
        found = func.typeof(column).not_in(("integer", "real", "null"))
    elif isinstance(kind, JSON):
        found = column.is_not(None) & (func.json_valid(type_coerce(column, String())) == 0)
    return found


def _is_no_time(column: Any) -> ColumnElement[bool]:
    as_text = func.coalesce(column, "", type_=String())
    looks_right = or_(*(as_text.op("GLOB")(literal(one)) for one in _TIME_PATTERNS))
    # SQLite moves 30 February to March and reads a year 0; Python knows neither.
    first, last = (f"{one:%Y-%m-%d}" for one in (FIRST_TIME, LAST_TIME))
    day = func.strftime("%Y-%m-%d", as_text, "+0 days", type_=String())
    is_day = func.coalesce(day, "") == func.substr(as_text, 1, 10)
    return ~(looks_right & is_day & (as_text >= first) & (as_text <= last))
