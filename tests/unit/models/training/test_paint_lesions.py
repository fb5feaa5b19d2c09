"""Painted lesions lie in lungs, look like their class, and never twice alike."""

import pytest

torch = pytest.importorskip("torch")

from models.training.decoys import add_decoys, add_motion  # noqa: E402
from models.training.paint_lesions import LesionPainting, paint_lesions  # noqa: E402

N, SIZE = 12, 128


def chest() -> tuple["torch.Tensor", "torch.Tensor"]:
    """Give soft tissue with two dark lungs, and their mask."""
    lung = torch.zeros(N, 1, SIZE, SIZE)
    lung[:, :, 30:100, 16:56] = 1.0
    lung[:, :, 30:100, 72:112] = 1.0
    return torch.where(lung > 0, torch.tensor(-850.0), torch.tensor(40.0)), lung


def generator(seed: int = 1) -> "torch.Generator":
    return torch.Generator().manual_seed(seed)


def test_normal_slices_stay_as_they_are() -> None:
    """Class 0 gets no lesion and no changed pixel."""
    hu, lung = chest()
    painted = paint_lesions(
        hu, lung, torch.zeros(N, dtype=torch.int64), LesionPainting(), generator()
    )
    assert torch.equal(painted.hu, hu)
    assert painted.lesion.sum() == 0


@pytest.mark.parametrize("label", [1, 2])
def test_lesions_lie_in_lungs_and_are_denser(label: int) -> None:
    """The mask says where air was replaced; what is consolidated is part of it."""
    hu, lung = chest()
    classes = torch.full((N,), label)
    painted = paint_lesions(hu, lung, classes, LesionPainting(), generator())
    assert (painted.lesion * (1.0 - lung)).sum() == 0
    assert (painted.dense * (1.0 - painted.lesion)).sum() == 0
    inside = painted.lesion > 0
    assert inside.any()
    assert (painted.hu - hu)[inside].mean() > 80
    far = torch.nn.functional.max_pool2d(lung, 3, stride=1, padding=1) == 0
    assert torch.equal(painted.hu[far], hu[far])


def test_pneumonia_is_denser_than_covid_19_on_the_whole() -> None:
    """The habits of the classes differ, though single slices may look alike."""
    hu, lung = chest()
    shares = []
    for label in (1, 2):
        painted = [
            paint_lesions(hu, lung, torch.full((N,), label), LesionPainting(), generator(seed))
            for seed in range(4)
        ]
        dense = sum(float(one.dense.sum()) for one in painted)
        shares.append(dense / sum(float(one.lesion.sum()) for one in painted))
    assert shares[1] > 1.5 * shares[0]


def test_same_seed_paints_the_same_and_another_does_not() -> None:
    """A seed repeats a training run."""
    hu, lung = chest()
    classes = torch.arange(N) % 3
    first, second, other = (
        paint_lesions(hu, lung, classes, LesionPainting(), generator(seed)).hu for seed in (3, 3, 4)
    )
    assert torch.equal(first, second)
    assert not torch.equal(first, other)


def test_decoys_stay_in_lungs() -> None:
    """Lines, dots and uneven aeration change lungs alone, and do not darken soft tissue."""
    hu, lung = chest()
    changed = add_decoys(hu, lung, generator())
    assert torch.equal(changed[lung == 0], hu[lung == 0])
    assert not torch.equal(changed, hu)


def test_motion_keeps_the_range_of_the_image() -> None:
    """A double image is a mean of two, never darker or brighter than both."""
    hu, _ = chest()
    moved = add_motion(hu, generator(), probability=1.0)
    assert moved.min() >= hu.min() - 1.0
    assert moved.max() <= hu.max() + 1.0
    assert not torch.equal(moved, hu)
