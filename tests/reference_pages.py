"""Write the reference pages that must not drift, from the code itself.

``python -m tests.reference_pages`` writes them; ``tests/test_docs.py`` fails while they differ.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer.main
from pydantic import BaseModel

from screener.audit.events import PAYLOAD_KEYS, EventKind
from screener.audit.vocabulary import WORDING, Direction
from screener.cli import app
from screener.conformance import ALLOWANCES
from screener.daemon.metrics import METRICS
from screener.deliver.archive import WEB_TRANSACTIONS
from screener.deliver.web_errors import STATUSES
from screener.destinations import PROTOCOLS
from screener.receive import contexts, status
from screener.settings import Settings
from screener.version import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from tests import conformance_tables
from tests.shipped_models_page import shipped_models_page

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

PROJECT = Path(__file__).resolve().parents[1]
EXAMPLE = PROJECT / "deploy" / "screener.example.toml"
REFERENCE = PROJECT / "docs" / "reference"
WRITTEN_BY = "<!-- Written by `python -m tests.reference_pages`; do not edit. -->"

SETTINGS_INTRODUCTION = """\
One TOML file, then variables over it. `screener --settings FILE COMMAND` names the file, or the
variable `SCREENER_SETTINGS`. Any key is also a variable: `node.port` is `SCREENER_NODE__PORT`;
lists are written as JSON. A wrong or unknown key ends every command with exit code 2 and a text
that names key, value and mend.

`deploy/screener.example.toml` is the same list as a file to start from. *Off* means that the key
has no value until you give one; the value shown is an example."""

CLI_INTRODUCTION = """\
`screener [--settings FILE] COMMAND`. Results go to standard output, logs and notes to standard
error. `--json` prints one JSON document instead of text."""

METRICS_INTRODUCTION = """\
`screener serve` answers by HTTP where `[health]` has a port, on loopback unless it names another
host; with single processes `screener health` does. `/healthz`: 200 while the process answers.
`/readyz`: 200 while the database can be read, the books were counted in the last three minutes and
are balanced, a listener runs here, the disk is above its reserve and the broker, where there is
one, can be reached; else 503 and the reason.
`/metrics`: the numbers below as Prometheus text. No answer names a study or a patient."""

#: `[node]`, `[[peers]]`, and the same behind the `#` that switches them off.
_TABLE_LINE = re.compile(r"^#?\[{1,2}([\w.]+)\]{1,2}$")
#: `port = 104`, `#port = 104`; a comment has a space after its `#`.
_KEY_LINE = re.compile(r"^(#?)(\w+) = (.+)$")


@dataclass(frozen=True)
class ExampleKey:
    """One key of the example file."""

    table: str
    protocol: str  #: of the block, where the table has one block for each; else empty
    name: str
    value: str  #: as TOML
    why: str
    is_off: bool

    @property
    def path(self) -> str:
        """The key with its table, `node.port`."""
        return f"{self.table}.{self.name}" if self.table else self.name


def example_tables() -> dict[tuple[str, str], str]:
    """Give the tables of the example file, each with its protocol, with the comment above each."""
    return {(table, protocol): comment for table, protocol, comment, _ in _example_lines() if table}


def example_keys() -> list[ExampleKey]:
    """Give the keys of the example file with the comment above each."""
    return [key for _, _, _, key in _example_lines() if key]


def _example_lines() -> Iterator[tuple[str, str, str, ExampleKey | None]]:
    table, protocol, comments = "", "", []
    protocols = iter(PROTOCOLS)
    for line in EXAMPLE.read_text(encoding="utf-8").splitlines():
        if head := _TABLE_LINE.match(line):
            table = head[1]
            protocol = next(protocols) if table == "destinations" else ""
            yield table, protocol, " ".join(comments), None
        elif key := _KEY_LINE.match(line):
            why = " ".join(comments)
            yield "", "", "", ExampleKey(table, protocol, key[2], key[3], why, bool(key[1]))
        elif line.startswith("# "):
            comments.append(line[2:])
            continue
        comments = []


def example_switched_on(protocol: str) -> str:
    """Give the example file with every key that is off switched on, and one destination."""
    text = EXAMPLE.read_text(encoding="utf-8")
    for other in set(PROTOCOLS) - {protocol}:
        blocks = re.findall(r"^#\[\[destinations\]\]\n(?:#.*\n)+", text, re.MULTILINE)
        (block,) = [one for one in blocks if f'#protocol = "{other}"\n' in one]
        text = text.replace(block, "")
    # Of two ways to name us one is enough.
    lines = [line for line in text.splitlines() if not line.startswith("#basic_auth_file")]
    return "\n".join(re.sub(r"^#(?=\[|\w+ = )", "", line) for line in lines)


def settings_paths(model: type[BaseModel] = Settings, prefix: str = "") -> list[str]:
    """Give the dotted path of every key that the settings know, lists of tables included."""
    paths = []
    for name, field in model.model_fields.items():
        models = inner_models(field.annotation)
        for inner in models:
            paths += settings_paths(inner, f"{prefix}{name}.")
        paths += [] if models else [f"{prefix}{name}"]
    return paths


def inner_models(annotation: Any) -> list[type[BaseModel]]:
    """Give the tables that a key holds: none, one, or one for each protocol."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for part in getattr(annotation, "__args__", ()) for model in inner_models(part)]


