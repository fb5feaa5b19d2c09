"""The documents: what they list is what the code has, both ways.

Covers commands, settings, statuses, events, the order of the journey, links, the top level and the
README. Does not cover whether a sentence is true; that is what review is for.
"""

from __future__ import annotations

import ast
import os
import re
import subprocess
import tomllib
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, get_args

import pytest

from screener.audit.events import EventKind
from screener.destinations import PROTOCOLS
from screener.domain import DefectCode, NotAnalysedReason
from screener.settings import Settings
from tests import reference_pages

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pydantic import BaseModel

PROJECT = Path(__file__).resolve().parents[1]
DOCS = PROJECT / "docs"
JOURNEY = ("receive", "assemble", "segment", "classify", "vote", "report", "deliver", "audit")

#: What may stand beside README.md; the rest has its place below one of these.
TOP_LEVEL = {
    ".ci", ".gitignore", ".pre-commit-config.yaml", "CHANGELOG.md", "LICENSE", "Makefile",
    "README.md", "deploy", "docs", "models", "pyproject.toml", "screener", "tests", "workers",
}  # fmt: skip


@pytest.fixture(autouse=True)
def _no_variables_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("SCREENER_")]:
        monkeypatch.delenv(name)


def text_of(path: str) -> str:
    return (PROJECT / path).read_text(encoding="utf-8")


# ── settings ─────────────────────────────────────────────────────────────────────────────────


def test_example_settings_are_the_defaults() -> None:
    """The example file as it stands gives exactly what no file gives."""
    assert Settings(**tomllib.loads(text_of("deploy/screener.example.toml"))) == Settings()


def test_example_settings_list_every_key_and_no_other() -> None:
    """A key without an example, or an example without a key, fails here."""
    listed = [key.path for key in reference_pages.example_keys()]
    assert sorted(listed) == sorted(reference_pages.settings_paths())


def test_example_settings_say_why_for_every_key_and_table() -> None:
    """Each key and each table has its sentence."""
    silent = [key.path for key in reference_pages.example_keys() if not key.why]
    silent += [name for name, why in reference_pages.example_tables().items() if not why]
    assert silent == []


def test_example_settings_name_every_choice() -> None:
    """Where a key takes one of a few words, its comment, or its value, has each of them.

    The comment of a second destination may say "as above".
    """
    said: dict[str, str] = {}
    for key in reference_pages.example_keys():
        said[key.path] = f"{said.get(key.path, '')} {key.why} {key.value}"
    unnamed = [
        (path, choice)
        for path, choices in settings_choices()
        for choice in choices
        if not re.search(rf"\b{re.escape(choice)}\b", said[path])
    ]
    assert unnamed == []


def settings_choices(
    model: type[BaseModel] = Settings, prefix: str = ""
) -> Iterator[tuple[str, list[str]]]:
    """Give each key that takes one of a few words, and the words."""
    for name, field in model.model_fields.items():
        for inner in reference_pages.inner_models(field.annotation):
            yield from settings_choices(inner, f"{prefix}{name}.")
        if choices := words_of(field.annotation):
            yield f"{prefix}{name}", choices


def words_of(annotation: object) -> list[str]:
    """Give the words that a type allows: members of its enumerations, and its literals."""
    if isinstance(annotation, type) and issubclass(annotation, StrEnum):
        return [member.value for member in annotation]
    if isinstance(annotation, str):
        return [annotation]
    return [word for part in get_args(annotation) for word in words_of(part)]


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_example_settings_load_with_every_key_switched_on(protocol: str) -> None:
    """What is off by default is a working example once its `#` is removed."""
    settings = Settings(**tomllib.loads(reference_pages.example_switched_on(protocol)))
    assert settings.destinations[0].protocol == protocol
    assert len(settings.peers) == len(settings.destinations) == 1
    assert settings.spool.root == Path("/var/lib/screener/spool")


@pytest.mark.parametrize(
    ("table", "protocol"), [("peers", "dimse"), *(("destinations", one) for one in PROTOCOLS)]
)
def test_example_block_shows_defaults_of_optional_keys(table: str, protocol: str) -> None:
    """In a block that is off, too, what looks like a default is one; what has none is off."""
    content = tomllib.loads(reference_pages.example_switched_on(protocol))
    (block,) = getattr(Settings(**content), table)
    shown = {key: getattr(block, key) for key, field in type(block).model_fields.items()
             if field.is_required() or field.default is None}  # fmt: skip
    assert type(block)(**shown) == block


# ── pages written from the code ──────────────────────────────────────────────────────────────


