"""Split a data set by patient, and refuse a split that leaks.

A split leaks where a patient, or the very same pixels, stand on two sides: then a network is asked
about what it has seen. Published lists are not free of it; such a split can be used, but only with
an argument that says why, which is stored with the split.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Final

import numpy as np

from models.datasets.contract import TEST, TRAINING, VALIDATION, LabelledImages
from models.errors import DatasetInvalid, LeakingSplit

#: How many leaks a message names.
_NAMED_LEAKS = 5
_SHARES_SUM: Final = 1e-6


@dataclass(frozen=True, slots=True)
class Leak:
    """One thing that stands on two sides: ``kind`` is ``patient`` or ``pixels``."""

    kind: str
    what: str
    sides: tuple[str, str]

    def __str__(self) -> str:
        """Give one line for people."""
        return f"{self.kind} {self.what} in {self.sides[0]} and {self.sides[1]}"


@dataclass(frozen=True, slots=True)
class Split:
    """Indices into the samples of a data set, ascending; no index stands on two sides.

    ``leaks`` are those that were allowed, ``allowed_because`` says why; both are empty as a rule.
    """

    training: tuple[int, ...]
    validation: tuple[int, ...]
    test: tuple[int, ...]
    leaks: tuple[Leak, ...] = ()
    allowed_because: str = ""

    def sides(self) -> Mapping[str, tuple[int, ...]]:
        """Give the sides by their names."""
        return {TRAINING: self.training, VALIDATION: self.validation, TEST: self.test}


def split_by_lists(data: LabelledImages, *, allow_leaks_because: str = "") -> Split:
    """Split as the data's own lists say; samples that no list names stand on no side.

    Parameters
    ----------
    data
        A set whose samples carry a part.
    allow_leaks_because
        Why a leak of the lists is accepted, for example to compare with a published figure. It is
        stored in the split. Empty refuses leaks.

    Raises
    ------
    DatasetInvalid
        No sample has a part.
    LeakingSplit
        The lists leak, and no reason to accept it was given.
    """
    sides = {
        part: tuple(n for n, sample in enumerate(data.samples) if sample.part == part)
        for part in (TRAINING, VALIDATION, TEST)
    }
    if not any(sides.values()):
        raise DatasetInvalid(f"{data.name} has no lists of its own; split it by patient")
    return _checked(data, sides, allow_leaks_because)


def split_by_patient(data: LabelledImages, shares: tuple[float, float, float], seed: int) -> Split:
    """Draw whole patients until each side has its share of the images of each class.

    What the data's own lists give to the test stays in the test and is not drawn.

    Parameters
    ----------
    data
        The set.
    shares
        Training, validation, test; they sum to 1. A share of 0 leaves the side empty.
    seed
        The same seed gives the same split.

    Raises
    ------
    DatasetInvalid
        The shares are none, or there are fewer patients than sides.
    LeakingSplit
        Two patients have an image in common.
    """
    if min(shares) < 0 or abs(sum(shares) - 1.0) > _SHARES_SUM:
        raise DatasetInvalid(f"shares {shares} must not be below 0 and must sum to 1")
    kept, test = _apart_from_test(data)
    wanted = [(name, share) for name, share in zip(_SIDES, shares, strict=True) if share > 0]
    patients = {data.samples[n].patient for n in kept}
    if len(patients) < len(wanted):
        raise DatasetInvalid(f"{data.name} has {len(patients)} patients for {len(wanted)} sides")
    assigned = _assign(data, kept, [share for _, share in wanted], seed)
    sides: dict[str, list[int]] = {name: [] for name in _SIDES}
    for index, side in assigned.items():
        sides[wanted[side][0]].append(index)
    sides[TEST] += test
    return _checked(data, sides, "")


def cross_validation(data: LabelledImages, n_folds: int, seed: int) -> tuple[Split, ...]:
    """Give one split per fold: each patient is validated on once and trained on otherwise.

    What the data's own lists give to the test is the test of every fold.

    Raises
    ------
    DatasetInvalid
        Fewer than two folds, or more folds than patients.
    LeakingSplit
        Two patients have an image in common.
    """
    kept, test = _apart_from_test(data)
    n_patients = len({data.samples[n].patient for n in kept})
    if not 2 <= n_folds <= n_patients:  # noqa: PLR2004  one fold leaves nothing to train on
        raise DatasetInvalid(
            f"{n_folds} folds of {n_patients} patients: choose from 2 to the number of patients"
        )
    assigned = _assign(data, kept, [1.0 / n_folds] * n_folds, seed)
    digests = pixel_digests(data, [*kept, *test])
    splits = []
    for fold in range(n_folds):
        sides = {
            TRAINING: [n for n in kept if assigned[n] != fold],
            VALIDATION: [n for n in kept if assigned[n] == fold],
            TEST: test,
        }
        splits.append(_checked(data, sides, "", digests))
    return tuple(splits)


def absent_classes(data: LabelledImages, split: Split) -> tuple[str, ...]:
    """Say which classes have no image on a side that has images; in each case one line for people.

    Few patients cannot give every side every class. What is measured there says nothing about it.
    """
    labels = data.labels()
    return tuple(
        f"no image of {name} in {side} ({len(indices)} images)"
        for side, indices in split.sides().items()
        for number, name in enumerate(data.classes)
        if indices and not (labels[list(indices)] == number).any()
    )


def find_leaks(
    data: LabelledImages,
    sides: Mapping[str, Sequence[int]],
    digests: Mapping[int, str] | None = None,
) -> tuple[Leak, ...]:
    """Find patients and identical pixels that stand on two sides; every image is read.

    Parameters
    ----------
    data
        The set.
    sides
        Indices by the name of the side.
    digests
        Digests of the pixels where they are known already.
    """
    known = (
        pixel_digests(data, sorted({n for side in sides.values() for n in side}))
        if (digests is None)
        else digests
    )
    leaks: list[Leak] = []
    for (first, of_first), (second, of_second) in combinations(sides.items(), 2):
        names = (first, second)
        patients = {data.samples[n].patient for n in of_first}
        both = patients & {data.samples[n].patient for n in of_second}
        leaks += [Leak("patient", patient, names) for patient in sorted(both)]
        by_digest = {known[n]: n for n in of_first}
        for n in of_second:
            twin = by_digest.get(known[n])
            if twin is not None:
                what = f"{data.samples[twin].name} = {data.samples[n].name}"
                leaks.append(Leak("pixels", what, names))
    return tuple(leaks)


def pixel_digests(data: LabelledImages, indices: Iterable[int]) -> dict[int, str]:
    """Digest the shape and the values of images, after conversion to grey."""
    digests: dict[int, str] = {}
    for index in indices:
        image = np.ascontiguousarray(data.image(index))
        digest = hashlib.sha256(repr((image.shape, image.dtype.str)).encode())
        digest.update(image.tobytes())
        digests[index] = digest.hexdigest()
    return digests


_SIDES: Final = (TRAINING, VALIDATION, TEST)


def _apart_from_test(data: LabelledImages) -> tuple[list[int], list[int]]:
    test = [n for n, sample in enumerate(data.samples) if sample.part == TEST]
    kept = [n for n, sample in enumerate(data.samples) if sample.part != TEST]
    if not kept:
        raise DatasetInvalid(f"{data.name} holds nothing that is not kept for the test")
    return kept, test


def _assign(
    data: LabelledImages, kept: Sequence[int], shares: Sequence[float], seed: int
) -> dict[int, int]:
    """Give each sample the number of its side: patients in random order, the large ones first.

    Each patient goes where its classes are missing most, measured against the shares.
    """
    labels = data.labels() + 1  # row 0: without label
    n_classes = len(data.classes) + 1
    counts: dict[str, np.ndarray] = {}
    for n in kept:
        counts.setdefault(data.samples[n].patient, np.zeros(n_classes))[labels[n]] += 1
    rng = np.random.default_rng(seed)
    order = [sorted(counts)[n] for n in rng.permutation(len(counts))]
    order.sort(key=lambda patient: -counts[patient].sum())
    total = np.sum(list(counts.values()), axis=0)
    missing = np.outer(shares, total)
    n_patients = np.zeros(len(shares), dtype=np.int64)
    side_of: dict[str, int] = {}
    for position, patient in enumerate(order):
        need = (missing * counts[patient] / np.maximum(total, 1)).sum(axis=1)
        if len(order) - position <= int((n_patients == 0).sum()):
            need = np.where(n_patients == 0, need, -np.inf)  # no side stays empty
        side = int(np.argmax(need))
        side_of[patient] = side
        missing[side] -= counts[patient]
        n_patients[side] += 1
    return {n: side_of[data.samples[n].patient] for n in kept}


def _checked(
    data: LabelledImages,
    sides: Mapping[str, Sequence[int]],
    reason: str,
    digests: Mapping[int, str] | None = None,
) -> Split:
    leaks = find_leaks(data, sides, digests)
    if leaks and not reason.strip():
        named = "; ".join(str(leak) for leak in leaks[:_NAMED_LEAKS])
        more = len(leaks) - _NAMED_LEAKS
        raise LeakingSplit(
            f"{data.name}: {named}{f'; and {more} more' if more > 0 else ''}. Split by patient, or "
            "say why the leak is accepted: the reason is stored with the split"
        )
    return Split(
        training=tuple(sorted(sides[TRAINING])),
        validation=tuple(sorted(sides[VALIDATION])),
        test=tuple(sorted(sides[TEST])),
        leaks=leaks,
        allowed_because=reason if leaks else "",
    )
