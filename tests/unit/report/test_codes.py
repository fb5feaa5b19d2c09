"""Coded concepts: what schemes and value representations allow."""

from __future__ import annotations

import pytest
from pydicom.sr.coding import Code

from screener.domain import NotAnalysedReason, PatientClass
from screener.report import codes

CONCEPTS = [
    concept
    for value in vars(codes).values()
    for concept in (value.values() if isinstance(value, dict) else [value])
    if isinstance(concept, Code)
]


@pytest.mark.parametrize("concept", CONCEPTS, ids=lambda concept: concept.value)
def test_concept_fits_its_value_representations(concept: Code) -> None:
    """Code Value and designator are SH, Code Meaning is LO; retired schemes never appear."""
    assert 0 < len(concept.value) <= 16
    assert 0 < len(concept.meaning) <= 64
    standard = {"DCM", "SCT", "UCUM", "LN", "RADLEX", "UMLS"}
    assert concept.scheme_designator in {*standard, codes.PRIVATE_SCHEME}


def test_private_scheme_is_marked_as_private() -> None:
    """PS3.16 8.2 reserves designators that begin with 99 for private schemes."""
    assert codes.PRIVATE_SCHEME.startswith("99")
    assert len(codes.PRIVATE_SCHEME) <= 16


def test_concepts_of_one_scheme_have_one_meaning() -> None:
    """No code stands for two things, and no thing of ours shares a code."""
    meanings: dict[tuple[str, str], set[str]] = {}
    for concept in CONCEPTS:
        key = (concept.scheme_designator, concept.value)
        meanings.setdefault(key, set()).add(concept.meaning)
    assert {key: found for key, found in meanings.items() if len(found) > 1} == {}


def test_every_answer_and_reason_has_its_own_concept() -> None:
    """A class or refusal that is added later cannot be forgotten here."""
    assert set(codes.PATIENT_CLASSES) == set(PatientClass)
    assert set(codes.NOT_ANALYSED_REASONS) == set(NotAnalysedReason)
    assert len(set(codes.NOT_ANALYSED_REASONS.values())) == len(NotAnalysedReason)
