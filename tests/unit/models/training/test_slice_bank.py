"""Slices get their class from the share of lung that is affected."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from models.datasets.lung_slices import LungSlices  # noqa: E402
from models.phantom import Pattern  # noqa: E402
from models.training.slice_bank import BankRecipe, build_bank, slice_classes  # noqa: E402
from models.training.slice_data import (  # noqa: E402
    DISEASED,
    UNSURE,
    LabelledSlices,
    Source,
    judged,
    of_training,
)
from models.training.train_lungs import SOURCE_SHARES, source_weights  # noqa: E402
from models.training.train_slices import jittered_boxes  # noqa: E402
from models.training.train_slices import source_weights as class_weights  # noqa: E402


def test_slice_classes_follow_the_affected_share() -> None:
    """None, a trace, a lesion, and a slice with too little lung."""
    lung = np.zeros((4, 64, 64), dtype=bool)
    lung[:3, 4:60, 4:60] = True
    lung[3, :5, :5] = True
    lesion = np.zeros_like(lung)
    lesion[1, 10:12, 10:12] = True
    lesion[2, 10:40, 10:40] = True
    lesion[3, :5, :5] = True
    classes = slice_classes(lung, lesion, Pattern.COMMUNITY_ACQUIRED_PNEUMONIA, BankRecipe())
    assert classes.tolist() == [0, UNSURE, 2, UNSURE]


def labelled(sources: list[Source], patients: list[str], classes: list[int]) -> LabelledSlices:
    n = len(sources)
    return LabelledSlices(
        hu=np.zeros((n, 64, 64), dtype=np.int16),
        lung=np.ones((n, 64, 64), dtype=bool),
        lesion=np.zeros((n, 64, 64), dtype=bool),
        classes=np.array(classes),
        sources=np.array([int(one) for one in sources]),
        patients=np.array(patients),
        has_next=np.array([True] * (n - 1) + [False]),
    )


def test_training_slices_leave_out_lesions_placed_in_validation_patients() -> None:
    """A validation patient does not leak through a synthetic lesion."""
    slices = labelled(
        [Source.REAL, Source.PLACED, Source.REAL, Source.PHANTOM],
        ["001", "007", "007", "phantom-7"],
        [0, 1, 0, 2],
    )
    assert of_training(slices, frozenset({"001"})).patients.tolist() == ["001", "phantom-7"]


def test_judged_drops_slices_without_lungs_and_those_with_a_disease_of_their_own() -> None:
    """What is dropped is nobody's neighbour any more."""
    slices = labelled([Source.REAL] * 4, ["001"] * 4, [0, 0, DISEASED, 0])
    slices.lung[3] = False
    kept = judged(slices)
    assert len(kept.hu) == 2
    assert kept.has_next.tolist() == [True, False]


def test_source_weights_draw_each_source_as_often_as_told() -> None:
    """However many slices a source has."""
    sources = [Source.REAL] * 3 + [Source.PLACED] * 5 + [Source.PHANTOM] + [Source.NO_LUNGS] * 2
    slices = labelled(sources, ["001"] * len(sources), [0] * len(sources))
    weights = source_weights(slices, SOURCE_SHARES)
    for source, share in SOURCE_SHARES.items():
        drawn = float(weights[slices.sources == source].sum())
        assert drawn == pytest.approx(share, rel=1e-5)


def test_class_weights_draw_each_class_alike() -> None:
    """Within a source, rare classes are drawn as often as common ones."""
    classes = [0] * 50 + [1] * 3 + [2]
    slices = labelled([Source.PLACED] * len(classes), ["001"] * len(classes), classes)
    weights = class_weights(slices)
    drawn = [weights[np.array(classes) == label].sum() for label in range(3)]
    np.testing.assert_allclose(drawn, drawn[0], rtol=1e-5)


def test_boxes_span_the_mask_in_pixel_edges() -> None:
    """Upper edges are exclusive; an empty mask gives the whole slice."""
    lung = torch.zeros(2, 1, 64, 48)
    lung[0, 0, 10:20, 5:41] = 1.0
    boxes = jittered_boxes(lung, 0.0, torch.Generator().manual_seed(0))
    assert boxes.tolist() == [[10.0, 5.0, 20.0, 41.0], [0.0, 0.0, 64.0, 48.0]]


def test_bank_has_every_source_and_class() -> None:
    """Lesions lie in lungs, denser than what was there; phantoms bear their seed."""
    hu = np.full((6, 256, 256), 40, dtype=np.int16)
    mask = np.zeros(hu.shape, dtype=bool)
    mask[:, 60:190, 40:110] = True
    mask[:, 60:190, 140:210] = True
    hu[mask] = -850
    slices = LungSlices(hu, mask, ("001",) * 6, tuple(range(6)))
    recipe = BankRecipe(n_placements=1, n_phantoms=1, n_abdomens=1, n_phantom_slices=4)
    bank = build_bank(slices, recipe)
    assert set(bank.sources.tolist()) == {int(source) for source in Source}
    assert not (bank.lesion & ~bank.lung).any()
    assert not bank.lung[bank.sources == Source.NO_LUNGS].any()
    placed = bank.where(bank.sources == Source.PLACED)
    assert {1, 2} <= set(placed.classes.tolist())
    assert placed.hu[placed.lesion].mean() > -750
    assert "phantom-10000" in bank.patients


def test_bank_of_two_processes_is_that_of_one() -> None:
    """Every volume has a seed of its own, whoever makes it."""
    mask = np.zeros((3, 128, 128), dtype=bool)
    mask[:, 30:100, 20:55] = True
    mask[:, 30:100, 75:110] = True
    hu = np.where(mask, -850, 40).astype(np.int16)
    slices = LungSlices(hu, mask, ("001",) * 3, (68, 70, 90))
    recipe = BankRecipe(n_placements=1, n_phantoms=0, n_abdomens=0)
    one = build_bank(slices, recipe)
    two = build_bank(slices, recipe, processes=2)
    np.testing.assert_array_equal(one.hu, two.hu)
    np.testing.assert_array_equal(one.classes, two.classes)
    assert one.classes[:3].tolist() == [DISEASED, DISEASED, 0]
    assert one.has_next[:3].tolist() == [True, True, False]


def test_bank_keeps_the_odds_of_what_looks_alike() -> None:
    """A share of the patients who look like COVID-19 have another pneumonia."""
    mask = np.zeros((2, 64, 64), dtype=bool)
    mask[:, 10:54, 6:28] = True
    mask[:, 10:54, 36:58] = True
    hu = np.where(mask, -850, 40).astype(np.int16)
    slices = LungSlices(hu, mask, ("000",) * 2, (1, 2))
    always = BankRecipe(n_placements=1, n_phantoms=0, n_abdomens=0, covid_like_cap=1.0)
    bank = build_bank(slices, always)
    assert 1 not in bank.classes
    assert 2 in bank.classes
