"""Read recipes: TOML files under ``models/recipes`` or anywhere else, strictly.

``extends = "NAME"`` takes everything from another recipe and changes what the file says. Tables are
merged key by key, with one exception: a table with another ``name`` (a loss, an optimiser, a
network) replaces the whole table, because its keys belong to that name. Lists are replaced.
"""

import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path

from models.errors import RecipeInvalid
from models.manifest import HuWindow
from models.strict_toml import StrictTable, read_document
from models.training.recipe import (
    Augmentation,
    BinaryCrossEntropy,
    ConstantRate,
    CosineRate,
    Crop,
    CrossEntropy,
    DataSettings,
    ExponentialRate,
    Focal,
    FocalTversky,
    Loss,
    LungBoxes,
    MetricName,
    Monitor,
    NetworkSettings,
    NetworkSource,
    Normalisation,
    OneCycleRate,
    OptimiserName,
    OptimiserSettings,
    Preprocessing,
    PublishedFigure,
    Recipe,
    RecipeTask,
    Schedule,
    SplitRule,
    TrainingSettings,
)

#: Where the recipes of the published systems stand.
SHIPPED_RECIPES = Path(__file__).resolve().parents[1] / "recipes"
#: What a training leaves of its recipe; the one file that has another name than its recipe.
AS_RUN_FILE = "recipe.toml"
#: Recipes that extend recipes that extend ...: more than this is a circle.
_MOST_ANCESTORS = 5

Document = dict[str, object]


def list_recipes(root: Path = SHIPPED_RECIPES) -> tuple[Recipe, ...]:
    """Read every recipe of a folder, by name.

    Raises
    ------
    RecipeInvalid
        One of them is not valid; a broken recipe is not passed over in silence.
    """
    return tuple(read_recipe(str(path)) for path in sorted(root.glob("*.toml")))


def read_recipe(name: str, changes: Sequence[str] = ()) -> Recipe:
    """Read a recipe by its name or by the path of its file.

    Parameters
    ----------
    name
        Name of a shipped recipe, or a path that ends in ``.toml``.
    changes
        ``key.key=value``, the value as in TOML (text may go without quotes).

    Raises
    ------
    RecipeInvalid
        No such recipe, or a key is missing, unknown or out of range.
    """
    path = find_recipe(name)
    document = merged_document(path)
    for change in changes:
        apply_change(document, change)
    root = StrictTable(path, "", document, RecipeInvalid)
    recipe = _recipe(root)
    root.finish()
    if path.name not in {f"{recipe.name}.toml", AS_RUN_FILE}:
        raise RecipeInvalid(f"{path}: name = {recipe.name!r}: must be the name of the file")
    return recipe


def find_recipe(name: str) -> Path:
    """Give the file of a recipe; the message of a failure lists those that exist."""
    path = Path(name) if name.endswith(".toml") else SHIPPED_RECIPES / f"{name}.toml"
    if not path.is_file():
        known = ", ".join(sorted(one.stem for one in SHIPPED_RECIPES.glob("*.toml")))
        raise RecipeInvalid(f"no recipe {name!r}; give the path of a .toml file or one of: {known}")
    return path


def merged_document(path: Path) -> Document:
    """Read a file and what it extends, into one document without ``extends``."""
    document = read_document(path, RecipeInvalid, mend="restore or correct the recipe")
    for _ in range(_MOST_ANCESTORS):
        parent = document.pop("extends", None)
        if parent is None:
            return document
        if not isinstance(parent, str):
            raise RecipeInvalid(f"{path}: extends = {parent!r}: must be the name of a recipe")
        beside = path.parent / f"{parent}.toml"
        base = beside if beside.is_file() else find_recipe(parent)
        document = merge(
            read_document(base, RecipeInvalid, mend="restore or correct the recipe"), document
        )
    raise RecipeInvalid(f"{path}: extends too many recipes, or itself; break the circle")


def merge(base: Mapping[str, object], change: Mapping[str, object]) -> Document:
    """Lay one document over another; see the module for the rule."""
    merged = dict(base)
    for key, value in change.items():
        old = merged.get(key)
        is_merged = isinstance(old, dict) and isinstance(value, dict)
        if is_merged and value.get("name", old.get("name")) == old.get("name"):  # type: ignore[attr-defined]
            merged[key] = merge(old, value)  # type: ignore[arg-type]
        else:
            merged[key] = value
    return merged


def apply_change(document: Document, change: str) -> None:
    """Apply one ``key.key=value`` in place.

    Raises
    ------
    RecipeInvalid
        There is no equals sign, or a table of the path is none.
    """
    path, equals, text = change.partition("=")
    if not equals or not path.strip():
        raise RecipeInvalid(f"--set {change!r}: write it as key.key=value")
    *tables, key = path.strip().split(".")
    here = document
    for name in tables:
        below = here.setdefault(name, {})
        if not isinstance(below, dict):
            raise RecipeInvalid(f"--set {change!r}: {name} is no table")
        here = below
    here[key] = _value(text.strip())


