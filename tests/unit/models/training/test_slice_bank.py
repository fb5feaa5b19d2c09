"""Slices get their class from the share of lung that is affected."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from models.datasets.lung_slices import LungSlices, PatientSplit  # noqa: E402
from models.phantom import Pattern  # noqa: E402
from models.training.slice_bank import BankRecipe, build_bank, slice_classes  # noqa: E402
from models.training.slice_data import (  # noqa: E402
    UNSURE,
    LabelledSlices,
    Source,
    training_slices,
    with_lungs,
)
from models.training.train_lungs import SOURCE_SHARES, source_weights  # noqa: E402
from models.training.train_slices import balanced_choice, jittered_boxes  # noqa: E402


def test_slice_classes_follow_the_affected_share() -> None:
    """None, a trace, a lesion, and a slice with too little lung."""
    lung = np.zeros((4, 64, 64), dtype=bool)
    lung[:3, 4:60, 4:60] = True
    lung[3, :5, :5] = True
    lesion = np.zeros_like(lung)
    lesion[1, 10:14, 10:14] = True
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
    )


def test_training_slices_leave_out_lesions_placed_in_validation_patients() -> None:
    """A validation patient does not leak through a synthetic lesion."""
    slices = labelled(
        [Source.REAL, Source.PLACED, Source.REAL, Source.PHANTOM],
        ["001", "007", "007", "phantom-7"],
        [0, 1, 0, 2],
    )
    split = PatientSplit(frozenset({"001"}), frozenset({"007"}))
    assert training_slices(slices, split).patients.tolist() == ["001", "phantom-7"]


def test_with_lungs_drops_slices_without() -> None:
    """A slice that shows no lung is not judged."""
    slices = labelled([Source.REAL] * 2, ["001"] * 2, [0, 0])
    slices.lung[1] = False
    assert len(with_lungs(slices).hu) == 1


def test_source_weights_draw_each_source_as_often_as_told() -> None:
    """However many slices a source has."""
    sources = [Source.REAL] * 3 + [Source.PLACED] * 5 + [Source.PHANTOM] + [Source.NO_LUNGS] * 2
    slices = labelled(sources, ["001"] * len(sources), [0] * len(sources))
    weights = source_weights(slices)
    for source, share in SOURCE_SHARES.items():
        drawn = weights[torch.from_numpy(slices.sources == source)].sum().item()
        assert drawn == pytest.approx(share)


def test_balanced_choice_draws_each_class_alike() -> None:
    """Rare classes are drawn as often as common ones; unsure slices come along."""
    classes = np.array([0] * 50 + [1] * 3 + [2] + [UNSURE] * 4)
    chosen = balanced_choice(classes, 12, torch.Generator().manual_seed(0)).numpy()
    assert len(chosen) == 12
    assert np.bincount(classes[chosen] + 1).tolist() == [1, 3, 4, 4]


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
