"""A training interrupted and resumed ends as one that was not; rates and moves do what they say."""

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from models.errors import TrainingFailed
from models.training.graphs import GreyNetwork
from models.training.grey_augment import augment
from models.training.learning_figures import EpochFigures, figures_of, is_better, mean_auc
from models.training.losses import balanced_weights, build_loss, focal
from models.training.optimisers import rate_factor
from models.training.prepared import PreparedImages
from models.training.recipe import (
    Augmentation,
    BinaryCrossEntropy,
    ConstantRate,
    CosineRate,
    CrossEntropy,
    ExponentialRate,
    Monitor,
    OneCycleRate,
    Recipe,
)
from models.training.recipe_files import read_recipe
from models.training.trainer import BEST_FILE, Learnt, Problem, batches, fit, recipe_key
from tests.recipe_factories import set_one_thread

STILL = Augmentation(0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0)


class Stop(Exception):
    """Ends a training between two epochs, as a power cut would."""


def tiny_network() -> nn.Module:
    torch.manual_seed(5)
    return nn.Sequential(
        nn.Conv2d(1, 6, 3, stride=2),
        nn.BatchNorm2d(6),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Dropout(0.3),
        nn.Linear(6, 2),
    )


def tiny_problem(*changes: str) -> Problem:
    """Give bright and dark images that a linear rule tells apart."""
    set_one_thread()
    generator = torch.Generator().manual_seed(1)
    noise = torch.randint(0, 120, (22, 1, 16, 16), dtype=torch.uint8, generator=generator)
    labels = torch.arange(22) % 2
    images = noise + (60 * labels).to(torch.uint8).view(-1, 1, 1, 1)
    training = PreparedImages(images[:14], labels[:14], tuple(range(14)))
    validation = PreparedImages(images[14:], labels[14:], tuple(range(14, 22)))
    recipe = read_recipe(
        "covid-ct-mobile",
        ["training.epochs=4", "training.batch_size=4", "training.average_decay=0.9", *changes],
    )
    return Problem(GreyNetwork(tiny_network(), (0.5,), (0.5,)), None, training, validation, recipe)


def run(problem: Problem, out: Path, *, is_resumed: bool = False, stop_after: int = 99) -> Learnt:
    def listen(figures: EpochFigures) -> None:
        if figures.epoch + 1 == stop_after:
            raise Stop

    out.mkdir(exist_ok=True)
    return fit(
        problem,
        out,
        device=torch.device("cpu"),
        is_resumed=is_resumed,
        on_epoch=listen,
        on_step=lambda _epoch, _step, _n_steps: None,
    )


def test_image_without_a_target_is_refused() -> None:
    """One picture more than labels would break a GPU off at some later line."""
    images = torch.zeros(3, 1, 4, 4, dtype=torch.uint8)
    with pytest.raises(TrainingFailed, match="3 images, 2 targets, 3 indices"):
        PreparedImages(images, torch.zeros(2), (0, 1, 2))


def test_training_interrupted_and_resumed_equals_uninterrupted(tmp_path: Path) -> None:
    """Weights, averages, optimiser, schedule, order, dropout and augmentation all go on."""
    whole = tiny_problem()
    expected = run(whole, tmp_path / "whole")
    with pytest.raises(Stop):
        run(tiny_problem(), tmp_path / "cut", stop_after=2)
    resumed = tiny_problem()
    found = run(resumed, tmp_path / "cut", is_resumed=True)
    assert found == expected
    for one, other in zip(
        whole.network.state_dict().values(), resumed.network.state_dict().values(), strict=True
    ):
        torch.testing.assert_close(one, other, rtol=0.0, atol=0.0)


def test_training_not_resumed_starts_anew(tmp_path: Path) -> None:
    """Without --resume an old checkpoint has no influence."""
    with pytest.raises(Stop):
        run(tiny_problem("training.seed=9"), tmp_path, stop_after=2)
    assert len(run(tiny_problem(), tmp_path).history) == 4


def test_training_of_other_settings_is_not_resumed(tmp_path: Path) -> None:
    """A checkpoint belongs to its settings; a name or a note may change."""
    with pytest.raises(Stop):
        run(tiny_problem(), tmp_path, stop_after=1)
    with pytest.raises(TrainingFailed, match="other settings"):
        run(tiny_problem("optimiser.learning_rate=0.1"), tmp_path, is_resumed=True)
    assert recipe_key(tiny_problem().recipe) == recipe_key(tiny_problem("summary=other").recipe)


