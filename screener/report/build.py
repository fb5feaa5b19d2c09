"""From a screening to its encoded result objects."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from screener.domain import ResultKind, ResultObject
from screener.errors import ReportError
from screener.report.captures import build_capture
from screener.report.encapsulated import build_encapsulated_pdf
from screener.report.envelope import (
    encode,
    make_envelope,
    say_without_identity,
    tolerate_source_values,
)
from screener.report.evidence import InstanceReference, gather_evidence
from screener.report.key_objects import build_key_objects, cite_key_slices
from screener.report.options import ReportOptions
from screener.report.parametric_map import build_map, plan_map
from screener.report.presentation import build_presentation, plan_presentation
from screener.report.seg import build_segmentation, number_segments, why_no_segmentation
from screener.report.sr import Siblings, build_report
from screener.report.viewer_sr import build_viewer_report, plan_regions

if TYPE_CHECKING:
    from collections.abc import Sequence

    from screener.domain import Screening, SpooledStudy
    from screener.report.envelope import Envelope
    from screener.report.evidence import StudyEvidence
    from screener.report.seg import LungSegments


def build_results(
    screening: Screening, study: SpooledStudy, options: ReportOptions | None = None
) -> tuple[ResultObject, ...]:
    """Write the result objects of one run.

    The same run gives the same bytes, however often and wherever it is built.

    Parameters
    ----------
    screening
        What the run found, or why it found nothing.
    study
        The instances it was given; headers are opened from their paths.
    options
        What the site chose, defaults where None.

    Returns
    -------
    :
        The report first, always; then the other objects, as far as they are wanted and can be
        written. What cannot be written is said in the report.

    Raises
    ------
    ReportError
        The study has no readable header, or the screening contradicts itself.
    """
    chosen = options or ReportOptions()
    with tolerate_source_values():
        evidence = gather_evidence(screening, study)
        try:
            return _build(screening, evidence, chosen)
        except (ValueError, TypeError, AttributeError) as error:
            # What highdicom raises for values it cannot write; the run shows the text.
            reason = say_without_identity(error, evidence.header)
            raise ReportError(f"results cannot be built: {reason}") from error


@dataclass(frozen=True, slots=True)
class _Work:
    """What every object of one run is made from."""

    screening: Screening
    evidence: StudyEvidence
    options: ReportOptions

    def wants(self, kind: ResultKind) -> bool:
        return kind in self.options.kinds

    def envelope(self, kind: ResultKind) -> Envelope:
        return make_envelope(self.screening, self.evidence, self.options, kind)


def _build(
    screening: Screening, evidence: StudyEvidence, options: ReportOptions
) -> tuple[ResultObject, ...]:
    work = _Work(screening, evidence, options)
    segments, lungs = _build_lungs(work)
    others = [*lungs, *_build_key_objects(work), *_build_pictures(work)]
    left_out: list[str] = []
    for build in (_build_map, _build_presentation, _build_viewer_report):
        made = build(work)
        if isinstance(made, str):
            left_out.append(made)
        elif made is not None:
            others.append(made)
    envelope = work.envelope(ResultKind.STRUCTURED_REPORT)
    siblings = Siblings(segments, _find_map(others), tuple(left_out))
    report = build_report(screening, evidence, envelope, options, siblings)
    return (encode(report, envelope), *others)


def _build_lungs(work: _Work) -> tuple[LungSegments | None, list[ResultObject]]:
    """Write the segmentations; only the BINARY one may be cited (ADR 8)."""
    cited: LungSegments | None = None
    made: list[ResultObject] = []
    for kind in (ResultKind.SEGMENTATION, ResultKind.LABEL_MAP):
        if work.wants(kind) and why_no_segmentation(work.screening) is None:
            envelope = work.envelope(kind)
            segments = number_segments(work.screening, envelope)
            document = build_segmentation(work.screening, work.evidence, envelope, segments)
            made.append(encode(document, envelope))
            cited = segments if kind is ResultKind.SEGMENTATION else cited
    return cited, made


def _build_key_objects(work: _Work) -> list[ResultObject]:
    slices = cite_key_slices(work.screening, work.evidence, work.options.n_key_slices)
    if not work.wants(ResultKind.KEY_OBJECT_SELECTION) or not slices:
        return []
    envelope = work.envelope(ResultKind.KEY_OBJECT_SELECTION)
    selection = build_key_objects(work.screening, work.evidence, envelope, slices)
    return [encode(selection, envelope)]


def _build_pictures(work: _Work) -> list[ResultObject]:
    made: list[ResultObject] = []
    for kind, build in (
        (ResultKind.OVERLAY, build_capture),
        (ResultKind.ENCAPSULATED_PDF, build_encapsulated_pdf),
    ):
        if work.wants(kind):
            envelope = work.envelope(kind)
            n_key_slices = work.options.n_key_slices
            document = build(work.screening, work.evidence, envelope, n_key_slices)
            made.append(encode(document, envelope))
    return made


def _build_map(work: _Work) -> ResultObject | str | None:
    """Write the map, or say that and why a wanted one was not written."""
    if not work.wants(ResultKind.PARAMETRIC_MAP):
        return None
    plan = plan_map(work.screening)
    if isinstance(plan, str):
        return f"No lesion map was written: {plan}."
    envelope = work.envelope(ResultKind.PARAMETRIC_MAP)
    return encode(build_map(work.evidence, envelope, work.options, plan), envelope)


def _build_presentation(work: _Work) -> ResultObject | str | None:
    """Write the marks, or say that and why wanted ones were not written."""
    if not work.wants(ResultKind.PRESENTATION_STATE):
        return None
    plan = plan_presentation(work.screening, work.evidence, work.options.n_key_slices)
    if isinstance(plan, str):
        return f"No presentation state was written: {plan}."
    envelope = work.envelope(ResultKind.PRESENTATION_STATE)
    return encode(build_presentation(work.screening, work.evidence, envelope, plan), envelope)


def _build_viewer_report(work: _Work) -> ResultObject | str | None:
    """Write the report of regions, or say that and why a wanted one was not written."""
    if not work.wants(ResultKind.VIEWER_REPORT):
        return None
    plan = plan_regions(work.screening, work.evidence, work.options)
    if isinstance(plan, str):
        return f"No report of regions was written: {plan}."
    envelope = work.envelope(ResultKind.VIEWER_REPORT)
    document = build_viewer_report(work.screening, work.evidence, envelope, work.options, plan)
    return encode(document, envelope)


def _find_map(objects: Sequence[ResultObject]) -> InstanceReference | None:
    """Give the reference to the map among the objects, None where there is none."""
    for one in objects:
        if one.kind is ResultKind.PARAMETRIC_MAP:
            return InstanceReference(
                one.series_instance_uid, one.sop_class_uid, one.sop_instance_uid
            )
    return None