def _value(text: str) -> object:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _recipe(root: StrictTable) -> Recipe:
    task = root.choice("task", RecipeTask)
    recipe = Recipe(
        name=root.text("name", pattern=r"[a-z0-9][a-z0-9-]*"),
        summary=root.text("summary"),
        citation=root.text("citation"),
        notes=root.text("notes"),
        task=task,
        data=_data(root.table("data"), task),
        preprocessing=_preprocessing(root.table("preprocessing")),
        network=_network(root.table("network")),
        loss=_loss(root.table("loss")),
        optimiser=_optimiser(root.table("optimiser")),
        schedule=_schedule(root.table("schedule")),
        augmentation=_augmentation(root.table("augmentation")),
        training=_training(root.table("training")),
        metrics=tuple(_metric(root, one) for one in root.texts("metrics")),
        published=tuple(_published(one) for one in root.tables("published", least=0)),
    )
    _check_together(root, recipe)
    return recipe


def _check_together(root: StrictTable, recipe: Recipe) -> None:
    """Refuse a loss or a figure that does not fit the task."""
    is_committee = recipe.training.n_members > 1 or recipe.data.split is SplitRule.FOLDS
    if recipe.task is RecipeTask.SEGMENTATION and (
        is_committee or recipe.preprocessing.is_mirrored
    ):
        raise root.invalid("task", recipe.task.value, "members, folds and mirrored need classes")
    if recipe.data.split is SplitRule.FOLDS and recipe.training.n_members > 1:
        raise root.invalid("training.members", recipe.training.n_members, "the folds are members")
    is_mask_loss = isinstance(recipe.loss, FocalTversky | BinaryCrossEntropy)
    if recipe.task is RecipeTask.SEGMENTATION and not is_mask_loss:
        raise root.invalid("loss", recipe.loss, "masks need focal-tversky or binary-cross-entropy")
    if recipe.task is RecipeTask.CLASSIFICATION and isinstance(recipe.loss, FocalTversky):
        raise root.invalid("loss", "focal-tversky", "is for masks; choose another for classes")
    n_classes = len(recipe.data.classes)
    if isinstance(recipe.loss, Focal) and len(recipe.loss.alpha) != n_classes:
        raise root.invalid("loss.alpha", list(recipe.loss.alpha), f"needs {n_classes} weights")
    if recipe.n_outputs == 1 and n_classes not in {0, 2}:
        raise root.invalid("data.classes", n_classes, "binary cross entropy needs two classes")
    is_of_masks = recipe.training.monitor is Monitor.DICE
    if is_of_masks is (recipe.task is RecipeTask.CLASSIFICATION) and (
        recipe.training.monitor not in {Monitor.LOSS, Monitor.LAST}
    ):
        raise root.invalid(
            "training.monitor", recipe.training.monitor.value, f"does not fit {recipe.task.value}"
        )


def _data(table: StrictTable, task: RecipeTask) -> DataSettings:
    is_classification = task is RecipeTask.CLASSIFICATION
    classes = table.texts("classes") if is_classification else ()
    structure = "" if is_classification else table.text("structure")
    layout = table.text("layout")
    split = table.choice("split", SplitRule)
    shares = table.numbers("shares") if split is SplitRule.PATIENT else (0.0, 0.0, 0.0)
    if split is not SplitRule.PATIENT and table.has("shares"):
        table.numbers("shares")  # a base may have them for a variant that draws patients
    if len(shares) != 3 or (split is SplitRule.PATIENT and abs(sum(shares) - 1.0) > 1e-6):  # noqa: PLR2004
        raise table.invalid("shares", list(shares), "must be training, validation, test, sum 1")
    reason = table.text("allow_leaks_because") if table.has("allow_leaks_because") else ""
    n_folds = table.count("n_folds", lower=2) if split is SplitRule.FOLDS else 0
    first, second, third = shares
    return table.finished(
        DataSettings(layout, classes, structure, split, (first, second, third), reason, n_folds)
    )


def _preprocessing(table: StrictTable) -> Preprocessing:
    crop = table.choice("crop", Crop)
    lungs = table.table("lungs") if table.has("lungs") else None
    if crop is Crop.LUNGS and lungs is None:
        raise table.invalid("crop", crop.value, "needs a table [preprocessing.lungs]")
    boxes = _lung_boxes(lungs) if lungs is not None else None
    return table.finished(
        Preprocessing(
            rows=table.count("rows", lower=8),
            columns=table.count("columns", lower=8),
            channels=table.count("channels"),
            normalisation=table.choice("normalisation", Normalisation),
            crop=crop,
            hu_window=_window(table.table("hu_window")) if table.has("hu_window") else None,
            lungs=boxes if crop is Crop.LUNGS else None,
            is_mirrored=table.truth("mirrored") if table.has("mirrored") else False,
        )
    )


def _lung_boxes(table: StrictTable) -> LungBoxes:
    boxes = LungBoxes(
        model=table.text("model"),
        shrink_pixels=table.number("shrink_pixels", lower=0.0),
        grey_window=_window(table.table("grey_window")),
    )
    return table.finished(boxes)