def test_training_with_broken_checkpoint_says_so(tmp_path: Path) -> None:
    """Damage is told, with the mend."""
    (tmp_path / "checkpoint.pt").write_bytes(b"PK")
    with pytest.raises(TrainingFailed, match="without --resume"):
        run(tiny_problem(), tmp_path, is_resumed=True)


def test_training_that_diverges_ends(tmp_path: Path) -> None:
    """A loss that is no number is a failure with a mend, not a model."""
    problem = tiny_problem()
    problem.training.images.fill_(200)
    with torch.no_grad():
        next(problem.network.parameters()).fill_(math.nan)
    with pytest.raises(TrainingFailed, match=r"lower optimiser\.learning_rate"):
        run(problem, tmp_path)


def test_training_ends_with_the_weights_of_its_best_epoch(tmp_path: Path) -> None:
    """What is left in the network is what was best on the validation data."""
    problem = replace(tiny_problem(), padding="same")
    learnt = run(problem, tmp_path)
    kept = torch.load(tmp_path / BEST_FILE, weights_only=True)
    assert kept["epoch"] == learnt.best.epoch
    assert kept["padding"] == "same"
    name, weight = next(iter(problem.network.state_dict().items()))
    assert torch.equal(kept["network"][name], weight)


def test_training_frozen_moves_the_head_alone(tmp_path: Path) -> None:
    """During frozen epochs neither weights nor statistics of the rest change."""
    problem = tiny_problem("training.frozen_epochs=4", "training.average_decay=0")
    assert isinstance(problem.network, GreyNetwork)
    layers = problem.network.network
    assert isinstance(layers, nn.Sequential)
    problem = Problem(
        problem.network, layers[6], problem.training, problem.validation, problem.recipe
    )
    before = {name: one.clone() for name, one in problem.network.state_dict().items()}
    run(problem, tmp_path)
    changed = {
        name
        for name, one in problem.network.state_dict().items()
        if not torch.equal(one, before[name])
    }
    assert changed == {"network.6.weight", "network.6.bias"}


def test_batches_leave_no_image_alone() -> None:
    """Batch norm cannot learn from one image, and none is dropped."""
    cut = batches(4, torch.arange(9))
    assert [len(one) for one in cut] == [4, 5]
    assert [len(one) for one in batches(4, torch.arange(1))] == [1]


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        (ConstantRate(), [1.0, 1.0, 1.0]),
        (ExponentialRate(factor=0.5, every_epochs=2.0), [1.0, 0.5**1.25, 0.5**2.45]),
        (CosineRate(warmup_share=0.0), [1.0, 0.5, 0.5 * (1 + math.cos(math.pi * 0.98))]),
    ],
)
def test_rate_follows_its_schedule(schedule: ConstantRate, expected: list[float]) -> None:
    """At the first step, half way, and just before the end of 50 steps, 10 an epoch."""
    found = [rate_factor(schedule, step, 50, 10) for step in (0, 25, 49)]
    assert found == pytest.approx(expected)


def test_rate_of_one_cycle_rises_to_one_and_falls() -> None:
    """Its peak lies at the end of the warm-up."""
    factors = [rate_factor(OneCycleRate(warmup_share=0.2), step, 100, 10) for step in range(100)]
    assert factors.index(max(factors)) == 20
    assert max(factors) == pytest.approx(1.0)
    assert factors[0] == pytest.approx(0.04)
    assert factors[-1] < 0.001


def test_augmentation_of_nothing_changes_nothing() -> None:
    """All settings zero leave the images as they are."""
    images = torch.rand(3, 1, 8, 8) * 255
    moved, masks = augment(images, None, STILL, torch.Generator())
    assert torch.equal(moved, images)
    assert masks is None


def test_augmentation_moves_masks_with_their_images() -> None:
    """A flip flips both; a turn by any angle keeps bright pixels inside the mask."""
    images = torch.zeros(8, 1, 32, 32)
    images[:, :, 6:14, 4:12] = 255.0
    masks = (images > 0).to(torch.float32)
    settings = Augmentation(30.0, 0.2, 0.1, 0.5, 0.5, 0.0, 0.0, 0.0, 0.0)
    moved, moved_masks = augment(images, masks, settings, torch.Generator().manual_seed(2))
    assert moved_masks is not None
    assert not torch.equal(moved, images)
    agreement = ((moved > 127) == (moved_masks > 0.5)).float().mean()
    assert agreement > 0.97