@pytest.mark.parametrize("path", reference_pages.PAGES, ids=lambda path: path.stem)
def test_reference_page_is_what_the_code_says(path: Path) -> None:
    """Write them again with `python -m tests.reference_pages`."""
    assert path.read_text(encoding="utf-8") == reference_pages.PAGES[path]()


@pytest.mark.parametrize("name", reference_pages.commands())
def test_command_is_documented_with_an_example(name: str) -> None:
    """A command without a sentence and an example is not finished."""
    help_text = reference_pages.commands()[name].help or ""
    assert help_text
    assert f"`screener {name}" in help_text or re.search(rf"`screener .*{name}", help_text)


def test_commands_used_in_documents_exist() -> None:
    """A document that names `screener something` names a command that can be run."""
    known = set(reference_pages.commands()) | {"db", "models", "audit", "quarantine"}
    unknown = set()
    for path in [*DOCS.rglob("*.md"), PROJECT / "README.md", PROJECT / "deploy" / "README.md"]:
        for words in re.findall(r"[`\n]screener ([^`\n]*)", path.read_text(encoding="utf-8")):
            command = re.sub(r"--settings \S+ ?", "", words).split()
            if command and re.match(r"[a-z]+$", command[0]):
                is_known = command[0] in known or " ".join(command[:2]) in known
                unknown |= set() if is_known else {f"{path.name}: {words}"}
    assert unknown == set()


@pytest.mark.parametrize("page", ["conformance", "audit-events"])
def test_page_has_every_table(page: str) -> None:
    """A table whose marks were lost would silently stay as it was."""
    text = text_of(f"docs/reference/{page}.md")
    names = re.findall(r"<!-- table: (\w+) -->", text)
    assert len(names) == len(set(names)) == text.count("<!-- end -->")
    assert (
        set(names)
        == {
            "conformance": {
                "statuses",
                "classes",
                "syntaxes",
                "web",
                "web_statuses",
                "implementation",
                "created",
                "attributes",
                "codes",
                "allowances",
            },
            "audit-events": {"keys", "vocabulary"},
        }[page]
    )


def test_conformance_statement_keeps_the_order_of_the_standard() -> None:
    """PS3.2 Annex N prescribes content and organisation."""
    text = text_of("docs/reference/conformance.md")
    assert re.findall(r"^## (\d|Annex [A-Z])[. ]", text, re.MULTILINE) == [
        *"12345678", "Annex A", "Annex B", "Annex C", "Annex D",
    ]  # fmt: skip


def test_every_event_is_explained() -> None:
    """Each kind of event has its sentence, and no sentence is left of an event that is gone."""
    explained = re.findall(
        r"^\| `(\w+)` \| [A-Z0-9].+ \|", text_of("docs/reference/audit-events.md"), re.MULTILINE
    )
    assert sorted(explained) == sorted(EventKind)


def test_every_refusal_and_defect_is_explained() -> None:
    """What a report can give as the reason for no decision is explained for people."""
    explained = re.findall(
        r"^\| `([\w-]+)` \| ", text_of("docs/howto/not-analysed.md"), re.MULTILINE
    )
    assert sorted(explained) == sorted([*NotAnalysedReason, *DefectCode])


