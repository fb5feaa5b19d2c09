"""TOML as people read it, from values whose text is the same in JSON."""

import json


def lines(**values: object) -> str:
    """Give one ``key = value`` a line; texts, numbers, truth values and lists of them."""
    return "\n".join(
        f"{key} = {json.dumps(value, ensure_ascii=False)}" for key, value in values.items()
    )


def table(header: str, /, **values: object) -> str:
    """Give a table under its header."""
    return f"[{header}]\n{lines(**values)}"


def array_table(header: str, /, **values: object) -> str:
    """Give one table of an array of tables."""
    return f"[[{header}]]\n{lines(**values)}"