def test_augmentation_stays_within_grey_values() -> None:
    """Brightness, contrast, gamma and noise leave 0 to 255 to nobody."""
    images = torch.rand(6, 1, 16, 16) * 255
    settings = Augmentation(0.0, 0.0, 0.0, 0.0, 0.0, 0.5, 0.5, 0.5, 0.2)
    changed, _ = augment(images, None, settings, torch.Generator().manual_seed(3))
    assert changed.min() >= 0.0
    assert changed.max() <= 255.0
    assert (changed - images).abs().mean() > 5.0


def test_augmentation_leaves_half_of_the_images_without_noise() -> None:
    """Noise on every image would teach that there are no quiet pictures."""
    images = torch.full((400, 1, 16, 16), 128.0)
    settings = Augmentation(0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.04)
    changed, _ = augment(images, None, settings, torch.Generator().manual_seed(4))
    deviations = changed.flatten(1).std(dim=1) / 255.0
    is_quiet = deviations == 0.0
    assert 0.4 < is_quiet.float().mean() < 0.6
    assert 0.035 < deviations.max() < 0.045
    assert deviations[~is_quiet].mean() == pytest.approx(0.02, abs=0.002)


def test_focal_loss_equals_hand_computed() -> None:
    """0.25 (1 - 0.8)^2 log(1 / 0.8) for a class of weight 0.25; gamma 0 is cross entropy."""
    logits = torch.log(torch.tensor([[0.8, 0.2]], dtype=torch.float64))
    target = torch.tensor([0])
    found = focal(logits, target, alpha=(0.25, 0.75), gamma=2.0)
    assert found.item() == pytest.approx(0.25 * 0.04 * math.log(1.25), abs=1e-9)
    plain = focal(logits, target, alpha=(1.0, 1.0), gamma=0.0)
    assert plain.item() == pytest.approx(math.log(1.25), abs=1e-9)


def test_balanced_losses_weigh_by_the_inverse_of_the_share() -> None:
    """Nine to one: the rare class counts nine times as much, the mean weight stays one."""
    weights = balanced_weights([9, 1])
    assert weights.tolist() == pytest.approx([10 / 18, 5.0])
    loss = build_loss(BinaryCrossEntropy(balanced=True), [9, 1])
    found = loss(torch.zeros(1, 1), torch.tensor([1]))
    assert found.item() == pytest.approx(9 * math.log(2.0))
    with pytest.raises(TrainingFailed, match="no training image"):
        build_loss(CrossEntropy(balanced=True, label_smoothing=0.0), [3, 0])


def test_figures_of_one_logit_and_of_masks() -> None:
    """Accuracy and AUC of a binary network; Dice of masks."""
    logits = torch.tensor([[-2.0], [-1.0], [0.5], [3.0]])
    figures = figures_of(logits, torch.tensor([0, 1, 0, 1]), 0.1)
    assert (figures.accuracy, figures.auc) == (0.5, 0.75)
    masks = torch.zeros(2, 1, 2, 2)
    masks[0, 0, 0] = 1.0
    found = torch.tensor([[[[1.0, -1.0], [-1.0, -1.0]]], [[[-1.0, -1.0], [-1.0, -1.0]]]])
    assert figures_of(found, masks, 0.0).dice == pytest.approx((2 / 3 + 1.0) / 2)
    assert mean_auc(torch.tensor([[0.4, 0.6]]), torch.tensor([1])) is None


def test_better_epoch_is_decided_by_the_loss_where_figures_are_equal() -> None:
    """Small validation sets give equal accuracies often."""
    old = EpochFigures(0, 0.0, 0.5, 0.8, 0.9, None)
    assert is_better(EpochFigures(1, 0.0, 0.4, 0.8, 0.7, None), old, Monitor.ACCURACY)
    assert not is_better(EpochFigures(1, 0.0, 0.4, 0.8, 0.7, None), old, Monitor.AUC)
    assert is_better(EpochFigures(1, 0.0, 0.4, 0.1, 0.1, None), old, Monitor.LOSS)


def test_recipe_of_tests_is_a_recipe() -> None:
    """The problem above is trained with a shipped recipe, changed."""
    recipe: Recipe = tiny_problem().recipe
    assert recipe.training.average_decay == 0.9