def _window(table: StrictTable) -> HuWindow:
    window = HuWindow(table.number("lower_hu"), table.number("upper_hu"))
    if window.lower_hu >= window.upper_hu:
        raise table.invalid("upper_hu", window.upper_hu, "must be above lower_hu")
    return table.finished(window)


def _network(table: StrictTable) -> NetworkSettings:
    arguments = table.table("arguments").rest() if table.has("arguments") else {}
    settings = NetworkSettings(
        source=table.choice("source", NetworkSource),
        name=table.text("name"),
        weights=table.text("weights"),
        n_parameters=table.count("n_parameters") if table.has("n_parameters") else None,
        arguments=tuple(arguments.items()),
    )
    return table.finished(settings)


def _loss(table: StrictTable) -> Loss:
    name = table.text("name")
    if name == "cross-entropy":
        smoothing = table.number("label_smoothing", lower=0.0, upper=0.5)
        return table.finished(CrossEntropy(table.truth("balanced"), smoothing))
    if name == "binary-cross-entropy":
        return table.finished(BinaryCrossEntropy(table.truth("balanced")))
    if name == "focal":
        return table.finished(Focal(table.numbers("alpha"), table.number("gamma", lower=0.0)))
    if name == "focal-tversky":
        loss = FocalTversky(
            alpha=table.number("alpha", lower=0.0, upper=1.0),
            beta=table.number("beta", lower=0.0, upper=1.0),
            gamma=table.number("gamma", lower=0.1, upper=10.0),
            smooth=table.number("smooth", lower=1e-6),
        )
        return table.finished(loss)
    known = "cross-entropy, binary-cross-entropy, focal, focal-tversky"
    raise table.invalid("name", name, f"must be one of {known}")


def _optimiser(table: StrictTable) -> OptimiserSettings:
    settings = OptimiserSettings(
        name=table.choice("name", OptimiserName),
        learning_rate=table.number("learning_rate", lower=1e-8, upper=10.0),
        weight_decay=table.number("weight_decay", lower=0.0, upper=1.0),
    )
    return table.finished(settings)


def _schedule(table: StrictTable) -> Schedule:
    name = table.text("name")
    if name == "constant":
        return table.finished(ConstantRate())
    if name == "exponential":
        factor = table.number("factor", lower=1e-6, upper=1.0)
        return table.finished(ExponentialRate(factor, table.number("every_epochs", lower=1e-3)))
    if name == "cosine":
        return table.finished(CosineRate(table.number("warmup_share", lower=0.0, upper=0.9)))
    if name == "one-cycle":
        return table.finished(OneCycleRate(table.number("warmup_share", lower=0.01, upper=0.9)))
    raise table.invalid("name", name, "must be one of constant, exponential, cosine, one-cycle")


def _augmentation(table: StrictTable) -> Augmentation:
    augmentation = Augmentation(
        rotation_degrees=table.number("rotation_degrees", lower=0.0, upper=180.0),
        scale=table.number("scale", lower=0.0, upper=0.9),
        shift=table.number("shift", lower=0.0, upper=0.5),
        horizontal_flip=table.number("horizontal_flip", lower=0.0, upper=1.0),
        vertical_flip=table.number("vertical_flip", lower=0.0, upper=1.0),
        brightness=table.number("brightness", lower=0.0, upper=1.0),
        contrast=table.number("contrast", lower=0.0, upper=0.9),
        gamma=table.number("gamma", lower=0.0, upper=0.9),
        noise=table.number("noise", lower=0.0, upper=1.0),
        window=table.number("window", lower=0.0, upper=0.4) if table.has("window") else 0.0,
        blur=table.number("blur", lower=0.0, upper=1.0) if table.has("blur") else 0.0,
    )
    return table.finished(augmentation)


def _training(table: StrictTable) -> TrainingSettings:
    settings = TrainingSettings(
        epochs=table.count("epochs"),
        batch_size=table.count("batch_size"),
        seed=table.count("seed", lower=0),
        monitor=table.choice("monitor", Monitor),
        frozen_epochs=table.count("frozen_epochs", lower=0),
        average_decay=table.number("average_decay", lower=0.0, upper=0.9999),
        n_members=table.count("members") if table.has("members") else 1,
        is_decision_balanced=table.truth("balance_decision")
        if table.has("balance_decision")
        else False,
    )
    return table.finished(settings)


def _metric(root: StrictTable, name: str) -> MetricName:
    known = {one.value: one for one in MetricName}
    if name not in known:
        raise root.invalid("metrics", name, f"must be one of {', '.join(known)}")
    return known[name]


def _published(table: StrictTable) -> PublishedFigure:
    figure = PublishedFigure(
        metric=table.choice("metric", MetricName),
        value=table.number("value", lower=0.0, upper=1.0),
        measured_on=table.text("measured_on"),
    )
    return table.finished(figure)
