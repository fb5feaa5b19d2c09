"""Commands about models: what is installed, what can be trained, training, export.

Training needs torch, which production never imports: its modules are reached by name, inside the
command that needs them, and their absence is an error with its mend (ADR 22).
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from models.registry import SHIPPED_MODELS, ModelFolder, find_model, open_model_folder
from screener.cli.output import (
    EXIT_DONE,
    EXIT_FAILED,
    print_json,
    print_note,
    print_table,
    print_text,
    progress_bar,
)
from screener.errors import ConfigError, WrongUse
from screener.logs import set_up_logs
from screener.settings import Settings, load_settings

if TYPE_CHECKING:
    from types import ModuleType

    from rich.progress import Progress

    from models.manifest import Manifest

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]

models_app = typer.Typer(
    no_args_is_help=True, help="The models that screen, and how to train more."
)


def add_to(app: typer.Typer) -> None:
    """Add the commands of this file to the application."""
    app.add_typer(models_app, name="models")


@models_app.command("list")
def list_models(as_json: AsJson = False) -> None:
    """List the models with task, version and digest.

    Example: `screener models list --json`
    """
    from screener.daemon.tools import list_manifests

    manifests = list_manifests(settings_of_process())
    if as_json:
        print_json(manifests)
    else:
        print_table(
            ("name", "version", "task", "sha256"),
            ((m.name, m.version, m.task.value, m.sha256) for m in manifests),
        )


@models_app.command("show")
def show_model(
    model: Annotated[str, typer.Argument(help="A model by name, or the path of its folder.")],
    as_json: AsJson = False,
) -> None:
    """Show what one model is: use, data, figures, digest, and where its card lies.

    Example: `screener models show lung-segmentation`
    """
    folder = _model_folder(model)
    manifest = folder.manifest
    if as_json:
        print_json({"manifest": manifest, "folder": folder.path, "card": folder.card})
        return
    print_table(("", manifest.name), _about(manifest))
    print_table(
        ("figure", "value", "95 % interval", "measured on"),
        (
            (m.name, f"{m.value:.3f}", f"{m.lower:.3f} to {m.upper:.3f}", m.measured_on)
            for m in manifest.metrics
        ),
    )
    card = folder.card
    print_text(f"Its card: {card}" if card else f"{folder.path} has no card.")


@models_app.command("verify")
def verify_models(
    model: Annotated[
        str, typer.Argument(help="A model by name, or the path of its folder; else all.")
    ] = "",
    as_json: AsJson = False,
) -> int:
    """Prove that every model file is the one that its manifest and the settings pin.

    Example: `screener models verify`, or `screener models verify training/covid-ct-mobile/model`
    """
    from screener.daemon.tools import verify_model_files
    from screener.daemon.tools import verify_models as verify_installed

    settings = settings_of_process()
    with progress_bar(is_quiet=as_json) as bar:
        if model:
            verdicts = verify_model_files(settings, [_model_folder(model)], bar.track)
        else:
            verdicts = verify_installed(settings, bar.track)
    if as_json:
        print_json(verdicts)
    else:
        print_table(
            ("model", "result", "detail"),
            ((v.name, "ok" if v.is_ok else "FAILED", v.detail) for v in verdicts),
        )
    return EXIT_DONE if all(verdict.is_ok for verdict in verdicts) else EXIT_FAILED


@models_app.command("recipes")
def list_recipes(as_json: AsJson = False) -> None:
    """List the recipes of the published systems, or show what can be trained.

    Example: `screener models recipes --json`
    """
    recipes = _training("recipe_files").list_recipes()
    if as_json:
        print_json([_recipe_row(one) for one in recipes])
    else:
        columns = ("name", "layout", "network", "parameters", "summary")
        rows = ([_recipe_row(one)[column] for column in columns] for one in recipes)
        print_table(columns, rows)


@models_app.command("train")
def train(  # noqa: PLR0917  Typer calls it by name
    recipe: Annotated[str, typer.Argument(help="Name of a recipe, or the path of a .toml file.")],
    data: Annotated[Path, typer.Option(help="Folder of the data, in the layout of the recipe.")],
    out: Annotated[
        Path | None, typer.Option(help="Folder of the results; else training/RECIPE.")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on from the checkpoint in the folder.")
    ] = False,
    changes: Annotated[
        list[str] | None,
        typer.Option("--set", help="Change a key of the recipe: key.key=value; may be repeated."),
    ] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda, or auto for what is there.")] = "auto",
    threads: Annotated[int, typer.Option(min=1, help="Threads of the CPU.")] = 2,
    as_json: AsJson = False,
) -> None:
    """Train a recipe: progress, checkpoints, figures, pictures, and an exported model with card.

    Example: `screener models train covid-ct-mobile --data ./COVID-CT --set training.epochs=5`
    """
    run = _training("run")
    chosen = _training("recipe_files").read_recipe(recipe, changes or ())
    folder = out if out is not None else Path("training") / chosen.name
    if not resume and run.holds_training(folder):
        raise WrongUse(f"{folder} holds a training; give --resume, or another --out")
    with progress_bar(is_quiet=as_json) as bar:
        outcome = run.train_recipe(
            chosen,
            data,
            run.Surroundings(
                out=folder,
                device=device,
                threads=threads,
                is_resumed=resume,
                track=bar.track,
                say=print_note,
                on_step=_StepBar(bar),
            ),
        )
    if as_json:
        print_json(outcome)
        return
    print_table(
        ("figure", "value", "95 % interval", "measured on"),
        (
            (m.name, f"{m.value:.3f}", f"{m.lower:.3f} to {m.upper:.3f}", m.measured_on)
            for m in outcome.metrics
        ),
    )
    print_text(f"The model is in {outcome.model}; its digest is {outcome.sha256}.")


@models_app.command("export")
def export(  # noqa: PLR0917  Typer calls it by name
    model: Annotated[str, typer.Argument(help="A model by name, or the path of its folder.")],
    variant: Annotated[str, typer.Option(help="fp32, fp16 or int8.")] = "int8",
    graph_format: Annotated[
        str, typer.Option("--format", help="onnx, or ort for the mobile builds of ONNX Runtime.")
    ] = "onnx",
    layout: Annotated[
        str, typer.Option(help="Layout of the data that calibrate and measure; see evaluate.")
    ] = "",
    data: Annotated[
        Path | None, typer.Option(help="Root of these data; without, synthetic chests serve.")
    ] = None,
    limit: Annotated[int, typer.Option(min=4, help="Images at most.")] = 100,
    as_json: AsJson = False,
) -> None:
    """Make a smaller or mobile form of a model, measure it against the model, and pin it.

    Half of the images calibrate, the other half measure. The file lies beside `model.onnx`, its
    digest and its parity stand in the manifest, and `screener models verify` covers it.

    Example: `screener models export ./training/covid-ct-mobile/model --variant int8 --format ort`
    """
    variants, evaluated = _training("variants"), _training("variant_images")
    folder = _model_folder(model)
    precision = _one_of(variants.Precision, variant, "--variant")
    chosen_format = _one_of(variants.GraphFormat, graph_format, "--format")
    with progress_bar(is_quiet=as_json) as bar:
        images = evaluated.calibration_images(folder.manifest, layout, data, limit, bar.track)
        done = variants.export_variant(
            folder, precision, chosen_format, images.feeds, images.measured_on
        )
    if as_json:
        print_json(done)
        return
    print_table(
        ("file", "bytes", "of model.onnx", "speed", "largest difference", "decided alike", "on"),
        [
            (
                done.path,
                done.size_bytes,
                f"{done.size_bytes / done.size_of_model_bytes:.2f}",
                f"{done.speed:.2f} times",
                f"{done.variant.parity:.2g}",
                f"{done.variant.agreement:.4f}",
                f"{done.variant.n_images} images: {done.variant.measured_on}",
            )
        ],
    )


def _about(manifest: Manifest) -> list[tuple[str, str]]:
    """Give what a manifest says in words, one thing per row."""
    point = manifest.operating_point
    return [
        ("version", manifest.version),
        ("task", manifest.task.value),
        ("summary", manifest.summary),
        ("intended use", manifest.intended_use),
        ("licence", manifest.licence),
        ("classes", ", ".join(manifest.class_names)),
        ("threshold", f"{point.threshold:g}; {point.chosen_by}"),
        *(
            ("learnt from", f"{one.name}; {one.licence}; {one.citation}")
            for one in manifest.training_data
        ),
        ("sha256", manifest.sha256),
    ]


def _model_folder(model: str) -> ModelFolder:
    """Find a model by path or name."""
    path = Path(model)
    if path.is_dir():
        return open_model_folder(path)
    return find_model(model, settings_of_process().models.root or SHIPPED_MODELS)


def _one_of(known: Any, value: str, option: str) -> Any:
    """Give the member of an enumeration that an option names."""
    values = {one.value: one for one in known}
    if value not in values:
        raise WrongUse(f"{option} {value!r}: must be one of {', '.join(values)}")
    return values[value]


class _StepBar:
    """Shows the steps of the epoch that runs."""

    def __init__(self, bar: Progress) -> None:
        self._bar = bar
        self._task = bar.add_task("epoch", total=None)

    def __call__(self, epoch: int, step: int, n_steps: int) -> None:
        self._bar.update(
            self._task, description=f"epoch {epoch + 1}", completed=step, total=n_steps
        )


def settings_of_process() -> Settings:
    """Read the settings and set the logs up by them."""
    settings = load_settings()
    set_up_logs(settings.log)
    return settings


def _recipe_row(recipe: Any) -> dict[str, object]:
    return {
        "name": recipe.name,
        "layout": recipe.data.layout,
        "network": recipe.network.name,
        "parameters": recipe.network.n_parameters,
        "published": [
            {"metric": one.metric.value, "value": one.value, "measured_on": one.measured_on}
            for one in recipe.published
        ],
        "summary": recipe.summary,
    }


def _training(module: str) -> ModuleType:
    """Give a module of ``models.training``; say what to install where torch is absent."""
    try:
        return importlib.import_module(f"models.training.{module}")
    except ModuleNotFoundError as error:
        if (error.name or "").startswith(("models", "screener")):
            raise
        raise ConfigError(
            f"{error.name} is not installed: training needs the train extra; "
            "pip install 'ct-screener[train]'"
        ) from error
