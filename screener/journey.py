"""What a journey works with, and what it has found out so far; the order is in ``pipeline``."""

from __future__ import annotations

import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from screener.assemble import DecodingRules, InstanceHeader, SelectionRules
from screener.classify import Classifier, ClassifyRules
from screener.domain import (
    Decision,
    LungMask,
    ModelIdentity,
    NotAnalysed,
    Preview,
    RunIdentity,
    Screening,
    SeriesRanking,
    SliceProbabilities,
    SourceDefect,
    Volume,
    VotePolicy,
)
from screener.segment import ChestRules, Segmenter

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

#: Name of this journey in runs, reports and derived UIDs.
PIPELINE = "chest-ct"


@dataclass(frozen=True, slots=True)
class Tools:
    """What a journey works with: open models, the vote policy, and the rules of each step."""

    segmenter: Segmenter
    classifier: Classifier
    models: tuple[ModelIdentity, ...]
    policy: VotePolicy
    selection: SelectionRules = field(default_factory=SelectionRules)
    decoding: DecodingRules = field(default_factory=DecodingRules)
    chest: ChestRules = field(default_factory=ChestRules)
    classification: ClassifyRules = field(default_factory=ClassifyRules)
    n_lanes: int = 1  #: batches that a model may work on at a time
    most_candidates: int = 3  #: series whose pixels are looked at before the study is refused
    clock: Callable[[], float] = time.perf_counter  #: seconds, for the time that steps take


@dataclass(slots=True)
class Findings:
    """What a journey has found out so far; a refusal reports it too."""

    run: RunIdentity
    n_instances: int
    clock: Callable[[], float]
    ranking: SeriesRanking = field(default_factory=lambda: SeriesRanking((), None))
    defects: tuple[SourceDefect, ...] = ()
    volume: Volume | None = None
    lungs: LungMask | None = None
    probabilities: SliceProbabilities | None = None
    preview: Preview | None = None
    headers: tuple[InstanceHeader, ...] = ()
    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def timed(self, step: str) -> Iterator[None]:
        """Add the time of a block to its step."""
        started = self.clock()
        try:
            yield
        finally:
            self.seconds[step] = self.seconds.get(step, 0.0) + self.clock() - started

    def screening(self, outcome: Decision | NotAnalysed) -> Screening:
        """Freeze it."""
        return Screening(
            run=self.run,
            n_instances=self.n_instances,
            ranking=self.ranking,
            defects=self.defects,
            outcome=outcome,
            volume=self.volume,
            lungs=self.lungs,
            probabilities=self.probabilities,
            preview=self.preview,
            seconds_by_step=tuple(self.seconds.items()),
        )
