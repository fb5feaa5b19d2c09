"""What every table is made of: the base class, and how times, states and numbers are kept.

Annotations are evaluated at run time, so this module has no postponed annotations.
"""

from datetime import UTC, date, datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Date,
    DateTime,
    Dialect,
    Enum,
    Float,
    Integer,
    MetaData,
    String,
)
from sqlalchemy.orm import DeclarativeBase
from sqlalchemy.types import TypeDecorator

from screener.domain import (
    CompletionReason,
    DeliveryState,
    PatientClass,
    ResultKind,
    RunReason,
    RunState,
    StudyState,
)

#: SQLite gives running numbers to INTEGER keys only; PostgreSQL deserves 64 bits.
RunningNumber = BigInteger().with_variant(Integer(), "sqlite")


class UtcDateTime(TypeDecorator[datetime]):
    """An aware time in UTC; SQLite, which knows no zones, keeps it as UTC."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Refuse naive times; give UTC to the driver."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("times in the audit database are aware; this one has no zone")
        in_utc = value.astimezone(UTC)
        return in_utc.replace(tzinfo=None) if dialect.name == "sqlite" else in_utc

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Give UTC to the reader."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if dialect.name == "sqlite" else value.astimezone(UTC)


def _stored_by_value(states: type[StrEnum]) -> Enum:
    """Keep an enum as its value in a plain text column, so that a new member needs no migration."""
    return Enum(
        states,
        native_enum=False,
        create_constraint=False,
        length=40,
        values_callable=lambda members: [member.value for member in members],
    )


class Row(DeclarativeBase):
    """Base of every table."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map = {  # noqa: RUF012 - SQLAlchemy reads this from the class
        str: String(),
        datetime: UtcDateTime(),
        date: Date(),
        float: Float(),
        dict[str, Any]: JSON(),
        list[Any]: JSON(),
        StudyState: _stored_by_value(StudyState),
        CompletionReason: _stored_by_value(CompletionReason),
        RunReason: _stored_by_value(RunReason),
        RunState: _stored_by_value(RunState),
        PatientClass: _stored_by_value(PatientClass),
        ResultKind: _stored_by_value(ResultKind),
        DeliveryState: _stored_by_value(DeliveryState),
    }