def settings_page() -> str:
    """Give docs/reference/settings.md."""
    lines = [
        "# Settings",
        WRITTEN_BY,
        "",
        SETTINGS_INTRODUCTION,
    ]
    tables = {("", ""): "Before the first table."} | example_tables()
    for (table, protocol), comment in tables.items():
        title = f"## `[{table}]`" if table else "## At the top of the file"
        title += f", `{protocol}`" if protocol else ""
        lines += ["", title, "", comment, ""]
        lines += ["| key | default | meaning |", "| --- | --- | --- |"]
        keys = [one for one in example_keys() if (one.table, one.protocol) == (table, protocol)]
        lines += [_settings_row(key) for key in keys]
    return "\n".join(lines) + "\n"


def _settings_row(key: ExampleKey) -> str:
    default = f"off (`{key.value}`)" if key.is_off else f"`{key.value}`"
    if key.is_off and key.table in {"peers", "destinations"}:
        models = inner_models(Settings.model_fields[key.table].annotation)
        field = models[PROTOCOLS.index(key.protocol or "dimse")].model_fields[key.name]
        default = f"required (`{key.value}`)" if field.is_required() else f"`{key.value}`"
        default = f"off (`{key.value}`)" if field.default is None else default
    return f"| `{key.name}` | {default} | {key.why} |"


# ── commands ─────────────────────────────────────────────────────────────────────────────────


def commands() -> dict[str, Any]:
    """Give every command that can be run, `audit verify` by both words, with its declaration."""
    return dict(_commands_below(typer.main.get_command(app), ""))


def _commands_below(group: Any, prefix: str) -> Iterator[tuple[str, Any]]:
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from _commands_below(command, f"{prefix}{name} ")
        else:
            yield f"{prefix}{name}", command


def cli_page() -> str:
    """Give docs/reference/cli.md."""
    lines = [
        "# Commands",
        WRITTEN_BY,
        "",
        CLI_INTRODUCTION,
        "",
        "| exit code | meaning |",
        "| --- | --- |",
        "| 0 | done |",
        "| 1 | failed; for checks: something is not in order |",
        "| 2 | wrong use or wrong settings |",
        "| 3 | not analysed, where one study is the subject |",
        "| 130 | interrupted |",
        "",
        "Options before the command:",
        "",
        *_parameter_rows(typer.main.get_command(app)),
    ]
    for name, command in commands().items():
        lines += ["", f"## `screener {name}`", "", _paragraphs(command.help or "")]
        if rows := _parameter_rows(command):
            lines += ["", *rows]
    return "\n".join(lines) + "\n"


def _paragraphs(text: str) -> str:
    return re.sub(r"[ \t]*\n[ \t]*", "\n", text).strip()


def _parameter_rows(command: Any) -> list[str]:
    parameters = [p for p in command.params if p.name != "help"]
    if not parameters:
        return []
    return [
        "| parameter | default | meaning |",
        "| --- | --- | --- |",
        *(f"| {_spelling(p)} | {_default(p)} | {_meaning(p)} |" for p in parameters),
    ]


def _spelling(parameter: Any) -> str:
    if parameter.param_type_name == "argument":
        return f"`{parameter.name.upper()}`"
    return ", ".join(f"`{spelling}`" for spelling in parameter.opts)


def _default(parameter: Any) -> str:
    if parameter.required:
        return "required"
    is_empty = parameter.default in (None, "", False)
    return "none" if is_empty else f"`{parameter.default}`"


def _meaning(parameter: Any) -> str:
    return "Show the version and end." if parameter.name == "version" else parameter.help or ""


# ── tables inside pages that people write ────────────────────────────────────────────────────


