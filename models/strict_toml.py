"""Read TOML completely or not at all; each wrong key or value is an error with its mend."""

import re
import tomllib
from enum import Enum
from pathlib import Path
from typing import TypeVar

from models.errors import ModelError

T = TypeVar("T")
E = TypeVar("E", bound=Enum)


def read_document(path: Path, error: type[ModelError], *, mend: str) -> dict[str, object]:
    """Read a TOML file.

    Parameters
    ----------
    error
        Raised where the file is missing or no TOML.
    mend
        What the message advises, an imperative.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as cause:
        raise error(f"{path} cannot be read ({cause}); {mend}") from cause
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as cause:
        raise error(f"{path} is not TOML ({cause}); {mend}") from cause


class StrictTable:
    """One TOML table that gives each key once and knows which were never asked for.

    Parameters
    ----------
    path
        The file, for messages.
    where
        Path of the table inside the file, with a dot at its end; empty for the whole document.
    content
        What TOML gave.
    error
        The error that a wrong key or value raises; the file decides what it is.
    """

    __slots__ = ("_error", "_left", "_path", "_where")

    def __init__(
        self, path: Path, where: str, content: dict[str, object], error: type[ModelError]
    ) -> None:
        self._path = path
        self._where = where
        self._left = dict(content)
        self._error = error

    def has(self, key: str) -> bool:
        """Tell whether a key that may be absent is there and was not taken yet."""
        return key in self._left

    def invalid(self, key: str, value: object, rule: str) -> ModelError:
        """Say which key of which file has which value, and what it must be."""
        return self._error(f"{self._path}: {self._where}{key} = {value!r}: {rule}")

    def text(self, key: str, *, pattern: str = r"(?s).*\S.*") -> str:
        """Take a string that matches the whole pattern; by default any that is not blank."""
        value = self._take(key)
        if not isinstance(value, str) or re.fullmatch(pattern, value) is None:
            raise self.invalid(key, value, f"must be text matching {pattern}")
        return value

    def texts(self, key: str) -> tuple[str, ...]:
        """Take a list of at least one string."""
        value = self._take(key)
        if (
            not isinstance(value, list)
            or not value
            or not all(isinstance(one, str) for one in value)
        ):
            raise self.invalid(key, value, "must be a list of at least one text")
        return tuple(value)

    def number(self, key: str, *, lower: float = -1e9, upper: float = 1e9) -> float:
        """Take a finite number within the limits, both included."""
        value = self._take(key)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise self.invalid(key, value, "must be a number")
        if not lower <= value <= upper:
            raise self.invalid(key, value, f"must be from {lower:g} to {upper:g}")
        return float(value)

    def truth(self, key: str) -> bool:
        """Take true or false."""
        value = self._take(key)
        if not isinstance(value, bool):
            raise self.invalid(key, value, "must be true or false")
        return value

    def count(self, key: str, *, lower: int = 1) -> int:
        """Take a whole number of at least ``lower``."""
        value = self._take(key)
        if isinstance(value, bool) or not isinstance(value, int) or value < lower:
            raise self.invalid(key, value, f"must be a whole number of at least {lower}")
        return value

    def numbers(self, key: str) -> tuple[float, ...]:
        """Take a list of at least one number."""
        value = self._take(key)
        if (
            not isinstance(value, list)
            or not value
            or any(isinstance(one, bool) or not isinstance(one, int | float) for one in value)
        ):
            raise self.invalid(key, value, "must be a list of at least one number")
        return tuple(float(one) for one in value)

    def choice(self, key: str, known: type[E]) -> E:
        """Take the value of an enumeration."""
        value = self._take(key)
        values = {str(one.value): one for one in known}
        if not isinstance(value, str) or value not in values:
            raise self.invalid(key, value, f"must be one of {', '.join(values)}")
        return values[value]

    def rest(self) -> dict[str, object]:
        """Take every key that is left, for a table whose keys somebody else checks."""
        left, self._left = self._left, {}
        return left

    def table(self, key: str) -> "StrictTable":
        """Take a sub-table."""
        value = self._take(key)
        if not isinstance(value, dict):
            raise self.invalid(key, value, "must be a table")
        return StrictTable(self._path, f"{self._where}{key}.", value, self._error)

    def tables(self, key: str, *, least: int = 1) -> tuple["StrictTable", ...]:
        """Take a list of at least ``least`` tables."""
        value = self._take(key)
        if (
            not isinstance(value, list)
            or len(value) < least
            or not all(isinstance(one, dict) for one in value)
        ):
            raise self.invalid(key, value, f"must be a list of at least {least} table")
        return tuple(
            StrictTable(self._path, f"{self._where}{key}[{n}].", one, self._error)
            for n, one in enumerate(value)
        )

    def finish(self) -> None:
        """Refuse what nobody asked for: a misspelt key must not pass for a default."""
        for key, value in self._left.items():
            raise self.invalid(key, value, "unknown key; remove it or correct its name")

    def finished(self, value: T) -> T:
        """Give the value after ``finish``."""
        self.finish()
        return value

    def _take(self, key: str) -> object:
        if key not in self._left:
            raise self._error(f"{self._path}: {self._where}{key} is missing; add it")
        return self._left.pop(key)
