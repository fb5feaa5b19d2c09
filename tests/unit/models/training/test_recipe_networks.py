"""Every recipe builds its network with the published or known number of parameters, and learns."""

from pathlib import Path

import pytest
import torch
from torch import nn

from models.errors import RecipeInvalid, TrainingFailed
from models.training.graphs import GreyNetwork
from models.training.network_builders import BuiltNetwork, build_network, count_parameters
from models.training.networks_custom import SeparableCnn
from models.training.prepared import PreparedImages
from models.training.recipe import Recipe, RecipeTask
from models.training.recipe_files import SHIPPED_RECIPES, read_recipe
from models.training.trainer import Problem, fit
from tests.recipe_factories import set_one_thread, small_recipe, without_count

NAMES = sorted(path.stem for path in SHIPPED_RECIPES.glob("*.toml"))
#: Sides below which a network has nothing left to convolve.
SMALLEST = {"cxr-covid-inception-v3": 80, "cxr-covid-inception-resnet-v2": 80}
#: Many layers or more than fifty million parameters: a step takes seconds.
LARGE = {
    "spgc-vgg16",
    "covid-ct-mobile-resnet101",
    "ct-slices-xception",
    "cxr-covid-densenet169",
    "cxr-covid-densenet201",
    "cxr-covid-inception-resnet-v2",
    "cxr-covid-inception-v3",
    "cxr-covid-resnet50",
    "cxr-covid-vgg16",
    "cxr-covid-vgg19",
}
#: Trainable parameters, counted once and for all; the first is the published one.
N_PARAMETERS = {
    "ct-slices-custom-cnn": 614_435,
    "attention-unet-lung": 1_987_417,
    "covid-ct-efficientnet-b4": 17_550_409,
    "covid-ct-efficientnet-b4-whole": 17_550_409,
    "covid-ct-committee": 2_226_434,
    "covid-ct-mobile": 2_226_434,
    "covid-ct-mobile-efficientnet-b0": 4_010_110,
    "covid-ct-mobile-resnet101": 42_504_258,
    "covid-ct-mobile-v3-large": 4_204_594,
    "covid-ct-mobile-v3-small": 1_519_906,
    "ct-slices-densenet121": 6_956_931,
    "ct-slices-mobilenet": 3_210_051,
    "ct-slices-resnet50": 23_514_179,
    "ct-slices-xception": 20_813_099,
    "cxr-covid": 423_044,
    "cxr-covid-densenet169": 12_491_140,
    "cxr-covid-densenet201": 18_100_612,
    "cxr-covid-inception-resnet-v2": 54_312_612,
    "cxr-covid-inception-v3": 21_793_764,
    "cxr-covid-mobilenet-v2": 2_228_996,
    "cxr-covid-resnet50": 23_516_228,
    "cxr-covid-vgg16": 134_276_932,
    "cxr-covid-vgg19": 139_586_628,
    "spgc-vgg16": 134_272_835,
}


@pytest.mark.parametrize("name", NAMES)
def test_recipe_network_has_the_number_of_parameters(name: str) -> None:
    """Built without memory; the recipe says the same number, and building checks it."""
    recipe = read_recipe(name, ["network.weights=none"])
    with torch.device("meta"):
        built = build_network(recipe)
    assert count_parameters(built.network) == N_PARAMETERS[name] == recipe.network.n_parameters


def test_separable_network_has_exactly_the_published_totals() -> None:
    """616,739 parameters as Keras counts them, 614,435 of them trainable."""
    network = SeparableCnn(3, 3)
    n_trainable = sum(one.numel() for one in network.parameters())
    statistics = [one for one in network.buffers() if one.dim() == 1]
    assert n_trainable == 614_435
    assert n_trainable + sum(one.numel() for one in statistics) == 616_739
    assert network.eval()(torch.zeros(1, 3, 256, 256)).shape == (1, 3)


def test_network_of_another_size_is_refused() -> None:
    """A recipe whose network changed is no longer the published one."""
    with pytest.raises(RecipeInvalid, match="2226434 trainable parameters"):
        build_network(
            read_recipe("covid-ct-mobile", ["network.n_parameters=7", "network.weights=none"])
        )


def test_network_that_timm_does_not_have_names_similar_ones() -> None:
    """A misspelt name is mended at once."""
    with pytest.raises(RecipeInvalid, match="mobilenetv2_100"):
        build_network(
            read_recipe("covid-ct-mobile", ["network.name=mobilenetv2_10", "network.weights=none"])
        )


def test_network_with_impossible_arguments_is_refused() -> None:
    """An argument that the constructor does not know is a fault of the recipe."""
    with pytest.raises(RecipeInvalid, match=r"network\.arguments"):
        build_network(read_recipe("attention-unet-lung", ["network.arguments.colour=red"]))


