"""CSV files with named columns, read strictly."""

import csv
from collections.abc import Sequence
from pathlib import Path

from models.errors import DatasetInvalid

Row = dict[str, str]


def read_table(
    path: Path, needed: Sequence[str], *, encodings: Sequence[str] = ("utf-8-sig",)
) -> tuple[Row, ...]:
    """Read a CSV file with a header line; names and cells are stripped, names made lower case.

    Raises
    ------
    DatasetInvalid
        The file is missing or no CSV, lacks a needed column, or has no row.
    """
    lines = _decoded(path, encodings).splitlines()
    try:
        table = list(csv.reader(lines, skipinitialspace=True))
    except csv.Error as error:
        raise DatasetInvalid(f"{path} is no CSV ({error}); save it again") from error
    header = [name.strip().lower() for name in table[0]] if table else []
    missing = [name for name in needed if name not in header]
    if missing:
        raise DatasetInvalid(
            f"{path} has the columns {', '.join(header) or 'none'}; it needs {', '.join(missing)}"
        )
    rows = [cells for cells in table[1:] if any(cell.strip() for cell in cells)]
    for number, cells in enumerate(rows, start=2):
        if len(cells) != len(header):
            raise DatasetInvalid(
                f"{path}: row {number} has {len(cells)} cells, the header {len(header)}; quote "
                "cells that contain commas"
            )
    if not rows:
        raise DatasetInvalid(f"{path} has no rows below its header; add one per image")
    return tuple(
        {name: cell.strip() for name, cell in zip(header, cells, strict=True)} for cells in rows
    )


def class_order(names: Sequence[str]) -> tuple[str, ...]:
    """Give the classes that occur, each once: numbers by value, else by name."""
    found = sorted(set(names))
    if all(name.isdecimal() for name in found):
        return tuple(sorted(found, key=int))
    return tuple(found)


def _decoded(path: Path, encodings: Sequence[str]) -> str:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DatasetInvalid(f"{path} cannot be read ({error.strerror}); check the path") from error
    for encoding in encodings:
        try:
            return content.decode(encoding)
        except UnicodeDecodeError:
            continue
    raise DatasetInvalid(f"{path} is not {' or '.join(encodings)} text; save it as UTF-8")