def test_tutorial_program_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The program of the tutorial writes its study; four slices show it as well as sixty."""
    (program,) = re.findall(r"```python\n(.+?)```", text_of("docs/tutorial.md"), re.DOTALL)
    program = program.replace("n_slices=60", "n_slices=4").replace("=256", "=64")
    monkeypatch.chdir(tmp_path)
    exec(compile(program, "docs/tutorial.md", "exec"), {})  # noqa: S102  our own page
    assert len(list((tmp_path / "study").iterdir())) == 4


# ── the journey ──────────────────────────────────────────────────────────────────────────────


def test_architecture_tells_the_journey_in_order() -> None:
    """The first table of the architecture page has the steps, in order."""
    rows = re.findall(r"^\| \d+ \| `(\w+)`", text_of("docs/architecture.md"), re.MULTILINE)
    assert tuple(rows) == JOURNEY


def test_import_contract_tells_the_same_journey() -> None:
    """The contract that keeps the steps apart names the same steps in the same order."""
    contracts = tomllib.loads(text_of("pyproject.toml"))["tool"]["importlinter"]["contracts"]
    (steps,) = [c for c in contracts if c["name"].startswith("Steps of the journey")]
    assert " | ".join(JOURNEY) in steps["layers"]


def test_readme_tells_the_same_journey() -> None:
    """The picture in words on the first page has the steps in order."""
    (line,) = [
        one for one in text_of("README.md").splitlines() if "assemble" in one and "─▶" in one
    ]
    assert tuple(word for word in re.findall(r"[a-z]+", line) if word in JOURNEY) == JOURNEY[:-1]


def test_pipeline_takes_the_steps_in_order() -> None:
    """`pipeline.py` comes to its steps in the order that every page tells."""
    tree = ast.parse(text_of("screener/pipeline.py"))
    called = [
        *steps_called(tree, "screen_study"),
        *steps_called(tree, "write_results"),
    ]
    assert list(dict.fromkeys(called)) == ["assemble", "segment", "classify", "vote", "report"]


def steps_called(tree: ast.Module, function_name: str) -> Iterator[str]:
    """Follow the calls of a function, into the functions of the same file, in source order."""
    step_of = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                words = f"{node.module}.{alias.name}".split(".")
                if words[0] == "screener" and words[1] in JOURNEY:
                    step_of[alias.name] = words[1]
    functions = {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)}
    calls = [node for node in ast.walk(functions[function_name]) if isinstance(node, ast.Call)]
    for call in sorted(calls, key=lambda node: (node.lineno, node.col_offset)):
        target = call.func.value if isinstance(call.func, ast.Attribute) else call.func
        name = target.id if isinstance(target, ast.Name) else ""
        if name in step_of:
            yield step_of[name]
        elif name in functions:
            yield from steps_called(tree, name)


# ── the shape of the project ─────────────────────────────────────────────────────────────────


def tracked_files() -> list[Path]:
    listing = subprocess.run(
        ["git", "ls-files", "-z"], cwd=PROJECT, capture_output=True, check=False
    )
    if listing.returncode:
        pytest.skip("not a git checkout")
    names = listing.stdout.decode().split("\0")
    return [PROJECT / name for name in names if name and (PROJECT / name).is_file()]


def test_top_level_is_the_prescribed_one() -> None:
    """A listing of the project is the first diagram: nothing stands there by chance."""
    assert {path.relative_to(PROJECT).parts[0] for path in tracked_files()} == TOP_LEVEL


def test_readme_is_short_and_says_what_it_is_not() -> None:
    """Under 120 lines, with the two commands and the warning."""
    readme = text_of("README.md")
    assert len(readme.splitlines()) < 120
    for phrase in ("make demo", "make test", "screener screen", "Not a medical device"):
        assert phrase in readme


def test_links_between_documents_lead_somewhere() -> None:
    """A relative link names a file that exists."""
    dead = [
        f"{path.relative_to(PROJECT)}: {target}"
        for path in tracked_files()
        if path.suffix == ".md"
        for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", path.read_text(encoding="utf-8"))
        if "://" not in target and not (path.parent / target).exists()
    ]
    assert dead == []


def test_every_document_is_reached_from_the_index() -> None:
    """A page that no link leads to is a page that nobody reads."""
    seen, waiting = set(), [DOCS / "index.md"]
    while waiting:
        page = waiting.pop()
        if page in seen or page.suffix != ".md" or not page.exists():
            continue
        seen.add(page)
        targets = re.findall(r"\]\(([^)#\s]+)", page.read_text(encoding="utf-8"))
        waiting += [(page.parent / target).resolve() for target in targets if "://" not in target]
    assert set(DOCS.rglob("*.md")) - seen == set()


def test_decisions_are_numbered_and_complete() -> None:
    """Each record has a number of its own, and the four parts."""
    records = sorted((DOCS / "adr").glob("[0-9]*.md"))
    numbers = [path.name[:4] for path in records]
    assert numbers == [f"{n:04}" for n in range(1, len(records) + 1)]
    for path in records:
        headings = re.findall(r"^#+ (.+)$", path.read_text(encoding="utf-8"), re.MULTILINE)
        assert headings[0].startswith(f"{int(path.name[:4])}. "), path
        assert headings[1:] == ["Status", "Context", "Decision", "Consequences"], path


def test_project_names_no_machine_and_no_registry() -> None:
    """Paths of one machine and host names of registries have no place in the project."""
    # Written in two parts, so that this file does not find itself.
    words = ["/wo|rk/", "/ho|me/", "/ro|ot/", "py|pi.org", "python|hosted", "docker|.io",
             "gh|cr.io", "quay|.io", "TO|DO", "FIX|ME"]  # fmt: skip
    forbidden = re.compile("|".join(re.escape(word.replace("|", "")) for word in words))
    found = []
    for path in tracked_files():
        if path.suffix in {".md", ".py", ".toml", ".yaml", ".json", ".service", ".target", ""}:
            text = path.read_text(encoding="utf-8")
            found += [f"{path.relative_to(PROJECT)}: {hit}" for hit in forbidden.findall(text)]
    assert found == []
