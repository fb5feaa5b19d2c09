"""What every table is made of: the base class, and how times, states and numbers are kept.

Annotations are evaluated at run time, so this module has no postponed annotations.
"""

from datetime import date, datetime
from typing import Any

from sqlalchemy import JSON, BigInteger, Date, Integer, MetaData, String
from sqlalchemy.orm import DeclarativeBase

from screener.audit.tolerant_types import Number, UtcDateTime, WholeNumber, Word
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
        float: Number(),
        int: WholeNumber(),
        dict[str, Any]: JSON(),
        StudyState: Word(StudyState),
        CompletionReason: Word(CompletionReason),
        RunReason: Word(RunReason),
        RunState: Word(RunState),
        PatientClass: Word(PatientClass),
        ResultKind: Word(ResultKind),
        DeliveryState: Word(DeliveryState),
    }
