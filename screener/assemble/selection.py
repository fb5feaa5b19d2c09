"""Choose which series to screen, and give a named reason for every series that is not.

Selection is by header values only: is it CT, is it axial, is it a recording of the patient rather
than something derived, is there enough of it, and is it the kind of reconstruction that the models
know. Whether it shows a chest is asked of the pixels later.
"""

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from screener.assemble.codecs import LOSSY_TRANSFER_SYNTAX_UIDS
from screener.assemble.geometry import (
    GeometryRules,
    SlicePlane,
    StackGeometry,
    measure_stack,
)
from screener.assemble.headers import DIVISIONS, InstanceHeader, SliceHeader
from screener.assemble.score import score_stack
from screener.assemble.usable import usable_slices
from screener.domain import (
    DefectCode,
    NotAnalysedReason,
    SeriesCandidate,
    SeriesGeometry,
    SeriesRanking,
    SourceDefect,
)
from screener.errors import NotAnalysable

#: Refusals from the one that came closest to a screening to the farthest: the reason that a study
#: without any usable series is given.
_NEAREST_FIRST = (
    NotAnalysedReason.LUNGS_INCOMPLETE,
    NotAnalysedReason.NOT_A_CHEST,
    NotAnalysedReason.GANTRY_TILTED,
    NotAnalysedReason.TOO_LITTLE_COVERAGE,
    NotAnalysedReason.TOO_FEW_SLICES,
    NotAnalysedReason.BROKEN_GEOMETRY,
    NotAnalysedReason.UNREADABLE_PIXELS,
    NotAnalysedReason.DERIVED_ONLY,
    NotAnalysedReason.NOT_AXIAL,
    NotAnalysedReason.LOCALIZER_ONLY,
    NotAnalysedReason.UNSUPPORTED_MODALITY,
    NotAnalysedReason.NO_IMAGES,
    NotAnalysedReason.CONFLICTING_PATIENTS,
)


@dataclass(frozen=True, slots=True)
class SelectionRules:
    """What a series must have, and how its slices must lie."""

    least_slices: int = 16
    most_slices: int = 4000  #: 2 GB of a 512 x 512 volume; more are several recordings, or no CT
    least_coverage_mm: float = 100.0
    least_grid_share: float = 0.8  #: of the axial slices that must share one grid
    geometry: GeometryRules = field(default_factory=GeometryRules)


@dataclass(frozen=True, slots=True)
class SelectedSeries:
    """A series that can be screened: its slices in order, and what is wrong with them."""

    series_instance_uid: str
    frame_of_reference_uid: str | None
    slices: tuple[SliceHeader, ...] = field(repr=False)  #: caudal to cranial
    locations_mm: tuple[float, ...] = field(repr=False)
    geometry: SeriesGeometry
    defects: tuple[SourceDefect, ...]

    @property
    def orientation(self) -> tuple[float, float, float, float, float, float]:
        """Image Orientation (Patient) that all its slices share."""
        orientation = self.slices[0].frame.orientation
        if orientation is None:
            raise ValueError("selection lets no slice pass without a plane")
        return orientation


@dataclass(frozen=True, slots=True)
class RankedStudy:
    """The ranking for the record, and the series that qualified, best first."""

    ranking: SeriesRanking
    qualified: tuple[SelectedSeries, ...]


@dataclass(frozen=True, slots=True)
class _Judged:
    """One series after its own examination."""

    candidate: SeriesCandidate
    selected: SelectedSeries | None


def rank_series(headers: Sequence[InstanceHeader], rules: SelectionRules) -> RankedStudy:
    """Rank the series of a study, best first.

    The order is total: score, then slices, then UID, so that the same instances always give the
    same series.

    Parameters
    ----------
    headers
        All instances of one study, in any order.
    rules
        What a series must have.
    """
    by_series: dict[str, list[InstanceHeader]] = defaultdict(list)
    for header in headers:
        by_series[header.instance.series_instance_uid].append(header)
    judged = [_judge_series(uid, held, rules) for uid, held in by_series.items()]
    judged.sort(key=_best_first)
    qualified = tuple(one.selected for one in judged if one.selected is not None)
    winner = qualified[0].series_instance_uid if qualified else None
    best_score = judged[0].candidate.score if judged else 0.0
    candidates = tuple(_with_loss(one.candidate, winner, best_score) for one in judged)
    return RankedStudy(SeriesRanking(candidates, winner), qualified)


