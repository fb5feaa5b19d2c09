"""Slice probabilities and a policy to one decision for the patient: pure arithmetic.

Four rules (design 3.6). Each gives one *certainty* per class; they are 0 to 1 and sum to 1:

``majority``
    Each slice votes for its likeliest class. Certainty = share of the votes.
``mean-probability``
    Certainty = mean probability over the slices.
``affected-fraction`` and ``longest-run``
    A quantity x (the share of affected slices; the length in mm of the longest run of neighbouring
    affected slices) is compared with its threshold t. The certainty that the patient is affected
    is 1/2 at x = t, falls linearly to 0 at x = 0, and rises above: linearly to 1 at x = 1 for the
    share, as 1 - t / (2 x) for the length. It is divided among the disease classes by their mean
    probability over the affected slices (over all slices where none is affected); the rest is
    *normal*.

The class with the highest certainty wins, unless its lead is below ``indeterminate_margin``: then
the answer is *indeterminate*. It is also indeterminate where x reaches its threshold and *normal*
would still win only because several diseases share the rest: never a false "normal".

A slice is *affected* where the probability of all disease classes together reaches
``slice_threshold``. Ties between classes on one slice go to the class that stands first.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from screener.domain import (
    Decision,
    NotAnalysedReason,
    PatientClass,
    SliceProbabilities,
    VotePolicy,
    VoteRule,
)
from screener.errors import NotAnalysable

#: Certainties closer than this are equal: what remains of adding floats in another order.
_EQUAL_WITHIN = 1e-9


@dataclass(frozen=True, slots=True)
class _Ballot:
    """The slices of one patient, sorted along the body."""

    class_names: tuple[str, ...]
    normal: int  #: index of the class "normal"
    slice_indices: NDArray[np.int64]  #: (n,) ascending
    probabilities: NDArray[np.float64]  #: (n, classes)
    is_affected: NDArray[np.bool_]  #: (n,)
    votes: NDArray[np.int64]  #: (classes,)

    @property
    def n_slices(self) -> int:
        return int(self.slice_indices.size)

    @property
    def n_affected(self) -> int:
        return int(np.count_nonzero(self.is_affected))


@dataclass(frozen=True, slots=True)
class _Tally:
    """What a rule makes of a ballot."""

    certainties: NDArray[np.float64]  #: (classes,), sum 1
    is_over_threshold: bool  #: an affected patient by this rule: "normal" may not win
    evidence: str  #: the sentence before the verdict


def vote(
    probabilities: SliceProbabilities, policy: VotePolicy, slice_spacing_mm: float
) -> Decision:
    """Decide for the patient.

    Parameters
    ----------
    probabilities
        Calibrated probabilities of the lung-bearing slices, in any order.
    policy
        Rule and thresholds.
    slice_spacing_mm
        Distance between neighbouring slices of the volume; the longest run is measured with it.

    Raises
    ------
    NotAnalysable
        TOO_FEW_SLICES: fewer lung-bearing slices than the policy wants.
    ValueError
        The classes are not ours, or a threshold is out of range.
    """
    _check_policy(policy)
    ballot = _count(probabilities, policy)
    if ballot.n_slices < max(1, policy.least_slices):
        raise NotAnalysable(
            NotAnalysedReason.TOO_FEW_SLICES,
            f"{ballot.n_slices} lung-bearing slices, {policy.least_slices} are needed for a vote",
        )
    tally = _RULES[policy.rule](ballot, policy, slice_spacing_mm)
    leader, lead = _lead(tally.certainties)
    patient_class = PatientClass(ballot.class_names[leader])
    doubt = _doubt(patient_class, lead, tally, policy)
    if doubt:
        patient_class = PatientClass.INDETERMINATE
    return Decision(
        patient_class=patient_class,
        certainty=float(tally.certainties[leader]),
        class_certainties=tuple(
            (name, float(value))
            for name, value in zip(ballot.class_names, tally.certainties, strict=True)
        ),
        slice_votes=tuple(
            (name, int(n)) for name, n in zip(ballot.class_names, ballot.votes, strict=True)
        ),
        n_slices_analysed=ballot.n_slices,
        affected_slice_indices=tuple(int(i) for i in ballot.slice_indices[ballot.is_affected]),
        policy_name=policy.name,
        explanation=f"{tally.evidence}: {patient_class.value}{doubt}.",
    )


def _check_policy(policy: VotePolicy) -> None:
    shares = {
        "slice_threshold": policy.slice_threshold,
        "affected_fraction_threshold": policy.affected_fraction_threshold,
    }
    for name, value in shares.items():
        if not 0.0 < value < 1.0:
            raise ValueError(f"vote policy {policy.name}: {name} = {value} is not between 0 and 1")
    if policy.longest_run_threshold_mm <= 0 or not 0.0 <= policy.indeterminate_margin < 1.0:
        raise ValueError(
            f"vote policy {policy.name}: longest_run_threshold_mm must be above 0 and "
            "indeterminate_margin from 0 to below 1"
        )


def _count(probabilities: SliceProbabilities, policy: VotePolicy) -> _Ballot:
    names = probabilities.class_names
    known = {one.value for one in PatientClass if one is not PatientClass.INDETERMINATE}
    if not set(names) <= known or PatientClass.NORMAL.value not in names or len(names) < 2:  # noqa: PLR2004
        raise ValueError(f"classes {names} cannot be voted on; known are {sorted(known)}")
    normal = names.index(PatientClass.NORMAL.value)
    order = np.argsort(probabilities.slice_indices, kind="stable")
    table = probabilities.probabilities[order].astype(np.float64)
    diseased = 1.0 - table[:, normal]
    return _Ballot(
        class_names=names,
        normal=normal,
        slice_indices=probabilities.slice_indices[order],
        probabilities=table,
        # float32 probabilities: 0.5 must count as 0.5
        is_affected=diseased >= policy.slice_threshold - np.finfo(np.float32).eps,
        votes=np.bincount(np.argmax(table, axis=1), minlength=len(names)).astype(np.int64),
    )


def _lead(certainties: NDArray[np.float64]) -> tuple[int, float]:
    """Give the leading class and by how much it leads; the first of equals."""
    order = np.argsort(-certainties, kind="stable")
    return int(order[0]), float(certainties[order[0]] - certainties[order[1]])


def _doubt(patient_class: PatientClass, lead: float, tally: _Tally, policy: VotePolicy) -> str:
    """Say why the leader is not declared, empty if it is."""
    # A tie is no decision, whatever the margin.
    if lead <= _EQUAL_WITHIN or lead < policy.indeterminate_margin - _EQUAL_WITHIN:
        return (
            f" ({patient_class.value} leads by {lead:.1%}, "
            f"{policy.indeterminate_margin:.1%} are needed)"
        )
    if tally.is_over_threshold and patient_class is PatientClass.NORMAL:
        return " (affected, but no disease class stands out)"
    return ""


# ── the rules ────────────────────────────────────────────────────────────────────────────────


def _majority(ballot: _Ballot, _policy: VotePolicy, _slice_spacing_mm: float) -> _Tally:
    counts = ", ".join(
        f"{n} {name}" for name, n in zip(ballot.class_names, ballot.votes, strict=True)
    )
    return _Tally(
        certainties=ballot.votes / ballot.n_slices,
        is_over_threshold=False,
        evidence=f"majority of {ballot.n_slices} slices ({counts})",
    )


def _mean_probability(ballot: _Ballot, _policy: VotePolicy, _slice_spacing_mm: float) -> _Tally:
    means = ballot.probabilities.mean(axis=0)
    means = means / means.sum()
    shares = ", ".join(
        f"{name} {value:.1%}" for name, value in zip(ballot.class_names, means, strict=True)
    )
    return _Tally(
        certainties=means,
        is_over_threshold=False,
        evidence=f"mean probability over {ballot.n_slices} slices ({shares})",
    )


def _affected_fraction(ballot: _Ballot, policy: VotePolicy, _slice_spacing_mm: float) -> _Tally:
    share = ballot.n_affected / ballot.n_slices
    threshold = policy.affected_fraction_threshold
    if share < threshold:
        affected = 0.5 * share / threshold
    else:
        affected = 0.5 + 0.5 * (share - threshold) / (1.0 - threshold)
    return _Tally(
        certainties=_divide(ballot, affected),
        is_over_threshold=share >= threshold,
        evidence=(
            f"{ballot.n_affected} of {ballot.n_slices} slices are affected, {share:.1%} against "
            f"a threshold of {threshold:.1%}"
        ),
    )


def _longest_run(ballot: _Ballot, policy: VotePolicy, slice_spacing_mm: float) -> _Tally:
    length_mm = longest_run(ballot.slice_indices[ballot.is_affected]) * slice_spacing_mm
    threshold_mm = policy.longest_run_threshold_mm
    if length_mm < threshold_mm:
        affected = 0.5 * length_mm / threshold_mm
    else:
        affected = 1.0 - 0.5 * threshold_mm / length_mm
    return _Tally(
        certainties=_divide(ballot, affected),
        is_over_threshold=length_mm >= threshold_mm,
        evidence=(
            f"the longest run of affected slices is {length_mm:.1f} mm of {ballot.n_slices} "
            f"slices, against a threshold of {threshold_mm:.1f} mm"
        ),
    )


def longest_run(slice_indices: NDArray[np.int64]) -> int:
    """Give the length of the longest run of consecutive indices.

    Parameters
    ----------
    slice_indices
        Ascending, without repeats.

    Examples
    --------
    >>> longest_run(np.array([3, 7, 8, 9, 12]))
    3
    """
    if slice_indices.size == 0:
        return 0
    breaks = np.flatnonzero(np.diff(slice_indices) != 1)
    edges = np.concatenate([[-1], breaks, [slice_indices.size - 1]])
    return int(np.diff(edges).max())


def _divide(ballot: _Ballot, affected: float) -> NDArray[np.float64]:
    """Divide the certainty of being affected among the disease classes."""
    rows = ballot.is_affected if ballot.n_affected else np.ones(ballot.n_slices, dtype=np.bool_)
    means = ballot.probabilities[rows].mean(axis=0)
    means[ballot.normal] = 0.0
    total = float(means.sum())
    if total <= 0.0:
        # No disease has any probability: share it out evenly, it is 0 or close to it.
        means[:] = 1.0
        means[ballot.normal] = 0.0
        total = float(means.sum())
    certainties = affected * means / total
    certainties[ballot.normal] = 1.0 - affected
    return np.asarray(certainties, dtype=np.float64)


_Rule = Callable[[_Ballot, VotePolicy, float], _Tally]
_RULES: Final[Mapping[VoteRule, _Rule]] = {
    VoteRule.MAJORITY: _majority,
    VoteRule.MEAN_PROBABILITY: _mean_probability,
    VoteRule.AFFECTED_FRACTION: _affected_fraction,
    VoteRule.LONGEST_RUN: _longest_run,
}
