"""The story of a study as text for people; every line comes from a :class:`StudyStory`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from datetime import datetime

    from screener.audit.story import RunStory, StudyStory

#: Slices named one by one before the rest is only counted.
MAX_SLICES_NAMED = 12

#: Numbers from here on are shown without decimals.
LEAST_ROUNDED = 1000.0

#: Events that the chapters above the timeline already tell.
_TOLD_ELSEWHERE = frozenset({"study_assembled", "lungs_segmented", "slices_classified"})


def render_story(story: StudyStory) -> str:
    """Tell a study in words: arrival, completion, each run, its deliveries, the timeline."""
    lines = [f"Study {story.status.study_instance_uid}", ""]
    lines += ["What came", *_indent(_arrivals(story)), ""]
    lines += ["When it was thought complete", *_indent(_readable(_completions(story))), ""]
    for run in story.runs:
        lines += [_run_title(run), *_indent(_run(run)), ""]
    if not story.runs:
        lines += ["No run yet", ""]
    lines += ["Timeline (UTC)", *_indent(_readable(_timeline(story)))]
    return "\n".join(lines)


def _arrivals(story: StudyStory) -> Iterator[str]:
    for source in story.sources:
        sender = source.calling_ae_title or "a folder"
        yield (
            f"{source.n_instances} instances ({source.n_bytes / 1e6:.1f} MB) from {sender}, "
            f"{_at(source.first_arrival_at)} to {_at(source.last_arrival_at)}"
            + (f"; {source.n_duplicates} came twice" if source.n_duplicates else "")
            + (f"; {source.n_quarantined} quarantined" if source.n_quarantined else "")
        )
    for series in story.series:
        conflict = "; several contents share a SOP Instance UID" if series.has_conflict else ""
        yield (
            f"series {series.series_instance_uid}: {series.modality or 'no modality'}, "
            f"{series.n_instances} instances{conflict}"
        )
    for one in story.quarantined:
        yield f"quarantined {one.sop_instance_uid}: {one.reason}"
    if story.status.has_non_conformant:
        yield "some UIDs break the rules of DICOM (PS3.5 9.1); they are kept as they came"
    if story.status.has_several_patients:
        yield "instances of several patients came under this study"
    if story.n_own_results:
        yield f"{story.n_own_results} of our own results came back and were ignored"


def _completions(story: StudyStory) -> Iterator[str]:
    completed = [event for event in story.events if event.kind == "study_completed"]
    for event in completed:
        said = event.payload
        yield (
            f"{_at(event.occurred_at)} generation {said['generation']}: {said['state']}, because "
            f"{said['reason']}" + (f" ({said['detail']})" if said.get("detail") else "")
        )
    if not completed:
        yield "not yet: it is still being received"


def _run_title(run: RunStory) -> str:
    status = run.status
    return f"Run {status.version} ({status.reason.value}): {status.state.value}, {status.run_id}"


def _run(run: RunStory) -> Iterator[str]:
    status = run.status
    yield f"{run.n_instances} instances, input digest {run.input_digest[:16]}…"
    yield (
        f"queued {_at(status.queued_at)}, started {_at(status.started_at)}, "
        f"reported {_at(status.finished_at)}, {status.attempt} attempt(s)"
    )
    if status.predecessor_run_id:
        yield f"replaces the report of run {status.predecessor_run_id}"
    if status.superseded_by_run_id:
        yield f"superseded by run {status.superseded_by_run_id}"
    if status.last_error:
        yield f"last error: {status.last_error}"
    if run.pipeline:
        yield (
            f"pipeline {run.pipeline}, code {run.code_version}, settings "
            f"{(run.settings_digest or '')[:16]}…, on {run.host} ({run.device})"
        )
    for model in run.models:
        fallback = f", because {model.fallback_reason}" if model.fallback_reason else ""
        yield (
            f"model {model.name} {model.version} ({model.task}), sha256 {model.digest[:16]}…, "
            f"on {model.provider}{fallback}"
        )
    if run.evidence:
        yield from _readable(_evidence(run, run.evidence))
    yield from _results(run)


def _readable(lines: Iterator[str]) -> Iterator[str]:
    """Tell as far as JSON has the shape that the node writes."""
    try:
        yield from lines
    except (KeyError, TypeError, ValueError, AttributeError):
        yield "the rest cannot be told: a row was edited and is not what the node writes"


def _evidence(run: RunStory, evidence: Mapping[str, Any]) -> Iterator[str]:
    yield from _ranking(evidence["ranking"])
    geometry = evidence["geometry"]
    if geometry:
        yield (
            f"volume: {geometry['n_slices']} slices every {_number(geometry['slice_spacing_mm'])} "
            f"mm over {_number(geometry['coverage_mm'])} mm, {geometry['n_missing_slices']} "
            f"missing, tilt {_number(geometry['tilt_degrees'])}°"
        )
    for defect in evidence["defects"]:
        yield f"source defect {defect['code']}: {defect['detail']}"
    lungs = evidence["lungs"]
    if lungs:
        yield (
            f"lungs: right {_number(lungs['right_volume_ml'])} ml, left "
            f"{_number(lungs['left_volume_ml'])} ml, in {lungs['n_lung_slices']} slices"
        )
    yield from _outcome(run, evidence)
    seconds = evidence["seconds_by_step"]
    if seconds:
        yield "seconds: " + ", ".join(f"{step} {_number(s)}" for step, s in seconds.items())


def _ranking(ranking: Mapping[str, Any]) -> Iterator[str]:
    selected = ranking["selected_series_instance_uid"]
    if selected is None:
        yield "no series could be screened"
    for candidate in ranking["candidates"]:
        is_chosen = candidate["series_instance_uid"] == selected
        verdict = "chosen" if is_chosen else candidate["refusal"] or "lost"
        reasons = "; ".join(candidate["reasons"])
        yield (
            f"series {candidate['series_instance_uid']}: {verdict}, score "
            f"{_number(candidate['score'])}, {candidate['n_slices']} of "
            f"{candidate['n_instances']} instances usable" + (f" ({reasons})" if reasons else "")
        )


def _outcome(run: RunStory, evidence: Mapping[str, Any]) -> Iterator[str]:
    refused = evidence["not_analysed"]
    if refused:
        yield f"NOT ANALYSED because {refused['reason']}: {refused['detail']}"
        return
    decision = evidence["decision"]
    votes = ", ".join(f"{name} {n}" for name, n in decision["slice_votes"])
    certainties = ", ".join(f"{name} {_number(p)}" for name, p in decision["class_certainties"])
    yield f"slice votes by {decision['policy_name']}: {votes}"
    yield f"certainties: {certainties}"
    affected = [one for one in run.slices if one.is_affected]
    for one in affected[:MAX_SLICES_NAMED]:
        said = ", ".join(f"{name} {_number(p)}" for name, p in one.probabilities.items())
        yield f"slice {one.slice_index} at {_number(one.location_mm)} mm: {one.label} ({said})"
    if len(affected) > MAX_SLICES_NAMED:
        yield f"and {len(affected) - MAX_SLICES_NAMED} more affected slices"
    yield (
        f"DECISION {decision['patient_class']}, certainty {_number(decision['certainty'])}: "
        f"{decision['explanation']}"
    )


def _results(run: RunStory) -> Iterator[str]:
    for one in run.objects:
        variant = f", {one.sop_class_uid} instead of {one.variant_of}" if one.variant_of else ""
        yield f"result {one.kind.value} {one.sop_instance_uid}, sha256 {one.digest[:16]}…{variant}"
        for answer in one.answers:
            status = "no answer yet" if answer.status is None else f"0x{answer.status:04X}"
            comment = f": {answer.comment}" if answer.comment else ""
            yield f"  at {answer.destination}: {answer.outcome or 'not sent'} ({status}){comment}"
    for delivery in run.status.deliveries:
        detail = f": {delivery.detail}" if delivery.detail else ""
        yield (
            f"delivery to {delivery.destination}: {delivery.state.value}, "
            f"{delivery.attempt} attempt(s), sent {_at(delivery.sent_at)}, "
            f"confirmed {_at(delivery.confirmed_at)}{detail}"
        )


def _timeline(story: StudyStory) -> Iterator[str]:
    versions = {run.status.run_id: run.status.version for run in story.runs}
    for event in story.events:
        if event.kind in _TOLD_ELSEWHERE:
            continue
        of_run = f" run {versions[event.run_id]}" if event.run_id in versions else ""
        number = f"#{event.sequence}" if event.sequence else "unsealed"
        words = event.kind.replace("_", " ")
        destination = event.payload.get("destination")
        towards = f" ({destination})" if destination else ""
        yield f"{_at(event.occurred_at)}{of_run} {words}{towards} [{number}]"


def _indent(lines: Iterable[str]) -> list[str]:
    return [f"  {line}" for line in lines]


def _at(moment: datetime | None) -> str:
    return "not yet" if moment is None else f"{moment:%Y-%m-%d %H:%M:%S}"


def _number(value: float | None) -> str:
    if value is None:
        return "unknown"
    return f"{value:.3g}" if abs(value) < LEAST_ROUNDED else f"{value:.0f}"
