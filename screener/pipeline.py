"""The journey of one study, top to bottom: the only module that knows the order of the steps.

Receive has kept the instances before it, deliver sends the results after it. In between: assemble,
segment, classify, vote, report. Steps do not know each other; what one needs of another is handed
over here. Audit hears of each step through ``record``.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from screener import report
from screener.assemble import (
    DecodingRules,
    RankedStudy,
    SelectedSeries,
    SelectionRules,
    check_one_patient,
    decode_series,
    explain_refusal,
    find_study_defects,
    rank_series,
    read_headers,
    refuse_candidate,
)
from screener.classify import Classifier, ClassifyRules, classify_slices
from screener.domain import (
    Decision,
    LungMask,
    LungsSegmented,
    ModelIdentity,
    NotAnalysed,
    NotAnalysedBecause,
    PatientDecided,
    Record,
    ResultObject,
    RunIdentity,
    Screening,
    SeriesRanking,
    SeriesSelected,
    SliceProbabilities,
    SlicesClassified,
    SourceDefect,
    SpooledStudy,
    StudyAssembled,
    Volume,
    VolumeAssembled,
    VotePolicy,
)
from screener.errors import NotAnalysable
from screener.segment import (
    ChestRules,
    Segmenter,
    check_chest,
    display_flips,
    find_lung_pixels,
    label_lung_mask,
)
from screener.vote import vote

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
    most_candidates: int = 3  #: series whose pixels are looked at before the study is refused
    clock: Callable[[], float] = time.perf_counter  #: seconds, for the time that steps take


def screen_study(study: SpooledStudy, run: RunIdentity, tools: Tools, record: Record) -> Screening:
    """Take one study from its instances to a decision, or to the reason why there is none.

    Parameters
    ----------
    study
        The instances of one study, kept as received.
    run
        Identity of this run; stands in every result.
    tools
        Open models and rules.
    record
        Hears one fact per step.

    Raises
    ------
    Permanent, Transient
        The screener failed; that the study cannot be screened is a result and no error.
    """
    known = _Known(run, len(study.instances), tools.clock)
    try:
        outcome: Decision | NotAnalysed = _travel(study, tools, record, known)
    except NotAnalysable as refusal:
        record(NotAnalysedBecause(refusal.reason, refusal.detail))
        outcome = NotAnalysed(refusal.reason, refusal.detail)
    return known.screening(outcome)


def write_results(
    screening: Screening, study: SpooledStudy, options: report.ReportOptions
) -> tuple[ResultObject, ...]:
    """Encode the results of a screening; the Structured Report comes first.

    Raises
    ------
    ReportError
        A result object cannot be built from this evidence.
    """
    return report.build_results(screening, study, options)


def _travel(study: SpooledStudy, tools: Tools, record: Record, known: "_Known") -> Decision:
    """Assemble, segment, classify, vote."""
    with known.timed("assemble"):
        headers = read_headers(study)
        known.defects = find_study_defects(headers)
        ranked = rank_series(headers, tools.selection)
        known.ranking = ranked.ranking
    n_series = len(ranked.ranking.candidates)
    record(StudyAssembled(len(headers), n_series, tuple(map(str, known.defects))))
    check_one_patient(headers)
    volume, lungs = _find_chest(ranked, tools, record, known)
    with known.timed("classify"):
        probabilities = classify_slices(volume, lungs, tools.classifier, tools.classification)
        known.probabilities = probabilities
    record(SlicesClassified.of(probabilities))
    with known.timed("vote"):
        decision = vote(probabilities, tools.policy, volume.spacing_mm[0])
    record(PatientDecided.of(decision))
    return decision


def _find_chest(
    ranked: RankedStudy, tools: Tools, record: Record, known: "_Known"
) -> tuple[Volume, LungMask]:
    """Look at the pixels of the best series; if they show no chest, at the next best."""
    for selected in ranked.qualified[: tools.most_candidates]:
        record(SeriesSelected.of(known.ranking))
        try:
            return _segment_series(selected, tools, record, known)
        except NotAnalysable as refusal:
            uid = selected.series_instance_uid
            known.ranking = refuse_candidate(known.ranking, uid, refusal)
    known.ranking = replace(known.ranking, selected_series_instance_uid=None)
    record(SeriesSelected.of(known.ranking))
    raise explain_refusal(known.ranking)


def _segment_series(
    selected: SelectedSeries, tools: Tools, record: Record, known: "_Known"
) -> tuple[Volume, LungMask]:
    """Decode and segment a series, one overlapping the other; then ask whether it is a chest."""
    with known.timed("segment"):
        decoded = decode_series(selected, tools.decoding)
        mask = find_lung_pixels(
            decoded.batches(), tools.segmenter, display_flips(selected.orientation)
        )
        volume = decoded.volume()
        defects = (*selected.defects, *decoded.defects)
        record(VolumeAssembled.of(volume, defects))
        lungs = label_lung_mask(mask, volume)
        check_chest(lungs, volume, tools.chest)
    known.volume, known.lungs = volume, lungs
    known.defects = (*known.defects, *defects)
    record(LungsSegmented.of(volume, lungs))
    return volume, lungs


@dataclass(slots=True)
class _Known:
    """What a journey has found out so far; a refusal reports it too."""

    run: RunIdentity
    n_instances: int
    clock: Callable[[], float]
    ranking: SeriesRanking = field(default_factory=lambda: SeriesRanking((), None))
    defects: tuple[SourceDefect, ...] = ()
    volume: Volume | None = None
    lungs: LungMask | None = None
    probabilities: SliceProbabilities | None = None
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
            seconds_by_step=tuple(self.seconds.items()),
        )
