"""The reference page of the models that ship: their manifests as a table, their cards in full."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from models.registry import SHIPPED_MODELS, list_models

if TYPE_CHECKING:
    from collections.abc import Iterator

    from models.registry import ModelFolder

INTRODUCTION = """\
Two models screen. Each is a folder: `manifest.toml` for programs, `card.md` for people,
`model.onnx`. `screener models show NAME` prints the manifest, `screener models verify` proves that
the files are those that were released, and [pin a model](../howto/pin-a-model.md) says how a node
is tied to one digest. `python -m models.training failures` draws pictures of failures.

Neither is a recipe of `screener models train`: a recipe is one data set, one course of epochs and
one loss, while these learn from slices of four sources drawn by weight, in courses that follow each
other, with lesions painted anew at every step. `python -m models.training lungs` and `slices` run
them; the numbers stand in `models/training/train_lungs.py` and `train_slices.py`."""


def shipped_models_page(written_by: str) -> str:
    """Give docs/reference/shipped-models.md."""
    folders = list_models()
    lines = ["# Models that ship", written_by, "", INTRODUCTION, ""]
    lines += ["| model | version | SHA-256 of `model.onnx` |", "| --- | --- | --- |"]
    for folder in folders:
        manifest = folder.manifest
        lines.append(f"| `{manifest.name}` | {manifest.version} | `{manifest.sha256}` |")
    for folder in folders:
        lines += ["", *_card(folder)]
    return "\n".join(lines) + "\n"


def _card(folder: ModelFolder) -> Iterator[str]:
    """Give the lines of a card one heading lower, with its pictures where they lie."""
    assert folder.card is not None, f"{folder.path} ships without a card"
    place = f"../../{folder.path.relative_to(SHIPPED_MODELS.parent).as_posix()}"
    for line in folder.card.read_text(encoding="utf-8").splitlines():
        lowered = f"#{line}" if line.startswith("#") else line
        yield re.sub(r"\]\((?![a-z]+://|#)", f"]({place}/", lowered)
