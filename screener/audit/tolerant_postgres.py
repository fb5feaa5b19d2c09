"""Let PostgreSQL hand out every time, also what Python does not have, as no time and no error.

Its columns hold what their types say, but a time may be infinite, before Christ or after the year
9999, where somebody edited a table. The driver refuses such a row, and with it the whole answer; so
it does with all times where a server, a database or an account writes them in another style.
Imported where a PostgreSQL is opened: a node on SQLite never loads the driver.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from psycopg import DataError
from psycopg.adapt import Loader
from psycopg.pq import Format

from screener.audit.tolerant_types import NO_TIME

if TYPE_CHECKING:
    from psycopg import Connection
    from psycopg.abc import AdaptContext, Buffer
    from psycopg.abc import Loader as AnyLoader

#: The only style that the driver reads, and a zone in which no hour comes twice.
_OUR_STYLE = "SET DateStyle TO ISO; SET TimeZone TO UTC"

#: What a value of these types is where Python has none.
_INSTEAD = {"timestamptz": NO_TIME, "date": NO_TIME.date()}


def read_any_time(connection: Connection[Any], _record: object) -> None:
    """Read every time and day of this connection, also one that is none."""
    connection.autocommit = True
    connection.execute(_OUR_STYLE)
    connection.autocommit = False
    adapters = connection.adapters
    for name, instead in _INSTEAD.items():
        for form in (Format.TEXT, Format.BINARY):
            strict = adapters.get_loader(adapters.types[name].oid, form)
            if strict is not None:
                adapters.register_loader(name, _tolerant(strict, instead))


def _tolerant(strict: type[AnyLoader], instead: object) -> type[Loader]:
    class Tolerant(Loader):
        """The driver's own, and what to say where that refuses."""

        format = strict.format

        def __init__(self, oid: int, context: AdaptContext | None = None) -> None:
            super().__init__(oid, context)
            self._strict = strict(oid, context)

        def load(self, data: Buffer) -> Any:
            try:
                return self._strict.load(data)
            except DataError:
                return instead

    return Tolerant
