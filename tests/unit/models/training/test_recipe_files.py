"""Recipes are read completely or not at all, and a network of timm needs no code."""

from pathlib import Path

import pytest

from models.errors import RecipeInvalid
from models.training.recipe import CrossEntropy, ExponentialRate, Focal, FocalTversky, MetricName
from models.training.recipe_files import SHIPPED_RECIPES, list_recipes, read_recipe
from models.training.recipe_writer import write_recipe

NAMES = sorted(path.stem for path in SHIPPED_RECIPES.glob("*.toml"))


def test_recipes_of_every_published_system_are_there() -> None:
    """The table of the design, variant by variant."""
    assert {
        "attention-unet-lung",
        "covid-ct-efficientnet-b4", "covid-ct-efficientnet-b4-whole",
        "covid-ct-mobile", "covid-ct-mobile-v3-large", "covid-ct-mobile-v3-small",
        "covid-ct-mobile-efficientnet-b0", "covid-ct-mobile-resnet101",
        "ct-slices-custom-cnn", "ct-slices-resnet50", "ct-slices-xception",
        "ct-slices-mobilenet", "ct-slices-densenet121",
        "spgc-vgg16",
        "cxr-covid", "cxr-covid-vgg16", "cxr-covid-vgg19", "cxr-covid-mobilenet-v2",
        "cxr-covid-densenet169", "cxr-covid-densenet201", "cxr-covid-inception-resnet-v2",
        "cxr-covid-inception-v3", "cxr-covid-resnet50",
    } <= set(NAMES)  # fmt: skip


def test_recipes_all_read_and_say_what_their_network_has() -> None:
    """Each is complete: strictly read, cited, with its number of parameters."""
    for recipe in list_recipes():
        assert recipe.citation, recipe.name
        assert recipe.metrics, recipe.name
        assert recipe.network.n_parameters, recipe.name


@pytest.mark.parametrize("name", NAMES)
def test_recipe_as_it_was_run_can_be_run_again(name: str, tmp_path: Path) -> None:
    """What a training leaves is the whole recipe with its changes, and needs no other file."""
    recipe = read_recipe(name, ["training.epochs=3", "network.weights=none"])
    path = write_recipe(recipe, tmp_path)
    assert "extends" not in path.read_text(encoding="utf-8")
    assert read_recipe(str(path)) == recipe
    assert read_recipe(str(path), ["training.epochs=4"]).training.epochs == 4


def test_recipe_numbers_are_those_of_the_publications() -> None:
    """What the publications state arrives unchanged."""
    lungs = read_recipe("attention-unet-lung")
    assert lungs.loss == FocalTversky(alpha=0.7, beta=0.3, gamma=1.3, smooth=1.0)
    assert lungs.training.epochs == 50
    b4 = read_recipe("covid-ct-efficientnet-b4")
    assert b4.preprocessing.lungs is not None
    assert b4.preprocessing.lungs.shrink_pixels == 5.0
    assert (b4.optimiser.learning_rate, b4.training.epochs) == (1e-4, 100)
    assert (b4.augmentation.scale, b4.augmentation.rotation_degrees) == (0.1, 5.0)
    assert [one.value for one in b4.published] == [0.872, 0.919, 0.915, 0.926]
    whole = read_recipe("covid-ct-efficientnet-b4-whole")
    assert whole.preprocessing.lungs is None
    assert [one.value for one in whole.published] == [0.835, 0.837, 0.887, 0.909]
    mobile = read_recipe("covid-ct-mobile")
    assert (mobile.preprocessing.rows, mobile.augmentation.rotation_degrees) == (160, 40.0)
    slices = read_recipe("ct-slices-custom-cnn")
    assert slices.loss == CrossEntropy(balanced=True, label_smoothing=0.0)
    assert isinstance(slices.schedule, ExponentialRate)
    assert isinstance(read_recipe("spgc-vgg16").loss, Focal)
    assert read_recipe("cxr-covid").preprocessing.rows == 299
    assert read_recipe("cxr-covid-vgg16").published[0].metric is MetricName.ACCURACY


def test_recipe_extends_table_by_key_and_replaces_one_of_another_name(tmp_path: Path) -> None:
    """A variant says what differs; keys of another loss do not linger."""
    path = tmp_path / "mine.toml"
    path.write_text(
        'extends = "ct-slices-custom-cnn"\nname = "mine"\n'
        '[training]\nbatch_size = 4\n[loss]\nname = "focal"\nalpha = [1, 2, 3]\ngamma = 2\n',
        encoding="utf-8",
    )
    recipe = read_recipe(str(path))
    assert recipe.training.batch_size == 4
    assert recipe.training.epochs == read_recipe("ct-slices-custom-cnn").training.epochs
    assert recipe.loss == Focal(alpha=(1.0, 2.0, 3.0), gamma=2.0)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ("training.epoch=3", "training.epoch = 3: unknown key"),
        ("training.epochs=0", "training.epochs = 0"),
        ("training.epochs=many", "training.epochs = 'many'"),
        ("loss.gamma=2", "loss.gamma = 2: unknown key"),
        ("loss.name=guess", "must be one of cross-entropy"),
        ("optimiser.name=lion", "must be one of adam, adamw, sgd"),
        ("optimiser.learning_rate=-1", "optimiser.learning_rate = -1"),
        ("preprocessing.crop=lungs", "needs a table"),
        ("data.split=patient", "data.shares is missing"),
        ("network.source=keras", "must be one of timm, monai, own"),
        ("training.monitor=dice", "does not fit classification"),
        ("task=segmentation", "data.structure is missing"),
        ("name=other", "must be the name of the file"),
        ("training", "write it as key.key=value"),
        ("training.epochs.more=1", "epochs is no table"),
    ],
)
def test_recipe_with_fault_names_key_and_mend(change: str, named: str) -> None:
    """A missing, unknown or impossible key is refused by its full name."""
    with pytest.raises(RecipeInvalid) as caught:
        read_recipe("covid-ct-mobile", [change])
    assert named in str(caught.value)


def test_recipe_unknown_lists_those_that_exist() -> None:
    """A misspelt name is mended at once."""
    with pytest.raises(RecipeInvalid, match="covid-ct-mobile"):
        read_recipe("covid-mobile")


def test_recipe_that_extends_itself_is_refused(tmp_path: Path) -> None:
    """A circle ends with a message."""
    (tmp_path / "one.toml").write_text('extends = "two"\nname = "one"\n', encoding="utf-8")
    (tmp_path / "two.toml").write_text('extends = "one"\n', encoding="utf-8")
    with pytest.raises(RecipeInvalid, match="circle"):
        read_recipe(str(tmp_path / "one.toml"))
