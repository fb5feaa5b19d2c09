"""Core statements compiled once and run on the driver's own cursor.

SQLAlchemy finds, checks and decorates a statement anew at each execution: some hundred
microseconds, which is nothing for a page and most of the time of a row that a scanner waits for.
Here the text, the order of the values and their conversion are fixed when the statement is
prepared. Rows come back as the driver gives them: what needs converting is not for this door.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from sqlalchemy import Delete, Dialect, Insert, Select, Update


class Prepared:
    """One statement for one dialect.

    Parameters
    ----------
    statement
        Every value of it is a named bind parameter or a constant.
    dialect
        Of the database it will run on.
    columns
        Columns of an INSERT; values are handed over under these names.
    """

    def __init__(
        self,
        statement: Insert | Update | Delete | Select[Any],
        dialect: Dialect,
        columns: Sequence[str] | None = None,
    ) -> None:
        compiled = statement.compile(dialect=dialect, column_keys=columns)
        binds = {name: bind for bind, name in compiled.bind_names.items()}
        self._text = str(compiled)
        self._names = tuple(compiled.positiontup or binds)
        self._is_positional = compiled.positional
        self._converters: dict[str, Callable[[Any], Any]] = {}
        self._constants: dict[str, Any] = {}
        for name, bind in binds.items():
            convert = bind.type.dialect_impl(dialect).bind_processor(dialect)
            if bind.required:
                if convert is not None:
                    self._converters[name] = convert
            else:
                self._constants[name] = convert(bind.value) if convert else bind.value

    def run(self, cursor: Any, values: Mapping[str, Any]) -> Any:
        """Execute on a cursor of the driver and give it back, ready to be read."""
        given = {**self._constants, **values}
        for name, convert in self._converters.items():
            given[name] = convert(given[name])
        parameters = tuple([given[name] for name in self._names])
        cursor.execute(
            self._text,
            parameters if self._is_positional else dict(zip(self._names, parameters, strict=True)),
        )
        return cursor