def conformance_page() -> str:
    """Give docs/reference/conformance.md with its tables filled in."""
    return _filled(
        REFERENCE / "conformance.md",
        {
            "statuses": _table(
                ("status", "name", "category", "when", "defined in"),
                (
                    (f"0x{s.value:04X}", s.name, s.category.value, s.text, s.reference)
                    for s in status.STATUSES
                ),
            ),
            "classes": _table(
                ("SOP class", "UID", "what becomes of it"),
                (
                    (c.name, f"`{c.sop_class_uid}`", _ROLES[c.role])
                    for c in contexts.ACCEPTED_CLASSES
                ),
            ),
            "syntaxes": _table(
                ("transfer syntax", "UID", "lossy"),
                (
                    (s.name, f"`{s.transfer_syntax_uid}`", "yes, flagged" if s.is_lossy else "no")
                    for s in contexts.ACCEPTED_SYNTAXES
                ),
            ),
            "created": _table(
                ("setting", "SOP class", "UID", "modality", "series number and description"),
                conformance_tables.created_rows(),
            ),
            "attributes": _table(
                ("attribute", "tag", "in", "value"), conformance_tables.attribute_rows()
            ),
            "codes": _table(("scheme", "value", "meaning"), conformance_tables.code_rows()),
            "allowances": _table(
                ("validator", "remark", "holds", "reason"),
                (
                    (a.validator, _as_code(a.pattern), a.condition.value, a.reason)
                    for a in ALLOWANCES
                ),
            ),
            "web": _table(
                ("transaction", "resource", "media type", "used for"),
                (
                    (name, f"`{resource}`", f"`{media_type}`", purpose)
                    for name, resource, media_type, purpose in WEB_TRANSACTIONS
                ),
            ),
            "web_statuses": _table(
                ("HTTP status", "the service", "and then"),
                ((str(s.code), s.text, s.meaning.value) for s in STATUSES),
            ),
            "implementation": _table(
                ("", ""),
                (
                    ("Implementation Class UID", f"`{IMPLEMENTATION_CLASS_UID}`"),
                    ("Implementation Version Name", f"`{IMPLEMENTATION_VERSION_NAME}`"),
                ),
            ),
        },
    )


def events_page() -> str:
    """Give docs/reference/audit-events.md with the table of what each event may say."""
    rows = ((f"`{kind}`", _keys(PAYLOAD_KEYS[kind])) for kind in EventKind)
    return _filled(
        REFERENCE / "audit-events.md",
        {
            "vocabulary": _table(
                ("event", "code and message", "action", "outcome", "between"),
                (_wording_row(kind) for kind in EventKind),
            ),
            "keys": _table(("event", "may say"), rows),
        },
    )


def _wording_row(kind: EventKind) -> tuple[str, ...]:
    said = WORDING[kind]
    return (
        f"`{kind}`",
        f"`{said.message.code}` {said.message.meaning}",
        said.action.value,
        str(said.outcome.value),
        _BETWEEN[said.direction],
    )


_BETWEEN = {
    Direction.ALONE: "the node alone",
    Direction.INCOMING: "the sender and the node",
    Direction.OUTGOING: "the node and the destination",
}


def _as_code(pattern: str) -> str:
    """Give a regular expression as code inside a table."""
    return "`" + pattern.replace("|", "\\|") + "`"


_ROLES = {
    contexts.ClassRole.SCREENED: "screened",
    contexts.ClassRole.OTHER_IMAGE: "kept; the study is reported as not analysed",
    contexts.ClassRole.COMPANION: "kept; never screened",
}


def _keys(keys: frozenset[str]) -> str:
    return ", ".join(f"`{key}`" for key in sorted(keys)) or "nothing"


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> list[str]:
    lines = (head, tuple("---" for _ in head), *rows)
    return ["| " + " | ".join(cells) + " |" for cells in lines]


def _filled(path: Path, tables: dict[str, list[str]]) -> str:
    """Give a page with what stands between `<!-- table: name -->` and `<!-- end -->` replaced."""
    text = path.read_text(encoding="utf-8")
    for name, lines in tables.items():
        start, end = f"<!-- table: {name} -->\n", "<!-- end -->"
        before, _, rest = text.partition(start)
        after = rest.partition(end)[2]
        text = before + start + "\n" + "\n".join(lines) + "\n\n" + end + after
    return text


def metrics_page() -> str:
    """Give docs/reference/metrics.md."""
    rows = ((f"`{m.name}`", ", ".join(m.labels) or "none", m.meaning) for m in METRICS)
    lines = [
        "# Health and metrics",
        WRITTEN_BY,
        "",
        METRICS_INTRODUCTION,
        "",
        *_table(("metric", "labels", "meaning"), rows),
    ]
    return "\n".join(lines) + "\n"


PAGES = {
    REFERENCE / "metrics.md": metrics_page,
    REFERENCE / "settings.md": settings_page,
    REFERENCE / "cli.md": cli_page,
    REFERENCE / "conformance.md": conformance_page,
    REFERENCE / "audit-events.md": events_page,
    REFERENCE / "shipped-models.md": partial(shipped_models_page, WRITTEN_BY),
}


def main() -> None:
    """Write every page."""
    for path, page in PAGES.items():
        path.write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    main()
