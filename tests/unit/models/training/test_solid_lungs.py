"""Solid lobes painted while the lung network learns, and the measurement of its folds."""

import pytest

torch = pytest.importorskip("torch")

import numpy as np  # noqa: E402

from models.datasets.lung_slices import LungSlices  # noqa: E402
from models.lung_answers import LungAnswers, one_answer  # noqa: E402
from models.training.augment import LungAugmentation, move  # noqa: E402
from models.training.measure_lungs import State, measure_lungs  # noqa: E402
from models.training.solid_lungs import SolidPainting, fill_solid  # noqa: E402

N, SIZE = 6, 64


def chest() -> tuple["torch.Tensor", "torch.Tensor"]:
    """Give soft tissue with two dark lungs, and their mask."""
    mask = torch.zeros(N, 1, SIZE, SIZE)
    mask[:, :, 12:52, 6:28] = 1.0
    mask[:, :, 12:52, 36:58] = 1.0
    return torch.where(mask > 0, torch.tensor(-850.0), torch.tensor(40.0)), mask


def paint(settings: SolidPainting, share: float) -> "torch.Tensor":
    generator = torch.Generator().manual_seed(3)
    hu, solid = fill_solid(*chest(), settings, generator, share=share)
    # What is called solid is soft tissue inside the mask.
    assert not bool((solid * (1.0 - chest()[1])).any())
    return hu


def test_whole_lungs_turn_into_soft_tissue() -> None:
    """With both sides whole and nothing left open, what was air is as dense as its surroundings."""
    settings = SolidPainting(both_sides=1.0, whole_side=1.0, islands=0.0, bronchograms=0.0)
    hu, mask = paint(settings, 1.0), chest()[1]
    inside = hu[mask > 0]
    assert -80 < float(inside.median()) < 120
    assert float((inside > -300).float().mean()) > 0.99


def test_one_side_of_a_fissure_stays_air() -> None:
    """Lobes leave the rest of their lung, and the other lung, as they were."""
    settings = SolidPainting(both_sides=0.0, whole_side=0.0, islands=0.0)
    hu, mask = paint(settings, 1.0), chest()[1]
    dense = (hu > -200) & (mask > 0)
    shares = dense.sum(dim=(1, 2, 3)) / mask.sum(dim=(1, 2, 3))
    assert bool((shares < 0.55).all())
    assert float(shares.max()) > 0.05


def test_slices_that_are_not_chosen_and_bodies_around_lungs_stay() -> None:
    """Share 0 changes nothing; far from lungs nothing changes at all."""
    hu, mask = chest()
    assert torch.equal(paint(SolidPainting(), 0.0), hu)
    far = torch.nn.functional.max_pool2d(mask, 5, stride=1, padding=2) == 0
    assert torch.equal(paint(SolidPainting(), 1.0)[far], hu[far])


def test_bent_chests_keep_image_and_mask_together() -> None:
    """Where points move on their own, the mask still lies on the dark lungs."""
    settings = LungAugmentation(bend=0.03, upside_down=0.0)
    plain = LungAugmentation(upside_down=0.0)
    hu, mask = move(*chest(), settings, torch.Generator().manual_seed(1))
    straight, _ = move(*chest(), plain, torch.Generator().manual_seed(1))
    assert not torch.equal(hu, straight)
    assert float((hu[mask > 0] < -400).float().mean()) > 0.9


class AirFinder:
    """Calls everything lung that holds air inside the body, as the threshold method would."""

    def logits(self, images: np.ndarray) -> np.ndarray:
        return (images < -400).astype(np.float32)

    def mask(self, logits: np.ndarray) -> np.ndarray:
        return logits > 0.5

    def answers(self, images: np.ndarray) -> LungAnswers:
        return one_answer(self.mask(self.logits(images)))


def test_measurement_tells_plain_lungs_from_solid_lobes() -> None:
    """What finds air alone is perfect on plain lungs and loses the solid lobes."""
    mask = np.zeros((24, 128, 128), dtype=bool)
    mask[:, 30:100, 15:58] = mask[:, 30:100, 70:113] = True
    hu = np.where(mask, -850, 40).astype(np.int16)
    slices = LungSlices(hu, mask, ("003",) * 24, tuple(range(24)))
    asked = []

    def finder_of(patient: str) -> AirFinder:
        asked.append(patient)
        return AirFinder()

    figures = {one.state: one for one in measure_lungs(slices, finder_of, iter)}
    assert asked == ["003"]
    assert figures[State.PLAIN].by_patient == {"003": 1.0}
    assert figures[State.PLAIN].involved == (0.0, 0.0)
    solid = figures[State.SOLID_LOBES]
    assert solid.involved[0] >= 0.5
    assert solid.mean.value < 0.75
    assert solid.by_threshold < 0.75
    parts = figures[State.CONSOLIDATION]
    assert 0.48 <= parts.involved[0] <= parts.involved[1] <= 0.56
    assert solid.mean.value < parts.mean.value < 0.95
    assert 0.45 < figures[State.SOLID_LUNG].involved[0] < 0.55
    for state in (State.STREWN_BALLS, State.STREWN_BLOCKS, State.SMALL_BALLS):
        assert 0.5 <= figures[state].involved[0] < 0.56
        assert figures[state].mean.value < 0.95
