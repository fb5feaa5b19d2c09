"""The vote: worked examples of each rule, and what must hold for every ballot."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from screener.domain import (
    NotAnalysedReason,
    PatientClass,
    SliceProbabilities,
    VotePolicy,
    VoteRule,
)
from screener.errors import NotAnalysable
from screener.vote import longest_run, vote

NAMES = ("normal", "covid-19", "community-acquired-pneumonia")
NORMAL, COVID, CAP = (0.9, 0.07, 0.03), (0.1, 0.8, 0.1), (0.1, 0.2, 0.7)
SPACING_MM = 2.5


def policy(rule: VoteRule, **values: float) -> VotePolicy:
    return replace(VotePolicy("test", rule), **values)


def ballot(*rows: tuple[float, float, float], first: int = 0) -> SliceProbabilities:
    return SliceProbabilities(
        NAMES, np.arange(first, first + len(rows)), np.array(rows, dtype=np.float32).reshape(-1, 3)
    )


def certainties(decision: object) -> dict[str, float]:
    return dict(getattr(decision, "class_certainties"))  # noqa: B009


def test_majority_counts_votes() -> None:
    """12 of 20 slices for COVID-19: 60 %, 25 points ahead of normal."""
    decision = vote(
        ballot(*[COVID] * 12, *[NORMAL] * 7, CAP), policy(VoteRule.MAJORITY), SPACING_MM
    )
    assert decision.patient_class is PatientClass.COVID_19
    assert decision.slice_votes == (
        ("normal", 7),
        ("covid-19", 12),
        ("community-acquired-pneumonia", 1),
    )
    assert certainties(decision) == pytest.approx(
        {"normal": 0.35, "covid-19": 0.6, "community-acquired-pneumonia": 0.05}
    )
    assert decision.certainty == pytest.approx(0.6)
    assert decision.affected_slice_indices == (*range(12), 19)
    assert decision.affected_fraction == pytest.approx(13 / 20)
    assert "12 covid-19" in decision.explanation


def test_majority_without_lead_is_indeterminate() -> None:
    """Ten against nine of twenty: 5 points, 10 are needed; the certainty stays with the leader."""
    decision = vote(
        ballot(*[COVID] * 10, *[NORMAL] * 9, CAP), policy(VoteRule.MAJORITY), SPACING_MM
    )
    assert decision.patient_class is PatientClass.INDETERMINATE
    assert decision.certainty == pytest.approx(0.5)
    assert "leads by 5.0%" in decision.explanation


def test_tie_is_indeterminate_even_without_margin() -> None:
    """Ten against ten decides nothing."""
    tie = ballot(*[COVID] * 10, *[NORMAL] * 10)
    decision = vote(tie, policy(VoteRule.MAJORITY, indeterminate_margin=0.0), SPACING_MM)
    assert decision.patient_class is PatientClass.INDETERMINATE


def test_mean_probability_averages() -> None:
    """Half the slices at 0.9 and half at 0.1 normal: 0.5 normal, 0.435 COVID-19."""
    decision = vote(
        ballot(*[NORMAL] * 10, *[COVID] * 10),
        policy(VoteRule.MEAN_PROBABILITY, indeterminate_margin=0.05),
        SPACING_MM,
    )
    assert decision.patient_class is PatientClass.NORMAL
    assert certainties(decision) == pytest.approx(
        {"normal": 0.5, "covid-19": 0.435, "community-acquired-pneumonia": 0.065}, abs=1e-6
    )


def test_affected_fraction_finds_few_affected_slices() -> None:
    """8 of 20 slices, threshold 10 %: affected 0.5 + 0.5 * 0.3 / 0.9, divided 8 : 1."""
    decision = vote(
        ballot(*[NORMAL] * 12, *[COVID] * 8), policy(VoteRule.AFFECTED_FRACTION), SPACING_MM
    )
    affected = 0.5 + 0.5 * (0.4 - 0.1) / 0.9
    assert decision.patient_class is PatientClass.COVID_19
    assert certainties(decision) == pytest.approx(
        {
            "normal": 1 - affected,
            "covid-19": affected * 8 / 9,
            "community-acquired-pneumonia": affected / 9,
        }
    )


def test_affected_fraction_below_threshold_is_normal() -> None:
    """One of forty slices is below 10 %: normal, with 0.875 certainty."""
    decision = vote(ballot(*[NORMAL] * 39, COVID), policy(VoteRule.AFFECTED_FRACTION), SPACING_MM)
    assert decision.patient_class is PatientClass.NORMAL
    assert decision.certainty == pytest.approx(1 - 0.5 * 0.025 / 0.1)


def test_affected_patient_is_never_called_normal_for_want_of_a_disease() -> None:
    """20 % affected, both diseases alike: normal has the highest certainty and may not win."""
    unclear = (0.2, 0.4, 0.4)
    decision = vote(
        ballot(*[NORMAL] * 16, *[unclear] * 4),
        policy(VoteRule.AFFECTED_FRACTION, indeterminate_margin=0.0),
        SPACING_MM,
    )
    assert max(certainties(decision), key=certainties(decision).__getitem__) == "normal"
    assert decision.patient_class is PatientClass.INDETERMINATE
    assert "no disease class stands out" in decision.explanation


def test_longest_run_counts_neighbours_only() -> None:
    """Runs of three and eight affected slices: 8 * 2.5 mm = 20 mm against 15 mm."""
    decision = vote(
        ballot(*[CAP] * 3, *[NORMAL] * 9, *[CAP] * 8),
        policy(VoteRule.LONGEST_RUN, indeterminate_margin=0.05),
        SPACING_MM,
    )
    affected = 1 - 0.5 * 15 / 20
    assert certainties(decision)["normal"] == pytest.approx(1 - affected)
    assert "20.0 mm" in decision.explanation
    assert decision.patient_class is PatientClass.COMMUNITY_ACQUIRED_PNEUMONIA


def test_longest_run_is_broken_by_a_slice_without_lung() -> None:
    """Indices 3, 4, 6: the slice between was not analysed, so the run is two."""
    assert longest_run(np.array([3, 4, 6])) == 2
    assert longest_run(np.array([], dtype=np.int64)) == 0


def test_too_few_slices_give_no_decision() -> None:
    """Nine lung-bearing slices, ten are needed."""
    with pytest.raises(NotAnalysable) as caught:
        vote(ballot(*[COVID] * 9), policy(VoteRule.MAJORITY), SPACING_MM)
    assert caught.value.reason is NotAnalysedReason.TOO_FEW_SLICES
    with pytest.raises(NotAnalysable):
        vote(ballot(), policy(VoteRule.MAJORITY, least_slices=0), SPACING_MM)


def test_unknown_classes_and_thresholds_are_mistakes() -> None:
    """A model with other classes, or a policy out of range, is refused before it decides."""
    alien = replace(ballot(*[COVID] * 10), class_names=("normal", "covid-19", "influenza"))
    with pytest.raises(ValueError, match="influenza"):
        vote(alien, policy(VoteRule.MAJORITY), SPACING_MM)
    with pytest.raises(ValueError, match="slice_threshold"):
        vote(ballot(*[COVID] * 10), policy(VoteRule.MAJORITY, slice_threshold=1.0), SPACING_MM)
    with pytest.raises(ValueError, match="longest_run_threshold_mm"):
        vote(
            ballot(*[COVID] * 10),
            policy(VoteRule.LONGEST_RUN, longest_run_threshold_mm=0.0),
            SPACING_MM,
        )


# ── what holds for every ballot ──────────────────────────────────────────────────────────────

rules = st.sampled_from(list(VoteRule))


@st.composite
def tables(draw: st.DrawFn, least: int = 10) -> NDArray[np.float32]:
    """Draw probability tables, some of them with certain or even slices."""
    weights = draw(
        st.lists(st.tuples(*[st.integers(0, 50)] * 3).filter(any), min_size=least, max_size=40)
    )
    table = np.array(weights, dtype=np.float64)
    return np.asarray(table / table.sum(axis=1, keepdims=True), dtype=np.float32)


@given(table=tables(), rule=rules)
def test_certainties_are_shares_that_sum_to_one(table: NDArray[np.float32], rule: VoteRule) -> None:
    """Whatever the slices say: 0 to 1, sum 1, and the winner has the highest."""
    decision = vote(
        SliceProbabilities(NAMES, np.arange(len(table)), table), policy(rule), SPACING_MM
    )
    values = list(certainties(decision).values())
    assert all(-1e-9 <= value <= 1 + 1e-9 for value in values)
    assert sum(values) == pytest.approx(1.0)
    assert decision.certainty == pytest.approx(max(values))
    assert sum(n for _, n in decision.slice_votes) == decision.n_slices_analysed == len(table)
    if decision.patient_class is not PatientClass.INDETERMINATE:
        assert certainties(decision)[decision.patient_class.value] == pytest.approx(max(values))


@given(data=st.data(), table=tables(), rule=rules)
def test_order_of_slices_does_not_matter(
    data: st.DataObject, table: NDArray[np.float32], rule: VoteRule
) -> None:
    """Slices in any order, each with its index, give the same decision."""
    order = np.array(data.draw(st.permutations(range(len(table)))))
    straight = SliceProbabilities(NAMES, np.arange(len(table)), table)
    shuffled = SliceProbabilities(NAMES, np.arange(len(table))[order], table[order])
    assert vote(straight, policy(rule), SPACING_MM) == vote(shuffled, policy(rule), SPACING_MM)


@given(
    data=st.data(),
    table=tables(),
    rule=st.sampled_from([VoteRule.AFFECTED_FRACTION, VoteRule.LONGEST_RUN]),
)
def test_one_more_affected_slice_never_makes_the_patient_healthier(
    data: st.DataObject, table: NDArray[np.float32], rule: VoteRule
) -> None:
    """Monotone: the certainty of normal cannot rise when a slice turns from normal to COVID-19."""
    index = data.draw(st.integers(0, len(table) - 1))
    worse = table.copy()
    worse[index] = (0.0, 1.0, 0.0)
    before = vote(SliceProbabilities(NAMES, np.arange(len(table)), table), policy(rule), SPACING_MM)
    after = vote(SliceProbabilities(NAMES, np.arange(len(table)), worse), policy(rule), SPACING_MM)
    assert certainties(after)["normal"] <= certainties(before)["normal"] + 1e-9


@given(table=tables(), rule=rules)
def test_wider_margin_only_turns_decisions_into_doubt(
    table: NDArray[np.float32], rule: VoteRule
) -> None:
    """A more careful policy never changes one disease into another."""
    slices = SliceProbabilities(NAMES, np.arange(len(table)), table)
    bold = vote(slices, policy(rule, indeterminate_margin=0.05), SPACING_MM)
    careful = vote(slices, policy(rule, indeterminate_margin=0.4), SPACING_MM)
    assert careful.patient_class in {bold.patient_class, PatientClass.INDETERMINATE}


@given(table=tables(), rule=rules)
def test_vote_does_not_depend_on_where_the_slices_start(
    table: NDArray[np.float32], rule: VoteRule
) -> None:
    """The same lungs higher up in the volume are the same patient."""
    here = vote(SliceProbabilities(NAMES, np.arange(len(table)), table), policy(rule), SPACING_MM)
    there = vote(
        SliceProbabilities(NAMES, np.arange(len(table)) + 57, table), policy(rule), SPACING_MM
    )
    assert here.class_certainties == there.class_certainties
    assert here.explanation == there.explanation
