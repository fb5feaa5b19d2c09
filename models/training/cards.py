"""Write the card of a trained model: what a radiologist has to know before looking at a result."""

import re
from dataclasses import dataclass
from pathlib import Path

import jinja2

from models.datasets import PatientSource, Unit
from models.manifest import CARD_FILE, Manifest
from models.training.failures import Failures
from models.training.network_builders import NO_WEIGHTS
from models.training.recipe import Crop, Monitor, Recipe, RecipeTask, SplitRule
from models.training.recipe_package import Trained

_TEMPLATE = Path(__file__).with_name("card.md.j2")


@dataclass(frozen=True, slots=True)
class CardFacts:
    """What the card tells beside the manifest.

    ``leaks`` are those that the split was allowed to have, with the reason.
    """

    n_parameters: int
    n_training_images: int
    has_test: bool
    leaks: tuple[str, ...]
    leak_reason: str
    failures: Failures


def write_card(manifest: Manifest, trained: Trained, facts: CardFacts, folder: Path) -> Path:
    """Write ``card.md`` into the model folder."""
    recipe, data = trained.recipe, trained.data
    environment = jinja2.Environment(
        undefined=jinja2.StrictUndefined,
        keep_trailing_newline=True,
        autoescape=False,  # noqa: S701  Markdown, not HTML
    )
    text = environment.from_string(_TEMPLATE.read_text(encoding="utf-8")).render(
        manifest=manifest,
        recipe=recipe,
        class_names=manifest.class_names,
        n_parameters=facts.n_parameters,
        n_images=facts.n_training_images,
        leaks=facts.leaks,
        leak_reason=facts.leak_reason,
        is_grey=data.unit is Unit.GREY,
        image_word="picture of a slice or radiograph" if data.unit is Unit.GREY else "CT slice",
        input_words="a picture" if data.unit is Unit.GREY else "an axial CT slice",
        patient_word=_patient_word(data.patient_source),
        preparation=_preparation(recipe),
        start=_start_words(recipe.network.weights),
        split_words=_split_words(recipe),
        chosen_words=_chosen_words(recipe, has_test=facts.has_test),
        failure_words=facts.failures.words,
        has_failures=bool(facts.failures.n_shown),
        failures_on=facts.failures.on,
    )
    path = folder / CARD_FILE
    # Branches of the template that say nothing leave empty lines behind.
    path.write_text(re.sub(r"\n{3,}", "\n\n", text), encoding="utf-8")
    return path


def _patient_word(source: PatientSource) -> str:
    words = {
        PatientSource.STATED: "patients",
        PatientSource.FILE_NAME: "patients (as file names tell)",
        PatientSource.BLOCK: "blocks of neighbouring images (patients are not known)",
        PatientSource.IMAGE: "images that stand for patients (patients are not known)",
    }
    return words[source]


def _preparation(recipe: Recipe) -> str:
    steps = recipe.preprocessing
    words = []
    if steps.hu_window is not None:
        words.append(f"window {steps.hu_window.lower_hu:g} to {steps.hu_window.upper_hu:g} HU")
    if steps.crop is Crop.LUNGS and steps.lungs is not None:
        words.append(
            f"the lungs are found ({steps.lungs.model}), their box is cut out and shrunk by "
            f"{steps.lungs.shrink_pixels:g} pixels on each side"
        )
    words.append(f"it is resampled to {steps.rows} by {steps.columns} pixels")
    return ", ".join(words)


def _split_words(recipe: Recipe) -> str:
    if recipe.data.split is SplitRule.LISTS:
        return "Training, validation and test images are those of the data's own lists."
    if recipe.data.split is SplitRule.FOLDS:
        n = recipe.data.n_folds
        return (
            f"Whole patients were drawn for each of {n} folds. Each of {n} networks left one fold "
            "out and\njudged it: the figures below. **The model is the mean of them and has learnt "
            "from every\nimage**, so that figures of its own on these images would mean nothing."
        )
    return "Whole patients were drawn for each side; no patient stands on two sides."


def _start_words(weights: str) -> str:
    """Say what a network started from; weights of torch may be of any training."""
    if weights == NO_WEIGHTS:
        return ""
    if Path(weights).suffix in {".pt", ".safetensors"}:
        return f", started from the weights in {Path(weights).name}"
    return ", started from ImageNet weights"


def _chosen_words(recipe: Recipe, *, has_test: bool) -> str:
    """Say what the validation images chose, and what that means for the figures."""
    chosen = [] if recipe.training.monitor is Monitor.LAST else ["the best epoch"]
    is_moved = recipe.training.is_decision_balanced
    if recipe.task is not RecipeTask.SEGMENTATION:
        chosen += ["the temperature", "the offset of the decision" if is_moved else "the threshold"]
    words = f"The validation images chose {_listed(chosen)}"
    if has_test:
        return f"{words}; the test images chose nothing."
    if recipe.training.monitor is not Monitor.LAST:
        words += ", so that\nthese figures are somewhat too good"
    elif is_moved:
        words += ";\neach patient's decision was measured with an offset fitted on the others"
    return f"There were no test images. {words}."


def _listed(items: list[str]) -> str:
    """Join items as a sentence does."""
    return " and ".join(filter(None, [", ".join(items[:-1]), *items[-1:]])) or "nothing"
