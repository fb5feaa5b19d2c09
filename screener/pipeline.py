"""The journey of one study, top to bottom: the only module that knows the order of the steps.

Receive has kept the instances before it, deliver sends the results after it. Steps do not know
each other; what one needs of another is handed over here. Audit hears of each through ``record``.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from screener import assemble, classify, facts, report, segment, vote
from screener.domain import Decision, NotAnalysed
from screener.errors import NotAnalysable
from screener.journey import Findings, Tools

if TYPE_CHECKING:
    from screener.domain import LungMask, ResultObject, RunIdentity, Screening, SpooledStudy, Volume


def screen_study(
    study: SpooledStudy, run: RunIdentity, tools: Tools, record: facts.Record
) -> Screening:
    """Take one study from its instances to a decision, or to the reason why there is none.

    Raises
    ------
    Permanent, Transient
        The screener failed; that the study cannot be screened is a result and no error.
    """
    found = Findings(run, len(study.instances), tools.clock)
    try:
        outcome: Decision | NotAnalysed = _travel(study, tools, record, found)
    except NotAnalysable as refusal:
        record(facts.NotAnalysedBecause(refusal.reason, refusal.detail))
        outcome = NotAnalysed(refusal.reason, refusal.detail)
        if found.volume is None:
            found.preview = assemble.preview_study(
                found.headers, found.ranking, tools.decoding.decode
            )
    return found.screening(outcome)


def write_results(
    screening: Screening, study: SpooledStudy, options: report.ReportOptions
) -> tuple[ResultObject, ...]:
    """Encode the results of a screening, the Structured Report first; may raise ReportError."""
    return report.build_results(screening, study, options)


def _travel(study: SpooledStudy, tools: Tools, record: facts.Record, found: Findings) -> Decision:
    with found.timed("assemble"):
        found.headers = headers = assemble.read_headers(study)
        for content_digest in assemble.impossible_instances(headers):
            tools.decoding.on_impossible(content_digest)
        found.defects = assemble.find_study_defects(headers)
        ranked = assemble.rank_series(headers, tools.selection)
        found.ranking = ranked.ranking
    record(facts.StudyAssembled.of(len(headers), found.ranking, found.defects))
    assemble.check_one_patient(headers)
    volume, lungs = _find_chest(ranked, tools, record, found)
    with found.timed("classify"):
        found.probabilities = classify.classify_slices(
            volume, lungs, tools.classifier, tools.classification, tools.n_lanes
        )
    record(facts.SlicesClassified.of(found.probabilities))
    with found.timed("vote"):
        decision = vote.vote(found.probabilities, tools.policy, volume.spacing_mm[0])
    record(facts.PatientDecided.of(decision))
    return decision


def _find_chest(
    ranked: assemble.RankedStudy, tools: Tools, record: facts.Record, found: Findings
) -> tuple[Volume, LungMask]:
    """Look at the pixels of the best series; if they show no chest, at the next best."""
    for selected in ranked.qualified[: tools.most_candidates]:
        record(facts.SeriesSelected.of(found.ranking))
        try:
            return _segment_series(selected, tools, record, found)
        except NotAnalysable as refusal:
            uid = selected.series_instance_uid
            found.ranking = assemble.refuse_candidate(found.ranking, uid, refusal)
    found.ranking = replace(found.ranking, selected_series_instance_uid=None)
    record(facts.SeriesSelected.of(found.ranking))
    raise assemble.explain_refusal(found.ranking)


def _segment_series(
    selected: assemble.SelectedSeries, tools: Tools, record: facts.Record, found: Findings
) -> tuple[Volume, LungMask]:
    """Decode and segment a series, one overlapping the other; then ask whether it is a chest."""
    with found.timed("segment"):
        decoded = assemble.decode_series(selected, tools.decoding)
        flips = segment.display_flips(selected.orientation)
        answers = segment.find_lung_pixels(decoded.batches(), tools.segmenter, flips, tools.n_lanes)
        volume = decoded.volume()
        defects = (*selected.defects, *decoded.defects)
        record(facts.VolumeAssembled.of(volume, defects))
        batch_size = tools.decoding.batch_size
        mask = segment.choose_lung_pixels(
            answers, volume, tools.segmenter, batch_size, tools.n_lanes
        )
        lungs = segment.label_lung_mask(mask, volume)
        segment.check_chest(lungs, volume, tools.chest)
    found.volume, found.lungs, found.defects = volume, lungs, (*found.defects, *defects)
    record(facts.LungsSegmented.of(volume, lungs))
    return volume, lungs
