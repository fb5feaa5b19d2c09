"""From a screening to its encoded result objects."""

from __future__ import annotations

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
from screener.report.evidence import gather_evidence
from screener.report.key_objects import build_key_objects, cite_key_slices
from screener.report.options import ReportOptions
from screener.report.presentation import build_presentation, plan_presentation
from screener.report.seg import build_segmentation, number_segments, why_no_segmentation
from screener.report.sr import build_report
from screener.report.viewer_sr import build_viewer_report, plan_regions

if TYPE_CHECKING:
    from screener.domain import Screening, SpooledStudy
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
        The report first, always; then the segmentation and the key objects, as far as they are
        wanted and can be written. What cannot be written is said in the report.

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


def _build(
    screening: Screening, evidence: StudyEvidence, options: ReportOptions
) -> tuple[ResultObject, ...]:
    others: list[ResultObject] = []
    segments: LungSegments | None = None
    if ResultKind.SEGMENTATION in options.kinds and why_no_segmentation(screening) is None:
        envelope = make_envelope(screening, evidence, options, ResultKind.SEGMENTATION)
        segments = number_segments(screening, envelope)
        document = build_segmentation(screening, evidence, envelope, segments)
        others.append(encode(document, envelope))
    key_slices = cite_key_slices(screening, evidence, options.n_key_slices)
    if ResultKind.KEY_OBJECT_SELECTION in options.kinds and key_slices:
        envelope = make_envelope(screening, evidence, options, ResultKind.KEY_OBJECT_SELECTION)
        selection = build_key_objects(screening, evidence, envelope, key_slices)
        others.append(encode(selection, envelope))
    extras, left_out = _build_extras(screening, evidence, options)
    envelope = make_envelope(screening, evidence, options, ResultKind.STRUCTURED_REPORT)
    report = build_report(screening, evidence, envelope, options, segments, left_out=left_out)
    return (encode(report, envelope), *others, *extras)


def _build_extras(
    screening: Screening, evidence: StudyEvidence, options: ReportOptions
) -> tuple[list[ResultObject], tuple[str, ...]]:
    """Write what repeats the report for people, and say what this study cannot give."""
    extras: list[ResultObject] = []
    left_out: list[str] = []
    if ResultKind.OVERLAY in options.kinds:
        envelope = make_envelope(screening, evidence, options, ResultKind.OVERLAY)
        capture = build_capture(screening, evidence, envelope, options.n_key_slices)
        extras.append(encode(capture, envelope))
    if ResultKind.ENCAPSULATED_PDF in options.kinds:
        envelope = make_envelope(screening, evidence, options, ResultKind.ENCAPSULATED_PDF)
        paper = build_encapsulated_pdf(screening, evidence, envelope, options.n_key_slices)
        extras.append(encode(paper, envelope))
    if ResultKind.PRESENTATION_STATE in options.kinds:
        plan = plan_presentation(screening, evidence, options.n_key_slices)
        if isinstance(plan, str):
            left_out.append(f"No presentation state was written: {plan}.")
        else:
            envelope = make_envelope(screening, evidence, options, ResultKind.PRESENTATION_STATE)
            state = build_presentation(screening, evidence, envelope, plan)
            extras.append(encode(state, envelope))
    if ResultKind.VIEWER_REPORT in options.kinds:
        regions = plan_regions(screening, evidence, options)
        if isinstance(regions, str):
            left_out.append(f"No report of regions was written: {regions}.")
        else:
            envelope = make_envelope(screening, evidence, options, ResultKind.VIEWER_REPORT)
            viewer = build_viewer_report(screening, evidence, envelope, options, regions)
            extras.append(encode(viewer, envelope))
    return extras, tuple(left_out)