def explain_refusal(ranking: SeriesRanking) -> NotAnalysable:
    """Give the reason why no series of a study qualified: that of the one that came closest."""
    refused = [one for one in ranking.candidates if one.refusal is not None]
    if not refused:
        return NotAnalysable(NotAnalysedReason.NO_IMAGES, "the study has no instances")
    nearest = min(
        refused, key=lambda one: _NEAREST_FIRST.index(one.refusal or NotAnalysedReason.NO_IMAGES)
    )
    reason = nearest.refusal or NotAnalysedReason.NO_IMAGES
    others = len(ranking.candidates) - 1
    tail = f" ({others} other series did not qualify either)" if others else ""
    # The first reason is the refusal; what a series had going for it stands in the ranking.
    return NotAnalysable(reason, nearest.reasons[0] + tail)


def refuse_candidate(
    ranking: SeriesRanking, series_instance_uid: str, refusal: NotAnalysable
) -> SeriesRanking:
    """Note that a series failed where its pixels were looked at; the next best one leads.

    Parameters
    ----------
    ranking
        The ranking so far.
    series_instance_uid
        A candidate of it that had qualified.
    refusal
        Why it failed.
    """
    candidates = tuple(
        replace(one, score=0.0, reasons=(refusal.detail, *one.reasons), refusal=refusal.reason)
        if one.series_instance_uid == series_instance_uid
        else one
        for one in ranking.candidates
    )
    left = sorted((one for one in candidates if one.refusal is None), key=lambda one: -one.score)
    return SeriesRanking(candidates, left[0].series_instance_uid if left else None)


def _best_first(one: _Judged) -> tuple[bool, float, int, str]:
    candidate = one.candidate
    return (
        one.selected is None,
        -candidate.score,
        -candidate.n_slices,
        candidate.series_instance_uid,
    )


def _with_loss(
    candidate: SeriesCandidate, winner: str | None, best_score: float
) -> SeriesCandidate:
    """Add to a qualified loser by how much it lost."""
    if candidate.refusal is not None or candidate.series_instance_uid == winner:
        return candidate
    loss = f"not selected: {candidate.score:.1f} points against {best_score:.1f}"
    return replace(candidate, reasons=(loss, *candidate.reasons))


def _judge_series(
    series_instance_uid: str, headers: Sequence[InstanceHeader], rules: SelectionRules
) -> _Judged:
    n_slices = 0
    try:
        usable, defects = usable_slices(headers)
        n_slices = len(usable)
        stack, more = _one_grid(usable, rules)
        stack, split = _one_recording(stack, rules.geometry)
        measured = _measure(stack, rules)
    except NotAnalysable as refusal:
        candidate = _candidate(
            series_instance_uid,
            headers,
            n_slices,
            reasons=(refusal.detail,),
            refusal=refusal.reason,
        )
        return _Judged(candidate, None)
    score, reasons = score_stack(stack, measured.geometry)
    slices = tuple(stack[index] for index in measured.order)
    selected = SelectedSeries(
        series_instance_uid=series_instance_uid,
        frame_of_reference_uid=slices[0].header.frame_of_reference_uid or None,
        slices=slices,
        locations_mm=measured.locations_mm,
        geometry=measured.geometry,
        defects=(*defects, *more, *split, *measured.defects, *_lossy_defects(slices)),
    )
    candidate = _candidate(series_instance_uid, headers, len(slices), score=score, reasons=reasons)
    return _Judged(candidate, selected)


def _candidate(
    series_instance_uid: str,
    headers: Sequence[InstanceHeader],
    n_slices: int,
    *,
    score: float = 0.0,
    reasons: tuple[str, ...],
    refusal: NotAnalysedReason | None = None,
) -> SeriesCandidate:
    modalities = sorted({header.modality for header in headers if header.modality})
    return SeriesCandidate(
        series_instance_uid=series_instance_uid,
        modality="/".join(modalities),
        n_instances=len(headers),
        n_slices=n_slices,
        score=score,
        reasons=reasons,
        refusal=refusal,
    )


# ── which slices belong together ─────────────────────────────────────────────────────────────


def _grid_key(one: SliceHeader) -> tuple[object, ...]:
    """What slices of one volume have in common; cosines to 1/1000, spacing to 1/10 µm."""
    pixels, frame = one.header.pixels, one.frame
    if pixels is None or frame.orientation is None or frame.pixel_spacing_mm is None:
        raise ValueError("only usable slices have a grid")
    return (
        one.header.frame_of_reference_uid,
        pixels.rows,
        pixels.columns,
        tuple(round(cosine, 3) + 0.0 for cosine in frame.orientation),
        tuple(round(spacing, 4) for spacing in frame.pixel_spacing_mm),
    )


