"""What a registration asks of the database and writes into it; each statement prepared once."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, cast

from sqlalchemy import Table, bindparam, insert, select, update
from sqlalchemy.dialects.postgresql import insert as postgresql_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert

from screener.audit.prepared import Prepared
from screener.audit.tables import Event, Instance, Series, Study
from screener.audit.upkeep_tables import TrailCount

if TYPE_CHECKING:
    from sqlalchemy import Dialect, Select, Update

_STUDIES = cast("Table", Study.__table__)
_SERIES = cast("Table", Series.__table__)
_INSTANCES = cast("Table", Instance.__table__)
_EVENTS = cast("Table", Event.__table__)
_TRAIL_COUNTS = cast("Table", TrailCount.__table__)


@dataclass(frozen=True, slots=True)
class Statements:
    """The statements, prepared for one dialect."""

    insert_study: Prepared  #: where it is not there yet
    lock_study: Prepared  #: gives the columns of `StudyRow`, in order
    open_study: Prepared
    flag_study: Prepared
    touch_study: Prepared
    find_series: Prepared  #: in any study: gives study, instances, whether it has a conflict
    insert_series: Prepared
    update_series: Prepared
    find_namesake: Prepared  #: gives id, digest and sender, the same content first
    insert_instance: Prepared
    count_duplicate: Prepared
    insert_event: Prepared
    count_events: Prepared


@lru_cache(maxsize=2)
def statements_for(dialect: Dialect) -> Statements:
    """Prepare the statements for the dialect of a database."""
    if_absent = sqlite_insert if dialect.name == "sqlite" else postgresql_insert
    return Statements(
        insert_study=Prepared(
            if_absent(_STUDIES).on_conflict_do_nothing().inline(), dialect, _NEW_STUDY_COLUMNS
        ),
        lock_study=Prepared(_LOCK_STUDY, dialect),
        open_study=Prepared(_update_study(_OPENING_COLUMNS), dialect),
        flag_study=Prepared(_update_study(_FLAG_COLUMNS), dialect),
        touch_study=Prepared(_update_study(("last_arrival_at",)), dialect),
        find_series=Prepared(_FIND_SERIES, dialect),
        insert_series=Prepared(insert(_SERIES).inline(), dialect, _SERIES.columns.keys()),
        update_series=Prepared(_UPDATE_SERIES, dialect),
        find_namesake=Prepared(_FIND_NAMESAKE, dialect),
        insert_instance=Prepared(
            insert(_INSTANCES).inline(), dialect, _all_but(_INSTANCES, "instance_id")
        ),
        count_duplicate=Prepared(_COUNT_DUPLICATE, dialect),
        insert_event=Prepared(insert(_EVENTS).inline(), dialect, _all_but(_EVENTS, "event_id")),
        count_events=Prepared(_COUNT_EVENTS, dialect),
    )


def _all_but(table: Table, key: str) -> list[str]:
    return [name for name in table.columns.keys() if name != key]  # noqa: SIM118 - no mapping


def _bound(table: Table, name: str) -> Any:
    return bindparam(name, type_=table.columns[name].type)


def _update_study(columns: tuple[str, ...]) -> Update:
    values = {name: _bound(_STUDIES, name) for name in columns}
    return update(_STUDIES).where(_is_study(_STUDIES)).values(values)


def _is_study(table: Table) -> Any:
    return table.c.study_instance_uid == bindparam("study_uid")


def _is_series(table: Table) -> Any:
    return table.c.series_instance_uid == bindparam("series_uid")


_NEW_STUDY_COLUMNS = (
    "study_instance_uid",
    "state",
    "generation",
    "study_date",
    "patient_id_digest",
    "is_stat",
    "first_arrival_at",
    "last_arrival_at",
    "opened_at",
    "has_conflict",
    "has_non_conformant",
    "has_several_patients",
)
_OPENING_COLUMNS = (
    "state",
    "generation",
    "opened_at",
    "last_arrival_at",
    "completed_at",
    "completion_reason",
    "expected_n_instances",
)
_FLAG_COLUMNS = ("is_stat", "has_conflict", "has_non_conformant", "has_several_patients")

#: In the order of `StudyRow`.
_LOCK_STUDY: Select[Any] = (
    select(
        _STUDIES.c.state,
        _STUDIES.c.generation,
        _STUDIES.c.patient_id_digest,
        _STUDIES.c.is_stat,
        _STUDIES.c.has_conflict,
        _STUDIES.c.has_non_conformant,
        _STUDIES.c.has_several_patients,
    )
    .where(_is_study(_STUDIES))
    .with_for_update()
)
#: Every row of the series; of another study too, which must not be.
_FIND_SERIES: Select[Any] = select(
    _SERIES.c.study_instance_uid, _SERIES.c.n_instances, _SERIES.c.has_conflict
).where(_is_series(_SERIES))
_UPDATE_SERIES = (
    update(_SERIES)
    .where(_is_study(_SERIES), _is_series(_SERIES))
    .values(
        {name: _bound(_SERIES, name) for name in ("n_instances", "last_arrival_at", "has_conflict")}
    )
)
_COUNT_DUPLICATE = (
    update(_INSTANCES)
    .where(_INSTANCES.c.instance_id == bindparam("known_id"))
    # A file that was purged is here again.
    .values(n_duplicates=_INSTANCES.c.n_duplicates + 1, purged_at=None)
)
#: Instances of the same UIDs; the one with the same content first, if there is one.
_FIND_NAMESAKE: Select[Any] = (
    select(_INSTANCES.c.instance_id, _INSTANCES.c.content_digest, _INSTANCES.c.calling_ae_title)
    .where(
        _is_study(_INSTANCES),
        _is_series(_INSTANCES),
        _INSTANCES.c.sop_instance_uid == bindparam("sop_uid"),
    )
    .order_by((_INSTANCES.c.content_digest == bindparam("digest")).desc())
    .limit(1)
)
_COUNT_EVENTS = update(_TRAIL_COUNTS).values(
    n_written=_TRAIL_COUNTS.c.n_written + bindparam("n_events")
)
