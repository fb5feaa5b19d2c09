"""Augmentation changes scanners and patients, and keeps the truth of the masks."""

import pytest

torch = pytest.importorskip("torch")

from models.training.augment import (  # noqa: E402
    LungAugmentation,
    add_gas,
    add_gravity,
    augment_lungs,
    blur,
    change_lung_density,
    empty_lungs,
    fill_lungs,
    move,
)

N, SIZE = 4, 64


def chest() -> tuple["torch.Tensor", "torch.Tensor"]:
    """Give soft tissue with two dark lungs, and their mask."""
    hu = torch.full((N, 1, SIZE, SIZE), 40.0)
    mask = torch.zeros(N, 1, SIZE, SIZE)
    mask[:, :, 16:48, 8:28] = 1.0
    mask[:, :, 16:48, 36:56] = 1.0
    return torch.where(mask > 0, torch.tensor(-850.0), hu), mask


def generator(seed: int = 1) -> "torch.Generator":
    return torch.Generator().manual_seed(seed)


def test_augment_same_seed_gives_same_batch() -> None:
    """A seed repeats a training run."""
    first = augment_lungs(*chest(), LungAugmentation(), generator())
    second = augment_lungs(*chest(), LungAugmentation(), generator())
    other = augment_lungs(*chest(), LungAugmentation(), generator(2))
    assert torch.equal(first[0], second[0])
    assert torch.equal(first[1], second[1])
    assert not torch.equal(first[0], other[0])


def test_move_keeps_image_and_mask_together() -> None:
    """After any movement the mask still lies on the dark lungs."""
    hu, mask = move(*chest(), LungAugmentation(), generator())
    assert set(mask.unique().tolist()) == {0.0, 1.0}
    inside = hu[mask > 0]
    assert (inside < -400).float().mean() > 0.95
    tissue = hu[(mask == 0) & (hu > -1000)]
    assert (tissue > -450).float().mean() > 0.9


def test_fill_lungs_leaves_the_surroundings_alone() -> None:
    """Opacities are put into lungs, denser than before, and nowhere else."""
    hu, mask = chest()
    filled = fill_lungs(hu, mask, LungAugmentation(opacity=1.0), generator())
    far = torch.nn.functional.max_pool2d(mask, 9, stride=1, padding=4) == 0
    assert torch.equal(filled[far], hu[far])
    assert (filled >= hu).all()
    assert (filled[mask > 0] > -800).any()


def test_empty_lungs_empties_image_and_mask_alike() -> None:
    """A body without lungs has no dark lungs and no mask."""
    hu, mask = empty_lungs(*chest(), LungAugmentation(emptied=1.0), generator())
    assert mask.sum() == 0
    assert hu.min() > -400
    kept, kept_mask = empty_lungs(*chest(), LungAugmentation(emptied=0.0), generator())
    assert torch.equal(kept, chest()[0])
    assert torch.equal(kept_mask, chest()[1])


def test_gas_lies_outside_the_mask() -> None:
    """Gas pockets are dark and no lung."""
    hu, mask = chest()
    changed = add_gas(hu, mask, LungAugmentation(gas=1.0), generator()) != hu
    assert changed.any()
    assert not changed[mask > 0].any()


def test_lung_density_leaves_soft_tissue_alone() -> None:
    """Only aerated lung changes, and never below air."""
    hu, mask = chest()
    changed = change_lung_density(hu, mask, LungAugmentation(), generator())
    assert torch.equal(changed[mask == 0], hu[mask == 0])
    assert not torch.equal(changed, hu)
    assert changed.min() >= -1000


def test_gravity_makes_the_posterior_lung_denser() -> None:
    """High rows are posterior; density falls towards the front."""
    hu, mask = chest()
    rise = (add_gravity(hu, mask, generator()) - hu)[:, 0, :, 16]
    assert rise.max() > 20
    assert (rise[:, 47] >= rise[:, 20]).all()
    assert (rise[:, 60] == 0).all()


def test_blur_keeps_the_mean_and_spreads_by_its_width() -> None:
    """A point becomes a Gaussian of the width that was asked for."""
    image = torch.zeros(2, 1, 33, 33)
    image[:, :, 16, 16] = 1.0
    blurred = blur(image, torch.tensor([0.0, 1.2]).view(2, 1, 1, 1))
    assert torch.allclose(blurred[0], image[0], atol=1e-6)
    assert blurred[1].sum().item() == pytest.approx(1.0, abs=1e-5)
    distance = torch.arange(33.0) - 16
    variance = (blurred[1, 0].sum(dim=0) * distance**2).sum().item()
    assert variance == pytest.approx(1.44, rel=0.05)