def _one_grid(
    usable: Sequence[SliceHeader], rules: SelectionRules
) -> tuple[list[SliceHeader], list[SourceDefect]]:
    """Keep the slices of the commonest grid; refuse a series without a dominant one."""
    by_grid: dict[tuple[object, ...], list[SliceHeader]] = defaultdict(list)
    for one in usable:
        by_grid[_grid_key(one)].append(one)
    largest = max(by_grid.values(), key=len)
    n_other = len(usable) - len(largest)
    if len(largest) < rules.least_grid_share * len(usable):
        raise NotAnalysable(
            NotAnalysedReason.BROKEN_GEOMETRY,
            f"{len(by_grid)} different grids (size, pixel spacing, orientation or frame of "
            f"reference), the largest with {len(largest)} of {len(usable)} slices",
        )
    if not n_other:
        return largest, []
    detail = f"{n_other} left out: another matrix, pixel spacing, orientation or frame of reference"
    return largest, [SourceDefect(DefectCode.EXCLUDED_INSTANCES, detail, n_other)]


def _one_recording(
    stack: list[SliceHeader], rules: GeometryRules
) -> tuple[list[SliceHeader], list[SourceDefect]]:
    """Split a series that holds several recordings of the same place (phases, repeats, energies).

    Recordings one after the other along the table are one volume and stay together.
    """
    defects: list[SourceDefect] = []
    for index, (name, _) in enumerate(DIVISIONS):
        groups: dict[str, list[SliceHeader]] = defaultdict(list)
        for one in stack:
            groups[one.frame.divisions[index]].append(one)
        if len(groups) == 1 or not _overlap(list(groups.values()), rules):
            continue
        value, largest = max(groups.items(), key=lambda item: (len(item[1]), _rank(item[0])))
        n_other = len(stack) - len(largest)
        detail = (
            f"{n_other} left out: {len(groups)} recordings of the same place, {name} "
            f"{value or 'unknown'} is used"
        )
        defects.append(SourceDefect(DefectCode.EXCLUDED_INSTANCES, detail, n_other))
        stack = largest
    return stack, defects


def _rank(value: str) -> tuple[float, str]:
    """Order numbers as numbers, and what is none before them."""
    try:
        return float(value), value
    except ValueError:
        return -math.inf, value


def _overlap(groups: Sequence[Sequence[SliceHeader]], rules: GeometryRules) -> bool:
    """Tell whether slices of different recordings lie at the same positions."""
    seen: set[int] = set()
    for group in groups:
        places = {round(_plane(one).position_mm[2] / rules.same_position_mm / 2) for one in group}
        if seen & places:
            return True
        seen |= places
    return False


def _plane(one: SliceHeader) -> SlicePlane:
    frame, instance = one.frame, one.header.instance
    if frame.position_mm is None or frame.orientation is None:
        raise ValueError("only usable slices have a plane")
    return SlicePlane(
        frame.position_mm,
        frame.orientation,
        instance.received_at,
        instance.content_digest,
        frame.frame_number,
        one.header.instance_number,
    )


def _measure(stack: Sequence[SliceHeader], rules: SelectionRules) -> StackGeometry:
    """Measure the stack and refuse one that is too small."""
    if len(stack) < rules.least_slices:
        raise NotAnalysable(
            NotAnalysedReason.TOO_FEW_SLICES,
            f"{len(stack)} axial slices, at least {rules.least_slices} are needed",
        )
    if len(stack) > rules.most_slices:
        raise NotAnalysable(
            NotAnalysedReason.BROKEN_GEOMETRY,
            f"{len(stack)} axial slices in one series, more than {rules.most_slices}",
        )
    measured = measure_stack([_plane(one) for one in stack], rules.geometry)
    geometry = measured.geometry
    if geometry.n_slices < rules.least_slices:
        raise NotAnalysable(
            NotAnalysedReason.TOO_FEW_SLICES,
            f"{geometry.n_slices} different positions, at least {rules.least_slices} are needed",
        )
    if geometry.coverage_mm < rules.least_coverage_mm:
        raise NotAnalysable(
            NotAnalysedReason.TOO_LITTLE_COVERAGE,
            f"{geometry.n_slices} slices cover {geometry.coverage_mm:.0f} mm, "
            f"at least {rules.least_coverage_mm:.0f} mm are needed",
        )
    return measured


def _lossy_defects(slices: Sequence[SliceHeader]) -> list[SourceDefect]:
    n_lossy = sum(
        one.header.is_lossy or one.header.instance.transfer_syntax_uid in LOSSY_TRANSFER_SYNTAX_UIDS
        for one in slices
    )
    if not n_lossy:
        return []
    detail = f"{n_lossy} of {len(slices)} slices went through lossy compression"
    return [SourceDefect(DefectCode.LOSSY_COMPRESSION, detail, n_lossy)]
