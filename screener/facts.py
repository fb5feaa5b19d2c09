"""What a journey tells the audit: one frozen fact per step, in the past tense.

Class names and fields are those of the audit events (`screener.audit.events`); a test compares.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from screener.domain import (
        Decision,
        LungMask,
        NotAnalysedReason,
        PatientClass,
        SeriesRanking,
        SliceProbabilities,
        SourceDefect,
        Volume,
    )


@dataclass(frozen=True, slots=True)
class StudyAssembled:
    """The headers of a study were read."""

    n_instances: int
    n_series: int
    defects: tuple[str, ...]  #: code and sentence of each defect of the study

    @classmethod
    def of(
        cls, n_instances: int, ranking: SeriesRanking, defects: tuple[SourceDefect, ...]
    ) -> StudyAssembled:
        """Tell how much came and what is wrong with it."""
        return cls(n_instances, len(ranking.candidates), tuple(map(str, defects)))


@dataclass(frozen=True, slots=True)
class SeriesSelected:
    """A series was chosen, or (None) no series could be screened."""

    series_instance_uid: str | None
    score: float
    n_candidates: int
    n_qualified: int
    reasons: tuple[str, ...]

    @classmethod
    def of(cls, ranking: SeriesRanking) -> SeriesSelected:
        """Tell which series leads the ranking, and why."""
        uid = ranking.selected_series_instance_uid
        winner = next((c for c in ranking.candidates if c.series_instance_uid == uid), None)
        return cls(
            series_instance_uid=uid,
            score=winner.score if winner else 0.0,
            n_candidates=len(ranking.candidates),
            n_qualified=sum(c.refusal is None for c in ranking.candidates),
            reasons=winner.reasons if winner else (),
        )


@dataclass(frozen=True, slots=True)
class VolumeAssembled:
    """A series was ordered and decoded."""

    series_instance_uid: str
    n_slices: int
    slice_spacing_mm: float
    coverage_mm: float
    n_missing_slices: int
    n_duplicate_positions: int
    tilt_degrees: float
    defects: tuple[str, ...]

    @classmethod
    def of(cls, volume: Volume, defects: tuple[SourceDefect, ...]) -> VolumeAssembled:
        """Tell how the slices lie and what is wrong with them."""
        geometry = volume.geometry
        return cls(
            series_instance_uid=volume.series_instance_uid,
            n_slices=geometry.n_slices,
            slice_spacing_mm=geometry.slice_spacing_mm,
            coverage_mm=geometry.coverage_mm,
            n_missing_slices=geometry.n_missing_slices,
            n_duplicate_positions=geometry.n_duplicate_positions,
            tilt_degrees=geometry.tilt_degrees,
            defects=tuple(str(defect) for defect in defects),
        )


@dataclass(frozen=True, slots=True)
class LungsSegmented:
    """The lungs were found and the series was taken for a chest."""

    series_instance_uid: str
    right_volume_ml: float
    left_volume_ml: float
    n_lung_slices: int

    @classmethod
    def of(cls, volume: Volume, lungs: LungMask) -> LungsSegmented:
        """Tell what was found."""
        return cls(
            series_instance_uid=volume.series_instance_uid,
            right_volume_ml=lungs.right_volume_ml,
            left_volume_ml=lungs.left_volume_ml,
            n_lung_slices=int(lungs.lung_slices.size),
        )


@dataclass(frozen=True, slots=True)
class SlicesClassified:
    """Every slice with enough lung was classified."""

    n_slices: int
    mean_probabilities: tuple[tuple[str, float], ...]

    @classmethod
    def of(cls, probabilities: SliceProbabilities) -> SlicesClassified:
        """Tell the mean over the slices; the table itself stands in the slice results."""
        n_slices = len(probabilities.slice_indices)
        means = probabilities.probabilities.mean(axis=0) if n_slices else ()
        names = probabilities.class_names
        return cls(n_slices, tuple((n, float(m)) for n, m in zip(names, means, strict=False)))


@dataclass(frozen=True, slots=True)
class PatientDecided:
    """The slices were voted into one decision."""

    patient_class: PatientClass
    certainty: float
    slice_votes: tuple[tuple[str, int], ...]
    n_slices_analysed: int
    n_affected_slices: int
    policy_name: str
    explanation: str

    @classmethod
    def of(cls, decision: Decision) -> PatientDecided:
        """Tell the decision and how it fell."""
        return cls(
            patient_class=decision.patient_class,
            certainty=decision.certainty,
            slice_votes=decision.slice_votes,
            n_slices_analysed=decision.n_slices_analysed,
            n_affected_slices=len(decision.affected_slice_indices),
            policy_name=decision.policy_name,
            explanation=decision.explanation,
        )


@dataclass(frozen=True, slots=True)
class NotAnalysedBecause:
    """The study has no decision; a result too."""

    reason: NotAnalysedReason
    detail: str


Fact = (
    StudyAssembled
    | SeriesSelected
    | VolumeAssembled
    | LungsSegmented
    | SlicesClassified
    | PatientDecided
    | NotAnalysedBecause
)
#: Where facts go; the pipeline does not know what becomes of them.
Record = Callable[[Fact], None]