def test_weights_that_do_not_exist_are_named() -> None:
    """A wrong path is told before anything is trained."""
    with pytest.raises(TrainingFailed, match=r"nowhere\.tflite"):
        build_network(read_recipe("covid-ct-mobile", ["network.weights=nowhere.tflite"]))


def test_weights_of_a_file_are_loaded_and_another_head_is_kept(tmp_path: Path) -> None:
    """Weights for three classes fill a network of two, but for its last layer."""
    source = SeparableCnn(3, 3)
    torch.save(source.state_dict(), tmp_path / "weights.pt")
    changes = [f"network.weights={tmp_path / 'weights.pt'}", "network.n_parameters=614370"]
    recipe = read_recipe("ct-slices-custom-cnn", [*changes, 'data.classes=["a", "b"]'])
    built = build_network(recipe)
    assert isinstance(built.network, SeparableCnn)
    first, second = source.stem[0], built.network.stem[0]
    assert torch.equal(first.weight, second.weight)
    assert built.network.head.weight.shape == (2, 64)


def test_weights_of_a_training_are_loaded_with_their_normalisation(tmp_path: Path) -> None:
    """What one recipe left in best.pt starts another, behind the same normalisation."""
    source = GreyNetwork(SeparableCnn(3, 3), (0.25,) * 3, (0.5,) * 3)
    torch.save({"network": source.state_dict(), "epoch": 0}, tmp_path / "best.pt")
    changes = [f"network.weights={tmp_path / 'best.pt'}", "preprocessing.normalisation=weights"]
    built = build_network(read_recipe("ct-slices-custom-cnn", changes))
    assert isinstance(built.network, SeparableCnn)
    assert torch.equal(source.network.stem[0].weight, built.network.stem[0].weight)
    assert built.mean == pytest.approx((0.25,) * 3)
    assert built.deviation == pytest.approx((0.5,) * 3)


@pytest.mark.parametrize("changes", [[], ["network.arguments.pad_type="]])
def test_weights_of_a_training_pad_as_it_did(changes: list[str], tmp_path: Path) -> None:
    """What began as TensorFlow's pads as TensorFlow does, unless the recipe says otherwise."""
    original = read_recipe(
        "covid-ct-mobile", ["network.weights=none", "network.arguments.pad_type=same"]
    )
    first = build_network(original)
    torch.save(
        {
            "network": GreyNetwork(first.network, first.mean, first.deviation).state_dict(),
            "padding": first.padding,
        },
        tmp_path / "best.pt",
    )
    weights = f"network.weights={tmp_path / 'best.pt'}"
    second = build_network(read_recipe("covid-ct-mobile", [weights, *changes]))
    images = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        same = torch.allclose(first.network.eval()(images), second.network.eval()(images))
    assert same is not bool(changes)
    assert second.padding == ("" if changes else "same")


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=pytest.mark.slow) if n in LARGE else n for n in NAMES]
)
def test_recipe_learns_for_one_step(name: str, tmp_path: Path) -> None:
    """Loss, optimiser, schedule and augmentation of each recipe change its network."""
    set_one_thread()
    recipe = small_recipe(name, side=SMALLEST.get(name, 32))
    built = build_network(without_count(recipe))
    before = [one.detach().clone() for one in built.network.parameters()]
    learnt = fit(
        problem(built, recipe),
        tmp_path,
        device=torch.device("cpu"),
        is_resumed=False,
        on_epoch=lambda _figures: None,
        on_step=lambda _epoch, _step, _n_steps: None,
    )
    assert learnt.best.epoch == 0
    assert learnt.best.training_loss > 0.0
    after = built.network.parameters()
    assert any(not torch.equal(old, new) for old, new in zip(before, after, strict=True))


def problem(built: BuiltNetwork, recipe: Recipe) -> Problem:
    """Give a problem of two images of noise."""
    generator = torch.Generator().manual_seed(0)
    size = (2, 1, recipe.preprocessing.rows, recipe.preprocessing.columns)
    images = torch.randint(0, 256, size, dtype=torch.uint8, generator=generator)
    is_masks = recipe.task is RecipeTask.SEGMENTATION
    n_classes = max(len(recipe.data.classes), 2)
    targets = (images > 127).to(torch.uint8) if is_masks else torch.arange(n_classes)
    if not is_masks:
        images = images[:1].expand(n_classes, -1, -1, -1).contiguous()
    prepared = PreparedImages(images, targets, tuple(range(len(images))))
    network: nn.Module = GreyNetwork(built.network, built.mean, built.deviation)
    return Problem(network, built.head, prepared, prepared, recipe)
